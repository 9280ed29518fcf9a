// GGUF files made field by field, for tests of what reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace cdna::test {

template <class T>
std::string gguf_bytes(T value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

inline std::string gguf_string(std::string_view text) {
  return gguf_bytes(static_cast<std::uint64_t>(text.size())) + std::string(text);
}

// A key with the type of its value, and the value's bytes.
inline std::string gguf_key(std::string_view key, std::uint32_t type, const std::string& value) {
  return gguf_string(key) + gguf_bytes(type) + value;
}

// What the header says of a tensor; `dims` as GGUF has them, the fastest first.
inline std::string gguf_tensor(std::string_view name, const std::vector<std::uint64_t>& dims, std::uint32_t type,
                               std::uint64_t offset) {
  std::string out = gguf_string(name) + gguf_bytes(static_cast<std::uint32_t>(dims.size()));
  for (const std::uint64_t dim : dims) out += gguf_bytes(dim);
  return out + gguf_bytes(type) + gguf_bytes(offset);
}

// Magic, version, counts, keys, tensors, zeros up to the alignment, data.
inline std::string gguf_file(const std::vector<std::string>& keys, const std::vector<std::string>& tensors = {},
                             const std::string& data = {}, std::uint32_t version = 3, std::size_t alignment = 32) {
  std::string out = "GGUF" + gguf_bytes(version) + gguf_bytes(static_cast<std::uint64_t>(tensors.size())) +
                    gguf_bytes(static_cast<std::uint64_t>(keys.size()));
  for (const std::string& key : keys) out += key;
  for (const std::string& tensor : tensors) out += tensor;
  if (!tensors.empty()) out.append((alignment - out.size() % alignment) % alignment, '\0');
  return out + data;
}

}  // namespace cdna::test
