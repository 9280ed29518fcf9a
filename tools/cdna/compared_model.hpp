// One side of a comparison: a container, or a model in another format.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cdna/digest.hpp"
#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "tools/tensor_stream.hpp"

namespace cdna::tools {

struct ComparedTensor {
  std::string name;
  DType dtype = DType::none;  // Of the source.
  std::vector<std::uint64_t> shape;
  std::string encoding;  // "" of a model.
  std::uint64_t source_bytes = 0;
  std::optional<Tensor> stored;  // Of a container; an alias has its tensor.

  // Recorded, and known.
  std::optional<Digest> source_digest() const;
};

struct ComparedAsset {
  std::string name;
  std::string media_type;
  std::uint64_t size_bytes = 0;
  std::optional<Asset> stored;  // Of a container.
};

// Const methods may be called from any thread. What they return is valid while the model lives.
class ComparedModel {
 public:
  // A CDNA file, or else what open_model() takes with these options. Errors: those of Reader::open and open_model.
  static Result<ComparedModel> open(const std::string& path, const ModelOptions& options = {});

  const std::string& path() const { return path_; }
  bool is_container() const { return reader_.has_value(); }
  std::optional<Digest> root() const { return reader_ ? std::optional(reader_->root()) : std::nullopt; }

  const std::vector<ComparedTensor>& tensors() const { return tensors_; }  // By name.
  Result<TensorStream> tensor_stream(std::size_t tensor) const;

  const std::vector<ComparedAsset>& assets() const { return assets_; }  // By name.
  std::unique_ptr<ByteStream> asset_stream(std::size_t asset) const;

  // Keys and values. Errors: those of Reader::metadata().
  Result<Metadata> metadata() const;

 private:
  explicit ComparedModel(std::string path) : path_(std::move(path)) {}
  void list_container();
  void list_model();

  std::string path_;
  std::optional<Reader> reader_;
  std::unique_ptr<Model> model_;
  std::vector<ComparedTensor> tensors_;
  std::vector<ComparedAsset> assets_;
};

}  // namespace cdna::tools
