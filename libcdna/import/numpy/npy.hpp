// NumPy's .npy: the header checked once and completely, the values as row-major little-endian bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/source.hpp"

namespace cdna {

inline constexpr std::uint64_t kNpyHeaderBytesMax = 65536;  // NumPy writes 128; a record array's may be longer.
inline constexpr std::size_t kNpyDimensionsMax = 64;        // NPY_MAXDIMS of NumPy 2.

struct NpyHeader {
  DType dtype = DType::none;         // BOOL, U8..I64, F16, F32, F64, C64: what NumPy and CDNA both have.
  std::vector<std::uint64_t> shape;  // {}: one element.
  bool is_big_endian = false;        // Of elements of several bytes.
  bool is_column_major = false;      // "fortran_order", where it makes a difference.
  std::uint64_t data_begin = 0;      // Byte of the file.
  std::uint64_t size_bytes = 0;      // Of the values.
};

// Parses the header at the beginning of `head`, the first bytes of a file of `file_bytes`: versions 1.0 to 3.0, the
// dictionary with exactly the keys descr, fortran_order and shape. The values must be the whole rest of the file.
// Requires: head.size() == min(file_bytes, kNpyHeaderBytesMax). Errors: malformed, truncated, limit, unsupported (the
// dtype, by name: objects, which are pickles, records, strings, dates, long doubles); offset is in the file.
Result<NpyHeader> parse_npy_header(std::span<const std::byte> head, std::uint64_t file_bytes);

// The same of a source. Errors: as above, io; with the source's name as file.
Result<NpyHeader> read_npy_header(const Source& source);

// Fills `out` from byte `offset` of the values as they are once is_big_endian and is_column_major are undone. Requires:
// the range lies within size_bytes. Cost: what is column-major is read whole. Errors: io, no_memory.
Result<void> read_npy(const Source& source, const NpyHeader& header, std::uint64_t offset, std::span<std::byte> out);

// A whole file. Requires nothing of it. Errors: as read_npy_header() and read_npy().
struct NpyArray {
  DType dtype = DType::none;
  std::vector<std::uint64_t> shape;
  std::vector<std::byte> values;  // Row-major, little-endian.
};
Result<NpyArray> read_npy_array(const Source& source);

}  // namespace cdna
