// Counts against what the file has left, products against 2^63, places against the file's end: before each is used.
#include "libcdna/import/gguf/header.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kTensorBytesMin = 8 + 1 + 4 + 4 + 8;  // A scalar with a name of one byte.
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 63;
constexpr std::string_view kMagic = "GGUF";

struct Head {
  std::uint32_t version = 0;
  std::uint64_t tensors = 0;
  std::uint64_t keys = 0;
};

Result<Head> read_head(const Source& source) {
  CDNA_CHECK(source.size_bytes() >= kGgufHeadBytes, Code::truncated, "",
             "a GGUF file has at least 24 bytes, this has " + std::to_string(source.size_bytes()), 0);
  std::array<std::byte, kGgufHeadBytes> bytes{};
  CDNA_TRY(source.read_at(0, bytes));
  CDNA_CHECK(std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0, Code::malformed, "",
             "not a GGUF file: it does not begin with GGUF", 0);
  Head head;
  std::memcpy(&head.version, bytes.data() + 4, 4);
  std::memcpy(&head.tensors, bytes.data() + 8, 8);
  std::memcpy(&head.keys, bytes.data() + 16, 8);
  // As ggml tells them: no version has these bits.
  CDNA_CHECK((head.version & 0xFFFFU) != 0 || head.version == 0, Code::unsupported, "",
             "a GGUF file in big-endian byte order; gguf-py's gguf_convert_endian.py makes it little-endian", 4);
  CDNA_CHECK(head.version == 2 || head.version == 3, Code::unsupported, "",
             "version " + std::to_string(head.version) + " of GGUF; 2 and 3 are read", 4);
  return head;
}

Result<std::uint64_t> alignment_of(const GgufHeader& header) {
  const GgufKeyValue* const entry = header.find("general.alignment");
  if (entry == nullptr) return kGgufAlignment;
  CDNA_CHECK(entry->type == GgufValueType::u32, Code::malformed, "", "general.alignment is not a u32",
             entry->value_begin);
  const auto alignment = std::get<std::uint64_t>(*entry->value);
  CDNA_CHECK(std::has_single_bit(alignment), Code::malformed, "",
             "general.alignment is " + std::to_string(alignment) + ", not a power of two", entry->value_begin);
  return alignment;
}

// A tensor as the file describes it.
struct Entry {
  GgufTensor tensor;  // `begin` from the start of the data.
  std::uint64_t entry_at = 0;
  std::uint64_t offset_at = 0;
};

class EntryReader {
 public:
  EntryReader(GgufCursor& cursor, GgufDialect dialect) : cursor_(cursor), dialect_(dialect) {}

  Result<Entry> read() {
    Entry entry;
    entry.entry_at = cursor_.position();
    entry.tensor.name = CDNA_TRY(cursor_.string(kGgufNameBytesMax, "a tensor's name"));
    CDNA_CHECK(!entry.tensor.name.empty(), Code::malformed, "", "a tensor without a name", entry.entry_at);
    auto result = read_rest(entry);
    if (result) return entry;
    result.error().item = entry.tensor.name;
    return std::move(result).error();
  }

 private:
  Result<void> read_rest(Entry& entry) {
    const std::uint64_t shape_at = cursor_.position();
    CDNA_TRY(read_shape(entry.tensor));
    CDNA_TRY(read_type(entry.tensor));
    CDNA_TRY(set_size(entry.tensor, shape_at));
    entry.offset_at = cursor_.position();
    entry.tensor.begin = CDNA_TRY(cursor_.number<std::uint64_t>("a tensor's offset"));
    return {};
  }

  Result<void> read_shape(GgufTensor& tensor) {
    const std::uint64_t at = cursor_.position();
    const auto rank = CDNA_TRY(cursor_.number<std::uint32_t>("a tensor's shape"));
    CDNA_CHECK(rank <= kGgufRankMax, Code::limit, "",
               std::to_string(rank) + " dimensions; GGUF has at most " + std::to_string(kGgufRankMax), at);
    tensor.shape.resize(rank);
    for (std::uint32_t i = rank; i > 0; --i)
      tensor.shape[i - 1] = CDNA_TRY(cursor_.number<std::uint64_t>("a tensor's shape"));
    return {};
  }

  Result<void> read_type(GgufTensor& tensor) {
    const std::uint64_t at = cursor_.position();
    const auto id = CDNA_TRY(cursor_.number<std::uint32_t>("a tensor's type"));
    tensor.type = find_ggml_type(id, dialect_);
    CDNA_CHECK(tensor.type != nullptr, Code::unsupported, "", describe_unknown_ggml_type(id), at);
    return {};
  }

  static Result<void> set_size(GgufTensor& tensor, std::uint64_t at) {
    const GgmlType& type = *tensor.type;
    const bool is_empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0U) != tensor.shape.end();
    tensor.elements = is_empty ? 0 : 1;
    for (const std::uint64_t dim : tensor.shape) {
      CDNA_CHECK(!__builtin_mul_overflow(tensor.elements, dim, &tensor.elements) && tensor.elements < kElementsMax &&
                     dim < kElementsMax,
                 Code::limit, "", "the tensor has 2^63 elements or more", at);
    }
    const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    CDNA_CHECK(row % type.block_elements == 0, Code::malformed, "",
               "rows of " + std::to_string(row) + " elements are not whole blocks of " +
                   std::to_string(type.block_elements) + ", as " + std::string(type.name) + " has them",
               at);
    CDNA_CHECK(!__builtin_mul_overflow(tensor.elements / type.block_elements, std::uint64_t{type.block_bytes},
                                       &tensor.size_bytes),
               Code::limit, "", "the tensor has 2^64 bytes or more", at);
    return {};
  }

  GgufCursor& cursor_;
  const GgufDialect dialect_;
};

Error fail_entry(Code code, const Entry& entry, std::uint64_t at, std::string message) {
  Error error = fail(code, "", std::move(message), at);
  error.item = entry.tensor.name;
  return error;
}

Result<std::vector<Entry>> read_entries(GgufCursor& cursor, std::uint64_t count, GgufDialect dialect) {
  const std::uint64_t at = cursor.position();
  CDNA_CHECK(count <= cursor.left() / kTensorBytesMin, Code::truncated, "",
             std::to_string(count) + " tensors, where the file has " + std::to_string(cursor.left()) + " more bytes",
             at);
  CDNA_CHECK(count <= kGgufTensorsMax, Code::limit, "",
             std::to_string(count) + " tensors; at most " + std::to_string(kGgufTensorsMax) + " are allowed", at);
  std::vector<Entry> entries;
  EntryReader reader(cursor, dialect);
  for (std::uint64_t i = 0; i < count; ++i) entries.push_back(CDNA_TRY(reader.read()));
  return entries;
}

// Makes places places in the file. Requires: entries in any order.
Result<void> place(std::vector<Entry>& entries, std::uint64_t header_end, std::uint64_t alignment,
                   std::uint64_t file_bytes) {
  if (entries.empty()) return {};
  const std::uint64_t padding = (alignment - header_end % alignment) % alignment;
  CDNA_CHECK(padding <= file_bytes - header_end, Code::truncated, "", "the file ends before the data of its tensors",
             header_end);
  const std::uint64_t data_begin = header_end + padding;
  const std::uint64_t data_bytes = file_bytes - data_begin;
  for (Entry& entry : entries) {
    GgufTensor& tensor = entry.tensor;
    const std::string place = "data at byte " + std::to_string(tensor.begin) + " of the data area";
    if (tensor.begin % alignment != 0)
      return fail_entry(Code::malformed, entry, entry.offset_at,
                        place + ", which is not a multiple of " + std::to_string(alignment));
    if (tensor.begin > data_bytes || tensor.size_bytes > data_bytes - tensor.begin)
      return fail_entry(
          Code::truncated, entry, entry.offset_at,
          std::to_string(tensor.size_bytes) + " bytes of " + place + ", which has " + std::to_string(data_bytes));
    tensor.begin += data_begin;
  }
  return {};
}

Result<void> check_overlaps(std::vector<Entry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.tensor.begin != b.tensor.begin ? a.tensor.begin < b.tensor.begin
                                            : a.tensor.size_bytes < b.tensor.size_bytes;
  });
  const Entry* before = nullptr;
  for (const Entry& entry : entries) {
    if (entry.tensor.size_bytes == 0) continue;
    if (before != nullptr && entry.tensor.begin - before->tensor.begin < before->tensor.size_bytes)
      return fail_entry(Code::malformed, entry, entry.offset_at,
                        "its data overlap those of " + quote(before->tensor.name));
    before = &entry;
  }
  return {};
}

Result<void> check_names(std::vector<Entry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.tensor.name != b.tensor.name ? a.tensor.name < b.tensor.name : a.entry_at < b.entry_at;
  });
  const auto twin = std::adjacent_find(entries.begin(), entries.end(),
                                       [](const Entry& a, const Entry& b) { return a.tensor.name == b.tensor.name; });
  if (twin == entries.end()) return {};
  return fail_entry(Code::malformed, *std::next(twin), std::next(twin)->entry_at, "two tensors have this name");
}

}  // namespace

const GgufKeyValue* GgufHeader::find(std::string_view key) const {
  const auto found =
      std::find_if(key_values.begin(), key_values.end(), [key](const GgufKeyValue& entry) { return entry.key == key; });
  return found == key_values.end() ? nullptr : &*found;
}

Result<GgufHeader> read_gguf_header(const Source& source, GgufDialect dialect) {
  const Head head = CDNA_TRY(read_head(source));
  GgufHeader header;
  header.version = head.version;
  GgufCursor cursor(source, kGgufHeadBytes);
  header.key_values = CDNA_TRY(read_gguf_key_values(cursor, head.keys));
  header.key_values_end = cursor.position();
  const std::uint64_t alignment = CDNA_TRY(alignment_of(header));
  std::vector<Entry> entries = CDNA_TRY(read_entries(cursor, head.tensors, dialect));
  CDNA_TRY(place(entries, cursor.position(), alignment, source.size_bytes()));
  CDNA_TRY(check_overlaps(entries));
  CDNA_TRY(check_names(entries));
  for (Entry& entry : entries) header.tensors.push_back(std::move(entry.tensor));
  return header;
}

}  // namespace cdna
