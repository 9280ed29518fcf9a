// What a library does that is loaded while somebody else replaces the file: after the tool has opened it, before the
// upload does.
#include <cstdio>
#include <cstdlib>

namespace {

struct Replacement {
  Replacement() {
    const char* const from = std::getenv("CDNA_TEST_REPLACE_FROM");
    const char* const to = std::getenv("CDNA_TEST_REPLACE_TO");
    if (from == nullptr || to == nullptr || std::rename(from, to) != 0) std::abort();
  }
};

const Replacement g_replacement;

}  // namespace
