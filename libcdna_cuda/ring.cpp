// Two streams: while one buffer is brought in order the next is copied.
#include "libcdna_cuda/ring.hpp"

#include <algorithm>

#include "libcdna/try.hpp"

namespace cdna::cuda {
namespace {

constexpr std::uint64_t kBufferBytes = std::uint64_t{2} << 20;  // Copies of this size are at the full speed of PCIe.
constexpr std::uint64_t kBuffersMin = 2;
constexpr std::uint64_t kAlignment = 256;

Result<double> seconds_between(const Event& begin, const Event& end) {
  float milliseconds = 0;
  CDNA_TRY(check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "measuring time on the device"));
  return static_cast<double>(milliseconds) * 1e-3;
}

}  // namespace

Result<std::unique_ptr<Ring>> Ring::create(std::uint64_t bytes, cudaStream_t stream) {
  std::unique_ptr<Ring> ring(new Ring(stream));
  ring->copies_ = CDNA_TRY(create_stream());
  const std::uint64_t count = std::max(kBuffersMin, bytes / kBufferBytes);
  ring->buffer_bytes_ = bytes / count / kAlignment * kAlignment;
  CDNA_TRY(ring->create_buffers(count));
  return ring;
}

Result<void> Ring::create_buffers(std::uint64_t count) {
  pinned_ = CDNA_TRY(allocate_pinned(count * buffer_bytes_));
  twins_ = CDNA_TRY(allocate_device(count * buffer_bytes_));
  buffers_.resize(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    Buffer& buffer = buffers_[i];
    buffer.host_ = static_cast<std::byte*>(pinned_.get()) + i * buffer_bytes_;
    buffer.twin_ = static_cast<std::byte*>(twins_.get()) + i * buffer_bytes_;
    for (Event* event : {&buffer.copy_begins_, &buffer.copied_, &buffer.permute_begins_, &buffer.permuted_})
      *event = CDNA_TRY(create_event());
    free_.push_back(&buffer);
  }
  return {};
}

Ring::~Ring() {
  if (copies_.get() != nullptr) forget(cudaStreamSynchronize(copies_.get()));
  forget(cudaStreamSynchronize(stream_));
}

Result<Ring::Buffer*> Ring::acquire() {
  std::unique_lock lock(mutex_);
  returned_.wait(lock, [this] { return stopped_ || !free_.empty(); });
  if (stopped_) return fail(Code::cancelled, "", "another thread has stopped the upload");
  Buffer* const buffer = free_.front();
  free_.pop_front();
  lock.unlock();  // The buffer is this thread's alone now: others send theirs while it waits.
  CDNA_TRY(wait_for(*buffer));
  lock.lock();
  if (stopped_) return fail(Code::cancelled, "", "another thread has stopped the upload");
  CDNA_TRY(note_times(*buffer));
  return buffer;
}

Result<void> Ring::wait_for(const Buffer& buffer) {
  if (!buffer.under_way_) return {};
  return check(cudaEventSynchronize((buffer.permutes_ ? buffer.permuted_ : buffer.copied_).get()),
               "waiting for a copy to the device");
}

Result<void> Ring::note_times(Buffer& buffer) {
  if (!buffer.under_way_) return {};
  buffer.under_way_ = false;
  times_.copy_seconds += CDNA_TRY(seconds_between(buffer.copy_begins_, buffer.copied_));
  if (buffer.permutes_) times_.permute_seconds += CDNA_TRY(seconds_between(buffer.permute_begins_, buffer.permuted_));
  return {};
}

Result<void> Ring::send(Buffer& buffer, const Shipment& shipment) {
  const std::lock_guard lock(mutex_);
  CDNA_TRY(copy(buffer, shipment));
  buffer.permutes_ = shipment.codes.row_count != 0;
  if (buffer.permutes_) CDNA_TRY(permute(buffer, shipment));
  buffer.under_way_ = true;
  free_.push_back(&buffer);
  returned_.notify_one();
  return {};
}

Result<void> Ring::copy(Buffer& buffer, const Shipment& shipment) {
  void* const destination = shipment.destination != nullptr ? shipment.destination : buffer.twin_;
  CDNA_TRY(check(cudaEventRecord(buffer.copy_begins_.get(), copies_.get()), "recording an event"));
  CDNA_TRY(check(cudaMemcpyAsync(destination, buffer.host_, shipment.bytes, cudaMemcpyHostToDevice, copies_.get()),
                 "copying to the device"));
  CDNA_TRY(check(cudaEventRecord(buffer.copied_.get(), copies_.get()), "recording an event"));
  times_.copied_bytes += shipment.bytes;
  return {};
}

Result<void> Ring::permute(Buffer& buffer, const Shipment& shipment) {
  CDNA_TRY(check(cudaStreamWaitEvent(stream_, buffer.copied_.get(), 0), "ordering two streams"));
  CDNA_TRY(check(cudaEventRecord(buffer.permute_begins_.get(), stream_), "recording an event"));
  cdna_cuda::PackCodes codes = shipment.codes;
  codes.source = buffer.twin_;
  CDNA_TRY(check(cdna_cuda::pack_codes(codes, stream_)));
  if (shipment.scales.row_count != 0) {
    cdna_cuda::PackScales scales = shipment.scales;
    scales.source = buffer.twin_ + shipment.scales_offset;
    CDNA_TRY(check(cdna_cuda::pack_scales(scales, stream_)));
  }
  CDNA_TRY(check(cudaEventRecord(buffer.permuted_.get(), stream_), "recording an event"));
  times_.permuted_bytes += shipment.bytes;
  return {};
}

void Ring::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  returned_.notify_all();
}

Result<void> Ring::finish() {
  const std::lock_guard lock(mutex_);
  for (Buffer& buffer : buffers_) {
    CDNA_TRY(wait_for(buffer));
    CDNA_TRY(note_times(buffer));
  }
  CDNA_TRY(check(cudaStreamSynchronize(copies_.get()), "waiting for copies to the device"));
  return check(cudaStreamSynchronize(stream_), "waiting for the device");
}

Result<void> Ring::clear(void* destination, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  return check(cudaMemsetAsync(destination, 0, bytes, stream_), "clearing memory of the device");
}

Result<void> Ring::choose_device(int ordinal) {
  const std::lock_guard lock(mutex_);
  return check(set_current(ordinal), "choosing the device");
}

}  // namespace cdna::cuda
