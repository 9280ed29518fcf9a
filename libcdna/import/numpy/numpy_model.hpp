// .npy and .npz files as models.
#pragma once

#include <memory>
#include <string>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "cdna/source.hpp"

namespace cdna {

// One tensor of this name. Errors: those of open_model.
Result<std::unique_ptr<Model>> open_npy_model(std::unique_ptr<Source> source, std::string tensor);

// A tensor for each member NAME.npy, called NAME. Errors: those of open_model; unsupported for an archive of
// torch.save, with the reason.
Result<std::unique_ptr<Model>> open_npz_model(std::unique_ptr<Source> source);

}  // namespace cdna
