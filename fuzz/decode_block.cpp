// Fuzz target: any stored bytes given to a block decoder. Byte 0 chooses the codec (bit 0), in one of four whether a
// new decoder is compared with the one of all runs before (bits 1, 2), and whether and how zstd is under byte planes
// (bits 3, 4: none, elements of 2, 4, 8 bytes); bytes 1 to 3 are the decoded length less one, in elements.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/open_file.hpp"
#include "libcdna/codec/codec.hpp"

namespace {

using namespace cdna;
using fuzz::require;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kPrefixBytes = 4;
constexpr std::size_t kDecodedBytesEnd = std::size_t{1} << 18;
constexpr std::size_t kGuardBytes = 64;
constexpr std::byte kGuard{0xA5};

// The decoded bytes between guards that have to stay as they are.
struct Guarded {
  Guarded(std::size_t size, std::byte fill) : memory(size + 2 * kGuardBytes, kGuard) {
    std::fill_n(memory.begin() + kGuardBytes, size, fill);
  }
  std::span<std::byte> out() { return std::span(memory).subspan(kGuardBytes, memory.size() - 2 * kGuardBytes); }
  bool intact() const {
    const auto is_guard = [](std::byte byte) { return byte == kGuard; };
    return std::all_of(memory.begin(), memory.begin() + kGuardBytes, is_guard) &&
           std::all_of(memory.end() - kGuardBytes, memory.end(), is_guard);
  }
  Bytes memory;
};

std::string outcome(BlockDecoder& decoder, const BlockCoding& coding, std::span<const std::byte> stored,
                    Guarded& guarded) {
  const auto result = decoder.decode(coding, stored, guarded.out());
  require(guarded.intact(), "a decoder writes into its output only");
  if (result) return "";
  require(result.error().code == Code::malformed, "a block that does not decode is malformed");
  return result.error().rule;
}

// How bits 0, 3 and 4 of the input have the block stored.
BlockCoding coding_of(std::uint32_t prefix) {
  if (prefix % 2 == 0) return Codec::brotli;
  const unsigned planes = prefix >> 3 & 3U;
  return planes == 0 ? BlockCoding(Codec::zstd) : BlockCoding::byte_planes(std::size_t{1} << planes);
}

// Whether the lengths are those that X7 lets through to a decoder.
bool lengths_fit(const BlockCoding& coding, std::size_t stored_length, std::size_t decoded_length) {
  return coding.filter == Filter::none || stored_length > decoded_length - decoded_length / coding.element_bytes;
}

// A block that decodes to N elements does not decode to N - 1 or N + 1.
void check_other_lengths(BlockDecoder& decoder, const BlockCoding& coding, std::span<const std::byte> stored,
                         std::size_t size) {
  for (const std::size_t other : {size - coding.element_bytes, size + coding.element_bytes}) {
    if (other == 0 || !lengths_fit(coding, stored.size(), other)) continue;
    Guarded guarded(other, kGuard);
    require(!outcome(decoder, coding, stored, guarded).empty(), "a block has one decoded length");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static BlockDecoder old;  // Has seen all inputs before this one.
  if (size <= kPrefixBytes) return 0;
  std::uint32_t prefix = 0;
  std::memcpy(&prefix, data, sizeof prefix);
  const BlockCoding coding = coding_of(prefix);
  const std::size_t decoded_length =
      (1 + (prefix >> 8) % (kDecodedBytesEnd / coding.element_bytes - 1)) * coding.element_bytes;
  // A copy of its own, so that a byte read beyond the end is seen.
  const auto rest = std::as_bytes(std::span(data, size).subspan(kPrefixBytes));
  const Bytes stored(rest.begin(), rest.end());

  if (!lengths_fit(coding, stored.size(), decoded_length)) return 0;
  Guarded first(decoded_length, std::byte{0x00});
  Guarded second(decoded_length, std::byte{0xFF});
  const bool compare = (prefix >> 1 & 3U) == 0;
  const std::string rule =
      compare ? outcome(*std::make_unique<BlockDecoder>(), coding, stored, first) : outcome(old, coding, stored, first);
  require(rule == outcome(old, coding, stored, second), "a used decoder decides as a new one");
  const char family = coding.codec == Codec::zstd ? '1' : '3';
  require(rule.empty() || (rule.size() == 2 && rule[0] == 'C' && (rule[1] == family || rule[1] == family + 1)),
          "a refusal names a rule of the codec");
  if (!rule.empty()) return 0;
  require(first.memory == second.memory, "every byte is written, by a used decoder as by a new one");
  check_other_lengths(old, coding, stored, decoded_length);
  return 0;
}
