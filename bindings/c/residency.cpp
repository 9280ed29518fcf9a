// What of a file is in memory: asking for rows ahead, letting them go, and keeping them.
#include "bindings/c/reader.hpp"

struct cdna_pin {
  cdna::Pin pin;
};

namespace cdna::c {
namespace {

Result<Tensor> checked(const cdna_reader* reader, std::uint64_t number, std::uint64_t row_begin,
                       std::uint64_t row_end) {
  const Tensor tensor = CDNA_TRY(tensor_of(reader, number));
  CDNA_TRY(check_rows(tensor, row_begin, row_end));
  return tensor;
}

Result<void> prefetch(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t row_begin, std::uint64_t row_end) {
  return CDNA_TRY(checked(reader, tensor, row_begin, row_end)).prefetch(row_begin, row_end);
}

Result<void> evict(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t row_begin, std::uint64_t row_end) {
  return CDNA_TRY(checked(reader, tensor, row_begin, row_end)).evict(row_begin, row_end);
}

Result<void> pin(const cdna_reader* reader, std::uint64_t number, std::uint64_t row_begin, std::uint64_t row_end,
                 cdna_pin** ret_pin) {
  const Tensor tensor = CDNA_TRY(checked(reader, number, row_begin, row_end));
  CDNA_TRY(need(ret_pin, "ret_pin"));
  Pin pinned = CDNA_TRY(tensor.pin(row_begin, row_end));
  *ret_pin = std::make_unique<cdna_pin>(cdna_pin{std::move(pinned)}).release();
  return {};
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_prefetch(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                        cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::prefetch(reader, tensor, row_begin, row_end); });
}

cdna_code cdna_evict(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                     cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::evict(reader, tensor, row_begin, row_end); });
}

cdna_code cdna_pin_rows(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                        cdna_pin** ret_pin, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::pin(reader, tensor, row_begin, row_end, ret_pin); });
}

void cdna_pin_free(cdna_pin* pin) { cdna::c::free_handle(pin); }

}  // extern "C"
