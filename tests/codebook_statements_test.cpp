// Problems with what planes state of a codebook tensor: where a check says they are.
#include "libcdna/codebook_statements.hpp"

#include <catch2/catch.hpp>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "sample_file.hpp"

namespace {

std::string vector_path(const std::string& name) {
  return std::string(CDNA_SOURCE_DIR) + "/spec/vectors/" + name + ".cdna";
}

cdna::FsckReport check(const std::string& name, cdna::FsckLevel level) {
  cdna::FsckOptions options;
  options.level = level;
  return cdna::fsck(cdna::test::must(cdna::open_source(vector_path(name))), options);
}

}  // namespace

TEST_CASE("codebook statements: a deep check names item, plane and place of the first that does not hold") {
  struct Case {
    const char* name;
    const char* rule;
    std::int32_t plane;
  };
  for (const Case& each : {Case{"D3_pwl_book", "D3", 2}, Case{"D3_second", "D3", 3}, Case{"D4_outliers", "D4", 3},
                           Case{"D3_before_D4", "D3", 3}, Case{"D4_before_D3", "D4", 3}, Case{"D4_f32", "D4", 2}}) {
    INFO(each.name);
    const std::string name = std::string("bad/") + each.name;
    const auto reader = cdna::test::must(cdna::Reader::open(vector_path(name)));
    const cdna::FsckReport report = check(name, cdna::FsckLevel::deep);
    REQUIRE(report.problem_count == 1);
    const cdna::Error& error = report.problems[0].error;
    CHECK(error.code == cdna::Code::malformed);
    CHECK(std::string(error.rule) == each.rule);
    CHECK(error.item == "q");
    CHECK(error.plane == each.plane);
    CHECK(error.offset == reader.item(0).plane(static_cast<std::uint32_t>(each.plane)).offset);
  }
}

TEST_CASE("codebook statements: only a deep check looks at them, and nothing fails to decode because of them") {
  for (const char* const name : {"bad/D3_pwl_book", "bad/D4_outliers"}) {
    INFO(name);
    CHECK(check(name, cdna::FsckLevel::quick).valid);
    CHECK(check(name, cdna::FsckLevel::standard).valid);
    const auto reader = cdna::test::must(cdna::Reader::open(vector_path(name)));
    CHECK(cdna::test::read_item(reader, 0));
  }
}
