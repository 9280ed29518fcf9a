// Which function writes a format, and the names of formats.
#include <algorithm>
#include <array>
#include <cassert>
#include <string>
#include <utility>

#include "cdna/convert.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::array<std::string_view, 4> kFormatNames{"safetensors", "gguf", "npz", "hxq"};

constexpr std::array<ExportFormat, kFormatNames.size()> kFormats{ExportFormat::safetensors, ExportFormat::gguf,
                                                                 ExportFormat::npz, ExportFormat::hxq};

Result<void> export_single_file(const Reader& reader, std::unique_ptr<Sink> sink, ExportFormat format,
                                const ExportOptions& options) {
  switch (format) {
    case ExportFormat::safetensors:
      return export_safetensors(reader, std::move(sink), options);
    case ExportFormat::gguf:
      return export_gguf(reader, std::move(sink), options);
    case ExportFormat::npz:
      return export_npz(reader, std::move(sink), options);
    case ExportFormat::hxq:
      break;
  }
  return fail(Code::bad_argument, "", "hxq is a folder, and cannot be written to a sink");
}

Result<void> export_folder(const Reader& reader, const std::string& path, const FileSinkOptions& file_options,
                           const ExportOptions& options) {
  CDNA_CHECK(!file_options.force, Code::bad_argument, "", "force: a folder is never replaced");
  std::vector<std::string> notes = CDNA_TRY(export_hxq(reader, path, options));
  if (options.notes != nullptr) options.notes->insert(options.notes->end(), notes.begin(), notes.end());
  return {};
}

Result<void> export_path(const Reader& reader, const std::string& path, ExportFormat format,
                         const FileSinkOptions& file_options, const ExportOptions& options) {
  if (format == ExportFormat::hxq) return export_folder(reader, path, file_options, options);
  std::unique_ptr<Sink> sink = CDNA_TRY(create_file(path, file_options));
  return export_single_file(reader, std::move(sink), format, options);
}

}  // namespace

std::string_view name_of(ExportFormat format) { return kFormatNames[static_cast<std::size_t>(format)]; }

std::span<const ExportFormat> export_formats() { return kFormats; }

std::optional<ExportFormat> parse_export_format(std::string_view name) {
  const auto* const found = std::find(kFormatNames.begin(), kFormatNames.end(), name);
  if (found == kFormatNames.end()) return std::nullopt;
  return kFormats[static_cast<std::size_t>(found - kFormatNames.begin())];
}

std::optional<ExportFormat> export_format_of(std::string_view path) {
  for (const ExportFormat format : {ExportFormat::safetensors, ExportFormat::gguf, ExportFormat::npz}) {
    if (path.ends_with("." + std::string(name_of(format)))) return format;
  }
  return std::nullopt;
}

Result<void> export_model(const Reader& reader, std::unique_ptr<Sink> sink, ExportFormat format,
                          const ExportOptions& options) {
  assert(sink != nullptr);
  return no_throw([&] { return export_single_file(reader, std::move(sink), format, options); });
}

Result<void> export_file(const Reader& reader, const std::string& path, ExportFormat format,
                         const FileSinkOptions& file_options, const ExportOptions& options) {
  return no_throw([&] { return export_path(reader, path, format, file_options, options); });
}

}  // namespace cdna
