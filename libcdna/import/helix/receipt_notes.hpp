// Receipts among the assets of a model: their hashes are looked at when the model is opened.
#pragma once

#include <vector>

#include "cdna/error.hpp"
#include "libcdna/import/asset_files.hpp"

namespace cdna {

// Adds a note for each JSON asset that is a receipt and does not verify. Layer chains are verified without their
// tensors: that reads all of them, which is for who asks. Errors: io.
Result<void> note_receipts(const std::vector<AssetFile>& assets, std::vector<Note>& notes);

}  // namespace cdna
