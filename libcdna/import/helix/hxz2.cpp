// Version 2: a JSON header, the codebook, an index of blocks of rows, and the blocks.
#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cdna/digest.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/import/helix/hxz2_block.hpp"
#include "libcdna/import/helix/hxz_matrix.hpp"
#include "libcdna/import/helix/json_object.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// magic | version, header length H u16 | H bytes of JSON | codebook 256 f4 | blocks B u32 | index | blocks
constexpr std::uint64_t kHeaderAt = 8;
constexpr std::uint64_t kEntryBytes = 48;  // Offset u64, stored and decoded length u32, SHA-256 of the decoded.
constexpr std::string_view kSchema = "cdna2_hxz_v1";
constexpr std::uint64_t kBlockRowsDefault = 32;  // Of the original's reader, where the header has none.
// Most indices that a file may have for each of its bytes, where they are more than a matrix of one value can
// be expected to have (which brotli makes 36,000 times smaller).
constexpr std::uint64_t kRatioMax = 1024;
constexpr std::uint64_t kFreeIndices = std::uint64_t{1} << 30;

template <class T>
T value_at(std::span<const std::byte> bytes, std::uint64_t at) {
  T value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Hxz2Header {
  HxzHeader matrix;
  std::uint64_t block_rows = 0;
  Hxz2Codec codec = Hxz2Codec::brotli;
};

struct BlockEntry {
  std::uint64_t offset = 0;
  std::uint64_t stored_bytes = 0;
  std::uint64_t decoded_bytes = 0;
  Digest digest{};
};

class Hxz2 final : public HxzMatrix {
 public:
  Hxz2(std::unique_ptr<Source> source, Hxz2Header header, std::vector<float> codebook, std::vector<BlockEntry> blocks)
      : source_(std::move(source)), codec_(header.codec), codebook_(std::move(codebook)), blocks_(std::move(blocks)) {
    header_ = std::move(header.matrix);
  }

  std::string_view integrity() const override { return "payload only"; }
  std::string_view integrity_reason() const override {
    return "CDNA v2 has SHA-256 of the indices, and no hash of codebook, header and block index";
  }

  Result<CodedMatrix> read() const override {
    auto matrix = read_blocks();
    if (matrix) return matrix;
    if (matrix.error().file.empty()) matrix.error().file = std::string(source_->name());
    matrix.error().item = header_.tensor_name;
    return matrix;
  }

 private:
  // Memory grows with what the blocks really are.
  Result<CodedMatrix> read_blocks() const {
    std::vector<std::byte> indices;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      auto added = add_block(blocks_[i], indices);
      if (added) continue;
      added.error().block = static_cast<std::int64_t>(i);
      added.error().offset = blocks_[i].offset;
      return added.error();
    }
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(indices.data());
    return sort_codebook(codebook_, 1, std::span(begin, indices.size()), header_.rows);
  }

  // The digest is of the decompressed bytes: they are what is not looked at before it was compared.
  Result<void> add_block(const BlockEntry& block, std::vector<std::byte>& indices) const {
    std::vector<std::byte> stored(block.stored_bytes);
    CDNA_TRY(source_->read_at(block.offset, stored));
    const std::size_t begin = indices.size();
    CDNA_TRY(decode_hxz2_block(codec_, stored, block.decoded_bytes, indices));
    CDNA_CHECK(sha256(std::span(indices).subspan(begin)) == block.digest, Code::corrupt, "",
               "the block's indices differ from what its SHA-256 says");
    return {};
  }

  std::unique_ptr<Source> source_;
  Hxz2Codec codec_;
  std::vector<float> codebook_;
  std::vector<BlockEntry> blocks_;
};

Result<std::vector<std::byte>> read_range(const Source& source, std::uint64_t begin, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  CDNA_TRY(source.read_at(begin, bytes));
  return bytes;
}

Result<void> check_constants(const JsonObject& object) {
  const std::string schema = CDNA_TRY(text_field(object, "schema")).value_or(std::string(kSchema));
  CDNA_CHECK(schema == kSchema, Code::unsupported, "", "schema " + quote(schema) + "; \"cdna2_hxz_v1\" is read");
  const std::string dtype = CDNA_TRY(text_field(object, "dtype")).value_or("uint8");
  CDNA_CHECK(dtype == "uint8", Code::unsupported, "", "indices of dtype " + quote(dtype) + "; \"uint8\" is read");
  const std::uint64_t entries = CDNA_TRY(size_field(object, "codebook_size")).value_or(kHxzCodebookEntries);
  CDNA_CHECK(entries == kHxzCodebookEntries, Code::unsupported, "",
             "a codebook of " + std::to_string(entries) + " entries; 256 are read");
  return {};
}

Result<Hxz2Header> parse_fields(const JsonObject& object) {
  CDNA_TRY(check_constants(object));
  Hxz2Header header;
  header.matrix.tensor_name = CDNA_TRY(text_field(object, "tensor_name")).value_or("");
  CDNA_CHECK(!header.matrix.tensor_name.empty(), Code::malformed, "", "the header has no \"tensor_name\"");
  const auto shape = CDNA_TRY(shape_field(object, "shape"));
  CDNA_CHECK(shape && shape->size() == 2 && (*shape)[0] > 0 && (*shape)[1] > 0, Code::malformed, "",
             "\"shape\" is not that of a matrix");
  header.matrix.rows = (*shape)[0];
  header.matrix.cols = (*shape)[1];
  header.block_rows = CDNA_TRY(size_field(object, "block_rows")).value_or(kBlockRowsDefault);
  CDNA_CHECK(header.block_rows > 0, Code::malformed, "", "\"block_rows\" is 0");
  const std::string codec = CDNA_TRY(text_field(object, "encoding")).value_or("brotli");
  const auto known = parse_hxz2_codec(codec);
  CDNA_CHECK(known, Code::unsupported, "", "encoding " + quote(codec) + "; brotli, zstd and lz4 are read");
  header.codec = *known;
  header.matrix.metadata["helix:format"] = std::string("CDNA v2 (HXZ2)");
  header.matrix.metadata["helix:codec"] = codec;
  add_metadata(object, "helix",
               {"schema", "tensor_name", "shape", "dtype", "codebook_size", "block_rows", "num_blocks", "encoding"},
               header.matrix.metadata);
  return header;
}

// Of the index: its number of entries follows from the shape. Everything is compared with the file's size before it is
// read.
Result<std::uint64_t> block_count(const JsonObject& object, const Hxz2Header& header, std::uint64_t stated,
                                  std::uint64_t file_bytes) {
  const HxzHeader& matrix = header.matrix;
  const std::uint64_t indices_max = std::max(kFreeIndices, file_bytes * kRatioMax);
  CDNA_CHECK(matrix.rows <= indices_max / matrix.cols, Code::limit, "",
             std::to_string(matrix.rows) + " rows of " + std::to_string(matrix.cols) + " in a file of " +
                 std::to_string(file_bytes) + " bytes: over 2^30 and 1024 times its size");
  const std::uint64_t blocks = matrix.rows / header.block_rows + (matrix.rows % header.block_rows != 0 ? 1 : 0);
  CDNA_CHECK(stated == blocks, Code::malformed, "",
             std::to_string(stated) + " blocks, where " + std::to_string(matrix.rows) + " rows in blocks of " +
                 std::to_string(header.block_rows) + " give " + std::to_string(blocks));
  const std::uint64_t in_header = CDNA_TRY(size_field(object, "num_blocks")).value_or(blocks);
  CDNA_CHECK(in_header == blocks, Code::malformed, "",
             "\"num_blocks\" is " + std::to_string(in_header) + ", the index has " + std::to_string(blocks));
  return blocks;
}

// Blocks lie one after the other from `begin` to the end of the file.
Result<std::vector<BlockEntry>> parse_index(std::span<const std::byte> index, std::uint64_t index_at,
                                            const Hxz2Header& header, std::uint64_t file_bytes) {
  std::vector<BlockEntry> blocks;
  std::uint64_t end = index_at + index.size();
  std::uint64_t rows_left = header.matrix.rows;
  for (std::uint64_t at = 0; at < index.size(); at += kEntryBytes) {
    BlockEntry block{value_at<std::uint64_t>(index, at),
                     value_at<std::uint32_t>(index, at + 8),
                     value_at<std::uint32_t>(index, at + 12),
                     {}};
    std::memcpy(block.digest.data(), index.data() + at + 16, block.digest.size());
    const std::uint64_t rows = std::min(header.block_rows, rows_left);
    rows_left -= rows;
    CDNA_CHECK(block.offset == end, Code::malformed, "",
               "block " + std::to_string(blocks.size()) + " is at byte " + std::to_string(block.offset) + ", where " +
                   std::to_string(end) + " is next",
               index_at + at);
    CDNA_CHECK(block.stored_bytes <= file_bytes - end, Code::truncated, "",
               "block " + std::to_string(blocks.size()) + " goes beyond the end of the file", index_at + at + 8);
    CDNA_CHECK(block.decoded_bytes == rows * header.matrix.cols, Code::malformed, "",
               "block " + std::to_string(blocks.size()) + " has " + std::to_string(block.decoded_bytes) +
                   " indices, where its rows have " + std::to_string(rows * header.matrix.cols),
               index_at + at + 12);
    end += block.stored_bytes;
    blocks.push_back(block);
  }
  CDNA_CHECK(end == file_bytes, Code::malformed, "", std::to_string(file_bytes - end) + " bytes after the last block",
             end);
  return blocks;
}

Error at(Error error, std::uint64_t offset) {
  error.offset = error.offset == kNoOffset ? offset : offset + error.offset;
  return error;
}

Result<std::unique_ptr<HxzMatrix>> open(std::unique_ptr<Source> source, std::string& tensor) {
  const std::uint64_t file_bytes = source->size_bytes();
  CDNA_CHECK(file_bytes >= kHeaderAt, Code::truncated, "", "the file ends before its header", file_bytes);
  const std::vector<std::byte> head = CDNA_TRY(read_range(*source, 0, kHeaderAt));
  CDNA_CHECK(std::memcmp(head.data(), "HXZ2", 4) == 0, Code::malformed, "", "not an HXZ2 file", 0);
  const auto version = value_at<std::uint16_t>(head, 4);
  CDNA_CHECK(version == 1, Code::unsupported, "", "version " + std::to_string(version) + " of HXZ2, where 1 is known",
             4);
  const std::uint64_t codebook_at = kHeaderAt + value_at<std::uint16_t>(head, 6);
  const std::uint64_t index_at = codebook_at + kHxzCodebookBytes + 4;
  CDNA_CHECK(index_at <= file_bytes, Code::truncated, "", "the file ends before its block index", file_bytes);
  const std::vector<std::byte> start = CDNA_TRY(read_range(*source, 0, index_at));
  const std::string_view json(reinterpret_cast<const char*>(start.data()) + kHeaderAt, codebook_at - kHeaderAt);
  auto object = parse_json_object(json);
  if (!object) return at(std::move(object).error(), kHeaderAt);
  auto header = parse_fields(*object);
  if (!header) return at(std::move(header).error(), kHeaderAt);
  tensor = header->matrix.tensor_name;
  auto count = block_count(*object, *header, value_at<std::uint32_t>(start, index_at - 4), file_bytes);
  if (!count) return at(std::move(count).error(), index_at - 4);
  CDNA_CHECK(*count <= (file_bytes - index_at) / kEntryBytes, Code::truncated, "",
             "the file ends within its block index", file_bytes);
  const std::vector<std::byte> index = CDNA_TRY(read_range(*source, index_at, *count * kEntryBytes));
  std::vector<BlockEntry> blocks = CDNA_TRY(parse_index(index, index_at, *header, file_bytes));
  std::vector<float> codebook = hxz_codebook(std::span(start).subspan(codebook_at, kHxzCodebookBytes));
  return std::unique_ptr<HxzMatrix>(
      std::make_unique<Hxz2>(std::move(source), *std::move(header), std::move(codebook), std::move(blocks)));
}

}  // namespace

Result<std::unique_ptr<HxzMatrix>> open_hxz2(std::unique_ptr<Source> source) {
  std::string tensor;
  auto result = open(std::move(source), tensor);
  if (!result && result.error().item.empty()) result.error().item = tensor;
  return result;
}

Result<std::unique_ptr<HxzMatrix>> open_hxz(std::unique_ptr<Source> source) {
  std::array<std::byte, 4> magic{};
  const std::string file(source->name());
  if (source->size_bytes() >= magic.size()) CDNA_TRY(source->read_at(0, magic));
  Result<std::unique_ptr<HxzMatrix>> matrix(nullptr);
  if (std::memcmp(magic.data(), "HXZC", magic.size()) == 0) {
    matrix = open_hxzc(std::move(source));
  } else if (std::memcmp(magic.data(), "HXZ2", magic.size()) == 0) {
    matrix = open_hxz2(std::move(source));
  }
  if (!matrix && matrix.error().file.empty()) matrix.error().file = file;
  return matrix;
}

}  // namespace cdna
