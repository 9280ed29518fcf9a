// .npy and .npz files as models: every dtype, order and version; zip archives that lie; and no pickle, ever.
#include <zlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "legacy_files.hpp"
#include "libcdna/import/numpy/npy.hpp"
#include "libcdna/import/numpy/zip.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;
using namespace std::string_literals;
using Bytes = std::vector<std::byte>;
using Shape = std::vector<std::uint64_t>;

namespace {

Bytes bytes_of_text(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string text_of(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::string number(std::uint64_t value, int size) {
  std::string out;
  for (int i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
  return out;
}

std::string npy(const std::string& dict, const std::string& data, int major = 1) {
  return "\x93NUMPY"s + static_cast<char>(major) + '\0' + number(dict.size(), major == 1 ? 2 : 4) + dict + data;
}

std::string dict(const std::string& descr, const std::string& shape, const std::string& order = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }          \n";
}

Result<NpyArray> read_array(const std::string& file) {
  const Bytes bytes = bytes_of_text(file);
  return read_npy_array(*memory_source(bytes));
}

Error refused_array(const std::string& file) {
  const auto array = read_array(file);
  REQUIRE_FALSE(array.has_value());
  return array.error();
}

struct Member {
  std::string name;
  std::string data;
  bool is_deflated = false;
  bool is_wide = false;  // Sizes in a zip64 field of the local header, as zipfile has it with force_zip64.
  std::optional<std::uint32_t> crc{};
};

std::string raw_deflate(const std::string& data) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, data.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// An archive as Python's zipfile writes it.
std::string zip(const std::vector<Member>& members, const std::string& comment = "") {
  std::string out;
  std::string directory;
  for (const Member& member : members) {
    const std::string stored = member.is_deflated ? raw_deflate(member.data) : member.data;
    const auto crc = member.crc.value_or(static_cast<std::uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(member.data.data()), static_cast<uInt>(member.data.size()))));
    const std::string method = number(member.is_deflated ? 8 : 0, 2) + number(0x21, 4);
    const std::string sizes = number(stored.size(), 4) + number(member.data.size(), 4);
    const std::string wide =
        member.is_wide ? number(1, 2) + number(16, 2) + number(member.data.size(), 8) + number(stored.size(), 8) : "";
    directory += "PK\x01\x02"s + number(20, 2) + number(20, 2) + number(0, 2) + method + number(crc, 4) + sizes +
                 number(member.name.size(), 2) + number(0, 2) + number(0, 2) + number(0, 8) + number(out.size(), 4) +
                 member.name;
    out += "PK\x03\x04"s + number(20, 2) + number(0, 2) + method + number(crc, 4) +
           (member.is_wide ? number(~0ULL, 8) : sizes) + number(member.name.size(), 2) + number(wide.size(), 2) +
           member.name + wide + stored;
  }
  const std::string end = number(0, 4) + number(members.size(), 2) + number(members.size(), 2) +
                          number(directory.size(), 4) + number(out.size(), 4) + number(comment.size(), 2) + comment;
  return out + directory + "PK\x05\x06"s + end;
}

Result<std::unique_ptr<Model>> open_text(const std::string& name, const std::string& file,
                                         const TemporaryFolder& folder) {
  save_file(folder / name.c_str(), bytes_of_text(file));
  return open_model(folder / name.c_str());
}

// The error of opening an archive, or of reading its first tensor.
Error refused_zip(const std::string& file) {
  const TemporaryFolder folder;
  const auto model = open_text("a.npz", file, folder);
  if (!model) {
    CHECK(model.error().file.ends_with("a.npz"));
    return model.error();
  }
  Bytes out((*model)->tensors().front().size_bytes);
  const auto read = (*model)->read(0, 0, out);
  REQUIRE_FALSE(read.has_value());
  CHECK(read.error().file.ends_with("a.npz"));
  return read.error();
}

const std::string kArray = npy(dict("<f4", "(2, 2)"), "0123456789abcdef");

}  // namespace

TEST_CASE("npy: every dtype that NumPy and CDNA have, and every version") {
  const std::vector<std::pair<std::string, DType>> dtypes{
      {"|b1", DType::boolean}, {"|u1", DType::u8},  {"|i1", DType::i8},  {"<u2", DType::u16},  {"<i2", DType::i16},
      {"<u4", DType::u32},     {"<i4", DType::i32}, {"<u8", DType::u64}, {"<i8", DType::i64},  {"<f2", DType::f16},
      {"<f4", DType::f32},     {"<f8", DType::f64}, {"<c8", DType::c64}, {"<V2", DType::bf16}, {"|V2", DType::bf16}};
  for (const auto& dtype : dtypes) {
    for (const int version : {1, 2, 3}) {
      const std::string data(3 * bits_of(dtype.second) / 8, 'x');
      const auto array = read_array(npy(dict(dtype.first, "(3,)"), data, version));
      INFO(dtype.first);
      REQUIRE(array.has_value());
      CHECK(array->dtype == dtype.second);
      CHECK(array->shape == Shape{3});
      CHECK(text_of(array->values) == data);
    }
  }
}

TEST_CASE("npy: a scalar, an empty array, and as many dimensions as NumPy has") {
  CHECK(read_array(npy(dict("<f4", "()"), "abcd"))->shape.empty());
  CHECK(read_array(npy(dict("<f4", "(0, 5)"), ""))->shape == Shape{0, 5});
  CHECK(read_array(npy(dict("<f4", "(18446744073709551615, 0)"), "")).error().code == Code::limit);
  std::string ones = "(1";
  for (int i = 1; i < 64; ++i) ones += ", 1";
  CHECK(read_array(npy(dict("|u1", ones + ")"), "x"))->shape.size() == 64);
  CHECK(refused_array(npy(dict("|u1", ones + ", 1)"), "x")).code == Code::limit);
}

TEST_CASE("npy: big-endian elements are turned round, at any place that is read from") {
  const std::string data = "ABCDEFGHIJKLMNOP";
  CHECK(text_of(read_array(npy(dict(">u2", "(8,)"), data))->values) == "BADCFEHGJILKNMPO");
  CHECK(text_of(read_array(npy(dict(">f4", "(2, 2)"), data))->values) == "DCBAHGFELKJIPONM");
  CHECK(text_of(read_array(npy(dict(">f8", "(2,)"), data))->values) == "HGFEDCBAPONMLKJI");
  CHECK(text_of(read_array(npy(dict(">c8", "(2,)"), data))->values) == "DCBAHGFELKJIPONM");
  const TemporaryFolder folder;
  const auto model = opened(open_text("a.npy", npy(dict(">f8", "(2,)"), data), folder));
  for (const std::size_t step : {1U, 3U, 8U, 16U}) CHECK(text_of(read_tensor(*model, 0, step)) == "HGFEDCBAPONMLKJI");
}

TEST_CASE("npy: Fortran order is transposed") {
  CHECK(text_of(read_array(npy(dict("|u1", "(2, 3)", "True"), "adbecf"))->values) == "abcdef");
  CHECK(text_of(read_array(npy(dict("|u1", "(6,)", "True"), "abcdef"))->values) == "abcdef");
  // Element (i, j, k) has the value 12 i + 4 j + k of C order; the file has the first index running fastest.
  std::string fortran;
  std::string wanted;
  for (int k = 0; k < 4; ++k) {
    for (int j = 0; j < 3; ++j) {
      for (int i = 0; i < 2; ++i) fortran += std::string(1, '\1') + static_cast<char>(12 * i + 4 * j + k);
    }
  }
  for (int i = 0; i < 24; ++i) wanted += static_cast<char>(i) + "\1"s;
  const TemporaryFolder folder;
  const auto model = opened(open_text("a.b.npy", npy(dict(">u2", "(2, 3, 4)", "True"), fortran), folder));
  CHECK(model->tensors().front().name == "a.b");
  CHECK(model->tensors().front().shape == Shape{2, 3, 4});
  for (const std::size_t step : {5U, 48U}) CHECK(text_of(read_tensor(*model, 0, step)) == wanted);
}

TEST_CASE("npy: what is no array of numbers is refused by name") {
  for (const std::string descr : {"|O", "<U4", "|S4", "<M8[s]", "<m8[s]", "|V4", "<f16", "<c16", "=f4", "f4", "", "<b2",
                                  "|f4", "<V1", "float32"}) {
    const Error error = refused_array(npy(dict(descr, "(1,)"), "abcdefgh"));
    INFO(descr << ": " << error.message);
    CHECK(error.code == Code::unsupported);
    CHECK(error.offset == 20);
  }
  CHECK(refused_array(npy(dict("|O", "(1,)"), "\x80\x04.")).message.find("pickle") != std::string::npos);
  CHECK(refused_array(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "abcd")).code ==
        Code::unsupported);
}

TEST_CASE("npy: a header is strict and bounded, and the values fill the file") {
  const std::vector<std::pair<std::string, Code>> files{
      {"", Code::malformed},
      {"\x93NUM", Code::truncated},
      {"\x93NUMPY\x01", Code::truncated},
      {"\x93NUMPY\x04\0\0\0"s, Code::unsupported},
      {"\x93NUMPY\x01\0\xFF"s, Code::truncated},
      {"\x93NUMPY\x02\0\xFF\xFF\xFF\xFF{"s, Code::truncated},
      {npy(std::string(70000, ' '), "", 2), Code::limit},
      {npy(dict("<f4", "(2,)"), "1234567"), Code::truncated},
      {npy(dict("<f4", "(2,)"), "123456789"), Code::malformed},
      {npy(dict("<f4", "(4611686018427387904, 2)"), "x"), Code::limit},
      {npy(dict("<f4", "(2)"), "12345678"), Code::malformed},
      {npy(dict("<f4", "2"), "12345678"), Code::malformed},
      {npy(dict("<f4", "(-2,)"), ""), Code::malformed},
      {npy(dict("<f4", "(2 2)"), ""), Code::malformed},
      {npy(dict("<f4", "(2,)", "Maybe"), "12345678"), Code::malformed},
      {npy("{'descr': '<f4', 'shape': (2,)}", "12345678"), Code::malformed},
      {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", "12345678"), Code::malformed},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}", "12345678"), Code::malformed},
      {npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} x", "12345678"), Code::malformed},
      {npy("{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (2,)}", "12345678"), Code::malformed},
      {npy("__import__('os')", ""), Code::malformed},
  };
  for (const auto& file : files) {
    const Error error = refused_array(file.first);
    INFO(file.first.substr(0, 100) << ": " << error.describe());
    CHECK(error.code == file.second);
    CHECK(error.offset <= file.first.size());
  }
}

TEST_CASE("npz: stored and deflated arrays, by their names, with the checks noted") {
  const std::string wide = npy(dict("<i8", "(200,)"), std::string(1600, 'z'));
  const TemporaryFolder folder;
  const auto model = opened(open_text("m.npz",
                                      zip({{"a.npy", kArray},
                                           {"../../b.npy", kArray, true},
                                           {"a.b.npy", wide, true, true},
                                           {"readme", "text"},
                                           {"c/d.npy", npy(dict("|u1", "(2, 3)", "True"), "adbecf"), true}},
                                          "a comment"),
                                      folder));
  REQUIRE(model->tensors().size() == 4);
  std::vector<std::string> names;
  for (const ModelTensor& tensor : model->tensors()) names.push_back(tensor.name);
  CHECK(names == std::vector<std::string>{"../../b", "a", "a.b", "c/d"});
  for (const std::size_t step : {3U, 1000U}) {
    CHECK(text_of(read_tensor(*model, 0, step)) == "0123456789abcdef");
    CHECK(text_of(read_tensor(*model, 1, step)) == "0123456789abcdef");
    CHECK(text_of(read_tensor(*model, 2, step)) == std::string(1600, 'z'));
    CHECK(text_of(read_tensor(*model, 3, step)) == "abcdef");
  }
  CHECK(std::get<std::string>(model->metadata().at("cdna.source.integrity")) == "checksums");
  CHECK(std::find(model->notes().begin(), model->notes().end(), "readme: not an array") != model->notes().end());
}

TEST_CASE("npz: what the original's tools wrote is read") {
  const auto model =
      opened(open_model(legacy("hf_head_hxq/cdnav3_dir/model_layers_0_self_attn_q_proj_weight.cdnav3/sidecar.npz")));
  REQUIRE(model->tensors().size() == 2);
  CHECK(model->tensors()[0].name == "positions");
  CHECK(model->tensors()[0].dtype == DType::i64);
  CHECK(model->tensors()[1].name == "values");
  CHECK(model->tensors()[1].dtype == DType::f16);
  CHECK(model->tensors()[0].shape == model->tensors()[1].shape);
  const Bytes positions = read_tensor(*model, 0, 4096);
  std::vector<std::int64_t> numbers(positions.size() / 8);
  std::memcpy(numbers.data(), positions.data(), positions.size());
  CHECK(std::is_sorted(numbers.begin(), numbers.end()));
}

TEST_CASE("npz: archives of torch.save and object arrays are refused with the reason") {
  const Error torch = refused_zip(zip({{"archive/data.pkl", "\x80\x02}q."}, {"archive/data/0", "1234"}}));
  CHECK(torch.code == Code::unsupported);
  CHECK(torch.message.find("torch.save") != std::string::npos);
  CHECK(torch.message.find("pickle") != std::string::npos);
  const Error object = refused_zip(zip({{"o.npy", npy(dict("|O", "(1,)"), "\x80\x04.")}}));
  CHECK(object.code == Code::unsupported);
  CHECK(object.item == "o");
  CHECK(refused_zip(zip({})).code == Code::unsupported);
}

TEST_CASE("npz: a wrong CRC-32 is corrupt before any value is given") {
  for (const bool is_deflated : {false, true}) {
    const Error error = refused_zip(zip({{"a.npy", kArray, is_deflated, false, 12345}}));
    CHECK(error.code == Code::corrupt);
    CHECK(error.item == "a");
  }
}

TEST_CASE("npz: each bit of an archive that is turned is an error, or changes nothing that is read") {
  const std::string good = zip({{"a.npy", kArray}, {"b.npy", kArray, true, true}});
  const TemporaryFolder folder;
  const auto content = [](const Model& model) {
    std::string all;
    for (std::size_t i = 0; i < model.tensors().size(); ++i) {
      Bytes bytes(model.tensors()[i].size_bytes);
      if (!model.read(i, 0, bytes)) return std::string();
      all += text_of(bytes);
    }
    return all;
  };
  const std::string wanted = content(*opened(open_text("good.npz", good, folder)));
  std::size_t accepted = 0;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    const Bytes bytes = bytes_of_text(bad);
    const auto archive = ZipArchive::open(memory_source(bytes));
    if (!archive) continue;
    const auto model = open_text("bad.npz", bad, folder);
    if (!model || (*model)->tensors().size() != 2) continue;
    const std::string read = content(**model);
    if (read.empty()) continue;
    ++accepted;
    INFO(bit);
    CHECK(read == wanted);
  }
  CHECK(accepted > 0);  // Versions, times and attributes.
}

TEST_CASE("npz: a directory that lies is malformed") {
  const std::string good = zip({{"a.npy", kArray}, {"b.npy", kArray}});
  const std::size_t first = good.find("PK\x01\x02");
  const std::size_t second = good.find("PK\x01\x02", first + 4);
  const std::size_t end = good.find("PK\x05\x06");
  const auto changed = [&](std::size_t at, const std::string& bytes) {
    std::string bad = good;
    bad.replace(at, bytes.size(), bytes);
    return bad;
  };
  // Overlap: the second member is the first, under its name and under another.
  CHECK(refused_zip(changed(second + 42, number(0, 4))).code == Code::malformed);
  CHECK(refused_zip(changed(second + 42, number(0, 4)).replace(second + 46, 1, "a")).message.find("overlap") !=
        std::string::npos);
  CHECK(refused_zip(changed(second + 42, number(good.size(), 4))).code == Code::malformed);  // Outside.
  CHECK(refused_zip(changed(first + 20, number(~0ULL, 8))).code == Code::malformed);         // zip64 without.
  CHECK(refused_zip(changed(first + 24, number(99, 4))).code == Code::malformed);            // Two sizes.
  CHECK(refused_zip(changed(first + 8, number(1, 2))).code == Code::unsupported);            // Encrypted.
  CHECK(refused_zip(changed(first + 10, number(12, 2))).code == Code::unsupported);          // bzip2.
  CHECK(refused_zip(changed(end + 4, number(1, 2))).code == Code::unsupported);              // Several files.
  CHECK(refused_zip(changed(end + 8, number(0x00030003, 4))).code == Code::malformed);       // Entries.
  CHECK(refused_zip(changed(end + 12, number(1, 4))).code == Code::malformed);               // Size.
  CHECK(refused_zip(changed(end + 16, number(0xFFFFFF, 4))).code == Code::malformed);        // Place.
  CHECK(refused_zip(good.substr(0, end)).code == Code::truncated);
  CHECK(refused_zip(good + "x").code == Code::truncated);
  CHECK(refused_zip(zip({{"a.npy", kArray}, {"a.npy", kArray}})).message.find("two members") != std::string::npos);
}

TEST_CASE("npz: what deflate cannot give is refused before it is allocated, and what it gives must be what is stated") {
  const std::string array = npy(dict("|u1", "(100000,)"), std::string(100000, '\0'));
  std::string file = zip({{"a.npy", array, true}});
  const std::size_t entry = file.find("PK\x01\x02");
  const auto with_size = [&](std::uint64_t size) {
    std::string bad = file;
    bad.replace(entry + 24, 4, number(size, 4));
    bad.replace(22, 4, number(size, 4));
    return bad;
  };
  CHECK(refused_zip(with_size(4000000000)).message.find("cannot become") != std::string::npos);
  CHECK(refused_zip(with_size(array.size() - 1)).code == Code::truncated);  // The array's header says more.
  CHECK(refused_zip(with_size(array.size() + 1)).code == Code::malformed);
}
