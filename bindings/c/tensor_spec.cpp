// What a tensor's description may be, and what its preset becomes.
#include "bindings/c/tensor_spec.hpp"

#include <algorithm>
#include <string>

#include "bindings/c/arguments.hpp"
#include "bindings/c/boundary.hpp"
#include "cdna/policy.hpp"

namespace cdna::c {
namespace {

constexpr std::uint32_t kRankMax = 8;
constexpr std::uint64_t kElementsEnd = std::uint64_t{1} << 60;  // Rule I8.

Result<std::vector<std::uint64_t>> take_shape(const cdna_tensor_spec& given) {
  CDNA_CHECK(given.rank <= kRankMax, Code::bad_argument, "I5",
             "spec->rank " + std::to_string(given.rank) + " is over " + std::to_string(kRankMax));
  if (given.rank == 0) return std::vector<std::uint64_t>();
  CDNA_TRY(need(given.shape, "spec->shape"));
  std::vector<std::uint64_t> shape(given.shape, given.shape + given.rank);
  std::uint64_t product = 1;
  for (const std::uint64_t dim : shape) {
    CDNA_CHECK(std::max<std::uint64_t>(dim, 1) <= (kElementsEnd - 1) / product, Code::limit, "I8",
               "the product of the dimensions is 2^60 or more");
    product *= std::max<std::uint64_t>(dim, 1);
  }
  return shape;
}

// ceil(count * bits / 8). Requires: count < 2^60, bits <= 64.
std::uint64_t bytes_of_elements(std::uint64_t count, std::uint32_t bits) {
  return count / 8 * bits + (count % 8 * bits + 7) / 8;
}

void measure(TakenTensor& tensor) {
  const std::vector<std::uint64_t>& shape = tensor.spec.shape;
  const std::uint32_t bits = bits_of(tensor.spec.dtype);
  const std::uint8_t row_dims = default_row_dims(tensor.spec.dtype, shape);
  for (std::size_t i = 0; i < shape.size(); ++i) (i < row_dims ? tensor.rows : tensor.cols) *= shape[i];
  tensor.row_bytes = bytes_of_elements(tensor.cols, bits);
  tensor.size_bytes = bytes_of_elements(tensor.rows * tensor.cols, bits);
}

Result<void> choose_preset(const cdna_tensor_spec& given, TakenTensor& tensor) {
  Preset wanted;
  if (given.preset != nullptr) wanted = CDNA_TRY(need_preset(given.preset, "spec->preset"));
  if (given.keep_nonfinite != 0) wanted.codebook.nonfinite = Nonfinite::exact;
  TensorSpec& spec = tensor.spec;
  const Decision decision = decide(wanted, spec.name, spec.dtype, spec.shape);
  spec.role = decision.role;
  tensor.preset = given.by_policy != 0 ? decision.preset : wanted;
  if (tensor.preset.method == Preset::Method::exact_z) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  return {};
}

Result<TakenTensor> take_named(const cdna_tensor_spec& given) {
  TakenTensor tensor;
  tensor.spec.name = given.name;
  tensor.spec.dtype = CDNA_TRY(need_dtype(given.dtype, "spec->dtype"));
  tensor.spec.codec = CDNA_TRY(need_codec(given.codec, "spec->codec"));
  tensor.spec.shape = CDNA_TRY(take_shape(given));
  measure(tensor);
  CDNA_TRY(choose_preset(given, tensor));
  return tensor;
}

}  // namespace

Result<TakenTensor> take_tensor(const cdna_tensor_spec* given) {
  const cdna_tensor_spec known = CDNA_TRY(take_struct(given, "spec"));
  CDNA_TRY(need(known.name, "spec->name"));
  auto tensor = take_named(known);
  if (!tensor) tensor.error().item = known.name;
  return tensor;
}

}  // namespace cdna::c
