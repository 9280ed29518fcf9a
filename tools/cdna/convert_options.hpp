// What cdna convert was asked for.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace cdna::tools {

struct ConvertOptions {
  std::string source;
  std::string destination;
  std::string encoding = "exact";         // Of what nothing else decides; not with a policy or a budget.
  std::optional<std::string> policy;      // Path.
  std::optional<std::string> embeddings;  // Preset.
  std::string codec = "raw";
  std::string nonfinite = "refuse";
  std::optional<std::string> bits_per_weight;  // As written.
  std::optional<std::string> target_size;      // Likewise.
  std::vector<std::string> candidates;
  std::vector<std::string> keep_exact;
  unsigned threads = 0;
  bool explain = false;
  bool force = false;
  bool json = false;
};

}  // namespace cdna::tools
