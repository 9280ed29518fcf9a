// Checks of safetensors headers: sizes, and that the tensors tile the data area.
#include "libcdna/import/safetensors_header.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/import/safetensors_entries.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

using Entry = SafetensorsEntry;

// The length that dtype and shape give must be the one that the offsets give.
Result<void> check_size(Entry& entry) {
  const auto [begin, end] = entry.offsets;
  ModelTensor& tensor = entry.tensor;
  auto size = safetensors_size_bytes(tensor.dtype, tensor.shape);
  if (!size) {
    size.error().item = tensor.name;
    return size.error();
  }
  tensor.size_bytes = *size;
  const std::string offsets = "data_offsets [" + std::to_string(begin) + "," + std::to_string(end) + "]";
  if (end < begin) return fail_at(Code::malformed, tensor.name, offsets + ": the end is before the beginning");
  if (end - begin == tensor.size_bytes) return {};
  return fail_at(Code::malformed, tensor.name,
                 offsets + " hold " + std::to_string(end - begin) + " bytes, but dtype and shape make " +
                     std::to_string(tensor.size_bytes));
}

// Requires: `entries` sorted by offsets; entries[i] does not begin where the one before it ends.
Error fail_gap(const std::vector<Entry>& entries, std::size_t i) {
  const std::uint64_t begin = entries[i].offsets[0];
  const std::uint64_t expected = i == 0 ? 0 : entries[i - 1].offsets[1];
  const std::string what = begin > expected ? std::to_string(begin - expected) + " bytes that belong to no tensor"
                                            : "an overlap of " + std::to_string(expected - begin) + " bytes";
  const std::string before = i == 0 ? "the start" : "the end of tensor " + quote(entries[i - 1].tensor.name);
  return fail_at(Code::malformed, entries[i].tensor.name,
                 "begins at byte " + std::to_string(begin) + " of the data instead of " + std::to_string(expected) +
                     ", " + before + ": " + what);
}

// Every byte of the data area belongs to exactly one tensor. Sorts `entries` by offsets.
Result<void> check_tiling(std::vector<Entry>& entries, std::uint64_t header_bytes, std::uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  const std::uint64_t data_begin = kSafetensorsLengthBytes + header_bytes;
  std::uint64_t end = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].offsets[0] != end) {
      Error error = fail_gap(entries, i);
      error.offset = data_begin + std::min(end, data_bytes);
      return error;
    }
    end = entries[i].offsets[1];
  }
  CDNA_CHECK(end <= data_bytes, Code::truncated, "",
             "the tensors need " + std::to_string(end) + " bytes of data, the file has " + std::to_string(data_bytes),
             data_begin + data_bytes);
  CDNA_CHECK(end == data_bytes, Code::malformed, "",
             std::to_string(data_bytes - end) + " bytes after the last tensor belong to none", data_begin + end);
  return {};
}

}  // namespace

Result<std::uint64_t> safetensors_size_bytes(DType dtype, const std::vector<std::uint64_t>& shape) {
  std::uint64_t bits = 1;
  bool overflow = false;
  for (const std::uint64_t dimension : shape) overflow |= __builtin_mul_overflow(bits, dimension, &bits);
  overflow |= __builtin_mul_overflow(bits, std::uint64_t{bits_of(dtype)}, &bits);
  CDNA_CHECK(!overflow, Code::limit, "", "shape: the size in bits is over 2^64-1");
  CDNA_CHECK(bits % 8 == 0, Code::malformed, "",
             std::to_string(bits) + " bits of " + std::string(name_of(dtype)) + " are not whole bytes");
  return bits / 8;
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  CDNA_CHECK(json.starts_with('{'), Code::malformed, "", "the header does not begin with '{'", kSafetensorsLengthBytes);
  auto parsed = parse_safetensors_entries(json);
  if (!parsed) {
    if (parsed.error().offset != kNoOffset) parsed.error().offset += kSafetensorsLengthBytes;
    return parsed.error();
  }
  std::vector<Entry> entries = std::move(parsed->entries);
  for (Entry& entry : entries) CDNA_TRY(check_size(entry));
  CDNA_TRY(check_tiling(entries, json.size(), data_bytes));

  const auto by_name = [](const Entry& a, const Entry& b) { return a.tensor.name < b.tensor.name; };
  std::sort(entries.begin(), entries.end(), by_name);
  SafetensorsHeader header;
  header.metadata = std::move(parsed->metadata);
  header.tensors.reserve(entries.size());
  header.begins.reserve(entries.size());
  for (Entry& entry : entries) {
    header.begins.push_back(entry.offsets[0]);
    header.tensors.push_back(std::move(entry.tensor));
  }
  return header;
}

}  // namespace cdna
