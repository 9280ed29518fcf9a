// Conversion and export of models that callers make: the bytes, the order of errors, progress, stopping.
#include "cdna/convert.hpp"

#include <locale.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "random.hpp"
#include "temporary_folder.hpp"

using namespace cdna;

namespace {

using Bytes = std::vector<std::byte>;
constexpr std::uint64_t kSeed = 20250607;
constexpr std::size_t kEmbedding = 0, kMatrix = 2, kHead = 5;  // Tensors of sample_model().

// Arrays in memory.
class ArrayModel final : public Model {
 public:
  void add(const std::string& name, DType dtype, std::vector<std::uint64_t> shape, Bytes bytes) {
    infos.push_back({name, dtype, std::move(shape), bytes.size()});
    contents.push_back(std::move(bytes));
  }

  std::span<const ModelTensor> tensors() const override { return infos; }
  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      read_bytes += out.size();
      if (stop != nullptr && read_bytes > stop_after_bytes) stop->store(true);
    }
    if (infos[tensor].name == broken) {
      Error error;
      error.message = "the array is gone";
      return error;
    }
    std::copy_n(contents[tensor].begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  const Metadata& metadata() const override { return strings; }
  std::span<const ModelAsset> assets() const override { return files; }
  Result<void> read_asset(std::size_t, std::uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), file.data() + offset, out.size());
    return {};
  }
  std::span<const std::string> notes() const override { return remarks; }

  std::vector<ModelTensor> infos;
  std::vector<Bytes> contents;
  Metadata strings;
  std::vector<ModelAsset> files;
  std::string file;
  std::vector<std::string> remarks;
  std::string broken;  // The tensor that cannot be read.
  std::atomic<bool>* stop = nullptr;
  std::uint64_t stop_after_bytes = 0;
  mutable std::mutex mutex;
  mutable std::set<std::thread::id> threads;
  mutable std::uint64_t read_bytes = 0;
};

Bytes float_bytes(test::Random& random, std::size_t count) {
  const std::vector<float> values = random.weights(count);
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// An embedding and an output head that are tied, a matrix of several blocks, and what stays exact.
std::unique_ptr<ArrayModel> sample_model() {
  test::Random random(kSeed);
  auto model = std::make_unique<ArrayModel>();
  const Bytes embedding = float_bytes(random, 300 * 128);
  model->add("embed.weight", DType::f32, {300, 128}, embedding);
  model->add("empty", DType::f32, {0, 3}, {});
  model->add("h.0.attn.weight", DType::f32, {1024, 700}, float_bytes(random, 1024 * 700));
  model->add("h.0.norm.weight", DType::f32, {128}, float_bytes(random, 128));
  model->add("ids", DType::i64, {7}, random.bytes(56));
  model->add("lm_head.weight", DType::f32, {300, 128}, embedding);
  model->strings["safetensors:format"] = "pt";
  return model;
}

void add_config(ArrayModel& model) {
  model.file = R"({"layers": 1})";
  model.files.push_back({"config.json", "application/json", model.file.size()});
  model.remarks.emplace_back("pytorch_model.bin: not read");
}

ConvertOptions with_encoding(const std::string& encoding) {
  ConvertOptions options;
  options.encoding = encoding;
  return options;
}

Bytes convert_to_bytes(const Model& model, const ConvertOptions& options) {
  Bytes bytes;
  const auto report = convert(model, memory_sink(bytes), options);
  if (!report) FAIL(report.error().describe());
  return bytes;
}

Reader open(const Bytes& bytes) {
  auto reader = Reader::open(memory_source(bytes));
  if (!reader) FAIL(reader.error().describe());
  return *std::move(reader);
}

Bytes export_to_bytes(const Bytes& container, const ExportOptions& options = {}) {
  Bytes bytes;
  const Reader reader = open(container);
  const auto result = export_safetensors(reader, memory_sink(bytes), options);
  if (!result) FAIL(result.error().describe());
  return bytes;
}

// The model as the file that another program would have written of it.
Bytes safetensors_of(const ArrayModel& model) {
  Bytes bytes;
  std::map<std::string, std::string> strings;
  for (const auto& [key, value] : model.strings) strings[key.substr(key.find(':') + 1)] = std::get<std::string>(value);
  auto writer = SafetensorsWriter::create(memory_sink(bytes), model.infos, strings);
  REQUIRE(writer);
  for (const ModelTensor& tensor : (*writer)->tensors()) {
    const auto named = [&](const ModelTensor& each) { return each.name == tensor.name; };
    const auto found = std::find_if(model.infos.begin(), model.infos.end(), named);
    REQUIRE((*writer)->append(model.contents[static_cast<std::size_t>(found - model.infos.begin())]));
  }
  REQUIRE((*writer)->commit());
  return bytes;
}

Error error_of(const Model& model, const ConvertOptions& options) {
  test::TemporaryFolder folder;
  auto sink = create_file(folder / "m.cdna");
  REQUIRE(sink);
  const auto report = convert(model, *std::move(sink), options);
  REQUIRE_FALSE(report);
  CHECK(std::filesystem::is_empty(folder.path()));
  return report.error();
}

// Records calls, and checks what is promised of each.
class ProgressRecord {
 public:
  ProgressCallback callback() {
    return [this](std::uint64_t done, std::uint64_t total) {
      right &= std::this_thread::get_id() == thread_ && done >= done_ && done <= total;
      right &= calls == 0 || total == total_;
      done_ = done;
      total_ = total;
      ++calls;
    };
  }
  bool is_complete() const { return right && calls > 0 && done_ == total_; }
  std::uint64_t total() const { return total_; }

  int calls = 0;
  bool right = true;

 private:
  std::thread::id thread_ = std::this_thread::get_id();
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

TEST_CASE("convert: the file is what a writer that is called by hand makes") {
  const auto model = sample_model();
  add_config(*model);
  Bytes expected;
  auto writer = Writer::create(memory_sink(expected));
  REQUIRE(writer);
  const auto data = [&](std::size_t i) {
    return [&model, i](std::uint64_t offset, std::span<std::byte> out) { return model->read(i, offset, out); };
  };
  const auto spec = [&](std::size_t i, Role role) {
    return TensorSpec{model->infos[i].name, model->infos[i].dtype, model->infos[i].shape, role,
                      Codec::zstd,          Filter::none};
  };
  REQUIRE(writer->add_exact(spec(0, Role::embedding), data(0)));
  REQUIRE(writer->add_exact(spec(1, Role::matrix), data(1)));
  REQUIRE(writer->add_codebook(spec(2, Role::matrix), parse_preset("cb6g64")->codebook, data(2)));
  REQUIRE(writer->add_exact(spec(3, Role::norm), data(3)));
  REQUIRE(writer->add_exact(spec(4, Role::vector), data(4)));
  REQUIRE(writer->add_alias("lm_head.weight", 0));
  REQUIRE(writer->add_asset(
      "config.json", "application/json", model->file.size(), Codec::zstd,
      [&](std::uint64_t offset, std::span<std::byte> out) { return model->read_asset(0, offset, out); }));
  REQUIRE(writer->finish(
      {{"safetensors:format", std::string("pt")},
       {"cdna.options", JsonText{R"({"encoding":"cb6g64","codec":"zstd","keep_exact":[],"nonfinite":"refuse"})"}}}));
  ConvertOptions options = with_encoding("cb6g64");
  options.codec = Codec::zstd;
  CHECK(convert_to_bytes(*model, options) == expected);
}

TEST_CASE("convert: a model in memory and its file give the same container, and its export is that file again") {
  const auto model = sample_model();
  const Bytes file = safetensors_of(*model);
  const auto opened = open_safetensors(memory_source(file));
  REQUIRE(opened);
  for (const char* const encoding : {"exact", "exact-z", "cb8"}) {
    const Bytes container = convert_to_bytes(*model, with_encoding(encoding));
    CHECK(convert_to_bytes(**opened, with_encoding(encoding)) == container);
    CHECK((export_to_bytes(container) == file) == (encoding != std::string("cb8")));
  }
}

TEST_CASE("convert: the report says what the file holds") {
  const auto model = sample_model();
  add_config(*model);
  ConvertOptions options = with_encoding("exact");
  options.policy = R"({"rules": [{"role": "matrix", "preset": "cb8"}, {"glob": "none*", "preset": "cb8"}]})";
  options.policy_file = "p.json";
  Bytes bytes;
  const auto report = convert(*model, memory_sink(bytes), options);
  REQUIRE(report);
  const Reader reader = open(bytes);
  CHECK(report->root == reader.root());
  CHECK(report->file_bytes == bytes.size());
  CHECK(report->notes ==
        std::vector<std::string>{"pytorch_model.bin: not read", "p.json: rule 2 (glob none*) matches no tensor"});
  std::uint64_t stored = 0;
  REQUIRE(report->tensors.size() == model->infos.size());
  for (const ConvertedTensor& tensor : report->tensors) {
    if (tensor.alias_of) continue;
    CHECK(tensor.written.stored_bytes == reader.find(tensor.name)->stored_bytes());
    stored += tensor.written.stored_bytes;
  }
  CHECK(report->stored_bytes == stored);
  CHECK(report->source_bytes == 300 * 128 * 4 + 1024 * 700 * 4 + 128 * 4 + 56);
  CHECK(report->elements == 300 * 128 + 1024 * 700 + 128 + 7);
  CHECK(report->bits_per_weight() == static_cast<double>(stored) * 8 / report->elements);
  CHECK(report->tensors[kHead].alias_of == kEmbedding);
  CHECK(report->tensors[kMatrix].decision.preset == *parse_preset("cb8"));
  CHECK(report->tensors[kMatrix].written.statistics.sum_squared_error ==
        reader.find("h.0.attn.weight")->sum_squared_error());
}

TEST_CASE("convert: bytes do not depend on threads, which read the model at once") {
  const auto model = sample_model();
  ConvertOptions options;
  options.policy = R"({"rules": [{"role": "embedding", "preset": "cb8"}]})";
  options.bits_per_weight = 7;
  const Bytes expected = convert_to_bytes(*model, options);
  CHECK(model->threads.size() == 1);
  for (const unsigned threads : {2U, 5U, 0U}) {
    options.threads = threads;
    CHECK(convert_to_bytes(*model, options) == expected);
  }
  CHECK(model->threads.size() > 1);
}

TEST_CASE("convert: a plan that was made before gives the same file") {
  const auto model = sample_model();
  ConvertOptions options;
  options.target_bytes = 900'000;
  options.codec = Codec::zstd;
  const auto plan = make_plan(*model, options);
  REQUIRE(plan);
  REQUIRE(plan->budget);
  CHECK(plan->tensors[kMatrix].forecast->choices == 7);
  Bytes bytes;
  ConvertOptions run;  // Nothing of it reaches the file.
  run.threads = 2;
  const auto report = convert(*model, *plan, memory_sink(bytes), run);
  REQUIRE(report);
  CHECK(bytes.size() <= 900'000);
  CHECK(bytes == convert_to_bytes(*model, options));
}

TEST_CASE("convert: progress comes from the caller's thread, never falls, has one total and ends there") {
  const auto model = sample_model();
  for (const unsigned threads : {1U, 3U}) {
    for (const bool has_budget : {false, true}) {
      CAPTURE(threads, has_budget);
      ProgressRecord record;
      ConvertOptions options = with_encoding(has_budget ? "exact" : "cb8");
      if (has_budget) options.bits_per_weight = 7;
      options.threads = threads;
      options.progress = record.callback();
      convert_to_bytes(*model, options);
      CHECK(record.is_complete());
    }
  }
  ProgressRecord record;
  ConvertOptions options = with_encoding("cb8");
  options.progress = record.callback();
  const auto plan = make_plan(*model, options);
  REQUIRE(plan);
  CHECK(record.calls == 0);  // Nothing is measured.
  Bytes bytes;
  REQUIRE(convert(*model, *plan, memory_sink(bytes), options));
  CHECK(record.is_complete());
  CHECK(record.total() == 300 * 128 * 4 + 2 * 1024 * 700 * 4 + 128 * 4 + 56);  // Codes are made in two passes.
}

TEST_CASE("convert: an empty model is complete at once") {
  const ArrayModel model;
  ProgressRecord record;
  ConvertOptions options;
  options.bits_per_weight = 4;
  options.progress = record.callback();
  CHECK(open(convert_to_bytes(model, options)).tensor_count() == 0);
  CHECK(record.is_complete());
}

TEST_CASE("convert: stopped at any time it is cancelled, and leaves no file") {
  for (const unsigned threads : {1U, 3U}) {
    for (const bool has_budget : {false, true}) {
      for (const std::uint64_t after : {std::uint64_t{0}, std::uint64_t{500'000}, std::uint64_t{3'000'000}}) {
        CAPTURE(threads, has_budget, after);
        const auto model = sample_model();
        std::atomic<bool> stop{false};
        model->stop = &stop;
        model->stop_after_bytes = after;
        ConvertOptions options = with_encoding(has_budget ? "exact" : "cb8");
        if (has_budget) options.bits_per_weight = 7;
        options.threads = threads;
        options.stop = &stop;
        CHECK(error_of(*model, options).code == Code::cancelled);
      }
    }
  }
}

TEST_CASE("convert: a policy that is wrong is an error with its file and rule before anything is read") {
  struct Case {
    std::string policy;
    Code code;
    std::string message;
  };
  const std::vector<Case> cases{
      {"{", Code::malformed, "not JSON"},
      {" ", Code::malformed, "not JSON"},
      {R"({"rules": [{"preset": "cb8"}, {"preset": "cb9"}]})", Code::malformed, "rule 2: 'preset' 'cb9'"},
      {R"({"rules": [{"preset": "cb8", "role": "head"}]})", Code::malformed, "rule 1: 'role' 'head'"},
      {R"({"rules": [], "version": 1})", Code::malformed, "unknown key 'version'"},
      {std::string(kPolicyBytesMax + 1, ' '), Code::limit, "a policy file has at most 1 MiB"},
  };
  const auto model = sample_model();
  for (const Case& each : cases) {
    ConvertOptions options;
    options.policy = each.policy;
    options.policy_file = "p.json";
    const Error error = error_of(*model, options);
    CHECK(error.code == each.code);
    CHECK(error.file == "p.json");
    CHECK_THAT(error.message, Catch::StartsWith(each.message));
    const auto checked = check(options);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().message == error.message);
  }
  CHECK(model->read_bytes == 0);
}

TEST_CASE("convert: an option that is wrong is called by its field") {
  using Change = void (*)(ConvertOptions&);
  const std::vector<std::pair<std::string, Change>> cases{
      {"encoding 'cb9': presets are", [](ConvertOptions& o) { o.encoding = "cb9"; }},
      {"embeddings '': ", [](ConvertOptions& o) { o.embeddings = ""; }},
      {"bits_per_weight 0: above 0", [](ConvertOptions& o) { o.bits_per_weight = 0; }},
      {"bits_per_weight 64.5: above 0", [](ConvertOptions& o) { o.bits_per_weight = 64.5; }},
      {"bits_per_weight nan: above 0", [](ConvertOptions& o) { o.bits_per_weight = std::nan(""); }},
      {"target_bytes 0: above 0", [](ConvertOptions& o) { o.target_bytes = 0; }},
      {"target_bytes 9007199254740992: above 0", [](ConvertOptions& o) { o.target_bytes = std::uint64_t{1} << 53; }},
      {"target_bytes and bits_per_weight: only one",
       [](ConvertOptions& o) {
         o.target_bytes = 1000;
         o.bits_per_weight = 5;
       }},
      {"candidates needs", [](ConvertOptions& o) { o.candidates = {"cb8"}; }},
      {"candidates names no preset",
       [](ConvertOptions& o) {
         o.candidates = {" "};
         o.bits_per_weight = 5;
       }},
      {"candidates 'cb9': presets are",
       [](ConvertOptions& o) {
         o.candidates = {"cb8 cb9"};
         o.bits_per_weight = 5;
       }},
      {"encoding is not for a policy or a budget",
       [](ConvertOptions& o) {
         o.encoding = "cb8";
         o.bits_per_weight = 5;
       }},
      {"keep_exact has a NUL", [](ConvertOptions& o) { o.keep_exact = {std::string("a\0b", 3)}; }},
      {"keep_exact 'none*' matches no tensor", [](ConvertOptions& o) { o.keep_exact = {"none*"}; }},
      {"bits_per_weight 1.5: the least possible for this model is ",
       [](ConvertOptions& o) { o.bits_per_weight = 1.5; }},
      {"target_bytes 1000: the least possible for this model is ", [](ConvertOptions& o) { o.target_bytes = 1000; }},
  };
  const auto model = sample_model();
  for (const auto& [message, change] : cases) {
    ConvertOptions options;
    change(options);
    const Error error = error_of(*model, options);
    CHECK(error.code == Code::bad_argument);
    CHECK_THAT(error.message, Catch::StartsWith(message));
  }
}

TEST_CASE("convert: a model that is none is an error with the tensor") {
  using Change = void (*)(ArrayModel&);
  const std::vector<std::tuple<Code, std::string, Change>> cases{
      {Code::bad_argument, "h.0.attn.weight", [](ArrayModel& m) { m.infos[kMatrix].dtype = DType::none; }},
      {Code::bad_argument, "h.0.attn.weight", [](ArrayModel& m) { ++m.infos[kMatrix].size_bytes; }},
      {Code::bad_argument, "h.0.attn.weight",
       [](ArrayModel& m) {
         m.infos[kMatrix].shape = {1024, 701};
       }},
      {Code::limit, "h.0.attn.weight",
       [](ArrayModel& m) {
         m.infos[kMatrix].shape = {1ULL << 60, 1ULL << 60};
       }},
      {Code::bad_argument, "h.0.attn.weight", [](ArrayModel& m) { std::swap(m.infos[kMatrix], m.infos[3]); }},
      {Code::bad_argument, "empty", [](ArrayModel& m) { m.infos[kMatrix].name = "empty"; }},
      {Code::io, "h.0.attn.weight", [](ArrayModel& m) { m.broken = "h.0.attn.weight"; }},
      {Code::bad_argument, "\xFF", [](ArrayModel& m) { m.infos[kHead].name = "\xFF"; }},
  };
  for (const auto& [code, item, change] : cases) {
    for (const unsigned threads : {1U, 3U}) {
      const auto model = sample_model();
      change(*model);
      ConvertOptions options = with_encoding("cb8");
      options.threads = threads;
      const Error error = error_of(*model, options);
      CHECK(error.code == code);
      CHECK(error.item == item);
    }
  }
}

TEST_CASE("convert: patterns are matched byte by byte in every locale") {
  const char* const before = setlocale(LC_ALL, nullptr);
  const std::string restored = before == nullptr ? "C" : before;
  for (const char* const locale : {"C", "C.UTF-8"}) {
    CAPTURE(locale);
    REQUIRE(setlocale(LC_ALL, locale) != nullptr);
    CHECK(matches_glob("h.*.weight", "h.0.attn.weight"));
    CHECK(matches_glob("h.[0-9].[!b]*", "h.0.attn"));
    CHECK(!matches_glob("h.?.attn", "h.10.attn"));
    CHECK(matches_glob("a\\*", "a*"));
    CHECK(!matches_glob("a\\*", "ab"));
    CHECK(matches_glob("??", "\xC3\xA9"));
    CHECK(!matches_glob("?", "\xC3\xA9"));
    CHECK(matches_glob("*", "\xFF"));
  }
  setlocale(LC_ALL, restored.c_str());
}

TEST_CASE("export: floats become the dtype that was asked for, and nothing else does") {
  const auto model = sample_model();
  const Bytes container = convert_to_bytes(*model, with_encoding("cb8"));
  const Reader reader = open(container);
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    ExportOptions options;
    options.dtype = dtype;
    ProgressRecord record;
    options.progress = record.callback();
    const Bytes file = export_to_bytes(container, options);
    CHECK(record.is_complete());
    const auto exported = open_safetensors(memory_source(file));
    REQUIRE(exported);
    CHECK((*exported)->tensors().size() == model->infos.size());
    for (std::size_t i = 0; i < model->infos.size(); ++i) {
      const ModelTensor& tensor = (*exported)->tensors()[i];
      CAPTURE(tensor.name);
      const Tensor stored = *reader.find(tensor.name);
      CHECK(tensor.dtype == (tensor.name == "ids" ? DType::i64 : dtype));
      Bytes expected(stored.rows() * stored.row_bytes(tensor.dtype));
      REQUIRE(stored.read_rows(0, stored.rows(), tensor.dtype, expected));
      Bytes bytes(tensor.size_bytes);
      REQUIRE((*exported)->read(i, 0, bytes));
      CHECK(bytes == expected);
    }
  }
}

TEST_CASE("export: what goes wrong leaves no file") {
  const auto model = sample_model();
  const Bytes container = convert_to_bytes(*model, with_encoding("cb8"));
  const auto code_of = [](const Bytes& bytes, const ExportOptions& options) {
    test::TemporaryFolder folder;
    auto sink = create_file(folder / "m.safetensors");
    REQUIRE(sink);
    const auto result = export_safetensors(open(bytes), *std::move(sink), options);
    REQUIRE_FALSE(result);
    CHECK(std::filesystem::is_empty(folder.path()));
    return result.error().code;
  };
  ExportOptions integers;
  integers.dtype = DType::i32;
  CHECK(code_of(container, integers) == Code::bad_argument);
  std::atomic<bool> stop{false};
  ExportOptions stopping;
  stopping.stop = &stop;
  stopping.progress = [&stop](std::uint64_t done, std::uint64_t total) { stop.store(done > total / 2); };
  CHECK(code_of(container, stopping) == Code::cancelled);
  Bytes damaged = container;
  damaged[open(container).find("h.0.attn.weight")->plane(0).offset + 1000] ^= std::byte{1};
  CHECK(code_of(damaged, {}) == Code::corrupt);
}
