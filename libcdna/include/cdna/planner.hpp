// Which preset each tensor of a model gets so that all together fit into a number of bytes with the least error.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/preset.hpp"
#include "cdna/reader.hpp"

namespace cdna {

// What storing a tensor in one way costs.
struct OperatingPoint {
  std::uint64_t stored_bytes = 0;  // Planes and index, as WrittenItem counts them.
  double relative_error = 0;       // Sum of squared errors / sum of squared values: t^2 of 1 / SNR; 0: exact.
};

// A tensor's ways of being stored, in any order, and the weight of its relative error in the sum that is minimised.
struct AllocationTensor {
  double weight = 1;  // Its number of elements, for a model of which nothing else is known (see allocate()).
  std::vector<OperatingPoint> points;
};

// The point that a tensor was given, and what its neighbours on the lower convex hull are worth.
struct AllocatedPoint {
  std::size_t point = 0;    // Index into AllocationTensor::points.
  double price_paid = 0;    // Weighted error that each byte of the last step to this point saves; 0 at the smallest.
  double price_wanted = 0;  // The same of the next step, which was not taken; 0 at the best.
};

struct Allocation {
  std::vector<AllocatedPoint> tensors;
  std::uint64_t stored_bytes = 0;
  double weighted_error = 0;  // Sum of weight * relative_error.
  double price = 0;           // Of the first step that did not fit: what a byte more is worth. 0: every step was taken.
};

// Chooses one point for each tensor: at most `budget_bytes` together, with the least sum of weight * relative_error.
//
// Each tensor is reduced to the lower convex hull of its points; from the smallest point of each, the steps along all
// hulls are taken in the order of the error that a byte saves (equal: earlier tensors first). Up to the first step that
// does not fit this is the Lagrangian optimum: no choice of that many bytes has less error. What is left is filled with
// the later steps that fit, so the result is never worse, and more budget never gives more error.
//
// With weight = elements this minimises the mean relative squared error per weight of the model. To first order the
// rise of the log-perplexity is a sum over layers of alpha * t^2, t^2 being the relative squared error (linearity
// theorem: Malinovskii et al. 2024, HIGGS, theorem 1); without data every alpha is 1, and a layer counts by its size.
//
// Requires: each tensor has a point; weights and errors are finite and not negative. Errors: bad_argument (over the
// budget even where every tensor is smallest: the message says the least possible), no_memory.
// Cost: sorting all points. Source: Shoham and Gersho 1988, "Efficient bit allocation for an arbitrary set of
// quantizers".
Result<Allocation> allocate(std::span<const AllocationTensor> tensors, std::uint64_t budget_bytes);

// The least that allocate() can reach, and what it takes for the least error.
struct AllocationRange {
  std::uint64_t bytes_min = 0;
  std::uint64_t bytes_max = 0;
};
AllocationRange allocation_range(std::span<const AllocationTensor> tensors);

// A tensor of which presets are to be tried.
struct TrialTensor {
  std::string name;  // For errors.
  DType dtype = DType::none;
  std::vector<std::uint64_t> shape;
  Role role = Role::other;
  std::vector<Preset> presets;  // Codebook presets only where a writer takes them (Writer::add_codebook).
};

struct TrialOptions {
  Codec codec = Codec::raw;      // Of the file to come; exact-z has its own.
  std::uint64_t values_max = 0;  // Per tensor; 0: 2^20. At least one row is taken.
  unsigned threads = 1;          // Including the caller's, each with a tensor of its own; 0: one per core.
  // When it becomes true, the call fails with Code::cancelled. May be null.
  const std::atomic<bool>* stop = nullptr;
};

// Fills `out` from byte `offset` of a tensor's row-major data. Called from several threads at once; must not throw.
using TrialReader = std::function<Result<void>(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out)>;

// What each preset of each tensor costs: [tensor][preset]. A Writer encodes whole rows, evenly spread over the tensor
// (all of them where there are few), and what it reports is scaled to all rows; bytes are exact for `exact` with codec
// raw. Values that are not finite do not stop a trial, whatever the preset says. The result does not depend on the
// number of threads.
//
// Memory: per thread the rows of one tensor (values_max values, or one row) and what a Writer needs for them.
// Errors: those of the reader; bad_argument, limit, no_memory, cancelled.
Result<std::vector<std::vector<OperatingPoint>>> measure(std::span<const TrialTensor> tensors,
                                                         const TrialReader& reader, const TrialOptions& options = {});

}  // namespace cdna
