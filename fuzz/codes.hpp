// What must hold for a model of codes that was accepted: the property behind the targets import_hxq and import_v3.
#pragma once

#include <cstddef>

#include "cdna/import.hpp"

namespace cdna::fuzz {

// Requires that names ascend and sizes are those of shapes; that the planes of each tensor of codes are an error of the
// source or planes that Writer::add_encoded() takes; and that Model::read() gives their values, from any byte on, which
// `choice` picks.
void check_codes(const Model& model, std::size_t choice);

}  // namespace cdna::fuzz
