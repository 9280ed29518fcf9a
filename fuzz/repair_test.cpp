// repair() leaves good files alone and takes damaged ones past their digests; mutate() reaches most rules.
#include "fuzz/repair.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cdna/fsck.hpp"
#include "fuzz/mutate.hpp"
#include "tests/sample_file.hpp"

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;
using cdna::test::Part;
using cdna::test::Region;

Bytes load_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

Bytes repaired(Bytes file, std::uint8_t what = cdna::fuzz::kRepairAll) {
  cdna::fuzz::repair(file, what);
  return file;
}

// The rules that the complete check finds broken.
std::set<std::string> rules_broken(const Bytes& file) {
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  std::set<std::string> rules;
  for (const auto& problem : cdna::fsck(cdna::memory_source(file), options).problems) rules.insert(problem.error.rule);
  return rules;
}

// By what is damaged: the rules that a changed byte breaks while no digest is repaired.
const std::map<Part, std::set<std::string>> kDigestRules{
    {Part::head, {"H1"}},
    {Part::block, {"B1"}},
    {Part::index, {"X1"}},
    {Part::record, {"R1"}},
    {Part::gap, {"G1"}},
    {Part::footer, {"F1"}},
    {Part::tail, {"T3", "T1", "T2"}},
};

bool intersect(const std::set<std::string>& a, const std::set<std::string>& b) {
  return std::any_of(a.begin(), a.end(), [&](const std::string& rule) { return b.contains(rule); });
}

}  // namespace

TEST_CASE("repair: every good vector stays as it is") {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(CDNA_SOURCE_DIR) / "spec" / "vectors" / "good")) {
    if (entry.path().extension() != ".cdna") continue;
    INFO(entry.path().string());
    const Bytes file = load_file(entry.path());
    CHECK(repaired(file) == file);
    ++count;
  }
  CHECK(count >= 100);
}

TEST_CASE("repair: a changed byte of any part breaks its digest, and after repair no digest is wrong") {
  const Bytes sample = cdna::test::make_small_sample();
  REQUIRE(rules_broken(sample).empty());
  std::map<Part, std::size_t> damaged;
  for (const Region& region : cdna::test::regions_of(sample)) {
    for (std::uint64_t at = region.begin; at < region.end; at += 1 + (region.end - region.begin) / 16) {
      INFO(cdna::test::name_of(region.part) << " at byte " << at);
      Bytes file = sample;
      file[at] ^= std::byte{0x10};
      const std::set<std::string>& expected = kDigestRules.at(region.part);
      REQUIRE(intersect(rules_broken(file), expected));
      ++damaged[region.part];
      if (region.part == Part::gap) continue;  // A gap has no digest.
      CHECK_FALSE(intersect(rules_broken(repaired(file)), {"H1", "B1", "X1", "R1", "F1", "T1", "T2", "T3"}));
    }
  }
  CHECK(damaged.size() == kDigestRules.size());
  for (const auto& [part, count] : damaged) CHECK(count >= 5);
}

TEST_CASE("fsck: problems come in the order of the format, not in that in which they are found") {
  const Bytes sample = cdna::test::make_small_sample();
  std::map<std::uint32_t, Region> first_block;
  for (const Region& region : cdna::test::regions_of(sample)) {
    if (region.part == Part::block) first_block.emplace(region.item, region);
  }
  constexpr std::uint32_t kRaw = 1, kZstd = 2, kAsset = 6;  // In the sample's order.
  Bytes file = sample;
  file[first_block.at(kRaw).begin] ^= std::byte{1};   // D2: the block's digest is repaired, the source's is not.
  file[first_block.at(kZstd).begin] ^= std::byte{1};  // C1.
  cdna::fuzz::repair(file, cdna::fuzz::kRepairAll & ~cdna::fuzz::kRepairSources);
  file[first_block.at(kAsset).begin] ^= std::byte{1};  // B1.
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  std::string rules;
  for (const auto& problem : cdna::fsck(cdna::memory_source(file), options).problems)
    rules += problem.error.rule + std::string(" ");
  CHECK(rules == "C1 B1 D2 ");
}

TEST_CASE("repair: each bit repairs its own part only") {
  using namespace cdna::fuzz;
  const Bytes sample = cdna::test::make_small_sample();
  const std::map<Part, std::uint8_t> outer{
      {Part::block, kRepairIndices | kRepairRecords | kRepairFooter | kRepairRoot},
      {Part::index, kRepairRecords | kRepairFooter | kRepairRoot},
      {Part::footer, kRepairRoot},
  };
  std::size_t tried = 0;
  for (const Region& region : cdna::test::regions_of(sample)) {
    if (!outer.contains(region.part)) continue;
    Bytes file = sample;
    file[region.end - 1] ^= std::byte{1};
    CHECK(intersect(rules_broken(repaired(file, outer.at(region.part))), kDigestRules.at(region.part)));
    ++tried;
  }
  CHECK(tried > 10);
}

TEST_CASE("mutate: the same seed gives the same file, and repaired files meet many rules") {
  constexpr unsigned kSeed = 5;
  constexpr int kFiles = 4000;
  const Bytes sample = cdna::test::make_small_sample();
  std::set<std::string> rules;
  int past_digests = 0;
  std::mt19937_64 random(kSeed);
  std::mt19937_64 twin(kSeed);
  const auto mutator = cdna::fuzz::byte_mutator(random);
  const auto twin_mutator = cdna::fuzz::byte_mutator(twin);
  INFO("seed " << kSeed);
  for (int i = 0; i < kFiles; ++i) {
    Bytes file = sample;
    Bytes same = sample;
    cdna::fuzz::mutate(file, random, mutator);
    cdna::fuzz::mutate(same, twin, twin_mutator);
    REQUIRE(file == same);
    const auto broken = rules_broken(repaired(file));
    past_digests += intersect(broken, {"T3", "F1", "X1", "B1"}) ? 0 : 1;
    rules.insert(broken.begin(), broken.end());
  }
  CHECK(past_digests > kFiles * 9 / 10);
  CHECK(rules.size() >= 50);
}
