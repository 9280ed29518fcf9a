// Rules C1 and C2. The frame header is parsed here: zstd's own parser is not part of its stable interface.
#include "libcdna/codec/zstd_codec.hpp"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cstdint>
#include <new>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr int kLevel = 3;  // Higher levels gain under 1 % on weights and cost 5x the time (design study, formats A.3).
// Exponents of weights have matches of a few bytes everywhere, all of them dearer than the Huffman codes of what they
// replace: with the smallest table of level 1, which finds little but runs, a plane of BF16 weights takes 0.326 of its
// bytes (its entropy is 0.325), with the level's own table 0.359, and both directions are twice as fast (Zen 4).
constexpr int kExponentLevel = 1;
constexpr int kExponentHashLog = 6;
constexpr std::uint32_t kMagic = 0xFD2FB528;
constexpr std::uint64_t kWindowFloor = 1024;  // zstd's smallest window.
// Decode into the caller's buffer, without a window of its own. zstd.h names it only for static linking:
// ZSTD_d_stableOutBuffer.
constexpr ZSTD_dParameter kStableOutBuffer = ZSTD_d_experimentalParam2;

std::uint64_t little_endian(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

// Length of the frame header if it obeys C1, else 0. RFC 8878, 3.1.1.1: magic 4, descriptor 1, window descriptor 0 or
// 1, content size 1, 2, 4 or 8 (no dictionary id here).
std::size_t header_bytes_by_c1(std::span<const std::byte> frame, std::uint64_t decoded_length) {
  if (frame.size() < 6 || little_endian(frame.first(4)) != kMagic) return 0;
  const auto descriptor = std::to_integer<unsigned>(frame[4]);
  const unsigned size_flag = descriptor >> 6;
  const bool single_segment = (descriptor & 0x20) != 0;
  if ((descriptor & 0x1F) != 0) return 0;           // Bits 4 and 3, checksum, dictionary id.
  if (size_flag == 0 && !single_segment) return 0;  // No content size.
  const std::size_t size_bytes = std::size_t{1} << size_flag;
  const std::size_t window_bytes = single_segment ? 0 : 1;
  const std::size_t header_bytes = 5 + window_bytes + size_bytes;
  if (frame.size() < header_bytes) return 0;
  const std::uint64_t content = little_endian(frame.subspan(5 + window_bytes, size_bytes)) + (size_flag == 1 ? 256 : 0);
  if (content != decoded_length) return 0;
  if (single_segment) return header_bytes;
  const auto exponent = std::to_integer<unsigned>(frame[5]) >> 3;
  const auto mantissa = std::to_integer<std::uint64_t>(frame[5]) & 7;
  const std::uint64_t base = std::uint64_t{1} << (10 + exponent);
  return base + base / 8 * mantissa <= std::max(kWindowFloor, decoded_length) ? header_bytes : 0;
}

bool is_out_of_memory(std::size_t result) { return ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation; }

}  // namespace

void ZstdDecoder::Free::operator()(ZSTD_DCtx_s* context) const { ZSTD_freeDCtx(context); }

Result<void> ZstdDecoder::decode(std::span<const std::byte> stored, std::span<std::byte> out) {
  const std::size_t header_bytes = header_bytes_by_c1(stored, out.size());
  CDNA_CHECK(header_bytes != 0, Code::malformed, "C1", "the zstd frame header is not one that the format allows");
  if (context_ == nullptr) {
    context_.reset(ZSTD_createDCtx());
    CDNA_CHECK(context_ != nullptr, Code::no_memory, "", "no memory for a zstd context");
    ZSTD_DCtx_setParameter(context_.get(), kStableOutBuffer, 1);
  }
  // Header first, then the rest: given a whole frame at once zstd takes a path that does not check Block_Maximum_Size,
  // and which blocks that lets through differs between its versions.
  ZSTD_DCtx_reset(context_.get(), ZSTD_reset_session_only);
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  std::size_t left = 1;
  for (const std::size_t end : {header_bytes, stored.size()}) {
    ZSTD_inBuffer from{stored.data(), end, end == header_bytes ? 0 : header_bytes};
    left = ZSTD_decompressStream(context_.get(), &to, &from);
    CDNA_CHECK(!is_out_of_memory(left), Code::no_memory, "", "no memory to decode a zstd block");
    CDNA_CHECK(ZSTD_isError(left) == 0 && from.pos == end, Code::malformed, "C2",
               "the block is not exactly one zstd frame");
  }
  CDNA_CHECK(left == 0 && to.pos == out.size(), Code::malformed, "C2", "the zstd frame does not decode to the block");
  return {};
}

void ZstdEncoder::Free::operator()(ZSTD_CCtx_s* context) const { ZSTD_freeCCtx(context); }

void ZstdEncoder::create_context() {
  context_.reset(ZSTD_createCCtx());
  if (context_ == nullptr) throw std::bad_alloc();
  const bool exponents = content_ == Content::exponents;
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, exponents ? kExponentLevel : kLevel);
  if (exponents) ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_hashLog, kExponentHashLog);
  // With the size known and a single pass, zstd writes a single-segment frame: window = content size, as C1 wants.
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_contentSizeFlag, 1);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_checksumFlag, 0);
  ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_dictIDFlag, 0);
}

bool ZstdEncoder::encode(std::span<const std::byte> decoded, std::vector<std::byte>& out) {
  if (context_ == nullptr) create_context();
  const std::size_t begin = out.size();
  const std::size_t bound = ZSTD_compressBound(decoded.size());
  out.resize(begin + bound);
  const std::size_t size = ZSTD_compress2(context_.get(), out.data() + begin, bound, decoded.data(), decoded.size());
  if (is_out_of_memory(size)) throw std::bad_alloc();
  if (ZSTD_isError(size) != 0) return false;
  out.resize(begin + size);
  return header_bytes_by_c1(std::span(out).subspan(begin), decoded.size()) != 0;
}

}  // namespace cdna
