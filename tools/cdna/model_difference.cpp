// By digest where there are digests, of blocks that are as their digests say; else element by element.
#include "tools/cdna/model_difference.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "cdna/convert.hpp"
#include "tools/interrupt.hpp"
#include "tools/parallel.hpp"
#include "tools/source_digest.hpp"
#include "tools/text.hpp"

namespace cdna::tools {
namespace {

constexpr std::array<std::string_view, 8> kNames{"identical bytes", "same source", "decoded equal", "within tolerance",
                                                 "different",       "only in A",   "only in B",     "not compared"};

bool same_planes(const Item& a, const Item& b) {
  if (a.plane_count() != b.plane_count() || a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (std::uint32_t i = 0; i < a.plane_count(); ++i) {
    const PlaneInfo x = a.plane(i);
    const PlaneInfo y = b.plane(i);
    const bool same = x.role == y.role && x.dtype == y.dtype && x.bits == y.bits && x.scope == y.scope &&
                      x.layout == y.layout && x.group == y.group && x.rows == y.rows &&
                      x.row_entries == y.row_entries && x.rows_per_block == y.rows_per_block &&
                      x.block_count == y.block_count && x.stored_bytes == y.stored_bytes;
    if (!same) return false;
  }
  return true;
}

// The index has the digest of every block. What no block holds, an empty item, is equal by its planes.
bool same_stored_bytes(const Item& a, const Item& b) {
  return a.type() == b.type() && same_planes(a, b) && a.index_digest() == b.index_digest();
}

bool is_exact(const ComparedTensor& tensor) { return !tensor.stored || tensor.encoding == "cdna.exact"; }

// Whether both were made of the same bytes, where their digests are recorded.
std::optional<bool> same_source(const ComparedTensor& a, const ComparedTensor& b) {
  const auto digest_a = a.source_digest();
  const auto digest_b = b.source_digest();
  return digest_a && digest_b ? std::optional(*digest_a == *digest_b) : std::nullopt;
}

// Checks the blocks of a container's items against their digests, each item once, aliases with their tensor. Any thread
// may call it.
class BlockCheck {
 public:
  // Errors: those of Item::verify().
  Result<void> verify(const Item& item) {
    Outcome& outcome = outcome_of(item.number());
    std::call_once(outcome.once, [&] { outcome.result = item.verify(); });
    return outcome.result;
  }

 private:
  struct Outcome {
    std::once_flag once;
    Result<void> result;
  };

  Outcome& outcome_of(std::uint32_t number) {
    const std::lock_guard lock(mutex_);
    return outcomes_[number];
  }

  std::mutex mutex_;
  std::map<std::uint32_t, Outcome> outcomes_;  // By the item's number; entries stay where they are.
};

// Of one container each.
struct BlockChecks {
  BlockCheck a;
  BlockCheck b;

  // Digests tell nothing of bytes that do not agree with them.
  Result<void> verify(const Item& item_a, const Item& item_b, const std::atomic<bool>& stop) {
    if (stop.load()) return stopped();
    if (auto result = a.verify(item_a); !result) return result;
    if (stop.load()) return stopped();
    return b.verify(item_b);
  }
};

// Compares one tensor that both sides have.
class TensorPair {
 public:
  struct Side {
    const ComparedModel& model;
    std::size_t tensor;
    const ComparedTensor& info() const { return model.tensors()[tensor]; }
  };

  TensorPair(Side a, Side b, const Tolerance& tolerance, BlockChecks& checks, const std::atomic<bool>& stop,
             ByteObserver observer)
      : a_(a), b_(b), tolerance_(tolerance), checks_(checks), stop_(stop), observer_(std::move(observer)) {}

  void compare(TensorComparison& out) {
    const ComparedTensor& a = a_.info();
    const ComparedTensor& b = b_.info();
    const bool same_kind = a.dtype == b.dtype && a.shape == b.shape;
    out.same_source = tools::same_source(a, b);
    if (same_kind && a.stored && b.stored && same_stored_bytes(*a.stored, *b.stored)) {
      set_by_digest(Verdict::identical_bytes, out);
    } else if (same_kind && a.stored && b.stored && is_exact(a) && is_exact(b) && out.same_source == true) {
      set_by_digest(Verdict::same_source, out);
    } else if (!same_kind && !(a.shape == b.shape && is_float(a.dtype) && is_float(b.dtype))) {
      out.verdict = Verdict::different;
    } else if (auto result = compare_elements(out); !result) {
      set_error(std::move(result).error(), out);
    }
  }

 private:
  // What digests say of both, if the blocks agree with theirs. Requires: both are stored.
  void set_by_digest(Verdict verdict, TensorComparison& out) {
    out.verdict = verdict;
    if (auto result = checks_.verify(*a_.info().stored, *b_.info().stored, stop_); !result)
      set_error(std::move(result).error(), out);
  }

  static void set_error(Error error, TensorComparison& out) {
    out.verdict = Verdict::not_compared;
    out.error = std::move(error);
  }

  Result<void> compare_elements(TensorComparison& out) {
    const ComparedTensor& a = a_.info();
    const ComparedTensor& b = b_.info();
    auto stream_a = a_.model.tensor_stream(a_.tensor);
    if (!stream_a) return std::move(stream_a).error();
    auto stream_b = b_.model.tensor_stream(b_.tensor);
    if (!stream_b) return std::move(stream_b).error();
    SourceDigest digest_a;
    SourceDigest digest_b;
    // The bytes of a model tell whether a tensor of codes was made of them.
    const bool hash_a = !a.stored && !is_exact(b);
    const bool hash_b = !b.stored && !is_exact(a);
    const ByteObserver seen_a = [&](std::span<const std::byte> bytes) {
      if (hash_a) digest_a.update(bytes);
      observer_(bytes);
    };
    const ByteObserver seen_b = [&](std::span<const std::byte> bytes) {
      if (hash_b) digest_b.update(bytes);
    };
    std::uint64_t elements = 1;
    for (const std::uint64_t dim : a.shape) elements *= dim;
    auto difference = compare_tensors(elements, *std::move(stream_a), *std::move(stream_b), stop_, seen_a, seen_b);
    if (!difference) return std::move(difference).error();
    if (hash_a && b.source_digest()) out.same_source = digest_a.finish() == *b.source_digest();
    if (hash_b && a.source_digest()) out.same_source = digest_b.finish() == *a.source_digest();
    if (is_exact(a) && is_exact(b) && a.dtype == b.dtype) out.same_source = difference->differing == 0;
    out.verdict = verdict_of(*difference);
    out.difference = *difference;
    return {};
  }

  Verdict verdict_of(const TensorDifference& difference) const {
    const ComparedTensor& a = a_.info();
    const ComparedTensor& b = b_.info();
    if (a.dtype != b.dtype) return Verdict::different;
    if (difference.differing == 0)
      return is_exact(a) && is_exact(b) ? Verdict::identical_bytes : Verdict::decoded_equal;
    return tolerance_.allows(difference) ? Verdict::within_tolerance : Verdict::different;
  }

  Side a_;
  Side b_;
  const Tolerance& tolerance_;
  BlockChecks& checks_;
  const std::atomic<bool>& stop_;
  ByteObserver observer_;
};

// Calls `visit` for every name of two sorted lists, with the numbers of the elements that have it.
template <class List, class NameOf, class Visit>
void merge_by_name(const List& a, const List& b, NameOf name_of, Visit visit) {
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() || j < b.size()) {
    const bool take_a = j == b.size() || (i < a.size() && name_of(a[i]) <= name_of(b[j]));
    const bool take_b = i == a.size() || (j < b.size() && name_of(b[j]) <= name_of(a[i]));
    visit(take_a ? std::optional(i++) : std::nullopt, take_b ? std::optional(j++) : std::nullopt);
  }
}

struct Pair {
  std::optional<std::size_t> a;
  std::optional<std::size_t> b;
};

bool is_wanted(const std::vector<std::string>& globs, std::string_view name) {
  return globs.empty() ||
         std::any_of(globs.begin(), globs.end(), [name](const std::string& glob) { return matches_glob(glob, name); });
}

Result<bool> same_content(ByteStream& a, ByteStream& b, const std::atomic<bool>& stop) {
  while (true) {  // Both sides come in parts of the same size.
    if (stop.load()) return stopped();
    const auto part_a = a.next();
    if (!part_a) return part_a.error();
    const auto part_b = b.next();
    if (!part_b) return part_b.error();
    if (!std::equal(part_a->begin(), part_a->end(), part_b->begin(), part_b->end())) return false;
    if (part_a->empty()) return true;
  }
}

class ModelPair {
 public:
  ModelPair(const ComparedModel& a, const ComparedModel& b, const DifferenceOptions& options,
            const std::atomic<bool>& stop)
      : a_(a), b_(b), options_(options), stop_(stop) {}

  ModelDifference compare() && {
    compare_tensors();
    if (options_.tensors_only || !options_.globs.empty()) return std::move(out_);
    compare_assets();
    compare_metadata();
    return std::move(out_);
  }

 private:
  void compare_tensors() {
    std::vector<Pair> pairs;
    merge_by_name(
        a_.tensors(), b_.tensors(), [](const ComparedTensor& tensor) { return std::string_view(tensor.name); },
        [&](std::optional<std::size_t> i, std::optional<std::size_t> j) {
          const ComparedTensor& any = i ? a_.tensors()[*i] : b_.tensors()[*j];
          if (!is_wanted(options_.globs, any.name)) return;
          pairs.push_back({i, j});
          if (i && j) all_bytes_ += a_.tensors()[*i].source_bytes;
        });
    out_.tensors.resize(pairs.size());
    for_each_index(pairs.size(), options_.threads, [&](std::size_t n) { compare_tensor(pairs[n], out_.tensors[n]); });
  }

  void compare_tensor(const Pair& pair, TensorComparison& out) {
    if (pair.a) out.a = &a_.tensors()[*pair.a];
    if (pair.b) out.b = &b_.tensors()[*pair.b];
    out.name = out.a != nullptr ? out.a->name : out.b->name;
    if (out.a == nullptr || out.b == nullptr) {
      out.verdict = out.b == nullptr ? Verdict::only_in_a : Verdict::only_in_b;
      return;
    }
    // Streams of codes count eight bytes for each value: what is done is told in whole tensors and bytes of A alike.
    const double share = is_exact(*out.a) ? 1 : static_cast<double>(bits_of(out.a->dtype)) / 64;
    std::uint64_t told = 0;
    const ByteObserver observer = [&](std::span<const std::byte> bytes) {
      const auto part = static_cast<std::uint64_t>(static_cast<double>(bytes.size()) * share);
      told += part;
      advance(part);
    };
    TensorPair({a_, *pair.a}, {b_, *pair.b}, options_.tolerance, checks_, stop_, observer).compare(out);
    advance(out.a->source_bytes - std::min(told, out.a->source_bytes));
  }

  void advance(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    done_bytes_ += bytes;
    if (options_.progress) options_.progress(done_bytes_, all_bytes_);
  }

  void compare_assets() {
    merge_by_name(
        a_.assets(), b_.assets(), [](const ComparedAsset& asset) { return std::string_view(asset.name); },
        [&](std::optional<std::size_t> i, std::optional<std::size_t> j) {
          PartComparison& out = out_.assets.emplace_back();
          out.name = i ? a_.assets()[*i].name : b_.assets()[*j].name;
          if (i && j) {
            compare_asset(*i, *j, out);
          } else {
            out.verdict = i ? Verdict::only_in_a : Verdict::only_in_b;
          }
        });
  }

  void compare_asset(std::size_t i, std::size_t j, PartComparison& out) {
    const ComparedAsset& a = a_.assets()[i];
    const ComparedAsset& b = b_.assets()[j];
    out.verdict = Verdict::different;
    if (a.media_type != b.media_type || a.size_bytes != b.size_bytes) return;
    const auto same = same_asset(i, j);
    if (!same) {
      out.verdict = Verdict::not_compared;
      out.error = same.error();
    } else if (*same) {
      out.verdict = Verdict::identical_bytes;
    }
  }

  Result<bool> same_asset(std::size_t i, std::size_t j) {
    const ComparedAsset& a = a_.assets()[i];
    const ComparedAsset& b = b_.assets()[j];
    if (!a.stored || !b.stored || !same_stored_bytes(*a.stored, *b.stored))
      return same_content(*a_.asset_stream(i), *b_.asset_stream(j), stop_);
    if (auto result = checks_.verify(*a.stored, *b.stored, stop_); !result) return std::move(result).error();
    return true;
  }

  void compare_metadata() {
    const auto a = a_.metadata();
    const auto b = b_.metadata();
    if (!a || !b) {
      out_.metadata.push_back({"", Verdict::not_compared, a ? b.error() : a.error()});
      return;
    }
    const bool own_too = a_.is_container() && b_.is_container();
    const auto entries_of = [own_too](const Metadata& metadata) {
      std::vector<const Metadata::value_type*> entries;
      for (const auto& entry : metadata) {
        if (own_too || entry.first.compare(0, 5, "cdna.") != 0) entries.push_back(&entry);
      }
      return entries;
    };
    const auto entries_a = entries_of(*a);
    const auto entries_b = entries_of(*b);
    merge_by_name(
        entries_a, entries_b, [](const auto* entry) { return std::string_view(entry->first); },
        [&](std::optional<std::size_t> i, std::optional<std::size_t> j) {
          PartComparison& out = out_.metadata.emplace_back();
          out.name = i ? entries_a[*i]->first : entries_b[*j]->first;
          out.verdict = !j ? Verdict::only_in_a : Verdict::only_in_b;
          if (i && j) {
            out.verdict = same_value(entries_a[*i]->second, entries_b[*j]->second) ? Verdict::identical_bytes
                                                                                   : Verdict::different;
          }
        });
  }

  static bool same_value(const MetadataValue& a, const MetadataValue& b) {
    const auto* const x = std::get_if<double>(&a);
    const auto* const y = std::get_if<double>(&b);
    if (x != nullptr && y != nullptr) return std::bit_cast<std::uint64_t>(*x) == std::bit_cast<std::uint64_t>(*y);
    return a == b;
  }

  const ComparedModel& a_;
  const ComparedModel& b_;
  const DifferenceOptions& options_;
  const std::atomic<bool>& stop_;
  BlockChecks checks_;
  ModelDifference out_;
  std::mutex mutex_;
  std::uint64_t done_bytes_ = 0;
  std::uint64_t all_bytes_ = 0;
};

// Whether the verdict of any part is one of those.
template <class Predicate>
bool any_verdict(const ModelDifference& difference, Predicate predicate) {
  const auto any = [&](const auto& parts) {
    return std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return predicate(part.verdict); });
  };
  return any(difference.tensors) || any(difference.assets) || any(difference.metadata);
}

}  // namespace

std::string_view name_of(Verdict verdict) { return kNames[static_cast<std::size_t>(verdict)]; }

bool is_same(Verdict verdict) { return verdict <= Verdict::within_tolerance; }

bool Tolerance::allows(const TensorDifference& difference) const {
  if (!difference.numeric || (!snr_db_min && !max_abs) || !std::isfinite(difference.max_abs)) return false;
  const auto snr = difference.snr_db();
  const bool no_error = difference.sum_squared_diff == 0;
  const bool near_enough = !snr_db_min || no_error || (snr && *snr >= *snr_db_min);
  return near_enough && (!max_abs || difference.max_abs <= *max_abs);
}

std::map<Verdict, std::uint64_t> ModelDifference::counts() const {
  std::map<Verdict, std::uint64_t> counts;
  for (const TensorComparison& tensor : tensors) ++counts[tensor.verdict];
  return counts;
}

bool ModelDifference::same() const {
  return !any_verdict(*this, [](Verdict verdict) { return !is_same(verdict); });
}

bool ModelDifference::trouble() const {
  return any_verdict(*this, [](Verdict verdict) { return verdict == Verdict::not_compared; });
}

ModelDifference compare_models(const ComparedModel& a, const ComparedModel& b, const DifferenceOptions& options,
                               const std::atomic<bool>& stop) {
  return ModelPair(a, b, options, stop).compare();
}

}  // namespace cdna::tools
