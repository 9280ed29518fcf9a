// How two models differ: tensors, assets, metadata.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/cdna/compared_model.hpp"
#include "tools/cdna/tensor_difference.hpp"

namespace cdna::tools {

// From the strongest sameness to the weakest.
enum class Verdict : std::uint8_t {
  identical_bytes,   // Equal dtype, shape and elements, bit for bit; or equal planes with equal digests of all blocks.
  same_source,       // Both exact, and the digests of their sources are equal: blocks verified, not decoded.
  decoded_equal,     // Stored differently, and every element is decoded to the same bits.
  within_tolerance,  // Not equal, but near enough for the caller.
  different,
  only_in_a,
  only_in_b,
  not_compared,  // It could not be read: see the error.
};
std::string_view name_of(Verdict verdict);  // "identical bytes". Static storage.
bool is_same(Verdict verdict);              // The first four.

// All that are given must hold.
struct Tolerance {
  std::optional<double> snr_db_min;
  std::optional<double> max_abs;
  bool allows(const TensorDifference& difference) const;
};

struct TensorComparison {
  std::string name;
  Verdict verdict = Verdict::not_compared;
  const ComparedTensor* a = nullptr;  // Null where the side has no such tensor.
  const ComparedTensor* b = nullptr;
  std::optional<bool> same_source;             // Of the digests, or bytes, of what both were made of.
  std::optional<TensorDifference> difference;  // Where the elements were read.
  std::optional<Error> error;
};

// An asset or a metadata entry.
struct PartComparison {
  std::string name;
  Verdict verdict = Verdict::not_compared;
  std::optional<Error> error;
};

struct DifferenceOptions {
  std::vector<std::string> globs;  // Only tensors that match one, and then no assets and no metadata.
  bool tensors_only = false;
  Tolerance tolerance;
  unsigned threads = 1;  // 0: one per core. A tensor is the work of one.
  // Called now and then, by one thread at a time, with bytes of the sources done and to do.
  std::function<void(std::uint64_t, std::uint64_t)> progress;
};

struct ModelDifference {
  std::vector<TensorComparison> tensors;  // By name.
  std::vector<PartComparison> assets;     // By name.
  std::vector<PartComparison> metadata;   // By key.

  std::map<Verdict, std::uint64_t> counts() const;  // Of tensors.
  bool same() const;                                // All of it.
  bool trouble() const;                             // Something was not compared.
};

// What is called the same by the digests that containers record has had all its blocks verified, on both sides: damage
// is never the same. Whether the digest of a source is true is cdna-fsck's to say. Against a model in another format
// the metadata that containers have of themselves ("cdna.*") is left out. Memory: some blocks per thread.
ModelDifference compare_models(const ComparedModel& a, const ComparedModel& b, const DifferenceOptions& options,
                               const std::atomic<bool>& stop);

}  // namespace cdna::tools
