// Arrays in NumPy's format: what NumPy writes is read, what is written is what NumPy writes, and all else is refused.
#include "tools/npy.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "temporary_folder.hpp"

using namespace std::string_literals;
using cdna::Code;
using cdna::DType;
using cdna::Result;
using cdna::tools::load_elements;
using cdna::tools::npy_header;
using cdna::tools::NpyHeader;
using cdna::tools::open_npy;
using cdna::tools::read_npy_header;
using Shape = std::vector<std::uint64_t>;

namespace {

constexpr unsigned kSeed = 20250402;
constexpr std::uint64_t kTextOffset = 10;  // Of the dict in version 1.0.

// A file of version `major`.0 around the text of a dict.
std::string npy(const std::string& dict, const std::string& data = "", int major = 1) {
  std::string out = "\x93NUMPY"s + static_cast<char>(major) + '\0';
  for (int byte = 0; byte < (major == 1 ? 2 : 4); ++byte) out += static_cast<char>(dict.size() >> (8 * byte));
  return out + dict + data;
}

// As NumPy spells it.
std::string dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }          \n";
}

Result<NpyHeader> read(const std::string& file) {
  const auto source = cdna::memory_source(std::as_bytes(std::span(file)));
  return read_npy_header(*source);
}

struct Refusal {
  Code code = Code::io;
  std::uint64_t offset = 0;
};

void check_refused(const std::string& file, Refusal expected) {
  CAPTURE(file);
  const auto header = read(file);
  REQUIRE(!header);
  CAPTURE(header.error().message);
  CHECK(header.error().code == expected.code);
  CHECK(header.error().offset == expected.offset);
  CHECK(!header.error().message.empty());
}

// A dict that is refused at `place` within it.
void check_dict(const std::string& text, const std::string& place, Code code = Code::malformed) {
  const std::size_t at = text.find(place);
  REQUIRE(at != std::string::npos);
  check_refused(npy(text), {code, kTextOffset + at});
}

std::string f4_of(const std::string& shape) { return dict("<f4", "False", shape); }

}  // namespace

TEST_CASE("npy: every version, dtype and order that NumPy writes is read") {
  for (const int major : {1, 2, 3}) {
    for (const auto& [descr, dtype] : {std::pair{"<f4"s, DType::f32}, std::pair{"<f2"s, DType::f16},
                                       std::pair{"<V2"s, DType::bf16}, std::pair{"|V2"s, DType::bf16}}) {
      for (const std::string order : {"False", "True"}) {
        CAPTURE(major, descr, order);
        const std::string data(6 * cdna::bits_of(dtype) / 8, 'x');
        const std::string text = dict(descr, order, "(2, 3)");
        const auto header = read(npy(text, data, major));
        REQUIRE(header);
        CHECK(header->dtype == dtype);
        CHECK(header->shape == Shape{2, 3});
        CHECK(header->fortran_order == (order == "True"));
        CHECK(header->data_offset == (major == 1 ? 10 : 12) + text.size());
        CHECK(header->data_bytes == data.size());
      }
    }
  }
}

TEST_CASE("npy: shapes of every rank, empty ones too") {
  const std::vector<std::pair<std::string, Shape>> cases{
      {"()", {}},
      {"(3,)", {3}},
      {"(3 , )", {3}},
      {"(0,)", {0}},
      {"(1, 3)", {1, 3}},
      {"(1,3,)", {1, 3}},
      {"(3, 1, 1)", {3, 1, 1}},
      {"(3L, 1L)", {3, 1}},  // Python 2
      {"(0, 9223372036854775807)", {0, 9223372036854775807U}},
      {"(9223372036854775807, 9223372036854775807, 0)", {9223372036854775807U, 9223372036854775807U, 0}},
  };
  for (const auto& [text, shape] : cases) {
    CAPTURE(text);
    std::uint64_t bytes = 4;
    for (const std::uint64_t size : shape) bytes = size == 0 || bytes == 0 ? 0 : size > 3 ? bytes : bytes * size;
    const auto header = read(npy(f4_of(text), std::string(bytes, 'x')));
    REQUIRE(header);
    CHECK(header->shape == shape);
    CHECK(header->data_bytes == bytes);
  }
}

TEST_CASE("npy: keys in any order, either quote and any white space are Python, too") {
  for (const char* const text : {"{\"shape\":(1,),\"fortran_order\":False,\"descr\":\"<f4\"}",
                                 " {\n'fortran_order'\t:\r\nFalse ,'descr':'<f4',"
                                 "'shape' : ( 1 , ) , } \f\v\n",
                                 "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"}) {
    CAPTURE(text);
    const auto header = read(npy(text, "1234"));
    REQUIRE(header);
    CHECK(header->shape == Shape{1});
  }
}

TEST_CASE("npy: a file that is cut off anywhere is refused with its length, or where the claim stands") {
  for (const int major : {1, 2}) {
    const std::string file = npy(f4_of("(2, 3)"), std::string(24, 'x'), major);
    REQUIRE(read(file));
    const std::size_t begin = major == 1 ? 10 : 12;
    const std::size_t data = file.size() - 24;
    check_refused("", {Code::malformed, 0});
    for (std::size_t size = 1; size < file.size(); ++size) {
      const bool in_text = size >= begin && size < data;
      check_refused(file.substr(0, size), {Code::truncated, in_text ? 8 : size});
    }
  }
}

TEST_CASE("npy: what is no array of this format is refused at its first byte") {
  check_refused("PK\x03\x04 a .npz file, say", {Code::malformed, 0});
  check_refused("\x93NUMPX\x01\x00"s, {Code::malformed, 0});
  check_refused("{'descr': '<f4'}", {Code::malformed, 0});
  check_refused(std::string(100, '\0'), {Code::malformed, 0});
}

TEST_CASE("npy: other versions are unsupported") {
  for (const auto& version : {"\0\0"s, "\0\1"s, "\1\1"s, "\2\7"s, "\4\0"s, "\xff\0"s})
    check_refused("\x93NUMPY" + version + std::string(100, ' '), {Code::unsupported, 6});
}

TEST_CASE("npy: a header of over 64 KiB is refused before it is read") {
  const std::string begin = "\x93NUMPY\x02"s + '\0';
  check_refused(begin + "\xff\xff\xff\xff"s, {Code::limit, 8});
  check_refused(begin + "\x01\x00\x01\x00"s + std::string(70000, ' '), {Code::limit, 8});
  const std::string padded = f4_of("(1,)") + std::string(65000, ' ');
  CHECK(read(npy(padded, "1234", 2)));
}

TEST_CASE("npy: other dtypes are refused, and the message says what to do") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"<f8", "astype(numpy.float32)"},
      {">f8", "astype(numpy.float32)"},
      {">f4", "astype('<f4')"},
      {">f2", "astype('<f2')"},
      {"<u2", "view(ml_dtypes.bfloat16)"},
      {"<i4", "is wanted"},
      {"|b1", "is wanted"},
      {"|O", "is wanted"},
      {"=f4", "is wanted"},
      {"f4", "is wanted"},
      {"", "is wanted"},
      {"|V4", "is wanted"},
      {"<c8", "is wanted"},
      {"bfloat16", "is wanted"},
  };
  for (const auto& [descr, advice] : cases) {
    const std::string text = dict(descr, "False", "(0,)");
    check_dict(text, "'" + descr + "'", Code::unsupported);
    CHECK(read(npy(text)).error().message.find(advice) != std::string::npos);
  }
  check_dict("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "[", Code::unsupported);
  check_dict("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", "(", Code::unsupported);
}

TEST_CASE("npy: sizes beyond 2^63, arrays beyond 2^64 bytes and over 64 dimensions are refused") {
  check_dict(f4_of("(9223372036854775808,)"), "9223372036854775808", Code::limit);
  check_dict(f4_of("(1, 99999999999999999999999999)"), "999999", Code::limit);
  std::string many = "(";
  for (int i = 0; i < 64; ++i) many += "1,";
  CHECK(read(npy(f4_of(many + ")"), "1234")));
  check_dict(f4_of(many + "7)"), "7)", Code::limit);
  for (const char* const shape : {"(4611686018427387904,)", "(2, 4611686018427387904)", "(4294967296, 4294967296)",
                                  "(3, 3074457345618258603, 2)", "(65536, 65536, 65536, 65536)"}) {
    const std::string file = npy(f4_of(shape));
    check_refused(file, {Code::limit, file.size()});
  }
  const std::string huge = npy(f4_of("(4611686018427387903,)"));  // 2^64 - 4 bytes.
  check_refused(huge, {Code::truncated, huge.size()});
}

TEST_CASE("npy: bytes after the array are refused where they begin") {
  for (const char* const shape : {"()", "(2, 2)", "(0, 5)"}) {
    const std::string header = npy(f4_of(shape));
    const std::size_t bytes = shape == "()"s ? 4 : shape == "(2, 2)"s ? 16 : 0;
    CHECK(read(header + std::string(bytes, 'x')));
    check_refused(header + std::string(bytes + 1, 'x'), {Code::malformed, header.size() + bytes});
  }
}

TEST_CASE("npy: junk in the header is refused where it stands") {
  const std::string head = "{'descr': '<f4', 'fortran_order': False, 'shape': ";
  check_refused(npy(""), {Code::malformed, kTextOffset});
  check_dict("junk", "junk");
  check_dict("[]", "[]");
  check_refused(npy(head + "(1,)"), {Code::malformed, kTextOffset + head.size() + 4});
  check_dict(head + "(1,)}#", "#");
  check_dict(head + "(1,)}" + "\0"s, "\0"s);
  check_dict(head + "(1)}", "}");
  check_dict(head + "1}", "1}");
  check_dict(head + "[1]}", "[1]");
  check_dict(head + "(-1,)}", "-1");
  check_dict(head + "(+1,)}", "+1");
  check_dict(head + "(1.0,)}", ".0");
  check_dict(head + "(1 2)}", "2)");
  check_dict(head + "(1,,)}", ",)");
  check_dict(head + "(,)}", ",)");
  check_dict(head + "(0x10,)}", "x10");
  check_dict(head + "(None,)}", "None");
  check_dict(head + "(1, 'x')}", "'x'");
  check_dict(head + "(1,) 'x'}", "'x'");
  check_dict(head + "(1,), 'shape': (1,)}", "'shape': (1,)}");
  check_dict(head + "(1,), 'extra': 1}", "'extra'");
  check_dict(head + "(1,), , }", ", }");
  check_dict("{,}", ",}");
  check_dict("{'descr' '<f4'}", "'<f4'");
  check_dict("{'descr': '<f4}", "'<f4");
  check_dict("{'descr': '\\x3cf4'}", "'\\x3c");
  check_dict("{'descr': None}", "None");
  check_dict("{'descr': '<f4', 'fortran_order': false}", "false");
  check_dict("{'descr': '<f4', 'fortran_order': 0}", "0}");
  check_dict("{'descr': '<f4', 'fortran_order': Falsey, 'shape': (1,)}", "y, ");
  check_dict("{1: 2}", "1:");
  const std::string without_shape = "{'descr': '<f4', 'fortran_order': False}";
  check_refused(npy(without_shape), {Code::malformed, kTextOffset + without_shape.size()});
  check_refused(npy("{}"), {Code::malformed, kTextOffset + 2});
}

TEST_CASE("npy: what is written is what NumPy writes") {
  // Of numpy.save(numpy.zeros((2, 3), 'f4')).
  const std::string expected = "\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"s;
  const std::string header = npy_header(DType::f32, Shape{2, 3});
  CHECK(header.size() == 128);
  CHECK(header.substr(0, expected.size()) == expected);
  CHECK(header.substr(expected.size()) == std::string(127 - expected.size(), ' ') + '\n');
}

TEST_CASE("npy: what is written is read back, and the elements are aligned") {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{7}, Shape{0, 5}, Shape{3, 4}, Shape{1, 1, 2}, Shape(64, 1),
                               Shape{0, 9223372036854775807U}}) {
      const std::string begin = npy_header(dtype, shape);
      std::uint64_t elements = 1;
      for (const std::uint64_t size : shape) elements *= size;
      const auto header = read(begin + std::string(elements * cdna::bits_of(dtype) / 8, 'x'));
      CAPTURE(begin);
      REQUIRE(header);
      CHECK(header->dtype == dtype);
      CHECK(header->shape == shape);
      CHECK(!header->fortran_order);
      CHECK(header->data_offset == begin.size());
      CHECK(begin.size() % 64 == 0);
    }
  }
}

TEST_CASE("npy: a file's elements are loaded as they are, errors name the file") {
  const cdna::test::TemporaryFolder folder;
  const std::atomic<bool> go_on{false};
  std::string file = npy_header(DType::bf16, Shape{3, 1'500'000});
  std::mt19937 random(kSeed);
  INFO("seed " << kSeed);
  for (int i = 0; i < 9'000'000; ++i) file += static_cast<char>(random());
  cdna::test::save_file(folder / "x.npy", std::as_bytes(std::span(file)));
  const auto array = open_npy(folder / "x.npy");
  REQUIRE(array);
  REQUIRE(array->header.data_bytes == 9'000'000);
  const auto elements = load_elements(*array, go_on);
  REQUIRE(elements);
  CHECK(std::memcmp(elements->get(), file.data() + array->header.data_offset, 9'000'000) == 0);

  const std::atomic<bool> stop{true};
  CHECK(load_elements(*array, stop).error().code == Code::cancelled);
  CHECK(open_npy(folder / "missing.npy").error().code == Code::not_found);
  CHECK(open_npy(folder.path().string()).error().code == Code::bad_argument);
  file.pop_back();
  cdna::test::save_file(folder / "x.npy", std::as_bytes(std::span(file)));
  const auto cut = open_npy(folder / "x.npy");
  REQUIRE(!cut);
  CHECK(cut.error().code == Code::truncated);
  CHECK(cut.error().file == folder / "x.npy");
  const auto late = load_elements(*array, go_on);
  REQUIRE(!late);
  CHECK(late.error().code == Code::io);
  CHECK(late.error().file == folder / "x.npy");
}

TEST_CASE("npy: mutated headers are refused with a place in the file, or read as an array that fills it") {
  INFO("seed " << kSeed);
  std::mt19937 random(kSeed);
  static constexpr std::string_view kBytes("{}()'\",: \n0129L\0\x93\xff<>fV|TF", 25);
  const std::string good = npy(f4_of("(2, 3)"), std::string(24, 'x'));
  int accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string file = good;
    for (std::size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const std::size_t at = random() % (file.size() - 20);
      if (random() % 3 == 0) {
        file.erase(at, 1);
      } else {
        file[at] = kBytes[random() % kBytes.size()];
      }
    }
    const auto header = read(file);
    if (!header) {
      REQUIRE(header.error().offset <= file.size());
      continue;
    }
    ++accepted;
    REQUIRE(header->data_offset + header->data_bytes == file.size());
  }
  CHECK(accepted > 0);
}
