// Fits a codebook to weighted values: density of entries ~ p^(1/3), then Lloyd steps to convergence, and in turn with
// them moves of all boundaries at once.
//
// Source: Panter and Dite 1951 (a quantiser of least squared error has cell density ~ p^(1/3)); Lloyd 1982; Fisher 1958
// (dynamic programming, here in a band). Within 0.02 dB of the optimum: tests/codebook_fit_test.cpp.
// Everything that can reach a file is computed with +, -, *, / and sqrt in a fixed order: the same bits on all
// compilers.
#pragma once

#include <cstdint>
#include <vector>

#include "cdna/preset.hpp"
#include "libcdna/encode/codebook.hpp"
#include "libcdna/encode/samples.hpp"

namespace cdna {

struct FittedCodebook {
  Codebook codebook;
  // What plane pwl or affine says (spec/format.md, 13.3), in binary16; empty for class free.
  std::vector<std::uint16_t> claim;
};

// The codebook of options.entries and options.codebook_class with the least squared error. Without samples all entries
// are 0. Requires: check_options(options).
FittedCodebook fit_codebook(const Samples& samples, const CodebookOptions& options);

}  // namespace cdna
