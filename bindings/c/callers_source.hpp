// A source of bytes that the caller of the C interface implements.
#pragma once

#include <memory>

#include "bindings/c/boundary.hpp"
#include "cdna/source.hpp"

namespace cdna::c {

// Closes the caller's source once, whatever happens before.
class SourceClosing {
 public:
  // Of as much of `source` as its struct_size says; null: nothing.
  explicit SourceClosing(const cdna_source* source) noexcept;
  SourceClosing(SourceClosing&& other) noexcept;
  SourceClosing& operator=(SourceClosing&&) = delete;
  ~SourceClosing();

 private:
  void (*close_)(void* context) = nullptr;
  void* context_ = nullptr;
};

// Errors: bad_argument.
Result<std::unique_ptr<Source>> callers_source(const cdna_source* source, SourceClosing closing);

}  // namespace cdna::c
