// ggml's types of tensors: what a number in a GGUF file stands for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cdna/dtype.hpp"
#include "libcdna/import/gguf/block_codes.hpp"

namespace cdna {

// Whose meaning the numbers 36 and 37 have.
enum class GgufDialect : std::uint8_t {
  ggml,
  hxq,  // helix-substrate's fork of llama.cpp.
};

// enum ggml_type and its traits, ggml.h and ggml.c. A row is a whole number of blocks.
struct GgmlType {
  std::uint32_t id = 0;
  std::string_view name;             // "Q4_K".
  std::uint32_t block_elements = 1;  // Of a block: 1 for types without blocks.
  std::uint32_t block_bytes = 0;
  DType dtype = DType::none;          // The elements are of this; none: blocks.
  const BlockCodes* codes = nullptr;  // How blocks are read; null: they are not, or `dtype` says what elements are.
};

// The type of a number, or null. Static storage.
const GgmlType* find_ggml_type(std::uint32_t id, GgufDialect dialect);

// The type whose elements are of a dtype, or null. Static storage.
const GgmlType* find_ggml_type(DType dtype);

// Why a number has no type: what it once was, or is elsewhere.
std::string describe_unknown_ggml_type(std::uint32_t id);

}  // namespace cdna
