// Puts tensors together by their names and holds their sizes against each other.
#include "libcdna/import/helix/hxq_modules.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kCodebook = ".codebook";
constexpr std::uint64_t kEntriesMax = 65536;
constexpr std::uint64_t kRankMax = 1024;
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 48;

Error at(const ModelTensor& tensor, Code code, std::string message) {
  Error error = fail(code, "", std::move(message));
  error.item = tensor.name;
  return error;
}

// A part that a state dict may hold empty is none.
std::optional<std::size_t> find_part(const Model& checkpoint, const std::string& module, const char* part) {
  const auto number = find_tensor(checkpoint, module + part);
  if (number && checkpoint.tensors()[*number].size_bytes == 0) return std::nullopt;
  return number;
}

Result<void> check_f32(const Model& checkpoint, std::optional<std::size_t> number) {
  if (!number) return {};
  const ModelTensor& tensor = checkpoint.tensors()[*number];
  if (tensor.dtype == DType::f32) return {};
  return at(tensor, Code::unsupported, "its dtype is " + std::string(name_of(tensor.dtype)) + ", not F32");
}

class ModuleReader {
 public:
  ModuleReader(const Model& checkpoint, HxqModule& module) : checkpoint_(checkpoint), module_(module) {}

  Result<void> read() {
    CDNA_TRY(read_codes());
    CDNA_TRY(find_sidecar());
    CDNA_TRY(find_svd());
    module_.channel_scales = find_part(checkpoint_, module_.name, ".channel_scales");
    CDNA_TRY(check_f32(checkpoint_, module_.channel_scales));
    if (module_.form == IndexForm::packed_12bit) CDNA_TRY(infer_shape());
    return check_sizes();
  }

  Result<void> check_sizes() const {
    if (module_.rows == 0) return {};
    const auto check = [&](std::optional<std::size_t> number, std::vector<std::uint64_t> shape) -> Result<void> {
      if (!number || tensor(*number).shape == shape) return {};
      return at(tensor(*number), Code::malformed,
                "shape " + shape_text(tensor(*number).shape) + ", where the module has " + shape_text(shape));
    };
    const std::uint64_t rank = module_.svd_s ? tensor(*module_.svd_s).size_bytes / sizeof(float) : 0;
    if (rank > kRankMax)
      return at(tensor(*module_.svd_s), Code::limit, "rank " + std::to_string(rank) + "; at most 1024");
    CDNA_TRY(check(module_.svd_u, {module_.rows, rank}));
    CDNA_TRY(check(module_.svd_s, {rank}));
    CDNA_TRY(check(module_.svd_vt, {rank, module_.cols}));
    CDNA_TRY(check(module_.channel_scales, {module_.cols}));
    if (module_.cols % module_.vector == 0) return {};
    return at(
        tensor(module_.codebook), Code::malformed,
        "entries of " + std::to_string(module_.vector) + " elements, for rows of " + std::to_string(module_.cols));
  }

 private:
  const ModelTensor& tensor(std::size_t number) const { return checkpoint_.tensors()[number]; }

  Result<void> read_codes() {
    const ModelTensor& codebook = tensor(module_.codebook);
    const ModelTensor& indices = tensor(module_.indices);
    module_.entries = codebook.shape[0];
    module_.vector = codebook.shape.size() == 2 ? static_cast<std::uint32_t>(codebook.shape[1]) : 1;
    if (module_.entries == 0 || module_.entries > kEntriesMax)
      return at(codebook, Code::malformed, std::to_string(module_.entries) + " entries: it has 1 to 65536");
    if (indices.size_bytes == 0) return at(indices, Code::malformed, "no indices");
    if (indices.size_bytes > kElementsMax) return at(indices, Code::limit, "over 2^48 bytes");
    if (indices.shape.size() == 2) {
      module_.form = indices.dtype == DType::u8 ? IndexForm::bytes : IndexForm::words;
      module_.rows = indices.shape[0];
      module_.cols = indices.shape[1] * module_.vector;
      return {};
    }
    module_.form = IndexForm::packed_12bit;
    if (indices.size_bytes % 3 != 0)
      return at(indices, Code::malformed,
                std::to_string(indices.size_bytes) + " bytes, which are not pairs of 12-bit indices in three");
    return {};
  }

  Result<void> find_sidecar() {
    module_.positions = find_part(checkpoint_, module_.name, ".sidecar_positions");
    const auto alias = find_part(checkpoint_, module_.name, ".sidecar_indices");
    if (module_.positions && alias)
      return at(tensor(*alias), Code::malformed, "the positions are there twice: also as sidecar_positions");
    if (alias) module_.positions = alias;
    module_.values = find_part(checkpoint_, module_.name, ".sidecar_values");
    if (module_.positions && !module_.values)
      return at(tensor(*module_.positions), Code::malformed, "sidecar positions without sidecar_values");
    if (!module_.positions && module_.values)
      return at(tensor(*module_.values), Code::malformed, "sidecar values without sidecar_positions");
    if (!module_.positions) return {};
    const ModelTensor& positions = tensor(*module_.positions);
    if (positions.dtype != DType::i64)
      return at(positions, Code::unsupported, "its dtype is " + std::string(name_of(positions.dtype)) + ", not I64");
    return {};
  }

  Result<void> find_svd() {
    module_.svd_u = find_part(checkpoint_, module_.name, ".svd_U");
    module_.svd_s = find_part(checkpoint_, module_.name, ".svd_s");
    module_.svd_vt = find_part(checkpoint_, module_.name, ".svd_Vt");
    const int parts = int{module_.svd_u.has_value()} + int{module_.svd_s.has_value()} + int{module_.svd_vt.has_value()};
    if (parts != 0 && parts != 3)
      return at(tensor(module_.codebook), Code::malformed, "some of svd_U, svd_s and svd_Vt are missing");
    for (const auto part : {module_.svd_u, module_.svd_s, module_.svd_vt}) CDNA_TRY(check_f32(checkpoint_, part));
    return {};
  }

  // What else has one number for each row or column.
  Result<void> infer_shape() {
    const auto size_at = [&](std::optional<std::size_t> number, std::size_t dimension) {
      if (!number || tensor(*number).shape.size() <= dimension) return std::uint64_t{0};
      return tensor(*number).shape[dimension];
    };
    const auto bias = find_part(checkpoint_, module_.name, ".bias");
    const bool is_row_bias = bias && tensor(*bias).shape.size() == 1;
    const std::uint64_t elements = module_.index_count(checkpoint_) * module_.vector;
    std::uint64_t rows = size_at(module_.svd_u, 0);
    if (rows == 0 && is_row_bias) rows = tensor(*bias).shape[0];
    const std::uint64_t cols = module_.svd_vt ? size_at(module_.svd_vt, 1) : size_at(module_.channel_scales, 0);
    if (rows == 0 && cols == 0) return {};
    const std::uint64_t known = rows != 0 ? rows : cols;
    if (elements % known != 0) {
      return at(tensor(module_.indices), Code::malformed,
                std::to_string(elements) + " elements are not a multiple of the " + std::to_string(known) +
                    (rows != 0 ? " rows" : " columns") + " that other tensors of the module have");
    }
    module_.rows = rows != 0 ? rows : elements / cols;
    module_.cols = elements / module_.rows;
    return {};
  }

  const Model& checkpoint_;
  HxqModule& module_;
};

Result<std::vector<std::byte>> read_bytes(const Model& checkpoint, std::size_t number) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(checkpoint.tensors()[number].size_bytes));
  CDNA_TRY(checkpoint.read(number, 0, bytes));
  return bytes;
}

Result<std::vector<float>> read_floats(const Model& checkpoint, std::optional<std::size_t> number) {
  if (!number) return std::vector<float>();
  return floats_of(CDNA_TRY(read_bytes(checkpoint, *number)));
}

}  // namespace

std::uint64_t HxqModule::index_count(const Model& checkpoint) const {
  const std::uint64_t bytes = checkpoint.tensors()[indices].size_bytes;
  switch (form) {
    case IndexForm::bytes:
      return bytes;
    case IndexForm::words:
      return bytes / 2;
    case IndexForm::packed_12bit:
      return bytes / 3 * 2;
  }
  return 0;
}

std::optional<std::size_t> find_tensor(const Model& model, std::string_view name) {
  const auto tensors = model.tensors();
  const auto found =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const ModelTensor& tensor, std::string_view key) { return tensor.name < key; });
  if (found == tensors.end() || found->name != name) return std::nullopt;
  return static_cast<std::size_t>(found - tensors.begin());
}

bool are_codes(const ModelTensor& codebook, const ModelTensor& indices) {
  const auto& shape = codebook.shape;
  const bool is_vector = shape.size() == 2 && (shape[1] == 1 || shape[1] == 2 || shape[1] == 4);
  if (codebook.dtype != DType::f32 || (shape.size() != 1 && !is_vector)) return false;
  if (indices.dtype == DType::u8) return indices.shape.size() == 1 || indices.shape.size() == 2;
  return (indices.dtype == DType::u16 || indices.dtype == DType::i16) && indices.shape.size() == 2;
}

Result<std::vector<HxqModule>> find_hxq_modules(const Model& checkpoint, SkippedNames& skipped) {
  std::vector<HxqModule> modules;
  const auto tensors = checkpoint.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (!tensors[i].name.ends_with(kCodebook)) continue;
    HxqModule module;
    module.name = tensors[i].name.substr(0, tensors[i].name.size() - kCodebook.size());
    const auto indices = find_tensor(checkpoint, module.name + ".indices");
    if (!indices || !are_codes(tensors[i], tensors[*indices])) continue;
    module.codebook = i;
    module.indices = *indices;
    module.is_skipped = skipped.has(module.weight());
    if (!module.is_skipped) CDNA_TRY(ModuleReader(checkpoint, module).read());
    modules.push_back(std::move(module));
  }
  return modules;
}

std::vector<std::size_t> tensors_of(const Model& checkpoint, const HxqModule& module) {
  std::vector<std::size_t> numbers;
  for (const char* const part : {".codebook", ".indices", ".sidecar_positions", ".sidecar_indices", ".sidecar_values",
                                 ".svd_U", ".svd_s", ".svd_Vt", ".channel_scales"}) {
    if (const auto number = find_tensor(checkpoint, module.name + part)) numbers.push_back(*number);
  }
  return numbers;
}

Result<void> set_shape(HxqModule& module, const Model& checkpoint, std::uint64_t rows, std::uint64_t cols,
                       const std::string& source) {
  const ModelTensor& indices = checkpoint.tensors()[module.indices];
  const std::uint64_t elements = module.index_count(checkpoint) * module.vector;
  if (rows == 0 || elements % rows != 0 || elements / rows != cols) {
    return at(indices, Code::malformed,
              source + " has " + std::to_string(rows) + " x " + std::to_string(cols) + " elements, and the indices " +
                  std::to_string(elements));
  }
  if (module.rows != 0 && module.rows != rows) {
    return at(indices, Code::malformed,
              source + " has " + std::to_string(rows) + " rows, and other tensors of the module " +
                  std::to_string(module.rows));
  }
  module.rows = rows;
  module.cols = cols;
  return ModuleReader(checkpoint, module).check_sizes();
}

Result<HelixSidecar> read_sidecar(const Model& checkpoint, const HxqModule& module) {
  if (!module.positions) return HelixSidecar();
  const std::vector<std::byte> positions = CDNA_TRY(read_bytes(checkpoint, *module.positions));
  const std::vector<std::byte> values = CDNA_TRY(read_bytes(checkpoint, *module.values));
  const DType dtype = checkpoint.tensors()[*module.values].dtype;
  auto sidecar = make_sidecar(positions, values, dtype, module.rows * module.cols);
  if (!sidecar) sidecar.error().item = checkpoint.tensors()[*module.positions].name;
  return sidecar;
}

Result<CodebookTensor> read_module(const Model& checkpoint, const HxqModule& module) {
  CodebookTensor tensor;
  tensor.rows = module.rows;
  tensor.cols = module.cols;
  tensor.vector = module.vector;
  tensor.codebook = floats_of(CDNA_TRY(read_bytes(checkpoint, module.codebook)));
  if (module.form == IndexForm::bytes) {
    tensor.indices8.resize(static_cast<std::size_t>(module.index_count(checkpoint)));
    CDNA_TRY(checkpoint.read(module.indices, 0, std::as_writable_bytes(std::span(tensor.indices8))));
  } else {
    const std::vector<std::byte> bytes = CDNA_TRY(read_bytes(checkpoint, module.indices));
    tensor.indices16 = module.form == IndexForm::words ? u16_of(bytes) : unpack_12bit(bytes);
  }
  tensor.sidecar = CDNA_TRY(read_sidecar(checkpoint, module));
  tensor.svd_u = CDNA_TRY(read_floats(checkpoint, module.svd_u));
  tensor.svd_s = CDNA_TRY(read_floats(checkpoint, module.svd_s));
  tensor.svd_vt = CDNA_TRY(read_floats(checkpoint, module.svd_vt));
  tensor.channel_scales = CDNA_TRY(read_floats(checkpoint, module.channel_scales));
  return tensor;
}

}  // namespace cdna
