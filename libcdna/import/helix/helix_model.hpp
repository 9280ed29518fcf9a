// What helix-substrate's first two versions wrote, as models: one matrix, or a folder of them with a manifest.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/asset_files.hpp"
#include "libcdna/import/decoded_values.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/helix/hxz_matrix.hpp"
#include "libcdna/import/helix/hxzo.hpp"
#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/numpy/open_array.hpp"

namespace cdna {

// An HXZC or HXZ2 file with its sidecar: `sidecar`, or, where that is "", the file beside it that has the same name
// with the ending .hxzo. Errors: those of open_model.
Result<std::unique_ptr<Model>> open_hxz_file(const std::string& path, const std::string& sidecar,
                                             FileSystem& file_system);

// Whether a folder has a manifest.json of `helix-substrate convert` or `convert-gguf`, or a hybrid manifest. Errors:
// io.
Result<bool> is_helix_v2_folder(const Folder& folder);

// Such a folder. Errors: those of open_model.
Result<std::unique_ptr<Model>> open_helix_v2(const Folder& folder);

// The name that helix-substrate makes files of: '/' and '.' become '_'. Not injective.
std::string helix_file_name(std::string tensor);

// A tensor of such a model: a matrix, with a sidecar or without, or an array.
struct HelixTensor {
  ModelTensor description;
  std::unique_ptr<HxzMatrix> matrix;
  std::shared_ptr<const HxzoSidecar> sidecar;
  std::shared_ptr<const Source> array;  // With `array_header`; the tensor is no matrix then.
  NpyHeader array_header;
};

// Describes a matrix, and what its original shape is if that is known. Errors: malformed (another number of elements).
Result<HelixTensor> helix_tensor(std::unique_ptr<HxzMatrix> matrix, std::string name,
                                 std::optional<std::vector<std::uint64_t>> shape);

// Joins a sidecar, and notes what is in it. `is_chosen`: by the caller, whose word is taken for it that a matrix
// without a name of its own is that of the sidecar. Errors: malformed (of another tensor or shape; both are named).
Result<void> join_sidecar(HxzoSidecar sidecar, HelixTensor& tensor, bool is_chosen, std::vector<std::string>& notes);

class HelixModel final : public Model {
 public:
  // Requires: unique names.
  HelixModel(std::vector<HelixTensor> tensors, Metadata metadata, std::vector<AssetFile> assets,
             std::vector<std::string> notes);

  std::span<const ModelTensor> tensors() const override { return descriptions_; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return assets_; }
  std::span<const std::string> notes() const override { return notes_; }
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override;
  Result<HeldPlanes> read_planes(std::size_t tensor) const override;
  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override;

 private:
  Result<void> read_array(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const;
  Result<HeldPlanes> load_planes(std::size_t tensor) const;

  std::vector<HelixTensor> tensors_;
  std::vector<ModelTensor> descriptions_;
  Metadata metadata_;
  std::vector<ModelAsset> assets_;
  std::vector<std::unique_ptr<Source>> asset_sources_;
  std::vector<std::string> notes_;
  LastPlanes last_;
  LastArray last_array_;
};

}  // namespace cdna
