// Names of files that come from strangers.
#pragma once

#include <string_view>

namespace cdna {

// Whether it is the name of an entry of a folder, and no path.
bool is_file_name(std::string_view name);

// Whether a path is made of such names only: it stays within its folder.
bool is_inner_path(std::string_view path);

}  // namespace cdna
