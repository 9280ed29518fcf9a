// Receipts that helix-substrate wrote beside its files: whether they are what their own hashes say, and whether a layer
// chain fits its tensors. The hashes have no key: they show damage, not forgery.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/file_system.hpp"

namespace cdna {

inline constexpr std::uint64_t kReceiptBytesMax = std::uint64_t{16} << 20;

enum class ReceiptKind : std::uint8_t {
  execution,    // "execution_receipt:v1": SHA-256 of its own content as Python's json.dumps() spells it.
  layer_chain,  // SHAKE256 over the names and bytes of tensors, each layer on top of the one before.
};
// "execution_receipt", "layer_chain". Static storage.
std::string_view name_of(ReceiptKind kind);

// What became of a layer of a chain.
struct LayerCheck {
  std::string name;         // Raw bytes: escape before printing.
  bool is_found = false;    // Its tensor is in the source. One that is missing fails, whatever the receipt says.
  bool base_ok = false;     // The tensor's digest.
  bool sidecar_ok = false;  // Its sidecar's digest, or neither receipt nor source has one.
  bool chain_ok = false;    // The state of the chain after it: of all layers up to here.
  bool passed() const { return is_found && base_ok && sidecar_ok && chain_ok; }
};

struct ReceiptReport {
  ReceiptKind kind = ReceiptKind::execution;
  bool hash_ok = false;               // receipt_sha256, or the root of the chain.
  bool has_source = false;            // Tensors were looked at.
  std::vector<LayerCheck> layers;     // Of a chain with a source, in its order.
  std::vector<std::string> problems;  // One line each, printable; none where all is well.
  bool passed() const { return problems.empty(); }
};

// Whether a JSON text is a receipt of a kind that verify_receipt() knows. Cost: parses it.
bool is_receipt(std::string_view json);

// Verifies a receipt. `source`, or "": a safetensors file, a Hugging Face folder, or a folder of files NAME.* (.npy:
// their values count; .safetensors: their data; all others whole), whose sidecars are called NAME_sidecar. Without a
// source the root of a chain is compared with the state that its last layer states, and nothing else of it. An
// execution receipt takes no source. What does not agree is a problem of the report, not an error. Errors: malformed
// (not JSON, or no receipt: what is missing), limit (kReceiptBytesMax), unsupported (another version), bad_argument
// (a source for an execution receipt), io, and those of open_model().
Result<ReceiptReport> verify_receipt(std::string_view json, const std::string& source = {},
                                     FileSystem& file_system = posix_file_system());

}  // namespace cdna
