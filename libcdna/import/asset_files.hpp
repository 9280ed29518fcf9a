// The files of a folder beside its weights: assets, or notes on why they are none.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/folder.hpp"

namespace cdna {

struct AssetFile {
  ModelAsset description;
  std::unique_ptr<Source> source;
};

struct Note {
  std::string name;
  std::string text;
};

// Sorts everything but the weights in use into assets and notes. Requires: `weights` sorted. Errors: io.
Result<void> collect_files(const Folder& folder, const std::vector<std::string>& weights,
                           std::vector<AssetFile>& assets, std::vector<Note>& notes);

// In name order, printable.
std::vector<std::string> lines_of(std::vector<Note> notes);

}  // namespace cdna
