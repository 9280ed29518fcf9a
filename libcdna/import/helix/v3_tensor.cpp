// Opens a tensor folder: sizes and hashes first, then what meta.json and stats.json say against what is there.
#include "libcdna/import/helix/v3_tensor.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

#include "libcdna/hash/sha256.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/numpy/zip.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr const char* kMeta = "meta.json";
constexpr const char* kStats = "stats.json";
constexpr const char* kMorpho = "morpho_config.json";
constexpr const char* kCodebook = "codebook.npy";
constexpr const char* kIndices = "indices.bin";
constexpr const char* kSidecar = "sidecar.npz";
constexpr const char* kScales = "channel_scales.npy";
constexpr std::array kSvd{"svd_U.npy", "svd_s.npy", "svd_Vt.npy"};

constexpr std::uint64_t kEntriesMax = 65536;                        // Of a codebook: indices have 16 bits.
constexpr std::uint64_t kByteEntriesMax = 256;                      // That indices of 8 bits reach.
constexpr std::uint64_t kRankMax = 1024;                            // As in EncodedPlanes.
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 40;      // Far from where products overflow.
constexpr std::uint64_t kArrayHeaderBytesMax = kNpyHeaderBytesMax;  // Within a member of sidecar.npz.

Error in_file(Error error, const std::string& path, const std::string& tensor) {
  if (error.file.empty()) error.file = path;
  if (error.item.empty()) error.item = tensor;
  return error;
}

// An array in an archive, of at most so many elements of 8 bytes.
Result<NpyArray> read_member(const ZipArchive& archive, const char* name, std::uint64_t elements_max) {
  const auto member = archive.find(name);
  CDNA_CHECK(member, Code::malformed, "", std::string("it has no ") + name);
  constexpr std::uint64_t kElementBytesMax = 8;
  CDNA_CHECK(archive.members()[*member].size_bytes <= elements_max * kElementBytesMax + kArrayHeaderBytesMax,
             Code::malformed, "", std::string(name) + " has more elements than the tensor");
  const auto source = CDNA_TRY(archive.open_member(*member));
  NpyArray array = CDNA_TRY(read_npy_array(*source));
  CDNA_CHECK(array.shape.size() == 1, Code::malformed, "",
             std::string(name) + " is of shape " + shape_text(array.shape) + ", where one dimension is expected");
  return array;
}

}  // namespace

Result<V3Meta> read_v3_meta(const TensorFiles& files) {
  V3Meta meta;
  meta.text = CDNA_TRY(read_text(files, kMeta, kHelixJsonBytesMax));
  const auto placed = [&](Error error) { return in_file(std::move(error), files.path_of(kMeta), ""); };
  auto json = parse_python_json(meta.text);
  if (!json) return placed(std::move(json).error());
  meta.json = *std::move(json);
  const std::string version = meta.json.string_of("format_version").value_or("");
  if (version != "cdna_v3")
    return placed(fail(Code::unsupported, "", "format_version is " + escape(quote(version)) + ", not \"cdna_v3\""));
  meta.name = meta.json.string_of("tensor_name").value_or("");
  if (meta.name.empty()) return placed(fail(Code::malformed, "", "it has no string \"tensor_name\""));
  return meta;
}

Error V3Tensor::place(Error error, const std::string& file) const {
  return in_file(std::move(error), files_->path_of(file), name());
}

Error V3Tensor::fail_in(const std::string& file, Code code, std::string message) const {
  return place(fail(code, "", std::move(message)), file);
}

Result<V3Tensor> V3Tensor::open(std::shared_ptr<const TensorFiles> files, V3Meta meta) {
  V3Tensor tensor(std::move(files), std::move(meta));
  CDNA_TRY(tensor.load());
  return tensor;
}

Result<void> V3Tensor::load() {
  const PythonJson stats = CDNA_TRY(load_stats());
  const std::string mode = meta_.json.string_of("storage_mode").value_or("");
  if (mode == "morpho") return load_morpho();
  if (mode != "codebook" && mode != "codebook+sidecar") {
    return fail_in(kMeta, Code::unsupported,
                   "storage_mode is " + escape(quote(mode)) + "; a folder has codebook, codebook+sidecar or morpho");
  }
  CDNA_TRY(load_shape());
  CDNA_TRY(load_codebook());
  CDNA_TRY(measure_indices());
  CDNA_TRY(check_sidecar(stats));
  CDNA_TRY(check_svd());
  return check_channel_scales();
}

// What cannot be read is a note: it holds figures only.
Result<PythonJson> V3Tensor::load_stats() {
  if (!files_->has(kStats)) return PythonJson();
  stats_text_ = CDNA_TRY(read_text(*files_, kStats, kHelixJsonBytesMax));
  auto json = parse_python_json(stats_text_);
  if (json) return json;
  note(std::string(kStats) + ": " + json.error().message);
  stats_text_.clear();
  return PythonJson();
}

Result<void> V3Tensor::load_morpho() {
  if (!files_->has(kMorpho)) return fail_in(kMorpho, Code::malformed, "storage_mode is morpho, and it is not there");
  const std::string text = CDNA_TRY(read_text(*files_, kMorpho, kHelixJsonBytesMax));
  const auto json = parse_python_json(text);
  if (!json) return place(json.error(), kMorpho);
  auto spectrum = parse_morpho_config(*json, meta_.json.string_of("config_sha256").value_or(""));
  if (!spectrum) return place(std::move(spectrum).error(), kMorpho);
  shape_ = spectrum->shape;
  spectrum_ = *std::move(spectrum);
  return {};
}

Result<void> V3Tensor::load_shape() {
  auto shape = meta_.json.sizes_of("shape");
  if (!shape || shape->size() != 2 || (*shape)[0] == 0 || (*shape)[1] == 0)
    return fail_in(kMeta, Code::malformed, "\"shape\" is not [rows, columns], both above 0");
  if ((*shape)[0] > kElementsMax / (*shape)[1])
    return fail_in(kMeta, Code::limit, "shape " + shape_text(*shape) + " has over 2^40 elements");
  shape_ = *std::move(shape);
  return {};
}

Result<std::vector<std::uint64_t>> V3Tensor::shape_of(const std::string& file) const {
  if (!files_->has(file)) return fail_in(file, Code::malformed, "it is not there");
  const auto source = CDNA_TRY(files_->open(file));
  auto header = read_npy_header(*source);
  if (!header) return place(std::move(header).error(), file);
  if (header->dtype != DType::f32)
    return fail_in(file, Code::unsupported, "its dtype is " + std::string(name_of(header->dtype)) + ", not F32");
  return std::move(header->shape);
}

Result<std::vector<float>> V3Tensor::read_floats(const std::string& file, std::vector<std::uint64_t> shape) const {
  const auto source = CDNA_TRY(files_->open(file));
  const auto array = read_npy_array(*source);
  if (!array) return place(array.error(), file);
  if (array->dtype != DType::f32 || array->shape != shape)
    return fail_in(file, Code::io, "it changed while it was read");
  return floats_of(array->values);
}

Result<void> V3Tensor::load_codebook() {
  const std::vector<std::uint64_t> shape = CDNA_TRY(shape_of(kCodebook));
  const std::uint64_t vector = shape.size() == 2 ? shape[1] : 1;
  if (shape.empty() || shape.size() > 2 || (vector != 1 && vector != 2 && vector != 4))
    return fail_in(kCodebook, Code::unsupported, "shape " + shape_text(shape) + " is not [k] or [k, 1, 2 or 4]");
  if (shape[0] == 0 || shape[0] > kEntriesMax)
    return fail_in(kCodebook, Code::malformed, std::to_string(shape[0]) + " entries: it has 1 to 65536");
  if (shape_[1] % vector != 0) {
    return fail_in(kCodebook, Code::malformed,
                   "entries of " + std::to_string(vector) + " elements, for rows of " + std::to_string(shape_[1]));
  }
  vector_ = static_cast<std::uint32_t>(vector);
  codebook_ = CDNA_TRY(read_floats(kCodebook, shape));
  const auto stated = meta_.json.string_of("codebook_sha256");
  const std::string found = to_hex(sha256(std::as_bytes(std::span(codebook_))));
  if (stated && *stated != found) {
    return fail_in(kCodebook, Code::corrupt,
                   "meta.json has codebook_sha256 " + escape(quote(*stated)) + "; the codebook gives " + found);
  }
  if (!stated) note("meta.json has no codebook_sha256: the codebook could not be checked");
  const auto requested = meta_.json.size_of("n_clusters");
  if (requested && *requested < shape[0])
    note("n_clusters is " + std::to_string(*requested) + ", and the codebook has " + std::to_string(shape[0]));
  const auto dimensions = meta_.json.size_of("vector_dim");
  if (dimensions && *dimensions != vector)
    note("vector_dim is " + std::to_string(*dimensions) + ", and the codebook's is " + std::to_string(vector));
  return {};
}

Result<void> V3Tensor::measure_indices() {
  if (!files_->has(kIndices)) return fail_in(kIndices, Code::malformed, "it is not there");
  const auto source = CDNA_TRY(files_->open(kIndices));
  const std::uint64_t count = shape_[0] * (shape_[1] / vector_);
  const std::uint64_t entries = codebook_.size() / vector_;
  const std::uint64_t size = source->size_bytes();
  const auto stated = meta_.json.string_of("index_dtype");
  const std::string dtype = stated.value_or("uint8");
  if (dtype != "uint8" && dtype != "uint16")
    return fail_in(kMeta, Code::unsupported, "index_dtype is " + escape(quote(dtype)) + ", not uint8 or uint16");
  const std::uint32_t stated_bytes = dtype == "uint16" ? 2 : 1;
  const bool can_be_bytes = entries <= kByteEntriesMax;
  index_bytes_ = stated_bytes;
  if (!stated) index_bytes_ = can_be_bytes && size != 2 * count ? 1 : 2;
  if (stated_bytes == 1 && !can_be_bytes && size != count) index_bytes_ = 2;
  if (size != index_bytes_ * count) {
    return fail_in(kIndices, size < index_bytes_ * count ? Code::truncated : Code::malformed,
                   std::to_string(size) + " bytes, where shape " + shape_text(shape_) + " and " +
                       (index_bytes_ == 2 ? "uint16" : "uint8") + " need " + std::to_string(index_bytes_ * count));
  }
  if (index_bytes_ != stated_bytes) {
    note((stated ? "index_dtype is uint8" : "meta.json has no index_dtype, which stands for uint8") +
         std::string(", and the indices have ") + std::to_string(index_bytes_) + " bytes each");
  }
  if (index_bytes_ == 1 && !can_be_bytes)
    note("indices of one byte reach 256 of the " + std::to_string(entries) + " entries of the codebook");
  return {};
}

Result<HelixSidecar> V3Tensor::read_sidecar() const {
  const std::uint64_t elements = shape_[0] * shape_[1];
  const auto read = [&]() -> Result<HelixSidecar> {
    std::shared_ptr<const Source> source = CDNA_TRY(files_->open(kSidecar));
    const ZipArchive archive = CDNA_TRY(ZipArchive::open(std::move(source)));
    const NpyArray positions = CDNA_TRY(read_member(archive, "positions.npy", elements));
    CDNA_CHECK(positions.dtype == DType::i64, Code::unsupported, "",
               "positions of dtype " + std::string(name_of(positions.dtype)) + ", not I64");
    const NpyArray values = CDNA_TRY(read_member(archive, "values.npy", elements));
    return make_sidecar(positions.values, values.values, values.dtype, elements);
  };
  auto sidecar = read();
  if (sidecar) return sidecar;
  Error error = std::move(sidecar).error();
  error.file = files_->path_of(kSidecar);  // Not the archive's own name, nor that of a member.
  error.item = name();
  return error;
}

// A tensor that was written again without outliers kept its old ones, which the original then applied.
Result<void> V3Tensor::check_sidecar(const PythonJson& stats) {
  const auto counted = stats.size_of("num_outliers");
  if (!files_->has(kSidecar)) {
    if (counted.value_or(0) != 0)
      note("stats.json counts " + std::to_string(*counted) + " outliers, and there is no sidecar.npz: read without");
    const bool has_mode = meta_.json.string_of("storage_mode") == "codebook+sidecar";
    if (!counted && meta_.json.boolean_of("sidecar_enabled").value_or(has_mode))
      note("meta.json says that there is a sidecar, and there is no sidecar.npz: read without");
    return {};
  }
  const HelixSidecar sidecar = CDNA_TRY(read_sidecar());
  sidecar_count_ = sidecar.positions.size();
  sidecar_dtype_ = sidecar.dtype;
  if (sidecar_count_ == 0) return {};
  const auto stale = [&](const std::string& reason) {
    return fail_in(kSidecar, Code::malformed,
                   "a stale sidecar of " + std::to_string(sidecar_count_) + " outliers: " + reason +
                       "; without the file the tensor is read as it was written last");
  };
  if (meta_.json.string_of("storage_mode") == "codebook")
    return stale("storage_mode is \"codebook\", without outliers");
  if (meta_.json.boolean_of("sidecar_enabled") == false) return stale("sidecar_enabled is false");
  if (counted && *counted != sidecar_count_) return stale("stats.json counts " + std::to_string(*counted));
  if (const std::size_t count = sidecar.infinite_count(); count != 0)
    note(std::to_string(count) + " of " + std::to_string(sidecar_count_) +
         " sidecar values are not finite: they were beyond half precision when they were written");
  return {};
}

Result<void> V3Tensor::check_svd() {
  const auto stated = meta_.json.size_of("svd_residual_rank");
  const auto missing = std::find_if(kSvd.begin(), kSvd.end(), [&](const char* part) { return !files_->has(part); });
  const bool has_some = std::any_of(kSvd.begin(), kSvd.end(), [&](const char* part) { return files_->has(part); });
  if (has_some && missing != kSvd.end())
    return fail_in(*missing, Code::malformed, "it is not there, and other parts of the SVD are");
  if (!has_some) {
    if (stated.value_or(0) != 0)
      note("svd_residual_rank is " + std::to_string(*stated) + ", and there is no svd_U.npy: read without");
    return {};
  }
  const std::vector<std::uint64_t> u = CDNA_TRY(shape_of(kSvd[0]));
  const std::vector<std::uint64_t> s = CDNA_TRY(shape_of(kSvd[1]));
  const std::vector<std::uint64_t> vt = CDNA_TRY(shape_of(kSvd[2]));
  const bool fits = s.size() == 1 && u == std::vector{shape_[0], s[0]} && vt == std::vector{s[0], shape_[1]};
  if (!fits) {
    return fail_in(kSvd[0], Code::malformed,
                   "SVD of shapes " + shape_text(u) + ", " + shape_text(s) + ", " + shape_text(vt) +
                       " for a tensor of " + shape_text(shape_));
  }
  if (s[0] > kRankMax) return fail_in(kSvd[1], Code::limit, "rank " + std::to_string(s[0]) + "; at most 1024");
  rank_ = s[0];
  if (stated && *stated != rank_) {
    return fail_in(kSvd[0], Code::malformed,
                   "a stale SVD of rank " + std::to_string(rank_) + ": svd_residual_rank is " +
                       std::to_string(*stated) + "; without the file the tensor is read as it was written last");
  }
  return {};
}

Result<void> V3Tensor::check_channel_scales() {
  if (!files_->has(kScales)) return {};
  const std::vector<std::uint64_t> shape = CDNA_TRY(shape_of(kScales));
  if (shape != std::vector{shape_[1]}) {
    return fail_in(kScales, Code::malformed,
                   "shape " + shape_text(shape) + ", where " + std::to_string(shape_[1]) + " columns are");
  }
  has_channel_scales_ = true;
  note("channel_scales.npy is undone here, as layers of the original do; its reader of tensors returns scaled weights");
  return {};
}

Result<void> V3Tensor::read_indices(CodebookTensor& tensor) const {
  const auto source = CDNA_TRY(files_->open(kIndices));
  const std::uint64_t size = tensor.rows * (tensor.cols / vector_) * index_bytes_;
  if (source->size_bytes() != size) return fail_in(kIndices, Code::io, "it changed while it was read");
  tensor.indices8.resize(index_bytes_ == 1 ? size : 0);
  tensor.indices16.resize(index_bytes_ == 2 ? size / 2 : 0);
  const auto out = index_bytes_ == 1 ? std::as_writable_bytes(std::span(tensor.indices8))
                                     : std::as_writable_bytes(std::span(tensor.indices16));
  auto read = source->read_at(0, out);
  if (!read) return place(std::move(read).error(), kIndices);
  return {};
}

Result<HeldPlanes> V3Tensor::read_planes() const {
  assert(is_encoded());
  CodebookTensor tensor;
  tensor.rows = shape_[0];
  tensor.cols = shape_[1];
  tensor.vector = vector_;
  tensor.codebook = codebook_;
  CDNA_TRY(read_indices(tensor));
  if (sidecar_count_ != 0) tensor.sidecar = CDNA_TRY(read_sidecar());
  if (rank_ != 0) {
    tensor.svd_u = CDNA_TRY(read_floats(kSvd[0], {tensor.rows, rank_}));
    tensor.svd_s = CDNA_TRY(read_floats(kSvd[1], {rank_}));
    tensor.svd_vt = CDNA_TRY(read_floats(kSvd[2], {rank_, tensor.cols}));
  }
  if (has_channel_scales_) tensor.channel_scales = CDNA_TRY(read_floats(kScales, {tensor.cols}));
  auto planes = planes_of(std::move(tensor));
  if (!planes) return place(std::move(planes).error(), "");
  return planes;
}

}  // namespace cdna
