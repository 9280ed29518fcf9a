// Fuzz target: any bytes as the outlier blocks of a small codebook tensor, against a model of rules E5, E6 and D1.
//
// Input: bits - 1, dtype of outliers, rows - 1, cols - 1, rows per block, unused; then for each block a length and
// bytes.
#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "fuzz/open_file.hpp"
#include "fuzz/repair.hpp"
#include "libcdna/format/footer_builder.hpp"
#include "libcdna/format/tail.hpp"

namespace {

using namespace cdna;
using fuzz::require;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kPrefixBytes = 6;
constexpr unsigned kBitsMax = 8;
constexpr unsigned kSideMax = 16;  // Rows and columns.
constexpr std::string_view kName = "t";
constexpr std::string_view kType = "cdna.codebook";

struct Case {
  unsigned bits = 1;
  DType dtype = DType::f32;
  std::uint64_t rows = 1;
  std::uint64_t cols = 1;
  std::uint32_t step = 1;  // Rows per block.
  std::vector<Bytes> outliers;

  std::uint64_t value_bytes() const { return bits_of(dtype) / 8; }
  std::uint64_t rows_per_block() const { return step == 0 ? 1 : step; }
  std::uint64_t block_count() const { return (rows + rows_per_block() - 1) / rows_per_block(); }
  std::uint64_t first_row(std::uint64_t block) const { return block * rows_per_block(); }
  std::uint64_t codes_in(std::uint64_t block) const {
    return std::min(rows_per_block(), rows - first_row(block)) * cols;
  }
  unsigned code_at(std::uint64_t element) const { return static_cast<unsigned>(element * 7) & ((1U << bits) - 1); }
  float value_of(unsigned code) const { return static_cast<float>(code) - static_cast<float>(1U << (bits - 1)); }
};

Case case_of(std::span<const std::byte> input) {
  constexpr std::array<DType, 4> kDTypes{DType::f16, DType::bf16, DType::f32, DType::f64};
  const auto number = [&](std::size_t i) { return std::to_integer<unsigned>(input[i]); };
  Case made;
  made.bits = 1 + number(0) % kBitsMax;
  made.dtype = kDTypes[number(1) % kDTypes.size()];
  made.rows = 1 + number(2) % kSideMax;
  made.cols = 1 + number(3) % kSideMax;
  made.step = number(4) % (kSideMax + 1);
  input = input.subspan(kPrefixBytes);
  made.outliers.resize(made.block_count());
  for (Bytes& block : made.outliers) {
    if (input.empty()) break;
    const std::size_t size = std::min(std::to_integer<std::size_t>(input[0]), input.size() - 1);
    block.assign(input.begin() + 1, input.begin() + 1 + static_cast<std::ptrdiff_t>(size));
    input = input.subspan(1 + size);
  }
  return made;
}

// ---- The file around the blocks, written by section 7 of the format; repair() adds the digests ----

Bytes codes_of(const Case& made) {
  const std::uint64_t row_bytes = (made.cols * made.bits + 7) / 8;
  Bytes out(made.rows * row_bytes);
  for (std::uint64_t i = 0; i < made.rows * made.cols; ++i) {
    for (unsigned bit = 0; bit < made.bits; ++bit) {
      const std::uint64_t at = i % made.cols * made.bits + bit;
      const unsigned value = made.code_at(i) >> bit & 1U;
      out[i / made.cols * row_bytes + at / 8] |= static_cast<std::byte>(value << at % 8);
    }
  }
  return out;
}

Bytes codebook_of(const Case& made) {
  Bytes out;
  for (unsigned code = 0; code < 1U << made.bits; ++code) {
    const float value = made.value_of(code);
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

class FileMaker {
 public:
  explicit FileMaker(const Case& made) : made_(made), file_(kHeadBytes) {}

  Bytes make() {
    add_plane(codes_plane(), blocks_of(codes_of(made_)));
    add_plane(codebook_plane(), {codebook_of(made_)});
    add_plane(outlier_plane(), made_.outliers);
    pad();
    wire::Item item;
    item.mutate_packet_offset(kHeadBytes);
    item.mutate_index_offset(file_.size());
    item.mutate_entry_count(static_cast<std::uint32_t>(entries_.size()));
    item.mutate_name_length(kName.size());
    item.mutate_type_length(kType.size());
    item.mutate_dtype(static_cast<std::uint8_t>(made_.dtype));
    item.mutate_rank(2);
    item.mutate_row_dims(1);
    item.mutate_plane_count(3);
    append(std::as_bytes(std::span(entries_)));
    return finish(item);
  }

 private:
  void append(std::span<const std::byte> bytes) { file_.insert(file_.end(), bytes.begin(), bytes.end()); }
  void pad() { file_.resize(align_up(file_.size(), kPacketAlignment)); }

  wire::Plane codes_plane() const {
    wire::Plane plane;
    plane.mutate_role(kCodes);
    plane.mutate_bits(static_cast<std::uint8_t>(made_.bits));
    plane.mutate_row_entries(made_.cols);
    plane.mutate_rows_per_block(made_.step);
    plane.mutate_scope(kRows);
    return plane;
  }
  wire::Plane codebook_plane() const {
    wire::Plane plane;
    plane.mutate_role(kCodebook);
    plane.mutate_dtype(static_cast<std::uint8_t>(DType::f32));
    plane.mutate_bits(32);
    plane.mutate_row_entries(1U << made_.bits);
    plane.mutate_rows_per_block(1);
    plane.mutate_scope(kWhole);
    return plane;
  }
  wire::Plane outlier_plane() const {
    wire::Plane plane;
    plane.mutate_role(kOutliers);
    plane.mutate_dtype(static_cast<std::uint8_t>(made_.dtype));
    plane.mutate_bits(8);
    plane.mutate_scope(kPerBlock);
    plane.mutate_layout(kPacked);
    return plane;
  }

  std::vector<Bytes> blocks_of(const Bytes& codes) const {
    const std::uint64_t row_bytes = codes.size() / made_.rows;
    std::vector<Bytes> blocks;
    for (std::uint64_t i = 0; i < made_.block_count(); ++i) {
      const auto rows =
          std::span(codes).subspan(made_.first_row(i) * row_bytes).first(made_.codes_in(i) / made_.cols * row_bytes);
      blocks.emplace_back(rows.begin(), rows.end());
    }
    return blocks;
  }

  void add_plane(wire::Plane plane, const std::vector<Bytes>& blocks) {
    pad();
    const std::size_t begin = file_.size();
    std::size_t end = begin;  // A block without bytes has a place, but does not lengthen the plane.
    for (const Bytes& block : blocks) {
      if (plane.layout() == kPacked) end = align_up(end, kPacketAlignment);
      wire::IndexEntry entry;
      entry.mutate_offset(end - begin);
      entry.mutate_stored_length(static_cast<std::uint32_t>(block.size()));
      entry.mutate_decoded_length(static_cast<std::uint32_t>(block.size()));
      entries_.push_back(entry);
      if (!block.empty()) file_.resize(end);
      append(block);
      end += block.size();
    }
    plane.mutate_offset(end == begin ? 0 : begin);
    plane.mutate_stored_length(end - begin);
    plane.mutate_block_count(static_cast<std::uint32_t>(blocks.size()));
    plane.mutate_codecs(1);
    plane.mutate_vector(1);
    planes_.push_back(plane);
    file_.resize(end);
  }

  Bytes finish(const wire::Item& item) {
    const std::array<std::uint64_t, 2> dims{made_.rows, made_.cols};
    file_.resize(file_.size() + record_bytes_of(item));
    FooterBuilder builder;
    builder.add({&item, dims, planes_, kName, kType});
    const Bytes footer = builder.build();
    TailFields fields;
    fields.footer_offset = file_.size();
    fields.footer_bytes = footer.size();
    fields.item_count = 1;
    fields.align_log2 = 6;
    append(footer);
    pad();
    append(bytes_of(make_tail(fields)));
    fuzz::repair(file_, fuzz::kRepairAll);
    return std::move(file_);
  }

  const Case& made_;
  Bytes file_;
  std::vector<wire::IndexEntry> entries_;
  std::vector<wire::Plane> planes_;
};

// ---- What must come out, from section 13.2 alone ----

struct Expected {
  std::string rule;                  // Of the first outlier block that breaks one.
  std::set<std::uint64_t> replaced;  // Elements.
  Bytes stored;                      // Of all elements in the outliers' dtype; only those in `replaced` count.
  bool finite = true;
};

bool is_finite(DType dtype, const std::byte* value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, value, bits_of(dtype) / 8);
  if (dtype == DType::f16) return (bits & 0x7C00) != 0x7C00;
  if (dtype == DType::bf16) return (bits & 0x7F80) != 0x7F80;
  if (dtype == DType::f32) return (bits & 0x7F800000) != 0x7F800000;
  return (bits >> 52 & 0x7FF) != 0x7FF;
}

std::string add_block(const Case& made, std::uint64_t number, Expected& expected) {
  const Bytes& block = made.outliers[number];
  const std::uint64_t each = made.value_bytes() + 4;
  if (block.size() % each != 0) return "E5";
  const std::uint64_t count = block.size() / each;
  std::int64_t before = -1;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint32_t position = 0;
    std::memcpy(&position, block.data() + count * made.value_bytes() + 4 * i, sizeof position);
    if (position <= before || position >= made.codes_in(number)) return "E6";
    before = position;
    const std::uint64_t element = made.first_row(number) * made.cols + position;
    const std::byte* const value = block.data() + i * made.value_bytes();
    std::copy_n(value, made.value_bytes(),
                expected.stored.begin() + static_cast<std::ptrdiff_t>(element * made.value_bytes()));
    expected.replaced.insert(element);
    expected.finite = expected.finite && is_finite(made.dtype, value);
  }
  return "";
}

Expected expected_of(const Case& made) {
  Expected expected;
  expected.stored.resize(made.rows * made.cols * made.value_bytes());
  for (std::uint64_t i = 0; i < made.block_count(); ++i) {
    const std::string rule = add_block(made, i, expected);
    if (expected.rule.empty()) expected.rule = rule;
  }
  return expected;
}

void check_values(const Case& made, const Expected& expected, const Tensor& tensor) {
  const std::uint64_t count = made.rows * made.cols;
  Bytes as_float(count * sizeof(float));
  Bytes as_source(count * made.value_bytes());
  require(tensor.read_rows(0, made.rows, DType::f32, as_float).has_value(), "read as f32");
  require(tensor.read_rows(0, made.rows, made.dtype, as_source).has_value(), "read as the source dtype");
  for (std::uint64_t i = 0; i < count; ++i) {
    if (expected.replaced.contains(i)) {
      const auto at = static_cast<std::ptrdiff_t>(i * made.value_bytes());
      require(
          std::equal(as_source.begin() + at, as_source.begin() + at + static_cast<std::ptrdiff_t>(made.value_bytes()),
                     expected.stored.begin() + at),
          "an outlier is its stored value");
    } else {
      float value = 0;
      std::memcpy(&value, as_float.data() + i * sizeof value, sizeof value);
      require(value == made.value_of(made.code_at(i)), "an element that is no outlier is its codebook entry");
    }
  }
}

void check_refused(const Case& made, const Expected& expected, const Tensor& tensor) {
  Bytes bytes(made.rows * made.cols * sizeof(float));
  const auto result = tensor.read_rows(0, made.rows, DType::f32, bytes);
  require(!result && result.error().rule == expected.rule, "the first broken rule is the model's");
  require(result.error().plane == 2 && result.error().code == Code::malformed, "it is placed at the outliers");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < kPrefixBytes) return 0;
  const Case made = case_of(std::as_bytes(std::span(data, size)));
  const Bytes file = FileMaker(made).make();
  const Expected expected = expected_of(made);
  for (const bool mapped : {true, false}) {
    const auto reader = Reader::open(memory_source(file, mapped));
    require(reader.has_value(), "the file opens");
    const auto tensor = reader->find(kName);
    require(tensor && tensor->verify() && tensor->check_supported(), "the tensor can be read");
    expected.rule.empty() ? check_values(made, expected, *tensor) : check_refused(made, expected, *tensor);
  }
  const FsckReport report = fsck(memory_source(file), {FsckLevel::deep, {}, {}, 1, nullptr, {}});
  const std::string rule = !expected.rule.empty() ? expected.rule : expected.finite ? "" : "D1";
  require(rule.empty() ? report.valid : report.problem_count == 1 && report.problems[0].error.rule == rule,
          "fsck finds what the model says");
  return 0;
}
