// CDNA files built in memory by the public writer, with something of everything; and what each of their bytes is for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cdna/reader.hpp"
#include "cdna/writer.hpp"
#include "random.hpp"

namespace cdna::test {

template <class T>
std::vector<std::byte> bytes_of_values(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// The upper halves of f32 values.
std::vector<std::byte> bf16_of(const std::vector<float>& values);

// Reads from memory that outlives the call.
ByteReader reader_of(const std::vector<std::byte>& bytes);

// The file that `add` fills. Throws std::runtime_error where the writer refuses: a mistake in the test.
std::vector<std::byte> write_file(const WriterOptions& options, const std::function<void(Writer&)>& add,
                                  Metadata metadata = {});

// The value, or std::runtime_error with the error's description.
template <class T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().describe());
  return *std::move(result);
}

// About 64 KiB: both encodings; raw, zstd and brotli blocks, byte planes, raw ones beside compressed ones; several
// blocks in a plane; dtypes from 4 to 64 bits; rank 0, no elements, no bytes; alias, assets, every type of metadata;
// gaps of all lengths.
std::vector<std::byte> make_sample();

// About 7 KiB of the same.
std::vector<std::byte> make_small_sample();

// What a byte is part of.
enum class Part { head, block, index, record, gap, footer, tail };

std::string_view name_of(Part part);

struct Region {
  static constexpr std::uint32_t kNoItem = ~std::uint32_t{0};
  Part part = Part::gap;
  std::uint32_t item = kNoItem;  // Of a block, index or record.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// All bytes of a good file in order, each in one region; blocks without bytes are left out. Computed from the footer
// and the indices by section 7.2 of the format alone, so that the library's own walk is not what judges it.
std::vector<Region> regions_of(std::span<const std::byte> file);

// The decoded bytes of an item as section 19 defines them, all of its digests first; nothing for aliases and unknown
// kinds.
Result<std::vector<std::byte>> read_item(const Reader& reader, std::uint32_t number);

}  // namespace cdna::test
