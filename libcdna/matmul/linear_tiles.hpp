// y = x W^T by products of tiles of decoded rows with panels of x.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "libcdna/matmul/team.hpp"
#include "libcdna/matmul/tile.hpp"
#include "libcdna/matmul/units.hpp"

namespace cdna {

class LinearTiles {
 public:
  LinearTiles(const Job& job, const ConstMatrix& x, std::uint64_t begin, std::uint64_t end, const Output& output);
  Result<void> run(Team& team);

  // Scratch memory of each thread.
  static u128 thread_bytes(const Job& job, std::uint64_t rows);

 private:
  // Decoded at a time: what stays in the second-level cache beside as many columns of x.
  static Tile::Shape shape_of(std::uint64_t lanes) { return lanes <= 32 ? kLong : kTall; }
  static constexpr Tile::Shape kLong{32, 1024};
  static constexpr Tile::Shape kTall{64, 256};
  // Rows of W that each piece of x is used for before the next is brought in.
  static constexpr std::uint64_t kRows = 256;

  struct Thread {
    std::size_t part = ~std::size_t{0};
    std::optional<RowGroup> group;
    std::optional<Tile> tile;
    std::vector<float> factors;  // [rows at a time]: Tile::factor_of
    AlignedBuffer<float> sums;   // [kRows][lanes]
  };

  Result<void> work(const Unit& unit, Thread& thread);
  Result<void> work_cut(const Unit& unit, const Weights& weights, Thread& thread);
  Result<void> work_blocks(const Unit& unit, const Weights& weights, Thread& thread);
  void multiply_rows(const Weights& weights, std::span<const WeightRow> rows, Thread& thread) const;
  void multiply_panel(const PackedPanels& packed, const PackedPanels::Panel& panel, std::uint64_t first,
                      std::uint64_t depth, std::size_t rows, const Tile& tile, float* sums) const;
  void store(const Unit& unit, std::uint64_t first, std::uint64_t count, Thread& thread) const;

  const Job& job_;
  const ConstMatrix& x_;
  std::uint64_t begin_;
  std::uint64_t end_;
  const Output& output_;
  Units units_;
  std::uint64_t lanes_ = 0;
  std::map<cdna_order, PackedPanels> packed_;
  std::vector<Thread> threads_;
};

}  // namespace cdna
