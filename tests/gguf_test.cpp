// Tests of the import of GGUF: the header and what is refused of it, metadata, types that are only listed, split
// models.
#include "libcdna/import/gguf/gguf.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "cdna/convert.hpp"
#include "cdna/import.hpp"
#include "gguf_file.hpp"
#include "random.hpp"
#include "temporary_folder.hpp"

// g++ 12 at -O3 sees an overlap in `"{" + string()` that is not there (GCC bug 105651).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wrestrict"
#endif

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint32_t kU8 = 0;
constexpr std::uint32_t kI8 = 1;
constexpr std::uint32_t kU16 = 2;
constexpr std::uint32_t kI16 = 3;
constexpr std::uint32_t kU32 = 4;
constexpr std::uint32_t kI32 = 5;
constexpr std::uint32_t kF32 = 6;
constexpr std::uint32_t kBool = 7;
constexpr std::uint32_t kString = 8;
constexpr std::uint32_t kArray = 9;
constexpr std::uint32_t kU64 = 10;
constexpr std::uint32_t kI64 = 11;
constexpr std::uint32_t kF64 = 12;
constexpr std::uint64_t kFirstKey = 24;  // Byte at which the keys begin.

template <class T>
std::string array_of(std::uint32_t type, const std::vector<T>& values) {
  std::string out = gguf_bytes(type) + gguf_bytes(static_cast<std::uint64_t>(values.size()));
  for (const T& value : values) out += gguf_bytes(value);
  return out;
}

std::string text_array(const std::vector<std::string>& values) {
  std::string out = gguf_bytes(kString) + gguf_bytes(static_cast<std::uint64_t>(values.size()));
  for (const std::string& value : values) out += gguf_string(value);
  return out;
}

// `file` must outlive the result.
Result<std::unique_ptr<Model>> open_bytes(const std::string& file) {
  return open_gguf(memory_source(std::as_bytes(std::span(file)), false), GgufDialect::ggml);
}

Error error_of(const std::string& file) {
  auto model = open_bytes(file);
  REQUIRE_FALSE(model);
  return model.error();
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// What is refused: the code, the byte, and part of the message.
void check_refused(const std::string& file, Code code, std::uint64_t offset, const char* part) {
  const Error error = error_of(file);
  INFO(error.describe());
  CHECK(error.code == code);
  CHECK(error.offset == offset);
  CHECK(contains(error.message, part));
}

std::string bytes_of(const Model& model, std::size_t tensor) {
  std::string out(static_cast<std::size_t>(model.tensors()[tensor].size_bytes), '?');
  REQUIRE(model.read(tensor, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

std::string asset_of(const Model& model, std::size_t asset) {
  std::string out(static_cast<std::size_t>(model.assets()[asset].size_bytes), '?');
  REQUIRE(model.read_asset(asset, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

}  // namespace

TEST_CASE("gguf: tensors come sorted by name, with the last dimension first and their bytes") {
  const std::string data = "abcdefgh" + std::string(24, '\0') + "ABCDEFGHIJKLMNOP" + std::string(16, '\0') + "12345678";
  for (const std::uint32_t version : {2U, 3U}) {
    const std::string file = gguf_file(
        {}, {gguf_tensor("b", {2, 2}, 1, 0), gguf_tensor("a", {2, 1, 2}, 0, 32), gguf_tensor("c", {}, 28, 64)}, data,
        version);
    const auto model = open_bytes(file);
    REQUIRE(model);
    const auto tensors = (*model)->tensors();
    REQUIRE(tensors.size() == 3);
    CHECK(tensors[0].name == "a");
    CHECK(tensors[0].shape == std::vector<std::uint64_t>{2, 1, 2});
    CHECK(tensors[0].dtype == DType::f32);
    CHECK(tensors[1].dtype == DType::f16);
    CHECK(tensors[2].dtype == DType::f64);
    CHECK(tensors[2].shape.empty());
    CHECK_FALSE(tensors[0].is_encoded);
    CHECK(bytes_of(**model, 0) == "ABCDEFGHIJKLMNOP");
    CHECK(bytes_of(**model, 1) == "abcdefgh");
    CHECK(bytes_of(**model, 2) == "12345678");
    const auto planes = (*model)->read_planes(0);
    REQUIRE_FALSE(planes);
    CHECK(planes.error().code == Code::bad_argument);
  }
}

TEST_CASE("gguf: exact types have the dtypes of their names") {
  const std::vector<std::pair<std::uint32_t, DType>> types{{0, DType::f32},  {1, DType::f16},  {24, DType::i8},
                                                           {25, DType::i16}, {26, DType::i32}, {27, DType::i64},
                                                           {28, DType::f64}, {30, DType::bf16}};
  for (const auto& [id, dtype] : types) {
    const std::string data(4 * bits_of(dtype) / 8, 'x');
    const std::string file = gguf_file({}, {gguf_tensor("w", {4}, id, 0)}, data);
    const auto model = open_bytes(file);
    REQUIRE(model);
    CHECK((*model)->tensors()[0].dtype == dtype);
    CHECK((*model)->tensors()[0].source_type == name_of(dtype));
    CHECK(bytes_of(**model, 0) == data);
  }
}

TEST_CASE("gguf: types without a decoder are listed, and refused where the model is converted") {
  struct Type {
    std::uint32_t id;
    const char* name;
    std::uint64_t elements;
    std::size_t bytes;
  };
  // Sizes: GGML_QUANT_SIZES of the Python package; Q8_1 and Q2_0 of ggml-common.h.
  const std::vector<Type> types{{9, "Q8_1", 32, 36},     {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
                                {17, "IQ2_XS", 256, 74}, {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
                                {21, "IQ3_S", 256, 110}, {22, "IQ2_S", 256, 82},   {29, "IQ1_M", 256, 56},
                                {41, "Q1_0", 128, 18},   {42, "Q2_0", 64, 18}};
  for (const Type& type : types) {
    INFO(type.name);
    const std::vector<std::string> tensors{gguf_tensor("w", {type.elements * 2, 3}, type.id, 0)};
    const std::string file = gguf_file({}, tensors, std::string(type.bytes * 6, '\0'));
    const auto model = open_bytes(file);
    REQUIRE(model);
    CHECK((*model)->tensors()[0].dtype == DType::none);
    CHECK((*model)->tensors()[0].source_type == type.name);
    CHECK((*model)->tensors()[0].shape == std::vector<std::uint64_t>{3, type.elements * 2});
    std::vector<std::byte> out;
    const auto report = convert(**model, memory_sink(out));
    REQUIRE_FALSE(report);
    CHECK(report.error().code == Code::unsupported);
    CHECK(report.error().item == "w");
    CHECK(contains(report.error().message, type.name));
    CHECK(error_of(file.substr(0, file.size() - 1)).code == Code::truncated);  // So its size is known.
  }
}

TEST_CASE("gguf: numbers without a type say what they were") {
  const auto message = [](std::uint32_t id) {
    const Error error = error_of(gguf_file({}, {gguf_tensor("w", {32}, id, 0)}, std::string(64, '\0')));
    CHECK(error.code == Code::unsupported);
    CHECK(error.item == "w");
    return error.message;
  };
  CHECK(contains(message(4), "Q4_2"));
  CHECK(contains(message(31), "Q4_0_4_4"));
  CHECK(contains(message(36), "HXQ_AFFINE_G128"));
  CHECK(contains(message(38), "IQ4_NL_8_8"));
  CHECK(contains(message(43), "type 43 is not known"));
  CHECK(contains(message(0xFFFFFFFF), "type 4294967295 is not known"));
}

TEST_CASE("gguf: small values become metadata with their types") {
  const std::string file = gguf_file({
      gguf_key("u8", kU8, gguf_bytes(std::uint8_t{200})),
      gguf_key("i8", kI8, gguf_bytes(std::int8_t{-100})),
      gguf_key("u16", kU16, gguf_bytes(std::uint16_t{60000})),
      gguf_key("i16", kI16, gguf_bytes(std::int16_t{-30000})),
      gguf_key("u32", kU32, gguf_bytes(std::uint32_t{4000000000})),
      gguf_key("i32", kI32, gguf_bytes(std::int32_t{-2000000000})),
      gguf_key("u64", kU64, gguf_bytes(~std::uint64_t{0})),
      gguf_key("i64", kI64, gguf_bytes(std::int64_t{-5000000000})),
      gguf_key("f32", kF32, gguf_bytes(0.1F)),
      gguf_key("f64", kF64, gguf_bytes(0.1)),
      gguf_key("bool", kBool, gguf_bytes(std::uint8_t{1})),
      gguf_key("string", kString, gguf_string("text")),
      gguf_key("bytes", kString, gguf_string("\xFF")),
      gguf_key("long", kString, gguf_string(std::string(65537, 'x'))),
      gguf_key("array", kArray, array_of<std::int32_t>(kI32, {1, -2, 3})),
      gguf_key("array of text", kArray, text_array({"a\"", "\n"})),
      gguf_key("array of floats", kArray, array_of<float>(kF32, {0.5F, 0.1F})),
      gguf_key("array with NaN", kArray, array_of<float>(kF32, {std::numeric_limits<float>::quiet_NaN()})),
      gguf_key("long array", kArray, array_of<std::uint8_t>(kU8, std::vector<std::uint8_t>(65))),
      gguf_key("nested", kArray,
               gguf_bytes(kArray) + gguf_bytes(std::uint64_t{1}) + array_of<std::uint8_t>(kU8, {1, 2})),
  });
  const auto model = open_bytes(file);
  REQUIRE(model);
  const Metadata expected{
      {"gguf:u8", std::uint64_t{200}},
      {"gguf:i8", std::int64_t{-100}},
      {"gguf:u16", std::uint64_t{60000}},
      {"gguf:i16", std::int64_t{-30000}},
      {"gguf:u32", std::uint64_t{4000000000}},
      {"gguf:i32", std::int64_t{-2000000000}},
      {"gguf:u64", ~std::uint64_t{0}},
      {"gguf:i64", std::int64_t{-5000000000}},
      {"gguf:f32", static_cast<double>(0.1F)},
      {"gguf:f64", 0.1},
      {"gguf:bool", true},
      {"gguf:string", std::string("text")},
      {"gguf:bytes", std::vector<std::byte>{std::byte{0xFF}}},
      {"gguf:array", JsonText{"[1,-2,3]"}},
      {"gguf:array of text", JsonText{R"(["a\"","\n"])"}},
      {"gguf:array of floats", JsonText{"[0.5,0.10000000149011612]"}},
  };
  CHECK((*model)->metadata() == expected);
  // All of it, also what is too long for metadata, is an asset: version, number of keys, and the keys as they are.
  REQUIRE((*model)->assets().size() == 1);
  CHECK((*model)->assets()[0].name == "gguf-metadata.bin");
  const std::string head = gguf_bytes(std::uint32_t{3}) + gguf_bytes(std::uint64_t{20});
  CHECK(asset_of(**model, 0) == head + file.substr(kFirstKey));
  std::string part(7, '?');
  REQUIRE((*model)->read_asset(0, 9, std::as_writable_bytes(std::span(part))));
  CHECK(part == (head + file.substr(kFirstKey)).substr(9, 7));
}

TEST_CASE("gguf: heads that are refused") {
  const std::string good = gguf_file({}, {});
  REQUIRE(open_bytes(good));
  check_refused(good.substr(0, 23), Code::truncated, 0, "at least 24 bytes");
  check_refused("GGUX" + good.substr(4), Code::malformed, 0, "not a GGUF file");
  check_refused(gguf_file({}, {}, {}, 1), Code::unsupported, 4, "version 1");
  check_refused(gguf_file({}, {}, {}, 4), Code::unsupported, 4, "version 4");
  check_refused(gguf_file({}, {}, {}, 0), Code::unsupported, 4, "version 0");
  check_refused(gguf_file({}, {}, {}, 0x03000000), Code::unsupported, 4, "big-endian");
}

TEST_CASE("gguf: counts are compared with the file before anything is allocated for them") {
  std::string file = gguf_file({}, {});
  const auto with = [&](std::size_t at, std::uint64_t value) {
    std::string out = file + std::string(64, '\0');
    std::memcpy(out.data() + at, &value, 8);
    return out;
  };
  for (const std::uint64_t count : {std::uint64_t{6}, std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    check_refused(with(8, count), Code::truncated, kFirstKey, "tensors");
    check_refused(with(16, count), Code::truncated, kFirstKey, "metadata keys");
  }
  file.append(16 << 20, '\0');  // Enough for as many; no more are allowed.
  check_refused(with(16, 65537), Code::limit, kFirstKey, "at most 65536");
  file.append(16 << 20, '\0');
  check_refused(with(8, (1 << 20) + 1), Code::limit, kFirstKey, "at most 1048576");
}

TEST_CASE("gguf: metadata that is refused") {
  const auto one = [](const std::string& entry) { return gguf_file({entry}, {}, std::string(32, '\0')); };
  const std::uint64_t value = kFirstKey + 8 + 1;  // Of a key of one byte: its type.
  check_refused(one(gguf_bytes(~std::uint64_t{0}) + "k"), Code::truncated, kFirstKey, "a metadata key");
  check_refused(one(gguf_string("")), Code::malformed, kFirstKey, "empty");
  check_refused(one(gguf_string("\xC0")), Code::malformed, kFirstKey, "UTF-8");
  check_refused(one(gguf_string(std::string(65536, 'k'))), Code::limit, kFirstKey, "at most 65535");
  check_refused(one(gguf_key("k", 13, "")), Code::malformed, value, "type 13");
  check_refused(one(gguf_key("k", kBool, "\2")), Code::malformed, value + 4, "a boolean of 2");
  check_refused(one(gguf_key("k", kString, gguf_bytes(std::uint64_t{1} << 63))), Code::truncated, value + 4,
                "a string");
  check_refused(one(gguf_key("k", kArray, gguf_bytes(std::uint32_t{99}))), Code::malformed, value + 4, "type 99");
  check_refused(one(gguf_key("k", kArray, gguf_bytes(kU64) + gguf_bytes(std::uint64_t{1} << 61))), Code::truncated,
                value + 4, "an array of 2305843009213693952");
  check_refused(
      one(gguf_key("k", kArray, gguf_bytes(kString) + gguf_bytes(std::uint64_t{2}) + gguf_bytes(~std::uint64_t{0}))),
      Code::truncated, value + 4 + 12, "a string");
  const std::string key = gguf_key("k", kU8, "\1");
  check_refused(gguf_file({key, gguf_key("j", kU8, "\1"), key}, {}), Code::malformed, kFirstKey + 28, "occurs twice");
  const std::string cut = gguf_file({gguf_key("k", kU32, "\1")}, {});
  CHECK(error_of(cut).code == Code::truncated);
}

TEST_CASE("gguf: arrays within one another end at some depth") {
  const auto nested = [](std::size_t depth) {
    std::string value;
    for (std::size_t i = 1; i < depth; ++i) value += gguf_bytes(kArray) + gguf_bytes(std::uint64_t{1});
    return gguf_file({gguf_key("k", kArray, value + array_of<std::uint8_t>(kU8, {1}))}, {});
  };
  CHECK(open_bytes(nested(8)));
  CHECK(error_of(nested(9)).code == Code::limit);
  CHECK(error_of(nested(100000)).code == Code::limit);
}

TEST_CASE("gguf: alignment is a power of two, and data keep it") {
  const auto file = [](const std::string& value, std::uint32_t type, std::size_t alignment, std::uint64_t offset) {
    return gguf_file({gguf_key("general.alignment", type, value)}, {gguf_tensor("w", {8}, 24, offset)},
                     std::string(512, 'w'), 3, alignment);
  };
  const auto of = [&](std::uint32_t alignment, std::uint64_t offset) {
    return file(gguf_bytes(alignment), kU32, alignment, offset);
  };
  for (const std::uint32_t alignment : {1U, 8U, 64U, 256U}) CHECK(open_bytes(of(alignment, alignment)));
  const std::uint64_t value = kFirstKey + 8 + 17;
  for (const std::uint32_t alignment : {0U, 3U, 48U})
    check_refused(file(gguf_bytes(alignment), kU32, 32, 0), Code::malformed, value, "power of two");
  check_refused(file(gguf_bytes(std::uint64_t{32}), kU64, 32, 0), Code::malformed, value, "u32");
  check_refused(file(gguf_bytes(0x80000000U), kU32, 32, 0), Code::truncated, 90, "before the data");
  CHECK(error_of(of(64, 32)).code == Code::malformed);
  CHECK(contains(error_of(of(64, 32)).message, "multiple of 64"));
}

TEST_CASE("gguf: tensors that are refused, with name and byte") {
  const auto refused = [](const std::string& entry, Code code, std::uint64_t at, const char* part) {
    INFO(part);
    const std::string file = gguf_file({}, {entry}, std::string(512, '\0'));
    check_refused(file, code, kFirstKey + at, part);
    if (at != 0) CHECK(error_of(file).item == "w");
  };
  refused(gguf_tensor("", {1}, 0, 0), Code::malformed, 0, "without a name");
  refused(gguf_tensor(std::string(1025, 'w'), {1}, 0, 0), Code::limit, 0, "at most 1024");
  refused(gguf_tensor("w", {1, 1, 1, 1, 1}, 0, 0), Code::limit, 9, "5 dimensions");
  refused(gguf_tensor("w", {std::uint64_t{1} << 32, std::uint64_t{1} << 31}, 0, 0), Code::limit, 9, "2^63");
  refused(gguf_tensor("w", {std::uint64_t{1} << 32, std::uint64_t{1} << 32, 1, 1}, 0, 0), Code::limit, 9, "2^63");
  refused(gguf_tensor("w", {~std::uint64_t{0}, 0}, 0, 0), Code::limit, 9, "2^63");
  refused(gguf_tensor("w", {std::uint64_t{1} << 62}, 0, 0), Code::limit, 9, "2^64 bytes");
  refused(gguf_tensor("w", {31, 32}, 2, 0), Code::malformed, 9, "whole blocks of 32");
  refused(gguf_tensor("w", {32, 8}, 12, 0), Code::malformed, 9, "whole blocks of 256");
  refused(gguf_tensor("w", {}, 8, 0), Code::malformed, 9, "whole blocks of 32");
  refused(gguf_tensor("w", {8}, 0, 8), Code::malformed, 25, "multiple of 32");
  refused(gguf_tensor("w", {129}, 0, 0), Code::truncated, 25, "516 bytes");
  refused(gguf_tensor("w", {1}, 0, 512), Code::truncated, 25, "4 bytes of data at byte 512");
  refused(gguf_tensor("w", {1}, 0, ~std::uint64_t{31}), Code::truncated, 25, "the data area");
}

TEST_CASE("gguf: data overlap, or a name is there twice") {
  const auto file = [](const std::vector<std::string>& tensors) {
    return gguf_file({}, tensors, std::string(256, '\0'));
  };
  CHECK(open_bytes(file({gguf_tensor("b", {8}, 0, 32), gguf_tensor("a", {8}, 0, 0)})));
  CHECK(open_bytes(file({gguf_tensor("a", {8}, 0, 0), gguf_tensor("b", {0, 3}, 0, 0)})));
  const Error overlap = error_of(file({gguf_tensor("b", {9}, 0, 0), gguf_tensor("a", {8}, 0, 32)}));
  CHECK(overlap.code == Code::malformed);
  CHECK(overlap.item == "a");
  CHECK(contains(overlap.message, "overlap those of \"b\""));
  CHECK(error_of(file({gguf_tensor("b", {8}, 0, 0), gguf_tensor("a", {4}, 0, 0)})).code == Code::malformed);
  const Error twice = error_of(file({gguf_tensor("a", {8}, 0, 0), gguf_tensor("a", {8}, 0, 32)}));
  CHECK(twice.code == Code::malformed);
  CHECK(twice.offset == kFirstKey + 33);
  CHECK(contains(twice.message, "two tensors have this name"));
}

TEST_CASE("gguf: every prefix of a file is refused, within the file") {
  const std::string file =
      gguf_file({gguf_key("k", kString, gguf_string("text")), gguf_key("a", kArray, text_array({"x", "y"}))},
                {gguf_tensor("w", {32, 2}, 2, 0)}, std::string(36, '\1'));
  REQUIRE(open_bytes(file));
  for (std::size_t size = 0; size < file.size(); ++size) {
    const Error error = error_of(file.substr(0, size));
    CHECK(error.code == Code::truncated);
    CHECK(error.offset <= size);
  }
}

TEST_CASE("gguf: flipped bits of a header are an error or another model, never more") {
  const std::string good =
      gguf_file({gguf_key("k", kString, gguf_string("text")), gguf_key("a", kArray, text_array({"x", "y"}))},
                {gguf_tensor("w", {32, 2}, 2, 0), gguf_tensor("v", {4}, 0, 64)}, std::string(80, '\1'));
  for (std::size_t bit = 0; bit < (good.size() - 80) * 8; ++bit) {
    std::string file = good;
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
    const auto model = open_bytes(file);
    if (!model) {
      CHECK(model.error().code < Code::io);
      continue;
    }
    for (std::size_t i = 0; i < (*model)->tensors().size(); ++i) bytes_of(**model, i);
  }
}

TEST_CASE("gguf: formats are found by content, also where the number of tensors is a '{'") {
  const TemporaryFolder folder;
  std::vector<std::string> tensors;
  for (std::size_t i = 0; i < 123; ++i) tensors.push_back(gguf_tensor(std::to_string(i), {8}, 0, 32 * i));
  std::ofstream(folder / "model", std::ios::binary) << gguf_file({}, tensors, std::string(32 * 123, '\0'));
  const auto model = open_model(folder / "model");
  REQUIRE(model);
  CHECK((*model)->tensors().size() == 123);
  ModelOptions options;
  options.format = ModelFormat::safetensors;
  CHECK_FALSE(open_model(folder / "model", options));
  std::ofstream(folder / "other", std::ios::binary) << std::string(100, 'x');
  options.format = ModelFormat::gguf;
  const auto other = open_model(folder / "other", options);
  REQUIRE_FALSE(other);
  CHECK(contains(other.error().message, "not a GGUF file"));
  CHECK(other.error().file == folder / "other");
}

namespace {

std::string split_keys(std::uint16_t number, std::uint16_t count, std::int32_t tensors) {
  return gguf_key("split.no", kU16, gguf_bytes(number)) + gguf_key("split.count", kU16, gguf_bytes(count)) +
         gguf_key("split.tensors.count", kI32, gguf_bytes(tensors));
}

// A part with one tensor; `keys` is `key_count` of them.
std::string part(const std::string& keys, std::uint64_t key_count, const std::string& name, char fill) {
  std::string file = gguf_file({keys}, {gguf_tensor(name, {8}, 0, 0)}, std::string(32, fill));
  std::memcpy(file.data() + 16, &key_count, 8);
  return file;
}

class SplitModel {
 public:
  SplitModel() {
    write(1, part(split_keys(0, 3, 3) + gguf_key("general.name", kString, gguf_string("x")), 4, "c", '1'));
    write(2, part(split_keys(1, 3, 3), 3, "a", '2'));
    write(3, part(split_keys(2, 3, 3), 3, "b", '3'));
  }
  void write(int number, const std::string& bytes) const { std::ofstream(path(number), std::ios::binary) << bytes; }
  void remove(int number) const { std::filesystem::remove(path(number)); }
  std::string path(int number) const {
    return folder_ / ("m-0000" + std::to_string(number) + "-of-00003.gguf").c_str();
  }
  Error error(int number = 1) const {
    auto model = open_model(path(number));
    REQUIRE_FALSE(model);
    return model.error();
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace

TEST_CASE("gguf: any part opens the whole of a split model") {
  const SplitModel split;
  for (const int number : {1, 2, 3}) {
    const auto model = open_model(split.path(number));
    REQUIRE(model);
    REQUIRE((*model)->tensors().size() == 3);
    CHECK(bytes_of(**model, 0) == std::string(32, '2'));
    CHECK(bytes_of(**model, 1) == std::string(32, '3'));
    CHECK(bytes_of(**model, 2) == std::string(32, '1'));
    // Which part a file was says nothing of the model.
    CHECK((*model)->metadata() == Metadata{{"gguf:general.name", std::string("x")}});
    CHECK((*model)->assets().size() == 1);
  }
}

TEST_CASE("gguf: keys of later parts are kept beside those of the first") {
  const SplitModel split;
  split.write(2, part(split_keys(1, 3, 3) + gguf_key("general.name", kString, gguf_string("y")), 4, "a", '2'));
  const auto model = open_model(split.path(1));
  REQUIRE(model);
  CHECK((*model)->metadata() == Metadata{{"gguf:general.name", std::string("x")},
                                         {"gguf@m-00002-of-00003.gguf:general.name", std::string("y")}});
  REQUIRE((*model)->assets().size() == 2);
  CHECK((*model)->assets()[0].name == "gguf-metadata-00002.bin");
  CHECK((*model)->assets()[1].name == "gguf-metadata.bin");
  CHECK(contains(asset_of(**model, 1), "general.name"));
}

TEST_CASE("gguf: split models that do not fit together") {
  const SplitModel split;
  SECTION("a part is missing") {
    split.remove(2);
    CHECK(split.error().code == Code::not_found);
    CHECK(contains(split.error().describe(), "m-00002-of-00003.gguf"));
  }
  SECTION("a part is another") {
    split.write(2, part(split_keys(2, 3, 3), 3, "a", '2'));
    CHECK(split.error().code == Code::malformed);
    CHECK(split.error().file == split.path(2));
    CHECK(contains(split.error().message, "part 3, not 2"));
  }
  SECTION("a part of another number of parts") {
    split.write(3, part(split_keys(2, 4, 3), 3, "b", '3'));
    CHECK(contains(split.error().message, "a part of 4"));
  }
  SECTION("a part without its numbers") {
    split.write(3, part(gguf_key("k", kU8, "\1"), 1, "b", '3'));
    CHECK(contains(split.error().message, "split.no"));
  }
  SECTION("tensors are missing") {
    for (const int number : {1, 2, 3})
      split.write(number,
                  part(split_keys(static_cast<std::uint16_t>(number - 1), 3, 4), 3, std::to_string(number), 'x'));
    CHECK(contains(split.error().message, "3 tensors together, where split.tensors.count is 4"));
  }
  SECTION("a tensor is in two parts") {
    split.write(3, part(split_keys(2, 3, 3), 3, "a", '3'));
    CHECK(split.error().item == "a");
    CHECK(contains(split.error().message, "both m-00002-of-00003.gguf and m-00003-of-00003.gguf"));
  }
  SECTION("the name says something else") {
    split.write(1, part(split_keys(1, 3, 3), 3, "c", '1'));
    CHECK(contains(split.error().message, "NAME-00001-of-00003.gguf"));
    split.write(1, part(split_keys(3, 3, 3), 3, "c", '1'));
    CHECK(split.error().code == Code::malformed);
  }
}

TEST_CASE("gguf: a model that was split once and is one file opens") {
  const std::string file = part(split_keys(0, 0, 1), 3, "w", 'w');
  CHECK(open_bytes(file));
}
