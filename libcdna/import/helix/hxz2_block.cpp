// The three libraries, each asked for exactly the stated bytes.
#include "libcdna/import/helix/hxz2_block.hpp"

#include <brotli/decode.h>
#include <lz4frame.h>
#include <zstd.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

Error damaged(std::string what) { return fail(Code::malformed, "", std::move(what)); }

Error other_length(std::uint64_t size) {
  return damaged("the block does not decompress to the " + std::to_string(size) + " bytes that its index states");
}

// Room at the end of a vector that grows with what is put there, up to a size.
class Room {
 public:
  Room(std::vector<std::byte>& bytes, std::uint64_t size) : bytes_(bytes), used_(bytes.size()), end_(used_ + size) {}

  bool is_full() const { return used_ == end_; }
  std::uint64_t size() const { return end_ - begin_; }

  // Not empty unless it is full.
  std::span<std::byte> rest() {
    const std::uint64_t more = std::max<std::uint64_t>(kFirstBytes, used_ - begin_);
    if (used_ == bytes_.size()) bytes_.resize(std::min(end_, used_ + more));
    return std::span(bytes_).subspan(used_);
  }
  void use(std::size_t count) { used_ += count; }

 private:
  static constexpr std::uint64_t kFirstBytes = std::uint64_t{1} << 20;
  std::vector<std::byte>& bytes_;
  std::uint64_t begin_ = bytes_.size();
  std::uint64_t used_;
  std::uint64_t end_;
};

Result<void> decode_brotli(std::span<const std::byte> stored, Room& room) {
  const std::unique_ptr<BrotliDecoderState, void (*)(BrotliDecoderState*)> state(
      BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), BrotliDecoderDestroyInstance);
  if (state == nullptr) throw std::bad_alloc();
  std::size_t in_left = stored.size();
  const auto* in = reinterpret_cast<const std::uint8_t*>(stored.data());
  BrotliDecoderResult result = BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT;
  while (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT) {
    const std::span<std::byte> rest = room.rest();
    std::size_t out_left = rest.size();
    auto* to = reinterpret_cast<std::uint8_t*>(rest.data());
    result = BrotliDecoderDecompressStream(state.get(), &in_left, &in, &out_left, &to, nullptr);
    room.use(rest.size() - out_left);
    if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT && rest.empty()) return other_length(room.size());
  }
  if (result == BROTLI_DECODER_RESULT_ERROR) {
    return damaged(std::string("brotli refuses the block: ") +
                   BrotliDecoderErrorString(BrotliDecoderGetErrorCode(state.get())));
  }
  if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT) return damaged("the block's brotli stream is cut off");
  if (!room.is_full()) return other_length(room.size());
  if (in_left > 0) return damaged("bytes follow the block's brotli stream");
  return {};
}

Result<void> decode_zstd(std::span<const std::byte> stored, std::uint64_t size, std::vector<std::byte>& out) {
  constexpr std::uint64_t kRatioMax = 32768;  // A block of 128 KiB takes 4 bytes or more (RFC 8878, 3.1.1.2).
  // The original's writer states the length in each frame; its reader needs it.
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    return damaged("the block is not one whole zstd frame");
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != size || size / kRatioMax > stored.size())
    return other_length(size);
  const std::size_t begin = out.size();
  out.resize(begin + size);
  const std::size_t got = ZSTD_decompress(out.data() + begin, size, stored.data(), stored.size());
  if (ZSTD_isError(got) != 0) return damaged(std::string("zstd refuses the block: ") + ZSTD_getErrorName(got));
  if (got != size) return other_length(size);
  return {};
}

Result<void> decode_lz4(std::span<const std::byte> stored, Room& room) {
  LZ4F_dctx* made = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION)) != 0) throw std::bad_alloc();
  const std::unique_ptr<LZ4F_dctx, LZ4F_errorCode_t (*)(LZ4F_dctx*)> context(made, LZ4F_freeDecompressionContext);
  std::size_t in_done = 0;
  for (std::size_t hint = 1; hint != 0;) {
    const std::span<std::byte> rest = room.rest();
    std::size_t in_size = stored.size() - in_done;
    std::size_t out_size = rest.size();
    hint = LZ4F_decompress(context.get(), rest.data(), &out_size, stored.data() + in_done, &in_size, nullptr);
    if (LZ4F_isError(hint) != 0) return damaged(std::string("lz4 refuses the block: ") + LZ4F_getErrorName(hint));
    in_done += in_size;
    room.use(out_size);
    if (hint == 0 || in_size > 0 || out_size > 0) continue;
    return in_done == stored.size() ? damaged("the block's lz4 frame is cut off") : other_length(room.size());
  }
  if (!room.is_full()) return other_length(room.size());
  if (in_done != stored.size()) return damaged("bytes follow the block's lz4 frame");
  return {};
}

}  // namespace

std::optional<Hxz2Codec> parse_hxz2_codec(std::string_view name) {
  if (name == "brotli") return Hxz2Codec::brotli;
  if (name == "zstd") return Hxz2Codec::zstd;
  if (name == "lz4") return Hxz2Codec::lz4;
  return std::nullopt;
}

Result<void> decode_hxz2_block(Hxz2Codec codec, std::span<const std::byte> stored, std::uint64_t size,
                               std::vector<std::byte>& out) {
  if (codec == Hxz2Codec::zstd) return decode_zstd(stored, size, out);
  Room room(out, size);
  return codec == Hxz2Codec::brotli ? decode_brotli(stored, room) : decode_lz4(stored, room);
}

}  // namespace cdna
