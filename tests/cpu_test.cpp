// The choice of an instruction set.
#include "libcdna/cpu.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <string>

TEST_CASE("cpu: the instruction set in use is available, and is the one that CDNA_CPU names") {
  REQUIRE(cdna::is_available(cdna::Isa::baseline));
  REQUIRE(cdna::is_available(cdna::isa()));
  INFO("in use: " << cdna::name_of(cdna::isa()));
  const char* const wanted = std::getenv("CDNA_CPU");
  if (wanted == nullptr || *wanted == '\0') {
    REQUIRE(cdna::check_isa());
    return;
  }
  const bool named = wanted == cdna::name_of(cdna::isa());
  const auto result = cdna::check_isa();
  REQUIRE(result.has_value() == named);
  if (!named) {
    REQUIRE(result.error().code == cdna::Code::bad_argument);
    REQUIRE(result.error().describe().find(wanted) != std::string::npos);
  }
}

TEST_CASE("cpu: without a wish, none that is available is newer than the one in use") {
  if (std::getenv("CDNA_CPU") != nullptr) return;
  for (const cdna::Isa each : cdna::kIsas) {
    INFO(cdna::name_of(each));
    REQUIRE((!cdna::is_available(each) || each <= cdna::isa()));
  }
}
