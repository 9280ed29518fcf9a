// verify_receipt: tells the kinds apart, and verifies execution receipts.
#include "cdna/receipt.hpp"

#include <array>
#include <utility>

#include "cdna/digest.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/import/helix/layer_chain.hpp"
#include "libcdna/import/helix/python_json.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::string_view kExecutionSchema = "execution_receipt:";
constexpr std::string_view kHashKey = "receipt_sha256";

std::optional<ReceiptKind> kind_of(const PythonJson& json) {
  const auto schema = json.string_of("schema");
  if (schema && schema->starts_with(kExecutionSchema)) return ReceiptKind::execution;
  if (json.find("root_receipt") != nullptr && json.find("layers") != nullptr) return ReceiptKind::layer_chain;
  return std::nullopt;
}

// What the original's validate_execution_receipt() asks for.
void check_fields(const PythonJson& json, std::vector<std::string>& problems) {
  constexpr std::array kRequired{"schema", "plan_sha256", "operations", "behavioral_gate_verdict", "timestamp_utc"};
  for (const char* key : kRequired) {
    if (json.find(key) == nullptr) problems.push_back(std::string("the key \"") + key + "\" is missing");
  }
  const PythonJson* const operations = json.find("operations");
  if (operations == nullptr) return;
  if (operations->kind != PythonJson::Kind::array) return problems.push_back("\"operations\" is no array");
  for (std::size_t i = 0; i < operations->items.size(); ++i) {
    if (operations->items[i].find("op_name") == nullptr)
      problems.push_back("operation " + std::to_string(i) + " has no \"op_name\"");
  }
}

void check_execution(const PythonJson& json, ReceiptReport& report) {
  check_fields(json, report.problems);
  const auto stated = json.string_of(kHashKey);
  if (!stated) return report.problems.push_back("it has no \"receipt_sha256\": nothing shows that it is whole");
  const std::string content = dump_sorted(json, JsonSpaces::compact, kHashKey);
  const std::string found = to_hex(sha256(std::as_bytes(std::span(content))));
  report.hash_ok = found == *stated;
  if (!report.hash_ok)
    report.problems.push_back("receipt_sha256 is " + escape(quote(*stated)) + "; its content gives " + found);
}

Result<ReceiptReport> verify(std::string_view text, const std::string& source, FileSystem& file_system) {
  CDNA_CHECK(text.size() <= kReceiptBytesMax, Code::limit, "",
             "a receipt of over " + std::to_string(kReceiptBytesMax) + " bytes");
  const PythonJson json = CDNA_TRY(parse_python_json(text));
  const std::optional<ReceiptKind> kind = kind_of(json);
  CDNA_CHECK(kind, Code::malformed, "",
             "no receipt that can be verified: neither \"schema\" \"execution_receipt:...\" nor \"root_receipt\" with "
             "\"layers\"");
  ReceiptReport report;
  report.kind = *kind;
  if (*kind == ReceiptKind::execution) {
    CDNA_CHECK(source.empty(), Code::bad_argument, "", "an execution receipt has no tensors to compare a source with");
    check_execution(json, report);
    return report;
  }
  const LayerChain chain = CDNA_TRY(parse_layer_chain(json));
  std::unique_ptr<ChainSource> tensors;
  if (!source.empty()) tensors = CDNA_TRY(open_chain_source(source, file_system));
  CDNA_TRY(check_layer_chain(chain, tensors.get(), report));
  return report;
}

}  // namespace

std::string_view name_of(ReceiptKind kind) {
  return kind == ReceiptKind::execution ? "execution_receipt" : "layer_chain";
}

bool is_receipt(std::string_view json) {
  if (json.size() > kReceiptBytesMax) return false;
  const auto parsed = parse_python_json(json);
  return parsed && kind_of(*parsed).has_value();
}

Result<ReceiptReport> verify_receipt(std::string_view json, const std::string& source, FileSystem& file_system) {
  return no_throw([&] { return verify(json, source, file_system); });
}

}  // namespace cdna
