// Matrices with their sidecars as planes and as values; and the opening of single files.
#include "libcdna/import/helix/helix_model.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <functional>
#include <numeric>
#include <string_view>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/import/source_integrity.hpp"
#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kSidecarEnding = ".hxzo";
constexpr std::array<std::string_view, 3> kMatrixEndings{".cdna2.hxz", ".hxz", ".cdna"};

// What the planes of a tensor are views of.
struct Storage {
  CodedMatrix matrix;
  std::shared_ptr<const HxzoSidecar> sidecar;
};

std::string text_of(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

bool has_elements(const std::vector<std::uint64_t>& shape, std::uint64_t elements) {
  std::uint64_t product = 1;
  for (const std::uint64_t size : shape) {
    if (size == 0 || product > elements / size) return false;
    product *= size;
  }
  return product == elements;
}

// The file's name without folders and without its ending.
std::string stem_of(std::string_view path) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  for (const std::string_view ending : kMatrixEndings) {
    if (name.size() > ending.size() && name.ends_with(ending))
      return std::string(name.substr(0, name.size() - ending.size()));
  }
  const std::size_t dot = name.rfind('.');
  return std::string(dot == std::string_view::npos || dot == 0 ? name : name.substr(0, dot));
}

// The file beside a matrix that has its outliers; "" where there is none.
Result<std::string> find_sidecar(const std::string& path, FileSystem& file_system) {
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const std::string beside = folder + stem_of(path) + std::string(kSidecarEnding);
  struct stat status {};
  const int result = retrying(file_system, &FileSystem::fstatat, AT_FDCWD, beside.c_str(), &status, 0);
  if (result == -ENOENT || result == -ENAMETOOLONG) return std::string();
  if (result < 0) return fail_io("cannot look at the sidecar", result, beside);
  return beside;
}

}  // namespace

std::string helix_file_name(std::string tensor) {
  std::replace(tensor.begin(), tensor.end(), '/', '_');
  std::replace(tensor.begin(), tensor.end(), '.', '_');
  return tensor;
}

Result<HelixTensor> helix_tensor(std::unique_ptr<HxzMatrix> matrix, std::string name,
                                 std::optional<std::vector<std::uint64_t>> shape) {
  const HxzHeader& header = matrix->header();
  const std::vector<std::uint64_t> stored{header.rows, header.cols};
  if (shape && !has_elements(*shape, header.rows * header.cols)) {
    Error error =
        fail(Code::malformed, "",
             "its original shape is " + text_of(*shape) + " in the manifest, and its file has " + text_of(stored));
    error.item = std::move(name);
    return error;
  }
  HelixTensor tensor;
  tensor.description.name = std::move(name);
  tensor.description.dtype = DType::f32;
  tensor.description.shape = shape ? *std::move(shape) : stored;
  tensor.description.size_bytes = header.rows * header.cols * sizeof(float);
  tensor.description.is_encoded = fits_codes(DType::f32, tensor.description.shape);
  tensor.matrix = std::move(matrix);
  return tensor;
}

Result<void> join_sidecar(HxzoSidecar sidecar, HelixTensor& tensor, bool is_chosen, std::vector<std::string>& notes) {
  const HxzHeader& header = tensor.matrix->header();
  const std::string& name = tensor.description.name;
  // A v1 file has no name of its own: what it is called may be the name as helix-substrate makes files of it.
  const bool is_file_name = header.tensor_name.empty() && helix_file_name(sidecar.tensor_name) == name;
  const bool fits_matrix = sidecar.shape == std::vector{header.rows, header.cols};
  const bool is_same = sidecar.tensor_name == name || is_file_name;
  const bool is_taken = is_same || (is_chosen && header.tensor_name.empty());
  if (!is_taken || (!fits_matrix && sidecar.shape != tensor.description.shape)) {
    Error error = fail(Code::malformed, "",
                       "the sidecar is of tensor " + quote(sidecar.tensor_name) + ", " + text_of(sidecar.shape) +
                           ", and the file of tensor " + quote(name) + ", " + text_of({header.rows, header.cols}));
    error.file = sidecar.file;
    error.item = name;
    return error;
  }
  const std::string tensor_text = escape(name) + ": ";
  if (!is_same) {
    notes.push_back(tensor_text + "its sidecar is of tensor " + quote(sidecar.tensor_name) +
                    "; the file has no name that would say whether it is");
  }
  notes.push_back(tensor_text + std::to_string(sidecar.positions.size()) + " outliers of " + escape(sidecar.file) +
                  ", in half precision; the sidecar has no hash");
  if (sidecar.nonfinite_values > 0) {
    notes.push_back(tensor_text + std::to_string(sidecar.nonfinite_values) +
                    " of the sidecar's values are infinite or NaN, as rounding to half precision made them");
  }
  if (sidecar.repeated_positions > 0) {
    notes.push_back(tensor_text + std::to_string(sidecar.repeated_positions) +
                    " positions occur again in the sidecar; the last value of each is taken");
  }
  tensor.sidecar = std::make_shared<const HxzoSidecar>(std::move(sidecar));
  return {};
}

HelixModel::HelixModel(std::vector<HelixTensor> tensors, Metadata metadata, std::vector<AssetFile> assets,
                       std::vector<std::string> notes)
    : tensors_(std::move(tensors)), metadata_(std::move(metadata)), notes_(std::move(notes)) {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const HelixTensor& a, const HelixTensor& b) { return a.description.name < b.description.name; });
  for (const HelixTensor& tensor : tensors_) descriptions_.push_back(tensor.description);
  for (AssetFile& asset : assets) {
    assets_.push_back(std::move(asset.description));
    asset_sources_.push_back(std::move(asset.source));
  }
}

Result<void> HelixModel::read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const {
  assert(tensor < tensors_.size() && offset <= descriptions_[tensor].size_bytes);
  assert(out.size() <= descriptions_[tensor].size_bytes - offset);
  if (out.empty()) return {};
  return no_throw([&]() -> Result<void> {
    const HelixTensor& chosen = tensors_[tensor];
    if (chosen.array != nullptr) return read_array(tensor, offset, out);
    const HeldPlanes held = CDNA_TRY(last_.get(tensor, [this](std::size_t number) { return load_planes(number); }));
    read_decoded(held.planes, DType::f32, chosen.matrix->header().cols, offset, out);
    return {};
  });
}

Result<void> HelixModel::read_array(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const {
  const auto open = [this](std::size_t number) {
    return OpenArray::open(tensors_[number].array, tensors_[number].array_header);
  };
  auto result = last_array_.read(tensor, open, offset, out);
  if (!result) result.error().item = descriptions_[tensor].name;
  return result;
}

Result<HeldPlanes> HelixModel::read_planes(std::size_t tensor) const {
  assert(tensor < tensors_.size() && descriptions_[tensor].is_encoded);
  return no_throw([&] { return load_planes(tensor); });
}

Result<HeldPlanes> HelixModel::load_planes(std::size_t tensor) const {
  const HelixTensor& chosen = tensors_[tensor];
  auto matrix = chosen.matrix->read();
  if (!matrix) {
    if (matrix.error().item.empty()) matrix.error().item = chosen.description.name;
    return matrix.error();
  }
  auto storage = std::make_shared<Storage>();
  storage->matrix = *std::move(matrix);
  storage->sidecar = chosen.sidecar;
  HeldPlanes held;
  held.planes.bits = storage->matrix.bits;
  held.planes.codebook = storage->matrix.codebook;
  held.planes.codes = storage->matrix.codes;
  if (storage->sidecar != nullptr && !storage->sidecar->positions.empty()) {
    held.planes.outlier_dtype = DType::f16;
    held.planes.outlier_positions = storage->sidecar->positions;
    held.planes.outlier_values = storage->sidecar->values;
  }
  held.storage = std::move(storage);
  return held;
}

Result<void> HelixModel::read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const {
  assert(asset < assets_.size() && offset <= assets_[asset].size_bytes);
  assert(out.size() <= assets_[asset].size_bytes - offset);
  if (out.empty()) return {};
  return asset_sources_[asset]->read_at(offset, out);
}

Result<std::unique_ptr<Model>> open_hxz_file(const std::string& path, const std::string& sidecar,
                                             FileSystem& file_system) {
  auto source = CDNA_TRY(open_source(path, Io::pread, file_system));
  auto matrix = CDNA_TRY(open_hxz(std::move(source)));
  if (matrix == nullptr) {
    Error error = fail(Code::malformed, "", "neither an HXZC nor an HXZ2 file", 0);
    error.file = path;
    return error;
  }
  Metadata metadata = matrix->header().metadata;
  std::vector<std::string> notes;
  state_integrity(matrix->integrity(), matrix->integrity_reason(), metadata, notes);
  const std::string& own_name = matrix->header().tensor_name;
  std::string name = own_name.empty() ? stem_of(path) : own_name;
  std::vector<HelixTensor> tensors;
  tensors.push_back(CDNA_TRY(helix_tensor(std::move(matrix), std::move(name), std::nullopt)));
  const std::string sidecar_path = sidecar.empty() ? CDNA_TRY(find_sidecar(path, file_system)) : sidecar;
  if (!sidecar_path.empty()) {
    const auto sidecar_source = CDNA_TRY(open_source(sidecar_path, Io::pread, file_system));
    HxzoSidecar read = CDNA_TRY(read_hxzo(*sidecar_source));
    metadata.insert(read.metadata.begin(), read.metadata.end());
    CDNA_TRY(join_sidecar(std::move(read), tensors.front(), !sidecar.empty(), notes));
  }
  return std::unique_ptr<Model>(std::make_unique<HelixModel>(std::move(tensors), std::move(metadata),
                                                             std::vector<AssetFile>(), std::move(notes)));
}

}  // namespace cdna
