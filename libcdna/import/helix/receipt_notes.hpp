// Receipts among the assets of a model: their hashes are looked at when the model is opened.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"

namespace cdna {

// Fills `out` with a whole asset.
using ReadAsset = std::function<Result<void>(std::size_t asset, std::span<std::byte> out)>;

// Adds a note for each JSON asset that is a receipt and does not verify. Layer chains are verified without their
// tensors: that reads all of them, which is for who asks. Errors: io.
Result<void> note_receipts(std::span<const ModelAsset> assets, const ReadAsset& read, std::vector<std::string>& notes);

}  // namespace cdna
