// A ring of pinned buffers on their way to the device: filled by any thread, copied on a stream of its own, brought in
// order on the caller's.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/cuda/pack.h"
#include "libcdna_cuda/device_memory.hpp"

namespace cdna::cuda {

// What is done with a buffer.
struct Shipment {
  std::uint64_t bytes = 0;
  void* destination = nullptr;  // Null: the buffer's twin on the device, for codes and scales.
  cdna_cuda::PackCodes codes;   // row_count 0: none. The source is an offset in the buffer: the next.
  cdna_cuda::PackScales scales;
  std::uint64_t scales_offset = 0;
};

struct RingTimes {
  double copy_seconds = 0;
  double permute_seconds = 0;
  std::uint64_t copied_bytes = 0;
  std::uint64_t permuted_bytes = 0;
};

class Ring {
 public:
  static constexpr std::uint64_t kBytesMin = 8192;
  static constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 36;

  class Buffer {
   public:
    std::byte* data() const { return host_; }

   private:
    friend class Ring;
    std::byte* host_ = nullptr;
    std::byte* twin_ = nullptr;
    Event copy_begins_, copied_, permute_begins_, permuted_;
    bool under_way_ = false;
    bool permutes_ = false;
  };

  // `bytes` of pinned memory in two buffers or more, and as many on the device. Requires: kBytesMin <= bytes <=
  // kBytesMax, a current device.
  static Result<std::unique_ptr<Ring>> create(std::uint64_t bytes, cudaStream_t stream);
  ~Ring();  // Waits for what is under way.

  std::uint64_t bytes() const { return buffers_.size() * buffer_bytes_; }
  std::uint64_t buffer_bytes() const { return buffer_bytes_; }

  // Waits for the buffer that was sent first. Each one had must be sent, or the ring be stopped. Errors: cancelled once
  // the ring is stopped; device failures.
  Result<Buffer*> acquire();
  Result<void> send(Buffer& buffer, const Shipment& shipment);
  // Ends the waiting of all threads.
  void stop();
  // Waits until all is there.
  Result<void> finish();

  // One after the other, as all calls of CUDA here but waits.
  Result<void> clear(void* destination, std::uint64_t bytes);
  Result<void> choose_device(int ordinal);

  const RingTimes& times() const { return times_; }

 private:
  explicit Ring(cudaStream_t stream) : stream_(stream) {}
  Result<void> create_buffers(std::uint64_t bytes);
  static Result<void> wait_for(const Buffer& buffer);
  Result<void> note_times(Buffer& buffer);  // Of one that is no longer under way.
  Result<void> copy(Buffer& buffer, const Shipment& shipment);
  Result<void> permute(Buffer& buffer, const Shipment& shipment);

  cudaStream_t stream_;
  Stream copies_;
  PinnedMemory pinned_;
  DeviceMemory twins_;
  std::vector<Buffer> buffers_;
  std::uint64_t buffer_bytes_ = 0;

  std::mutex mutex_;  // Of all below, and of every call of CUDA but the waiting for a buffer.
  std::condition_variable returned_;
  std::deque<Buffer*> free_;  // In the order in which they were sent.
  bool stopped_ = false;
  RingTimes times_;
};

}  // namespace cdna::cuda
