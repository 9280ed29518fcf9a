// Tensors that helix-substrate stores as some bins of their Fourier spectrum ("morpho_v3_fft").
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "libcdna/import/helix/python_json.hpp"

namespace cdna {

inline constexpr std::uint64_t kMorphoElementsMax = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kMorphoTermsMax = std::uint64_t{1} << 26;  // Elements times bins: half a second.

struct MorphoSpectrum {
  struct Bin {
    std::uint64_t frequency = 0;  // At most half of the elements.
    double real = 0;
    double imaginary = 0;
  };
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;
  std::vector<Bin> bins;  // By frequency, unique.
};

// Reads morpho_config.json. Its config_sha256, and `stated_sha256` of meta.json ("": none), must be those of its
// content. Errors: corrupt (the hash), malformed, unsupported (the other modes, by name and reason), limit.
Result<MorphoSpectrum> parse_morpho_config(const PythonJson& config, std::string_view stated_sha256);

// Elements from `begin` on of the inverse real transform, summed in f64 and rounded: numpy.fft.irfft() of the spectrum
// to 10^-15 of its largest value, the same bits on all machines. Requires: begin + out.size() <= elements.
// Cost: O(elements + out.size() * bins).
void decode_morpho(const MorphoSpectrum& spectrum, std::uint64_t begin, std::span<float> out);

}  // namespace cdna
