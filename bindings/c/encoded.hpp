// The handle of a matrix that was encoded.
#pragma once

#include "bindings/c/cdna.h"
#include "cdna/encode.hpp"

struct cdna_encoded {
  cdna::EncodedMatrix matrix;
};
