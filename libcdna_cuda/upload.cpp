// Each thread takes the next block, reads and verifies it, and sends it piece by piece through the ring; whoever has
// done the last block of a tensor sends what belongs to all of it.
#include "libcdna_cuda/upload.hpp"

#include <fnmatch.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "cdna/workers.hpp"
#include "libcdna/block_reader.hpp"
#include "libcdna/file.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"
#include "libcdna_cuda/outliers.hpp"
#include "libcdna_cuda/pieces.hpp"
#include "libcdna_cuda/ring.hpp"

namespace cdna::cuda {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A tensor on its way.
struct Job {
  explicit Job(TensorPlan tensor_plan) : plan(std::move(tensor_plan)) {}
  TensorPlan plan;
  Outliers outliers;
  std::vector<float> row_scales;  // [16 * row tiles]
  std::atomic<std::uint64_t> blocks_left{0};
  std::uint64_t outlier_count = 0;
  float largest_scale = 0;  // Magnitude of group scales.
};

struct Task {
  Job* job = nullptr;
  std::uint64_t block = 0;
  bool has_block = false;  // None: of a tensor without any.
  std::uint64_t bytes = 0;
};

struct HostTimes {
  double read_seconds = 0;
  std::uint64_t read_bytes = 0;
  FillTimes fill;
};

class Upload {
 public:
  Upload(Reader reader, const UploadOptions& options)
      : begin_(Clock::now()), reader_(std::move(reader)), options_(options), model_(std::make_unique<Model>()) {}

  Result<void> choose(const std::optional<std::string>& pattern);
  Result<void> allocate(const cdna_cuda::Device& device);
  Result<void> run();
  std::unique_ptr<Model> finish();

 private:
  // What one thread keeps from task to task.
  struct Hand {
    const Job* job = nullptr;
    std::unique_ptr<BlockReader> reader;
    HostTimes times;
  };

  Result<std::size_t> add_tensor(const Tensor& tensor);
  Result<void> clear_last_rows(const TensorPlan& plan);
  void list_tasks();
  void work();
  Result<void> work_task(const Task& task, Hand& hand);
  Result<void> send_block(Job& job, std::uint64_t number, Hand& hand);
  Result<void> send_shared(Job& job, HostTimes& times);
  Result<void> report_progress(std::uint64_t bytes);
  void note_failure(std::uint64_t task, Error error);
  std::byte* address(const PartPlace& place) const {
    return place.bytes == 0 ? nullptr : static_cast<std::byte*>(model_->memory.get()) + place.offset;
  }
  TensorOnDevice describe(const Job& job) const;
  cdna_cuda::Weights weights_of(const Job& job) const;
  void fill_report();

  Clock::time_point begin_;
  Reader reader_;
  UploadOptions options_;
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<Job>> jobs_;
  std::map<std::uint32_t, std::size_t> job_of_item_;
  std::uint64_t device_bytes_ = 0;
  std::uint64_t bytes_total_ = 0;
  std::vector<Task> tasks_;
  std::unique_ptr<Ring> ring_;
  unsigned threads_ = 1;

  std::atomic<std::uint64_t> next_task_{0};
  std::atomic<bool> stopped_{false};
  std::mutex mutex_;  // Of what follows.
  std::uint64_t bytes_done_ = 0;
  HostTimes times_;
  std::uint64_t failed_task_ = 0;
  std::optional<Error> failure_;
};

// ---- What is uploaded ----

Result<std::size_t> Upload::add_tensor(const Tensor& tensor) {
  const auto known = job_of_item_.find(tensor.number());
  if (known != job_of_item_.end()) return known->second;
  auto job = std::make_unique<Job>(CDNA_TRY(TensorPlan::of(tensor, options_.slice, device_bytes_)));
  for (const PartPlace& place : job->plan.parts) device_bytes_ = std::max(device_bytes_, place.offset + place.bytes);
  jobs_.push_back(std::move(job));
  job_of_item_[tensor.number()] = jobs_.size() - 1;
  return jobs_.size() - 1;
}

Result<void> Upload::choose(const std::optional<std::string>& pattern) {
  for (std::uint32_t i = 0; i < reader_.tensor_count(); ++i) {
    const Item item = reader_.tensor_item(i);
    std::string name(item.name());
    if (pattern && ::fnmatch(pattern->c_str(), name.c_str(), 0) != 0) continue;
    const std::size_t job = CDNA_TRY(add_tensor(reader_.resolve(item)));
    model_->names.push_back({std::move(name), job});
  }
  if (!model_->names.empty()) return {};
  Error error = fail(Code::not_found, "", pattern ? "no tensor matches '" + *pattern + "'" : "the file has no tensors");
  error.file = reader_.source().name();
  return error;
}

Result<void> Upload::allocate(const cdna_cuda::Device& device) {
  const std::uint64_t allowed = options_.device_bytes_max;
  if (allowed != 0 && (options_.pinned_bytes > allowed || device_bytes_ > allowed - options_.pinned_bytes)) {
    return fail(Code::limit, "",
                std::to_string(device_bytes_ + options_.pinned_bytes) + " bytes of the device are needed (" +
                    std::to_string(device_bytes_) + " for tensors, " + std::to_string(options_.pinned_bytes) +
                    " for the buffer), and " + std::to_string(allowed) + " are allowed");
  }
  model_->ordinal = options_.ordinal;
  model_->device = device;
  model_->memory = CDNA_TRY(allocate_device(device_bytes_));
  ring_ = CDNA_TRY(Ring::create(options_.pinned_bytes, options_.stream));
  return {};
}

// Rows of the last tiles that the matrix has not: nothing else writes them.
Result<void> Upload::clear_last_rows(const TensorPlan& plan) {
  if (plan.rows() % cdna_cuda::kTileRows == 0) return {};
  for (const Part part : {kTiles, kGroupScales}) {
    const PartPlace& place = plan.parts[part];
    if (place.bytes == 0) continue;
    const std::uint64_t row_tile_bytes = place.bytes / plan.row_tiles();
    CDNA_TRY(ring_->clear(address(place) + place.bytes - row_tile_bytes, row_tile_bytes));
  }
  return {};
}

void Upload::list_tasks() {
  for (const auto& job : jobs_) {
    const TensorPlan& plan = job->plan;
    const ItemView view = file_of(plan.tensor).footer().item(plan.tensor.number());
    job->blocks_left = std::max<std::uint64_t>(1, plan.block_end - plan.block_begin);
    if (plan.decoder.has_row_scale) job->row_scales.assign(plan.row_tiles() * cdna_cuda::kTileRows, 0);
    if (!plan.has_blocks()) tasks_.push_back({job.get(), 0, false, 0});
    for (std::uint64_t block = plan.block_begin; block < plan.block_end; ++block) {
      const std::uint64_t bytes = block_place(view.planes[0], view.matrix(), block).decoded_bytes;
      tasks_.push_back({job.get(), block, true, bytes});
      bytes_total_ += bytes;
    }
  }
}

// ---- Threads ----

Result<void> Upload::run() {
  list_tasks();
  for (const auto& job : jobs_) CDNA_TRY(clear_last_rows(job->plan));
  Workers workers(options_.threads);
  threads_ = workers.concurrency();
  workers.run([this](std::size_t) {
    if (auto result = no_throw([this]() -> Result<void> { return work(), Result<void>(); }); !result)
      note_failure(0, std::move(result).error());
  });
  if (failure_) return *failure_;
  return ring_->finish();
}

void Upload::work() {
  if (auto result = ring_->choose_device(options_.ordinal); !result) note_failure(0, std::move(result).error());
  Hand hand;
  while (!stopped_.load()) {
    const std::uint64_t number = next_task_.fetch_add(1);
    if (number >= tasks_.size()) break;
    if (auto result = work_task(tasks_[number], hand); !result) note_failure(number, std::move(result).error());
  }
  const std::lock_guard lock(mutex_);
  times_.read_seconds += hand.times.read_seconds;
  times_.read_bytes += hand.times.read_bytes;
  times_.fill.seconds += hand.times.fill.seconds;
  times_.fill.bytes += hand.times.fill.bytes;
}

// Of several failures the first task's is told. Those that come of stopping are not.
void Upload::note_failure(std::uint64_t task, Error error) {
  {
    const std::lock_guard lock(mutex_);
    const bool follows = stopped_.load() && error.code == Code::cancelled;
    if (!failure_ || (!follows && task < failed_task_)) {
      failure_ = std::move(error);
      failed_task_ = task;
    }
  }
  stopped_.store(true);
  ring_->stop();
}

Result<void> Upload::work_task(const Task& task, Hand& hand) {
  Job& job = *task.job;
  if (task.has_block) CDNA_TRY(send_block(job, task.block, hand));
  if (job.blocks_left.fetch_sub(1) == 1) CDNA_TRY(send_shared(job, hand.times));
  return report_progress(task.bytes);
}

Result<void> Upload::report_progress(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  bytes_done_ += bytes;
  if (!options_.progress || stopped_.load() || options_.progress(bytes_done_, bytes_total_)) return {};
  return fail(Code::cancelled, "", "the caller has cancelled the upload");
}

Result<void> Upload::send_block(Job& job, std::uint64_t number, Hand& hand) {
  const TensorPlan& plan = job.plan;
  const auto read_begin = Clock::now();
  if (hand.job != &job) {
    hand.job = nullptr;
    hand.reader =
        CDNA_TRY(BlockReader::create(file_of(plan.tensor), plan.tensor.number(), plan.block_begin, plan.block_end));
    hand.job = &job;
  }
  const Block block = CDNA_TRY(hand.reader->fetch(number));
  hand.times.read_seconds += seconds_since(read_begin);
  hand.times.read_bytes += CDNA_TRY(file_of(plan.tensor).touch(plan.tensor.number(), 0)).entry(number).stored_length();
  const auto fill_begin = Clock::now();
  if (plan.is_codebook) CDNA_TRY(job.outliers.add(plan, block));
  if (plan.is_codebook) CDNA_TRY(take_row_scales(plan, block, job.row_scales));
  hand.times.fill.seconds += seconds_since(fill_begin);
  PieceSender sender(*ring_, plan, block, hand.times.fill);
  if (!plan.is_codebook) return sender.send_elements(address(plan.parts[kElements]));
  CDNA_TRY(sender.send_codes(address(plan.parts[kTiles]), address(plan.parts[kGroupScales])));
  const std::lock_guard lock(mutex_);
  job.largest_scale = std::max(job.largest_scale, sender.largest_scale());
  return {};
}

// Row scales, outliers and tables: once per tensor.
Result<void> Upload::send_shared(Job& job, HostTimes& times) {
  const TensorPlan& plan = job.plan;
  if (!plan.is_codebook) return {};
  const auto send = [&](Part part, const auto& values) {
    return send_bytes(*ring_, std::as_bytes(std::span(values)), address(plan.parts[part]), times.fill);
  };
  CDNA_TRY(send(kEntries, plan.entries));
  CDNA_TRY(send(kLines, plan.lines));
  CDNA_TRY(send(kRowScales, job.row_scales));
  CDNA_TRY(send(kScaleTable, plan.decoder.scale_table));
  job.row_scales = {};
  if (plan.outliers_max == 0) return {};
  const OutlierArrays arrays = job.outliers.take_arrays(plan);
  job.outlier_count = arrays.places.size();
  CDNA_TRY(send(kOutlierBegin, arrays.begin));
  CDNA_TRY(send(kOutlierPlaces, arrays.places));
  CDNA_TRY(send(kOutlierValues, arrays.values));
  return send(kOutlierDeltas, arrays.deltas);
}

// ---- What is left ----

float largest_magnitude(std::span<const float> numbers) {
  float largest = 0;
  for (const float number : numbers) largest = std::max(largest, std::abs(number));
  return largest;
}

bool scales_fit_f16(const Job& job) {
  const RowDecoder& decoder = job.plan.decoder;
  const float scale = std::max(job.largest_scale, largest_magnitude(decoder.scale_table));
  return scale * largest_magnitude(decoder.codebook) < kF16Max;
}

cdna_cuda::Weights Upload::weights_of(const Job& job) const {
  const TensorPlan& plan = job.plan;
  const auto at = [&](Part part) { return address(plan.parts[part]); };
  const bool has_outliers = job.outlier_count != 0;
  const auto outliers_at = [&](Part part) { return has_outliers ? at(part) : nullptr; };
  cdna_cuda::Weights w;
  w.rows = static_cast<std::uint32_t>(plan.rows());
  w.cols = static_cast<std::uint32_t>(plan.cols);
  w.bits = static_cast<std::uint8_t>(plan.device_bits);
  w.curve = plan.curve;
  w.group_scale_type = plan.group_scale_type;
  w.group = static_cast<std::uint16_t>(plan.decoder.group);
  w.outliers_fit_f16 = job.outliers.fit_f16();
  w.scaled_fit_f16 = scales_fit_f16(job);
  w.tiles = at(kTiles);
  w.codebook = reinterpret_cast<const std::uint16_t*>(at(kEntries));
  w.lines = reinterpret_cast<const std::uint16_t*>(at(kLines));
  w.row_scales = reinterpret_cast<const float*>(at(kRowScales));
  w.group_scales = at(kGroupScales);
  w.scale_table = reinterpret_cast<const float*>(at(kScaleTable));
  w.outlier_begin = reinterpret_cast<const std::uint32_t*>(outliers_at(kOutlierBegin));
  w.outlier_places = reinterpret_cast<const std::uint32_t*>(outliers_at(kOutlierPlaces));
  w.outlier_values = reinterpret_cast<const float*>(outliers_at(kOutlierValues));
  w.outlier_deltas = reinterpret_cast<const float*>(outliers_at(kOutlierDeltas));
  return w;
}

TensorOnDevice Upload::describe(const Job& job) const {
  const TensorPlan& plan = job.plan;
  TensorOnDevice out;
  out.shape.assign(plan.tensor.shape().begin(), plan.tensor.shape().end());
  cdna_cuda_tensor_info& info = out.info;
  info.struct_size = sizeof info;
  info.encoding = plan.is_codebook ? CDNA_CUDA_CODEBOOK : CDNA_CUDA_EXACT;
  info.rows = plan.rows();
  info.cols = plan.cols;
  info.row_begin = plan.row_begin;
  info.device_bytes = plan.device_bytes;
  info.device_data = address(plan.parts[kElements]);
  info.outlier_count = job.outlier_count;
  info.rank = static_cast<std::uint32_t>(out.shape.size());
  info.dtype = static_cast<std::uint32_t>(plan.tensor.dtype());
  info.bits = plan.is_codebook ? plan.decoder.bits : bits_of(plan.tensor.dtype());
  info.device_bits = plan.is_codebook ? plan.device_bits : info.bits;
  info.group = plan.decoder.group;
  info.curve = static_cast<std::uint32_t>(plan.curve);
  if (plan.is_codebook) out.weights = weights_of(job);
  return out;
}

cdna_cuda_stage stage(std::uint64_t bytes, double seconds) {
  return {bytes, seconds, bytes == 0 || seconds <= 0 ? 0 : static_cast<double>(bytes) / seconds / 1e9};
}

void Upload::fill_report() {
  cdna_cuda_upload_report& report = model_->report;
  const RingTimes& ring = ring_->times();
  report.struct_size = sizeof report;
  report.threads = threads_;
  report.device_bytes = device_bytes_;
  report.device_bytes_peak = device_bytes_ + ring_->bytes();
  report.pinned_bytes = ring_->bytes();
  report.stages[CDNA_CUDA_STAGE_READ] = stage(times_.read_bytes, times_.read_seconds / threads_);
  report.stages[CDNA_CUDA_STAGE_FILL] = stage(times_.fill.bytes, times_.fill.seconds / threads_);
  report.stages[CDNA_CUDA_STAGE_COPY] = stage(ring.copied_bytes, ring.copy_seconds);
  report.stages[CDNA_CUDA_STAGE_PERMUTE] = stage(ring.permuted_bytes, ring.permute_seconds);
  const double read = report.stages[CDNA_CUDA_STAGE_READ].seconds;
  const double fill = report.stages[CDNA_CUDA_STAGE_FILL].seconds;
  const double device = std::max(ring.copy_seconds, ring.permute_seconds);
  if (read + fill >= device) {
    report.bottleneck = read >= fill ? CDNA_CUDA_STAGE_READ : CDNA_CUDA_STAGE_FILL;
  } else {
    report.bottleneck = ring.copy_seconds >= ring.permute_seconds ? CDNA_CUDA_STAGE_COPY : CDNA_CUDA_STAGE_PERMUTE;
  }
}

std::unique_ptr<Model> Upload::finish() {
  for (const auto& job : jobs_) model_->tensors.push_back(describe(*job));
  fill_report();
  ring_.reset();
  model_->report.seconds = seconds_since(begin_);
  return std::move(model_);
}

}  // namespace

Result<std::unique_ptr<Model>> upload(const std::string& path, const std::optional<std::string>& pattern,
                                      const UploadOptions& options) {
  const cdna_cuda::Device device = CDNA_TRY(usable_device(options.ordinal));
  OpenOptions open;
  open.trust = options.trust;
  open.expected_root = options.expected_root;
  Reader reader = CDNA_TRY(Reader::open(path, open));
  const CurrentDevice current(options.ordinal);  // Outlives the work, which gives back what it holds of the device.
  CDNA_TRY(current.result());
  Upload work(std::move(reader), options);
  CDNA_TRY(work.choose(pattern));
  CDNA_TRY(work.allocate(device));
  CDNA_TRY(work.run());
  return work.finish();
}

std::optional<std::uint64_t> Model::find(std::string_view name) const {
  const auto found =
      std::lower_bound(names.begin(), names.end(), name,
                       [](const NamedTensor& each, std::string_view wanted) { return each.name < wanted; });
  if (found == names.end() || found->name != name) return std::nullopt;
  return static_cast<std::uint64_t>(found - names.begin());
}

}  // namespace cdna::cuda
