// Models into files: arrays of Python's, or what other formats hold; and files into other formats.
#include "cdna/convert.hpp"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "aligned_bytes.hpp"
#include "array_model.hpp"
#include "container.hpp"
#include "interruptible.hpp"
#include "libcdna/try.hpp"
#include "python_error.hpp"
#include "threads.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

// ---- What is asked for ----

// `value` as T, or ArgumentError: `name` is not `kind`.
template <class T>
T cast_or_refuse(nb::handle value, const std::string& name, const char* kind) {
  constexpr std::size_t kShown = 100;
  T out{};
  if (nb::try_cast(value, out)) return out;
  raise_bad_argument(name + " is " + utf8_of(nb::repr(value)).substr(0, kShown) + ": not " + kind);
}

bool is_json(const nb::object& value) { return nb::isinstance<nb::tuple>(value); }

// A value of metadata: bool before int, which it is too. ("json", text) is JSON.
MetadataValue metadata_value(const std::string& name, const nb::object& value) {
  if (value.is_none()) return std::monostate{};
  if (nb::isinstance<nb::bool_>(value)) return nb::cast<bool>(value);
  if (is_json(value)) return JsonText{cast_or_refuse<std::string>(value[1], name, "UTF-8")};
  if (nb::isinstance<nb::float_>(value)) return nb::cast<double>(value);
  if (nb::isinstance<nb::str>(value)) return cast_or_refuse<std::string>(value, name, "UTF-8");
  if (nb::isinstance<nb::int_>(value)) {
    std::int64_t number = 0;
    if (nb::try_cast(value, number)) return number;
    std::uint64_t large = 0;
    if (nb::try_cast(value, large)) return large;
    raise_bad_argument(name + " is an integer beyond 64 bits");
  }
  const Borrowed bytes = Borrowed::bytes(value);
  return std::vector<std::byte>(bytes.read().begin(), bytes.read().end());
}

Metadata metadata_of(const nb::dict& values) {
  Metadata metadata;
  for (const auto& [key, value] : values) {
    auto name = cast_or_refuse<std::string>(key, "a key of metadata", "a str of UTF-8");
    MetadataValue converted = metadata_value("metadata \"" + name + "\"", nb::borrow(value));
    metadata.insert_or_assign(std::move(name), std::move(converted));
  }
  return metadata;
}

template <class T>
T option_in(const nb::dict& options, const char* name, const char* kind) {
  return cast_or_refuse<T>(options[name], name, kind);
}

template <class T>
std::optional<T> optional_in(const nb::dict& options, const char* name, const char* kind) {
  if (options[name].is_none()) return std::nullopt;
  return option_in<T>(options, name, kind);
}

constexpr const char* kText = "a str of UTF-8";
constexpr const char* kTexts = "a list of str of UTF-8";

// The options of Python's side, each of which is there.
ConvertOptions options_of(const nb::dict& options) {
  ConvertOptions out;
  if (const auto encoding = optional_in<std::string>(options, "encoding", kText)) out.encoding = *encoding;
  out.policy_file = utf8_of(options["policy_file"]);
  if (!nb::try_cast(options["policy"], out.policy)) raise_bad_argument(out.policy_file + " is not UTF-8");
  out.embeddings = optional_in<std::string>(options, "embeddings", kText);
  const auto codec = option_in<std::string>(options, "codec", kText);
  if (!codec_of(codec)) raise_bad_argument("codec is \"" + codec + "\": \"raw\", \"zstd\" or \"brotli\"");
  out.codec = *codec_of(codec);
  out.nonfinite = nb::cast<bool>(options["keep_nonfinite"]) ? Nonfinite::exact : Nonfinite::refuse;
  out.bits_per_weight = optional_in<double>(options, "bits_per_weight", "a number");
  if (const nb::object bytes = options["target_bytes"]; !bytes.is_none())
    out.target_bytes = cast_or_refuse<std::uint64_t>(bytes, "target_nbytes", "a number of bytes");
  out.candidates = option_in<std::vector<std::string>>(options, "candidates", kTexts);
  out.keep_exact = option_in<std::vector<std::string>>(options, "keep_exact", kTexts);
  out.metadata = metadata_of(nb::cast<nb::dict>(options["metadata"]));
  out.threads = thread_count(option_in<std::uint64_t>(options, "threads", "a number of threads"));
  return out;
}

// ---- What became of it ----

nb::dict fields_of(const ConvertedTensor& tensor, const ConvertReport& report) {
  nb::dict fields;
  fields["name"] = text_of(tensor.name);
  fields["preset"] = text_of(name_of(tensor.decision.preset));
  fields["role"] = text_of(name_of(tensor.decision.role));
  fields["reason"] = text_of(tensor.decision.reason);
  fields["alias_of"] =
      tensor.alias_of ? nb::object(text_of(report.tensors[*tensor.alias_of].name)) : nb::object(nb::none());
  fields["source_nbytes"] = tensor.source_bytes;
  fields["stored_nbytes"] = tensor.written.stored_bytes;
  fields["snr_db"] = tensor.written.statistics.snr_db();
  return fields;
}

nb::dict fields_of(const ConvertReport& report) {
  nb::list tensors, notes;
  for (const ConvertedTensor& tensor : report.tensors) tensors.append(fields_of(tensor, report));
  for (const std::string& note : report.notes) notes.append(text_of(note));
  nb::dict fields;
  fields["root"] = nb::bytes(report.root.data(), report.root.size());
  fields["file_nbytes"] = report.file_bytes;
  fields["source_nbytes"] = report.source_bytes;
  fields["stored_nbytes"] = report.stored_bytes;
  fields["bits_per_weight"] = report.bits_per_weight();
  fields["tensors"] = tensors;
  fields["notes"] = notes;
  return fields;
}

// ---- The calls ----

std::string path_of(const nb::object& path) {
  const auto bytes = nb::cast<nb::bytes>(path);
  return {bytes.c_str(), bytes.size()};
}

FileSinkOptions file_options(bool force) {
  FileSinkOptions options;
  options.force = force;
  return options;
}

// Where a file goes: its path, or None for `memory`.
Result<std::unique_ptr<Sink>> sink_for(const nb::object& path, bool force, AlignedBytes& memory) {
  if (path.is_none()) return std::unique_ptr<Sink>(std::make_unique<AlignedSink>(memory));
  return create_file(path_of(path), file_options(force));
}

nb::object content_of(const nb::object& path, const AlignedBytes& memory) {
  if (!path.is_none()) return nb::none();
  return nb::bytes(memory.bytes().data(), memory.bytes().size());
}

// Commits once progress has been shown as whole, unless what it was shown to raised.
class AskingSink final : public Sink {
 public:
  AskingSink(std::unique_ptr<Sink> inner, std::function<Result<void>()> ask)
      : inner_(std::move(inner)), ask_(std::move(ask)) {}
  Result<void> write(std::span<const std::byte> bytes) override { return inner_->write(bytes); }
  Result<void> commit() override {
    CDNA_TRY(ask_());
    return inner_->commit();
  }

 private:
  std::unique_ptr<Sink> inner_;
  std::function<Result<void>()> ask_;
};

// Runs `work`, which gets a sink, a stop flag and a progress callback and returns a Result.
template <class Work>
auto run_stoppably(const nb::object& callback, std::unique_ptr<Sink> sink, Work&& work) {
  ShownProgress progress;
  std::atomic<bool> stop{false};
  std::optional<decltype(work(std::move(sink), &stop, ProgressCallback{}))> result;
  const ProgressCallback report = [&progress](std::uint64_t done, std::uint64_t all) { progress.set(done, all); };
  run_interruptibly(
      stop,
      [&](const LastLook& last_look) {
        const auto ask = [&]() -> Result<void> {
          progress.done = progress.all.load();
          last_look();
          CDNA_CHECK(!stop, Code::cancelled, "", "stopped");
          return {};
        };
        result.emplace(work(std::make_unique<AskingSink>(std::move(sink), ask), &stop, report));
      },
      progress.tick(callback));
  return value_of(*std::move(result));
}

nb::tuple convert_model(const Model& model, const nb::object& destination, bool force, ConvertOptions options,
                        const nb::object& callback) {
  AlignedBytes memory;
  auto sink = value_of(sink_for(destination, force, memory));
  const ConvertReport report =
      run_stoppably(callback, std::move(sink),
                    [&](std::unique_ptr<Sink> asking, const std::atomic<bool>* stop, ProgressCallback progress) {
                      options.stop = stop;
                      options.progress = std::move(progress);
                      return convert(model, std::move(asking), options);
                    });
  return nb::make_tuple(fields_of(report), content_of(destination, memory));
}

// Arrays into a file: (report, the file's bytes or None).
nb::tuple save(const nb::list& tensors, const nb::list& assets, const nb::object& destination, bool force,
               const nb::dict& options, const nb::object& callback) {
  const ArrayModel model(tensors, assets);
  return convert_model(model, destination, force, options_of(options), callback);
}

// "is not one of auto, safetensors, ..."
template <class Format>
[[noreturn]] void raise_unknown_format(const char* name, std::string_view given, std::span<const Format> formats) {
  std::string names;
  for (const Format format : formats) names += (names.empty() ? "" : ", ") + std::string(name_of(format));
  raise_bad_argument(std::string(name) + " is \"" + std::string(given) + "\": not one of " + names);
}

ModelOptions model_options(std::string_view format, const nb::bytes& sidecar, const nb::dict& wanted) {
  const auto known = parse_model_format(format);
  if (!known) raise_unknown_format("source_format", format, model_formats());
  ModelOptions options;
  options.format = *known;
  options.sidecar.assign(sidecar.c_str(), sidecar.size());
  options.skip = option_in<std::vector<std::string>>(wanted, "skip", kTexts);
  options.shapes = option_in<std::vector<std::string>>(wanted, "shapes", kTexts);
  return options;
}

// A model in another format into a file; sidecar: a path, or b"".
nb::tuple convert_path(const nb::bytes& source, const nb::object& destination, bool force, std::string_view format,
                       const nb::bytes& sidecar, const nb::dict& options, const nb::object& callback) {
  const ConvertOptions wanted = options_of(options);
  value_of(check(wanted));
  const std::string path(source.c_str(), source.size());
  const ModelOptions what = model_options(format, sidecar, options);
  const std::unique_ptr<Model> model = without_gil([&] { return open_model(path, what); });
  return convert_model(*model, destination, force, wanted, callback);
}

// What the ending of a path says: the name of an ExportFormat, or None.
nb::object export_format(const nb::bytes& path) {
  const auto format = export_format_of({path.c_str(), path.size()});
  return format ? nb::object(text_of(name_of(*format))) : nb::object(nb::none());
}

// A file into another format; dtype: of floats, or ""; "q8_0" and the architecture are of GGUF.
nb::object export_path(const Container& container, const nb::object& destination, bool force, std::string_view to,
                       std::string_view dtype, std::string_view architecture, const nb::object& callback) {
  const auto format = parse_export_format(to);
  if (!format) raise_unknown_format("format", to, export_formats());
  const bool is_folder = *format == ExportFormat::hxq && !destination.is_none();
  const auto opened = container.opened();
  ExportOptions options;
  options.q8_0 = dtype == "q8_0";
  if (!dtype.empty() && !options.q8_0) options.dtype = dtype_named(dtype);
  options.architecture = architecture;
  AlignedBytes memory;
  std::unique_ptr<Sink> sink = is_folder ? nullptr : value_of(sink_for(destination, force, memory));
  const std::string folder = is_folder ? path_of(destination) : std::string();
  const auto write = [&](std::unique_ptr<Sink> asking) {
    return is_folder ? export_file(opened->reader, folder, *format, file_options(force), options)
                     : export_model(opened->reader, std::move(asking), *format, options);
  };
  run_stoppably(
      callback, std::move(sink),
      [&](std::unique_ptr<Sink> asking, const std::atomic<bool>* stop, ProgressCallback progress) -> Result<bool> {
        options.stop = stop;
        options.progress = std::move(progress);
        auto done = write(std::move(asking));
        if (!done) return std::move(done).error();
        return true;
      });
  return content_of(destination, memory);
}

}  // namespace

void add_convert(nb::module_& module) {
  module.def("save", &save, nb::arg("tensors"), nb::arg("assets"), nb::arg("destination").none(), nb::arg("force"),
             nb::arg("options"), nb::arg("progress").none());
  module.def("convert", &convert_path, nb::arg("source"), nb::arg("destination").none(), nb::arg("force"),
             nb::arg("format"), nb::arg("sidecar"), nb::arg("options"), nb::arg("progress").none());
  module.def("export_format", &export_format, nb::arg("path"));
  module.def("export_model", &export_path, nb::arg("container"), nb::arg("destination").none(), nb::arg("force"),
             nb::arg("format"), nb::arg("dtype"), nb::arg("architecture"), nb::arg("progress").none());
}

}  // namespace cdna::python
