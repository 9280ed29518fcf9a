// manifest_v3.json: what a folder says is in it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/helix/skipped_names.hpp"

namespace cdna {

struct V3Manifest {
  std::string file;                                       // Its name; "": the folder has none that lists tensors.
  std::map<std::string, std::string> places;              // From tensor to folder or file, plain names.
  std::map<std::string, std::vector<std::string>> names;  // The other way.

  // The one name that an entry has here; "": none or several.
  std::string name_of(const std::string& place) const;
};

// Reads manifest_v3.json, if there is one. Tensors that are to be skipped are left out. Errors: io, limit, malformed
// (names what: a path, an entry that is not there, an entry that two tensors share).
Result<V3Manifest> read_v3_manifest(const Folder& folder, SkippedNames& skipped);

}  // namespace cdna
