// Wraps a checkpoint: weights in place of their parts, everything else passed on.
#include "libcdna/import/helix/hxq.hpp"

#include <algorithm>
#include <cassert>
#include <map>
#include <optional>
#include <utility>

#include "libcdna/import/decoded_values.hpp"
#include "libcdna/import/helix/hxq_config.hpp"
#include "libcdna/import/helix/hxq_modules.hpp"
#include "libcdna/import/helix/hxq_shapes.hpp"
#include "libcdna/import/helix/receipt_notes.hpp"
#include "libcdna/import/helix/skipped_names.hpp"
#include "libcdna/import/source_integrity.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kCompareBytes = std::size_t{1} << 20;

// A module, or a tensor of the checkpoint.
struct Origin {
  std::optional<HxqModule> module;
  std::size_t tensor = 0;
};

struct Weights {
  std::vector<ModelTensor> tensors;  // Sorted by name.
  std::vector<Origin> origins;
  Metadata metadata;
  std::vector<std::string> notes;
};

class HxqModel final : public Model {
 public:
  HxqModel(std::unique_ptr<Model> checkpoint, Weights weights)
      : checkpoint_(std::move(checkpoint)), weights_(std::move(weights)) {}

  std::span<const ModelTensor> tensors() const override { return weights_.tensors; }
  const Metadata& metadata() const override { return weights_.metadata; }
  std::span<const ModelAsset> assets() const override { return checkpoint_->assets(); }
  std::span<const std::string> notes() const override { return weights_.notes; }

  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(tensor < weights_.tensors.size() && offset <= weights_.tensors[tensor].size_bytes);
    const Origin& origin = weights_.origins[tensor];
    if (!origin.module) return checkpoint_->read(origin.tensor, offset, out);
    if (out.empty()) return {};
    return no_throw([&]() -> Result<void> {
      const HeldPlanes held = CDNA_TRY(last_.get(tensor, [&](std::size_t number) { return load(number); }));
      read_decoded(held.planes, DType::f32, origin.module->cols, offset, out);
      return {};
    });
  }

  Result<HeldPlanes> read_planes(std::size_t tensor) const override {
    assert(tensor < weights_.tensors.size());
    if (!weights_.tensors[tensor].is_encoded) return Model::read_planes(tensor);
    return no_throw([&] { return load(tensor); });
  }

  Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const override {
    return checkpoint_->read_asset(asset, offset, out);
  }

 private:
  Result<HeldPlanes> load(std::size_t tensor) const {
    const HxqModule& module = *weights_.origins[tensor].module;
    CodebookTensor parts = CDNA_TRY(read_module(*checkpoint_, module));
    auto planes = planes_of(std::move(parts));
    if (!planes && planes.error().item.empty()) planes.error().item = module.weight();
    return planes;
  }

  std::unique_ptr<Model> checkpoint_;
  Weights weights_;
  LastPlanes last_;
};

class Assembly {
 public:
  Assembly(const Model& checkpoint, SkippedNames& skipped)
      : checkpoint_(checkpoint), skipped_(skipped), is_used_(checkpoint.tensors().size()) {
    weights_.metadata = checkpoint.metadata();
    weights_.notes.assign(checkpoint.notes().begin(), checkpoint.notes().end());
  }

  std::vector<std::string>& notes() { return weights_.notes; }
  Metadata& metadata() { return weights_.metadata; }

  Result<void> add(const HxqModule& module) {
    for (const std::size_t number : tensors_of(checkpoint_, module)) is_used_[number] = true;
    const std::string weight = module.weight();
    const auto dense = find_tensor(checkpoint_, weight);
    if (dense) {
      is_used_[*dense] = true;
      note(weight, "also there as values, which are left out: the original reads the codes");
    }
    if (module.is_skipped) {
      note(weight, "left out on request");
      return {};
    }
    CDNA_TRY(note_infinite(module));
    const DType codebook = checkpoint_.tensors()[module.codebook].dtype;
    if (codebook != DType::f32)
      note(weight, "the codebook is " + std::string(name_of(codebook)) + ", where HXQ has F32: read as it is");
    if (module.channel_scales) note(weight, "channel_scales are undone here, as layers of the original do");
    ModelTensor tensor;
    tensor.name = weight;
    tensor.dtype = DType::f32;
    tensor.shape = {module.rows, module.cols};
    tensor.size_bytes = module.rows * module.cols * sizeof(float);
    tensor.is_encoded = fits_codes(tensor.dtype, tensor.shape);
    add(std::move(tensor), {module, 0});
    return {};
  }

  Result<void> add_others() {
    CDNA_TRY(drop_dotted_duplicates());
    for (std::size_t i = 0; i < is_used_.size(); ++i) {
      const ModelTensor& tensor = checkpoint_.tensors()[i];
      if (is_used_[i]) continue;
      if (skipped_.has(tensor.name)) {
        note(tensor.name, "left out on request");
        continue;
      }
      add(tensor, {std::nullopt, i});
    }
    return {};
  }

  Weights finish() {
    std::vector<std::size_t> order(weights_.tensors.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    auto& tensors = weights_.tensors;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return tensors[a].name < tensors[b].name; });
    std::vector<ModelTensor> sorted;
    std::vector<Origin> origins;
    for (const std::size_t i : order) {
      sorted.push_back(std::move(tensors[i]));
      origins.push_back(std::move(weights_.origins[i]));
    }
    tensors = std::move(sorted);
    weights_.origins = std::move(origins);
    return std::move(weights_);
  }

 private:
  void note(const std::string& tensor, const std::string& text) {
    weights_.notes.push_back(escape(tensor) + ": " + text);
  }

  void add(ModelTensor tensor, Origin origin) {
    weights_.tensors.push_back(std::move(tensor));
    weights_.origins.push_back(std::move(origin));
  }

  Result<void> note_infinite(const HxqModule& module) {
    const HelixSidecar sidecar = CDNA_TRY(read_sidecar(checkpoint_, module));
    const std::size_t count = sidecar.infinite_count();
    if (count != 0) {
      note(module.weight(), std::to_string(count) + " of " + std::to_string(sidecar.positions.size()) +
                                " sidecar values are not finite: they were beyond half precision");
    }
    return {};
  }

  // The original took names for paths of files and back, which made every '_' a '.': "input.layernorm" beside
  // "input_layernorm".
  Result<void> drop_dotted_duplicates() {
    std::map<std::string, std::vector<std::size_t>> by_dotted;
    for (std::size_t i = 0; i < is_used_.size(); ++i) {
      if (!is_used_[i]) by_dotted[dotted(checkpoint_.tensors()[i].name)].push_back(i);
    }
    for (const auto& [name, numbers] : by_dotted) {
      if (numbers.size() < 2) continue;
      const auto dirty = find_tensor(checkpoint_, name);
      if (dirty && !is_used_[*dirty]) CDNA_TRY(drop_duplicate(*dirty, numbers));
    }
    return {};
  }

  static std::string dotted(std::string name) {
    std::replace(name.begin(), name.end(), '_', '.');
    return name;
  }

  Result<void> drop_duplicate(std::size_t dirty, const std::vector<std::size_t>& numbers) {
    const auto tensors = checkpoint_.tensors();
    for (const std::size_t number : numbers) {
      if (number == dirty || !CDNA_TRY(are_same(dirty, number))) continue;
      is_used_[dirty] = true;
      note(tensors[dirty].name, "the same as " + escape(tensors[number].name) + ", whose name it is with '.' for '_'");
      return {};
    }
    for (const std::size_t number : numbers) {
      if (number != dirty)
        note(tensors[dirty].name, "other values than " + escape(tensors[number].name) +
                                      ", whose name it is with '.' for "
                                      "'_': both are kept");
    }
    return {};
  }

  Result<bool> are_same(std::size_t a, std::size_t b) const {
    const ModelTensor& first = checkpoint_.tensors()[a];
    const ModelTensor& second = checkpoint_.tensors()[b];
    if (first.dtype != second.dtype || first.shape != second.shape) return false;
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(kCompareBytes, first.size_bytes));
    std::vector<std::byte> left(step);
    std::vector<std::byte> right(step);
    for (std::uint64_t at = 0; at < first.size_bytes; at += step) {
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(step, first.size_bytes - at));
      CDNA_TRY(checkpoint_.read(a, at, std::span(left).first(size)));
      CDNA_TRY(checkpoint_.read(b, at, std::span(right).first(size)));
      if (!std::equal(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(size), right.begin())) return false;
    }
    return true;
  }

  const Model& checkpoint_;
  SkippedNames& skipped_;
  std::vector<bool> is_used_;  // Of each tensor of the checkpoint.
  Weights weights_;
};

// What is looked at for the compressor's output.
std::string folder_beside(const std::string& path, bool is_folder) {
  if (is_folder) return path;
  const std::size_t slash = path.rfind('/');
  if (slash == path.npos) return path.empty() ? "" : ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<std::unique_ptr<Model>> open(std::unique_ptr<Model> checkpoint, const std::string& path, bool is_folder,
                                    const ModelOptions& options, FileSystem& file_system) {
  const std::vector<ShapeHint> hints = CDNA_TRY(parse_shape_hints(options.shapes));
  SkippedNames skipped(options.skip);
  const bool is_stated = states_hxq(*checkpoint);
  std::vector<HxqModule> modules = CDNA_TRY(find_hxq_modules(*checkpoint, is_stated, skipped));
  const bool is_hxq = !modules.empty() || (is_stated && has_hxq_parts(*checkpoint));
  CDNA_CHECK(is_hxq, Code::bad_argument, "", "not an HXQ checkpoint: no M.codebook with M.indices");
  Assembly assembly(*checkpoint, skipped);
  const std::string beside = folder_beside(path, is_folder);
  CDNA_TRY(complete_shapes(*checkpoint, modules, hints, beside, file_system, assembly.notes()));
  CDNA_TRY(compare_config(*checkpoint, modules, assembly.metadata(), assembly.notes()));
  for (const HxqModule& module : modules) CDNA_TRY(assembly.add(module));
  CDNA_TRY(assembly.add_others());
  CDNA_TRY(skipped.check_used());
  const auto read = [&](std::size_t asset, std::span<std::byte> out) { return checkpoint->read_asset(asset, 0, out); };
  CDNA_TRY(note_receipts(checkpoint->assets(), read, assembly.notes()));
  state_integrity("none", "HXQ checkpoints have no hash", assembly.metadata(), assembly.notes());
  return std::unique_ptr<Model>(std::make_unique<HxqModel>(std::move(checkpoint), assembly.finish()));
}

}  // namespace

bool has_hxq_modules(const Model& model) { return has_hxq_codes(model) || (has_hxq_parts(model) && states_hxq(model)); }

Result<std::unique_ptr<Model>> open_hxq(std::unique_ptr<Model> checkpoint, const std::string& path, bool is_folder,
                                        const ModelOptions& options, FileSystem& file_system) {
  auto model = open(std::move(checkpoint), path, is_folder, options, file_system);
  if (!model && model.error().file.empty()) model.error().file = path;
  return model;
}

}  // namespace cdna
