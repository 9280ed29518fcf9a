// The table of element types.
#include "cdna/dtype.hpp"

#include <array>

namespace cdna {
namespace {

struct Row {
  std::string_view name;
  std::uint32_t bits;
};

// spec/format.md 7.3; the index is the id.
constexpr std::array<Row, kDTypeLast + 1> kTable{{
    {"", 0},        {"BOOL", 8},    {"U8", 8},      {"I8", 8},          {"U16", 16},
    {"I16", 16},    {"U32", 32},    {"I32", 32},    {"U64", 64},        {"I64", 64},
    {"F16", 16},    {"BF16", 16},   {"F32", 32},    {"F64", 64},        {"C64", 64},
    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
    {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
}};

}  // namespace

bool is_known(DType dtype) { return dtype != DType::none && static_cast<std::uint8_t>(dtype) <= kDTypeLast; }

std::string_view name_of(DType dtype) {
  return is_known(dtype) ? kTable[static_cast<std::uint8_t>(dtype)].name : std::string_view{};
}

std::optional<DType> dtype_of(std::string_view name) {
  for (std::uint8_t id = 1; id <= kDTypeLast; ++id) {
    if (kTable[id].name == name) return static_cast<DType>(id);
  }
  return std::nullopt;
}

std::uint32_t bits_of(DType dtype) { return is_known(dtype) ? kTable[static_cast<std::uint8_t>(dtype)].bits : 0; }

bool is_float(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32 || dtype == DType::f64;
}

}  // namespace cdna
