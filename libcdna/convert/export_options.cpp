// What exports refuse, and what becomes of floats.
#include "libcdna/convert/export_options.hpp"

#include "libcdna/try.hpp"

namespace cdna {

DType exported_dtype(const ExportOptions& options, DType source) {
  return is_float(source) ? options.dtype.value_or(source) : source;
}

Result<void> check_export_dtype(const ExportOptions& options) {
  CDNA_CHECK(!options.dtype || is_float(*options.dtype), Code::bad_argument, "",
             "dtype: one of F16, BF16, F32 and F64");
  return {};
}

Result<void> check_export_options(const ExportOptions& options) {
  CDNA_TRY(check_export_dtype(options));
  CDNA_CHECK(!options.q8_0, Code::bad_argument, "", "q8_0: only GGUF has such blocks");
  CDNA_CHECK(options.architecture.empty(), Code::bad_argument, "", "architecture: only GGUF names one");
  return {};
}

Result<void> check_all_supported(const Reader& reader) {
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i)
    CDNA_TRY(reader.resolve(reader.tensor_item(i)).check_supported());
  return {};
}

}  // namespace cdna
