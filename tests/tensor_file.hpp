// Files of tensors of which every plane is given: what the format allows, whether or not our writer writes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/dtype.hpp"
#include "codebook_file.hpp"
#include "libcdna/codec/codec.hpp"
#include "libcdna/write/packet_writer.hpp"
#include "libcdna/write/plane_plan.hpp"

namespace cdna::test {

// The planes of a cdna.codebook tensor (spec/format.md, 13.2). Values are rounded to the dtype of their plane.
struct CodebookPlanes {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  DType dtype = DType::f32;  // Of the source.
  std::uint32_t bits = 8;
  std::vector<std::uint16_t> codes;  // [rows, cols]
  DType codebook_dtype = DType::f16;
  std::vector<double> codebook;   // [2^bits], ascending.
  std::vector<float> row_scales;  // [rows]; empty: no plane.
  std::uint32_t group = 0;        // 0: no plane.
  DType group_dtype = DType::u8;
  std::vector<double> group_scales;          // [rows, ceil(cols / group)]; of U8 numbers of scale_table.
  std::vector<float> scale_table;            // [256], with U8.
  DType outlier_dtype = DType::none;         // none: no plane.
  std::map<std::uint64_t, double> outliers;  // By element, row-major.
  bool nonfinite = false;                    // States the feature.
};

// What random planes are made of.
struct CodebookShape {
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  std::uint32_t bits = 8;
  DType codebook_dtype = DType::f16;
  bool row_scales = true;
  std::uint32_t group = 0;
  DType group_dtype = DType::u8;
  DType outlier_dtype = DType::none;
  std::uint64_t elements_per_outlier = 50;  // On average.
  std::uint32_t codes_used = 65536;         // Few of them compress.
};

// Scales of both signs between 1/2 and 2, entries of about the normal distribution, outliers up to 8 times as large.
CodebookPlanes random_planes(const CodebookShape& shape, std::uint64_t seed);

// How a tensor is cut into blocks. What it is does not depend on it.
struct BlockLayout {
  std::uint32_t rows_per_block = 16;  // Of the first plane; 0: rows are cut every 2^20 entries.
  std::uint32_t side_factor = 1;      // Rows per block of row and group scales over those of the first plane.
  BlockCoding coding = Codec::raw;    // Of the first plane and the outliers; small blocks stay raw beside others.
};

class TensorFile {
 public:
  TensorFile();
  void add(const std::string& name, const CodebookPlanes& planes, const BlockLayout& layout = {});
  // Elements row after row, each row padded to whole bytes.
  void add_exact(const std::string& name, DType dtype, std::uint64_t rows, std::uint64_t cols, const Bytes& elements,
                 const BlockLayout& layout = {});
  // The whole file. Call last.
  Bytes finish();

 private:
  ItemDraft draft_of(const std::string& name, const char* encoding, DType dtype, std::uint64_t rows,
                     std::uint64_t cols) const;

  Bytes bytes_;
  PositionedSink sink_;
  PacketWalk walk_;
  FooterBuilder footer_;
};

// A file of one tensor, "w".
Bytes file_of(const CodebookPlanes& planes, const BlockLayout& layout = {});
Bytes file_of_exact(DType dtype, std::uint64_t rows, std::uint64_t cols, const Bytes& elements,
                    const BlockLayout& layout = {});

}  // namespace cdna::test
