// Fuzz target: any bytes as a safetensors file: tensors tile the data, and go through writer, reader and exporter
// unchanged.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cdna/import.hpp"
#include "cdna/reader.hpp"
#include "cdna/writer.hpp"
#include "fuzz/open_file.hpp"

namespace {

using namespace cdna;
using fuzz::require;
using Bytes = std::vector<std::byte>;
using Range = std::pair<std::uint64_t, std::uint64_t>;

constexpr std::size_t kRoundTripBytesMax = 4096;
constexpr std::size_t kLengthBytes = 8;  // Of the header's length at the beginning of a file.

// Memory that notes which bytes are asked for.
class RecordingSource final : public Source {
 public:
  RecordingSource(std::span<const std::byte> bytes, std::vector<Range>& read) : bytes_(bytes), read_(read) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    require(offset <= bytes_.size() && out.size() <= bytes_.size() - offset, "a read lies within the file");
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    if (!out.empty()) read_.emplace_back(offset, offset + out.size());
    return {};
  }

 private:
  std::span<const std::byte> bytes_;
  std::vector<Range>& read_;
};

Bytes content_of(const Model& model, std::size_t tensor) {
  Bytes bytes(model.tensors()[tensor].size_bytes);
  require(model.read(tensor, 0, bytes).has_value(), "an accepted tensor can be read");
  return bytes;
}

// Requires that the data of all tensors are the bytes after the header, each once.
std::vector<Bytes> read_all(const Model& model, std::span<const std::byte> file, std::vector<Range>& read) {
  read.clear();
  std::vector<Bytes> contents;
  for (std::size_t i = 0; i < model.tensors().size(); ++i) contents.push_back(content_of(model, i));
  std::sort(read.begin(), read.end());
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  std::uint64_t end = kLengthBytes + header;
  for (const Range& range : read) {
    require(range.first == end, "tensors follow one another");
    end = range.second;
  }
  require(end == file.size(), "tensors fill the file");
  return contents;
}

void check_names(const Model& model) {
  const auto tensors = model.tensors();
  for (std::size_t i = 1; i < tensors.size(); ++i)
    require(tensors[i - 1].name < tensors[i].name, "names ascend, so none is there twice");
}

std::map<std::string, std::string> metadata_of(const Model& model) {
  constexpr std::string_view kPrefix = "safetensors:";
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : model.metadata()) {
    require(key.starts_with(kPrefix), "keys of a source are marked as such");
    metadata.emplace(key.substr(kPrefix.size()), std::get<std::string>(value));
  }
  return metadata;
}

Bytes export_of(const Model& model) {
  Bytes out;
  const std::vector<ModelTensor> tensors(model.tensors().begin(), model.tensors().end());
  const auto writer = SafetensorsWriter::create(memory_sink(out), tensors, metadata_of(model));
  require(writer.has_value(), "what was read can be exported");
  for (const ModelTensor& tensor : (*writer)->tensors()) {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == tensor.name; });
    require((*writer)->append(content_of(model, static_cast<std::size_t>(found - tensors.begin()))).has_value(),
            "data can be appended");
  }
  require((*writer)->commit().has_value(), "an export is complete");
  return out;
}

// Export and import give the same model, and the second export the same bytes.
void check_export(const Model& model, const std::vector<Bytes>& contents) {
  const Bytes exported = export_of(model);
  const auto again = open_safetensors(memory_source(exported));
  require(again.has_value(), "an export can be imported");
  require((*again)->metadata() == model.metadata(), "metadata survives");
  require((*again)->tensors().size() == contents.size(), "no tensor is lost");
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const ModelTensor& before = model.tensors()[i];
    const ModelTensor& after = (*again)->tensors()[i];
    require(before.name == after.name && before.dtype == after.dtype && before.shape == after.shape, "headers survive");
    require(content_of(**again, i) == contents[i], "data survive");
  }
  require(export_of(**again) == exported, "an export has one form");
}

// Through a CDNA file, if the format can hold the model: names and ranks have narrower limits there.
void check_container(const Model& model, const std::vector<Bytes>& contents, Codec codec) {
  Bytes file;
  auto writer = Writer::create(memory_sink(file), {64, 1, nullptr});
  require(writer.has_value(), "a writer can be made");
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const ModelTensor& tensor = model.tensors()[i];
    const auto added = writer->add_exact(
        {tensor.name, tensor.dtype, tensor.shape, Role::other, codec},
        [&](std::uint64_t offset, std::span<std::byte> out) -> Result<void> { return model.read(i, offset, out); });
    if (!added) return;
  }
  require(writer->finish().has_value(), "a file can be finished");
  const auto reader = Reader::open(memory_source(file));
  require(reader.has_value(), "a written file opens");
  for (std::size_t i = 0; i < contents.size(); ++i) {
    const auto tensor = reader->find(model.tensors()[i].name);
    require(tensor.has_value(), "a written tensor is found");
    Bytes bytes(contents[i].size());
    require(tensor->rows() * tensor->row_bytes(tensor->dtype()) == bytes.size(), "a written tensor has its size");
    require(tensor->read_rows(0, tensor->rows(), tensor->dtype(), bytes).has_value(), "a written tensor can be read");
    require(bytes == contents[i], "a written tensor is what was read");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto given = std::as_bytes(std::span(data, size));
  const Bytes file(given.begin(), given.end());
  std::vector<Range> read;
  const auto model = open_safetensors(std::make_unique<RecordingSource>(file, read));
  if (!model) {
    require(model.error().code < Code::io, "a refusal is a property of the file");
    require(!model.error().describe().empty(), "a refusal says what is wrong");
    require(model.error().offset == kNoOffset || model.error().offset <= size, "its offset lies within the file");
    return 0;
  }
  check_names(**model);
  const std::vector<Bytes> contents = read_all(**model, file, read);
  if (size > kRoundTripBytesMax) return 0;
  check_export(**model, contents);
  check_container(**model, contents, static_cast<Codec>(size % 3));
  return 0;
}
