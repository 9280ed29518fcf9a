// The structs that flatc generates from spec/cdna.fbs, and the constants of the layout around them.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpedantic"
#include "cdna_generated.h"
#pragma GCC diagnostic pop

#include "cdna/digest.hpp"

namespace cdna {

// Elements of the footer's vectors are used in place (footer.hpp); on a big-endian host they would need swapping.
static_assert(std::endian::native == std::endian::little);

__extension__ typedef unsigned __int128 u128;

inline constexpr std::size_t kHeadBytes = sizeof(wire::Head);
inline constexpr std::size_t kTailBytes = sizeof(wire::Tail);
inline constexpr std::size_t kFooterBytesMin = 88;                            // spec/format.md, section 6.
inline constexpr std::uint64_t kFileBytesMin = 448;                           // Section 22.
inline constexpr std::uint64_t kFooterBytesHardMax = std::uint64_t{1} << 30;  // Section 3.
inline constexpr std::uint64_t kItemsHardMax = std::uint64_t{1} << 24;
inline constexpr std::uint64_t kElementsEnd = std::uint64_t{1} << 60;
inline constexpr std::uint64_t kPlaneBytesEnd = std::uint64_t{1} << 63;
inline constexpr std::uint32_t kBlockBytesMax = std::uint32_t{1} << 24;
inline constexpr std::uint32_t kStoredBytesMax = std::uint32_t{1} << 25;
inline constexpr std::uint64_t kCutEntries = std::uint64_t{1} << 20;       // Section 8.2.
inline constexpr std::uint64_t kLowRankMax = 1024;                         // E7, as the next.
inline constexpr std::uint64_t kWholeEntriesMax = std::uint64_t{1} << 26;  // Of right and column_scale.
inline constexpr std::uint64_t kMetadataBytesMax = std::uint64_t{1} << 26;
inline constexpr std::uint32_t kVersion = 3;
inline constexpr std::uint8_t kHashSuite = 1;
inline constexpr std::uint64_t kPacketAlignment = 64;
inline constexpr std::uint64_t kBigPlaneFactor = 256;  // Section 7.2.
inline constexpr std::uint64_t kRequiredFeaturesKnown = 0;
inline constexpr std::uint64_t kOptionalNonfinite = 1;  // Section 15.
inline constexpr std::uint32_t kRecordBytesMax = 4096;  // Section 18.

inline constexpr std::array<std::uint8_t, 8> kHeadMagic{0xCD, 'C', 'D', 'N', 'A', 0x0D, 0x0A, 0x1A};
inline constexpr std::array<std::uint8_t, 8> kTailMagic{0xCD, 'C', 'D', 'N', '3', 'E', 'N', 'D'};
inline constexpr std::array<std::uint8_t, 8> kRecordMagic{0xCD, 'C', 'D', 'N', '3', 'R', 'E', 'C'};
inline constexpr std::array<std::uint8_t, 16> kRootTag{'C', 'D', 'N', 'A', '3', ' ', 'r', 'o', 'o', 't', ' ', 'v', '1'};

enum KindId : std::uint16_t { kTensor = 0, kAsset = 1, kMetadata = 2, kAlias = 3, kIgnorableKind = 0x8000 };
enum PlaneRole : std::uint16_t {
  kData = 1,
  kCodes = 2,
  kCodebook = 3,
  kRowScale = 4,
  kGroupScale = 5,
  kScaleTable = 6,
  kOutliers = 7,
  kGroupOffset = 8,
  kLowRankLeft = 14,
  kLowRankFactors = 15,
  kLowRankRight = 16,
  kColumnScale = 17,
  kIgnorableRole = 0x8000,
  kPwl = kIgnorableRole | 18,
  kAffine = kIgnorableRole | 19,
  kStatistics = kIgnorableRole | 20,
};
enum PlaneScope : std::uint8_t { kWhole = 0, kRows = 1, kPerBlock = 2 };
enum PlaneLayout : std::uint8_t { kContiguous = 0, kPacked = 1 };

// Requires: alignment is a power of two and the result fits.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return {reinterpret_cast<const std::byte*>(&value), sizeof value};
}

// A struct read from unaligned bytes. Requires: bytes.size() >= sizeof(T).
template <class T>
T load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(static_cast<void*>(&value), bytes.data(), sizeof value);
  return value;
}

template <std::uint16_t N>
std::span<const std::byte> bytes_in(const flatbuffers::Array<std::uint8_t, N>* field) {
  return {reinterpret_cast<const std::byte*>(field->Data()), N};
}

inline Digest digest_in(const flatbuffers::Array<std::uint8_t, 32>* field) {
  Digest digest;
  std::memcpy(digest.data(), field->Data(), digest.size());
  return digest;
}

// Fills a field of a struct. `bytes` is as long as the field.
template <std::uint16_t N, class Bytes>
void set_bytes(flatbuffers::Array<std::uint8_t, N>* field, const Bytes& bytes) {
  static_assert(sizeof(bytes[0]) == 1);
  std::memcpy(field->data(), bytes.data(), N);
}

template <std::uint16_t N, std::size_t M>
bool equals(const flatbuffers::Array<std::uint8_t, N>* field, const std::array<std::uint8_t, M>& value) {
  static_assert(N == M);
  return std::memcmp(field->Data(), value.data(), N) == 0;
}

inline bool all_zero(std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    if (byte != std::byte{0}) return false;
  }
  return true;
}

inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace cdna
