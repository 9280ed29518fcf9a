// Tensor by tensor in name order, then the assets.
#include "tools/cdna/conversion.hpp"

#include <utility>

namespace cdna::tools {

Conversion::Conversion(const Model& model, const Plan& plan, Codec codec, Metadata metadata, Writer writer)
    : model_(model),
      plan_(plan),
      codec_(codec),
      metadata_(std::move(metadata)),
      writer_(std::move(writer)),
      progress_("converting") {
  for (std::size_t i = 0; i < plan.tensors.size(); ++i)
    all_bytes_ += model.tensors()[i].size_bytes * passes(plan.tensors[i]);
}

Result<Digest> Conversion::run() {
  auto result = write_all();
  progress_.clear();
  return result;
}

// How often the writer reads a tensor.
std::uint64_t Conversion::passes(const TensorPlan& tensor) const {
  if (tensor.alias_of) return 0;
  return tensor.decision.preset.method == Preset::Method::codebook ? 2 : 1;
}

Result<Digest> Conversion::write_all() {
  for (std::size_t i = 0; i < plan_.tensors.size(); ++i) {
    auto item = add_tensor(i);
    if (!item) return std::move(item).error();
    items_.push_back(*item);
  }
  for (std::size_t i = 0; i < model_.assets().size(); ++i) {
    const ModelAsset& asset = model_.assets()[i];
    const auto read = [this, i](std::uint64_t offset, std::span<std::byte> out) {
      return model_.read_asset(i, offset, out);
    };
    if (auto item = writer_.add_asset(asset.name, asset.media_type, asset.size_bytes, codec_, read); !item)
      return std::move(item).error();
  }
  return writer_.finish(std::move(metadata_));
}

// From several threads; the progress line is the first one's.
Result<void> Conversion::read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) {
  const std::uint64_t done = done_bytes_.fetch_add(out.size()) + out.size();
  if (std::this_thread::get_id() == thread_) progress_.show(done, all_bytes_);
  return model_.read(tensor, offset, out);
}

Result<std::uint32_t> Conversion::add_tensor(std::size_t i) {
  const ModelTensor& tensor = model_.tensors()[i];
  const TensorPlan& plan = plan_.tensors[i];
  if (plan.alias_of) return writer_.add_alias(tensor.name, items_[*plan.alias_of]);
  const Preset& preset = plan.decision.preset;
  TensorSpec spec{tensor.name, tensor.dtype, tensor.shape, plan.decision.role, codec_, Filter::none};
  const auto read = [this, i](std::uint64_t offset, std::span<std::byte> out) { return this->read(i, offset, out); };
  if (preset.method == Preset::Method::codebook) return writer_.add_codebook(spec, preset.codebook, read);
  if (preset.method == Preset::Method::exact_z) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  return writer_.add_exact(spec, read);
}

}  // namespace cdna::tools
