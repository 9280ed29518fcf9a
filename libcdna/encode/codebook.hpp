// A codebook that has been decided on, with the tables that the kernels look things up in.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/codebook.h"

namespace cdna {

class Codebook {
 public:
  // Entries: 1..2^bits binary16 numbers, ascending, finite; the last one is repeated up to 2^bits, and never chosen
  // beyond its first place. bits: 1..8.
  Codebook(std::span<const std::uint16_t> entries, std::uint32_t bits);

  std::uint32_t bits() const { return tables_->bits; }
  std::span<const std::uint16_t> halves() const { return {tables_->halves, std::size_t{1} << bits()}; }
  std::span<const float> values() const { return {tables_->values, std::size_t{1} << bits()}; }
  const cdna_codebook& tables() const { return *tables_; }

  // The largest magnitude of an entry.
  float magnitude() const;
  // For what has scale 0: the first entry that is not negative, so that it decodes to +0; else the last entry.
  std::uint8_t code_of_zero() const;

 private:
  void fill_tree(std::span<const float> midpoints);
  bool fill_cells(std::span<const float> midpoints, std::uint32_t cell_count);

  std::unique_ptr<cdna_codebook> tables_;
};

}  // namespace cdna
