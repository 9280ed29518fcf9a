// The three libraries, each asked for exactly the stated bytes.
#include "libcdna/import/helix/hxz2_block.hpp"

#include <brotli/decode.h>
#include <lz4frame.h>
#include <zstd.h>

#include <memory>
#include <new>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

Error damaged(std::string what) { return fail(Code::malformed, "", std::move(what)); }

Error other_length(std::size_t size) {
  return damaged("the block does not decompress to the " + std::to_string(size) + " bytes that its index states");
}

Result<void> decode_brotli(std::span<const std::byte> stored, std::span<std::byte> out) {
  const std::unique_ptr<BrotliDecoderState, void (*)(BrotliDecoderState*)> state(
      BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), BrotliDecoderDestroyInstance);
  if (state == nullptr) throw std::bad_alloc();
  std::size_t in_left = stored.size();
  std::size_t out_left = out.size();
  const auto* in = reinterpret_cast<const std::uint8_t*>(stored.data());
  auto* to = reinterpret_cast<std::uint8_t*>(out.data());
  const BrotliDecoderResult result = BrotliDecoderDecompressStream(state.get(), &in_left, &in, &out_left, &to, nullptr);
  if (result == BROTLI_DECODER_RESULT_ERROR) {
    return damaged(std::string("brotli refuses the block: ") +
                   BrotliDecoderErrorString(BrotliDecoderGetErrorCode(state.get())));
  }
  if (result == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT) return damaged("the block's brotli stream is cut off");
  if (result != BROTLI_DECODER_RESULT_SUCCESS || out_left > 0) return other_length(out.size());
  if (in_left > 0) return damaged("bytes follow the block's brotli stream");
  return {};
}

Result<void> decode_zstd(std::span<const std::byte> stored, std::span<std::byte> out) {
  // The original's writer states the length in each frame; its reader needs it.
  if (ZSTD_findFrameCompressedSize(stored.data(), stored.size()) != stored.size())
    return damaged("the block is not one whole zstd frame");
  if (ZSTD_getFrameContentSize(stored.data(), stored.size()) != out.size()) return other_length(out.size());
  const std::size_t size = ZSTD_decompress(out.data(), out.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) != 0) return damaged(std::string("zstd refuses the block: ") + ZSTD_getErrorName(size));
  if (size != out.size()) return other_length(out.size());
  return {};
}

Result<void> decode_lz4(std::span<const std::byte> stored, std::span<std::byte> out) {
  LZ4F_dctx* made = nullptr;
  if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION)) != 0) throw std::bad_alloc();
  const std::unique_ptr<LZ4F_dctx, LZ4F_errorCode_t (*)(LZ4F_dctx*)> context(made, LZ4F_freeDecompressionContext);
  std::size_t in_done = 0;
  std::size_t out_done = 0;
  for (std::size_t hint = 1; hint != 0;) {
    std::size_t in_size = stored.size() - in_done;
    std::size_t out_size = out.size() - out_done;
    hint = LZ4F_decompress(context.get(), out.data() + out_done, &out_size, stored.data() + in_done, &in_size, nullptr);
    if (LZ4F_isError(hint) != 0) return damaged(std::string("lz4 refuses the block: ") + LZ4F_getErrorName(hint));
    in_done += in_size;
    out_done += out_size;
    if (hint == 0 || in_size > 0 || out_size > 0) continue;
    return in_done == stored.size() ? damaged("the block's lz4 frame is cut off") : other_length(out.size());
  }
  if (out_done != out.size()) return other_length(out.size());
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

Result<void> decode_hxz2_block(Hxz2Codec codec, std::span<const std::byte> stored, std::span<std::byte> out) {
  if (codec == Hxz2Codec::brotli) return decode_brotli(stored, out);
  return codec == Hxz2Codec::zstd ? decode_zstd(stored, out) : decode_lz4(stored, out);
}

}  // namespace cdna
