// Rules C3 and C4. A stream's window field bounds the decoder's memory, so it is read before the decoder is.
#include "libcdna/codec/brotli_codec.hpp"

#include <brotli/decode.h>
#include <brotli/encode.h>

#include <algorithm>
#include <bit>
#include <csetjmp>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint32_t kQuality =
    9;  // The best quality that still encodes above 5 MB/s; 11 does 0.5 (design study, formats A.3).
constexpr int kWindowFloor = 16;  // spec/format.md, C3.
constexpr std::size_t kFreeBlocksMax = 32;

// Each piece of memory is preceded by its capacity.
struct alignas(std::max_align_t) Header {
  std::size_t capacity;
};

Header* header_of(void* memory) { return static_cast<Header*>(memory) - 1; }

int window_bits_max(std::size_t decoded_length) {
  return std::max(kWindowFloor, static_cast<int>(std::bit_width(decoded_length - 1)));
}

// WBITS of the stream's first bits (RFC 7932, 9.1), or 0 for the large-window extension.
int window_bits_of(std::byte first) {
  const auto bits = std::to_integer<int>(first);
  if ((bits & 1) == 0) return 16;
  if ((bits >> 1 & 7) != 0) return 17 + (bits >> 1 & 7);
  const int low = bits >> 4 & 7;
  if (low == 0) return 17;
  return low == 1 ? 0 : 8 + low;
}

struct DestroyDecoder {
  void operator()(BrotliDecoderState* state) const { BrotliDecoderDestroyInstance(state); }
};

// All memory of one encoder. brotli ends the process when its allocator has none to give (as distributions build it:
// BROTLI_ENCODER_EXIT_ON_OOM), so the allocator leaves it by longjmp: brotli is C, with nothing to destroy on the way.
class EncoderMemory {
 public:
  EncoderMemory() = default;
  ~EncoderMemory() {
    while (all_.next != &all_) release(this, all_.next + 1);
  }
  EncoderMemory(const EncoderMemory&) = delete;
  EncoderMemory& operator=(const EncoderMemory&) = delete;

  static void* allocate(void* opaque, std::size_t size) {
    auto* const self = static_cast<EncoderMemory*>(opaque);
    auto* const piece = static_cast<Piece*>(std::malloc(sizeof(Piece) + size));
    if (piece == nullptr) std::longjmp(self->out_of_memory, 1);
    *piece = {self->all_.next, &self->all_};
    piece->next->previous = piece;
    self->all_.next = piece;
    return piece + 1;
  }

  static void release(void*, void* memory) {
    if (memory == nullptr) return;
    Piece* const piece = static_cast<Piece*>(memory) - 1;
    piece->previous->next = piece->next;
    piece->next->previous = piece->previous;
    std::free(piece);
  }

  std::jmp_buf out_of_memory;

 private:
  // Stands before each piece of memory: a ring.
  struct alignas(std::max_align_t) Piece {
    Piece* next;
    Piece* previous;
  };
  Piece all_{&all_, &all_};
};

// Length of the stream, 0 if brotli failed. Its state is left to `memory`. What BrotliEncoderCompress() does, which has
// no allocator.
std::size_t encode_stream(EncoderMemory& memory, std::span<const std::byte> decoded, std::span<std::byte> out) {
  BrotliEncoderState* const state =
      BrotliEncoderCreateInstance(EncoderMemory::allocate, EncoderMemory::release, &memory);
  const int window_bits = std::min(window_bits_max(decoded.size()), BROTLI_MAX_WINDOW_BITS);
  BrotliEncoderSetParameter(state, BROTLI_PARAM_QUALITY, kQuality);
  BrotliEncoderSetParameter(state, BROTLI_PARAM_LGWIN, static_cast<std::uint32_t>(window_bits));
  BrotliEncoderSetParameter(state, BROTLI_PARAM_SIZE_HINT, static_cast<std::uint32_t>(decoded.size()));
  std::size_t in_left = decoded.size();
  std::size_t out_left = out.size();
  auto* in = reinterpret_cast<const std::uint8_t*>(decoded.data());
  auto* to = reinterpret_cast<std::uint8_t*>(out.data());
  const BROTLI_BOOL done =
      BrotliEncoderCompressStream(state, BROTLI_OPERATION_FINISH, &in_left, &in, &out_left, &to, nullptr);
  return done == BROTLI_TRUE && BrotliEncoderIsFinished(state) == BROTLI_TRUE ? out.size() - out_left : 0;
}

// encode_stream, or an exception where it runs out of memory. What the jump may leave undefined is in no local
// variable.
std::size_t encode_or_throw(EncoderMemory& memory, std::span<const std::byte> decoded, std::span<std::byte> out) {
  if (setjmp(memory.out_of_memory) != 0) throw std::bad_alloc();
  return encode_stream(memory, decoded, out);
}

}  // namespace

BrotliHeap::~BrotliHeap() {
  for (void* const memory : free_) std::free(header_of(memory));
}

void* BrotliHeap::allocate(std::size_t size) noexcept {
  for (void*& memory : free_) {
    const std::size_t capacity = header_of(memory)->capacity;
    if (capacity < size || capacity / 2 > size) continue;
    std::swap(memory, free_.back());
    void* const found = free_.back();
    free_.pop_back();
    return found;
  }
  auto* const header = static_cast<Header*>(std::malloc(sizeof(Header) + size));
  if (header == nullptr) return nullptr;
  header->capacity = size;
  return header + 1;
}

void BrotliHeap::release(void* memory) noexcept {
  if (memory == nullptr) return;
  if (free_.capacity() == 0) {
    try {
      free_.reserve(kFreeBlocksMax);
    } catch (...) {
    }
  }
  if (free_.size() < free_.capacity()) {
    free_.push_back(memory);  // Within the capacity: cannot throw.
  } else {
    std::free(header_of(memory));
  }
}

Result<void> decode_brotli(BrotliHeap& heap, std::span<const std::byte> stored, std::span<std::byte> out) {
  const int window_bits = window_bits_of(stored[0]);
  CDNA_CHECK(window_bits != 0 && window_bits <= window_bits_max(out.size()), Code::malformed, "C3",
             "the brotli window is larger than the format allows");
  const auto allocate = [](void* opaque, std::size_t size) { return static_cast<BrotliHeap*>(opaque)->allocate(size); };
  const auto release = [](void* opaque, void* memory) { static_cast<BrotliHeap*>(opaque)->release(memory); };
  const std::unique_ptr<BrotliDecoderState, DestroyDecoder> state(
      BrotliDecoderCreateInstance(allocate, release, &heap));
  CDNA_CHECK(state != nullptr, Code::no_memory, "", "no memory for a brotli decoder");
  std::size_t in_left = stored.size();
  std::size_t out_left = out.size();
  auto* in = reinterpret_cast<const std::uint8_t*>(stored.data());
  auto* to = reinterpret_cast<std::uint8_t*>(out.data());
  const BrotliDecoderResult result = BrotliDecoderDecompressStream(state.get(), &in_left, &in, &out_left, &to, nullptr);
  const bool no_memory = result == BROTLI_DECODER_RESULT_ERROR &&
                         BrotliDecoderGetErrorCode(state.get()) <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES &&
                         BrotliDecoderGetErrorCode(state.get()) >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES;
  CDNA_CHECK(!no_memory, Code::no_memory, "", "no memory to decode a brotli block");
  CDNA_CHECK(result == BROTLI_DECODER_RESULT_SUCCESS && in_left == 0 && out_left == 0, Code::malformed, "C4",
             "the block is not exactly one brotli stream of the block's length");
  return {};
}

bool encode_brotli(std::span<const std::byte> decoded, std::vector<std::byte>& out) {
  out.resize(BrotliEncoderMaxCompressedSize(decoded.size()));
  EncoderMemory memory;
  const std::size_t size = encode_or_throw(memory, decoded, out);
  out.resize(size);
  return size != 0;
}

}  // namespace cdna
