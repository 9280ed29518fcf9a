// Sizes as people write them: what is accepted means what it says, and nothing else is accepted.
#include "tools/cdna/size_text.hpp"

#include <catch2/catch.hpp>
#include <cstdint>

using cdna::tools::parse_size;

TEST_CASE("sizes: numbers with decimal and binary units, and nothing else") {
  CHECK(parse_size("123456") == 123456U);
  CHECK(parse_size("1") == 1U);
  CHECK(parse_size("6GB") == 6'000'000'000U);
  CHECK(parse_size("6 gb") == 6'000'000'000U);
  CHECK(parse_size("1.5kB") == 1500U);
  CHECK(parse_size("900MiB") == std::uint64_t{900} << 20);
  CHECK(parse_size("0.5GiB") == std::uint64_t{1} << 29);
  CHECK(parse_size("2TiB") == std::uint64_t{1} << 41);
  CHECK(parse_size("3TB") == 3'000'000'000'000U);
  CHECK(parse_size("7b") == 7U);
  for (const char* const text : {"",
                                 " ",
                                 "0",
                                 "0.5",
                                 "-1",
                                 "+1",
                                 "B",
                                 "GB",
                                 "1e9",
                                 "0x10",
                                 "inf",
                                 "nan",
                                 "1,5GB",
                                 "6  GB",
                                 "6GBs",
                                 "6 G",
                                 "6GB ",
                                 " 6GB",
                                 "9007199254740992",
                                 "99999999TB",
                                 ".5GB",
                                 "1.5.5"})
    CHECK(!parse_size(text));
}
