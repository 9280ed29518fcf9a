// The inverse transform by its definition: bins are few, and sums in one order are the same everywhere.
#include "libcdna/import/helix/morpho_fft.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "libcdna/hash/sha256.hpp"
#include "libcdna/import/helix/codebook_tensor.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr double kPi = 3.14159265358979323846;

struct Rotation {
  double cosine = 1;
  double sine = 0;
};

// By Taylor's series, whose terms are below 10^-18 behind the ninth: libm differs from machine to machine. Requires: an
// angle of at most pi / 4.
Rotation small_rotation(double angle) {
  constexpr int kTerms = 9;
  const double square = angle * angle;
  double cosine = 1;
  double sine = 1;
  for (int i = kTerms; i >= 1; --i) {
    cosine = 1 - square / ((2 * i - 1) * (2 * i)) * cosine;
    sine = 1 - square / (2 * i * (2 * i + 1)) * sine;
  }
  return {cosine, sine * angle};
}

// Of the angle 2 pi * step / steps. The octant is found in integers, so that the angle is small and exact to an ulp.
Rotation rotation(std::uint64_t step, std::uint64_t steps) {
  if (2 * step > steps) {
    const Rotation mirrored = rotation(steps - step, steps);
    return {mirrored.cosine, -mirrored.sine};
  }
  if (4 * step > steps) {  // pi - angle: twice the steps keep it whole.
    const Rotation mirrored = rotation(steps - 2 * step, 2 * steps);
    return {-mirrored.cosine, mirrored.sine};
  }
  if (8 * step > steps) {
    const Rotation mirrored = rotation(steps - 4 * step, 4 * steps);
    return {mirrored.sine, mirrored.cosine};
  }
  return small_rotation(2 * kPi * static_cast<double>(step) / static_cast<double>(steps));
}

std::string_view reason_of(std::string_view mode) {
  if (mode == "morpho_v3_spectral")
    return "a spectrum over eigenvectors of a graph, whose signs and rotations no other program can repeat";
  return "weights grown by a wave equation from NumPy's random numbers, which no other program can repeat bit for bit";
}

Result<void> check_hash(const PythonJson& config, std::string_view stated) {
  const std::string content = dump_sorted(config, JsonSpaces::standard, "config_sha256");
  const std::string found = to_hex(sha256(std::as_bytes(std::span(content))));
  const std::string own = config.string_of("config_sha256").value_or("");
  CDNA_CHECK(own.empty() || own == found, Code::corrupt, "",
             "config_sha256 is " + escape(own) + "; its content gives " + found);
  CDNA_CHECK(stated.empty() || stated == found, Code::corrupt, "",
             "meta.json has config_sha256 " + escape(stated) + "; its content gives " + found);
  CDNA_CHECK(!own.empty() || !stated.empty(), Code::malformed, "", "neither it nor meta.json has config_sha256");
  return {};
}

Result<std::vector<MorphoSpectrum::Bin>> parse_bins(const PythonJson& config, std::uint64_t elements) {
  const PythonJson* const list = config.find("coefficients");
  CDNA_CHECK(list != nullptr && list->kind == PythonJson::Kind::array, Code::malformed, "",
             "it has no array \"coefficients\"");
  std::map<std::uint64_t, MorphoSpectrum::Bin> bins;  // Of one frequency the last counts, as in the original.
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    const PythonJson& item = list->items[i];
    const std::string place = "coefficient " + std::to_string(i);
    const auto frequency = item.size_of("freq_bin");
    CDNA_CHECK(frequency && *frequency <= elements / 2, Code::malformed, "",
               place + ": \"freq_bin\" is no integer of 0 .. " + std::to_string(elements / 2));
    const auto part = [&](const char* key) {
      const PythonJson* const value = item.find(key);
      return value == nullptr ? std::nullopt : value->as_number();
    };
    const auto real = part("real");
    const auto imaginary = part("imag");
    CDNA_CHECK(real && imaginary && std::isfinite(*real) && std::isfinite(*imaginary), Code::malformed, "",
               place + ": \"real\" and \"imag\" are no two finite numbers");
    bins[*frequency] = {*frequency, *real, *imaginary};
  }
  std::vector<MorphoSpectrum::Bin> out;
  for (const auto& [frequency, bin] : bins) out.push_back(bin);
  return out;
}

}  // namespace

Result<MorphoSpectrum> parse_morpho_config(const PythonJson& config, std::string_view stated_sha256) {
  const std::string mode = config.string_of("format_version").value_or("");
  CDNA_CHECK(!mode.empty(), Code::malformed, "", "it has no string \"format_version\"");
  CDNA_CHECK(mode == "morpho_v3_fft", Code::unsupported, "",
             "storage mode " + escape(mode) + " is not decoded: " + std::string(reason_of(mode)));
  CDNA_TRY(check_hash(config, stated_sha256));
  MorphoSpectrum spectrum;
  auto shape = config.sizes_of("shape");
  const auto elements = config.size_of("n_original");
  CDNA_CHECK(shape && elements && *elements > 0, Code::malformed, "",
             "it has no array \"shape\" of sizes and positive \"n_original\"");
  CDNA_CHECK(*elements <= kMorphoElementsMax, Code::limit, "",
             "a spectrum of " + std::to_string(*elements) + " elements; at most " + std::to_string(kMorphoElementsMax) +
                 " are decoded");
  std::uint64_t product = 1;  // Of sizes and a product of at most 2^20 each: it cannot overflow.
  for (const std::uint64_t size : *shape) product = size <= *elements && product <= *elements ? product * size : 0;
  CDNA_CHECK(product == *elements, Code::malformed, "",
             "shape " + shape_text(*shape) + " is not of n_original = " + std::to_string(*elements) + " elements");
  spectrum.shape = *std::move(shape);
  spectrum.elements = *elements;
  spectrum.bins = CDNA_TRY(parse_bins(config, *elements));
  CDNA_CHECK(spectrum.bins.size() <= kMorphoTermsMax / *elements, Code::limit, "",
             "a spectrum of " + std::to_string(spectrum.bins.size()) + " bins for " + std::to_string(*elements) +
                 " elements takes too long to decode");
  return spectrum;
}

void decode_morpho(const MorphoSpectrum& spectrum, std::uint64_t begin, std::span<float> out) {
  const std::uint64_t n = spectrum.elements;
  std::vector<Rotation> rotations(n);
  for (std::uint64_t i = 0; i < n; ++i) rotations[i] = rotation(i, n);
  for (std::size_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (const MorphoSpectrum::Bin& bin : spectrum.bins) {
      // Bins 0 and n / 2 are their own mirror images, and real.
      const bool is_single = bin.frequency == 0 || 2 * bin.frequency == n;
      const Rotation& turn = rotations[(begin + i) % n * bin.frequency % n];
      const double term = bin.real * turn.cosine - (is_single ? 0 : bin.imaginary * turn.sine);
      sum += is_single ? term : 2 * term;
    }
    out[i] = static_cast<float>(sum / static_cast<double>(n));
  }
}

}  // namespace cdna
