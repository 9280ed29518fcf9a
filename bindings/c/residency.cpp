// What of a file is in memory: asking for rows ahead, letting them go, and keeping them.
#include "bindings/c/reader.hpp"

struct cdna_pin {
  cdna::Pin pin;
};

namespace cdna::c {
namespace {

Result<void> prefetch(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t row_begin, std::uint64_t row_end) {
  const RowRange rows = CDNA_TRY(row_range(reader, tensor, row_begin, row_end));
  return rows.named.tensor.prefetch(rows.begin, rows.end);
}

Result<void> evict(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t row_begin, std::uint64_t row_end) {
  const RowRange rows = CDNA_TRY(row_range(reader, tensor, row_begin, row_end));
  return rows.named.tensor.evict(rows.begin, rows.end);
}

Result<void> pin(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t row_begin, std::uint64_t row_end,
                 cdna_pin** ret_pin) {
  const RowRange rows = CDNA_TRY(row_range(reader, tensor, row_begin, row_end));
  CDNA_TRY(need(ret_pin, "ret_pin"));
  Pin pinned = CDNA_TRY(rows.named.tensor.pin(rows.begin, rows.end));
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
