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

Result<void> note_receipts(const std::vector<AssetFile>& assets, std::vector<Note>& notes) {
  for (const AssetFile& asset : assets) {
    const std::uint64_t size = asset.source->size_bytes();
    if (!asset.description.name.ends_with(".json") || size == 0 || size > kReceiptBytesMax) continue;
    std::string text(static_cast<std::size_t>(size), '\0');
    CDNA_TRY(asset.source->read_at(0, std::as_writable_bytes(std::span(text))));
    if (!may_be_receipt(text) || !is_receipt(text)) continue;
    const auto report = verify_receipt(text);
    if (!report) {
      notes.push_back({asset.description.name, "a receipt that cannot be verified: " + report.error().message});
      continue;
    }
    for (const std::string& problem : report->problems)
      notes.push_back({asset.description.name, "a receipt that does not verify: " + problem});
  }
  return {};
}

}  // namespace cdna
