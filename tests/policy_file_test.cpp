// Policy files as people write them: what is accepted means what it says, and nothing else is accepted.
#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/convert.hpp"

using cdna::Code;
using cdna::parse_policy;
using cdna::PolicyRule;
using cdna::Role;

namespace {

constexpr unsigned kSeed = 20250311;
constexpr const char* kPolicy =
    R"({"rules": [{"glob": ["*.q_proj.weight", "a?[b-d]*"], "role": ["matrix", "convolution"], "preset": "cb8g64"},)"
    R"( {"role": "embedding", "preset": "cb6g64,outliers=0.001"}, {"glob": "x", "preset": "exact"}, {"preset": "cb8"}]})";

std::string to_text(const std::vector<PolicyRule>& rules) {
  std::string list;
  for (const PolicyRule& rule : rules) list += (list.empty() ? "" : ",") + rule.json();
  return "{\"rules\":[" + list + "]}";
}

// A policy with some bytes changed, doubled or lost, mostly to what JSON is made of.
std::string mutate(std::mt19937& random) {
  using namespace std::string_view_literals;
  static constexpr std::string_view kBytes = "{}[]\",:\\ \n01a*-.eu\0\x7f\xc3\xff"sv;
  std::string text = kPolicy;
  for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
    const std::size_t at = random() % text.size();
    const std::size_t count = std::min<std::size_t>(1 + random() % 12, text.size() - at);
    const unsigned kind = static_cast<unsigned>(random() % 3);
    if (kind == 0) text[at] = kBytes[random() % kBytes.size()];
    if (kind == 1) text.insert(at, text.substr(random() % text.size(), count));
    if (kind == 2 && count < text.size()) text.erase(at, count);
  }
  return text;
}

}  // namespace

TEST_CASE("policy file: rules are read as they are written") {
  const auto rules = parse_policy(kPolicy);
  REQUIRE(rules);
  REQUIRE(rules->size() == 4);
  const PolicyRule& first = (*rules)[0];
  CHECK(first.globs == std::vector<std::string>{"*.q_proj.weight", "a?[b-d]*"});
  CHECK(first.roles == std::vector{Role::matrix, Role::convolution});
  CHECK(first.preset == *cdna::parse_preset("cb8g64"));
  CHECK(first.text() == "glob *.q_proj.weight|a?[b-d]*, role matrix|convolution");
  CHECK(first.asked() == cdna::Asked::by_name);
  CHECK((*rules)[1].preset == *cdna::parse_preset("cb6g64,outliers=0.001"));
  CHECK((*rules)[3].text() == "all tensors");
  CHECK((*rules)[3].asked() == cdna::Asked::for_all);
}

TEST_CASE("policy file: a rule matches where all its conditions do") {
  const auto rules = parse_policy(kPolicy);
  REQUIRE(rules);
  const PolicyRule& first = (*rules)[0];
  CHECK(first.matches("h.0.q_proj.weight", Role::matrix));
  CHECK(first.matches("axcz", Role::convolution));
  CHECK(!first.matches("axez", Role::convolution));
  CHECK(!first.matches("h.0.q_proj.weight", Role::norm));
  CHECK(!first.matches("q_proj.weight", Role::matrix));
  CHECK((*rules)[1].matches("anything", Role::embedding));
  CHECK(!(*rules)[2].matches("xx", Role::matrix));
  CHECK((*rules)[3].matches("", Role::other));
}

TEST_CASE(
    "policy file: of mutated files what is accepted is what is written back, all else is an error with a message") {
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    const std::string text = mutate(random);
    const auto rules = parse_policy(text);
    if (!rules) {
      REQUIRE((rules.error().code == Code::malformed || rules.error().code == Code::limit));
      REQUIRE(!rules.error().message.empty());
      REQUIRE(rules.error().message.size() < 1000);
      continue;
    }
    ++accepted;
    const std::string written = to_text(*rules);
    const auto again = parse_policy(written);
    REQUIRE(again);
    REQUIRE(to_text(*again) == written);
  }
  CHECK(accepted > 200);
  CHECK(accepted < 10'000);
}

TEST_CASE("policy file: depth is bounded wherever it occurs") {
  for (const char* const open : {"[", "{\"rules\":", "{\"rules\":[{\"glob\":["}) {
    std::string text;
    for (int i = 0; i < 50'000; ++i) text += open;
    const auto rules = parse_policy(text);
    REQUIRE(!rules);
  }
}
