// The C functions of the compressor without a file.
#include "bindings/c/encoded.hpp"

#include <memory>
#include <string>

#include "bindings/c/arguments.hpp"
#include "bindings/c/boundary.hpp"
#include "bindings/c/workers.hpp"
#include "cdna/preset.hpp"

namespace cdna::c {
namespace {

constexpr std::uint64_t kElementsEnd = std::uint64_t{1} << 60;

Result<CodebookOptions> codebook_preset(const char* preset) {
  const Preset parsed = CDNA_TRY(need_preset(preset, "preset"));
  if (parsed.method != Preset::Method::codebook)
    return bad_argument("preset '" + std::string(preset) + "' makes no codes");
  return parsed.codebook;
}

Result<void> encode_values(std::uint32_t dtype, std::uint64_t rows, std::uint64_t cols, const void* data,
                           const char* preset, const cdna_encode_options* options, cdna_encoded** ret_encoded) {
  CDNA_TRY(need(data, "data"));
  CDNA_TRY(need(ret_encoded, "ret_encoded"));
  const DType type = CDNA_TRY(need_dtype(dtype, "dtype"));
  CodebookOptions codebook = CDNA_TRY(codebook_preset(preset));
  const cdna_encode_options given = CDNA_TRY(take_options(options, "options"));
  if (given.reserved != 0) return bad_argument("options->reserved is " + std::to_string(given.reserved));
  if (given.keep_nonfinite != 0) codebook.nonfinite = Nonfinite::exact;
  const unsigned threads = CDNA_TRY(take_threads(given.threads, "options->threads"));
  if (cols != 0 && rows >= kElementsEnd / cols) {
    return bad_argument("rows " + std::to_string(rows) + " times cols " + std::to_string(cols) +
                        " is 2^60 elements or more");
  }
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(data), rows * cols * (bits_of(type) / 8));
  auto encoded = std::make_unique<cdna_encoded>();
  encoded->matrix = CDNA_TRY(encode(type, rows, cols, bytes, codebook, threads));
  *ret_encoded = encoded.release();
  return {};
}

template <class T>
const T* data_or_null(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

Result<void> describe_encoded(const cdna_encoded* encoded, cdna_encoded_info* ret_info) {
  CDNA_TRY(need(encoded, "encoded"));
  const EncodedMatrix& matrix = encoded->matrix;
  cdna_encoded_info info{};
  info.dtype = static_cast<std::uint32_t>(matrix.dtype);
  info.rows = matrix.rows;
  info.cols = matrix.cols;
  info.bits = matrix.bits;
  info.group = matrix.group;
  info.codebook = data_or_null(matrix.codebook);
  info.codes = reinterpret_cast<const std::uint8_t*>(data_or_null(matrix.codes));
  info.row_scales = data_or_null(matrix.row_scales);
  info.group_scales = data_or_null(matrix.group_scales);
  info.scale_table = data_or_null(matrix.scale_table);
  info.outlier_values = data_or_null(matrix.outlier_values);
  info.outlier_positions = data_or_null(matrix.outlier_positions);
  info.outlier_count = matrix.outlier_positions.size();
  info.payload_bytes = matrix.payload_bytes();
  info.bits_per_weight = matrix.bits_per_weight();
  info.snr_db = matrix.statistics.snr_db();
  info.max_abs_error = matrix.statistics.max_abs_error;
  return give_struct(info, ret_info, "ret_info");
}

Result<void> decode_encoded(const cdna_encoded* encoded, float* out) {
  CDNA_TRY(need(encoded, "encoded"));
  CDNA_TRY(need(out, "out"));
  decode(encoded->matrix, std::span(out, encoded->matrix.rows * encoded->matrix.cols));
  return {};
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_encode(uint32_t dtype, uint64_t rows, uint64_t cols, const void* data, const char* preset,
                      const cdna_encode_options* options, cdna_encoded** ret_encoded, cdna_error* error) {
  return cdna::c::guarded(
      error, [&] { return cdna::c::encode_values(dtype, rows, cols, data, preset, options, ret_encoded); });
}

cdna_code cdna_encoded_describe(const cdna_encoded* encoded, cdna_encoded_info* ret_info, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe_encoded(encoded, ret_info); });
}

cdna_code cdna_encoded_decode(const cdna_encoded* encoded, float* out, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::decode_encoded(encoded, out); });
}

void cdna_encoded_free(cdna_encoded* encoded) { cdna::c::free_handle(encoded); }

}  // extern "C"
