// What tests of the C functions for writing share: handles, tensors, sinks in memory, files.
#pragma once

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cdna.h"

namespace cdna::test {

using Bytes = std::vector<std::byte>;

struct FreeWriter {
  void operator()(cdna_writer* writer) const { cdna_writer_free(writer); }
};
using WriterHandle = std::unique_ptr<cdna_writer, FreeWriter>;

struct FreeEncoded {
  void operator()(cdna_encoded* encoded) const { cdna_encoded_free(encoded); }
};
using EncodedHandle = std::unique_ptr<cdna_encoded, FreeEncoded>;

// Fails the test with the error's text.
inline void must_be_ok(cdna_code code, const cdna_error& error) {
  if (code == CDNA_OK) return;
  FAIL("code " << code << ", tensor '" << error.tensor << "', rule '" << error.rule << "': " << error.message);
}

// A description and the shape that it points to.
struct Spec {
  Spec(const char* name, std::uint32_t dtype, std::vector<std::uint64_t> dims, const char* preset = nullptr)
      : shape(std::move(dims)) {
    c.name = name;
    c.dtype = dtype;
    c.shape = shape.data();
    c.rank = static_cast<std::uint32_t>(shape.size());
    c.preset = preset;
  }
  Spec(const Spec&) = delete;
  std::vector<std::uint64_t> shape;
  cdna_tensor_spec c = CDNA_TENSOR_SPEC_INIT;
};

// A sink that keeps what it is given, counts, and fails where it is told to.
struct MemorySink {
  static constexpr std::uint64_t kNever = ~std::uint64_t{0};
  Bytes bytes;
  std::uint64_t writes = 0;
  std::uint64_t commits = 0;
  std::uint64_t closes = 0;
  std::uint64_t fail_write = kNever;  // Number of the write that fails, from 0.
  bool fail_commit = false;

  cdna_sink c() {
    cdna_sink sink = CDNA_SINK_INIT;
    sink.context = this;
    sink.write = [](void* context, const void* data, std::uint64_t size) -> std::int32_t {
      auto& self = *static_cast<MemorySink*>(context);
      if (self.writes++ == self.fail_write) return ENOSPC;
      const auto* const begin = static_cast<const std::byte*>(data);
      self.bytes.insert(self.bytes.end(), begin, begin + size);
      return 0;
    };
    sink.commit = [](void* context) -> std::int32_t {
      auto& self = *static_cast<MemorySink*>(context);
      ++self.commits;
      return self.fail_commit ? EDQUOT : 0;
    };
    sink.close = [](void* context) { ++static_cast<MemorySink*>(context)->closes; };
    return sink;
  }
};

// A new writer into `sink`, which outlives it.
inline WriterHandle writer_into(MemorySink& sink, const cdna_writer_options* options = nullptr) {
  const cdna_sink c = sink.c();
  cdna_writer* writer = nullptr;
  cdna_error error{};
  must_be_ok(cdna_writer_create_sink(&c, options, &writer, &error), error);
  return WriterHandle(writer);
}

inline WriterHandle writer_at(const std::string& path, const cdna_writer_options* options = nullptr) {
  cdna_writer* writer = nullptr;
  cdna_error error{};
  must_be_ok(cdna_writer_create(path.c_str(), options, &writer, &error), error);
  return WriterHandle(writer);
}

inline void add(cdna_writer* writer, const Spec& spec, const Bytes& data) {
  cdna_error error{};
  must_be_ok(cdna_writer_add(writer, &spec.c, data.data(), data.size(), &error), error);
}

inline Bytes file_content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

inline std::ptrdiff_t files_in(const std::filesystem::path& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

}  // namespace cdna::test
