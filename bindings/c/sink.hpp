// A caller's sink.
#pragma once

#include <utility>

#include "bindings/c/cdna.h"
#include "cdna/sink.hpp"

namespace cdna::c {

// Closes the sink once, when it is destroyed.
class OwnedSink {
 public:
  explicit OwnedSink(const cdna_sink& given) : given_(given) {}
  OwnedSink(OwnedSink&& other) noexcept : given_(std::exchange(other.given_, cdna_sink{})) {}
  OwnedSink& operator=(OwnedSink&&) = delete;
  ~OwnedSink() {
    if (given_.close != nullptr) given_.close(given_.context);
  }
  const cdna_sink& operator*() const { return given_; }

 private:
  cdna_sink given_;
};

// Requires: `sink` has a write function.
class CallbackSink final : public Sink {
 public:
  explicit CallbackSink(OwnedSink sink) : sink_(std::move(sink)) {}
  Result<void> write(std::span<const std::byte> bytes) override;
  Result<void> commit() override;

 private:
  OwnedSink sink_;
};

// The caller's sink as one of the library's. From the moment on that its fields can be read it is closed, whatever goes
// wrong. Errors: bad_argument (null, no struct_size, fields of a later version, no write function).
Result<std::unique_ptr<Sink>> take_sink(const cdna_sink* given);

}  // namespace cdna::c
