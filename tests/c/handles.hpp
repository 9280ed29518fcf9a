// Handles of the C interface that free themselves, for tests that use it as a C++ program would.
#pragma once

#include <cdna.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace cdna::test {

using Bytes = std::vector<std::byte>;

struct Free {
  void operator()(cdna_reader* reader) const { cdna_reader_free(reader); }
  void operator()(cdna_workers* workers) const { cdna_workers_free(workers); }
  void operator()(cdna_blocks* blocks) const { cdna_blocks_free(blocks); }
  void operator()(cdna_pin* pin) const { cdna_pin_free(pin); }
};
using ReaderHandle = std::unique_ptr<cdna_reader, Free>;
using WorkersHandle = std::unique_ptr<cdna_workers, Free>;
using BlocksHandle = std::unique_ptr<cdna_blocks, Free>;
using PinHandle = std::unique_ptr<cdna_pin, Free>;

inline std::string described(const cdna_error& error) {
  std::string text(cdna_error_describe(&error, nullptr, 0), '\0');
  cdna_error_describe(&error, text.data(), text.size() + 1);
  return text;
}

// Throws std::runtime_error with the error, unless the call went well.
template <class Call>
void must_c(const Call& call) {
  cdna_error error{};
  if (call(&error) != CDNA_OK) throw std::runtime_error(described(error));
}

// `bytes` outlive the reader.
inline ReaderHandle open_c(const Bytes& bytes, const cdna_open_options* options = nullptr) {
  cdna_reader* reader = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_memory(bytes.data(), bytes.size(), options, &reader, error); });
  return ReaderHandle(reader);
}

inline WorkersHandle workers_c(std::uint32_t threads) {
  cdna_workers* workers = nullptr;
  must_c([&](cdna_error* error) { return cdna_workers_create(threads, &workers, error); });
  return WorkersHandle(workers);
}

inline std::uint64_t find_c(const ReaderHandle& reader, const char* name) {
  std::uint64_t tensor = 0;
  must_c([&](cdna_error* error) { return cdna_tensor_find(reader.get(), name, &tensor, error); });
  return tensor;
}

// A struct of this version with nothing in it.
template <class Struct>
Struct sized() {
  Struct out{};
  out.struct_size = static_cast<std::uint32_t>(sizeof out);
  return out;
}

inline cdna_tensor_info describe_c(const ReaderHandle& reader, std::uint64_t tensor) {
  auto info = sized<cdna_tensor_info>();
  must_c([&](cdna_error* error) { return cdna_tensor_describe(reader.get(), tensor, &info, error); });
  return info;
}

// The file of bytes behind callbacks, which can be told to fail or to lie.
struct CallbackFile {
  Bytes bytes;
  std::int32_t outcome = 0;  // Returned for reads that touch `place`.
  std::uint64_t place = ~std::uint64_t{0};
  bool lies = false;  // Flips the byte at `place` instead.
  int lies_left = 0;  // So many times.
  std::size_t reads = 0;
  int closed = 0;

  cdna_source source(const char* name) {
    cdna_source out = CDNA_SOURCE_INIT;
    out.size_bytes = bytes.size();
    out.context = this;
    out.read_at = read_at;
    out.close = close;
    out.name = name;
    return out;
  }

  static std::int32_t read_at(void* context, std::uint64_t offset, void* out, std::uint64_t size) {
    auto& file = *static_cast<CallbackFile*>(context);
    ++file.reads;
    std::memcpy(out, file.bytes.data() + offset, size);
    if (file.place < offset || file.place >= offset + size) return 0;
    if (!file.lies) return file.outcome;
    if (file.lies_left > 0) {
      --file.lies_left;
      static_cast<std::byte*>(out)[file.place - offset] ^= std::byte{1};
    }
    return 0;
  }
  static void close(void* context) { ++static_cast<CallbackFile*>(context)->closed; }
};

}  // namespace cdna::test
