// Reads the JSON files that look like receipts.
#include "libcdna/import/helix/receipt_notes.hpp"

#include <string>

#include "cdna/receipt.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// Before anything is parsed: tokenizers are JSON of many megabytes.
bool may_be_receipt(std::string_view text) {
  return text.find("execution_receipt:") != std::string_view::npos ||
         text.find("root_receipt") != std::string_view::npos;
}

}  // namespace

Result<void> note_receipts(std::span<const ModelAsset> assets, const ReadAsset& read, std::vector<std::string>& notes) {
  for (std::size_t i = 0; i < assets.size(); ++i) {
    const ModelAsset& asset = assets[i];
    if (!asset.name.ends_with(".json") || asset.size_bytes == 0 || asset.size_bytes > kReceiptBytesMax) continue;
    std::string text(static_cast<std::size_t>(asset.size_bytes), '\0');
    CDNA_TRY(read(i, std::as_writable_bytes(std::span(text))));
    if (!may_be_receipt(text) || !is_receipt(text)) continue;
    const std::string name = escape(asset.name);
    const auto report = verify_receipt(text);
    if (!report) {
      notes.push_back(name + ": a receipt that cannot be verified: " + report.error().message);
      continue;
    }
    for (const std::string& problem : report->problems)
      notes.push_back(name + ": a receipt that does not verify: " + problem);
  }
  return {};
}

}  // namespace cdna
