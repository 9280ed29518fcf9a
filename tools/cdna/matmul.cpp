// cdna matmul: multiplies an array with a tensor straight from its file.
#include "cdna/matmul.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/sink.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/cdna/device_product.hpp"
#include "tools/cdna/size_text.hpp"
#include "tools/cuda_library.hpp"
#include "tools/exit_code.hpp"
#include "tools/interrupt.hpp"
#include "tools/json.hpp"
#include "tools/memory_sampler.hpp"
#include "tools/npy.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna matmul";
constexpr std::uint64_t kStepBytes = std::uint64_t{8} << 20;
constexpr auto kGlance = std::chrono::milliseconds(20);  // Between looks for Ctrl-C.

struct Options {
  std::string file;
  std::string tensor;
  std::string x;
  std::string y;
  bool transpose = false;
  std::string rows;
  std::string mode = "f32";
  std::string out_dtype = "x";
  unsigned threads = 0;
  std::string resident_max;
  std::string scratch_max;
  std::string isa;
  std::string io = "automatic";
  std::string trust = "automatic";
  std::string device;
  bool force = false;
  bool json = false;
};

Error bad_argument(std::string message) {
  Error error;
  error.code = Code::bad_argument;
  error.message = std::move(message);
  return error;
}

// `value` as one of `all`, by name. Requires: it is (the options were checked).
template <class T, class All>
T named(std::string_view value, const All& all) {
  return *std::find_if(std::begin(all), std::end(all), [value](T each) { return name_of(each) == value; });
}

constexpr Math kMaths[] = {Math::f32, Math::bf16, Math::int8};

template <class All>
std::vector<std::string> names_of(const All& all) {
  std::vector<std::string> names;
  for (const auto each : all) names.emplace_back(name_of(each));
  return names;
}

Result<Reader> open_reader(const Options& options) {
  OpenOptions open;
  if (options.io != "automatic") open.io = options.io == "mmap" ? Io::mmap : Io::pread;
  if (options.trust != "automatic") open.trust = options.trust == "strict" ? Trust::strict : Trust::zero_copy;
  return Reader::open(options.file, open);
}

// "A:B".
Result<WeightRows> parse_rows(const std::string& text, const Tensor& tensor) {
  if (text.empty()) return WeightRows(tensor);
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const char* const last = text.data() + text.size();
  const auto first = std::from_chars(text.data(), last, begin);
  if (first.ec != std::errc{} || first.ptr == last || *first.ptr != ':')
    return bad_argument("--rows '" + text + "': A:B is wanted, the first row and the one after the last");
  const auto second = std::from_chars(first.ptr + 1, last, end);
  if (second.ec != std::errc{} || second.ptr != last)
    return bad_argument("--rows '" + text + "': A:B is wanted, the first row and the one after the last");
  if (begin > end || end > tensor.rows())
    return bad_argument(fmt::format("--rows '{}': the tensor has rows 0:{}", text, tensor.rows()));
  return WeightRows(tensor, begin, end);
}

Result<WeightRows> find_rows(const Options& options, const Reader& reader) {
  const auto tensor = reader.find(options.tensor);
  auto rows = tensor ? parse_rows(options.rows, *tensor) : bad_argument("no tensor has this name");
  if (rows) return rows;
  rows.error().file = options.file;
  rows.error().item = options.tensor;
  return rows;
}

MatmulOptions matmul_options(const Options& options, Workers& workers) {
  MatmulOptions out;
  out.math = named<Math>(options.mode, kMaths);
  if (options.transpose) out.orientation = Orientation::transposed;
  if (!options.isa.empty()) out.isa = named<Isa>(options.isa, kIsas);
  if (!options.resident_max.empty()) out.resident_bytes_max = parse_size(options.resident_max);
  if (!options.scratch_max.empty()) out.scratch_bytes_max = parse_size(options.scratch_max).value();
  out.workers = &workers;
  return out;
}

// x as a matrix, one row if it has one dimension; its elements are not there yet. Errors: bad_argument.
Result<ConstMatrix> matrix_of(const Options& options, const NpyHeader& header, const WeightRows& weights) {
  const std::vector<std::uint64_t>& shape = header.shape;
  const auto refuse = [&](const std::string& message) {
    Error error = bad_argument(fmt::format("shape {}: {}", format_shape(shape), message));
    error.file = options.x;
    return error;
  };
  if (shape.empty() || shape.size() > 2) return refuse("one dimension or two are wanted");
  const std::uint64_t wanted = options.transpose ? weights.row_end - weights.row_begin : weights.tensor.cols();
  if (shape.back() != wanted) {
    return refuse(fmt::format("{} columns are wanted, one for each {} of '{}'", wanted,
                              options.transpose ? "row" : "column", options.tensor));
  }
  ConstMatrix x{nullptr, header.dtype, shape.size() == 2 ? shape[0] : 1, wanted};
  const bool by_columns = shape.size() == 2 && header.fortran_order;
  x.row_stride = by_columns ? 1 : static_cast<std::int64_t>(x.cols);
  x.col_stride = by_columns ? static_cast<std::int64_t>(x.rows) : 1;
  return x;
}

// The result in memory and its shape in the file.
struct Output {
  std::vector<std::uint64_t> shape;
  std::vector<std::byte> elements;  // Written before the call, so that they do not count as growth.
  Matrix matrix;
};

Result<Output> make_output(const Options& options, const NpyHeader& header, const ConstMatrix& x,
                           const WeightRows& weights) {
  DType dtype = x.dtype;
  if (options.out_dtype != "x")
    dtype = options.out_dtype == "f32" ? DType::f32 : options.out_dtype == "bf16" ? DType::bf16 : DType::f16;
  const std::uint64_t cols = options.transpose ? weights.tensor.cols() : weights.row_end - weights.row_begin;
  const std::uint64_t element_bytes = bits_of(dtype) / 8;
  if (cols != 0 && x.rows > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / element_bytes / cols)
    return bad_argument(fmt::format("the result would have {} x {} elements", x.rows, cols));
  Output out;
  if (header.shape.size() == 2) out.shape.push_back(x.rows);
  out.shape.push_back(cols);
  out.elements.resize(x.rows * cols * element_bytes);
  out.matrix = {out.elements.data(), dtype, x.rows, cols, static_cast<std::int64_t>(cols), 1};
  return out;
}

// Errors: those of create_file(); bad_argument where Y is one of the files that are read.
Result<std::unique_ptr<Sink>> create_destination(const Options& options) {
  for (const std::string& input : {options.file, options.x}) {
    std::error_code ignored;
    if (!std::filesystem::equivalent(options.y, input, ignored)) continue;
    Error error = bad_argument("is also read: the result needs a name of its own");
    error.file = options.y;
    return error;
  }
  FileSinkOptions sink;
  sink.force = options.force;
  return create_file(options.y, sink);
}

struct Measured {
  Result<void> result;
  double seconds = 0;
  std::uint64_t private_growth_bytes = 0;
  std::uint64_t file_backed_bytes = 0;
  std::uint64_t file_backed_growth_bytes = 0;
};

Measured measured_matmul(const WeightRows& weights, const ConstMatrix& x, const Matrix& y,
                         const MatmulOptions& options) {
  Measured out;
  MemorySampler sampler;
  const auto start = std::chrono::steady_clock::now();
  out.result = matmul(std::span(&weights, 1), x, y, options);
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  out.private_growth_bytes = sampler.peak_private_growth();
  out.file_backed_bytes = sampler.peak_file_backed();
  out.file_backed_growth_bytes = sampler.peak_file_backed_growth();
  return out;
}

// Waits for work that knows no stop flag. When the tool is stopped the process ends under it: what would have become
// the output goes first.
template <class Outcome>
Outcome wait_or_exit(std::future<Outcome> work, std::unique_ptr<Sink>& sink, const std::atomic<bool>& stop) {
  while (work.wait_for(kGlance) != std::future_status::ready) {
    if (!stop.load()) continue;
    sink.reset();
    std::_Exit(report(kProgram, stopped()));
  }
  return work.get();
}

Result<void> write_array(Sink& sink, const Output& output, const std::atomic<bool>& stop) {
  const std::string header = npy_header(output.matrix.dtype, output.shape);
  if (auto result = sink.write(std::as_bytes(std::span(header))); !result) return result;
  std::span<const std::byte> rest(output.elements);
  while (!rest.empty()) {
    if (stop.load()) return stopped();
    const std::size_t step = std::min<std::size_t>(rest.size(), kStepBytes);
    if (auto result = sink.write(rest.first(step)); !result) return result;
    rest = rest.subspan(step);
  }
  if (stop.load()) return stopped();
  return sink.commit();
}

// Of the planes that go with rows: codes or elements, scales, outliers; a part of the rows by its share.
std::uint64_t stored_bytes_of(const WeightRows& weights) {
  constexpr std::uint8_t kScopeTensor = 0;
  const std::uint64_t rows = weights.tensor.rows();
  if (rows == 0) return 0;
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < weights.tensor.plane_count(); ++i) {
    const PlaneInfo plane = weights.tensor.plane(i);
    if (plane.scope != kScopeTensor) bytes += plane.stored_bytes;
  }
  const double share = static_cast<double>(weights.row_end - weights.row_begin) / static_cast<double>(rows);
  return static_cast<std::uint64_t>(static_cast<double>(bytes) * share + 0.5);
}

// All that there is to say about a multiplication that was done.
struct Finished {
  const Options& options;
  const NpyHeader& x;
  const WeightRows& weights;
  const Output& output;
  const MatmulPlan& plan;
  const Measured& measured;

  std::uint64_t stored_bytes() const { return stored_bytes_of(weights); }
  double gigabytes_per_second() const {
    return static_cast<double>(stored_bytes()) / std::max(measured.seconds, 1e-9) / 1e9;
  }
};

void print_document(const Finished& finished) {
  const Options& options = finished.options;
  const MatmulPlan& plan = finished.plan;
  const Measured& measured = finished.measured;
  ordered_json out{{"schema", "cdna.matmul/1"}, {"file", options.file}, {"tensor", options.tensor}};
  out["rows"] = {finished.weights.row_begin, finished.weights.row_end};
  out["transposed"] = options.transpose;
  out["mode"] = options.mode;
  out["x"] = {{"path", options.x}, {"dtype", name_of(finished.x.dtype)}, {"shape", finished.x.shape}};
  out["y"] = {{"path", options.y}, {"dtype", name_of(finished.output.matrix.dtype)}, {"shape", finished.output.shape}};
  out["seconds"] = measured.seconds;
  out["stored_bytes"] = finished.stored_bytes();
  out["gigabytes_per_second"] = finished.gigabytes_per_second();
  out["private_growth_bytes"] = measured.private_growth_bytes;
  out["file_backed_bytes"] = measured.file_backed_bytes;
  out["file_backed_growth_bytes"] = measured.file_backed_growth_bytes;
  out["kernel"] = plan.kernel;
  out["loop"] = plan.loop;
  out["products"] = plan.products;
  out["isa"] = name_of(plan.isa);
  out["io"] = plan.io;
  out["trust"] = plan.trust;
  out["blocks"] = plan.blocks;
  out["threads"] = plan.threads;
  out["passes"] = plan.passes;
  out["scratch_bytes"] = plan.scratch_bytes;
  print_json(out);
}

void print_summary(const Finished& finished) {
  const Options& options = finished.options;
  const MatmulPlan& plan = finished.plan;
  const Measured& measured = finished.measured;
  fmt::print("{}: {} {} in {:.3g} s, {:.3g} GB/s of codes\n", escape(options.y), format_shape(finished.output.shape),
             name_of(finished.output.matrix.dtype), measured.seconds, finished.gigabytes_per_second());
  fmt::print("{}; {}, products {}, {}, {} thread{}, {} pass{}\n", plan.kernel, plan.loop, plan.products,
             name_of(plan.isa), plan.threads, plan.threads == 1 ? "" : "s", plan.passes, plan.passes == 1 ? "" : "es");
  fmt::print("{}, {}{}{}; memory: private +{}, file-backed {}\n", plan.io, plan.trust, plan.blocks.empty() ? "" : ", ",
             plan.blocks, format_bytes(measured.private_growth_bytes), format_bytes(measured.file_backed_bytes));
}

// ---- On a device ----

// Options that say how the CPU multiplies. Errors: bad_argument.
Result<DeviceRequest> device_request(const Options& options, const Reader& reader, const WeightRows& weights,
                                     const ConstMatrix& x) {
  const std::pair<const char*, bool> refused[] = {{"--transpose", options.transpose},
                                                  {"--mode", options.mode != "f32"},
                                                  {"--isa", !options.isa.empty()},
                                                  {"--io", options.io != "automatic"},
                                                  {"--resident-max", !options.resident_max.empty()},
                                                  {"--scratch-max", !options.scratch_max.empty()}};
  for (const auto& [name, given] : refused) {
    if (given) return bad_argument(std::string(name) + " is not for --device: there the dtype of X is the arithmetic");
  }
  if (weights.row_begin == weights.row_end) return bad_argument("there are no rows to multiply with on a device");
  if (x.rows > std::numeric_limits<std::uint32_t>::max()) return bad_argument("X has more rows than a device takes");
  DeviceRequest request;
  request.file = options.file;
  request.tensor = options.tensor;
  request.root = reader.root();
  request.row_begin = weights.row_begin;
  request.row_end = weights.row_end;
  request.ordinal = cuda_ordinal(options.device).value();
  request.threads = options.threads;
  if (options.trust != "automatic")
    request.trust = options.trust == "strict" ? CDNA_CUDA_TRUST_STRICT : CDNA_CUDA_TRUST_ZERO_COPY;
  request.x = x;
  return request;
}

void print_device_document(const Options& options, const NpyHeader& x, const WeightRows& weights, const Output& output,
                           const DeviceProduct& done) {
  ordered_json out{{"schema", "cdna.matmul.device/1"}, {"file", options.file}, {"tensor", options.tensor}};
  out["rows"] = {weights.row_begin, weights.row_end};
  out["x"] = {{"path", options.x}, {"dtype", name_of(x.dtype)}, {"shape", x.shape}};
  out["y"] = {{"path", options.y}, {"dtype", name_of(output.matrix.dtype)}, {"shape", output.shape}};
  out["device"] = options.device;
  out["seconds"] = done.product.seconds;
  out["loop"] = loop_name(done.product.loop);
  out["splits"] = done.product.splits;
  out["blocks"] = done.product.blocks;
  out["workspace_bytes"] = done.product.workspace_bytes;
  out["product_device_bytes"] = done.product.device_bytes;
  ordered_json stages = ordered_json::object();
  for (std::uint32_t i = 0; i < std::size(done.upload.stages); ++i) {
    const cdna_cuda_stage& stage = done.upload.stages[i];
    stages[stage_name(i)] = {
        {"bytes", stage.bytes}, {"seconds", stage.seconds}, {"gigabytes_per_second", stage.gigabytes_per_second}};
  }
  out["upload"] = {{"seconds", done.upload.seconds},
                   {"threads", done.upload.threads},
                   {"device_bytes", done.upload.device_bytes},
                   {"device_bytes_peak", done.upload.device_bytes_peak},
                   {"pinned_bytes", done.upload.pinned_bytes},
                   {"bottleneck", stage_name(done.upload.bottleneck)},
                   {"stages", stages}};
  print_json(out);
}

void print_device_summary(const Options& options, const Output& output, const DeviceProduct& done) {
  fmt::print("{}: {} {} on {} in {:.3g} s\n", escape(options.y), format_shape(output.shape),
             name_of(output.matrix.dtype), options.device, done.product.seconds);
  fmt::print("loop {}, {} split{}, workspace {}\n", loop_name(done.product.loop), done.product.splits,
             done.product.splits == 1 ? "" : "s", format_bytes(done.product.workspace_bytes));
  fmt::print("upload {:.3g} s, {} on the device, slowest: {}\n", done.upload.seconds,
             format_bytes(done.upload.device_bytes), stage_name(done.upload.bottleneck));
}

Result<void> multiply_with_device(const Options& options, const Reader& reader, const WeightRows& weights,
                                  const NpyFile& array, const ConstMatrix& x, const std::atomic<bool>& stop) {
  auto request = device_request(options, reader, weights, x);
  if (!request) return request.error();
  auto sink = create_destination(options);
  if (!sink) return std::move(sink).error();
  const auto elements = load_elements(array, stop);
  if (!elements) return elements.error();
  request->x.data = elements->get();
  const auto output = make_output(options, array.header, x, weights);
  if (!output) return output.error();
  request->y = output->matrix;
  auto work = std::async(std::launch::async, [&] { return multiply_on_device(*request); });
  const auto done = wait_or_exit(std::move(work), *sink, stop);
  if (!done) return done.error();
  if (auto result = write_array(**sink, *output, stop); !result) return result;
  if (options.json) {
    print_device_document(options, array.header, weights, *output, *done);
  } else {
    print_device_summary(options, *output, *done);
  }
  return {};
}

Result<void> multiply(const Options& options, const std::atomic<bool>& stop) {
  const auto reader = open_reader(options);
  if (!reader) return reader.error();
  const auto weights = find_rows(options, *reader);
  if (!weights) return weights.error();
  const auto array = open_npy(options.x);
  if (!array) return array.error();
  auto x = matrix_of(options, array->header, *weights);
  if (!x) return x.error();
  if (!options.device.empty()) return multiply_with_device(options, *reader, *weights, *array, *x, stop);
  Workers workers(options.threads);
  const MatmulOptions how = matmul_options(options, workers);
  const auto plan = describe(std::span(&*weights, 1), x->rows, how);
  if (!plan) return plan.error();
  auto sink = create_destination(options);
  if (!sink) return std::move(sink).error();
  const auto elements = load_elements(*array, stop);
  if (!elements) return elements.error();
  x->data = elements->get();
  const auto output = make_output(options, array->header, *x, *weights);
  if (!output) return output.error();
  auto work = std::async(std::launch::async, [&] { return measured_matmul(*weights, *x, output->matrix, how); });
  const Measured measured = wait_or_exit(std::move(work), *sink, stop);
  if (!measured.result) return measured.result;
  if (auto result = write_array(**sink, *output, stop); !result) return result;
  const Finished finished{options, array->header, *weights, *output, *plan, measured};
  if (options.json) {
    print_document(finished);
  } else {
    print_summary(finished);
  }
  return {};
}

int run_matmul(const Options& options) {
  for (const auto& [name, text] :
       {std::pair("--resident-max", &options.resident_max), std::pair("--scratch-max", &options.scratch_max)}) {
    if (text->empty() || parse_size(*text)) continue;
    fmt::print(stderr, "{}: {} '{}': a size is wanted, as in 64MiB or 100000\n", kProgram, name, escape(*text));
    return kUsage;
  }
  if (!options.device.empty() && !cuda_ordinal(options.device)) {
    fmt::print(stderr, "{}: --device '{}': cuda or cuda:N is wanted\n", kProgram, escape(options.device));
    return kUsage;
  }
  const std::atomic<bool>& stop = stop_on_signals();
  if (auto result = multiply(options, stop); !result) return report(kProgram, result.error());
  return kClean;
}

void add_method(CLI::App& app, Options& options) {
  app.add_option("--mode", options.mode, "Arithmetic: f32; bf16 products in f32 sums; x rounded to 8 bits")
      ->check(CLI::IsMember(names_of(kMaths)))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0: one per core. The result does not depend on it")
      ->check(CLI::Range(0U, 1024U))
      ->capture_default_str();
  app.add_option("--isa", options.isa, "Instruction set, else the best (or what CDNA_CPU says)")
      ->check(CLI::IsMember(names_of(kIsas)));
  app.add_option("--io", options.io, "How FILE is read")
      ->check(CLI::IsMember({"automatic", "mmap", "pread"}))
      ->capture_default_str();
  app.add_option("--trust", options.trust, "Verify blocks in place at first touch, or copy and verify at each use")
      ->check(CLI::IsMember({"automatic", "zero_copy", "strict"}))
      ->capture_default_str();
  app.add_option("--device", options.device,
                 "cuda or cuda:N: upload the rows, multiply there (libcdna_cuda; X's dtype is the arithmetic)");
  app.add_option("--resident-max", options.resident_max,
                 "Keep no more than this of the mapped file in memory: 64MiB, 1GB, 100000");
  app.add_option("--scratch-max", options.scratch_max,
                 "Use no more private memory for buffers than this; less means more passes over W (256MiB)");
}

}  // namespace

std::function<int()> add_matmul(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("FILE", options->file, "A .cdna file")->required();
  app.add_option("TENSOR", options->tensor, "A tensor of floats in it: W, [rows, columns]")->required();
  app.add_option("X", options->x, "A .npy file of float32, float16 or bfloat16 (ml_dtypes): [m, columns], or [columns]")
      ->required();
  app.add_option("Y", options->y, "The .npy file to write: x W^T, [m, rows], or [rows]")->required();
  app.add_flag("--transpose", options->transpose, "y = x W instead: x [m, rows], y [m, columns]");
  app.add_option("--rows", options->rows, "Only rows A to B - 1 of W, as A:B");
  app.add_option("--out-dtype", options->out_dtype, "Of Y; x: that of X")
      ->check(CLI::IsMember({"x", "f32", "bf16", "f16"}))
      ->capture_default_str();
  add_method(app, *options);
  app.add_flag("--force", options->force, "Replace an existing Y, by rename");
  app.add_flag("--json", options->json, "Print one JSON document, schema cdna.matmul/1, instead of text");
  return [options] { return run_matmul(*options); };
}

}  // namespace cdna::tools
