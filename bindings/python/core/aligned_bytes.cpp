// Growing by doubling, in whole pages.
#include "aligned_bytes.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "libcdna/no_throw.hpp"

namespace cdna::python {

AlignedBytes::~AlignedBytes() { std::free(data_); }

void AlignedBytes::append(std::span<const std::byte> bytes) {
  if (bytes.size() > capacity_ - size_) reserve(std::max(2 * capacity_, size_ + bytes.size()));
  if (!bytes.empty()) std::memcpy(data_ + size_, bytes.data(), bytes.size());
  size_ += bytes.size();
}

void AlignedBytes::reserve(std::size_t capacity) {
  constexpr std::size_t kPage = 4096;
  if (capacity <= capacity_) return;
  capacity = (capacity + kPage - 1) / kPage * kPage;
  auto* const grown = static_cast<std::byte*>(std::aligned_alloc(kPage, capacity));
  if (grown == nullptr) throw std::bad_alloc();
  if (size_ != 0) std::memcpy(grown, data_, size_);
  std::free(data_);
  data_ = grown;
  capacity_ = capacity;
}

Result<void> AlignedSink::write(std::span<const std::byte> bytes) {
  return no_throw([&]() -> Result<void> {
    out_.append(bytes);
    return {};
  });
}

}  // namespace cdna::python
