// config.json of an HXQ checkpoint: a hint, held against the data.
#pragma once

#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/helix/hxq_modules.hpp"

namespace cdna {

// Whether config.json has HXQ's quant_method: cdna_v3, helix or hxq. One that cannot be read has none.
bool states_hxq(const Model& checkpoint);

// Keeps quantization_config as metadata "helix:quantization_config", and notes where it says other than the modules:
// another method, modules that are missing here or there, codebooks of other sizes or vectors, packing. Errors: io.
Result<void> compare_config(const Model& checkpoint, const std::vector<HxqModule>& modules, Metadata& metadata,
                            std::vector<std::string>& notes);

}  // namespace cdna
