// The role table and the preset cb8 decide as spec/format.md, section 21, says.
#include "cdna/policy.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using cdna::DType;
using cdna::Preset;
using cdna::Role;

namespace {

Role role(const char* name, std::vector<std::uint64_t> shape) { return cdna::role_of(name, DType::f32, shape); }

const Preset kExact;
const Preset kCb8{Preset::Method::codebook, {}};

Preset preset(const char* name, std::vector<std::uint64_t> shape, DType dtype = DType::bf16) {
  return cdna::decide(kCb8, name, dtype, shape).preset;
}

}  // namespace

TEST_CASE("policy: roles follow from the tensor's own name and rank") {
  CHECK(role("model.layers.0.self_attn.q_proj.weight", {512, 512}) == Role::matrix);
  CHECK(role("model.layers.0.self_attn.q_proj.bias", {512}) == Role::bias);
  CHECK(role("model.embed_tokens.weight", {1000, 64}) == Role::embedding);
  CHECK(role("transformer.wte.weight", {1000, 64}) == Role::embedding);
  CHECK(role("token_embd.weight", {1000, 64}) == Role::embedding);
  CHECK(role("embeddings.word_embeddings.weight", {1000, 64}) == Role::embedding);
  CHECK(role("shared.weight", {1000, 64}) == Role::embedding);
  CHECK(role("lm_head.weight", {1000, 64}) == Role::output_head);
  CHECK(role("output.weight", {1000, 64}) == Role::output_head);
  CHECK(role("encoder.layer.0.output.dense.weight", {512, 512}) == Role::matrix);
  CHECK(role("encoder.layer.0.output.LayerNorm.weight", {512}) == Role::norm);
  CHECK(role("transformer.h.0.ln_1.weight", {512}) == Role::norm);
  CHECK(role("model.norm.weight", {512}) == Role::norm);
  CHECK(role("bn.gamma", {512}) == Role::norm);
  CHECK(role("features.0.weight", {64, 3, 7, 7}) == Role::convolution);
  CHECK(role("experts.w1", {8, 512, 512}) == Role::matrix);
  CHECK(role("A_log", {64}) == Role::vector);
  CHECK(role("step", {}) == Role::other);
  CHECK(role("", {}) == Role::other);
  CHECK(role("weight", {64, 64}) == Role::matrix);
}

TEST_CASE("policy: cb8 takes float matrices of 4096 elements and rows of 64, and nothing else") {
  CHECK(preset("a.q_proj.weight", {64, 64}) == kCb8);
  CHECK(preset("a.q_proj.weight", {63, 64}) == kExact);   // 4032 elements.
  CHECK(preset("a.q_proj.weight", {100, 63}) == kExact);  // Rows of 63.
  CHECK(preset("a.q_proj.weight", {4096}) == kExact);     // Rank 1.
  CHECK(preset("a.q_proj.weight", {1, 1U << 24}) == kCb8);
  CHECK(preset("a.q_proj.weight", {1, (1U << 24) + 1}) == kExact);
  CHECK(preset("conv.weight", {64, 8, 3, 3}) == kCb8);     // 64 x 72.
  CHECK(preset("conv.weight", {512, 3, 3, 3}) == kExact);  // Rows of 27.
  CHECK(preset("experts.w1", {8, 16, 64}) == kCb8);        // 128 x 64.
  CHECK(preset("model.embed_tokens.weight", {1000, 64}) == kExact);
  CHECK(preset("lm_head.weight", {1000, 64}) == kExact);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64})
    CHECK(preset("w.x", {64, 64}, dtype) == kCb8);
  for (const DType dtype : {DType::i8, DType::f8_e4m3, DType::c64, DType::f4, DType::boolean})
    CHECK(preset("w.x", {64, 64}, dtype) == kExact);
  CHECK(cdna::decide(kExact, "a.q_proj.weight", DType::f32, std::vector<std::uint64_t>{64, 64}).preset == kExact);
}

TEST_CASE("policy: by name embeddings, output heads and matrices called norms become codes, and nothing that cannot") {
  const auto by_name = [](const char* name, std::vector<std::uint64_t> shape, DType dtype = DType::bf16) {
    return cdna::decide(kCb8, name, dtype, shape, cdna::Asked::by_name);
  };
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "final_norm.weight", "q_proj.weight"})
    CHECK(by_name(name, {64, 64}).preset == kCb8);
  CHECK(by_name("lm_head.weight", {63, 64}).reason == "fewer than 4096 elements");
  CHECK(by_name("lm_head.weight", {100, 63}).reason == "rows of fewer than 64");
  CHECK(by_name("lm_head.weight", {1, (1U << 24) + 1}).reason == "rows of more than 2^24");
  CHECK(by_name("lm_head.weight", {64, 64}, DType::i8).reason == "I8 is not F16, BF16, F32 or F64");
  for (const char* name : {"q_proj.bias", "norm.weight", "A_log", "pos_embed"})
    CHECK(by_name(name, {1U << 20}).reason == "rank 1 stays exact");
  CHECK(by_name("step", {}).reason == "rank 0 stays exact");
  CHECK(by_name("empty", {0, 64}).preset == kExact);
}

TEST_CASE("policy: every decision has a reason and every role a row in the table") {
  for (const cdna::RoleRule& rule : cdna::role_rules()) CHECK(cdna::name_of(rule.role) == rule.name);
  CHECK(cdna::name_of(static_cast<Role>(999)) == "other");
  const cdna::Decision decision = cdna::decide(kCb8, "a.norm.weight", DType::f32, std::vector<std::uint64_t>{64, 64});
  CHECK(decision.reason == "norm stays exact");
}

TEST_CASE("policy: a name of any length and any number of components has a role") {
  const std::string text(4'000'000, 'n');
  CHECK(role(text.c_str(), {8}) == Role::vector);
  CHECK(role((text + ".weight").c_str(), {8, 8}) == Role::matrix);
  CHECK(role((text + "_norm_" + text).c_str(), {8}) == Role::norm);
  CHECK(role((text + "_embed.weight").c_str(), {8, 8}) == Role::embedding);
  CHECK(role((text + "_bias").c_str(), {8}) == Role::bias);
  CHECK(role(std::string(4'000'000, '.').c_str(), {8, 8}) == Role::matrix);
  std::string parameters = "ln";
  for (int i = 0; i < 500'000; ++i) parameters += "/weight";
  CHECK(role(parameters.c_str(), {8, 8}) == Role::norm);
  CHECK(role(parameters.substr(3).c_str(), {8, 8}) == Role::matrix);
}
