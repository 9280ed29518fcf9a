// Fuzz target: any bytes as a GGUF file: what is accepted lies within it, and goes through a container and an export
// unchanged.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cdna/convert.hpp"
#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "fuzz/open_file.hpp"
#include "libcdna/import/gguf/gguf.hpp"

namespace {

using namespace cdna;
using fuzz::require;
using Bytes = std::vector<std::byte>;

constexpr std::size_t kRoundTripBytesMax = 4096;
constexpr std::size_t kKeysBegin = 24;       // In a file.
constexpr std::size_t kAssetHeadBytes = 12;  // Of the asset with the keys: version and number.

// Memory that no read may leave.
class CheckedSource final : public Source {
 public:
  explicit CheckedSource(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset, "a read lies within the file");
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    return {};
  }

 private:
  std::span<const std::byte> bytes_;
};

void check_error(const Error& error, std::size_t size) {
  require(error.code < Code::io, "a refusal is a property of the file");
  require(!error.describe().empty(), "a refusal says what is wrong");
  require(error.offset == kNoOffset || error.offset <= size, "its offset lies within the file");
}

void check_planes(const ModelTensor& tensor, const EncodedPlanes& planes) {
  const std::uint64_t elements = tensor.size_bytes / sizeof(float);
  require(planes.codebook.size() == std::size_t{1} << planes.bits, "a codebook has an entry for every code");
  require(planes.codes.size() == elements * planes.bits / 8, "every element has a code");
  require(planes.group_factors.size() == elements / planes.group, "every group has a factor");
}

// Whether all tensors have values: a scale that is not finite is found when it is read.
bool check_tensors(const Model& model, std::size_t size) {
  bool all_values = true;
  const auto tensors = model.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(i == 0 || tensors[i - 1].name < tensors[i].name, "names ascend, so none is there twice");
    require(tensors[i].dtype != DType::none || !tensors[i].source_type.empty(), "what is not decoded has a type");
    Bytes bytes(tensors[i].size_bytes);
    const auto read = model.read(i, 0, bytes);
    if (!read) check_error(read.error(), size);
    all_values = all_values && read && tensors[i].dtype != DType::none;
    if (!tensors[i].is_encoded) continue;
    const auto held = model.read_planes(i);
    require(held.has_value() == read.has_value(), "values and codes are read alike");
    if (held) check_planes(tensors[i], held->planes);
  }
  return all_values;
}

void check_keys(const Model& model, std::span<const std::byte> file) {
  require(model.assets().size() == 1, "the keys are an asset");
  Bytes keys(model.assets()[0].size_bytes);
  require(model.read_asset(0, 0, keys).has_value(), "an asset can be read");
  require(keys.size() >= kAssetHeadBytes && keys.size() - kAssetHeadBytes <= file.size() - kKeysBegin,
          "keys lie within the file");
  require(std::memcmp(keys.data() + kAssetHeadBytes, file.data() + kKeysBegin, keys.size() - kAssetHeadBytes) == 0,
          "keys are kept byte for byte");
}

// Through a container, if the format can hold the model, and out of it again.
void check_round_trip(const Model& model) {
  Bytes file;
  if (!convert(model, memory_sink(file))) return;  // Names, ranks and metadata have narrower limits there.
  const auto reader = Reader::open(memory_source(file));
  require(reader.has_value(), "a written file opens");
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const auto tensor = reader->find(model.tensors()[i].name);
    require(tensor.has_value(), "a written tensor is found");
    Bytes before(model.tensors()[i].size_bytes);
    Bytes after(before.size());
    require(model.read(i, 0, before).has_value(), "a tensor can be read twice");
    require(tensor->read_rows(0, tensor->rows(), tensor->dtype(), after).has_value(), "a written tensor can be read");
    require(before == after, "a written tensor is what was read");
  }
  Bytes exported;
  ExportOptions options;
  options.architecture = "llama";
  if (!export_gguf(*reader, memory_sink(exported), options)) return;
  const auto again = open_gguf(memory_source(exported), GgufDialect::ggml);
  require(again.has_value(), "an export can be imported");
  require((*again)->tensors().size() == model.tensors().size(), "no tensor is lost");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto given = std::as_bytes(std::span(data, size));
  const Bytes file(given.begin(), given.end());
  const auto model =
      open_gguf(std::make_unique<CheckedSource>(file), size % 2 == 0 ? GgufDialect::ggml : GgufDialect::hxq);
  if (!model) {
    check_error(model.error(), size);
    return 0;
  }
  check_keys(**model, file);
  if (check_tensors(**model, size) && size <= kRoundTripBytesMax) check_round_trip(**model);
  return 0;
}
