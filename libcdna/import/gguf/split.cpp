// Split models: NAME-00001-of-00003.gguf and its siblings, as llama.cpp's gguf-split writes them.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "libcdna/import/gguf/gguf.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kPartsMax = 65535;  // split.count is a u16.
constexpr std::string_view kPattern = "NAME-00001-of-00003.gguf";
constexpr std::size_t kTailBytes = std::string_view("-00001-of-00003.gguf").size();

std::string part_name(std::string_view prefix, std::uint64_t number, std::uint64_t count) {
  char tail[64];
  std::snprintf(tail, sizeof tail, "-%05llu-of-%05llu.gguf", static_cast<unsigned long long>(number),
                static_cast<unsigned long long>(count));
  return std::string(prefix) + tail;
}

// A number of the metadata, which may have any type of integer. Errors: malformed (not there, negative, no integer).
Result<std::uint64_t> split_number(const GgufHeader& header, const char* key) {
  const GgufKeyValue* const entry = header.find(key);
  CDNA_CHECK(entry != nullptr, Code::malformed, "", "a part of a split model without the key " + std::string(key));
  if (entry->value) {
    if (const auto* const number = std::get_if<std::uint64_t>(&*entry->value)) return *number;
    if (const auto* const number = std::get_if<std::int64_t>(&*entry->value); number != nullptr && *number >= 0)
      return static_cast<std::uint64_t>(*number);
  }
  return fail(Code::malformed, "", "metadata " + quote(key) + ": not a number of parts or tensors", entry->value_begin);
}

struct SplitNumbers {
  std::uint64_t number = 0;  // From 0.
  std::uint64_t count = 0;
  std::uint64_t tensors = 0;
};

Result<SplitNumbers> split_numbers(const GgufHeader& header) {
  SplitNumbers numbers;
  numbers.number = CDNA_TRY(split_number(header, "split.no"));
  numbers.count = CDNA_TRY(split_number(header, "split.count"));
  numbers.tensors = CDNA_TRY(split_number(header, "split.tensors.count"));
  return numbers;
}

Error in_file(Error error, const std::string& path) {
  if (error.file.empty()) error.file = path;
  return error;
}

// What stands before "-00001-of-00003.gguf". Errors: malformed.
Result<std::string> prefix_of(const std::string& path, const SplitNumbers& numbers) {
  const std::string tail = part_name("", numbers.number + 1, numbers.count);
  CDNA_CHECK(tail.size() == kTailBytes && path.ends_with(tail) && numbers.number < numbers.count, Code::malformed, "",
             "part " + std::to_string(numbers.number + 1) + " of " + std::to_string(numbers.count) +
                 " of a split model; it must be called " + std::string(kPattern) +
                 " with its numbers, so that the others can be found");
  return path.substr(0, path.size() - tail.size());
}

Result<void> check_part(const GgufPart& part, std::uint64_t number, const SplitNumbers& first) {
  const SplitNumbers numbers = CDNA_TRY(split_numbers(part.header));
  CDNA_CHECK(
      numbers.number == number, Code::malformed, "",
      "the file says that it is part " + std::to_string(numbers.number + 1) + ", not " + std::to_string(number + 1));
  CDNA_CHECK(numbers.count == first.count, Code::malformed, "",
             "a part of " + std::to_string(numbers.count) + ", where others are of " + std::to_string(first.count));
  CDNA_CHECK(numbers.tensors == first.tensors, Code::malformed, "",
             "split.tensors.count is " + std::to_string(numbers.tensors) + ", and that of others " +
                 std::to_string(first.tensors));
  return {};
}

Result<void> check_tensor_count(const std::vector<GgufPart>& parts, std::uint64_t expected) {
  std::uint64_t count = 0;
  for (const GgufPart& part : parts) count += part.header.tensors.size();
  CDNA_CHECK(count == expected, Code::malformed, "",
             "the parts have " + std::to_string(count) + " tensors together, where split.tensors.count is " +
                 std::to_string(expected));
  return {};
}

}  // namespace

Result<std::uint64_t> gguf_split_count(const GgufHeader& header) {
  if (header.find("split.count") == nullptr) return std::uint64_t{1};
  const std::uint64_t count = CDNA_TRY(split_number(header, "split.count"));
  CDNA_CHECK(count <= kPartsMax, Code::malformed, "", "a model of " + std::to_string(count) + " parts");
  return std::max<std::uint64_t>(count, 1);  // gguf-split writes 0 where it merges.
}

Result<std::vector<GgufPart>> open_gguf_parts(const std::string& path, GgufPart part, GgufDialect dialect,
                                              FileSystem& file_system) {
  auto first = split_numbers(part.header);
  if (!first) return in_file(std::move(first).error(), path);
  auto prefix = prefix_of(path, *first);
  if (!prefix) return in_file(std::move(prefix).error(), path);
  std::vector<GgufPart> parts;
  for (std::uint64_t i = 0; i < first->count; ++i) {
    const std::string part_path = part_name(*prefix, i + 1, first->count);
    if (i == first->number) {
      parts.push_back(std::move(part));
      continue;
    }
    parts.push_back(CDNA_TRY(open_gguf_part(part_path, dialect, file_system)));
    auto checked = check_part(parts.back(), i, *first);
    if (!checked) return in_file(std::move(checked).error(), part_path);
  }
  auto counted = check_tensor_count(parts, first->tensors);
  if (!counted) return in_file(std::move(counted).error(), path);
  return parts;
}

}  // namespace cdna
