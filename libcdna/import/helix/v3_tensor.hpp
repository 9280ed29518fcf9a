// A tensor of helix-substrate's v3: a folder with meta.json, codebook.npy, indices.bin and what belongs to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/helix/codebook_tensor.hpp"
#include "libcdna/import/helix/morpho_fft.hpp"
#include "libcdna/import/helix/python_json.hpp"
#include "libcdna/import/helix/tensor_files.hpp"

namespace cdna {

inline constexpr std::uint64_t kHelixJsonBytesMax = std::uint64_t{4} << 20;  // Of a tensor; they have one kilobyte.

// The statement of what a tensor is called, which comes before all else of it.
struct V3Meta {
  PythonJson json;
  std::string text;
  std::string name;
};
// Reads meta.json. Errors: those of TensorFiles::open, malformed, unsupported (another format_version).
Result<V3Meta> read_v3_meta(const TensorFiles& files);

// Checked once and whole but for the values of indices, SVD and scales. Const methods may be called from any thread.
class V3Tensor {
 public:
  // What is there decides, as with the original's reader: k and the elements of an entry from codebook.npy, the width
  // of an index from index_dtype (where there is none, or one that k cannot have, from the size of indices.bin), sidecar
  // and SVD by their files. Where meta.json or stats.json say otherwise, a sidecar or SVD is a stale one of a tensor that
  // was written again: malformed. Other disagreements are notes. Errors: corrupt (codebook_sha256, config_sha256),
  // malformed, truncated, unsupported (storage modes), limit, io; with file and tensor.
  static Result<V3Tensor> open(std::shared_ptr<const TensorFiles> files, V3Meta meta);

  const std::string& name() const { return meta_.name; }
  const std::string& meta_text() const { return meta_.text; }
  const std::string& stats_text() const { return stats_text_; }  // "": there is none.
  const std::vector<std::uint64_t>& shape() const { return shape_; }
  bool is_encoded() const { return !spectrum_; }
  bool has_half_sidecar() const { return sidecar_count_ != 0 && sidecar_dtype_ == DType::f16; }
  const std::vector<std::string>& notes() const { return notes_; }

  // Requires: is_encoded(). Errors: as open().
  Result<HeldPlanes> read_planes() const;
  // Elements from `begin` on. Requires: !is_encoded(), a range of its elements.
  void decode(std::uint64_t begin, std::span<float> out) const { decode_morpho(*spectrum_, begin, out); }

 private:
  V3Tensor(std::shared_ptr<const TensorFiles> files, V3Meta meta) : files_(std::move(files)), meta_(std::move(meta)) {}
  Error place(Error error, const std::string& file) const;
  Error fail_in(const std::string& file, Code code, std::string message) const;
  void note(std::string text) { notes_.push_back(std::move(text)); }

  Result<void> load();
  Result<void> load_morpho();
  Result<PythonJson> load_stats();
  Result<void> load_shape();
  Result<void> load_codebook();
  Result<void> measure_indices();
  Result<void> check_sidecar(const PythonJson& stats);
  Result<void> check_svd();
  Result<void> check_channel_scales();
  Result<HelixSidecar> read_sidecar() const;
  // The shape of a float array, whose values are not read.
  Result<std::vector<std::uint64_t>> shape_of(const std::string& file) const;
  // Its values. Requires: they were checked to have `shape`.
  Result<std::vector<float>> read_floats(const std::string& file, std::vector<std::uint64_t> shape) const;
  Result<void> read_indices(CodebookTensor& tensor) const;

  std::shared_ptr<const TensorFiles> files_;
  V3Meta meta_;
  std::string stats_text_;
  std::vector<std::string> notes_;
  std::vector<std::uint64_t> shape_;
  std::optional<MorphoSpectrum> spectrum_;
  std::vector<float> codebook_;
  std::uint32_t vector_ = 1;
  std::uint32_t index_bytes_ = 1;
  std::uint64_t rank_ = 0;
  std::uint64_t sidecar_count_ = 0;
  DType sidecar_dtype_ = DType::none;
  bool has_channel_scales_ = false;
};

}  // namespace cdna
