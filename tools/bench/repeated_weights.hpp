// Matrices of any size from a few distinct rows, and files that hold them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/writer.hpp"

namespace cdna::tools::bench {

// Gaussian weights; rows repeat after 1024, which costs little to make. A block of 1 MiB holds none twice if rows have
// 1024 columns or more.
class RepeatedWeights {
 public:
  RepeatedWeights(DType dtype, std::uint64_t cols, unsigned threads);  // F32 or BF16.
  ByteReader reader() const;                                           // Copies; valid beyond this object.

 private:
  std::shared_ptr<const std::vector<std::byte>> bytes_;
};

struct MatrixFile {
  std::string preset;  // "cb8", "cb8,class=affine", "exact", "exact-z".
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  DType dtype = DType::f32;   // F32 or BF16.
  Codec codec = Codec::raw;   // Of exact and codebook tensors.
  bool small_blocks = false;  // Of 256 KiB instead of 1 MiB.
};

inline constexpr const char* kMatrixName = "w";

// Writes it as tensor kMatrixName, synced, with all cores. Throws Failure: io, exists, cancelled, bad_argument.
void write_matrix(const MatrixFile& matrix, const std::string& path, const std::atomic<bool>& stop);

}  // namespace cdna::tools::bench
