// Tests of the import of safetensors files and Hugging Face folders, and of the safetensors writer.
#include "cdna/import.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fault_file_system.hpp"

// g++ 12 at -O3 sees an overlap in `"{" + string()` that is not there (GCC bug 105651).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wrestrict"
#endif

using namespace cdna;

namespace {

// A file: the length of `header`, `header`, `data`.
std::string safetensors(const std::string& header, const std::string& data = {}) {
  std::string out(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + data;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets, const std::string& more = {}) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]" +
         more + "}";
}

std::string empty_tensor(const std::string& name, const std::string& more = {}) {
  return tensor(name, "I8", "0", "0,0", more);
}

// `file` must outlive the result.
Result<std::unique_ptr<Model>> open_bytes(const std::string& file) {
  return open_safetensors(memory_source(std::as_bytes(std::span(file)), false));
}

Error error_of(const std::string& file) {
  auto model = open_bytes(file);
  REQUIRE_FALSE(model);
  return model.error();
}

std::string read_all(const Model& model, std::size_t tensor) {
  std::string out(static_cast<std::size_t>(model.tensors()[tensor].size_bytes), '?');
  REQUIRE(model.read(tensor, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// A folder that is removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "cdna-import-XXXXXX";
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_; }
  std::string path(const std::string& name) const { return path_ / name; }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }

 private:
  std::filesystem::path path_;
};

Error open_error(const std::string& path) {
  auto model = open_model(path);
  REQUIRE_FALSE(model);
  return model.error();
}

std::vector<std::string> notes_of(const Model& model) { return {model.notes().begin(), model.notes().end()}; }

ModelTensor plan(const std::string& name, DType dtype, std::vector<std::uint64_t> shape) {
  return {name, dtype, std::move(shape), 0};
}

std::string text_of(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("safetensors: tensors come sorted by name, with the data of their offsets") {
  const std::string file =
      safetensors("{" + tensor("b", "I8", "1,2", "0,2") + "," + tensor("a", "I16", "1", "2,4") + "}", "wxyz");
  const auto model = open_bytes(file);
  REQUIRE(model);
  REQUIRE((*model)->tensors().size() == 2);
  CHECK((*model)->tensors()[0].name == "a");
  CHECK((*model)->tensors()[0].dtype == DType::i16);
  CHECK((*model)->tensors()[1].shape == std::vector<std::uint64_t>{1, 2});
  CHECK(read_all(**model, 0) == "yz");
  CHECK(read_all(**model, 1) == "wx");
  std::byte last{};
  REQUIRE((*model)->read(1, 1, std::span(&last, 1)));
  CHECK(last == std::byte{'x'});
}

TEST_CASE("safetensors: metadata keys get the prefix, and null is no metadata") {
  const std::string file = safetensors(R"({"__metadata__":{"format":"pt","\u0000":"\ud83d\ude00"}}   )");
  const auto model = open_bytes(file);
  REQUIRE(model);
  using namespace std::string_literals;
  CHECK((*model)->metadata() == Metadata{{"safetensors:format", "pt"}, {"safetensors:\0"s, "\xF0\x9F\x98\x80"}});
  CHECK(open_bytes(safetensors(R"({"__metadata__":null})")));
}

TEST_CASE("safetensors: every dtype of the package is known") {
  struct Row {
    const char* name;
    const char* offsets;
    int bytes;
  };
  for (const Row row :
       {Row{"BOOL", "0,4", 4}, {"F4", "0,2", 2},          {"F6_E2M3", "0,3", 3},     {"F6_E3M2", "0,3", 3},
        {"U8", "0,4", 4},      {"I8", "0,4", 4},          {"F8_E5M2", "0,4", 4},     {"F8_E4M3", "0,4", 4},
        {"F8_E8M0", "0,4", 4}, {"F8_E4M3FNUZ", "0,4", 4}, {"F8_E5M2FNUZ", "0,4", 4}, {"I16", "0,8", 8},
        {"U16", "0,8", 8},     {"F16", "0,8", 8},         {"BF16", "0,8", 8},        {"I32", "0,16", 16},
        {"U32", "0,16", 16},   {"F32", "0,16", 16},       {"C64", "0,32", 32},       {"F64", "0,32", 32},
        {"I64", "0,32", 32},   {"U64", "0,32", 32}}) {
    INFO(row.name);
    const std::string header = "{" + tensor("t", row.name, "2,2", row.offsets) + "}";
    const std::string file = safetensors(header, std::string(static_cast<std::size_t>(row.bytes), 'x'));
    const auto model = open_bytes(file);
    REQUIRE(model);
    CHECK((*model)->tensors()[0].size_bytes == static_cast<std::uint64_t>(row.bytes));
  }
}

TEST_CASE("safetensors: an unknown dtype is refused by its name and the tensor's") {
  const Error error = error_of(safetensors("{" + tensor("t", "C128", "1", "0,16") + "}", std::string(16, 'x')));
  CHECK(error.code == Code::unsupported);
  CHECK(error.item == "t");
  CHECK(contains(error.message, "\"C128\""));
}

TEST_CASE("safetensors: offsets with a hole are refused by name") {
  const Error error =
      error_of(safetensors("{" + tensor("a", "I8", "1", "0,1") + "," + tensor("b", "I8", "1", "2,3") + "}", "xyz"));
  CHECK(error.code == Code::malformed);
  CHECK(error.item == "b");
  CHECK(contains(error.message, "instead of 1"));
}

TEST_CASE("safetensors: offsets that overlap are refused by name") {
  const Error error =
      error_of(safetensors("{" + tensor("a", "I8", "2", "0,2") + "," + tensor("b", "I8", "2", "1,3") + "}", "xyz"));
  CHECK(error.code == Code::malformed);
  CHECK(error.item == "b");
  CHECK(contains(error.message, "overlap of 1 bytes"));
}

TEST_CASE("safetensors: data longer or shorter than the tensors is refused with the byte") {
  const std::string header = "{" + tensor("a", "I8", "2", "0,2") + "}";
  const Error longer = error_of(safetensors(header, "xyz"));
  CHECK(longer.code == Code::malformed);
  CHECK(longer.offset == 8 + header.size() + 2);
  CHECK(error_of(safetensors(header, "x")).code == Code::truncated);
}

TEST_CASE("safetensors: tensors that are not whole, well-typed and of the size of their offsets are refused") {
  struct Row {
    const char* header;
    Code code;
  };
  for (const Row row : {
           Row{R"({"t":{"dtype":"I8","shape":[2],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[0],"data_offsets":[1,0]}})", Code::malformed},
           {R"({"t":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"F6_E2M3","shape":[3],"data_offsets":[0,3]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"shape":[1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1],"x":1,"x":2}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[-0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":[0,1.0]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":["0",1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[-1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[true],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[18446744073709551616],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":1,"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[[1]],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[1],"data_offsets":{"0":0}}})", Code::malformed},
           {R"({"t":{"dtype":2,"shape":[1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":{"dtype":{"I8":null},"shape":[1],"data_offsets":[0,1]}})", Code::malformed},
           {R"({"t":["I8",[1],[0,1]]})", Code::malformed},
           {R"({"t":null})", Code::malformed},
           {R"({"t":{"dtype":"I8","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", Code::limit},
           {R"({"t":{"dtype":"I8","shape":[2305843009213693952],"data_offsets":[0,2305843009213693952]}})",
            Code::limit},
       }) {
    INFO(row.header);
    const Error error = error_of(safetensors(row.header, "x"));
    CHECK(error.code == row.code);
    CHECK(error.item == "t");
  }
}

TEST_CASE("safetensors: a dimension of 0 makes any later ones harmless, as in the package") {
  CHECK(open_bytes(safetensors("{" + tensor("t", "I32", "0,18446744073709551615,18446744073709551615", "0,0") + "}")));
}

TEST_CASE("safetensors: extra fields are ignored, whatever they hold") {
  const std::string more = R"(,"x":{"y":[1e-3,null,true,-5,"z",{}],"dtype":[]},"w":18446744073709551616)";
  const std::string file = safetensors("{" + tensor("t", "I8", "1", "0,1", more) + "}", "x");
  const auto model = open_bytes(file);
  REQUIRE(model);
  CHECK((*model)->tensors()[0].dtype == DType::i8);
}

TEST_CASE("safetensors: a tensor that comes twice is refused, spelled alike or not") {
  for (const char* twin : {"t", "\\u0074"}) {
    const Error error =
        error_of(safetensors("{" + tensor("t", "I8", "1", "0,1") + "," + tensor(twin, "I8", "1", "0,1") + "}", "x"));
    CHECK(error.code == Code::malformed);
    CHECK(error.item == "t");
  }
}

TEST_CASE("safetensors: __metadata__ holds unique strings, or is refused") {
  for (const char* header : {R"({"__metadata__":{"a":"b","a":"b"}})", R"({"__metadata__":{},"__metadata__":{}})",
                             R"({"__metadata__":{"a":1}})", R"({"__metadata__":{"a":null}})", R"({"__metadata__":[]})",
                             R"({"__metadata__":{"a":{}}})", R"({"__metadata__":"a"})"}) {
    INFO(header);
    CHECK(error_of(safetensors(header)).code == Code::malformed);
  }
}

TEST_CASE("safetensors: 2^20 entries of metadata are taken and one more refused") {
  std::string entries;
  for (int i = 0; i < 1 << 20; ++i) {
    if (i > 0) entries += ',';
    entries.append("\"").append(std::to_string(i)).append("\":\"\"");
  }
  CHECK(open_bytes(safetensors(R"({"__metadata__":{)" + entries + "}}")));
  CHECK(error_of(safetensors(R"({"__metadata__":{)" + entries + R"(,"x":""}})")).code == Code::limit);
}

TEST_CASE("safetensors: what is not strict JSON is refused") {
  using namespace std::string_literals;
  for (const std::string& header : {"{} x"s,
                                    "{}{}"s,
                                    "{}\0"s,
                                    "{}\0}"s,
                                    "{\0}"s,
                                    " {}"s,
                                    "\xEF\xBB\xBF{}"s,
                                    "{\f}"s,
                                    "{/**/}"s,
                                    "{'a':1}"s,
                                    "{a:1}"s,
                                    "[]"s,
                                    "{\"__metadata__\":{},}"s,
                                    "{\"__metadata__\":{\"a\":\"\xFF\"}}"s,
                                    "{\"__metadata__\":{\"a\":\"\xC0\x80\"}}"s,
                                    "{\"__metadata__\":{\"a\":\"\xED\xA0\x80\"}}"s,
                                    R"({"__metadata__":{"a":"\ud83d"}})"s,
                                    R"({"__metadata__":{"a":"\x41"}})"s,
                                    "{\"__metadata__\":{\"a\":\"\n\"}}"s,
                                    "{" + tensor("t", "I8", "01", "0,1") + "}",
                                    "{" + empty_tensor("t", ",\"x\":1e999") + "}",
                                    "{" + empty_tensor("t", ",\"x\":NaN") + "}"}) {
    INFO(escape(header));
    CHECK(error_of(safetensors(header + "  ")).code == Code::malformed);
  }
}

TEST_CASE("safetensors: values nest 127 deep and no deeper, and a deep nest does not end the process") {
  const auto nested = [](std::size_t depth) {
    const std::string value = std::string(depth, '[') + std::string(depth, ']');
    return safetensors("{" + empty_tensor("t", ",\"x\":" + value) + "}");
  };
  CHECK(open_bytes(nested(125)));
  CHECK(error_of(nested(126)).code == Code::limit);
  CHECK(error_of(nested(5'000'000)).code == Code::limit);
}

TEST_CASE("safetensors: 64 dimensions are taken and 65 refused") {
  const auto of_rank = [](int rank) {
    std::string shape = "1";
    for (int i = 1; i < rank; ++i) shape += ",1";
    return safetensors("{" + tensor("t", "I8", shape, "0,1") + "}", "x");
  };
  CHECK(open_bytes(of_rank(64)));
  CHECK(error_of(of_rank(65)).code == Code::limit);
}

TEST_CASE("safetensors: impossible header lengths are refused before memory is taken") {
  struct Row {
    std::uint64_t length;
    Code code;
  };
  for (const Row row : {Row{0, Code::malformed},
                        {1, Code::malformed},
                        {4, Code::truncated},
                        {100'000'000, Code::truncated},
                        {100'000'001, Code::limit},
                        {~std::uint64_t{0}, Code::limit},
                        {1ULL << 63, Code::limit}}) {
    INFO(row.length);
    std::string file = safetensors("{} ");
    std::memcpy(file.data(), &row.length, sizeof row.length);
    CHECK(error_of(file).code == row.code);
  }
  CHECK(error_of("").code == Code::truncated);
  CHECK(error_of("1234567").code == Code::truncated);
}

TEST_CASE("safetensors: no prefix of a file is a file") {
  const std::string file = safetensors("{" + tensor("t", "I8", "2", "0,2") + "}  ", "xy");
  for (std::size_t size = 0; size < file.size(); ++size) {
    INFO(size);
    CHECK_FALSE(open_bytes(file.substr(0, size)));
  }
}

TEST_CASE("safetensors: an endless name does not make an endless error") {
  const Error error = error_of(safetensors("{\"" + std::string(1'000'000, 't') + "\":1}"));
  CHECK(error.code == Code::malformed);
  CHECK(error.item.size() < 2000);
}

TEST_CASE("open_model: errors name the file, the tensor and what is wrong in one line") {
  const TemporaryFolder folder;
  folder.write("x.safetensors", safetensors("{" + tensor("a\\nb", "X", "1", "0,1") + "}", "x"));
  const Error error = open_error(folder.path("x.safetensors"));
  CHECK(error.file == folder.path("x.safetensors"));
  const std::string line = error.describe();
  CHECK(contains(line, "a\\x0ab"));
  CHECK(contains(line, "\"X\""));
}

TEST_CASE("open_model: files of other formats are called by their names") {
  using namespace std::string_literals;
  const TemporaryFolder folder;
  const auto message = [&](const std::string& bytes) {
    folder.write("file", bytes);
    return open_error(folder.path("file")).message;
  };
  CHECK(contains(message(""), "empty"));
  CHECK(contains(message("PK\x03\x04" + std::string(60, '\0')), "zip archive"));
  CHECK(contains(message("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20"), "pickle"));
  CHECK(contains(message("GGUF\1\0\0\0"s + std::string(60, '\0')), "GGUF"));
  CHECK(contains(message("\xCD"s
                         "CDNA\r\n\x1A" +
                         std::string(60, '\0')),
                 "already a CDNA file"));
  CHECK(contains(message("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"));
  CHECK(contains(message("{\"weight_map\":{}}"), "JSON"));
  CHECK(contains(message("some other text"), "not a safetensors file"));
  CHECK(open_error(folder.path("absent")).code == Code::not_found);
}

TEST_CASE("open_model: a header whose length looks like a pickle is still safetensors") {
  const TemporaryFolder folder;
  folder.write("file", safetensors("{}" + std::string(0x0280 - 2, ' ')));
  CHECK(open_model(folder.path("file")));
}

TEST_CASE("hugging face: index and shards become one model with assets and notes") {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  folder.write("tokenizer.model", "sp");
  folder.write("merges.txt", "m");
  folder.write("README.md", "# r");
  folder.write("LICENSE", "l");
  folder.write(".gitattributes", "g");
  folder.write("pytorch_model.bin", "PK");
  folder.write("pytorch_model.bin.index.json", "{}");
  folder.write("old.safetensors", "not read");
  folder.write("a\nb.json", "{}");
  std::filesystem::create_directory(folder.path("onnx"));
  std::filesystem::create_symlink("nowhere", folder.path("gone.json"));
  std::filesystem::create_symlink("config.json", folder.path("link.json"));
  REQUIRE(mkfifo(folder.path("pipe.json").c_str(), 0600) == 0);
  const auto shard = [](const std::string& number, const std::string& first, const std::string& second) {
    const std::string metadata = R"({"__metadata__":{"format":"pt","n":")" + number + "\"},";
    const std::string tensors = tensor(first, "I8", "1", "0,1") + "," + tensor(second, "I8", "1", "1,2") + "}";
    return safetensors(metadata + tensors, first + second);
  };
  folder.write("1.safetensors", shard("1", "b", "d"));
  folder.write("2.safetensors", shard("2", "a", "c"));
  folder.write("model.safetensors.index.json",
               R"({"metadata":{"total_size":4,"x":[{}]},"weight_map":{"a":"2.safetensors","b":"1.safetensors",)"
               R"("c":"2.safetensors","d":"1.safetensors"}})");
  const auto model = open_model(folder.path());
  REQUIRE(model);
  std::string data;
  for (std::size_t i = 0; i < (*model)->tensors().size(); ++i) {
    data += (*model)->tensors()[i].name + read_all(**model, i);
  }
  CHECK(data == "aabbccdd");
  CHECK((*model)->metadata() ==
        Metadata{{"safetensors:format", "pt"}, {"safetensors:n", "1"}, {"safetensors@2.safetensors:n", "2"}});

  std::vector<std::string> assets;
  for (const ModelAsset& asset : (*model)->assets()) assets.push_back(asset.name + " " + asset.media_type);
  CHECK(assets == std::vector<std::string>{"LICENSE text/plain", "README.md text/markdown",
                                           "config.json application/json", "link.json application/json",
                                           "merges.txt text/plain", "tokenizer.model application/octet-stream"});
  std::string text(2, '?');
  REQUIRE((*model)->read_asset(5, 0, std::as_writable_bytes(std::span(text))));
  CHECK(text == "sp");

  CHECK(notes_of(**model) ==
        std::vector<std::string>{".gitattributes: hidden",
                                 "2.safetensors: its metadata \"n\" differs from that of earlier shards and is kept as "
                                 "\"safetensors@2.safetensors:n\"",
                                 "a\\x0ab.json: left out: an asset cannot have such a name",
                                 "gone.json: a link to nothing",
                                 "old.safetensors: a safetensors file that is not in use",
                                 "onnx: a folder; only the top level is read", "pipe.json: not a regular file",
                                 "pytorch_model.bin: weights in another format; only safetensors files are read",
                                 "pytorch_model.bin.index.json: an index of weight files that are not in use"});
}

namespace {

// Opens a model and reads a tensor, and an asset where there is one.
Result<std::string> open_and_read(const std::string& path, FileSystem& file_system) {
  auto model = open_model(path, {}, file_system);
  if (!model) return model.error();
  std::string bytes(2, '?');
  const auto out = std::as_writable_bytes(std::span(bytes));
  auto result = (*model)->read(0, 0, out.first(1));
  if (result && !(*model)->assets().empty()) result = (*model)->read_asset(0, 0, out.last(1));
  return result ? Result<std::string>(bytes) : result.error();
}

}  // namespace

TEST_CASE("open_model: any call may be interrupted, and one that fails is an error that says so") {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  folder.write("model.safetensors", safetensors("{" + tensor("x", "I8", "1", "0,1") + "}", "v"));
  std::uint64_t injections = 0;
  for (const auto& [path, expected] :
       {std::pair{folder.path(), std::string("v{")}, std::pair{folder.path("model.safetensors"), std::string("v?")}}) {
    FaultFileSystem golden;
    REQUIRE(*open_and_read(path, golden) == expected);
    for (std::uint64_t call = 0; call < golden.calls().size(); ++call) {
      for (const int error_number : {EIO, EINTR}) {
        FaultFileSystem file_system;
        file_system.fail_at = call;
        file_system.fail_errno = error_number;
        const auto result = open_and_read(path, file_system);
        INFO(path << ": call " << call << " " << file_system.injected_call() << " fails with errno " << error_number);
        CHECK(file_system.injected_count() == 1);
        injections += file_system.injected_count();
        if (error_number == EINTR || file_system.injected_call() == "close") {
          CHECK((result && *result == expected));
          continue;
        }
        REQUIRE_FALSE(result);
        CHECK(result.error().code == Code::io);
        CHECK(result.error().os_errno == error_number);
        CHECK(result.error().file.rfind(folder.path(), 0) == 0);
      }
    }
  }
  WARN(injections << " injections, each of them hit");
}

TEST_CASE("hugging face: without an index, model.safetensors or the only file is taken") {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  const Error none = open_error(folder.path());
  CHECK(none.code == Code::not_found);
  CHECK(none.file == folder.path());
  folder.write("x.safetensors", safetensors("{" + empty_tensor("x") + "}"));
  auto model = open_model(folder.path() + "/");
  REQUIRE(model);
  CHECK((*model)->tensors()[0].name == "x");
  folder.write("y.safetensors", safetensors("{}"));
  const Error two = open_error(folder.path());
  CHECK(two.code == Code::malformed);
  CHECK(contains(two.message, "x.safetensors, y.safetensors"));
  folder.write("model.safetensors", safetensors("{" + empty_tensor("m") + "}"));
  model = open_model(folder.path());
  REQUIRE(model);
  CHECK((*model)->tensors()[0].name == "m");
  CHECK(notes_of(**model).size() == 2);
}

TEST_CASE("hugging face: a folder without config.json is refused") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors("{}"));
  CHECK(contains(open_error(folder.path()).message, "config.json"));
}

TEST_CASE("hugging face: index and shards must agree on every tensor") {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  folder.write("1.safetensors", safetensors("{" + empty_tensor("a") + "}"));
  folder.write("2.safetensors", safetensors("{" + empty_tensor("b") + "}"));
  const auto error = [&](const std::string& map) {
    folder.write("model.safetensors.index.json", "{\"weight_map\":" + map + "}");
    return open_error(folder.path());
  };
  const Error absent = error(R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})");
  CHECK(absent.item == "c");
  CHECK(contains(absent.message, "does not have it"));
  const Error unlisted = error(R"({"b":"2.safetensors","a0":"1.safetensors"})");
  CHECK(unlisted.item == "a");
  CHECK(contains(unlisted.message, "not in the index"));
  const Error misplaced = error(R"({"a":"2.safetensors","b":"1.safetensors"})");
  CHECK(misplaced.item == "a");
  CHECK(contains(misplaced.message, "\"1.safetensors\""));
  CHECK(contains(misplaced.message, "\"2.safetensors\""));
  folder.write("2.safetensors", safetensors("{" + empty_tensor("a") + "," + empty_tensor("b") + "}"));
  const Error twice = error(R"({"a":"1.safetensors","b":"2.safetensors"})");
  CHECK(twice.item == "a");
  CHECK(contains(twice.message, "two shards"));
  CHECK(error(R"({"a":"3.safetensors"})").code == Code::not_found);
}

TEST_CASE("hugging face: an index that leaves the folder or breaks its form is refused with its name") {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  folder.write("1.safetensors", safetensors("{}"));
  for (const char* index :
       {R"({"weight_map":{"a":"../1.safetensors"}})", R"({"weight_map":{"a":"/etc/passwd"}})",
        R"({"weight_map":{"a":"x/1.safetensors"}})", R"({"weight_map":{"a":".."}})", R"({"weight_map":{"a":"."}})",
        R"({"weight_map":{"a":""}})", R"({"weight_map":{"a":"1.safetensors\u0000"}})", R"({"weight_map":{"a":1}})",
        R"({"weight_map":{"a":["1.safetensors"]}})", R"({"weight_map":{"a":{"a":"b"}}})",
        R"({"weight_map":{"a":"1.safetensors","a":"1.safetensors"}})", R"({"weight_map":{}})", R"({"weight_map":[]})",
        R"({"weight_map":"a"})", R"([{"weight_map":{"a":"b"}}])", "{}", "", "x",
        R"({"weight_map":{"a":"1.safetensors"},"weight_map":{"a":"1.safetensors"}})"}) {
    INFO(index);
    folder.write("model.safetensors.index.json", index);
    const Error error = open_error(folder.path());
    CHECK(error.code == Code::malformed);
    CHECK(error.file == folder.path("model.safetensors.index.json"));
  }
}

TEST_CASE("safetensors writer: the bytes are those of the package") {
  // safetensors 0.8: numpy.save_file({"w": arange(6, float32) as 2x3, "b": zeros(3, float16), "idx": arange(3)}, ...,
  // metadata={"format": "np"}), up to the data.
  const std::string expected =
      safetensors(R"({"__metadata__":{"format":"np"},"idx":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},)"
                  R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[24,48]},)"
                  R"("b":{"dtype":"F16","shape":[3],"data_offsets":[48,54]}})");
  std::vector<std::byte> out;
  auto writer = SafetensorsWriter::create(
      memory_sink(out), {plan("b", DType::f16, {3}), plan("idx", DType::i64, {3}), plan("w", DType::f32, {2, 3})},
      {{"format", "np"}});
  REQUIRE(writer);
  CHECK(text_of(out) == expected);
  CHECK((*writer)->tensors()[0].name == "idx");
  CHECK((*writer)->tensors()[1].size_bytes == 24);
}

TEST_CASE("safetensors writer: the order of all dtypes is that of the package") {
  std::vector<ModelTensor> tensors;
  for (std::uint8_t id = 1; id <= kDTypeLast; ++id) {
    const auto dtype = static_cast<DType>(id);
    tensors.push_back(plan(std::string(name_of(dtype)), dtype, {4}));
  }
  std::vector<std::byte> out;
  const auto writer = SafetensorsWriter::create(memory_sink(out), tensors, {});
  REQUIRE(writer);
  std::string order;
  for (const ModelTensor& planned : (*writer)->tensors()) order += std::string(name_of(planned.dtype)) + " ";
  // F6_* cannot be written with the package's Python interface: their place is that of its list of known dtypes.
  CHECK(order ==
        "U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 "
        "F6_E2M3 F4 BOOL ");
}

TEST_CASE("safetensors writer: names are escaped as the package does and come back whole") {
  using namespace std::string_literals;
  const std::string name = "a\"\\/\b\f\n\r\t\x01\x1F\x7F\0\xC3\xA9\xE2\x80\xA8\xF0\x9F\x98\x80"s;
  std::vector<std::byte> out;
  auto writer = SafetensorsWriter::create(memory_sink(out), {plan(name, DType::u8, {2})}, {{name, name}});
  REQUIRE(writer);
  CHECK(contains(text_of(out), R"("a\"\\/\b\f\n\r\t\u0001\u001f)"
                               "\x7F\\u0000\xC3\xA9\xE2\x80\xA8\xF0\x9F\x98\x80\""));
  REQUIRE((*writer)->append(std::as_bytes(std::span("xy", 2))));
  REQUIRE((*writer)->commit());
  const std::string file = text_of(out);
  CHECK(file.size() % 8 == 2);
  const auto model = open_bytes(file);
  REQUIRE(model);
  CHECK((*model)->tensors()[0].name == name);
  CHECK((*model)->metadata() == Metadata{{"safetensors:" + name, name}});
  CHECK(read_all(**model, 0) == "xy");
}

TEST_CASE("safetensors writer: no tensors and no metadata make an empty object") {
  std::vector<std::byte> out;
  auto writer = SafetensorsWriter::create(memory_sink(out), {}, {});
  REQUIRE(writer);
  REQUIRE((*writer)->commit());
  CHECK(text_of(out) == safetensors("{}      "));
}

TEST_CASE("safetensors writer: what no file could hold is refused") {
  const auto code = [](std::vector<ModelTensor> tensors, const std::map<std::string, std::string>& metadata = {}) {
    std::vector<std::byte> out;
    const auto writer = SafetensorsWriter::create(memory_sink(out), std::move(tensors), metadata);
    REQUIRE_FALSE(writer);
    CHECK(out.empty());
    return writer.error().code;
  };
  CHECK(code({plan("a", DType::u8, {1}), plan("a", DType::i8, {1})}) == Code::malformed);
  CHECK(code({plan("__metadata__", DType::u8, {1})}) == Code::malformed);
  CHECK(code({plan("\xFF", DType::u8, {1})}) == Code::malformed);
  CHECK(code({}, {{"a", "\xFF"}}) == Code::malformed);
  CHECK(code({plan("a", DType::f4, {3})}) == Code::bad_argument);
  CHECK(code({plan("a", DType::none, {3})}) == Code::bad_argument);
  CHECK(code({plan("a", DType::u8, {1ULL << 63, 2})}) == Code::limit);
  CHECK(code({plan(std::string(100'000'000, 'a'), DType::u8, {1})}) == Code::limit);
}

TEST_CASE("safetensors writer: more or less data than planned is refused") {
  std::vector<std::byte> out;
  auto writer = SafetensorsWriter::create(memory_sink(out), {plan("a", DType::u8, {2})}, {});
  REQUIRE(writer);
  const auto append = [&](std::string_view text) {
    return (*writer)->append(std::as_bytes(std::span(text))).has_value();
  };
  CHECK_FALSE(append("xyz"));
  CHECK(append("x"));
  const auto early = (*writer)->commit();
  REQUIRE_FALSE(early);
  CHECK(early.error().code == Code::bad_argument);
  CHECK(append("y"));
  CHECK_FALSE(append("z"));
  CHECK((*writer)->commit());
}
