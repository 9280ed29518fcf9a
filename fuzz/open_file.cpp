// The properties of check_file, one function each.
#include "fuzz/open_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "libcdna/format/wire.hpp"

namespace cdna::fuzz {
namespace {

using Bytes = std::vector<std::byte>;

// The bits of `order`.
constexpr std::uint8_t kReadFirst = 1;   // Blocks are read before the item is verified as a whole.
constexpr std::uint8_t kBackwards = 2;   // The last item first.
constexpr std::uint8_t kFsckFirst = 4;   // Before anything is read.
constexpr std::uint8_t kDeep = 8;        // The deep level of fsck, else standard.
constexpr std::uint8_t kRebuild = 16;    // From the records.
constexpr std::uint8_t kRows = 32;       // Row by row from the end, and in other dtypes.
constexpr std::uint8_t kUnaligned = 64;  // The file begins at an odd address.
constexpr std::uint8_t kPinned = 128;    // With the right root expected, and with a wrong one.

// What a run may cost: 1-bit codes become 32 times as many bytes.
constexpr std::uint64_t kDecodedBytesMax = std::uint64_t{1} << 18;
constexpr std::uint64_t kRowsMax = 40;

// How reading an item ended.
struct Outcome {
  bool ok = false;
  Code code = Code::io;
  std::string rule;
  Bytes bytes;
  bool operator==(const Outcome&) const = default;
};

bool is_rule(std::string_view rule) {
  return rule.size() >= 2 && rule[0] >= 'A' && rule[0] <= 'Z' &&
         rule.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

void check_error(const Error& error, std::uint64_t file_bytes) {
  require(error.code < Code::io, "an error is a property of the file");
  require(is_rule(error.rule) || (error.code == Code::limit && *error.rule == '\0'), "an error names a rule");
  require(error.offset == kNoOffset || error.offset <= file_bytes, "the offset of an error lies within the file");
  require(!error.message.empty() && !error.describe().empty(), "an error says what is wrong");
}

Outcome failed(const Error& error, std::uint64_t file_bytes) {
  check_error(error, file_bytes);
  return {false, error.code, error.rule, {}};
}

OpenOptions options_of(Trust trust) {
  OpenOptions options;
  options.trust = trust;
  options.limits.tensor_decoded_bytes_max = kDecodedBytesMax;
  return options;
}

DType natural_dtype(const Tensor& tensor) { return tensor.encoding() == "cdna.exact" ? tensor.dtype() : DType::f32; }

Outcome read_tensor(const Tensor& tensor, DType dtype, std::uint64_t file_bytes) {
  Bytes bytes(tensor.rows() * tensor.row_bytes(dtype));
  if (auto result = tensor.read_rows(0, tensor.rows(), dtype, bytes); !result)
    return failed(result.error(), file_bytes);
  return {true, Code::io, "", std::move(bytes)};
}

Outcome read_asset(const Reader& reader, const Item& item, std::uint64_t file_bytes) {
  const Asset asset(item);
  Bytes bytes(asset.size_bytes());
  if (auto result = asset.read(0, bytes); !result) return failed(result.error(), file_bytes);
  if (item.kind() == ItemKind::metadata) {
    if (auto metadata = reader.metadata(); !metadata) return failed(metadata.error(), file_bytes);
  }
  return {true, Code::io, "", std::move(bytes)};
}

// The decoded bytes of an item, after all of its digests (spec/format.md, 16.2).
Outcome read_item(const Reader& reader, std::uint32_t number) {
  const Item item = reader.item(number);
  if (auto result = item.verify(); !result) return failed(result.error(), reader.file_bytes());
  if (item.kind() == ItemKind::asset || item.kind() == ItemKind::metadata)
    return read_asset(reader, item, reader.file_bytes());
  if (item.kind() != ItemKind::tensor) return {true, Code::io, "", {}};
  const Tensor tensor = reader.resolve(item);
  if (auto result = tensor.check_supported(); !result) return failed(result.error(), reader.file_bytes());
  return read_tensor(tensor, natural_dtype(tensor), reader.file_bytes());
}

// Walks the blocks of a tensor that nobody has verified. Whether all could be had.
bool read_blocks(const Reader& reader, const Tensor& tensor) {
  if (auto supported = tensor.check_supported(); !supported) return false;
  auto range = tensor.blocks();
  if (!range) return false;
  bool whole = true;
  std::uint64_t number = 0;
  for (const Result<Block>& block : *range) {
    whole = whole && block.has_value();
    if (block) {
      require(block->number == number, "blocks come in order");
    } else {
      check_error(block.error(), reader.file_bytes());
    }
    ++number;
  }
  return whole;
}

// Rows from the end, one by one, against the whole tensor.
void check_rows(const Tensor& tensor, const Outcome& whole) {
  if (tensor.rows() == 0 || !tensor.check_supported()) return;  // Rows that are not there may have any length.
  const DType dtype = natural_dtype(tensor);
  const std::uint64_t row_bytes = tensor.row_bytes(dtype);
  if (!whole.ok && (row_bytes > kDecodedBytesMax || !tensor.verify())) return;
  Bytes row(row_bytes);
  const std::uint64_t least = tensor.rows() - std::min(tensor.rows(), kRowsMax);
  for (std::uint64_t i = tensor.rows(); i-- > least;) {
    const auto result = tensor.read_rows(i, i + 1, dtype, row);
    if (!whole.ok) continue;
    require(result.has_value(), "a row of a readable tensor can be read");
    require(std::equal(row.begin(), row.end(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(i * row_bytes)),
            "a row is that of the whole tensor");
  }
}

// Reads in another dtype, the same in both modes.
void check_conversion(const Tensor& mapped, const Tensor& copied, std::uint64_t file_bytes) {
  if (!is_float(mapped.dtype()) || !mapped.check_supported() || !mapped.verify()) return;
  for (const DType dtype : {DType::f16, DType::bf16, DType::f64}) {
    require(read_tensor(mapped, dtype, file_bytes) == read_tensor(copied, dtype, file_bytes),
            "conversions agree between the modes");
  }
}

// What else the interface offers for a tensor.
void check_views(const Tensor& tensor, const Outcome& whole) {
  const auto contiguous = tensor.contiguous();
  if (contiguous && whole.ok) {
    require(std::equal(contiguous->begin(), contiguous->end(), whole.bytes.begin(), whole.bytes.end()),
            "the mapped plane is the decoded tensor");
  }
  const auto codebook = tensor.codebook();
  if (!codebook) return;
  require(std::none_of(codebook->begin(), codebook->end(), [](float entry) { return std::isnan(entry); }),
          "an accepted codebook has no NaN");
  require(tensor.plane(0).vector != 1 || std::is_sorted(codebook->begin(), codebook->end()),
          "an accepted codebook of single elements ascends");
}

// What an item says of its own size.
void check_sizes(const Item& item, const Outcome& whole, std::uint64_t file_bytes) {
  require(item.stored_bytes() <= file_bytes, "an item is stored within the file");
  std::uint64_t blocks = 0;
  for (std::uint32_t i = 0; i < item.plane_count(); ++i) {
    const PlaneInfo plane = item.plane(i);
    require(plane.offset <= file_bytes && plane.stored_bytes <= file_bytes - plane.offset, "a plane lies in the file");
    blocks += plane.block_count;
  }
  require(blocks == item.block_count(), "the blocks of an item are those of its planes");
  const bool exact = item.kind() == ItemKind::tensor && item.type() == "cdna.exact";
  require(!whole.ok || !exact || item.source_bytes() == whole.bytes.size(), "an exact tensor has its source's size");
}

// Parts of an asset are parts of the whole.
void check_parts(const Item& item, const Outcome& whole) {
  if (!whole.ok || whole.bytes.empty()) return;
  const Asset asset(item);
  for (const std::size_t begin : {whole.bytes.size() - 1, whole.bytes.size() / 2}) {
    Bytes part(whole.bytes.size() - begin);
    require(asset.read(begin, part).has_value(), "a part of a readable asset can be read");
    require(std::equal(part.begin(), part.end(), whole.bytes.begin() + static_cast<std::ptrdiff_t>(begin)),
            "a part of an asset is that of the whole");
  }
}

Outcome check_item(const Reader& mapped, const Reader& copied, std::uint32_t number, std::uint8_t order) {
  const Item item = mapped.item(number);
  const bool is_tensor = item.kind() == ItemKind::tensor;
  const bool first = (order & kReadFirst) != 0 && is_tensor;
  const bool blocks = !first || read_blocks(mapped, mapped.resolve(item));
  const Outcome outcome = read_item(mapped, number);
  require(outcome == read_item(copied, number), "both modes read the same");
  require(outcome == read_item(mapped, number), "reading twice gives the same");
  require(!outcome.ok || blocks, "the blocks of a readable tensor can be read");
  check_sizes(item, outcome, mapped.file_bytes());
  if (item.kind() == ItemKind::asset || item.kind() == ItemKind::metadata) check_parts(item, outcome);
  if (!is_tensor) return outcome;
  const Tensor tensor = mapped.resolve(item);
  check_views(tensor, outcome);
  if ((order & kRows) != 0) {
    check_rows(tensor, outcome);
    check_conversion(tensor, copied.resolve(copied.item(number)), mapped.file_bytes());
  }
  return outcome;
}

// Every name leads back to its item.
void check_names(const Reader& reader) {
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item item = reader.tensor_item(i);
    const auto found = reader.find(item.name());
    require(found && found->number() == reader.resolve(item).number(), "a tensor is found by its name");
  }
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    if (reader.item(i).kind() != ItemKind::asset) continue;
    const auto found = reader.find_asset(reader.item(i).name());
    require(found && found->number() == i, "an asset is found by its name");
  }
}

void check_footer(std::span<const std::byte> file) {
  const auto tail = load<wire::Tail>(file.last(kTailBytes));
  const auto footer = file.subspan(tail.footer_offset(), tail.footer_length());
  const Bytes aligned(footer.begin(), footer.end());
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(aligned.data()), aligned.size());
  require(wire::VerifyFooterBuffer(verifier), "an accepted footer passes the FlatBuffers verifier");
}

void check_root(std::span<const std::byte> file, const Digest& root) {
  OpenOptions options = options_of(Trust::automatic);
  options.expected_root = root;
  require(Reader::open(memory_source(file), options).has_value(), "a file opens under its own root");
  options.expected_root->back() ^= std::byte{1};
  const auto other = Reader::open(memory_source(file), options);
  require(!other && other.error().code == Code::root_mismatch, "a file does not open under another root");
}

FsckReport fsck_of(std::span<const std::byte> file, std::uint8_t order) {
  FsckOptions options;
  options.level = (order & kDeep) != 0 ? FsckLevel::deep : FsckLevel::standard;
  options.limits.tensor_decoded_bytes_max = kDecodedBytesMax;
  FsckReport report = fsck(memory_source(file), options);
  require(!report.operational_failure, "memory has no operational failures");
  require(report.valid == (report.problem_count == 0), "a file is valid if and only if it has no problems");
  require(!report.valid || report.complete, "a valid file is complete");
  for (const FsckProblem& problem : report.problems) {
    check_error(problem.error, file.size());
    require(problem.begin <= problem.end && problem.end <= file.size(), "a problem lies within the file");
  }
  return report;
}

bool has_problem(const FsckReport& report, Code code, std::string_view rule) {
  return std::any_of(report.problems.begin(), report.problems.end(), [&](const FsckProblem& problem) {
    return problem.error.code == code && problem.error.rule == rule;
  });
}

void check_report(const FsckReport& report, const Outcome& outcome, bool deep) {
  if (outcome.ok || outcome.rule.starts_with('U')) return;
  require(!deep || !report.valid, "a valid file can be read");
  // What a standard check does not look at: decoded bytes.
  const bool decoded = outcome.rule.find_first_of("CEM") == 0 && outcome.rule != "M1";
  require((decoded && !deep) || has_problem(report, outcome.code, outcome.rule), "fsck finds what reading finds");
}

void check_rebuild(std::span<const std::byte> file, const FsckReport& report, bool deep) {
  Bytes out;
  const auto source = memory_source(file);
  const auto rebuilt = rebuild(*source, memory_sink(out));
  if (!rebuilt) {
    check_error(rebuilt.error(), file.size());
    require(!deep || !report.valid, "a valid file can be rebuilt");
    return;
  }
  OpenOptions options = options_of(Trust::strict);
  options.expected_root = rebuilt->root;
  require(Reader::open(memory_source(out), options).has_value(), "a rebuilt file opens");
  if (deep && report.valid) require(std::equal(out.begin(), out.end(), file.begin(), file.end()), "rebuilt as it was");
}

// The items of an accepted file.
void check_items(const Reader& mapped, const Reader& copied, const FsckReport& report, std::uint8_t order) {
  check_names(mapped);
  const std::uint32_t count = mapped.item_count();
  std::uint32_t first_broken = count;
  Outcome first;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t number = (order & kBackwards) != 0 ? count - 1 - i : i;
    Outcome outcome = check_item(mapped, copied, number, order);
    check_report(report, outcome, (order & kDeep) != 0);
    if (outcome.ok || outcome.rule.starts_with('U') || number >= first_broken) continue;
    first_broken = number;
    first = std::move(outcome);
  }
  if (first_broken == count || (order & kDeep) == 0) return;
  require(report.problems.at(0).error.rule == first.rule, "fsck reports the first broken rule first");
}

}  // namespace

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

void check_file(std::span<const std::byte> given, std::uint8_t order) {
  Bytes memory(given.size() + 1);
  const bool odd = (order & kUnaligned) != 0;
  const std::span<std::byte> copy = std::span(memory).subspan(odd ? 1 : 0, given.size());
  std::copy(given.begin(), given.end(), copy.begin());
  const std::span<const std::byte> file = copy;

  FsckReport report;
  if ((order & kFsckFirst) != 0) report = fsck_of(file, order);
  const auto mapped = Reader::open(memory_source(file, true), options_of(Trust::automatic));
  const auto copied = Reader::open(memory_source(file, false), options_of(Trust::strict));
  require(mapped.has_value() == copied.has_value(), "both modes open the same files");
  if ((order & kFsckFirst) == 0) report = fsck_of(file, order);
  if (mapped) {
    check_footer(file);
    check_items(*mapped, *copied, report, order);
    if ((order & kPinned) != 0) check_root(file, mapped->root());
  } else {
    check_error(mapped.error(), file.size());
    require(*mapped.error().rule != '\0' && mapped.error().offset != kNoOffset, "a refusal has a rule and a place");
    require(mapped.error().describe() == copied.error().describe(), "both modes refuse for the same reason");
    require(has_problem(report, mapped.error().code, mapped.error().rule), "fsck finds why a file is refused");
  }
  if ((order & kRebuild) != 0) check_rebuild(file, report, (order & kDeep) != 0);
}

void check_input(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return;
  check_file(std::as_bytes(std::span(data, size - 1)), data[size - 1]);
}

}  // namespace cdna::fuzz
