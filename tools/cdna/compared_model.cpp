// Lists of both kinds of models in one form.
#include "tools/cdna/compared_model.hpp"

#include <algorithm>
#include <filesystem>

namespace cdna::tools {

std::optional<Digest> ComparedTensor::source_digest() const {
  if (!stored || stored->source_digest() == Digest{}) return std::nullopt;
  return stored->source_digest();
}

Result<ComparedModel> ComparedModel::open(const std::string& path, const ModelOptions& options) {
  ComparedModel compared(path);
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) {
    auto reader = Reader::open(path);
    if (reader) {
      compared.reader_ = *std::move(reader);
      compared.list_container();
      return compared;
    }
    if (reader.error().code != Code::not_cdna) return std::move(reader).error();
  }
  auto model = open_model(path, options);
  if (!model) return std::move(model).error();
  compared.model_ = *std::move(model);
  compared.list_model();
  return compared;
}

void ComparedModel::list_container() {
  for (std::uint32_t i = 0; i < reader_->tensor_count(); ++i) {
    const Item named = reader_->tensor_item(i);
    const Tensor tensor = reader_->resolve(named);
    ComparedTensor& out = tensors_.emplace_back();
    out.name = named.name();
    out.dtype = tensor.dtype();
    out.shape.assign(tensor.shape().begin(), tensor.shape().end());
    out.encoding = tensor.encoding();
    out.source_bytes = tensor.source_bytes();
    out.stored = tensor;
  }
  for (std::uint32_t i = 0; i < reader_->item_count(); ++i) {
    if (reader_->item(i).kind() != ItemKind::asset) continue;
    const Asset asset(reader_->item(i));
    assets_.push_back({std::string(asset.name()), std::string(asset.media_type()), asset.size_bytes(), asset});
  }
  std::sort(assets_.begin(), assets_.end(),
            [](const ComparedAsset& a, const ComparedAsset& b) { return a.name < b.name; });
}

void ComparedModel::list_model() {
  for (const ModelTensor& tensor : model_->tensors())
    tensors_.push_back({tensor.name, tensor.dtype, tensor.shape, "", tensor.size_bytes, std::nullopt});
  for (const ModelAsset& asset : model_->assets())
    assets_.push_back({asset.name, asset.media_type, asset.size_bytes, std::nullopt});
}

Result<TensorStream> ComparedModel::tensor_stream(std::size_t tensor) const {
  return reader_ ? stream_of(*tensors_[tensor].stored) : Result<TensorStream>(stream_of(*model_, tensor));
}

std::unique_ptr<ByteStream> ComparedModel::asset_stream(std::size_t asset) const {
  return reader_ ? stream_of(*assets_[asset].stored) : stream_of_asset(*model_, asset);
}

Result<Metadata> ComparedModel::metadata() const {
  if (reader_) return reader_->metadata();
  return model_->metadata();
}

}  // namespace cdna::tools
