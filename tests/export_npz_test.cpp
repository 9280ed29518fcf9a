// .npz files that export writes: every dtype as NumPy has it, read back by the importer; the Python tests let NumPy.
#include <atomic>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "case_stride.hpp"
#include "cdna/convert.hpp"
#include "cdna/reader.hpp"
#include "cdna/writer.hpp"
#include "libcdna/format/small_floats.hpp"
#include "libcdna/import/numpy/numpy_model.hpp"

using namespace cdna;
using Bytes = std::vector<std::byte>;
using Shape = std::vector<std::uint64_t>;

namespace {

struct Given {
  std::string name;
  DType dtype;
  Shape shape;
  Bytes data;
};

Bytes container(const std::vector<Given>& tensors) {
  Bytes file;
  auto writer = Writer::create(memory_sink(file), {64, 1, nullptr});
  REQUIRE(writer.has_value());
  for (const Given& tensor : tensors) {
    const auto added = writer->add_exact({tensor.name, tensor.dtype, tensor.shape, Role::other, Codec::raw},
                                         [&](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
                                           std::memcpy(out.data(), tensor.data.data() + offset, out.size());
                                           return {};
                                         });
    if (!added) FAIL(added.error().describe());
  }
  REQUIRE(writer->finish().has_value());
  return file;
}

Bytes exported(const Bytes& file, const ExportOptions& options = {}) {
  const auto reader = Reader::open(memory_source(file));
  REQUIRE(reader.has_value());
  Bytes out;
  const auto result = export_npz(*reader, memory_sink(out), options);
  if (!result) FAIL(result.error().describe());
  return out;
}

// Requires: the bytes outlive the model.
std::unique_ptr<Model> imported(Bytes&& npz) = delete;
std::unique_ptr<Model> imported(const Bytes& npz) {
  auto model = open_npz_model(memory_source(npz));
  if (!model) FAIL(model.error().describe());
  return *std::move(model);
}

Bytes content(const Model& model, std::size_t tensor) {
  Bytes bytes(model.tensors()[tensor].size_bytes);
  REQUIRE(model.read(tensor, 0, bytes).has_value());
  return bytes;
}

Bytes pattern(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 37 & 0x3B);
  return bytes;
}

}  // namespace

TEST_CASE("export npz: what NumPy has comes back bit for bit") {
  for (const DType dtype : {DType::boolean, DType::u8, DType::i8, DType::u16, DType::i16, DType::u32, DType::i32,
                            DType::u64, DType::i64, DType::f16, DType::f32, DType::f64, DType::c64}) {
    for (const Shape& shape : std::vector<Shape>{{}, {5}, {0, 3}, {2, 3, 4}}) {
      std::size_t size = bits_of(dtype) / 8;
      for (const std::uint64_t dimension : shape) size *= dimension;
      const Given given{"layer." + std::string(name_of(dtype)), dtype, shape, pattern(size)};
      const Bytes npz = exported(container({given}));
      const auto model = imported(npz);
      REQUIRE(model->tensors().size() == 1);
      CHECK(model->tensors()[0].name == given.name);
      CHECK(model->tensors()[0].dtype == dtype);
      CHECK(model->tensors()[0].shape == shape);
      CHECK(content(*model, 0) == given.data);
    }
  }
}

TEST_CASE("export npz: BF16 and small floats become F32 with the same values") {
  const Bytes halves = pattern(24);
  const Bytes npz = exported(container({{"b", DType::bf16, {3, 4}, halves}}));
  const auto model = imported(npz);
  CHECK(model->tensors()[0].dtype == DType::f32);
  const Bytes values = content(*model, 0);
  REQUIRE(values.size() == 48);
  for (std::size_t i = 0; i < 12; ++i) {
    CHECK(values[4 * i] == std::byte{0});
    CHECK(values[4 * i + 1] == std::byte{0});
    CHECK(std::memcmp(values.data() + 4 * i + 2, halves.data() + 2 * i, 2) == 0);
  }
  Bytes all(256);
  for (std::size_t i = 0; i < 256; ++i) all[i] = static_cast<std::byte>(i);
  const Bytes small_npz = exported(container({{"e", DType::f8_e4m3, {256}, all}}));
  const auto small = imported(small_npz);
  CHECK(small->tensors()[0].dtype == DType::f32);
  const Bytes wide = content(*small, 0);
  const auto wanted = std::as_bytes(small_float_values(DType::f8_e4m3));
  REQUIRE(wide.size() == wanted.size());
  for (std::size_t i = 0; i < 256; ++i) {
    if ((i & 0x7F) != 0x7F) CHECK(std::memcmp(wide.data() + 4 * i, wanted.data() + 4 * i, 4) == 0);
  }
}

TEST_CASE("export npz: a dtype that is asked for; and BF16 and what is of GGUF, which cannot be") {
  const Bytes file = container({{"w", DType::f32, {2}, Bytes(8, std::byte{0})}, {"i", DType::i32, {1}, Bytes(4)}});
  ExportOptions options;
  options.dtype = DType::f16;
  const Bytes npz = exported(file, options);
  const auto model = imported(npz);
  CHECK(model->tensors()[0].dtype == DType::i32);
  CHECK(model->tensors()[1].dtype == DType::f16);
  options.dtype = DType::bf16;
  const auto reader = Reader::open(memory_source(file));
  Bytes out;
  const auto refused = export_npz(*reader, memory_sink(out), options);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().code == Code::bad_argument);
  CHECK(refused.error().message.starts_with("dtype"));
  options = {};
  options.q8_0 = true;
  CHECK(export_npz(*reader, memory_sink(out), options).error().code == Code::bad_argument);
  options = {};
  options.architecture = "llama";
  CHECK(export_npz(*reader, memory_sink(out), options).error().code == Code::bad_argument);
}

TEST_CASE("export npz: more members than 16 bits count, and the same bytes each time") {
  std::vector<Given> tensors;
  const std::size_t count = test::CaseStride().passes_over() ? 600 : 66000;
  for (std::size_t i = 0; i < count; ++i) tensors.push_back({"t" + std::to_string(i), DType::u8, {1}, pattern(1)});
  const Bytes file = container(tensors);
  const Bytes npz = exported(file);
  CHECK(imported(npz)->tensors().size() == tensors.size());
  CHECK(exported(file) == npz);
}

TEST_CASE("export npz: a stop is followed, and a container without tensors is an empty archive") {
  const Bytes file = container({{"w", DType::u8, {1}, Bytes(1)}});
  const auto reader = Reader::open(memory_source(file));
  std::atomic<bool> stop = true;
  ExportOptions options;
  options.stop = &stop;
  Bytes out;
  CHECK(export_npz(*reader, memory_sink(out), options).error().code == Code::cancelled);
  CHECK(exported(container({})).size() == 22);
}

TEST_CASE("npz: a tensor whose name would lead a member out of its folder is refused") {
  for (const std::string name : {"../a", "/a", "a//b", "a/./b", "a/.."}) {
    INFO(name);
    const Bytes file = container({{name, DType::u8, {1}, Bytes(1)}});
    const auto reader = Reader::open(memory_source(file));
    REQUIRE(reader.has_value());
    Bytes out;
    const auto result = export_npz(*reader, memory_sink(out));
    REQUIRE_FALSE(result.has_value());
    CHECK(result.error().code == Code::bad_argument);
    CHECK(result.error().item == name);
  }
}
