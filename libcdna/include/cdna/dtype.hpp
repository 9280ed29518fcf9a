// The element types of tensors: ids of spec/format.md 7.3, names and widths of safetensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cdna {

enum class DType : std::uint8_t {
  none = 0,
  boolean = 1,
  u8 = 2,
  i8 = 3,
  u16 = 4,
  i16 = 5,
  u32 = 6,
  i32 = 7,
  u64 = 8,
  i64 = 9,
  f16 = 10,
  bf16 = 11,
  f32 = 12,
  f64 = 13,
  c64 = 14,
  f8_e4m3 = 15,
  f8_e5m2 = 16,
  f8_e8m0 = 17,
  f8_e4m3fnuz = 18,
  f8_e5m2fnuz = 19,
  f6_e2m3 = 20,
  f6_e3m2 = 21,
  f4 = 22,
};

inline constexpr std::uint8_t kDTypeLast = 22;

// True for the ids 1..22; false for `none` and for ids of a later version.
bool is_known(DType dtype);

// "BF16"; "" for none and unknown ids. Static storage.
std::string_view name_of(DType dtype);

// The type of that name (exact spelling of safetensors), or nothing.
std::optional<DType> dtype_of(std::string_view name);

// Bits per element: 4, 6, 8, 16, 32 or 64; 0 for none and unknown ids.
std::uint32_t bits_of(DType dtype);

// True for F16, BF16, F32, F64: what the codebook encoding takes.
bool is_float(DType dtype);

}  // namespace cdna
