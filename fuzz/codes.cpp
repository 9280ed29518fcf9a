// Reads a model twice, and writes it once.
#include "fuzz/codes.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cdna/encode.hpp"
#include "cdna/writer.hpp"
#include "fuzz/open_file.hpp"

namespace cdna::fuzz {
namespace {

constexpr std::uint64_t kDecodedBytesMax = std::uint64_t{1} << 20;

void check_size(const ModelTensor& tensor) {
  std::uint64_t bits = bits_of(tensor.dtype);
  for (const std::uint64_t size : tensor.shape) bits *= size;
  require(tensor.size_bytes == (bits + 7) / 8, "a tensor has the size of its shape");
}

// Names and shapes can be such that no container has them; then nothing is asked of it.
void check_written(const ModelTensor& tensor, const EncodedPlanes& planes) {
  std::vector<std::byte> file;
  auto writer = Writer::create(memory_sink(file), {64, 1, nullptr});
  require(writer.has_value(), "a writer can be made");
  const TensorSpec spec{"t", tensor.dtype, tensor.shape, Role::matrix, Codec::raw};
  const auto added = writer->add_encoded(spec, planes);
  require(added.has_value() || added.error().code == Code::limit || added.error().rule[0] == 'P',
          "planes are such that a writer takes them");
}

void check_values(const Model& model, std::size_t number, const EncodedPlanes& planes, std::size_t choice) {
  const ModelTensor& tensor = model.tensors()[number];
  std::vector<float> values(tensor.size_bytes / sizeof(float));
  decode(planes, tensor.dtype, tensor.shape[1], 0, values);
  const std::uint64_t begin = choice % tensor.size_bytes;
  std::vector<std::byte> bytes(tensor.size_bytes - begin);
  require(model.read(number, begin, bytes).has_value(), "what has planes can be read");
  require(std::memcmp(bytes.data(), reinterpret_cast<const std::byte*>(values.data()) + begin, bytes.size()) == 0,
          "what is read are the values of the planes");
}

}  // namespace

void check_codes(const Model& model, std::size_t choice) {
  const auto tensors = model.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(i == 0 || tensors[i - 1].name < tensors[i].name, "names ascend, so none is there twice");
    check_size(tensors[i]);
    if (tensors[i].size_bytes > kDecodedBytesMax) continue;
    if (!tensors[i].is_encoded) {
      std::vector<std::byte> bytes(tensors[i].size_bytes);
      require(model.read(i, 0, bytes).has_value(), "an accepted tensor can be read");
      continue;
    }
    const auto held = model.read_planes(i);
    if (!held) {
      require(held.error().code < Code::io, "a refusal is a property of the file");
      continue;
    }
    check_written(tensors[i], held->planes);
    check_values(model, i, held->planes, choice);
  }
}

}  // namespace cdna::fuzz
