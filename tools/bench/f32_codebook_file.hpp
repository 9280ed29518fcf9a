// A file whose codebook is F32, which the writer never makes: made of one that it made.
#pragma once

#include <atomic>
#include <string>

#include "cdna/reader.hpp"

namespace cdna::tools::bench {

// Writes `reader`'s first item again, a codebook tensor, with its entries as F32 that binary16 cannot hold: each times
// 1 + 2^-13. Nothing else of the file is kept. Requires: mapped; item 0 is a codebook tensor with an F16 codebook, in
// raw blocks. Throws Failure: io, exists, cancelled.
void write_with_f32_codebook(const Reader& reader, const std::string& path, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
