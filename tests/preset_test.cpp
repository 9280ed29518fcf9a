// Presets as text.
#include "cdna/preset.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "sample_file.hpp"

using namespace cdna;
using cdna::test::must;

namespace {

constexpr std::uint64_t kSeed = 4711;

struct Named {
  const char* name;
  Preset preset;
  double nominal_bits;
};

Preset codebook(std::uint32_t k, std::uint32_t group, double outliers, CodebookClass codebook_class = {}) {
  return {Preset::Method::codebook, {k, group, outliers, codebook_class, Nonfinite::refuse}};
}

const std::vector<Named>& table() {
  static const std::vector<Named> all{
      {"exact", {Preset::Method::exact, {}}, 16}, {"exact-z", {Preset::Method::exact_z, {}}, 10.88},
      {"cb8", codebook(256, 0, 0.001), 8},        {"cb8g64", codebook(256, 64, 0), 8.125},
      {"cb6g64", codebook(64, 64, 0), 6.125},     {"cb5g32", codebook(32, 32, 0), 5.25},
      {"cb4g32", codebook(16, 32, 0), 4.25},
  };
  return all;
}

bool is_power_of_two(std::uint32_t k) { return (k & (k - 1)) == 0; }

bool is_possible(const CodebookOptions& options) {
  if (options.codebook_class == CodebookClass::pwl16) return is_power_of_two(options.entries) && options.entries >= 32;
  return options.codebook_class != CodebookClass::affine || is_power_of_two(options.entries);
}

}  // namespace

TEST_CASE("preset: each has the parameters and bits of the table, and its name gives it back") {
  REQUIRE(preset_names().size() == table().size());
  for (std::size_t i = 0; i < table().size(); ++i) {
    const Named& named = table()[i];
    INFO(named.name);
    CHECK(preset_names()[i] == named.name);
    CHECK((must(parse_preset(named.name)) == named.preset));
    CHECK(name_of(named.preset) == named.name);
    CHECK(named.preset.nominal_bits() == Approx(named.nominal_bits));
  }
  CHECK(name_of(CodebookClass::free) == "free");
  CHECK(name_of(CodebookClass::pwl16) == "pwl16");
  CHECK(name_of(CodebookClass::affine) == "affine");
}

TEST_CASE("preset: parameters replace the preset's own, in any order") {
  CHECK((must(parse_preset("cb6g64,outliers=0.001")) == codebook(64, 64, 0.001)));
  CHECK((must(parse_preset("cb8,class=pwl16")) == codebook(256, 0, 0.001, CodebookClass::pwl16)));
  CHECK((must(parse_preset("cb4g32,k=15,group=64")) == codebook(15, 64, 0)));
  CHECK(
      (must(parse_preset("cb8,k=2,group=128,outliers=1,class=affine")) == codebook(2, 128, 1, CodebookClass::affine)));
  CHECK((must(parse_preset("cb8,group=0,outliers=0")) == codebook(256, 0, 0)));
  CHECK((must(parse_preset("cb8,outliers=1e-3")) == codebook(256, 0, 0.001)));
  // What would be wrong with the preset's own value of another parameter is not, if the end is right.
  CHECK((must(parse_preset("cb6g64,k=50,class=free,group=0")) == codebook(50, 0, 0)));
  CHECK((must(parse_preset("cb4g32,class=pwl16,k=32")) == codebook(32, 32, 0, CodebookClass::pwl16)));
}

TEST_CASE("preset: the text of any options gives them back, and is no longer than naming every parameter") {
  INFO("seed " << kSeed);
  test::Random random(kSeed);
  constexpr std::array<double, 8> kFractions{0, 0.001, 0.01, 0.1, 1.0 / 3, 1e-9, 0.5, 1};
  for (std::uint32_t k = 2; k <= 256; ++k) {
    for (const std::uint32_t group : {0U, 32U, 64U, 128U}) {
      for (const CodebookClass codebook_class : {CodebookClass::free, CodebookClass::pwl16, CodebookClass::affine}) {
        const double random_fraction = static_cast<double>(random.next() >> 11) * 0x1p-53;
        for (const double outliers : {kFractions[random.below(kFractions.size())], random_fraction}) {
          const Preset preset = codebook(k, group, outliers, codebook_class);
          if (!is_possible(preset.codebook)) continue;
          const std::string text = name_of(preset);
          INFO(text);
          CHECK((must(parse_preset(text)) == preset));
          CHECK(text.size() <= std::string("cb8,k=256,group=128,outliers=,class=affine").size() + 24);
        }
      }
    }
  }
}

TEST_CASE("preset: whatever is wrong, the error names the part and says what would be right") {
  struct Case {
    const char* text;
    const char* message;
  };
  const std::string presets = "presets are exact, exact-z, cb8, cb8g64, cb6g64, cb5g32, cb4g32";
  for (const char* const text : {"", "cb", "CB8", "cb8 ", " cb8", "cb88", "exact_z", ",", ",k=2", "k=2", "cb8;k=2"}) {
    const auto result = parse_preset(text);
    INFO(text);
    REQUIRE(!result);
    CHECK(result.error().code == Code::bad_argument);
    const std::string name = std::string(text).substr(0, std::string(text).find(','));
    CHECK(result.error().message == "'" + name + "': " + presets);
  }
  for (const Case& c : {
           Case{"exact,k=2", "'exact': takes no parameters"},
           Case{"exact-z,outliers=0", "'exact-z': takes no parameters"},
           Case{"cb8,k=1", "'k=1': k is 2..256"},
           Case{"cb8,k=257", "'k=257': k is 2..256"},
           Case{"cb8,k=0", "'k=0': k is 2..256"},
           Case{"cb8,k=", "'k=': k is 2..256"},
           Case{"cb8,k", "'k': k is 2..256"},
           Case{"cb8,k=-3", "'k=-3': k is 2..256"},
           Case{"cb8,k=+3", "'k=+3': k is 2..256"},
           Case{"cb8,k= 3", "'k= 3': k is 2..256"},
           Case{"cb8,k=3.0", "'k=3.0': k is 2..256"},
           Case{"cb8,k=4294967298", "'k=4294967298': k is 2..256"},
           Case{"cb8,k=99999999999999999999", "'k=99999999999999999999': k is 2..256"},
           Case{"cb8,group=16", "'group=16': group is 0 (none), 32, 64 or 128"},
           Case{"cb8,group=", "'group=': group is 0 (none), 32, 64 or 128"},
           Case{"cb8,group=256", "'group=256': group is 0 (none), 32, 64 or 128"},
           Case{"cb8,outliers=-0.1", "'outliers=-0.1': outliers is a fraction, 0..1"},
           Case{"cb8,outliers=1.1", "'outliers=1.1': outliers is a fraction, 0..1"},
           Case{"cb8,outliers=nan", "'outliers=nan': outliers is a fraction, 0..1"},
           Case{"cb8,outliers=inf", "'outliers=inf': outliers is a fraction, 0..1"},
           Case{"cb8,outliers=", "'outliers=': outliers is a fraction, 0..1"},
           Case{"cb8,outliers=0.1%", "'outliers=0.1%': outliers is a fraction, 0..1"},
           Case{"cb8,class=pwl", "'class=pwl': class is free, pwl16 or affine"},
           Case{"cb8,class=", "'class=': class is free, pwl16 or affine"},
           Case{"cb8,x=1", "'x=1': parameters are k, group, outliers and class"},
           Case{"cb8,,k=2", "'cb8,,k=2': a parameter is missing after a comma"},
           Case{"cb8,", "'cb8,': a parameter is missing after a comma"},
           Case{"cb8,k=2,", "'cb8,k=2,': a parameter is missing after a comma"},
           Case{"cb8,,", "'cb8,,': a parameter is missing after a comma"},
           Case{"exact,", "'exact': takes no parameters"},
           Case{"exact-z,", "'exact-z': takes no parameters"},
           Case{"cb8,k=256,k=4", "'k=4': k is given twice"},
           Case{"cb8,k=4,k=4", "'k=4': k is given twice"},
           Case{"cb8,group=32,k=4,group=64", "'group=64': group is given twice"},
           Case{"cb8,outliers=0,outliers=1", "'outliers=1': outliers is given twice"},
           Case{"cb8,class=free,class=affine", "'class=affine': class is given twice"},
           Case{"cb8,K=2", "'K=2': parameters are k, group, outliers and class"},
           Case{"cb8,nonfinite=exact", "'nonfinite=exact': parameters are k, group, outliers and class"},
           Case{"cb8,k=50,class=pwl16", "class pwl16 needs k = 32, 64, 128 or 256"},
           Case{"cb8,k=16,class=pwl16", "class pwl16 needs k = 32, 64, 128 or 256"},
           Case{"cb8,k=50,class=affine", "class affine needs k to be a power of two"},
       }) {
    const auto result = parse_preset(c.text);
    INFO(c.text);
    REQUIRE(!result);
    CHECK(result.error().code == Code::bad_argument);
    CHECK(result.error().message == c.message);
  }
}

TEST_CASE("preset: any text is a preset that its name gives back, or a bad argument") {
  INFO("seed " << kSeed);
  test::Random random(kSeed);
  constexpr std::array<std::string_view, 26> kParts{
      "cb8", "cb8g64", "cb6g64",    "cb5g32", "cb4g32", "exact", "exact-z",   ",",  ",",
      "k=",  "group=", "outliers=", "class=", "free",   "pwl16", "affine",    "32", "64",
      "0",   "0.001",  "1e-9",      "=",      "2",      "-",     "999999999", "nan"};
  std::uint64_t good = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string text(i % 2 == 0 ? "cb8," : "");
    for (std::uint64_t parts = random.below(7); parts > 0; --parts) {
      if (random.below(12) == 0) {
        text += static_cast<char>(random.below(256));
      } else {
        text += kParts[random.below(kParts.size())];
      }
    }
    const auto result = parse_preset(text);
    if (!result) {
      if (result.error().code != Code::bad_argument) FAIL_CHECK("'" << text << "': " << result.error().describe());
      continue;
    }
    ++good;
    const auto again = parse_preset(name_of(*result));
    if (!again || *again != *result) FAIL_CHECK("'" << text << "' is named '" << name_of(*result) << "'");
  }
  INFO(good << " were good");
  CHECK(good > 1000);
}
