// What cdna-inspect shows of a file, gathered once for text and JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cdna/reader.hpp"

namespace cdna::tools {

struct TensorSummary {
  std::string name;
  std::string dtype;
  std::vector<std::uint64_t> shape;
  std::string role;
  std::string encoding;
  // The preset that writes such planes, or "codebook 5-bit g64"; nothing for an encoding of a later version.
  std::optional<std::string> preset;
  std::string codec;           // raw, zstd, brotli or mixed; unknown for a later version's.
  double bits_per_weight = 0;  // Planes and block index; 0 for an empty tensor.
  std::uint64_t stored_bytes = 0;
  std::uint64_t source_bytes = 0;
  std::uint32_t rows_per_block = 0;
  std::uint64_t blocks = 0;  // Of the first plane.
  bool exact = true;
  // Of tensors that are not exact; nothing where it is not known. Without any error there is no ratio, but a relative
  // error of 0.
  std::optional<double> snr_db;
  std::optional<double> max_abs;
  std::optional<double> relative_error;
  std::optional<std::string> unsupported;  // Why this version cannot decode it.

  // What the index and the statistics plane say, where they were to be read.
  std::optional<std::uint64_t> outliers;
  std::optional<double> excess_kurtosis;
  std::optional<double> code_entropy_bits;
  std::optional<std::string> statistics_fault;  // Why they could not be read.
};

struct ModelSummary {
  std::vector<TensorSummary> tensors;                        // In name order.
  std::vector<std::pair<std::string, std::string>> aliases;  // Name, tensor.
  std::vector<Item> assets;
  std::uint64_t ignored_items = 0;
  std::uint64_t source_bytes = 0;
  std::uint64_t stored_bytes = 0;
  double elements = 0;

  double ratio() const {
    return stored_bytes == 0 ? 1 : static_cast<double>(source_bytes) / static_cast<double>(stored_bytes);
  }
  // The tensor of the smallest ratio, or nullptr.
  const TensorSummary* worst() const;
  double bits_per_weight() const { return elements == 0 ? 0 : static_cast<double>(stored_bytes) * 8 / elements; }
};

enum class Detail : bool {
  footer,      // Reads no indices and no blocks.
  statistics,  // Reads the index of each tensor, and its statistics plane.
};

// Of the tensors and aliases whose names match one of the patterns; of all without patterns.
ModelSummary summarize(const Reader& reader, const std::vector<std::string>& globs, Detail detail);

}  // namespace cdna::tools
