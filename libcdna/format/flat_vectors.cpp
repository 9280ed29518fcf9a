// Writer and checker of the fixed FlatBuffers layout.
#include "libcdna/format/flat_vectors.hpp"

#include <cstring>

#include "libcdna/format/wire.hpp"

namespace cdna {
namespace {

// Bytes before the first count: root offset, identifier, padding, vtable, table.
struct Prefix {
  std::size_t fields;
  std::size_t vtable_offset() const { return table_offset() - vtable_bytes(); }
  std::size_t vtable_bytes() const { return 4 + 2 * fields; }
  std::size_t table_bytes() const { return 4 + 4 * fields; }
  std::size_t table_offset() const { return align_up(8 + vtable_bytes(), 8); }
  std::size_t field_offset(std::size_t i) const { return table_offset() + 4 + 4 * i; }
  std::size_t end() const { return table_offset() + table_bytes(); }
};

template <class T>
void put(std::vector<std::byte>& out, std::size_t at, T value) {
  std::memcpy(out.data() + at, &value, sizeof value);
}

// The count stands at the first place from which elements are aligned to 8.
std::uint64_t count_offset_after(std::uint64_t position) { return align_up(position + 4, 8) - 4; }

std::vector<std::byte> fixed_bytes(const FlatLayout& layout, const Prefix& prefix) {
  std::vector<std::byte> out(prefix.table_offset() + 4);
  put(out, 0, static_cast<std::uint32_t>(prefix.table_offset()));
  std::memcpy(out.data() + 4, layout.identifier.data(), 4);
  put(out, prefix.vtable_offset(), static_cast<std::uint16_t>(prefix.vtable_bytes()));
  put(out, prefix.vtable_offset() + 2, static_cast<std::uint16_t>(prefix.table_bytes()));
  for (std::size_t i = 0; i < prefix.fields; ++i) {
    put(out, prefix.vtable_offset() + 4 + 2 * i, static_cast<std::uint16_t>(4 + 4 * i));
  }
  put(out, prefix.table_offset(), static_cast<std::int32_t>(prefix.table_offset() - prefix.vtable_offset()));
  return out;
}

}  // namespace

FlatVectors parse_flat(const FlatLayout& layout, std::span<const std::byte> bytes) {
  const Prefix prefix{layout.element_bytes.size()};
  FlatVectors result;
  const auto fault = [&result](FlatFault kind, std::uint64_t offset) {
    result.fault = kind;
    result.fault_offset = offset;
    return result;
  };
  const std::vector<std::byte> expected = fixed_bytes(layout, prefix);
  if (bytes.size() < expected.size() || std::memcmp(bytes.data(), expected.data(), expected.size()) != 0) {
    return fault(FlatFault::prefix, 0);
  }
  std::uint64_t position = prefix.end();
  if (position > bytes.size()) return fault(FlatFault::vectors, bytes.size());
  for (std::size_t i = 0; i < prefix.fields; ++i) {
    const std::uint64_t count_offset = count_offset_after(position);
    if (count_offset + 4 > bytes.size()) return fault(FlatFault::vectors, position);
    const std::uint64_t field = prefix.field_offset(i);
    if (load<std::uint32_t>(bytes.subspan(field)) != count_offset - field) return fault(FlatFault::vectors, field);
    if (!all_zero(bytes.subspan(position, count_offset - position))) return fault(FlatFault::vectors, position);
    const std::uint64_t count = load<std::uint32_t>(bytes.subspan(count_offset));
    const std::uint64_t offset = count_offset + 4;
    if (count * layout.element_bytes[i] > bytes.size() - offset) return fault(FlatFault::vectors, count_offset);
    result.vectors[i] = {offset, count};
    position = offset + count * layout.element_bytes[i];
  }
  if (align_up(position, 8) != bytes.size()) return fault(FlatFault::vectors, position);
  if (!all_zero(bytes.subspan(position))) return fault(FlatFault::vectors, position);
  return result;
}

std::vector<std::byte> append_flat(const FlatLayout& layout, std::span<const std::span<const std::byte>> contents) {
  const Prefix prefix{layout.element_bytes.size()};
  std::vector<std::byte> out = fixed_bytes(layout, prefix);
  out.resize(prefix.end());
  for (std::size_t i = 0; i < prefix.fields; ++i) {
    const std::uint64_t count_offset = count_offset_after(out.size());
    put(out, prefix.field_offset(i), static_cast<std::uint32_t>(count_offset - prefix.field_offset(i)));
    out.resize(count_offset + 4);
    put(out, count_offset, static_cast<std::uint32_t>(contents[i].size() / layout.element_bytes[i]));
    out.insert(out.end(), contents[i].begin(), contents[i].end());
  }
  out.resize(align_up(out.size(), 8));
  return out;
}

}  // namespace cdna
