// The C function that converts models.
#include "cdna/convert.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "bindings/c/arguments.hpp"
#include "bindings/c/boundary.hpp"
#include "bindings/c/progress.hpp"
#include "bindings/c/workers.hpp"

namespace cdna::c {
namespace {

Result<std::vector<std::string>> take_texts(const char* const* given, std::uint32_t count, const std::string& name) {
  if (count != 0) CDNA_TRY(need(given, name.c_str()));
  std::vector<std::string> texts;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string place = name + "[" + std::to_string(i) + "]";
    texts.emplace_back(CDNA_TRY(text(given[i], place.c_str())));
  }
  return texts;
}

Result<ConvertOptions> take_convert_options(const cdna_convert_options& given) {
  ConvertOptions options;
  if (given.bits_per_weight != 0) options.bits_per_weight = given.bits_per_weight;
  if (given.target_bytes != 0) options.target_bytes = given.target_bytes;
  if (given.policy != nullptr) {
    options.policy = given.policy;
    if (options.policy.empty()) return bad_argument("options->policy is empty");
  }
  const bool decided = given.policy != nullptr || options.bits_per_weight || options.target_bytes;
  if (given.encoding != nullptr && decided)
    return bad_argument("options->encoding '" + std::string(given.encoding) + "' beside a policy or a budget");
  if (given.encoding != nullptr) options.encoding = given.encoding;
  if (given.embeddings != nullptr) options.embeddings = given.embeddings;
  options.keep_exact = CDNA_TRY(take_texts(given.keep_exact, given.keep_exact_count, "options->keep_exact"));
  options.codec = CDNA_TRY(need_codec(given.codec, "options->codec"));
  if (given.keep_nonfinite != 0) options.nonfinite = Nonfinite::exact;
  options.threads = CDNA_TRY(take_threads(given.threads, "options->threads"));
  CDNA_TRY(check(options));
  return options;
}

Result<ModelOptions> take_model_options(const cdna_convert_options& given) {
  ModelOptions options;
  if (given.source_format != nullptr) {
    const auto format = parse_model_format(given.source_format);
    if (!format)
      return bad_argument("options->source_format '" + std::string(given.source_format) + "' is not one of " +
                          names_of(model_formats()));
    options.format = *format;
  }
  if (given.sidecar != nullptr) {
    options.sidecar = given.sidecar;
    if (options.sidecar.empty()) return bad_argument("options->sidecar is empty");
  }
  options.skip = CDNA_TRY(take_texts(given.skip, given.skip_count, "options->skip"));
  options.shapes = CDNA_TRY(take_texts(given.shapes, given.shape_count, "options->shapes"));
  return options;
}

cdna_convert_report report_of(const ConvertReport& report) {
  cdna_convert_report out{};
  std::memcpy(out.root, report.root.data(), report.root.size());
  out.tensor_count = report.tensors.size();
  out.source_bytes = report.source_bytes;
  out.stored_bytes = report.stored_bytes;
  out.file_bytes = report.file_bytes;
  return out;
}

Result<void> convert_file(const char* source, const char* destination, const cdna_convert_options* given,
                          cdna_convert_report* ret_report) {
  const std::string from(CDNA_TRY(text(source, "source")));
  const std::string to(CDNA_TRY(text(destination, "destination")));
  if (ret_report != nullptr) CDNA_TRY(struct_size(ret_report, "ret_report"));
  const cdna_convert_options known = CDNA_TRY(take_options(given, "options"));
  ConvertOptions options = CDNA_TRY(take_convert_options(known));
  const ModelOptions model_options = CDNA_TRY(take_model_options(known));
  Progress progress(known.progress, known.progress_context);
  options.stop = &progress.stop();
  options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
    static_cast<void>(progress.tell(done, total));  // What it says is in stop().
  };
  const std::unique_ptr<Model> model = CDNA_TRY(open_model(from, model_options));
  FileSinkOptions file_options;
  file_options.force = known.force != 0;
  std::unique_ptr<Sink> sink = CDNA_TRY(create_file(to, file_options));
  const ConvertReport report = CDNA_TRY(convert(*model, std::move(sink), options));
  return ret_report == nullptr ? Result<void>() : give_struct(report_of(report), ret_report, "ret_report");
}

}  // namespace
}  // namespace cdna::c

extern "C" cdna_code cdna_convert(const char* source, const char* destination, const cdna_convert_options* options,
                                  cdna_convert_report* ret_report, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::convert_file(source, destination, options, ret_report); });
}
