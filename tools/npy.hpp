// Arrays of floats in NumPy's format (.npy), versions 1.0, 2.0 and 3.0.
//
//   \x93NUMPY | major u8, minor u8 | length u16 (1.0) or u32 | header: a Python dict as text, '\n' | elements
//   {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//
// Accepted: descr '<f4' (F32), '<f2' (F16), and '<V2' or '|V2' (BF16: what np.save writes of ml_dtypes.bfloat16, and of
// what np.load makes of that); np.load(path).view(ml_dtypes.bfloat16) reads ours. All else is an error: float64 too,
// which nobody asked us to round. The array must fill the file. Source: numpy/lib/format.py.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/source.hpp"

namespace cdna::tools {

struct NpyHeader {
  DType dtype = DType::none;         // F32, F16 or BF16.
  std::vector<std::uint64_t> shape;  // At most 64 dimensions, each below 2^63.
  bool fortran_order = false;        // The first dimension is the one without gaps.
  std::uint64_t data_offset = 0;     // Of the elements within the file.
  std::uint64_t data_bytes = 0;
};

// An array whose header was checked.
struct NpyFile {
  std::unique_ptr<Source> source;
  NpyHeader header;
};

// Checks everything but the elements: a header of at most 64 KiB, and that the elements are the rest of the file.
// Errors: io, malformed, truncated, unsupported (dtype, byte order, version), limit, with the byte in the file.
Result<NpyHeader> read_npy_header(const Source& source);

// Errors: those of open_source() and read_npy_header().
Result<NpyFile> open_npy(const std::string& path);
// The header.data_bytes of the elements, in private memory. Errors: io; cancelled, when `stop` is set.
Result<std::unique_ptr<std::byte[]>> load_elements(const NpyFile& file, const std::atomic<bool>& stop);

// What stands before the elements of an array in C order: version 1.0, a multiple of 64 bytes.
// Requires: F32, F16 or BF16, at most 64 dimensions.
std::string npy_header(DType dtype, std::span<const std::uint64_t> shape);

}  // namespace cdna::tools
