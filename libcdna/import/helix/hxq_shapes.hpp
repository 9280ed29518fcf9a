// Shapes of matrices with 12-bit indices, from outside of a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/helix/hxq_modules.hpp"

namespace cdna {

// One of ModelOptions::shapes.
struct ShapeHint {
  std::string glob;
  std::uint64_t rows = 0;  // 0: "*".
  std::uint64_t cols = 0;
};

// Errors: bad_argument (not GLOB=ROWSxCOLS, or nothing known).
Result<std::vector<ShapeHint>> parse_shape_hints(const std::vector<std::string>& texts);

// Gives each module its shape: a hint's (the first that fits), what its tensors tell, or that of meta.json in the
// compressor's output, a folder cdnav3* in `folder` ("": none). Hints for modules whose shape is known are compared
// with it. Errors: bad_argument (a hint that fits no module), malformed (disagreement; a shape that nothing tells: says
// how to give it), io.
Result<void> complete_shapes(const Model& checkpoint, std::vector<HxqModule>& modules,
                             const std::vector<ShapeHint>& hints, const std::string& folder, FileSystem& file_system,
                             std::vector<std::string>& notes);

}  // namespace cdna
