// Presets: what is done with the values of a tensor, by name and with parameters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "cdna/error.hpp"

namespace cdna {

// The shape of a codebook (spec/format.md, 13.2 and 13.3).
enum class CodebookClass : std::uint8_t {
  free,    // Any ascending entries.
  pwl16,   // 16 segments of entries at equal steps: k = 32, 64, 128 or 256.
  affine,  // All entries at equal steps: k a power of two.
};
// "free", "pwl16", "affine". Static storage.
std::string_view name_of(CodebookClass codebook_class);

enum class Nonfinite : std::uint8_t {
  refuse,  // A NaN, an infinity, or an F64 value beyond the range of f32, is an error with its place.
  exact,   // It becomes an outlier, bit for bit.
};

// How the codebook encoder works. Combinations are free, as far as a block holds no more than 16 MiB of outliers.
struct CodebookOptions {
  std::uint32_t entries = 256;  // k, 2..256; codes have ceil(log2 k) bits.
  std::uint32_t group = 0;  // Values that share a one-byte scale, beside the scale of their row: 32, 64, 128; 0: none.
  double outlier_fraction = 0.001;  // At most this share of the values is kept exactly, the largest after scaling.
  CodebookClass codebook_class = CodebookClass::free;
  Nonfinite nonfinite = Nonfinite::refuse;
  bool operator==(const CodebookOptions&) const = default;
};

struct Preset {
  enum class Method : std::uint8_t {
    exact,    // The source's bytes.
    exact_z,  // The same, in byte planes of which the exponents' is compressed (spec/format.md, 12.1).
    codebook,
    source,  // The codes that the source holds, as they are. Not asked for by name.
  };
  Method method = Method::exact;
  CodebookOptions codebook;  // Of Method::codebook.
  bool operator==(const Preset&) const = default;

  // Bits per value without row scales, outliers and codebook: 8.125 for cb8g64; 16 for exact (of bf16); 0 for source,
  // which has what it has.
  double nominal_bits() const;
};

// "exact", "exact-z", "cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32".
std::span<const std::string_view> preset_names();

// A preset by name, with parameters that replace its own: "cb8", "cb6g64,outliers=0.001", "cb8,class=pwl16",
// "cb4g32,k=15,group=64". Parameters: k, group, outliers, class; each once. Errors: bad_argument (which part, and what
// would be right).
Result<Preset> parse_preset(std::string_view text);

// What parse_preset() takes to give this preset: its name, and the parameters that differ.
std::string name_of(const Preset& preset);

}  // namespace cdna
