// Models in other formats as named tensors, metadata and assets: what convert reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/dtype.hpp"
#include "cdna/encode.hpp"
#include "cdna/error.hpp"
#include "cdna/metadata.hpp"
#include "cdna/sink.hpp"
#include "cdna/source.hpp"

namespace cdna {

struct ModelTensor {
  std::string name;  // Raw bytes as in the source; not yet checked against CDNA's rules for names.
  // none: the source's type is known and is not decoded here (source_type): the tensor has a name and a shape,
  // size_bytes is 0, and converting the model is unsupported.
  DType dtype = DType::none;
  std::vector<std::uint64_t> shape;  // Row-major.
  std::uint64_t size_bytes = 0;      // ceil(product of shape * bits / 8).
  // The source holds codes: Model::read_planes() gives them, and Model::read() what they decode to, in `dtype`.
  bool is_encoded = false;
  std::string source_type{};  // What the source calls the type, where that is no dtype: "Q4_K"; else "" or its name.
};

// Planes together with what they are views of.
struct HeldPlanes {
  EncodedPlanes planes;
  std::shared_ptr<const void> storage;
};

struct ModelAsset {
  std::string name;        // File name without folders.
  std::string media_type;  // "application/json", "text/plain", "application/octet-stream".
  std::uint64_t size_bytes = 0;
};

// A model to be converted. Const methods may be called from any thread.
class Model {
 public:
  virtual ~Model() = default;

  // Sorted by name (bytewise), names unique.
  virtual std::span<const ModelTensor> tensors() const = 0;
  // Fills `out` from byte `offset` of the row-major data of a tensor. Requires: the range lies within it. Errors: io.
  virtual Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const = 0;

  // The codes of a tensor that is encoded, whole and checked: Writer::add_encoded() takes them for the tensor's shape,
  // and default_row_dims() of it. Memory: that of the planes. Requires: is_encoded. Errors: io, malformed, corrupt,
  // limit, and what read() says of others.
  virtual Result<HeldPlanes> read_planes(std::size_t tensor) const;

  // The source's metadata: keys as they go into the container, "safetensors:KEY", "gguf:KEY", "helix:KEY"; where shards
  // disagree about a key, the first in name order has it and the others have "safetensors@SHARD:KEY".
  virtual const Metadata& metadata() const = 0;

  // Sorted by name.
  virtual std::span<const ModelAsset> assets() const = 0;
  virtual Result<void> read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const = 0;

  // What was seen in the source and is not part of the model, one printable line each ("pytorch_model.bin: not a ...").
  virtual std::span<const std::string> notes() const = 0;
};

// What the source of a model can be.
enum class ModelFormat : std::uint8_t {
  detect,       // By its content, never by its name.
  safetensors,  // A file, or a Hugging Face folder; as it is, also where it is an HXQ checkpoint.
  hxq,       // HXQ checkpoint of helix-substrate: a safetensors file or Hugging Face folder with codebooks and indices.
  hxzc,      // helix-substrate's CDNA v1, one matrix.
  hxz2,      // Its v2, one matrix.
  helix_v2,  // A folder of those with a manifest.json.
  helix_v3,  // A .cdnav3 folder, or a folder of such with a manifest.
  gguf,
  gguf_hxq,  // GGUF whose types 36 and 37 are those of helix-substrate's fork of llama.cpp. Never detected.
  npy,
  npz,
};
// "auto", "safetensors", "hxq", "hxzc", "hxz2", "helix-v2", "helix-v3", "gguf", "gguf-hxq", "npy", "npz". Static
// storage.
std::string_view name_of(ModelFormat format);
// In the order of the enumeration.
std::span<const ModelFormat> model_formats();
std::optional<ModelFormat> parse_model_format(std::string_view name);

struct ModelOptions {
  ModelFormat format = ModelFormat::detect;
  std::string sidecar;  // HXZO file with the outliers of an hxzc or hxz2 file; "": the one beside it, if there is one.
  // Of helix_v3 and hxq: shell patterns (see matches_glob()) of the names of tensors that are left out unread, such as
  // one that cannot be decoded. Each must fit a tensor.
  std::vector<std::string> skip;
  // Of hxq: "GLOB=ROWSxCOLS", either of which may be "*": the shapes of matrices with 12-bit indices, which nothing in
  // the file may tell. The first that fits counts; one that fits none is an error.
  std::vector<std::string> shapes;
};

// Opens a model: a file, or a folder. `.safetensors` files and Hugging Face folders (config.json and either
// model.safetensors.index.json with its shards, model.safetensors, or exactly one *.safetensors; other JSON, text,
// tokenizer and licence files of the top level become assets), and the other formats above. Of GGUF every type is known
// by name; blocks that are codes with factors (Q4_0 to Q8_0, Q2_K to Q6_K, IQ4, TQ, MXFP4, NVFP4) are encoded tensors,
// or F32 where the tensor is a vector; its keys are the asset "gguf-metadata.bin", and the small ones metadata; any
// part of a split model opens all. Errors: io, not_found (also: a folder without config.json or weights), bad_argument
// (not a regular file; a sidecar for what takes none), truncated, corrupt (a hash of the source), malformed (names the
// file, tensor and byte), unsupported (an unknown dtype or another format, by name), limit, no_memory.
Result<std::unique_ptr<Model>> open_model(const std::string& path, const ModelOptions& options = {},
                                          FileSystem& file_system = posix_file_system());

// Opens one safetensors file over any source; Source::name() is for messages. Errors: as above.
Result<std::unique_ptr<Model>> open_safetensors(std::unique_ptr<Source> source);

// Writes a safetensors file front to back: the header at once, then data in the order of `tensors()`.
class SafetensorsWriter {
 public:
  // Plans the file: tensors in the public writer's order of dtypes (wide ones first), then by name, without gaps; the
  // header padded with spaces to a multiple of 8. `metadata` becomes __metadata__ (absent when empty). size_bytes of
  // `tensors` is not read. Errors: io, malformed (duplicate name, a name equal to "__metadata__" or not UTF-8), limit
  // (header over 100,000,000 bytes, or sizes that do not fit), bad_argument (DType::none, or shape times dtype is not
  // whole bytes).
  static Result<std::unique_ptr<SafetensorsWriter>> create(std::unique_ptr<Sink> sink, std::vector<ModelTensor> tensors,
                                                           const std::map<std::string, std::string>& metadata);
  virtual ~SafetensorsWriter() = default;
  // In the order in which append() expects their data.
  virtual std::span<const ModelTensor> tensors() const = 0;
  // Appends the next bytes of the data area. Errors: io, bad_argument (more than planned).
  virtual Result<void> append(std::span<const std::byte> bytes) = 0;
  // Errors: io, exists, bad_argument (less than planned).
  virtual Result<void> commit() = 0;
};

}  // namespace cdna
