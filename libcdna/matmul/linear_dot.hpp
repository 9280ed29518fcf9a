// y = x W^T by dot products, straight from the codes: for few rows of x, and int8.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "libcdna/matmul/row_dot.hpp"
#include "libcdna/matmul/team.hpp"
#include "libcdna/matmul/units.hpp"

namespace cdna {

class LinearDot {
 public:
  LinearDot(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output);
  Result<void> run(Team& team);

  // Scratch memory of each thread.
  static u128 thread_bytes(const Job& job, std::uint64_t rows);

 private:
  // What a thread keeps from unit to unit: what belongs to the part that it is at.
  struct Thread {
    std::size_t part = ~std::size_t{0};
    std::optional<WeightReader> reader;
    std::optional<RowDot> dot;
    std::vector<float> sums;  // [rows of the unit][rows of x]
  };

  Result<void> work(const Unit& unit, Thread& thread);
  Result<void> enter(std::size_t part, Thread& thread) const;
  Result<void> work_cut(const Unit& unit, const Weights& weights, Thread& thread);
  Result<void> work_block(const Unit& unit, const Weights& weights, Thread& thread);
  void store(const Unit& unit, std::uint64_t first, std::uint64_t count, const Thread& thread) const;

  static constexpr std::uint64_t kStoredRows = 64;  // Rows of W whose sums are kept before they go to y.

  const Job& job_;
  std::uint64_t begin_;
  std::uint64_t rows_;
  const Output& output_;
  Units units_;
  std::map<cdna_order, PackedRows> packed_;
  std::vector<Thread> threads_;
};

}  // namespace cdna
