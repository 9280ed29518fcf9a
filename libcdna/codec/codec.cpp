// Names of the codecs, and the choice between them per block.
#include "libcdna/codec/codec.hpp"

#include "libcdna/codec/brotli_codec.hpp"
#include "libcdna/try.hpp"

namespace cdna {

std::string_view name_of(Codec codec) {
  switch (codec) {
    case Codec::raw:
      return "raw";
    case Codec::zstd:
      return "zstd";
    case Codec::brotli:
      return "brotli";
  }
  return "unknown";
}

std::optional<Codec> codec_of(std::string_view name) {
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli}) {
    if (name_of(codec) == name) return codec;
  }
  return std::nullopt;
}

struct BlockDecoder::Contexts {
  ZstdDecoder zstd;
  BrotliHeap brotli;
};

BlockDecoder::BlockDecoder() : contexts_(std::make_unique<Contexts>()) {}
BlockDecoder::~BlockDecoder() = default;
BlockDecoder::BlockDecoder(BlockDecoder&&) noexcept = default;
BlockDecoder& BlockDecoder::operator=(BlockDecoder&&) noexcept = default;

Result<void> BlockDecoder::decode(Codec codec, std::span<const std::byte> stored, std::span<std::byte> out) {
  switch (codec) {
    case Codec::zstd:
      return contexts_->zstd.decode(stored, out);
    case Codec::brotli:
      return decode_brotli(contexts_->brotli, stored, out);
    case Codec::raw:
      break;
  }
  return fail(Code::bad_argument, "", "raw blocks are not decoded");
}

bool BlockEncoder::compress(Codec codec, std::span<const std::byte> decoded, std::vector<std::byte>& out) {
  if (decoded.empty() || codec == Codec::raw) return false;
  const bool done = codec == Codec::zstd ? zstd_.encode(decoded, out) : encode_brotli(decoded, out);
  return done && out.size() * 100 <= decoded.size() * 97;
}

}  // namespace cdna
