// The cases of `cdna bench encode`.
#include "tools/bench/encode_bench.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "cdna/cpu.hpp"
#include "cdna/encode.hpp"
#include "cdna/import.hpp"
#include "cdna/policy.hpp"
#include "cdna/reader.hpp"
#include "cdna/writer.hpp"
#include "tools/bench/child_process.hpp"
#include "tools/bench/measure.hpp"
#include "tools/bench/sample_models.hpp"
#include "tools/bench/weight_sources.hpp"
#include "tools/interrupt.hpp"

namespace cdna::tools::bench {
namespace {

constexpr double kGiga = 1e9;
constexpr std::uint64_t kGoalSize = 4096;
constexpr int kMatrices = 4;  // Of a model to convert.
constexpr std::array<std::string_view, 3> kInstructionSets{"baseline", "avx2", "avx512"};

struct PresetGoal {
  std::string_view preset;
  double gigabytes_f32;  // Per second and core, with AVX-512.
};
constexpr std::array<PresetGoal, 5> kPresetGoals{
    {{"cb8", 1.0}, {"cb8g64", 0.25}, {"cb6g64", 0.4}, {"cb5g32", 0.4}, {"cb4g32", 0.4}}};

unsigned all_threads() { return std::max(1U, std::thread::hardware_concurrency()); }

// Weights of source C: heavy tails and outliers, what costs the most.
class Weights {
 public:
  Weights(const EncodeOptions& options, DType dtype) : rows(options.rows), cols(options.cols), dtype_(dtype) {
    WeightOptions weights;
    weights.rows = rows;
    weights.cols = cols;
    values_ = make_weights(Distribution::student6_outliers, weights, all_threads());
    if (dtype != DType::bf16) return;
    halves_.reserve(values_.size());
    for (const float value : values_) {
      const auto bits = std::bit_cast<std::uint32_t>(value);  // Finite: rounds to nearest, ties to even.
      halves_.push_back(static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16));
    }
    values_ = {};
  }

  std::span<const std::byte> bytes() const {
    return dtype_ == DType::bf16 ? std::as_bytes(std::span(halves_)) : std::as_bytes(std::span(values_));
  }
  DType dtype() const { return dtype_; }
  double gigabytes() const { return static_cast<double>(bytes().size()) / kGiga; }
  ByteReader reader() const {
    return [data = bytes()](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
      std::memcpy(out.data(), data.data() + offset, out.size());
      return {};
    };
  }

  std::uint64_t rows;
  std::uint64_t cols;

 private:
  DType dtype_;
  std::vector<float> values_;
  std::vector<std::uint16_t> halves_;
};

// GB/s of encode(), in memory, without hashing and writing.
Measurement encoding(std::shared_ptr<const Weights> weights, const CodebookOptions& options, unsigned threads) {
  return [=] {
    return weights->gigabytes() / seconds_of([&] {
             keep(require(encode(weights->dtype(), weights->rows, weights->cols, weights->bytes(), options, threads)));
           });
  };
}

TensorSpec spec_of(const Weights& weights) {
  TensorSpec spec;
  spec.name = "w";
  spec.dtype = weights.dtype();
  spec.shape = {weights.rows, weights.cols};
  spec.role = Role::matrix;
  return spec;
}

// Where a file goes whose bytes nobody wants.
class Nowhere final : public Sink {
 public:
  Result<void> write(std::span<const std::byte>) override { return {}; }
  Result<void> commit() override { return {}; }
};

void write_exact(const Weights& weights, bool byte_planes, std::unique_ptr<Sink> sink) {
  Writer writer = require(Writer::create(std::move(sink)));
  TensorSpec spec = spec_of(weights);
  if (byte_planes) {
    spec.codec = Codec::zstd;
    spec.filter = Filter::byte_planes;
  }
  require(writer.add_exact(spec, weights.reader()));
  require(writer.finish());
}

std::vector<std::byte> exact_file(const Weights& weights, bool byte_planes) {
  std::vector<std::byte> file;
  write_exact(weights, byte_planes, memory_sink(file));
  return file;
}

// GB/s of writing exact-z, hashes included, to nowhere.
Measurement byte_plane_encoding(std::shared_ptr<const Weights> weights) {
  return [=] {
    return weights->gigabytes() / seconds_of([&] { write_exact(*weights, true, std::make_unique<Nowhere>()); });
  };
}

// GB/s of reading it again, verification included.
Measurement byte_plane_decoding(const std::shared_ptr<const Weights>& weights) {
  auto file = std::make_shared<const std::vector<std::byte>>(exact_file(*weights, true));
  auto out = std::make_shared<std::vector<std::byte>>(weights->bytes().size());
  return [=] {
    const Reader reader = require(Reader::open(memory_source(*file)));
    const Tensor tensor = *reader.find("w");
    return weights->gigabytes() /
           seconds_of([&] { require(tensor.read_rows(0, tensor.rows(), weights->dtype(), *out)); });
  };
}

// A safetensors file in the page cache, and the descriptor that conversions write to.
class ConvertedModel {
 public:
  explicit ConvertedModel(const Weights& weights) : path_(scratch_.path("model.safetensors")) {
    std::vector<ModelTensor> tensors;
    for (int i = 0; i < kMatrices; ++i) {
      tensors.push_back({fmt::format("model.layers.{}.mlp.up_proj.weight", i),
                         weights.dtype(),
                         {weights.rows, weights.cols},
                         weights.bytes().size()});
    }
    auto writer = require(SafetensorsWriter::create(require(create_file(path_)), tensors, {}));
    for (int i = 0; i < kMatrices; ++i) require(writer->append(weights.bytes()));
    require(writer->commit());
    gigabytes_ = kMatrices * weights.gigabytes();
    destination_ = ::open(scratch_.path("model.cdna").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (destination_ < 0) throw std::runtime_error("cannot write " + scratch_.path("model.cdna"));
  }
  ~ConvertedModel() { ::close(destination_); }
  ConvertedModel(const ConvertedModel&) = delete;
  ConvertedModel& operator=(const ConvertedModel&) = delete;

  double gigabytes() const { return gigabytes_; }

  // What `cdna convert --encoding cb8` does, without the final sync.
  void convert(unsigned threads) const {
    if (::ftruncate(destination_, 0) != 0 || ::lseek(destination_, 0, SEEK_SET) != 0)
      throw std::runtime_error("cannot write anew to " + scratch_.path("model.cdna"));
    const auto model = require(open_model(path_));
    WriterOptions options;
    options.threads = threads;
    Writer writer = require(Writer::create(descriptor_sink(destination_), options));
    for (std::size_t i = 0; i < model->tensors().size(); ++i) {
      const ModelTensor& tensor = model->tensors()[i];
      TensorSpec spec;
      spec.name = tensor.name;
      spec.dtype = tensor.dtype;
      spec.shape = tensor.shape;
      spec.role = Role::matrix;
      const auto read = [&model, i](std::uint64_t offset, std::span<std::byte> out) {
        return model->read(i, offset, out);
      };
      require(writer.add_codebook(spec, {}, read));
    }
    require(writer.finish());
  }

 private:
  Scratch scratch_;
  std::string path_;
  int destination_ = -1;
  double gigabytes_ = 0;
};

Measurement conversion(std::shared_ptr<const ConvertedModel> model, unsigned threads) {
  return [=] { return model->gigabytes() / seconds_of([&] { model->convert(threads); }); };
}

// GB/s of hashing blocks, by verifying a file in memory.
Samples hashing(const Weights& weights) {
  const std::vector<std::byte> file = exact_file(weights, false);
  return repeated([&] {
    const Reader reader = require(Reader::open(memory_source(file)));
    return weights.gigabytes() / seconds_of([&] { require(reader.find("w")->verify()); });
  });
}

std::string_view name_of_type(DType dtype) { return dtype == DType::bf16 ? "bf16" : "f32"; }

// "encode.cb8.f32" into its parts.
struct EncodeCase {
  std::string_view preset;
  DType dtype = DType::f32;
};

std::optional<EncodeCase> encode_case(std::string_view name) {
  for (const PresetGoal& goal : kPresetGoals) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      if (name == fmt::format("encode.{}.{}", goal.preset, name_of_type(dtype))) return EncodeCase{goal.preset, dtype};
    }
  }
  return std::nullopt;
}

Measurement measurement_of(const EncodeOptions& options, std::string_view name) {
  if (const auto found = encode_case(name)) {
    return encoding(std::make_shared<const Weights>(options, found->dtype), parse_preset(found->preset)->codebook, 1);
  }
  const auto weights = std::make_shared<const Weights>(options, DType::bf16);
  return name == "exact-z.encode" ? byte_plane_encoding(weights) : byte_plane_decoding(weights);
}

// The instruction sets that this process could use, the weakest first. The encoder knows none beyond AVX-512.
std::span<const std::string_view> instruction_sets() {
  const Isa best = std::min(isa(), Isa::avx512);
  return std::span(kInstructionSets).first(static_cast<std::size_t>(best) + 1);
}

// The same case by another instance of the program.
Samples samples_with(const EncodeOptions& options, std::string_view instruction_set, const std::string& name) {
  const std::string setting = fmt::format("CDNA_CPU={}", instruction_set);
  std::istringstream output(output_of({options.program, "bench", "encode", "--samples", name, "--rows",
                                       std::to_string(options.rows), "--cols", std::to_string(options.cols)},
                                      setting));
  std::vector<double> values;
  for (double value = 0; output >> value;) values.push_back(value);
  if (values.empty()) throw std::runtime_error(fmt::format("{} with {}: no figures", name, setting));
  return samples_of(std::move(values));
}

bool at_goal_size(const EncodeOptions& options) { return options.rows == kGoalSize && options.cols == kGoalSize; }

std::optional<Goal> at_least(const EncodeOptions& options, double limit) {
  if (!at_goal_size(options)) return std::nullopt;
  return Goal{Goal::Of::value, Goal::Bound::min, limit};
}

std::optional<Goal> goal_of(const EncodeOptions& options, std::string_view name, std::string_view instruction_set) {
  if (instruction_set != "avx512") return std::nullopt;
  if (name == "exact-z.encode") return at_least(options, 0.4);
  if (name == "exact-z.decode") return at_least(options, 1.2);
  const auto found = encode_case(name);
  if (!found || found->dtype != DType::f32) return std::nullopt;
  for (const PresetGoal& goal : kPresetGoals) {
    if (goal.preset == found->preset) return at_least(options, goal.gigabytes_f32);
  }
  return std::nullopt;
}

// One row per instruction set, the baseline being the reference of the others.
void add_instruction_sets(const EncodeOptions& options, const std::string& name, Report& report) {
  std::optional<Samples> baseline;
  for (const std::string_view instruction_set : instruction_sets()) {
    const Samples samples = samples_with(options, instruction_set, name);
    if (instruction_set == "baseline") baseline = samples;
    Row row;
    row.name = name;
    row.params = {{"cpu", instruction_set}, {"threads", 1}};
    row.value = samples;
    row.unit = "GB/s";
    row.goal = goal_of(options, name, instruction_set);
    if (baseline && instruction_set != "baseline") {
      row.reference = "the same with CDNA_CPU=baseline";
      row.reference_value = baseline->median;
    }
    report.add(std::move(row));
  }
}

void add_convert(const EncodeOptions& options, DType dtype, Report& report) {
  const Weights weights(options, dtype);
  const auto model = std::make_shared<const ConvertedModel>(weights);
  const double hash_rate = hashing(weights).median;
  Row row;
  row.name = fmt::format("convert.{}", name_of_type(dtype));
  row.value = repeated(conversion(model, 1));
  // Every source byte is hashed, and about a byte per value of what is stored.
  const double hashed = 1 + 1.0 / (bits_of(dtype) / 8);
  row.params = {{"preset", "cb8"},
                {"threads", 1},
                {"hashing", fmt::format("{:.0f} %", 100 * hashed * row.value.median / hash_rate)}};
  row.unit = "GB/s";
  row.reference = "encode() alone";
  row.reference_value = repeated(encoding(std::make_shared<const Weights>(options, dtype), {}, 1)).median;
  row.goal = at_least(options, dtype == DType::bf16 ? 0.4 : 0.6);
  report.add(std::move(row));
}

void add_scaling(const EncodeOptions& options, Report& report) {
  const auto weights = std::make_shared<const Weights>(options, DType::f32);
  const auto model = std::make_shared<const ConvertedModel>(*weights);
  const auto add = [&](const char* what, const Measurement& one, const Measurement& two) {
    const Pair pair = interleaved(one, two);
    Row row;
    row.name = "scale_2_cores";
    row.params = {{"what", what}, {"threads", 2}};
    row.value = pair.ours;
    row.unit = "GB/s";
    row.reference = "the same with one thread";
    row.reference_value = pair.reference.median;
    if (at_goal_size(options)) row.goal = Goal{Goal::Of::ratio, Goal::Bound::min, 1.8};
    report.add(std::move(row));
  };
  add("convert, cb8", conversion(model, 1), conversion(model, 2));
  for (const char* const preset : {"cb8", "cb4g32"}) {
    const CodebookOptions codebook = parse_preset(preset)->codebook;
    add(fmt::format("one tensor, {}", preset).c_str(), encoding(weights, codebook, 1), encoding(weights, codebook, 2));
  }
}

}  // namespace

std::vector<std::string> encode_cases() {
  std::vector<std::string> names;
  for (const PresetGoal& goal : kPresetGoals) {
    for (const char* const dtype : {"f32", "bf16"}) names.push_back(fmt::format("encode.{}.{}", goal.preset, dtype));
  }
  for (const char* const name : {"exact-z.encode", "exact-z.decode", "convert.f32", "convert.bf16", "scale_2_cores"})
    names.emplace_back(name);
  return names;
}

Result<void> run_encode(const EncodeOptions& options, Report& report, const std::atomic<bool>& stop) {
  for (const std::string& name : options.cases.empty() ? encode_cases() : options.cases) {
    if (stop.load()) return stopped();
    if (name == "convert.f32" || name == "convert.bf16") {
      add_convert(options, name == "convert.f32" ? DType::f32 : DType::bf16, report);
    } else if (name == "scale_2_cores") {
      add_scaling(options, report);
    } else {
      add_instruction_sets(options, name, report);
    }
  }
  return {};
}

Result<void> print_samples(const EncodeOptions& options, const std::string& name) {
  const Measurement measure = measurement_of(options, name);
  measure();
  for (int i = 0; i < kRepetitions; ++i) fmt::print("{}\n", measure());
  return {};
}

}  // namespace cdna::tools::bench
