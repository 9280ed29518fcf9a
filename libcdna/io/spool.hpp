// Bytes that must wait until something else has been written: in memory, and beyond a budget in an unlinked file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cdna/sink.hpp"
#include "libcdna/io/descriptor.hpp"

namespace cdna {

class Spool {
 public:
  explicit Spool(std::size_t memory_bytes_max) : memory_bytes_max_(memory_bytes_max) {}
  std::uint64_t size_bytes() const { return spilled_bytes_ + memory_.size(); }
  Result<void> append(std::span<const std::byte> bytes);
  // Writes everything to `sink`, in order.
  Result<void> drain(Sink& sink);

 private:
  Result<void> spill();

  std::size_t memory_bytes_max_;
  std::vector<std::byte> memory_;
  std::uint64_t spilled_bytes_ = 0;
  Descriptor file_;
};

}  // namespace cdna
