// The complete check of a file: open, items, deep (spec/format.md, 16.2).
#include "cdna/fsck.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <mutex>
#include <tuple>

#include "libcdna/block_reader.hpp"
#include "libcdna/codebook_statements.hpp"
#include "libcdna/file.hpp"
#include "libcdna/format/encoding_rules.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/format/index.hpp"
#include "libcdna/format/metadata.hpp"
#include "libcdna/format/record.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/thread_pool.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kProblemsMax = 1000;
constexpr std::size_t kReadBytes = std::size_t{1} << 20;

bool is_operational(Code code) { return code >= Code::io; }

struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// ---- Decoding all of one item ----

bool is_finite(DType dtype, std::span<const std::byte> bytes) {
  switch (dtype) {
    case DType::f16:
      for (std::size_t i = 0; i < bytes.size(); i += 2)
        if ((load<std::uint16_t>(bytes.subspan(i)) & 0x7C00U) == 0x7C00U) return false;
      return true;
    case DType::bf16:
      for (std::size_t i = 0; i < bytes.size(); i += 2)
        if ((load<std::uint16_t>(bytes.subspan(i)) & 0x7F80U) == 0x7F80U) return false;
      return true;
    case DType::f32:
      for (std::size_t i = 0; i < bytes.size(); i += 4)
        if (!std::isfinite(load<float>(bytes.subspan(i)))) return false;
      return true;
    case DType::f64:
      for (std::size_t i = 0; i < bytes.size(); i += 8)
        if (!std::isfinite(load<double>(bytes.subspan(i)))) return false;
      return true;
    default:
      return true;
  }
}

// Of column scales.
bool has_no_zero(std::span<const std::byte> bytes) {
  for (std::size_t i = 0; i < bytes.size(); i += sizeof(float))
    if (load<float>(bytes.subspan(i)) == 0) return false;
  return true;
}

// U7, C, E, D1, D3 and D4 of a codebook tensor.
Result<void> decode_codebook(const File& file, std::uint32_t number) {
  const ItemView view = file.footer().item(number);
  const TouchedItem* const touched = CDNA_TRY(file.touch(number));
  if (!touched->filters_known) return check_filters(view, touched->entries);
  bool finite = true;
  CodebookStatements statements(view);
  const auto look = [&](const wire::Plane& plane, std::uint64_t block, std::span<const std::byte> values) {
    if (plane.role() == kColumnScale) finite = finite && has_no_zero(values);
    if (plane.role() != kCodes) finite = finite && is_finite(static_cast<DType>(plane.dtype()), values);
    statements.add(plane, block, values);
  };
  CDNA_TRY(read_planes(file, number, look));
  const bool declared = (view.item->optional_features() & kOptionalNonfinite) != 0;
  if (!finite && !declared)
    return file.placed(
        fail(Code::malformed, "D1",
             "a codebook entry, scale, offset, outlier or part of the matrix of low rank is not finite, or a column "
             "scale is 0, and the item does not say so"),
        number);
  return statements.check(file, number);
}

// C, E and D2 of an exact tensor, an asset or the metadata; M of the metadata.
Result<void> decode_exact(const File& file, std::uint32_t number) {
  const ItemView view = file.footer().item(number);
  const bool metadata = view.item->kind() == kMetadata;
  const std::uint64_t blocks = view.planes[0].block_count();
  const auto reader = CDNA_TRY(BlockReader::create(file, number, 0, blocks));
  BulkHasher hasher;
  std::vector<std::byte> content;
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const Block block = CDNA_TRY(reader->fetch(i));
    hasher.update(block.data);
    if (metadata) content.insert(content.end(), block.data.begin(), block.data.end());
  }
  if (metadata) {
    if (auto parsed = parse_metadata(content); !parsed) return file.placed(std::move(parsed).error(), number);
  }
  const std::span<const std::byte> recorded = bytes_in(view.item->source_digest());
  if (!all_zero(recorded) && digest_in(view.item->source_digest()) != hasher.finish()) {
    return file.placed(fail(Code::corrupt, "D2", "the content does not match its source digest"), number);
  }
  return {};
}

// A reader's source, which stays the reader's.
class BorrowedSource final : public Source {
 public:
  explicit BorrowedSource(const Source& source) : source_(source) {}
  std::uint64_t size_bytes() const override { return source_.size_bytes(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return source_.read_at(offset, out);
  }
  std::string_view name() const override { return source_.name(); }
  std::string_view backend() const override { return source_.backend(); }
  std::string_view reason() const override { return source_.reason(); }

 private:
  const Source& source_;
};

// ---- The check ----

class Checker {
 public:
  Checker(const FsckOptions& options, FsckReport& report)
      : options_(options), report_(report), pool_(options.threads) {}

  void run(std::unique_ptr<Source> source) {
    OpenOptions open_options;
    open_options.trust = Trust::strict;  // Every byte that is judged is a private copy.
    open_options.expected_root = options_.expected_root;
    open_options.limits = options_.limits;
    auto file = File::open(std::move(source), open_options, File::Head::unchecked);
    if (!file) {
      report_.complete = file.error().code == Code::root_mismatch;  // Whole as far as was looked.
      add(std::move(file).error(), {});
      return;
    }
    file_ = *std::move(file);
    report_.complete = true;
    report_.root = file_->root();
    report_.item_count = file_->footer().item_count();
    if (auto head = file_->check_head(); !head) {
      report_.complete = false;
      head.error().file = file_->source().name();
      add(std::move(head).error(), {0, kHeadBytes});
    }
    check_items();
    if (options_.level == FsckLevel::deep) check_deep();
    sort_problems();
  }

 private:
  // Of section 16.2. Problems are found in another order: all digests first, then items are decoded side by side.
  enum class Step : std::uint8_t { open, items, values, gaps };

  struct Place {
    Step step = Step::open;
    std::uint32_t item = 0;
    std::size_t problem = 0;
  };

  void sort_problems() {
    std::stable_sort(places_.begin(), places_.end(), [](const Place& a, const Place& b) {
      return std::tie(a.step, a.item) < std::tie(b.step, b.item);
    });
    std::vector<FsckProblem> sorted;
    sorted.reserve(places_.size());
    for (const Place& place : places_) sorted.push_back(std::move(report_.problems[place.problem]));
    report_.problems = std::move(sorted);
  }

  void check_items() {
    no_index_.assign(file_->footer().item_count(), false);
    bad_blocks_.assign(file_->footer().item_count(), false);
    for (std::uint32_t item = 0; item < file_->footer().item_count() && !stopped(); ++item) {
      const ItemView view = file_->footer().item(item);
      if (auto touched = file_->touch(item); !touched) {
        no_index_[item] = true;
        const std::uint64_t begin = view.item->index_offset();
        add(std::move(touched).error(), {begin, begin + sizeof(wire::IndexEntry) * view.item->entry_count()},
            Step::items, item);
        continue;
      }
      if (options_.level != FsckLevel::quick) check_blocks(item, view);
      if (!check_supported(view)) ++report_.unsupported_count;
    }
  }

  // Of one block. Whole errors would take many times the space that a bad block takes in a hostile file.
  struct Failure {
    std::uint32_t plane;
    std::uint32_t error;  // Number in `errors`, or one of the following.
    std::uint64_t block;
  };
  static constexpr std::uint32_t kDamaged = ~std::uint32_t{0};        // B1.
  static constexpr std::uint32_t kNotListed = ~std::uint32_t{0} - 1;  // Operational, beyond kProblemsMax.

  void check_blocks(std::uint32_t item, const ItemView& view) {
    std::vector<std::vector<std::byte>> buffers(pool_.size());
    std::vector<Failure> failures;
    std::vector<Error> errors;
    std::mutex mutex;
    for (std::uint32_t plane = 0; plane < view.planes.size(); ++plane) {
      const auto check_block = [&](std::size_t block, unsigned worker) -> Result<void> {
        if (stopped()) return {};
        std::vector<std::byte>& buffer = buffers[worker];
        buffer.resize(std::max<std::size_t>(buffer.size(), entry_of(item, plane, block).stored_length()));
        auto bytes = file_->stored_block(touched_plane(item, plane), block, buffer);
        if (bytes) return {};
        const std::lock_guard lock(mutex);
        const bool damaged = bytes.error().code == Code::corrupt;
        const bool listed = !damaged && errors.size() < kProblemsMax;
        failures.push_back({plane,
                            damaged  ? kDamaged
                            : listed ? static_cast<std::uint32_t>(errors.size())
                                     : kNotListed,
                            block});
        if (listed) errors.push_back(std::move(bytes).error());
        return {};
      };
      if (auto result = pool_.run(view.planes[plane].block_count(), check_block); !result)
        add(std::move(result).error(), {});
      report_.blocks_checked += view.planes[plane].block_count();
      tell_progress(view.planes[plane].stored_length());
    }
    std::sort(failures.begin(), failures.end(), [](const Failure& a, const Failure& b) {
      return std::tie(a.plane, a.block) < std::tie(b.plane, b.block);
    });
    bad_blocks_[item] = !failures.empty();
    for (const Failure& failure : failures) report_failure(item, view, failure, errors);
  }

  void report_failure(std::uint32_t item, const ItemView& view, const Failure& failure, std::vector<Error>& errors) {
    if (failure.error == kNotListed) {
      report_.operational_failure = true;
      ++report_.problem_count;
      return;
    }
    const wire::IndexEntry& entry = entry_of(item, failure.plane, failure.block);
    const std::uint64_t begin = view.planes[failure.plane].offset() + entry.offset();
    // A damaged block is remembered as such by the file, which gives the same error again without reading.
    Error error = failure.error == kDamaged
                      ? file_->stored_block(touched_plane(item, failure.plane), failure.block, {}).error()
                      : std::move(errors[failure.error]);
    add(std::move(error), {begin, begin + entry.stored_length()}, Step::items, item);
  }

  void check_deep() {
    std::vector<Result<void>> results(file_->footer().item_count());
    const auto decode = [&](std::size_t number, unsigned) -> Result<void> {
      const auto item = static_cast<std::uint32_t>(number);
      const ItemView view = file_->footer().item(item);
      const bool plain = view.item->kind() <= kMetadata;
      if (stopped() || !plain || no_index_[item] || bad_blocks_[item] || !check_supported(view)) return {};
      results[number] = view.type == kCodebookEncoding && view.item->kind() == kTensor ? decode_codebook(*file_, item)
                                                                                       : decode_exact(*file_, item);
      return {};
    };
    if (auto result = pool_.run(results.size(), decode); !result) add(std::move(result).error(), {});
    for (std::uint32_t item = 0; item < results.size(); ++item) {
      if (results[item]) continue;
      Error error = std::move(results[item]).error();
      if (std::string_view(error.rule) == "U7") {
        ++report_.unsupported_count;
        continue;
      }
      const Step step = error.rule[0] == 'D' ? Step::values : Step::items;
      add(std::move(error), extent_of(item), step, item);
    }
    check_gaps_and_records();
  }

  // Everything between the head and the tail that is no block, index or footer: zeros, or a record.
  void check_gaps_and_records() {
    std::uint64_t position = kHeadBytes;
    for (std::uint32_t item = 0; item < file_->footer().item_count() && !stopped(); ++item) {
      const ItemView view = file_->footer().item(item);
      for (std::uint32_t plane = 0; plane < view.planes.size(); ++plane) check_plane_gaps(item, plane, position);
      if (view.item->entry_count() > 0) {
        check_gap(position, view.item->index_offset(), item);
        position = view.item->index_offset() + sizeof(wire::IndexEntry) * view.item->entry_count();
      }
      const std::uint64_t record = align_up(position, kPacketAlignment);
      check_gap(position, record, item);
      position = check_record(item, record);
    }
    const std::uint64_t footer_end = file_->footer().offset() + file_->footer().size_bytes();
    check_gap(footer_end, align_up(footer_end, kPacketAlignment), report_.item_count);
  }

  void check_plane_gaps(std::uint32_t item, std::uint32_t plane_number, std::uint64_t& position) {
    const wire::Plane& plane = file_->footer().item(item).planes[plane_number];
    if (plane.stored_length() == 0) return;
    check_gap(position, plane.offset(), item);
    position = plane.offset();
    if (plane.layout() != kContiguous && !no_index_[item]) {
      for (std::uint64_t block = 0; block < plane.block_count(); ++block) {
        const wire::IndexEntry& entry = entry_of(item, plane_number, block);
        check_gap(position, plane.offset() + entry.offset(), item);
        position = plane.offset() + entry.offset() + entry.stored_length();
      }
    }
    position = plane.offset() + plane.stored_length();
  }

  void check_gap(std::uint64_t begin, std::uint64_t end, std::uint64_t item) {
    std::vector<std::byte> buffer(std::min<std::uint64_t>(end - begin, kReadBytes));
    for (std::uint64_t at = begin; at < end; at += buffer.size()) {
      const std::span<std::byte> part = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), end - at));
      if (auto result = file_->source().read_at(at, part); !result)
        return add(std::move(result).error(), {at, at + part.size()}, Step::gaps);
      const auto found = std::find_if(part.begin(), part.end(), [](std::byte byte) { return byte != std::byte{0}; });
      if (found == part.end()) continue;
      const std::uint64_t offset = at + static_cast<std::uint64_t>(found - part.begin());
      Error error = fail(Code::corrupt, "G1", "a byte between blocks is not zero", offset);
      if (item < report_.item_count) error = file_->placed(std::move(error), static_cast<std::uint32_t>(item));
      error.file = file_->source().name();
      return add(std::move(error), {begin, end}, Step::gaps);
    }
  }

  // Returns the record's end.
  std::uint64_t check_record(std::uint32_t item, std::uint64_t offset) {
    const std::vector<std::byte> expected = append_record(file_->footer().item(item), item, offset);
    std::vector<std::byte> found(expected.size());
    const Extent extent{offset, offset + expected.size()};
    if (auto result = file_->source().read_at(offset, found); !result) {
      add(std::move(result).error(), extent, Step::gaps);
    } else if (found != expected) {
      add(file_->placed(fail(Code::corrupt, "R1", "the record is not the copy of the item that it must be", offset),
                        item),
          extent, Step::gaps);
    }
    return extent.end;
  }

  // Requires: the item's index was checked before, without an error.
  TouchedPlane touched_plane(std::uint32_t item, std::uint32_t plane) const { return *file_->touch(item, plane); }

  const wire::IndexEntry& entry_of(std::uint32_t item, std::uint32_t plane, std::uint64_t block) const {
    return touched_plane(item, plane).entry(block);
  }

  Extent extent_of(std::uint32_t item) const {
    Extent extent;
    for (const wire::Plane& plane : file_->footer().item(item).planes) {
      if (plane.stored_length() == 0) continue;
      if (extent.end == 0) extent.begin = plane.offset();
      extent.end = plane.offset() + plane.stored_length();
    }
    return extent;
  }

  void add(Error error, Extent extent, Step step = Step::open, std::uint32_t item = 0) {
    if (is_operational(error.code)) report_.operational_failure = true;
    ++report_.problem_count;
    if (!report_.problems.empty()) {
      FsckProblem& last = report_.problems.back();
      const bool same_run = std::string_view(error.rule) == "B1" && std::string_view(last.error.rule) == "B1" &&
                            error.item == last.error.item && error.plane == last.error.plane &&
                            extent.begin >= last.end && extent.begin - last.end < kPacketAlignment;
      if (same_run) {
        last.end = extent.end;
        return;
      }
    }
    if (report_.problems.size() >= kProblemsMax) return;
    places_.push_back({step, item, report_.problems.size()});
    report_.problems.push_back({std::move(error), extent.begin, extent.end});
  }

  bool stopped() {
    if (options_.stop == nullptr || !options_.stop->load(std::memory_order_relaxed)) return false;
    stop_seen_.store(true);
    return true;
  }

  void tell_progress(std::uint64_t bytes) {
    bytes_done_ += bytes;
    if (options_.progress) options_.progress(bytes_done_, file_->tail().file_length());
  }

 public:
  bool stop_seen() const { return stop_seen_.load(); }

 private:
  const FsckOptions& options_;
  FsckReport& report_;
  ThreadPool pool_;
  std::shared_ptr<const File> file_;
  std::vector<bool> no_index_;    // Items whose index is damaged: where their blocks lie is not known.
  std::vector<bool> bad_blocks_;  // Items that are not decoded.
  std::vector<Place> places_;     // Of the report's problems.
  std::uint64_t bytes_done_ = 0;
  std::atomic<bool> stop_seen_{false};
};

// `source` gives the source, and may throw std::bad_alloc.
template <class GiveSource>
FsckReport check(const FsckOptions& options, GiveSource&& source) {
  FsckReport report;
  const auto done = no_throw([&]() -> Result<void> {
    Checker checker(options, report);
    checker.run(source());
    CDNA_CHECK(!checker.stop_seen(), Code::cancelled, "", "stopped on request");
    return {};
  });
  if (!done) {
    report.operational_failure = true;
    ++report.problem_count;
    try {
      report.problems.push_back({done.error(), 0, 0});
    } catch (const std::bad_alloc&) {  // The flag and the count say it.
    }
  }
  report.valid = report.problem_count == 0;
  return report;
}

}  // namespace

FsckReport fsck(std::unique_ptr<Source> source, const FsckOptions& options) {
  return check(options, [&] { return std::move(source); });
}

FsckReport fsck(const Reader& reader, const FsckOptions& options) {
  return check(options, [&]() -> std::unique_ptr<Source> { return std::make_unique<BorrowedSource>(reader.source()); });
}

}  // namespace cdna
