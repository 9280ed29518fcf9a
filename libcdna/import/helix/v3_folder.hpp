// Folders of helix-substrate's v3 as models: one tensor, or tensors in folders beside arrays and a manifest.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/folder.hpp"
#include "libcdna/import/helix/tensor_files.hpp"

namespace cdna {

// Whether a folder is one tensor, or has such folders in it.
bool is_v3_tensor(const Folder& folder);
bool is_v3_folder(const Folder& folder);

// Opens either; open_model() has the errors. Tensors are what NAME.cdnav3 folders and .npy arrays hold; their names are
// those in meta.json and NAME.npy.meta.json. A manifest says nothing that is not there, but must not disagree about
// names.
Result<std::unique_ptr<Model>> open_v3_folder(const std::string& path, const ModelOptions& options,
                                              FileSystem& file_system);

// One tensor of any files, as a model. Errors: those of V3Tensor::open().
Result<std::unique_ptr<Model>> open_v3_files(std::shared_ptr<const TensorFiles> files);

}  // namespace cdna
