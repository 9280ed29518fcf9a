// Puts tensors together by their names and holds their sizes against each other.
#include "libcdna/import/helix/hxq_modules.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <utility>

#include "libcdna/format/float_bits.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kCodebook = ".codebook";
constexpr std::string_view kIndices = ".indices";
constexpr std::array<std::string_view, 9> kParts{kCodebook,          kIndices,          ".sidecar_positions",
                                                 ".sidecar_indices", ".sidecar_values", ".svd_U",
                                                 ".svd_s",           ".svd_Vt",         ".channel_scales"};
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

Result<void> check_floats(const Model& checkpoint, std::optional<std::size_t> number) {
  if (!number) return {};
  const ModelTensor& tensor = checkpoint.tensors()[*number];
  if (is_float(tensor.dtype)) return {};
  return at(tensor, Code::unsupported,
            "its dtype is " + std::string(name_of(tensor.dtype)) + ", not F32, F16, BF16 or F64");
}

// The module that a tensor's name is of a part of.
std::optional<std::string_view> module_of(std::string_view tensor) {
  for (const std::string_view part : kParts)
    if (tensor.ends_with(part)) return tensor.substr(0, tensor.size() - part.size());
  return std::nullopt;
}

bool is_codebook(const ModelTensor& tensor) {
  const auto& shape = tensor.shape;
  const bool is_vector = shape.size() == 2 && (shape[1] == 1 || shape[1] == 2 || shape[1] == 4);
  return is_float(tensor.dtype) && (shape.size() == 1 || is_vector);
}

// As they are written.
bool are_narrow_indices(const ModelTensor& tensor) {
  if (tensor.dtype == DType::u8) return tensor.shape.size() == 1 || tensor.shape.size() == 2;
  return (tensor.dtype == DType::u16 || tensor.dtype == DType::i16) && tensor.shape.size() == 2;
}

// As other programs may have made of them.
bool are_wide_indices(const ModelTensor& tensor) {
  const bool is_wide = tensor.dtype == DType::i32 || tensor.dtype == DType::u32 || tensor.dtype == DType::i64;
  return is_wide && tensor.shape.size() == 2;
}

bool are_indices(const ModelTensor& tensor) { return are_narrow_indices(tensor) || are_wide_indices(tensor); }

class ModuleReader {
 public:
  ModuleReader(const Model& checkpoint, HxqModule& module) : checkpoint_(checkpoint), module_(module) {}

  Result<void> read() {
    CDNA_TRY(read_codes());
    CDNA_TRY(find_sidecar());
    CDNA_TRY(find_svd());
    module_.channel_scales = find_part(checkpoint_, module_.name, ".channel_scales");
    CDNA_TRY(check_floats(checkpoint_, module_.channel_scales));
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
    const bool has_rank = module_.svd_s && tensor(*module_.svd_s).shape.size() == 1;
    const std::uint64_t rank = has_rank ? tensor(*module_.svd_s).shape[0] : 0;
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
    for (const auto part : {module_.svd_u, module_.svd_s, module_.svd_vt}) CDNA_TRY(check_floats(checkpoint_, part));
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

template <class T>
T value_at(std::span<const std::byte> bytes, std::size_t number) {
  T value;
  std::memcpy(&value, bytes.data() + number * sizeof value, sizeof value);
  return value;
}

float widened(std::span<const std::byte> bytes, DType dtype, std::size_t number) {
  if (dtype == DType::f16) return f32_of_f16(value_at<std::uint16_t>(bytes, number));
  if (dtype == DType::bf16) return f32_of_bf16(value_at<std::uint16_t>(bytes, number));
  return f32_of_f64(value_at<double>(bytes, number));
}

// Values that F32 cannot hold are refused. Requires: a tensor of floats.
Result<std::vector<float>> read_floats(const Model& checkpoint, std::optional<std::size_t> number) {
  if (!number) return std::vector<float>();
  const ModelTensor& tensor = checkpoint.tensors()[*number];
  const std::vector<std::byte> bytes = CDNA_TRY(read_bytes(checkpoint, *number));
  if (tensor.dtype == DType::f32) return floats_of(bytes);
  std::vector<float> out(bytes.size() / (bits_of(tensor.dtype) / 8));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = widened(bytes, tensor.dtype, i);
    if (tensor.dtype != DType::f64) continue;
    const auto value = value_at<double>(bytes, i);
    if (!std::isnan(value) && value != static_cast<double>(out[i]))
      return at(tensor, Code::unsupported, "element " + std::to_string(i) + " of dtype F64 is none that F32 has");
  }
  return out;
}

std::int64_t index_at(std::span<const std::byte> bytes, DType dtype, std::size_t number) {
  if (dtype == DType::i64) return value_at<std::int64_t>(bytes, number);
  if (dtype == DType::u32) return value_at<std::uint32_t>(bytes, number);
  return value_at<std::int32_t>(bytes, number);
}

Result<std::vector<std::uint16_t>> read_words(const Model& checkpoint, const HxqModule& module) {
  const ModelTensor& tensor = checkpoint.tensors()[module.indices];
  const std::vector<std::byte> bytes = CDNA_TRY(read_bytes(checkpoint, module.indices));
  if (module.form == IndexForm::packed_12bit) return unpack_12bit(bytes);
  if (!are_wide_indices(tensor)) return u16_of(bytes);
  std::vector<std::uint16_t> out(static_cast<std::size_t>(module.index_count(checkpoint)));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t index = index_at(bytes, tensor.dtype, i);
    if (index < 0 || static_cast<std::uint64_t>(index) >= module.entries) {
      return at(tensor, Code::malformed,
                "index " + std::to_string(i) + " is " + std::to_string(index) + ", of " +
                    std::to_string(module.entries) + " entries");
    }
    out[i] = static_cast<std::uint16_t>(index);
  }
  return out;
}

using PartsByModule = std::map<std::string_view, std::vector<std::size_t>>;

PartsByModule parts_by_module(const Model& checkpoint) {
  PartsByModule parts;
  const auto tensors = checkpoint.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (const auto module = module_of(tensors[i].name)) parts[*module].push_back(i);
  return parts;
}

// Codebook and indices, where there are both in a form that can be read.
struct Codes {
  std::size_t codebook = 0;
  std::size_t indices = 0;
};

std::optional<Codes> find_codes(const Model& checkpoint, std::string_view module) {
  const auto codebook = find_tensor(checkpoint, std::string(module).append(kCodebook));
  const auto indices = find_tensor(checkpoint, std::string(module).append(kIndices));
  if (!codebook || !indices) return std::nullopt;
  const auto tensors = checkpoint.tensors();
  if (!is_codebook(tensors[*codebook]) || !are_indices(tensors[*indices])) return std::nullopt;
  return Codes{*codebook, *indices};
}

std::string form_text(const ModelTensor& tensor) {
  return "dtype " + std::string(name_of(tensor.dtype)) + " and shape " + shape_text(tensor.shape);
}

// What a codebook or indices are that cannot be read.
Result<void> check_form(const ModelTensor& tensor) {
  if (tensor.name.ends_with(kCodebook) && !is_codebook(tensor)) {
    return at(tensor, Code::unsupported,
              form_text(tensor) + ": a codebook of HXQ is of F32 (F16, BF16, F64) and [k] or [k, 1, 2 or 4]");
  }
  if (tensor.name.ends_with(kIndices) && !are_indices(tensor)) {
    return at(tensor, Code::unsupported,
              form_text(tensor) +
                  ": indices of HXQ are of U8, U16, I16, I32, U32 or I64 and two dimensions, or of U8 and one");
  }
  return {};
}

// Parts without a codebook and indices that can be read: a weight would be lost with them. Empty ones are none.
Result<void> refuse_parts(const Model& checkpoint, std::string_view module, std::span<const std::size_t> numbers,
                          SkippedNames& skipped) {
  const auto tensors = checkpoint.tensors();
  std::vector<std::size_t> left;
  for (const std::size_t number : numbers) {
    const ModelTensor& tensor = tensors[number];
    const bool is_code = tensor.name.ends_with(kCodebook) || tensor.name.ends_with(kIndices);
    if (!skipped.has(tensor.name) && (is_code || tensor.size_bytes != 0)) left.push_back(number);
  }
  for (const std::size_t number : left) CDNA_TRY(check_form(tensors[number]));
  if (left.empty()) return {};
  const ModelTensor& tensor = tensors[left.front()];
  return at(tensor, Code::malformed,
            form_text(tensor) + ", a part of an HXQ module " + escape(quote(module)) +
                " without codebook and indices that can be read");
}

}  // namespace

std::uint64_t HxqModule::index_count(const Model& checkpoint) const {
  const ModelTensor& tensor = checkpoint.tensors()[indices];
  if (form == IndexForm::packed_12bit) return tensor.size_bytes / 3 * 2;
  return tensor.size_bytes / (bits_of(tensor.dtype) / 8);
}

std::optional<std::size_t> find_tensor(const Model& model, std::string_view name) {
  const auto tensors = model.tensors();
  const auto found =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const ModelTensor& tensor, std::string_view key) { return tensor.name < key; });
  if (found == tensors.end() || found->name != name) return std::nullopt;
  return static_cast<std::size_t>(found - tensors.begin());
}

bool has_hxq_codes(const Model& checkpoint) {
  const auto tensors = checkpoint.tensors();
  return std::any_of(tensors.begin(), tensors.end(), [&](const ModelTensor& tensor) {
    if (!tensor.name.ends_with(kCodebook)) return false;
    const auto codes = find_codes(checkpoint, *module_of(tensor.name));
    return codes && are_narrow_indices(tensors[codes->indices]);
  });
}

bool has_hxq_parts(const Model& checkpoint) {
  const auto tensors = checkpoint.tensors();
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const ModelTensor& tensor) { return module_of(tensor.name).has_value(); });
}

Result<std::vector<HxqModule>> find_hxq_modules(const Model& checkpoint, bool is_stated, SkippedNames& skipped) {
  std::vector<HxqModule> modules;
  const PartsByModule parts = parts_by_module(checkpoint);
  const bool is_hxq = is_stated || std::any_of(parts.begin(), parts.end(), [&](const auto& entry) {
                        return find_codes(checkpoint, entry.first).has_value();
                      });
  if (!is_hxq) return modules;
  for (const auto& [name, numbers] : parts) {
    HxqModule module;
    module.name = name;
    module.is_skipped = skipped.has(module.weight());
    const auto codes = find_codes(checkpoint, name);
    if (!codes && !module.is_skipped) {
      CDNA_TRY(refuse_parts(checkpoint, name, numbers, skipped));
      continue;
    }
    module.codebook = codes ? codes->codebook : 0;
    module.indices = codes ? codes->indices : 0;
    if (!module.is_skipped) CDNA_TRY(ModuleReader(checkpoint, module).read());
    modules.push_back(std::move(module));
  }
  return modules;
}

std::vector<std::size_t> tensors_of(const Model& checkpoint, const HxqModule& module) {
  std::vector<std::size_t> numbers;
  for (const std::string_view part : kParts) {
    if (const auto number = find_tensor(checkpoint, std::string(module.name).append(part))) numbers.push_back(*number);
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
  std::vector<std::byte> values = CDNA_TRY(read_bytes(checkpoint, *module.values));
  DType dtype = checkpoint.tensors()[*module.values].dtype;
  if (dtype == DType::bf16 || dtype == DType::f64) {
    const std::vector<float> floats = CDNA_TRY(read_floats(checkpoint, module.values));
    const auto wide = std::as_bytes(std::span(floats));
    values.assign(wide.begin(), wide.end());
    dtype = DType::f32;
  }
  auto sidecar = make_sidecar(positions, values, dtype, module.rows * module.cols);
  if (!sidecar) sidecar.error().item = checkpoint.tensors()[*module.positions].name;
  return sidecar;
}

Result<CodebookTensor> read_module(const Model& checkpoint, const HxqModule& module) {
  CodebookTensor tensor;
  tensor.rows = module.rows;
  tensor.cols = module.cols;
  tensor.vector = module.vector;
  tensor.codebook = CDNA_TRY(read_floats(checkpoint, module.codebook));
  if (module.form == IndexForm::bytes) {
    tensor.indices8.resize(static_cast<std::size_t>(module.index_count(checkpoint)));
    CDNA_TRY(checkpoint.read(module.indices, 0, std::as_writable_bytes(std::span(tensor.indices8))));
  } else {
    tensor.indices16 = CDNA_TRY(read_words(checkpoint, module));
  }
  tensor.sidecar = CDNA_TRY(read_sidecar(checkpoint, module));
  tensor.svd_u = CDNA_TRY(read_floats(checkpoint, module.svd_u));
  tensor.svd_s = CDNA_TRY(read_floats(checkpoint, module.svd_s));
  tensor.svd_vt = CDNA_TRY(read_floats(checkpoint, module.svd_vt));
  tensor.channel_scales = CDNA_TRY(read_floats(checkpoint, module.channel_scales));
  return tensor;
}

}  // namespace cdna
