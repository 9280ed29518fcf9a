// Feeds zlib from a source, piece by piece.
#include "libcdna/import/inflate.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <string>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kInputBytes = 65536;
constexpr std::size_t kFirstBytes = std::size_t{1} << 20;
constexpr int kWindowBits = 15;

}  // namespace

struct Inflater::State {
  const Source* source = nullptr;
  std::uint64_t at = 0;    // Of the next byte to be read.
  std::uint64_t left = 0;  // Bytes to be read.
  bool has_ended = false;
  z_stream stream{};
  std::array<std::byte, kInputBytes> input;

  Error broken(const std::string& what) const {
    return fail(Code::malformed, "", "the compressed data are damaged: " + what, at - stream.avail_in);
  }

  Result<void> fill() {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, input.size()));
    if (size == 0) return broken("they end too early");
    CDNA_TRY(source->read_at(at, std::span(input).first(size)));
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(size);
    at += size;
    left -= size;
    return {};
  }

  Result<void> step() {
    if (stream.avail_in == 0) CDNA_TRY(fill());
    const int status = ::inflate(&stream, Z_NO_FLUSH);
    CDNA_CHECK(status != Z_MEM_ERROR, Code::no_memory, "", "out of memory");
    has_ended = status == Z_STREAM_END;
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
      return broken(stream.msg == nullptr ? "zlib refuses them" : stream.msg);
    if (has_ended && (left > 0 || stream.avail_in > 0)) return broken("bytes follow their end");
    return {};
  }
};

Inflater::Inflater(const Source& source, std::uint64_t begin, std::uint64_t stored_bytes, Format format)
    : state_(std::make_unique<State>()) {
  state_->source = &source;
  state_->at = begin;
  state_->left = stored_bytes;
  if (inflateInit2(&state_->stream, format == Format::raw ? -kWindowBits : kWindowBits) != Z_OK) throw std::bad_alloc();
}

Inflater::~Inflater() { inflateEnd(&state_->stream); }

Result<std::size_t> Inflater::read(std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size() && !state_->has_ended) {
    const std::size_t most = std::min<std::size_t>(out.size() - done, std::numeric_limits<uInt>::max());
    state_->stream.next_out = reinterpret_cast<Bytef*>(out.data() + done);
    state_->stream.avail_out = static_cast<uInt>(most);
    CDNA_TRY(state_->step());
    done += most - state_->stream.avail_out;
  }
  return done;
}

Result<std::vector<std::byte>> inflate(Inflater& inflater, std::uint64_t size_min, std::uint64_t size_max) {
  std::vector<std::byte> out;
  // One byte more than allowed is asked for: that the stream ends is part of what is checked.
  for (std::uint64_t room = std::min<std::uint64_t>(kFirstBytes, size_max + 1);;
       room = std::min(2 * room, size_max + 1)) {
    const std::size_t begin = out.size();
    out.resize(room);
    const std::size_t got = CDNA_TRY(inflater.read(std::span(out).subspan(begin)));
    out.resize(begin + got);
    CDNA_CHECK(out.size() <= size_max, Code::malformed, "",
               "the compressed data hold more than the " + std::to_string(size_max) + " bytes that are stated");
    if (out.size() < room) break;
  }
  CDNA_CHECK(out.size() >= size_min, Code::malformed, "",
             "the compressed data hold " + std::to_string(out.size()) + " bytes, where " + std::to_string(size_min) +
                 " are stated");
  return out;
}

}  // namespace cdna
