// Element types by number and by name.
#include "cdna/dtype.hpp"

#include "bindings/c/boundary.hpp"

namespace cdna::c {
namespace {

static_assert(static_cast<int>(DType::boolean) == CDNA_BOOL && static_cast<int>(DType::f16) == CDNA_F16 &&
              static_cast<int>(DType::c64) == CDNA_C64 && static_cast<int>(DType::f4) == CDNA_F4 &&
              kDTypeLast == CDNA_F4);

DType dtype_of_number(std::uint32_t number) { return number > kDTypeLast ? DType::none : static_cast<DType>(number); }

}  // namespace
}  // namespace cdna::c

extern "C" {

const char* cdna_dtype_name(uint32_t dtype) {
  const cdna::DType known = cdna::c::dtype_of_number(dtype);
  return known == cdna::DType::none ? "" : cdna::name_of(known).data();  // A view of a literal.
}

uint32_t cdna_dtype_of(const char* name) {
  if (name == nullptr) return CDNA_DTYPE_NONE;
  return static_cast<uint32_t>(cdna::dtype_of(name).value_or(cdna::DType::none));
}

uint32_t cdna_dtype_bits(uint32_t dtype) { return cdna::bits_of(cdna::c::dtype_of_number(dtype)); }

}  // extern "C"
