// Version 1: a header of 1048 bytes and one zlib stream of indices.
#include <array>
#include <cstring>
#include <utility>

#include "libcdna/import/helix/hxz_matrix.hpp"
#include "libcdna/import/inflate.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// magic | version, rows, cols u32 | codebook 256 f4 | size of the indices, of the stream u32 | stream
constexpr std::uint64_t kRowsAt = 8;
constexpr std::uint64_t kCodebookAt = 16;
constexpr std::uint64_t kSizesAt = kCodebookAt + kHxzCodebookBytes;
constexpr std::uint64_t kStreamAt = kSizesAt + 8;

std::uint32_t u32_at(std::span<const std::byte> bytes, std::uint64_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

class Hxzc final : public HxzMatrix {
 public:
  Hxzc(std::unique_ptr<Source> source, HxzHeader header, std::vector<float> codebook)
      : source_(std::move(source)), codebook_(std::move(codebook)) {
    header_ = std::move(header);
  }

  std::string_view integrity() const override { return "none"; }
  std::string_view integrity_reason() const override {
    return "CDNA v1 has no hash, and a checksum (Adler-32) of the indices only";
  }

  Result<CodedMatrix> read() const override {
    auto matrix = read_indices();
    if (matrix) return matrix;
    if (matrix.error().file.empty()) matrix.error().file = std::string(source_->name());
    if (matrix.error().offset == kNoOffset) matrix.error().offset = kStreamAt;
    return matrix;
  }

 private:
  Result<CodedMatrix> read_indices() const {
    const std::uint64_t size = header_.rows * header_.cols;
    Inflater inflater(*source_, kStreamAt, source_->size_bytes() - kStreamAt, Inflater::Format::zlib);
    const std::vector<std::byte> indices = CDNA_TRY(inflate(inflater, size, size));
    const auto* const begin = reinterpret_cast<const std::uint8_t*>(indices.data());
    auto matrix = sort_codebook(codebook_, 1, std::span(begin, indices.size()), header_.rows);
    if (!matrix) matrix.error().offset = kCodebookAt;  // Every index has an entry, so what is wrong is the codebook.
    return matrix;
  }

  std::unique_ptr<Source> source_;
  std::vector<float> codebook_;
};

// The magic is also that of a format with another header, which has a name where this has sizes.
Error no_hxzc(const std::string& what, std::uint64_t offset) {
  return fail(Code::malformed, "",
              what +
                  ": damaged, or the other format with the magic HXZC, that of helix_cdc's CDNAStreamReader, which is "
                  "not read",
              offset);
}

Result<HxzHeader> parse_header(std::span<const std::byte> head, std::uint64_t file_bytes) {
  if (u32_at(head, 4) != 1)
    return no_hxzc("version " + std::to_string(u32_at(head, 4)) + " of HXZC, where 1 is known", 4);
  HxzHeader header;
  header.rows = u32_at(head, kRowsAt);
  header.cols = u32_at(head, kRowsAt + 4);
  const std::uint64_t size = header.rows * header.cols;
  const std::uint64_t stored = u32_at(head, kSizesAt + 4);
  if (size == 0) return no_hxzc("a matrix without values", kRowsAt);
  if (u32_at(head, kSizesAt) != size) {
    return no_hxzc(std::to_string(u32_at(head, kSizesAt)) + " indices are stated for " + std::to_string(header.rows) +
                       " rows of " + std::to_string(header.cols),
                   kSizesAt);
  }
  const std::uint64_t there = file_bytes - kStreamAt;
  if (stored > there) {
    return fail(Code::truncated, "",
                "the indices take " + std::to_string(stored) + " bytes, of which the file has " + std::to_string(there),
                kSizesAt + 4);
  }
  if (stored < there) return no_hxzc(std::to_string(there - stored) + " bytes after the indices", kStreamAt + stored);
  if (size / kInflateRatioMax > stored) return no_hxzc("the stream is too short for its indices", kSizesAt);
  header.metadata["helix:format"] = std::string("CDNA v1 (HXZC)");
  header.metadata["helix:codec"] = std::string("zlib");
  return header;
}

}  // namespace

std::vector<float> hxz_codebook(std::span<const std::byte> bytes) {
  std::vector<float> entries(kHxzCodebookEntries);
  std::memcpy(entries.data(), bytes.data(), kHxzCodebookBytes);
  return entries;
}

Result<std::unique_ptr<HxzMatrix>> open_hxzc(std::unique_ptr<Source> source) {
  const std::uint64_t file_bytes = source->size_bytes();
  CDNA_CHECK(file_bytes >= kStreamAt, Code::truncated, "",
             "an HXZC file has at least 1048 bytes, this has " + std::to_string(file_bytes), file_bytes);
  std::array<std::byte, kStreamAt> head{};
  CDNA_TRY(source->read_at(0, head));
  CDNA_CHECK(std::memcmp(head.data(), "HXZC", 4) == 0, Code::malformed, "", "not an HXZC file", 0);
  auto header = parse_header(head, file_bytes);
  if (!header) return std::move(header).error();  // Not CDNA_TRY: g++ 12 at -O1 takes its variable for freed memory.
  std::vector<float> codebook = hxz_codebook(std::span(head).subspan(kCodebookAt, kHxzCodebookBytes));
  return std::unique_ptr<HxzMatrix>(std::make_unique<Hxzc>(std::move(source), *std::move(header), std::move(codebook)));
}

}  // namespace cdna
