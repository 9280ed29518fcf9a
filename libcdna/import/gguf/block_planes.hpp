// A tensor of GGUF blocks as planes of codes.
#pragma once

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "cdna/source.hpp"
#include "libcdna/import/gguf/header.hpp"

namespace cdna {

// Reads a tensor's blocks, and unpacks them. Requires: type->codes, elements, a place within the source.
// Errors: malformed (a scale that is not finite: with the byte of its block), io; item is the tensor.
// Memory: the planes, and 1 MiB.
Result<HeldPlanes> read_block_planes(const Source& source, const GgufTensor& tensor);

}  // namespace cdna
