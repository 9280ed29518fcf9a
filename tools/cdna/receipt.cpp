// cdna receipt: verifies what helix-substrate wrote beside its files.
#include "cdna/receipt.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "cdna/source.hpp"
#include "tools/cdna/commands.hpp"
#include "tools/exit_code.hpp"

namespace cdna::tools {
namespace {

constexpr const char* kProgram = "cdna receipt verify";

struct Options {
  std::string file;
  std::string source;
};

Result<std::string> read_text(const std::string& path) {
  auto source = open_source(path, Io::pread);
  if (!source) return std::move(source).error();
  if ((*source)->size_bytes() > kReceiptBytesMax) {
    Error error;
    error.code = Code::limit;
    error.message = fmt::format("a receipt of over {} bytes", kReceiptBytesMax);
    error.file = path;
    return error;
  }
  std::string text(static_cast<std::size_t>((*source)->size_bytes()), '\0');
  if (text.empty()) return text;
  if (auto read = (*source)->read_at(0, std::as_writable_bytes(std::span(text))); !read) return std::move(read).error();
  return text;
}

void print_layers(const ReceiptReport& report) {
  for (const LayerCheck& layer : report.layers)
    fmt::print("  {:4} {}\n", layer.passed() ? "ok" : "BAD", escape(layer.name));
}

int run_verify(const Options& options) {
  auto text = read_text(options.file);
  if (!text) return report(kProgram, text.error());
  auto checked = verify_receipt(*text, options.source);
  if (!checked) {
    if (checked.error().file.empty()) checked.error().file = options.file;
    return report(kProgram, checked.error());
  }
  print_layers(*checked);
  for (const std::string& problem : checked->problems) fmt::print("{}: {}\n", escape(options.file), problem);
  const bool is_unchecked_chain = checked->kind == ReceiptKind::layer_chain && !checked->has_source;
  const char* const outcome = !checked->passed() ? "does not verify"
                              : is_unchecked_chain
                                  ? "its root fits its last layer; no tensors were compared (no SOURCE)"
                                  : "verified";
  fmt::print("{}: {}: {}\n", escape(options.file), name_of(checked->kind), outcome);
  return checked->passed() ? kClean : kErrorsLeft;
}

}  // namespace

std::function<int()> add_receipt(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.require_subcommand(1);
  CLI::App* const verify = app.add_subcommand(
      "verify",
      "Verify an execution receipt by its own hash, or a layer chain by the tensors that it is of. The hashes have no\n"
      "key: they show damage, not forgery. A tensor that is missing fails");
  verify->footer(kExitCodeHelp);
  verify->add_option("FILE", options->file, "A receipt (JSON)")->required();
  verify->add_option(
      "SOURCE", options->source,
      "For a layer chain: a safetensors file, a Hugging Face directory, or a directory of NAME.npy files");
  return [options] { return run_verify(*options); };
}

}  // namespace cdna::tools
