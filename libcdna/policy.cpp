// The role table and what may be encoded.
#include "cdna/policy.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "cdna/writer.hpp"
#include "libcdna/format/geometry.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kElementsMin = 4096;
constexpr std::uint64_t kColsMin = 64;
constexpr std::uint64_t kColsMax = kBlockBytesMax;

constexpr std::array<std::string_view, 8> kParameterNames{"weight", "bias",  "w",    "b",
                                                          "kernel", "gamma", "beta", "scale"};
constexpr std::array<std::string_view, 5> kNormKeys{"*norm*", "ln", "ln_*", "*_ln", "*layernorm*"};
constexpr std::array<std::string_view, 4> kHeadKeys{"lm_head", "embed_out", "output_projection", "proj_out"};
constexpr std::array<std::string_view, 8> kEmbeddingKeys{"embed*", "*_embed", "*_embed_*",  "*embedding*",
                                                         "wte",    "wpe",     "token_embd", "position_embd"};

constexpr std::array<RoleRule, 8> kRules{{
    {Role::bias, "bias", "last is bias, b, beta or *_bias, and rank <= 1"},
    {Role::norm, "norm", "key is *norm*, ln, ln_*, *_ln, *layernorm*; or last is gamma"},
    {Role::output_head, "output_head",
     "key is lm_head, embed_out, output_projection, proj_out; or name is output.weight or head.weight"},
    {Role::embedding, "embedding",
     "key is embed*, *_embed, *_embed_*, *embedding*, wte, wpe, token_embd, position_embd; or name is shared.weight"},
    {Role::convolution, "convolution", "rank >= 3 and rows are out channels"},
    {Role::matrix, "matrix", "rank >= 2"},
    {Role::vector, "vector", "rank = 1"},
    {Role::other, "other", "all else"},
}};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// '*' stands for any run of characters. Names come from strangers and can be of any length: no recursion.
bool matches(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // The last one seen; what it stands for ends at run_end.
  std::size_t run_end = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      run_end = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++run_end;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool matches_any(std::span<const std::string_view> patterns, std::string_view text) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [text](std::string_view pattern) { return matches(pattern, text); });
}

// Views of the name. (No list of components: it would take many times the space of a name that is all dots.)
struct NameParts {
  std::string_view whole, last, key;
};

std::string_view last_component(std::string_view name) {
  const std::size_t separator = name.find_last_of("./");
  return separator == std::string_view::npos ? name : name.substr(separator + 1);
}

// Requires: a name in lower case.
NameParts parts_of(std::string_view name) {
  const std::string_view last = last_component(name);
  std::string_view rest = name;
  std::string_view key = last;
  while (std::find(kParameterNames.begin(), kParameterNames.end(), key) != kParameterNames.end()) {
    if (key.size() == rest.size()) break;  // The first component: all are parameters' names.
    rest.remove_suffix(key.size() + 1);
    key = last_component(rest);
  }
  return {name, last, key};
}

bool is_bias(const NameParts& name) {
  return name.last == "bias" || name.last == "b" || name.last == "beta" || matches("*_bias", name.last);
}

}  // namespace

std::span<const RoleRule> role_rules() { return kRules; }

std::string_view name_of(Role role) {
  for (const RoleRule& rule : kRules) {
    if (rule.role == role) return rule.name;
  }
  return "other";
}

Role role_of(std::string_view tensor_name, DType dtype, std::span<const std::uint64_t> shape) {
  const std::string lower_name = lower(tensor_name);
  const NameParts name = parts_of(lower_name);
  const std::size_t rank = shape.size();
  if (rank <= 1 && is_bias(name)) return Role::bias;
  if (name.last == "gamma" || matches_any(kNormKeys, name.key)) return Role::norm;
  if (name.whole == "output.weight" || name.whole == "head.weight" || matches_any(kHeadKeys, name.key))
    return Role::output_head;
  if (name.whole == "shared.weight" || matches_any(kEmbeddingKeys, name.key)) return Role::embedding;
  if (rank >= 3 && default_row_dims(dtype, shape) == 1) return Role::convolution;
  if (rank >= 2) return Role::matrix;
  return rank == 1 ? Role::vector : Role::other;
}

Decision decide(const Preset& wanted, std::string_view tensor_name, DType dtype, std::span<const std::uint64_t> shape,
                Asked asked) {
  Decision decision;
  decision.role = role_of(tensor_name, dtype, shape);
  const auto exact = [&decision](std::string reason) {
    decision.reason = std::move(reason);
    return decision;
  };
  if (wanted.method == Preset::Method::exact) return exact("asked for");
  const bool codebook = wanted.method == Preset::Method::codebook;
  const bool safe = decision.role == Role::matrix || decision.role == Role::convolution;
  if (codebook && !safe && asked == Asked::for_all) return exact(std::string(name_of(decision.role)) + " stays exact");
  if (!is_float(dtype)) return exact(std::string(name_of(dtype)) + " is not F16, BF16, F32 or F64");
  if (codebook && shape.size() <= 1) return exact("rank " + std::to_string(shape.size()) + " stays exact");
  const MatrixView matrix = matrix_view(shape, default_row_dims(dtype, shape));
  if (matrix.rows * matrix.cols < kElementsMin) return exact("fewer than 4096 elements");
  if (codebook && matrix.cols < kColsMin) return exact("rows of fewer than 64");
  if (codebook && matrix.cols > kColsMax) return exact("rows of more than 2^24");
  decision.preset = wanted;
  decision.reason =
      std::to_string(matrix.rows) + " x " + std::to_string(matrix.cols) + " " + std::string(name_of(decision.role));
  return decision;
}

}  // namespace cdna
