// Conversion and export in C, byte for byte against the C++ ones.
#include "cdna/convert.hpp"

#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "case_stride.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::DType;
using cdna::test::Bytes;
using cdna::test::file_content;
using cdna::test::must;
using cdna::test::must_be_ok;
using cdna::test::TemporaryFolder;

struct FreeReader {
  void operator()(cdna_reader* reader) const { cdna_reader_free(reader); }
};
using ReaderHandle = std::unique_ptr<cdna_reader, FreeReader>;

ReaderHandle open(const std::string& path) {
  cdna_reader* reader = nullptr;
  cdna_error error{};
  must_be_ok(cdna_open(path.c_str(), nullptr, &reader, &error), error);
  return ReaderHandle(reader);
}

// A model of matrices of different spread, an embedding, a norm and counts.
void save_model(const std::string& path, bool with_nan = false) {
  std::vector<cdna::ModelTensor> tensors{{"counts", DType::i32, {30}, 0},
                                         {"model.embed_tokens.weight", DType::f32, {64, 96}, 0},
                                         {"model.layers.0.down.weight", DType::f32, {96, 128}, 0},
                                         {"model.layers.0.norm.weight", DType::f32, {96}, 0},
                                         {"model.layers.0.up.weight", DType::f32, {128, 96}, 0}};
  auto writer = must(cdna::SafetensorsWriter::create(must(cdna::create_file(path)), tensors, {{"format", "pt"}}));
  cdna::test::Random random(20);
  for (const cdna::ModelTensor& tensor : writer->tensors()) {
    std::uint64_t count = 1;
    for (const std::uint64_t dim : tensor.shape) count *= dim;
    std::vector<float> values = random.weights(count);
    if (with_nan && tensor.name == "model.layers.0.up.weight") values[5] = std::numeric_limits<float>::quiet_NaN();
    REQUIRE(writer->append(std::as_bytes(std::span(values))).has_value());
  }
  REQUIRE(writer->commit().has_value());
}

// A folder with one model in it.
struct SavedModel {
  SavedModel() { save_model(source); }

  const TemporaryFolder folder;
  const std::string source = folder / "model.safetensors";
};

struct Cpp {
  Bytes file;
  cdna::ConvertReport report;
};

Cpp convert_in_cpp(const std::string& source, const cdna::ConvertOptions& options) {
  Cpp out;
  const auto model = must(cdna::open_model(source));
  out.report = must(cdna::convert(*model, cdna::memory_sink(out.file), options));
  return out;
}

void check_same(const cdna_convert_report& report, const cdna::ConvertReport& expected) {
  CHECK(std::memcmp(report.root, expected.root.data(), sizeof report.root) == 0);
  CHECK(report.tensor_count == expected.tensors.size());
  CHECK(report.source_bytes == expected.source_bytes);
  CHECK(report.stored_bytes == expected.stored_bytes);
  CHECK(report.file_bytes == expected.file_bytes);
}

void compare(const std::string& source, const cdna_convert_options& options, const cdna::ConvertOptions& cpp) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.cdna";
  const Cpp expected = convert_in_cpp(source, cpp);
  cdna_convert_report report{};
  report.struct_size = sizeof report;
  cdna_error error{};
  must_be_ok(cdna_convert(source.c_str(), path.c_str(), &options, &report, &error), error);
  CHECK(file_content(path) == expected.file);
  check_same(report, expected.report);
}

std::string encoding_of(const std::string& path, const char* name) {
  const cdna::Reader reader = must(cdna::Reader::open(path));
  return std::string(reader.find(name)->encoding());
}

// And with what it is converted to, exact.
struct ConvertedModel : SavedModel {
  ConvertedModel() {
    REQUIRE(cdna_convert(source.c_str(), path.c_str(), nullptr, nullptr, nullptr) == CDNA_OK);
    reader = open(path);
  }

  const std::string path = folder / "a.cdna";
  ReaderHandle reader;
};

}  // namespace

TEST_CASE_METHOD(SavedModel, "C convert: every option makes the C++ conversion's file and report") {
  cdna::ConvertOptions cpp;
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  compare(source, options, cpp);

  SECTION("encoding, embeddings, codec, threads") {
    options.encoding = "cb8";
    cpp.encoding = "cb8";
    compare(source, options, cpp);
    options.embeddings = "cb8g64";
    cpp.embeddings = "cb8g64";
    options.codec = CDNA_CODEC_ZSTD;
    cpp.codec = cdna::Codec::zstd;
    options.threads = 3;
    compare(source, options, cpp);
  }
  SECTION("patterns of what stays exact") {
    options.encoding = "cb8";
    cpp.encoding = "cb8";
    const char* const patterns[] = {"*.up.weight", "co?nts"};
    options.keep_exact = patterns;
    options.keep_exact_count = 2;
    cpp.keep_exact = {patterns[0], patterns[1]};
    compare(source, options, cpp);
  }
  SECTION("a policy") {
    options.policy = R"({"rules": [{"glob": "*.down.*", "preset": "cb4g32"}, {"role": "matrix", "preset": "cb8"}]})";
    cpp.policy = options.policy;
    compare(source, options, cpp);
  }
  SECTION("bits per weight") {
    options.bits_per_weight = 9.5;
    cpp.bits_per_weight = 9.5;
    compare(source, options, cpp);
  }
  SECTION("bytes of the file") {
    options.target_bytes = 80'000;
    cpp.target_bytes = 80'000;
    compare(source, options, cpp);
  }
}

TEST_CASE_METHOD(SavedModel, "C convert: the writer's policy decides as the conversion does") {
  const std::string path = folder / "a.cdna";
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.encoding = "cb8";
  CHECK(cdna_convert(source.c_str(), path.c_str(), &options, nullptr, nullptr) == CDNA_OK);
  CHECK(encoding_of(path, "model.embed_tokens.weight") == "cdna.exact");
  CHECK(encoding_of(path, "model.layers.0.up.weight") == "cdna.codebook");

  // The same tensors in the same order, and the metadata that a conversion adds.
  const cdna::Reader converted = must(cdna::Reader::open(path));
  const auto model = must(cdna::open_model(source));
  cdna::test::MemorySink sink;
  {
    const cdna::test::WriterHandle writer = cdna::test::writer_into(sink);
    for (std::size_t i = 0; i < model->tensors().size(); ++i) {
      const cdna::ModelTensor& tensor = model->tensors()[i];
      Bytes data(tensor.size_bytes);
      REQUIRE(model->read(i, 0, data).has_value());
      cdna::test::Spec spec(tensor.name.c_str(), static_cast<std::uint32_t>(tensor.dtype), tensor.shape, "cb8");
      spec.c.by_policy = 1;
      cdna::test::add(writer.get(), spec, data);
    }
    const cdna::Metadata metadata = must(converted.metadata());
    for (const auto& [key, value] : metadata) {
      const auto* const text = std::get_if<std::string>(&value);
      const auto* const json = std::get_if<cdna::JsonText>(&value);
      REQUIRE((text != nullptr || json != nullptr));
      const std::string& content = text != nullptr ? *text : json->text;
      cdna_metadata_value c{};
      c.struct_size = sizeof c;
      c.key = key.c_str();
      c.kind = text != nullptr ? CDNA_STRING : CDNA_JSON;
      c.data = content.data();
      c.size = content.size();
      CHECK(cdna_writer_set_metadata(writer.get(), &c, nullptr) == CDNA_OK);
    }
    CHECK(cdna_writer_finish(writer.get(), nullptr, nullptr) == CDNA_OK);
  }
  CHECK(sink.bytes == file_content(path));
}

TEST_CASE_METHOD(SavedModel, "C convert: what is refused leaves no file, and outputs as they are") {
  const std::string path = folder / "a.cdna";
  const auto refused = [&](const char* from, const char* to, const cdna_convert_options* options, cdna_code code,
                           const char* message) {
    INFO(message);
    cdna_convert_report report{};
    report.struct_size = sizeof report;
    report.file_bytes = 7;
    cdna_error error{};
    CHECK(cdna_convert(from, to, options, &report, &error) == code);
    CHECK(error.code == code);
    CHECK_THAT(error.message, Catch::Contains(message));
    CHECK(report.file_bytes == 7);
    CHECK(cdna_convert(from, to, options, nullptr, nullptr) == code);
    CHECK(cdna::test::files_in(folder.path()) == 1);
  };
  const char* const from = source.c_str();
  const char* const to = path.c_str();
  refused(nullptr, to, nullptr, CDNA_BAD_ARGUMENT, "source is NULL");
  refused(from, nullptr, nullptr, CDNA_BAD_ARGUMENT, "destination is NULL");
  refused((folder / "missing").c_str(), to, nullptr, CDNA_NOT_FOUND, "");
  refused(from, (folder / "missing/a.cdna").c_str(), nullptr, CDNA_IO, "directory");
  refused(from, from, nullptr, CDNA_EXISTS, "exists already");

  const cdna_convert_options none = CDNA_CONVERT_OPTIONS_INIT;
  const auto with = [&](auto member, auto value, cdna_code code, const char* message) {
    cdna_convert_options options = none;
    options.*member = value;
    refused(from, to, &options, code, message);
  };
  using Options = cdna_convert_options;
  with(&Options::struct_size, 0U, CDNA_BAD_ARGUMENT, "options: struct_size is not set");
  with(&Options::threads, 1025U, CDNA_LIMIT, "threads is 1025");
  with(&Options::encoding, "cb9", CDNA_BAD_ARGUMENT, "encoding 'cb9'");
  with(&Options::embeddings, "cb9", CDNA_BAD_ARGUMENT, "embeddings 'cb9'");
  with(&Options::policy, "", CDNA_BAD_ARGUMENT, "options->policy is empty");
  with(&Options::policy, "{", CDNA_MALFORMED, "");
  with(&Options::codec, 3U, CDNA_BAD_ARGUMENT, "options->codec 3");
  with(&Options::bits_per_weight, -1.0, CDNA_BAD_ARGUMENT, "bits_per_weight");
  with(&Options::bits_per_weight, 65.0, CDNA_BAD_ARGUMENT, "bits_per_weight");
  with(&Options::bits_per_weight, std::numeric_limits<double>::quiet_NaN(), CDNA_BAD_ARGUMENT, "bits_per_weight");
  with(&Options::bits_per_weight, 0.5, CDNA_BAD_ARGUMENT, "");
  with(&Options::target_bytes, std::uint64_t{1} << 53, CDNA_BAD_ARGUMENT, "target_bytes");
  with(&Options::target_bytes, std::uint64_t{1}, CDNA_BAD_ARGUMENT, "");
  with(&Options::keep_exact_count, 1U, CDNA_BAD_ARGUMENT, "options->keep_exact is NULL");

  cdna_convert_options options = none;
  options.encoding = "cb8";
  options.bits_per_weight = 8;
  refused(from, to, &options, CDNA_BAD_ARGUMENT, "options->encoding 'cb8' beside a policy or a budget");
  options = none;
  options.bits_per_weight = 8;
  options.target_bytes = 1000;
  refused(from, to, &options, CDNA_BAD_ARGUMENT, "");
  options = none;
  const char* patterns[] = {"*", nullptr};
  options.keep_exact = patterns;
  options.keep_exact_count = 2;
  refused(from, to, &options, CDNA_BAD_ARGUMENT, "options->keep_exact[1] is NULL");
  patterns[1] = "fits nothing";
  refused(from, to, &options, CDNA_BAD_ARGUMENT, "fits nothing");

  cdna_convert_report report{};
  cdna_error error{};
  CHECK(cdna_convert(from, to, nullptr, &report, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("ret_report: struct_size is not set"));
  CHECK(cdna::test::files_in(folder.path()) == 1);
}

TEST_CASE("C convert: values that are not finite are errors with their tensor, or kept") {
  const TemporaryFolder folder;
  const std::string source = folder / "model.safetensors";
  save_model(source, true);
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.encoding = "cb8";
  cdna_error error{};
  CHECK(cdna_convert(source.c_str(), (folder / "a.cdna").c_str(), &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(std::string(error.tensor) == "model.layers.0.up.weight");
  CHECK(cdna::test::files_in(folder.path()) == 1);
  options.keep_nonfinite = 1;
  cdna::ConvertOptions cpp;
  cpp.encoding = "cb8";
  cpp.nonfinite = cdna::Nonfinite::exact;
  compare(source, options, cpp);
}

TEST_CASE_METHOD(
    SavedModel, "C convert: an existing file is replaced where that is asked for; options and reports of other sizes") {
  const std::string path = folder / "a.cdna";
  cdna::test::save_file(path, Bytes(10));
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  cdna_error error{};
  CHECK(cdna_convert(source.c_str(), path.c_str(), &options, nullptr, &error) == CDNA_EXISTS);
  CHECK(file_content(path) == Bytes(10));
  options.force = 1;
  struct Later {
    cdna_convert_report report;
    std::uint64_t more;
  } later{};
  later.report.struct_size = sizeof later;
  later.more = 5;
  CHECK(cdna_convert(source.c_str(), path.c_str(), &options, &later.report, &error) == CDNA_OK);
  CHECK(later.report.file_bytes == file_content(path).size());
  CHECK(later.more == 5);

  cdna_convert_options earlier = CDNA_CONVERT_OPTIONS_INIT;
  earlier.struct_size = offsetof(cdna_convert_options, policy);
  earlier.encoding = "cb8";
  earlier.policy = "behind the end";
  cdna_convert_report first{};
  first.struct_size = offsetof(cdna_convert_report, source_bytes);
  const std::string other = folder / "b.cdna";
  CHECK(cdna_convert(source.c_str(), other.c_str(), &earlier, &first, nullptr) == CDNA_OK);
  CHECK(first.tensor_count == 5);
  CHECK(first.source_bytes == 0);
  CHECK(encoding_of(other, "model.layers.0.up.weight") == "cdna.codebook");
}

TEST_CASE_METHOD(SavedModel, "C convert: the source's format is found, or asked for by name") {
  const std::string found = folder / "found.cdna";
  REQUIRE(cdna_convert(source.c_str(), found.c_str(), nullptr, nullptr, nullptr) == CDNA_OK);
  for (const char* format : {"auto", "safetensors"}) {
    INFO(format);
    cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
    options.source_format = format;
    options.force = 1;
    const std::string named = folder / "named.cdna";
    cdna_error error{};
    must_be_ok(cdna_convert(source.c_str(), named.c_str(), &options, nullptr, &error), error);
    CHECK(file_content(named) == file_content(found));
  }
}

TEST_CASE_METHOD(SavedModel,
                 "C convert: a source that is not of the format asked for, and an unknown format, leave no file") {
  const std::string out = folder / "out.cdna";
  for (const cdna::ModelFormat format : cdna::model_formats()) {
    // Of safetensors, HXQ is a kind.
    if (format <= cdna::ModelFormat::hxq) continue;
    const std::string name(cdna::name_of(format));
    INFO(name);
    cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
    options.source_format = name.c_str();
    CHECK(cdna_convert(source.c_str(), out.c_str(), &options, nullptr, nullptr) != CDNA_OK);
    CHECK(cdna::test::files_in(folder.path()) == 1);
  }
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.source_format = "zip";
  cdna_error error{};
  CHECK(cdna_convert(source.c_str(), out.c_str(), &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("options->source_format 'zip' is not one of auto, safetensors, hxq, hxzc"));
  options.source_format = nullptr;
  options.sidecar = "";
  CHECK(cdna_convert(source.c_str(), out.c_str(), &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("options->sidecar is empty"));
  options.sidecar = nullptr;
  options.skip_count = 1;
  CHECK(cdna_convert(source.c_str(), out.c_str(), &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("options->skip is NULL"));
  options.skip_count = 0;
  const char* const nothing[] = {nullptr};
  options.shapes = nothing;
  options.shape_count = 1;
  CHECK(cdna_convert(source.c_str(), out.c_str(), &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("options->shapes[0] is NULL"));
  CHECK(cdna::test::files_in(folder.path()) == 1);
}

TEST_CASE_METHOD(SavedModel, "C export: the C++ export's file, for every dtype") {
  const std::string path = folder / "a.cdna";
  cdna_convert_options convert = CDNA_CONVERT_OPTIONS_INIT;
  convert.encoding = "cb8";
  REQUIRE(cdna_convert(source.c_str(), path.c_str(), &convert, nullptr, nullptr) == CDNA_OK);
  const ReaderHandle reader = open(path);
  const cdna::Reader cpp_reader = must(cdna::Reader::open(path));
  for (const std::uint32_t dtype : {CDNA_DTYPE_NONE, CDNA_F16, CDNA_BF16, CDNA_F32, CDNA_F64}) {
    INFO("dtype " << dtype);
    cdna::ExportOptions cpp;
    if (dtype != CDNA_DTYPE_NONE) cpp.dtype = static_cast<DType>(dtype);
    Bytes expected;
    REQUIRE(cdna::export_safetensors(cpp_reader, cdna::memory_sink(expected), cpp).has_value());
    cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
    options.dtype = dtype;
    options.force = 1;
    const std::string out = folder / "out.safetensors";
    cdna_error error{};
    must_be_ok(cdna_export(reader.get(), out.c_str(), &options, &error), error);
    CHECK(file_content(out) == expected);
  }
  // An exact file comes out as it went in.
  const std::string exact = folder / "exact.cdna";
  const std::string back = folder / "back.safetensors";
  REQUIRE(cdna_convert(source.c_str(), exact.c_str(), nullptr, nullptr, nullptr) == CDNA_OK);
  CHECK(cdna_export(open(exact).get(), back.c_str(), nullptr, nullptr) == CDNA_OK);
  CHECK(file_content(back) == file_content(source));
}

TEST_CASE_METHOD(ConvertedModel,
                 "C export: the format is the one asked for, or what the destination's ending says, or safetensors") {
  cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
  for (const char* format : {static_cast<const char*>(nullptr), "safetensors"}) {
    for (const char* name : {"out.safetensors", "out", "out.bin"}) {
      INFO(name);
      const std::string out = folder / name;
      options.format = format;
      options.force = 1;
      cdna_error error{};
      must_be_ok(cdna_export(reader.get(), out.c_str(), &options, &error), error);
      CHECK(file_content(out) == file_content(source));
    }
  }
  // As a caller of an earlier version, whose struct ends before the format.
  const std::string early = folder / "early";
  options.struct_size = offsetof(cdna_export_options, format);
  options.format = "behind the end";
  CHECK(cdna_export(reader.get(), early.c_str(), &options, nullptr) == CDNA_OK);
  CHECK(file_content(early) == file_content(source));
  options.struct_size = sizeof options;
  options.format = "zip";
  cdna_error error{};
  const std::string none = folder / "none";
  CHECK(cdna_export(reader.get(), none.c_str(), &options, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("options->format 'zip' is not one of safetensors, gguf, npz, hxq"));
  CHECK_FALSE(std::filesystem::exists(none));
}

TEST_CASE_METHOD(ConvertedModel, "C export: GGUF takes an architecture and Q8_0, which nothing else does") {
  cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
  const auto exported = [&](const char* name) {
    return cdna_export(reader.get(), (folder / name).c_str(), &options, nullptr);
  };
  CHECK(exported("none.gguf") == CDNA_BAD_ARGUMENT);
  options.architecture = "llama";
  CHECK(exported("f32.gguf") == CDNA_OK);
  options.q8_0 = 1;
  CHECK(exported("q8_0.gguf") == CDNA_OK);
  CHECK(std::filesystem::file_size(folder / "q8_0.gguf") < std::filesystem::file_size(folder / "f32.gguf"));
  const Bytes bytes = file_content(folder / "q8_0.gguf");
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  CHECK(text.find("general.architecture") != std::string::npos);
  CHECK(text.find("llama") != std::string::npos);
  CHECK(exported("out.safetensors") == CDNA_BAD_ARGUMENT);
  CHECK_FALSE(std::filesystem::exists(folder / "out.safetensors"));
}

TEST_CASE_METHOD(ConvertedModel, "C export: what is refused leaves no file") {
  const std::string out = folder / "out.safetensors";
  const auto refused = [&](const cdna_reader* from, const char* to, const cdna_export_options* options, cdna_code code,
                           const char* message) {
    cdna_error error{};
    CHECK(cdna_export(from, to, options, &error) == code);
    CHECK_THAT(error.message, Catch::Contains(message));
    CHECK(cdna_export(from, to, options, nullptr) == code);
    CHECK(cdna::test::files_in(folder.path()) == 2);
  };
  refused(nullptr, out.c_str(), nullptr, CDNA_BAD_ARGUMENT, "reader is NULL");
  refused(reader.get(), nullptr, nullptr, CDNA_BAD_ARGUMENT, "destination is NULL");
  refused(reader.get(), path.c_str(), nullptr, CDNA_EXISTS, "exists already");
  cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
  options.dtype = CDNA_I32;
  refused(reader.get(), out.c_str(), &options, CDNA_BAD_ARGUMENT, "options->dtype I32");
  options.dtype = 256 + CDNA_F32;
  refused(reader.get(), out.c_str(), &options, CDNA_BAD_ARGUMENT, "options->dtype 268");
  options.struct_size = 0;
  refused(reader.get(), out.c_str(), &options, CDNA_BAD_ARGUMENT, "options: struct_size is not set");
}

namespace {

struct Canceller {
  std::uint64_t calls = 0;
  std::uint64_t cancel_at = ~std::uint64_t{0};
  std::uint64_t done = 0;
  std::uint64_t total = 0;
};

std::int32_t progress_of(void* context, std::uint64_t done, std::uint64_t total) {
  auto& self = *static_cast<Canceller*>(context);
  self.done = done;
  self.total = total;
  return self.calls++ == self.cancel_at ? 1 : 0;
}

// Counts the calls of progress of a whole run, and cancels at some of them. The last call comes when all is done.
template <class Run>
void cancel_everywhere(const std::filesystem::path& folder, const std::string& out, const Run& run) {
  const std::ptrdiff_t files = cdna::test::files_in(folder);
  Canceller never;
  cdna_error error{};
  must_be_ok(run(never, &error), error);
  CHECK(never.done == never.total);
  CHECK(never.total > 0);
  std::filesystem::remove(out);
  REQUIRE(never.calls > 1);
  cdna::test::CaseStride stride;
  for (std::uint64_t at = 0; at + 1 < never.calls; ++at) {
    if (!stride.takes_next()) continue;
    INFO("progress " << at << " of " << never.calls);
    Canceller canceller;
    canceller.cancel_at = at;
    CHECK(run(canceller, &error) == CDNA_CANCELLED);
    CHECK(error.code == CDNA_CANCELLED);
    CHECK(cdna::test::files_in(folder) == files);
  }
}

}  // namespace

TEST_CASE_METHOD(SavedModel, "C convert and export: cancelled at any time, they leave no file") {
  const std::string path = folder / "a.cdna";
  for (const double bits : {0.0, 9.5}) {
    cancel_everywhere(folder.path(), path, [&](Canceller& canceller, cdna_error* error) {
      cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
      if (bits == 0) options.encoding = "cb8";
      options.bits_per_weight = bits;
      options.progress = progress_of;
      options.progress_context = &canceller;
      return cdna_convert(source.c_str(), path.c_str(), &options, nullptr, error);
    });
  }
  REQUIRE(cdna_convert(source.c_str(), path.c_str(), nullptr, nullptr, nullptr) == CDNA_OK);
  const ReaderHandle reader = open(path);
  const std::string out = folder / "out.safetensors";
  cancel_everywhere(folder.path(), out, [&](Canceller& canceller, cdna_error* error) {
    cdna_export_options options = CDNA_EXPORT_OPTIONS_INIT;
    options.progress = progress_of;
    options.progress_context = &canceller;
    return cdna_export(reader.get(), out.c_str(), &options, error);
  });
}
