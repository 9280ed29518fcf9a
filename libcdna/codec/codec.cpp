// Names of the codecs, and the choice between them per block.
#include "libcdna/codec/codec.hpp"

#include "libcdna/codec/brotli_codec.hpp"
#include "libcdna/codec/byte_planes.hpp"
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

Result<void> BlockDecoder::decode(const BlockCoding& coding, std::span<const std::byte> stored,
                                  std::span<std::byte> out) {
  switch (coding.codec) {
    case Codec::zstd:
      if (coding.filter == Filter::byte_planes) return decode_byte_planes(coding.element_bytes, stored, out);
      return contexts_->zstd.decode(stored, out);
    case Codec::brotli:
      return decode_brotli(contexts_->brotli, stored, out);
    case Codec::raw:
      break;
  }
  return fail(Code::bad_argument, "", "raw blocks are not decoded");
}

// The last plane is decoded into the end of the output: joining from the front does not overtake it.
Result<void> BlockDecoder::decode_byte_planes(std::size_t element_bytes, std::span<const std::byte> stored,
                                              std::span<std::byte> out) {
  const std::size_t raw_bytes = out.size() - out.size() / element_bytes;
  const std::span<std::byte> last = out.subspan(raw_bytes);
  CDNA_TRY(contexts_->zstd.decode(stored.subspan(raw_bytes), last));
  join_byte_planes(isa(), element_bytes, stored.first(raw_bytes), last, out);
  return {};
}

bool BlockEncoder::compress(const BlockCoding& coding, std::span<const std::byte> decoded,
                            std::vector<std::byte>& out) {
  if (decoded.empty() || coding.codec == Codec::raw) return false;
  return encode(coding, decoded, out) && out.size() * 100 <= decoded.size() * 97;
}

bool BlockEncoder::encode(const BlockCoding& coding, std::span<const std::byte> decoded, std::vector<std::byte>& out) {
  out.clear();
  if (coding.codec == Codec::brotli) return encode_brotli(decoded, out);
  if (coding.filter == Filter::byte_planes) return encode_byte_planes(coding.element_bytes, decoded, out);
  return zstd_.encode(decoded, out);
}

bool BlockEncoder::encode_byte_planes(std::size_t element_bytes, std::span<const std::byte> decoded,
                                      std::vector<std::byte>& out) {
  last_plane_.resize(decoded.size() / element_bytes);
  out.resize(decoded.size() - last_plane_.size());
  split_byte_planes(isa(), element_bytes, decoded, out, last_plane_);
  return exponents_.encode(last_plane_, out);
}

}  // namespace cdna
