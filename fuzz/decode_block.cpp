// Fuzz target: any stored bytes given to a block decoder. Byte 0 chooses the codec, and in one of four whether a new
// decoder is compared with the one of all runs before; bytes 1 to 3 are the decoded length less one.
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

std::string outcome(BlockDecoder& decoder, Codec codec, std::span<const std::byte> stored, Guarded& guarded) {
  const auto result = decoder.decode(codec, stored, guarded.out());
  require(guarded.intact(), "a decoder writes into its output only");
  if (result) return "";
  require(result.error().code == Code::malformed, "a block that does not decode is malformed");
  return result.error().rule;
}

// A block that decodes to N bytes does not decode to N - 1 or N + 1.
void check_other_lengths(BlockDecoder& decoder, Codec codec, std::span<const std::byte> stored, std::size_t size) {
  for (const std::size_t other : {size - 1, size + 1}) {
    Guarded guarded(other, kGuard);
    if (other != 0) require(!outcome(decoder, codec, stored, guarded).empty(), "a block has one decoded length");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static BlockDecoder old;  // Has seen all inputs before this one.
  if (size <= kPrefixBytes) return 0;
  std::uint32_t prefix = 0;
  std::memcpy(&prefix, data, sizeof prefix);
  const Codec codec = prefix % 2 == 0 ? Codec::brotli : Codec::zstd;
  const std::size_t decoded_length = 1 + (prefix >> 8) % (kDecodedBytesEnd - 1);
  // A copy of its own, so that a byte read beyond the end is seen.
  const auto rest = std::as_bytes(std::span(data, size).subspan(kPrefixBytes));
  const Bytes stored(rest.begin(), rest.end());

  Guarded first(decoded_length, std::byte{0x00});
  Guarded second(decoded_length, std::byte{0xFF});
  const bool compare = (prefix >> 1 & 3U) == 0;
  const std::string rule =
      compare ? outcome(*std::make_unique<BlockDecoder>(), codec, stored, first) : outcome(old, codec, stored, first);
  require(rule == outcome(old, codec, stored, second), "a used decoder decides as a new one");
  const char family = codec == Codec::zstd ? '1' : '3';
  require(rule.empty() || (rule.size() == 2 && rule[0] == 'C' && (rule[1] == family || rule[1] == family + 1)),
          "a refusal names a rule of the codec");
  if (!rule.empty()) return 0;
  require(first.memory == second.memory, "every byte is written, by a used decoder as by a new one");
  check_other_lengths(old, codec, stored, decoded_length);
  return 0;
}
