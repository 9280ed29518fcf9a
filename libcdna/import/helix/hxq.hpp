// HXQ checkpoints of helix-substrate: safetensors in which a weight is a codebook, indices and what belongs to them.
#pragma once

#include <memory>
#include <string>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/import.hpp"

namespace cdna {

// Whether a model has tensors M.codebook and M.indices, of the dtypes and dimensions that HXQ gives them; or tensors
// called as HXQ's, in a checkpoint whose config.json says that it is one.
bool has_hxq_modules(const Model& model);

// A model of the weights that a checkpoint stands for: M.weight of each module M, and all other tensors as they are.
// `path`, a folder or a file, is looked at for the compressor's output beside a checkpoint, which tells the shapes of
// matrices with 12-bit indices. Errors: malformed, unsupported, limit (names module and tensor), bad_argument (a model
// without modules; options), io.
Result<std::unique_ptr<Model>> open_hxq(std::unique_ptr<Model> checkpoint, const std::string& path, bool is_folder,
                                        const ModelOptions& options, FileSystem& file_system);

}  // namespace cdna
