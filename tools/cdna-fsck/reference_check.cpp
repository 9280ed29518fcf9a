// Tensor by tensor: bytes for exact ones, figures for those of codes.
#include "tools/cdna-fsck/reference_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <optional>
#include <set>

#include "tools/float_values.hpp"
#include "tools/interrupt.hpp"
#include "tools/parallel.hpp"
#include "tools/source_digest.hpp"
#include "tools/tensor_stream.hpp"
#include "tools/text.hpp"
#include "tools/value_moments.hpp"

namespace cdna::tools {
namespace {

constexpr std::size_t kProblemsMax = 100;  // Of one tensor.
constexpr std::size_t kAllProblemsMax = 1000;
constexpr std::uint64_t kIndexEntryBytes = 64;

// Recorded sums add at most 2^21 terms in each of eight partial sums of a block (2^24 codes) and then the blocks, each
// step with a relative error of at most 2^-53: below 1e-9 up to six million blocks. Ours are far closer
// (value_moments).
constexpr double kSumTolerance = 1e-9;
// Moments lose digits by cancellation, and entropies by a logarithm per code: neither figure needs more.
constexpr double kStatisticTolerance = 1e-6;

// Rounded to f32, upwards.
double rounded_up(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) >= value) return static_cast<double>(nearest);
  return static_cast<double>(std::nextafter(nearest, std::numeric_limits<float>::infinity()));
}

// What is not finite is near nothing.
bool agree(double recorded, double recomputed, double tolerance) {
  return std::isfinite(recomputed) && std::abs(recorded - recomputed) <= tolerance;
}

// What one tensor's check found.
struct Findings {
  std::vector<FsckProblem> problems;
  std::uint64_t problem_count = 0;
  std::vector<std::string> notes;
  bool operational_failure = false;
  bool compared = false;
};

class TensorCheck {
 public:
  struct Context {
    const Reader& reader;
    const Model& reference;
    bool least_bounds;  // The file's writer records the least bound that f32 can say; others may be generous.
    const std::atomic<bool>* stop;
    std::function<void(std::uint64_t)> advance;  // By bytes of the reference.
  };

  explicit TensorCheck(const Context& context) : context_(context) {}

  Findings run(std::size_t number) && {
    number_ = number;
    source_ = &context_.reference.tensors()[number];
    name_ = source_->name;
    const auto tensor = context_.reader.find(name_);
    if (!tensor) {
      add_problem("is in the reference and not in the file");
      context_.advance(source_->size_bytes);
      return std::move(findings_);
    }
    if (is_same_kind(*tensor)) compare(*tensor);
    return std::move(findings_);
  }

 private:
  bool is_same_kind(const Tensor& tensor) {
    const std::span<const std::uint64_t> shape = tensor.shape();
    if (tensor.dtype() != source_->dtype) {
      add_problem(
          fmt::format("has dtype {}, the reference {}", format_dtype(tensor.dtype()), format_dtype(source_->dtype)));
    }
    if (!std::equal(shape.begin(), shape.end(), source_->shape.begin(), source_->shape.end()))
      add_problem(fmt::format("has shape {}, the reference {}", format_shape(shape), format_shape(source_->shape)));
    if (findings_.problem_count == 0) return true;
    context_.advance(source_->size_bytes);
    return false;
  }

  void compare(const Tensor& tensor) {
    if (auto supported = tensor.check_supported(); !supported) {
      add_note("not compared: " + supported.error().message);
      context_.advance(source_->size_bytes);
      return;
    }
    auto result = tensor.encoding() == "cdna.exact" ? compare_exact(tensor) : compare_codebook(tensor);
    if (result) result = compare_digest(tensor);
    findings_.compared = result.has_value();
    if (!result) add_failure(std::move(result).error());
  }

  // ---- Exact tensors ----

  Result<void> compare_exact(const Tensor& tensor) {
    auto stored = stream_of(tensor);
    if (!stored) return std::move(stored).error();
    std::uint64_t position = 0;
    std::optional<std::uint64_t> first;
    std::uint64_t different = 0;
    while (true) {
      auto part = stored->bytes->next();
      if (!part) return std::move(part).error();
      if (part->empty()) break;
      auto source = read_source(position, part->size());
      if (!source) return std::move(source).error();
      if (std::memcmp(part->data(), source->data(), part->size()) != 0) {
        for (std::size_t i = 0; i < part->size(); ++i) {
          if ((*part)[i] == (*source)[i]) continue;
          ++different;
          if (!first) first = position + i;
        }
      }
      position += part->size();
    }
    if (first) {
      add_problem(fmt::format("{} of its {} bytes differ from the reference, the first at byte {} ({})", different,
                              position, *first, element_at(*first * 8 / bits_of(source_->dtype))));
    }
    return {};
  }

  // ---- Tensors of codes ----

  Result<void> compare_codebook(const Tensor& tensor) {
    const auto recorded = tensor.statistics();
    if (!recorded) return recorded.error();
    const std::uint64_t row_bytes = tensor.row_bytes(DType::f64);
    if (row_bytes > kRowBytesMax) return too_wide(tensor, row_bytes);
    auto blocks = tensor.blocks();
    if (!blocks) return std::move(blocks).error();
    CodeFrequencies codes(tensor.plane(0).bits);
    ErrorSums sums;
    std::uint64_t outliers = 0;
    for (const Result<Block>& block : *blocks) {
      if (!block) return block.error();
      auto block_sums = compare_block(tensor, *block);
      if (!block_sums) return std::move(block_sums).error();
      compare_bound(tensor, *block, block_sums->max_abs_error);
      sums.add(*block_sums);
      outliers += block->outlier_count;
      const std::uint64_t code_bytes = block->data.size() / block->row_count;
      for (std::uint64_t row = 0; row < block->row_count; ++row)
        codes.add_row(block->data.subspan(row * code_bytes, code_bytes), block->entry_count / tensor.plane(0).vector);
    }
    compare_sum("sum of squares", recorded->sum_squares, static_cast<double>(sums.sum_squares));
    compare_sum("sum of squared errors", recorded->sum_squared_error, static_cast<double>(sums.sum_squared_error));
    if (recorded->outlier_count != outliers) {
      add_problem(
          fmt::format("the number of outliers is recorded as {}, and is {}", recorded->outlier_count, outliers));
    }
    compare_statistic("excess kurtosis", recorded->excess_kurtosis, moments_.excess_kurtosis(),
                      moments_.kurtosis_rounding());
    compare_statistic("code entropy", recorded->code_entropy_bits, codes.entropy_bits(), 0);
    note_missing();
    return {};
  }

  // The block's errors; its values go to the moments.
  Result<ErrorSums> compare_block(const Tensor& tensor, const Block& block) {
    constexpr std::uint64_t kSliceBytes = std::uint64_t{32} << 20;  // Of a block of many short rows, decoded.
    const std::uint64_t rows_max = std::max<std::uint64_t>(1, kSliceBytes / tensor.row_bytes(DType::f64));
    const std::uint64_t end = block.row_begin + block.row_count;
    const std::uint64_t size = bits_of(source_->dtype) / 8;
    ErrorSums sums;
    for (std::uint64_t row = block.row_begin; row < end; row += rows_max) {
      const std::uint64_t rows = std::min(rows_max, end - row);
      if (auto result = decode(tensor, row, rows); !result) return std::move(result).error();
      const std::uint64_t first = row * tensor.cols() + block.entry_begin;  // Cut blocks have one row.
      auto source = read_source(first * size, rows * block.entry_count * size);
      if (!source) return std::move(source).error();
      values_.resize(rows * block.entry_count);
      widen(source_->dtype, *source, values_);
      const std::span<const double> decoded = std::span(decoded_).subspan(block.entry_begin, values_.size());
      sums.add(values_, decoded);
      moments_.add(values_);
      check_nonfinite(first, decoded);
    }
    return sums;
  }

  // Rows of a cut row are decoded once for all of its blocks.
  Result<void> decode(const Tensor& tensor, std::uint64_t row, std::uint64_t rows) {
    if (decoded_row_ == row && decoded_.size() == rows * tensor.cols()) return {};
    decoded_row_ = row;
    decoded_.resize(rows * tensor.cols());
    return tensor.read_rows(row, row + rows, DType::f64, std::as_writable_bytes(std::span(decoded_)));
  }

  // What is not finite as f32 is in no sum, and must come back as it was.
  void check_nonfinite(std::uint64_t first, std::span<const double> decoded) {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (is_finite_f32(values_[i])) continue;
      constexpr std::uint64_t kQuiet = std::uint64_t{1} << 51;
      const std::uint64_t ignored = std::isnan(values_[i]) && std::isnan(decoded[i]) ? kQuiet : 0;
      if ((std::bit_cast<std::uint64_t>(values_[i]) | ignored) == (std::bit_cast<std::uint64_t>(decoded[i]) | ignored))
        continue;
      add_problem(fmt::format("{} is {} in the reference, and is decoded to {}", element_at(first + i), values_[i],
                              decoded[i]));
    }
  }

  void compare_bound(const Tensor& tensor, const Block& block, double largest) {
    const double recorded = block.max_abs_error;
    if (std::isinf(recorded)) {
      missing_.insert("error bounds of blocks");
      return;
    }
    if (recorded >= largest) {
      if (!context_.least_bounds || recorded <= std::nextafter(static_cast<float>(rounded_up(largest)), INFINITY))
        return;
    }
    FsckProblem problem;
    problem.error = error_of(fmt::format("the largest error is recorded as {}, and is {}", recorded, largest));
    problem.error.plane = 0;
    problem.error.block = static_cast<std::int64_t>(block.number);
    problem.error.offset = tensor.index_offset() + kIndexEntryBytes * block.number;  // Plane 0 comes first.
    problem.begin = problem.error.offset;
    problem.end = problem.begin + kIndexEntryBytes;
    add(std::move(problem));
  }

  void compare_sum(const char* what, double recorded, double recomputed) {
    compare_figure(what, recorded, recomputed, kSumTolerance * recomputed);
  }

  void compare_statistic(const char* what, double recorded, double recomputed, double rounding) {
    compare_figure(what, recorded, recomputed, kStatisticTolerance * std::max(1.0, std::abs(recomputed)) + rounding);
  }

  void compare_figure(const char* what, double recorded, double recomputed, double tolerance) {
    if (!std::isfinite(recorded)) {
      missing_.insert(what);
    } else if (!agree(recorded, recomputed, tolerance)) {
      add_problem(fmt::format("the {} is recorded as {}, and is {}", what, recorded, recomputed));
    }
  }

  void note_missing() {
    if (!missing_.empty()) add_note(fmt::format("not recorded: {}", fmt::join(missing_, ", ")));
  }

  // ---- Both ----

  Result<std::span<const std::byte>> read_source(std::uint64_t offset, std::uint64_t size) {
    if (context_.stop != nullptr && context_.stop->load()) return stopped();
    source_bytes_.resize(size);
    if (auto result = context_.reference.read(number_, offset, source_bytes_); !result)
      return std::move(result).error();
    digest_.update(source_bytes_);
    context_.advance(size);
    return std::span<const std::byte>(source_bytes_);
  }

  // Requires: all of the source was read, in order. What it says comes first: another source explains all else.
  Result<void> compare_digest(const Tensor& tensor) {
    const Digest recorded = tensor.source_digest();
    const Digest recomputed = digest_.finish();
    if (recorded == Digest{}) {
      add_note("not recorded: the digest of the source");
    } else if (recorded != recomputed) {
      add_problem(fmt::format("the digest of the source is recorded as {}, that of the reference is {}",
                              to_hex(recorded), to_hex(recomputed)));
      std::rotate(findings_.problems.begin(), findings_.problems.end() - 1, findings_.problems.end());
    }
    return {};
  }

  std::string element_at(std::uint64_t position) const {
    return "element " + format_position(source_->shape, position);
  }

  Error error_of(std::string message) const {
    Error error;
    error.code = Code::malformed;
    error.message = std::move(message);
    error.item = name_;
    return error;
  }

  void add_problem(std::string message) { add({error_of(std::move(message)), 0, 0}); }

  void add(FsckProblem problem) {
    problem.error.file = context_.reader.source().name();
    ++findings_.problem_count;
    if (findings_.problems.size() == kProblemsMax) findings_.problems.pop_back();
    findings_.problems.push_back(std::move(problem));
  }

  void add_failure(Error error) {
    if (error.item.empty()) error.item = name_;
    const bool of_file = error.code == Code::corrupt || error.code == Code::malformed ||
                         error.code == Code::unsupported || error.code == Code::limit;
    if (!of_file) findings_.operational_failure = true;
    ++findings_.problem_count;
    error.message = "cannot be compared: " + error.message;
    findings_.problems.push_back({std::move(error), 0, 0});
  }

  void add_note(const std::string& note) { findings_.notes.push_back(escape(name_) + ": " + note); }

  const Context& context_;
  std::size_t number_ = 0;
  const ModelTensor* source_ = nullptr;
  std::string name_;
  Findings findings_;
  SourceDigest digest_;
  ValueMoments moments_;
  std::set<std::string> missing_;
  std::vector<std::byte> source_bytes_;
  std::vector<double> values_;
  std::vector<double> decoded_;
  std::optional<std::uint64_t> decoded_row_;
};

bool has_least_bounds(const Reader& reader) {
  const auto metadata = reader.metadata();
  if (!metadata) return false;
  const auto found = metadata->find("cdna.writer");
  if (found == metadata->end()) return false;
  const auto* const writer = std::get_if<std::string>(&found->second);
  return writer != nullptr && writer->compare(0, 8, "libcdna ") == 0;
}

void add_extra_tensors(const Reader& reader, const Model& reference, ReferenceReport& report) {
  const auto tensors = reference.tensors();
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const std::string_view name = reader.tensor_item(i).name();
    const auto found = std::lower_bound(tensors.begin(), tensors.end(), name,
                                        [](const ModelTensor& tensor, std::string_view n) { return tensor.name < n; });
    if (found != tensors.end() && found->name == name) continue;
    Error error;
    error.code = Code::malformed;
    error.file = reader.source().name();
    error.item = name;
    error.message = "is in the file and not in the reference";
    ++report.problem_count;
    if (report.problems.size() < kAllProblemsMax) report.problems.push_back({std::move(error), 0, 0});
  }
}

void append(Findings findings, ReferenceReport& report) {
  report.tensors_compared += findings.compared ? 1 : 0;
  report.problem_count += findings.problem_count;
  report.operational_failure = report.operational_failure || findings.operational_failure;
  for (FsckProblem& problem : findings.problems) {
    if (report.problems.size() < kAllProblemsMax) report.problems.push_back(std::move(problem));
  }
  report.notes.insert(report.notes.end(), findings.notes.begin(), findings.notes.end());
}

}  // namespace

ReferenceReport check_reference(const Reader& reader, const Model& reference, const ReferenceOptions& options) {
  std::uint64_t all_bytes = 0;
  for (const ModelTensor& tensor : reference.tensors()) all_bytes += tensor.size_bytes;
  std::mutex mutex;
  std::uint64_t done_bytes = 0;
  const auto advance = [&](std::uint64_t bytes) {
    const std::lock_guard lock(mutex);
    done_bytes += bytes;
    if (options.progress) options.progress(done_bytes, all_bytes);
  };
  const TensorCheck::Context context{reader, reference, has_least_bounds(reader), options.stop, advance};
  std::vector<Findings> findings(reference.tensors().size());
  for_each_index(findings.size(), options.threads, [&](std::size_t i) { findings[i] = TensorCheck(context).run(i); });
  ReferenceReport report;
  for (Findings& found : findings) append(std::move(found), report);
  add_extra_tensors(reader, reference, report);
  return report;
}

}  // namespace cdna::tools
