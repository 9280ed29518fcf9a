// The programs that are one executable: it does what the name says under which it was started.
#pragma once

namespace cdna::tools {

// Each takes what main() takes and returns its exit code.
int cdna_main(int argc, char** argv);
int inspect_main(int argc, char** argv);
int fsck_main(int argc, char** argv);

}  // namespace cdna::tools
