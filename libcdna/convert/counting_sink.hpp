// A sink that counts what goes through it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "cdna/sink.hpp"
#include "libcdna/try.hpp"

namespace cdna {

// Hands everything on, or takes it for written where there is nothing to hand it on to. `bytes` outlives it.
class CountingSink final : public Sink {
 public:
  explicit CountingSink(std::uint64_t& bytes, std::unique_ptr<Sink> sink = nullptr)
      : bytes_(bytes), sink_(std::move(sink)) {}

  Result<void> write(std::span<const std::byte> bytes) override {
    if (sink_ != nullptr) CDNA_TRY(sink_->write(bytes));
    bytes_ += bytes.size();
    return {};
  }

  Result<void> commit() override { return sink_ == nullptr ? Result<void>() : sink_->commit(); }

 private:
  std::uint64_t& bytes_;
  std::unique_ptr<Sink> sink_;
};

}  // namespace cdna
