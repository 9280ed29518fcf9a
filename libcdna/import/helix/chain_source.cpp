// Sources of layer chains: the tensors of a model, or the files of a folder.
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/import/helix/layer_chain.hpp"
#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

class ModelChainSource final : public ChainSource {
 public:
  explicit ModelChainSource(std::unique_ptr<Model> model) : model_(std::move(model)) {}

  Result<std::optional<ChainBytes>> find(const std::string& name, std::uint64_t) const override {
    for (const std::string& key : {name, name + ".weight"}) {
      const auto tensors = model_->tensors();
      const auto found =
          std::lower_bound(tensors.begin(), tensors.end(), key,
                           [](const ModelTensor& tensor, const std::string& k) { return tensor.name < k; });
      if (found == tensors.end() || found->name != key) continue;
      const auto number = static_cast<std::size_t>(found - tensors.begin());
      ChainBytes bytes;
      bytes.size_bytes = found->size_bytes;
      bytes.read = [this, number](std::uint64_t offset, std::span<std::byte> out) {
        return model_->read(number, offset, out);
      };
      return std::optional(std::move(bytes));
    }
    return std::optional<ChainBytes>();
  }

 private:
  std::unique_ptr<Model> model_;
};

class FileChainSource final : public ChainSource {
 public:
  FileChainSource(std::string path, std::vector<std::string> names, FileSystem& file_system)
      : path_(std::move(path)), names_(std::move(names)), file_system_(file_system) {}

  Result<std::optional<ChainBytes>> find(const std::string& name, std::uint64_t expected_bytes) const override {
    std::optional<ChainBytes> found;
    const std::string beginning = name + ".";
    for (auto file = std::lower_bound(names_.begin(), names_.end(), beginning);
         file != names_.end() && file->starts_with(beginning); ++file) {
      auto opened = open_source(path_ + "/" + *file, Io::pread, file_system_);
      if (!opened && opened.error().code == Code::bad_argument) continue;  // Not a file: a folder of this name.
      std::shared_ptr<const Source> source = CDNA_TRY(std::move(opened));
      const std::uint64_t begin = CDNA_TRY(values_begin(*file, *source));
      // The original's arrays are values, and its folders whole files: the size tells which.
      const bool is_whole = begin > 0 && source->size_bytes() - begin != expected_bytes && file->ends_with(".npy");
      ChainBytes bytes = part_of(std::move(source), is_whole ? 0 : begin);
      if (bytes.size_bytes == expected_bytes) return std::optional(std::move(bytes));
      if (!found) found = std::move(bytes);
    }
    return found;
  }

 private:
  static Result<std::uint64_t> values_begin(const std::string& file, const Source& source) {
    if (file.ends_with(".npy")) return CDNA_TRY(read_npy_header(source)).data_begin;
    if (!file.ends_with(".safetensors") || source.size_bytes() < kSafetensorsLengthBytes) return std::uint64_t{0};
    std::array<std::byte, kSafetensorsLengthBytes> head;
    CDNA_TRY(source.read_at(0, head));
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < head.size(); ++i) length |= std::to_integer<std::uint64_t>(head[i]) << (8 * i);
    return std::min(length, source.size_bytes() - kSafetensorsLengthBytes) + kSafetensorsLengthBytes;
  }

  static ChainBytes part_of(std::shared_ptr<const Source> source, std::uint64_t begin) {
    ChainBytes bytes;
    bytes.size_bytes = source->size_bytes() - begin;
    bytes.read = [begin, held = std::move(source)](std::uint64_t offset, std::span<std::byte> out) {
      return held->read_at(begin + offset, out);
    };
    return bytes;
  }

  std::string path_;
  std::vector<std::string> names_;  // Sorted.
  FileSystem& file_system_;
};

}  // namespace

Result<std::unique_ptr<ChainSource>> open_chain_source(const std::string& path, FileSystem& file_system) {
  const int fd = open_retrying(file_system, AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && fd != -ENOTDIR) return fail_io("cannot open the source", fd, path);
  ModelOptions options;
  options.format = ModelFormat::safetensors;
  if (fd >= 0) {
    const Descriptor folder(fd, file_system);
    std::vector<std::string> names;
    if (const int listed = list_retrying(file_system, fd, names); listed < 0)
      return fail_io("cannot list the folder", listed, path);
    std::sort(names.begin(), names.end());
    if (!std::binary_search(names.begin(), names.end(), "config.json"))
      return std::unique_ptr<ChainSource>(std::make_unique<FileChainSource>(path, std::move(names), file_system));
  }
  auto model = CDNA_TRY(open_model(path, options, file_system));
  return std::unique_ptr<ChainSource>(std::make_unique<ModelChainSource>(std::move(model)));
}

}  // namespace cdna
