// The C function that writes other formats.
#include <string>

#include "bindings/c/arguments.hpp"
#include "bindings/c/boundary.hpp"
#include "bindings/c/progress.hpp"
#include "bindings/c/reader.hpp"
#include "cdna/convert.hpp"

namespace cdna::c {
namespace {

Result<ExportOptions> take_export_options(const cdna_export_options& given) {
  ExportOptions options;
  options.q8_0 = given.q8_0 != 0;
  if (given.architecture != nullptr) options.architecture = given.architecture;
  if (given.dtype == CDNA_DTYPE_NONE) return options;
  const DType dtype = CDNA_TRY(need_dtype(given.dtype, "options->dtype"));
  if (!is_float(dtype))
    return bad_argument("options->dtype " + std::string(name_of(dtype)) + " is not F16, BF16, F32 or F64");
  options.dtype = dtype;
  return options;
}

Result<ExportFormat> take_format(const cdna_export_options& given, const std::string& destination) {
  if (given.format == nullptr) return export_format_of(destination).value_or(ExportFormat::safetensors);
  const auto format = parse_export_format(given.format);
  if (!format)
    return bad_argument("options->format '" + std::string(given.format) + "' is not one of " +
                        names_of(export_formats()));
  return *format;
}

Result<void> export_reader(const cdna_reader* reader, const char* destination, const cdna_export_options* given) {
  CDNA_TRY(need(reader, "reader"));
  const std::string to(CDNA_TRY(text(destination, "destination")));
  const cdna_export_options known = CDNA_TRY(take_options(given, "options"));
  ExportOptions options = CDNA_TRY(take_export_options(known));
  const ExportFormat format = CDNA_TRY(take_format(known, to));
  Progress progress(known.progress, known.progress_context);
  options.stop = &progress.stop();
  options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
    static_cast<void>(progress.tell(done, total));  // What it says is in stop().
  };
  FileSinkOptions file_options;
  file_options.force = known.force != 0;
  return export_file(reader->reader, to, format, file_options, options);
}

}  // namespace
}  // namespace cdna::c

extern "C" cdna_code cdna_export(const cdna_reader* reader, const char* destination, const cdna_export_options* options,
                                 cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::export_reader(reader, destination, options); });
}
