// The layer chain of helix-substrate: SHAKE256 over tensors in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/receipt.hpp"
#include "libcdna/import/helix/python_json.hpp"

namespace cdna {

struct ChainLayer {
  std::string name;
  std::string base_digest;     // 64 hexadecimal digits.
  std::string sidecar_digest;  // The same, or "none".
  std::string chain_digest;
  std::uint64_t base_bytes = 0;
  std::uint64_t sidecar_bytes = 0;
};

struct LayerChain {
  std::string root;  // 128 hexadecimal digits.
  std::vector<ChainLayer> layers;
};

// Reads {"version": 1, "root_receipt", "layer_count", "layers": [...]}. Errors: malformed, unsupported (version).
Result<LayerChain> parse_layer_chain(const PythonJson& json);

// A range of bytes that a chain hashes, by a function that reads any part of it.
struct ChainBytes {
  std::uint64_t size_bytes = 0;
  std::function<Result<void>(std::uint64_t offset, std::span<std::byte> out)> read;
};

// Where a chain's bytes come from.
class ChainSource {
 public:
  virtual ~ChainSource() = default;
  // The bytes of `name`, of several the ones with `expected_bytes`; nothing where there are none. Errors: io, those of
  // readers.
  virtual Result<std::optional<ChainBytes>> find(const std::string& name, std::uint64_t expected_bytes) const = 0;
};

// Opens what verify_receipt() takes as a source.
Result<std::unique_ptr<ChainSource>> open_chain_source(const std::string& path, FileSystem& file_system);

// Fills the report: layers, hash_ok, problems. `source` may be null. Errors: those of the source.
Result<void> check_layer_chain(const LayerChain& chain, const ChainSource* source, ReceiptReport& report);

}  // namespace cdna
