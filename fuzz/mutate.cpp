// Fields of the fixed structures and values that are likely to matter in them.
#include "fuzz/mutate.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "fuzz/layout.hpp"

namespace cdna::fuzz {
namespace {

using Random = std::mt19937_64;

// No std::uniform_int_distribution: its results differ between standard libraries.
std::size_t below(Random& random, std::size_t end) { return static_cast<std::size_t>(random() % end); }

// Sizes of the fields of a structure in order; digests and reserved bytes are fields as well.
using Fields = std::span<const std::uint8_t>;
constexpr std::array<std::uint8_t, 5> kHeadFields{8, 4, 1, 1, 50};
constexpr std::array<std::uint8_t, 14> kTailFields{16, 8, 8, 8, 8, 8, 4, 4, 32, 1, 1, 118, 32, 8};
constexpr std::array<std::uint8_t, 23> kItemFields{8, 8, 32, 32, 8, 8, 4, 4, 4, 4, 4, 2,
                                                   2, 2, 2,  1,  1, 1, 1, 8, 8, 8, 8};
constexpr std::array<std::uint8_t, 15> kPlaneFields{8, 8, 8, 4, 4, 2, 2, 1, 1, 1, 1, 1, 1, 2, 4};
constexpr std::array<std::uint8_t, 9> kEntryFields{8, 4, 4, 1, 1, 2, 4, 8, 32};
constexpr std::array<std::uint8_t, 1> kDimFields{8};
constexpr std::array<std::uint8_t, 1> kOrderFields{4};
constexpr std::array<std::uint8_t, 6> kRecordFields{8, 4, 4, 8, 8, 32};

Fields fields_of(PartKind kind) {
  switch (kind) {
    case PartKind::head:
      return kHeadFields;
    case PartKind::tail:
      return kTailFields;
    case PartKind::item:
      return kItemFields;
    case PartKind::plane:
      return kPlaneFields;
    case PartKind::index_entry:
      return kEntryFields;
    case PartKind::dim:
      return kDimFields;
    case PartKind::order:
      return kOrderFields;
    case PartKind::record:
      return kRecordFields;
    case PartKind::footer:
    case PartKind::text:
    case PartKind::block:
      break;
  }
  return {};
}

// Limits of spec/format.md section 3 and their neighbours come from adding -1, 0 or 1.
constexpr std::array<std::uint64_t, 24> kValues{0,
                                                1,
                                                2,
                                                3,
                                                4,
                                                7,
                                                8,
                                                16,
                                                32,
                                                33,
                                                64,
                                                128,
                                                255,
                                                0x4000,
                                                0x8000,
                                                0xFFFF,
                                                1U << 20,
                                                1U << 24,
                                                1U << 25,
                                                0x7F800000,
                                                0x7FC00000,
                                                0xFFFFFFFF,
                                                std::uint64_t{1} << 60,
                                                std::numeric_limits<std::uint64_t>::max()};

std::uint64_t changed(std::uint64_t value, std::size_t bytes, Random& random) {
  switch (below(random, 6)) {
    case 0:
      return kValues[below(random, kValues.size())] + below(random, 3) - 1;
    case 1:
      return value + below(random, 9) - 4;
    case 2:
      return value ^ std::uint64_t{1} << below(random, 8 * bytes);
    case 3:
      return value + 64 * (below(random, 9) - 4);
    case 4:
      return below(random, 2) == 0 ? value * 2 : value / 2;
    default:
      return random() >> below(random, 64);
  }
}

void change_number(std::span<std::byte> field, Random& random) {
  std::uint64_t value = 0;
  std::memcpy(&value, field.data(), field.size());
  value = changed(value, field.size(), random);
  std::memcpy(field.data(), &value, field.size());
}

void change_field(std::span<std::byte> part, Fields fields, Random& random, const ByteMutator& mutate_bytes) {
  const std::size_t chosen = below(random, fields.size());
  std::size_t at = 0;
  for (std::size_t i = 0; i < chosen; ++i) at += fields[i];
  const std::span<std::byte> field = part.subspan(at, fields[chosen]);
  if (field.size() <= sizeof(std::uint64_t)) {
    change_number(field, random);
  } else {
    mutate_bytes(field);
  }
}

// Values that floats, scales and positions find special, over a stretch of a block.
void fill(std::span<std::byte> part, Random& random) {
  const std::size_t begin = below(random, part.size());
  const std::size_t size = 1 + below(random, std::min<std::size_t>(part.size() - begin, 64));
  const std::uint64_t pattern = kValues[below(random, kValues.size())];
  for (std::size_t i = 0; i < size; ++i) part[begin + i] = static_cast<std::byte>(pattern >> (8 * (i % 8)) & 0xFF);
}

std::span<std::byte> bytes_of_part(std::span<std::byte> file, const FilePart& part) {
  return file.subspan(part.begin, part.size());
}

void copy_or_swap(std::span<std::byte> to, std::span<std::byte> from, bool swap) {
  const std::size_t size = std::min(to.size(), from.size());
  if (!swap) {
    std::memmove(to.data(), from.data(), size);
  } else if (to.data() + size <= from.data() || from.data() + size <= to.data()) {
    std::swap_ranges(to.begin(), to.begin() + static_cast<std::ptrdiff_t>(size), from.begin());
  }
}

std::vector<FilePart> parts_of_kind(const Layout& layout, PartKind kind) {
  std::vector<FilePart> parts;
  for (const FilePart& part : layout.parts) {
    if (part.kind == kind) parts.push_back(part);
  }
  return parts;
}

// Every kind that occurs is as likely as any other, however many parts it has.
FilePart choose(const Layout& layout, Random& random) {
  std::vector<PartKind> kinds;
  for (const FilePart& part : layout.parts) {
    if (std::find(kinds.begin(), kinds.end(), part.kind) == kinds.end()) kinds.push_back(part.kind);
  }
  const auto parts = parts_of_kind(layout, kinds[below(random, kinds.size())]);
  return parts[below(random, parts.size())];
}

}  // namespace

ByteMutator byte_mutator(Random& random) {
  return [&random](std::span<std::byte> bytes) {
    const std::size_t at = below(random, bytes.size());
    switch (below(random, 4)) {
      case 0:
        bytes[at] ^= std::byte{1} << below(random, 8);
        break;
      case 1:
        bytes[at] = static_cast<std::byte>(random() & 0xFF);
        break;
      case 2:
        std::swap(bytes[at], bytes[below(random, bytes.size())]);
        break;
      default:
        fill(bytes, random);
    }
  };
}

void mutate(std::span<std::byte> file, Random& random, const ByteMutator& mutate_bytes) {
  if (file.empty()) return;
  const Layout layout = layout_of(file);
  if (layout.parts.empty() || below(random, 32) == 0) return mutate_bytes(file);
  const FilePart part = choose(layout, random);
  const std::span<std::byte> bytes = bytes_of_part(file, part);
  const auto twins = parts_of_kind(layout, part.kind);
  const Fields fields = fields_of(part.kind);
  switch (below(random, 8)) {
    case 0:
      return copy_or_swap(bytes, bytes_of_part(file, twins[below(random, twins.size())]), below(random, 2) == 0);
    case 1:
      return mutate_bytes(bytes);
    case 2:
      return fill(bytes, random);
    default:
      return fields.empty() ? mutate_bytes(bytes) : change_field(bytes, fields, random, mutate_bytes);
  }
}

void splice(std::span<std::byte> file, std::span<const std::byte> other, Random& random) {
  const Layout from = layout_of(other);
  const Layout to = layout_of(file);
  if (from.parts.empty() || to.parts.empty()) return;
  const FilePart part = choose(to, random);
  const auto twins = parts_of_kind(from, part.kind);
  if (twins.empty()) return;
  const FilePart& twin = twins[below(random, twins.size())];
  std::memcpy(file.data() + part.begin, other.data() + twin.begin, std::min(part.size(), twin.size()));
}

}  // namespace cdna::fuzz
