// Every allocation of a whole conversion and of a whole export in C fails in turn: the file is right, or NO_MEMORY and
// no file, and nothing leaks.
#include <catch2/catch.hpp>
#include <string>

#include "cdna/convert.hpp"
#include "failing_allocations.hpp"
#include "handles.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::DType;
using cdna::test::Bytes;
using cdna::test::fail_everywhere;
using cdna::test::file_content;
using cdna::test::granted_to_test;
using cdna::test::must;
using cdna::test::must_be_ok;
using cdna::test::Outcome;
using cdna::test::ReaderHandle;
using cdna::test::TemporaryFolder;

// Every key of a policy, and more than one of each that may be a list.
constexpr const char* kPolicy =
    R"({"rules": [{"glob": ["*.a glob that fits nothing, of some length", "*.down.*"], "preset": "cb8,k=2"}, )"
    R"({"role": ["matrix", "convolution"], "preset": "cb4g32"}, {"preset": "exact"}]})";

// A matrix of 4096 elements, the least that becomes codes, where `rows` is 64.
void save_model(const std::string& path, std::uint64_t rows) {
  std::vector<cdna::ModelTensor> tensors{{"model.embed_tokens.weight", DType::bf16, {8, 32}, 0},
                                         {"model.layers.0.down.weight", DType::bf16, {rows, 64}, 0},
                                         {"model.layers.0.norm.weight", DType::bf16, {96}, 0},
                                         {"model.layers.0.up.weight", DType::bf16, {8, 32}, 0}};
  auto writer = must(cdna::SafetensorsWriter::create(must(cdna::create_file(path)), tensors, {{"format", "pt"}}));
  cdna::test::Random random(21);
  for (const cdna::ModelTensor& tensor : writer->tensors()) {
    const std::vector<std::byte> data = cdna::test::bf16_of(random.weights(tensor.size_bytes / 2));
    REQUIRE(writer->append(data).has_value());
  }
  REQUIRE(writer->commit().has_value());
}

Outcome outcome_of(cdna_code code, const cdna_error& error) {
  if (code == CDNA_OK) return Outcome::right;
  if (code != CDNA_NO_MEMORY) std::fprintf(stderr, "%s: %s\n", error.tensor, error.message);
  if (code != CDNA_NO_MEMORY) return Outcome::other_error;
  return error.code == code && error.message[0] != 0 ? Outcome::no_memory : Outcome::wrong;
}

// What `make` writes to `path`, alone in a folder, is always the same file, or there is none.
template <class Make>
void fail_everywhere_into(const TemporaryFolder& folder, const std::string& path, const char* name, const Make& make) {
  Bytes expected;
  fail_everywhere(name, [&] {
    granted_to_test([&] { return std::filesystem::remove(path); });
    cdna_error error{};
    const Outcome outcome = outcome_of(make(error), error);
    return granted_to_test([&] {
      if (outcome != Outcome::right) return cdna::test::files_in(folder.path()) == 0 ? outcome : Outcome::wrong;
      const Bytes found = file_content(path);
      if (expected.empty()) expected = found;
      return found == expected ? outcome : Outcome::wrong;
    });
  });
}

std::size_t tensors_of_codes(const std::string& path) {
  const cdna::Reader reader = must(cdna::Reader::open(path));
  std::size_t count = 0;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) count += reader.item(i).type() == "cdna.codebook" ? 1U : 0U;
  return count;
}

void convert_everywhere(const char* name, const cdna_convert_options& options, std::size_t codes) {
  const TemporaryFolder from;
  const TemporaryFolder to;
  const std::string source = from / "a model with a long name.safetensors";
  const std::string path = to / "a name beyond the small string buffer.cdna";
  save_model(source, codes == 0 ? 8 : 64);
  fail_everywhere_into(to, path, name, [&](cdna_error& error) {
    cdna_convert_report report{};
    report.struct_size = sizeof report;
    const cdna_code code = cdna_convert(source.c_str(), path.c_str(), &options, &report, &error);
    return (report.file_bytes != 0) == (code == CDNA_OK) ? code : CDNA_CORRUPT;
  });
  CHECK(tensors_of_codes(path) == codes);
}

}  // namespace

TEST_CASE("C allocation failure: a conversion by a policy is whole, or NO_MEMORY and no file") {
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.policy = kPolicy;
  options.embeddings = "cb8g64";
  const char* const pattern = "model.layers.?.norm.weight";
  options.keep_exact = &pattern;
  options.keep_exact_count = 1;
  convert_everywhere("convert by a policy in C", options, 1);
}

TEST_CASE("C allocation failure: a conversion to a budget is whole, or NO_MEMORY and no file") {
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.bits_per_weight = 20;
  convert_everywhere("convert to a budget in C", options, 0);
}

TEST_CASE("C allocation failure: a policy that is refused stays so, or is NO_MEMORY") {
  for (const char* const policy :
       {R"({"rules": [{"glob": ["a", "b", {"c": [1, "and a text of some length", null]}], "preset": "cb8"}]})",
        R"({"rules": [{"preset": "cb8", "preset": "a key that occurs twice"}], "and": [[[{"nothing": ["more"}]]])",
        R"({"rules": [[[[[[[["nested more than eight deep", {"a": "b"}]]]]]]]]})"}) {
    cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
    options.policy = policy;
    fail_everywhere("refuse a policy in C", [&] {
      cdna_error error{};
      const cdna_code code = cdna_convert("no source that is looked at", "no destination", &options, nullptr, &error);
      if (code == CDNA_OK || error.message[0] == 0) return Outcome::wrong;
      return code == CDNA_MALFORMED || code == CDNA_LIMIT ? Outcome::right : outcome_of(code, error);
    });
  }
}

TEST_CASE("C allocation failure: an export is whole, or NO_MEMORY and no file") {
  const TemporaryFolder from;
  const TemporaryFolder to;
  const std::string source = from / "model.safetensors";
  const std::string file = from / "a container with a long name.cdna";
  const std::string path = to / "a name beyond the small string buffer.safetensors";
  save_model(source, 64);
  cdna_convert_options convert = CDNA_CONVERT_OPTIONS_INIT;
  convert.policy = kPolicy;
  cdna_error error{};
  must_be_ok(cdna_convert(source.c_str(), file.c_str(), &convert, nullptr, &error), error);
  cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
  options.dtype = CDNA_F32;
  options.progress = [](void*, std::uint64_t, std::uint64_t) -> std::int32_t { return 0; };
  fail_everywhere_into(to, path, "export in C", [&](cdna_error& failed) {
    cdna_reader* opened = nullptr;
    const cdna_code code = cdna_open(file.c_str(), nullptr, &opened, &failed);
    if (code != CDNA_OK) return code;
    const ReaderHandle reader(opened);
    return cdna_export(opened, path.c_str(), &options, &failed);
  });
}
