// Tensor by tensor in name order, then the assets.
#include "libcdna/convert/conversion.hpp"

#include <cassert>
#include <memory>
#include <utility>

#include "libcdna/convert/counting_sink.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// How often the writer reads a tensor.
std::uint64_t passes(const TensorPlan& tensor) {
  if (tensor.alias_of) return 0;
  return tensor.decision.preset.method == Preset::Method::codebook ? 2 : 1;
}

std::uint64_t bytes_to_read(const Model& model, const Plan& plan) {
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i)
    bytes += model.tensors()[i].size_bytes * passes(plan.tensors[i]);
  return bytes;
}

SourceCodes codes_of(const EncodedPlanes& planes) {
  SourceCodes codes;
  codes.bits = planes.bits;
  codes.vector = planes.vector;
  codes.group = planes.group;
  codes.has_offsets = !planes.group_offsets.empty();
  codes.has_column_scales = !planes.column_scales.empty();
  codes.outliers = planes.outlier_positions.size();
  codes.outlier_dtype = planes.outlier_dtype;
  codes.rank = static_cast<std::uint32_t>(planes.low_rank_factors.size());
  return codes;
}

ConvertReport report_of(const Model& model, const Plan& plan, const Conversion& conversion) {
  ConvertReport report;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const ModelTensor& tensor = model.tensors()[i];
    const TensorPlan& planned = plan.tensors[i];
    report.tensors.push_back({tensor.name, tensor.size_bytes, planned.decision, planned.alias_of, conversion.written(i),
                              conversion.codes(i)});
    if (planned.alias_of) continue;
    report.source_bytes += tensor.size_bytes;
    report.stored_bytes += conversion.written(i).stored_bytes;
    report.elements += elements_of(tensor);
  }
  report.notes.assign(model.notes().begin(), model.notes().end());
  report.notes.insert(report.notes.end(), plan.notes.begin(), plan.notes.end());
  return report;
}

Result<ConvertReport> carry_out(const Model& model, const Plan& plan, std::unique_ptr<Sink> sink,
                                const ConvertOptions& options) {
  std::uint64_t file_bytes = 0;
  WriterOptions writer_options;
  writer_options.threads = options.threads;
  writer_options.stop = options.stop;
  Writer writer = CDNA_TRY(Writer::create(std::make_unique<CountingSink>(file_bytes, std::move(sink)), writer_options));
  Conversion conversion(model, plan, options.progress, std::move(writer));
  CDNA_TRY(conversion.write_items());
  ConvertReport report = report_of(model, plan, conversion);  // Takes memory: not once there is a file.
  report.root = CDNA_TRY(conversion.finish());
  report.file_bytes = file_bytes;
  return report;
}

// Where the parts of a conversion with a budget are, as one: a third of the work is taken to be measuring.
class Phases {
 public:
  Phases(const Model& model, const ProgressCallback& progress) : progress_(progress) {
    for (const ModelTensor& tensor : model.tensors()) model_bytes_ += tensor.size_bytes;
  }

  ProgressCallback measuring() const { return part(0, model_bytes_); }
  ProgressCallback converting() const { return part(model_bytes_, 2 * model_bytes_); }

 private:
  // Lives as long as this object does.
  ProgressCallback part(std::uint64_t begin, std::uint64_t size) const {
    if (!progress_) return {};
    return [this, begin, size](std::uint64_t done, std::uint64_t total) {
      const double share = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
      const auto bytes = done == total ? size : static_cast<std::uint64_t>(share * static_cast<double>(size));
      progress_(begin + std::min(bytes, size), 3 * model_bytes_);
    };
  }

  const ProgressCallback& progress_;
  std::uint64_t model_bytes_ = 0;
};

Result<ConvertReport> plan_and_carry_out(const Model& model, std::unique_ptr<Sink> sink,
                                         const ConvertOptions& options) {
  ConvertOptions part = options;
  const bool has_budget = options.bits_per_weight || options.target_bytes;
  const Phases phases(model, options.progress);
  if (has_budget) part.progress = phases.measuring();
  const Plan plan = CDNA_TRY(make_plan(model, part));
  if (has_budget) part.progress = phases.converting();
  return carry_out(model, plan, std::move(sink), part);
}

}  // namespace

Metadata metadata_of(const Model& model, const Plan& plan) {
  Metadata metadata = plan.metadata;
  for (const auto& [key, value] : model.metadata()) metadata.try_emplace(key, value);
  metadata["cdna.options"] = JsonText{plan.recorded_options};
  return metadata;
}

Result<void> add_assets(const Model& model, Codec codec, Writer& writer) {
  for (std::size_t i = 0; i < model.assets().size(); ++i) {
    const ModelAsset& asset = model.assets()[i];
    const auto read = [&model, i](std::uint64_t offset, std::span<std::byte> out) {
      return model.read_asset(i, offset, out);
    };
    CDNA_TRY(writer.add_asset(asset.name, asset.media_type, asset.size_bytes, codec, read));
  }
  return {};
}

Conversion::Conversion(const Model& model, const Plan& plan, const ProgressCallback& progress, Writer writer)
    : model_(model),
      plan_(plan),
      writer_(std::move(writer)),
      codes_(plan.tensors.size()),
      progress_(progress, bytes_to_read(model, plan)) {}

Result<void> Conversion::write_items() {
  for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
    const std::uint32_t item = CDNA_TRY(add_tensor(i));
    items_.push_back(item);
  }
  return add_assets(model_, plan_.codec, writer_);
}

Result<Digest> Conversion::finish() {
  const Digest root = CDNA_TRY(writer_.finish(metadata_of(model_, plan_)));
  progress_.finish();
  return root;
}

// From several threads.
Result<void> Conversion::read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) {
  progress_.show(done_bytes_.fetch_add(out.size()) + out.size());
  return model_.read(tensor, offset, out);
}

Result<std::uint32_t> Conversion::add_tensor(std::size_t i) {
  const ModelTensor& tensor = model_.tensors()[i];
  const TensorPlan& plan = plan_.tensors[i];
  if (plan.alias_of) return writer_.add_alias(tensor.name, items_[*plan.alias_of]);
  const Preset& preset = plan.decision.preset;
  TensorSpec spec{tensor.name, tensor.dtype, tensor.shape, plan.decision.role, plan_.codec, Filter::none};
  const auto read = [this, i](std::uint64_t offset, std::span<std::byte> out) { return this->read(i, offset, out); };
  if (preset.method == Preset::Method::source) return add_encoded(i, spec);
  if (preset.method == Preset::Method::codebook) return writer_.add_codebook(spec, preset.codebook, read);
  if (preset.method == Preset::Method::exact_z) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  return writer_.add_exact(spec, read);
}

Result<std::uint32_t> Conversion::add_encoded(std::size_t i, const TensorSpec& spec) {
  auto held = model_.read_planes(i);
  if (!held) {
    if (held.error().item.empty()) held.error().item = spec.name;
    return held.error();
  }
  progress_.show(done_bytes_ += model_.tensors()[i].size_bytes);
  codes_[i] = codes_of(held->planes);
  return writer_.add_encoded(spec, held->planes);
}

double ConvertReport::bits_per_weight() const {
  return elements == 0 ? 0 : static_cast<double>(stored_bytes) * 8 / elements;
}

Result<ConvertReport> convert(const Model& model, const Plan& plan, std::unique_ptr<Sink> sink,
                              const ConvertOptions& options) {
  assert(sink != nullptr && plan.tensors.size() == model.tensors().size());
  return no_throw([&] { return carry_out(model, plan, std::move(sink), options); });
}

Result<ConvertReport> convert(const Model& model, std::unique_ptr<Sink> sink, const ConvertOptions& options) {
  assert(sink != nullptr);
  return no_throw([&] { return plan_and_carry_out(model, std::move(sink), options); });
}

}  // namespace cdna
