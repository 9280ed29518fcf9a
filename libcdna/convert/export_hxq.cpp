// A container as an HXQ checkpoint: a folder with model.safetensors, config.json and the other assets.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/export_options.hpp"
#include "libcdna/convert/hxq_parts.hpp"
#include "libcdna/convert/new_folder.hpp"
#include "libcdna/convert/progress.hpp"
#include "libcdna/convert/tensor_bytes.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr const char* kConfig = "config.json";
constexpr const char* kModel = "model.safetensors";
constexpr std::uint64_t kEntriesByDefault = 256;  // Of the loader, for modules that module_k_map does not name.
constexpr std::uint64_t kStepBytes = std::uint64_t{4} << 20;
constexpr int kConfigDepthMax = 100;
constexpr std::uint64_t kConfigBytesMax = std::uint64_t{64} << 20;

struct Module {
  std::string name;
  HxqParts parts;
};

// Where a tensor of the checkpoint comes from.
struct Origin {
  std::optional<std::size_t> module;  // And its part; or the item of a tensor.
  std::size_t part = 0;
  std::uint32_t item = 0;
};

std::uint64_t bytes_of(const ModelTensor& tensor) {
  std::uint64_t bits = bits_of(tensor.dtype);
  for (const std::uint64_t size : tensor.shape) bits *= size;
  return (bits + 7) / 8;
}

class HxqExport {
 public:
  HxqExport(const Reader& reader, const ExportOptions& options) : reader_(reader), options_(options) {}

  Result<std::vector<std::string>> run(const std::string& path, FileSystem& file_system) {
    CDNA_TRY(plan());
    NewFolder folder = CDNA_TRY(NewFolder::create(path, file_system));
    CDNA_TRY(write_tensors(folder));
    CDNA_TRY(write_config(folder));
    CDNA_TRY(write_assets(folder));
    CDNA_TRY(check_stop());
    CDNA_TRY(folder.commit());
    return std::move(notes_);
  }

 private:
  Result<void> plan() {
    for (std::uint32_t i = 0; i < reader_.tensor_count(); ++i) {
      const Item named = reader_.tensor_item(i);
      const Tensor tensor = reader_.resolve(named);
      CDNA_TRY(tensor.check_supported());
      std::string reason;
      auto parts = CDNA_TRY(HxqParts::of(tensor, named.name(), reason));
      if (parts) {
        add_module(named.name(), *std::move(parts));
      } else {
        add_dense(named, tensor, i, reason);
      }
    }
    return {};
  }

  void add(std::string name, DType dtype, std::vector<std::uint64_t> shape, Origin origin) {
    origins_[name] = origin;
    ModelTensor tensor;
    tensor.name = std::move(name);
    tensor.dtype = dtype;
    tensor.shape = std::move(shape);
    tensor.size_bytes = bytes_of(tensor);
    total_bytes_ += tensor.size_bytes;
    tensors_.push_back(std::move(tensor));
  }

  void add_module(std::string_view weight, HxqParts parts) {
    const std::string name(weight.substr(0, weight.size() - kWeight.size()));
    for (std::size_t i = 0; i < parts.parts().size(); ++i) {
      const HxqParts::Part& part = parts.parts()[i];
      Origin origin;
      origin.module = modules_.size();
      origin.part = i;
      add(name + part.name, part.dtype, part.shape, origin);
    }
    modules_.push_back({name, std::move(parts)});
  }

  void add_dense(const Item& named, const Tensor& tensor, std::uint32_t number, const std::string& reason) {
    const DType dtype = exported_dtype(options_, tensor.dtype());
    Origin origin;
    origin.item = number;
    add(std::string(named.name()), dtype, {tensor.shape().begin(), tensor.shape().end()}, origin);
    if (!reason.empty()) notes_.push_back(std::string(named.name()) + ": written as values: " + reason);
  }

  Result<void> write_tensors(NewFolder& folder) {
    auto sink = CDNA_TRY(folder.create_file(kModel));
    auto writer = CDNA_TRY(SafetensorsWriter::create(std::move(sink), tensors_, {}));
    Progress progress(options_.progress, total_bytes_);
    std::uint64_t done_bytes = 0;
    const PartSink append = [&](std::span<const std::byte> bytes) -> Result<void> {
      CDNA_TRY(check_stop());
      done_bytes += bytes.size();
      progress.show(done_bytes);
      return writer->append(bytes);
    };
    for (const ModelTensor& planned : writer->tensors()) CDNA_TRY(write_tensor(planned, append));
    CDNA_TRY(writer->commit());
    progress.finish();
    return {};
  }

  Result<void> write_tensor(const ModelTensor& planned, const PartSink& append) const {
    const Origin& origin = origins_.at(planned.name);
    if (origin.module) return modules_[*origin.module].parts.write(origin.part, append);
    const Tensor tensor = reader_.resolve(reader_.tensor_item(origin.item));
    return write_tensor_bytes(tensor, planned.dtype, append);
  }

  static Result<void> write_file(NewFolder& folder, const std::string& name, std::string_view text) {
    const auto sink = CDNA_TRY(folder.create_file(name));
    CDNA_TRY(sink->write(std::as_bytes(std::span(text))));
    return sink->commit();
  }

  Result<nlohmann::ordered_json> read_config() {
    nlohmann::ordered_json config = nlohmann::ordered_json::object();
    const auto asset = reader_.find_asset(kConfig);
    if (!asset) {
      notes_.emplace_back("the container has no config.json: the one written holds quantization_config only");
      return config;
    }
    CDNA_CHECK(asset->size_bytes() <= kConfigBytesMax, Code::limit, "", "config.json is over 64 MiB");
    std::string text(static_cast<std::size_t>(asset->size_bytes()), '\0');
    CDNA_TRY(asset->read(0, std::as_writable_bytes(std::span(text))));
    // Writing it again goes as deep as it is nested.
    const auto is_shallow = [](int depth, nlohmann::ordered_json::parse_event_t, nlohmann::ordered_json&) {
      return depth <= kConfigDepthMax;
    };
    config = nlohmann::ordered_json::parse(text, is_shallow, false);
    Error broken = fail(Code::malformed, "", "the asset config.json is no JSON object");
    broken.item = kConfig;
    if (!config.is_object()) return broken;
    return config;
  }

  // The keys of "cdna_v3", which is the method that every published version of the loader knows; "hxq" came later.
  nlohmann::ordered_json quantization() const {
    nlohmann::ordered_json names = nlohmann::ordered_json::array();
    nlohmann::ordered_json entries = nlohmann::ordered_json::object();
    nlohmann::ordered_json vectors = nlohmann::ordered_json::object();
    std::size_t low_rank = 0;
    for (const Module& module : modules_) {
      names.push_back(module.name);
      if (module.parts.entries() != kEntriesByDefault) entries[module.name] = module.parts.entries();
      if (module.parts.vector() != 1) vectors[module.name] = module.parts.vector();
      if (module.parts.has_low_rank()) ++low_rank;
    }
    nlohmann::ordered_json out = {{"quant_method", "cdna_v3"},       {"bits", 8},
                                  {"n_clusters", kEntriesByDefault}, {"codebook_size", kEntriesByDefault},
                                  {"compressed_modules", names},     {"n_svd_routed", low_rank}};
    if (!entries.empty()) out["module_k_map"] = entries;
    if (!vectors.empty()) out["module_vector_dim_map"] = vectors;
    return out;
  }

  Result<void> write_config(NewFolder& folder) {
    nlohmann::ordered_json config = CDNA_TRY(read_config());
    config.erase("quantization_config");
    if (!modules_.empty()) config["quantization_config"] = quantization();
    if (modules_.empty()) notes_.emplace_back("no tensor has codes that HXQ can hold: a plain checkpoint is written");
    return write_file(folder, kConfig, config.dump(2) + "\n");
  }

  Result<void> write_assets(NewFolder& folder) {
    for (std::uint32_t i = 0; i < reader_.item_count(); ++i) {
      const Item item = reader_.item(i);
      if (item.kind() != ItemKind::asset) continue;
      const std::string name(item.name());
      if (name == kConfig) continue;
      const bool is_plain = !name.empty() && name != "." && name != ".." && name != kModel &&
                            name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
      if (!is_plain) {
        notes_.push_back(name + ": left out: not the name of a file that can stand here");
        continue;
      }
      CDNA_TRY(write_asset(folder, name, Asset(item)));
    }
    return {};
  }

  Result<void> write_asset(NewFolder& folder, const std::string& name, const Asset& asset) const {
    const auto sink = CDNA_TRY(folder.create_file(name));
    std::vector<std::byte> buffer(static_cast<std::size_t>(std::min(kStepBytes, asset.size_bytes())));
    for (std::uint64_t at = 0; at < asset.size_bytes(); at += buffer.size()) {
      CDNA_TRY(check_stop());
      const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), asset.size_bytes() - at));
      CDNA_TRY(asset.read(at, std::span(buffer).first(size)));
      CDNA_TRY(sink->write(std::span(buffer).first(size)));
    }
    return sink->commit();
  }

  Result<void> check_stop() const {
    CDNA_CHECK(options_.stop == nullptr || !options_.stop->load(), Code::cancelled, "", "stopped on request");
    return {};
  }

  const Reader& reader_;
  const ExportOptions& options_;
  std::vector<Module> modules_;
  std::vector<ModelTensor> tensors_;
  std::map<std::string, Origin> origins_;
  std::uint64_t total_bytes_ = 0;
  std::vector<std::string> notes_;
};

}  // namespace

Result<std::vector<std::string>> export_hxq(const Reader& reader, const std::string& folder,
                                            const ExportOptions& options, FileSystem& file_system) {
  return no_throw([&]() -> Result<std::vector<std::string>> {
    CDNA_TRY(check_export_options(options));
    return HxqExport(reader, options).run(folder, file_system);
  });
}

}  // namespace cdna
