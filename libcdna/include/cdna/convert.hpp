// A model into a container, and a container into another format: what `cdna convert` and `cdna export` do.
//
//   auto model = open_model("model.safetensors");
//   auto sink = create_file("model.cdna");  // A destination that is refused is refused before the long work.
//   ConvertOptions options;
//   options.encoding = "cb8";
//   auto report = convert(**model, *std::move(sink), options);
//
// convert() decides what becomes of each tensor and carries it out. Who wants to see the decisions first calls
// make_plan(), and convert() with the plan.
//
// Models may be of any kind: a Model that the caller derives over arrays of its own is as good as a file. Model::read
// and Model::read_asset are called from several threads at once where `threads` is not 1.
//
// Messages name options as the fields of ConvertOptions are called: where one is wrong, the message of the
// bad_argument begins with the name of its field ("embeddings 'cb9': presets are ..."). Like all functions that return
// a Result, these may fail with no_memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/digest.hpp"
#include "cdna/dtype.hpp"
#include "cdna/error.hpp"
#include "cdna/file_system.hpp"
#include "cdna/glob.hpp"
#include "cdna/import.hpp"
#include "cdna/metadata.hpp"
#include "cdna/planner.hpp"
#include "cdna/policy.hpp"
#include "cdna/preset.hpp"
#include "cdna/reader.hpp"
#include "cdna/sink.hpp"
#include "cdna/writer.hpp"

namespace cdna {

// Called from the thread that called, every so often and once at the end of what succeeds: `done_bytes` never falls,
// `total_bytes` stays the same, and both are equal at the end. They are bytes of tensors, counted each time when they
// are to be read: a measure of the work. Must not throw.
using ProgressCallback = std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)>;

// What a conversion is asked for. Which of these decides about a tensor: keep_exact, embeddings, the rules of the
// policy in their order, then encoding, or the budget (tools/README.md has the table).
struct ConvertOptions {
  std::string encoding = "exact";           // Preset of what nothing else decides; not with a policy or a budget.
  std::string policy;                       // JSON text of a policy file (see parse_policy()); "": none.
  std::string policy_file;                  // Its name for messages: Error::file, and in notes.
  std::optional<std::string> embeddings;    // Preset of embeddings and output heads.
  Codec codec = Codec::raw;                 // Blocks that gain less than 3 % are stored raw.
  Nonfinite nonfinite = Nonfinite::refuse;  // What becomes of NaN and infinity where codes are made.
  // A budget: presets are chosen so that the stored tensors take so many bits for each element together, above 0 and at
  // most 64; or that the file has at most so many bytes, above 0 and below 2^53. Not both.
  std::optional<double> bits_per_weight;
  std::optional<std::uint64_t> target_bytes;
  // Presets that a budget chooses from, each string one or several with spaces between them; only with a budget. None:
  // cb4g32 cb5g32 cb6g64 cb8 cb8g64 exact-z exact.
  std::vector<std::string> candidates;
  std::vector<std::string> keep_exact;  // Shell patterns (see matches_glob()) of the names of tensors that stay exact.
  Metadata metadata;                    // Of the file, beside the model's; of two of one key, this.

  // How the work is done; nothing of it shows in the file.
  unsigned threads = 1;  // Including the caller's; 0: one per core.
  // When it becomes true, the call in progress fails with Code::cancelled. May be null.
  const std::atomic<bool>* stop = nullptr;
  ProgressCallback progress;  // May be empty.
};

// Whether make_plan() would take the options for some model. Errors: bad_argument (an option, and what would be right);
// those of parse_policy().
Result<void> check(const ConvertOptions& options);

// One rule of a policy: a tensor that fits one of the globs (if any) and has one of the roles (if any) gets the preset.
struct PolicyRule {
  std::vector<std::string> globs;
  std::vector<Role> roles;
  Preset preset;

  bool matches(std::string_view tensor_name, Role role) const;
  // A rule that names tensors reaches those that stay exact by default; one for all tensors does not.
  Asked asked() const { return globs.empty() && roles.empty() ? Asked::for_all : Asked::by_name; }
  // For people: "glob *.k_proj.weight, role matrix"; "all tensors".
  std::string text() const;
  // As it stands in a policy: {"glob":["*.k_proj.weight"],"role":["matrix"],"preset":"cb8g64"}.
  std::string json() const;
};

inline constexpr std::uint64_t kPolicyBytesMax = std::uint64_t{1} << 20;

// The rules of a policy, JSON text {"rules": [{"glob": ..., "role": ..., "preset": ...}, ...]} (tools/README.md).
// Errors: malformed (not JSON, or not such a document: the rule by number and what would be right), limit (over 1 MiB,
// 256 rules or 1024 globs, or values nested more than 8 deep).
Result<std::vector<PolicyRule>> parse_policy(std::string_view text);

// A rule of a plan, and which option it is from.
struct PlanRule {
  enum class Origin : std::uint8_t { keep_exact, embeddings, policy, encoding };
  Origin origin = Origin::policy;
  std::size_t number = 0;  // In the policy, from 1; 0 of all others.
  PolicyRule rule;
};

// What is expected of a tensor's preset, with a budget.
struct Forecast {
  OperatingPoint point;
  AllocatedPoint place;     // On the hull of what was tried; prices 0 where there was no choice.
  std::size_t choices = 1;  // Presets that were tried.
  std::string constraint;   // Why not all candidates were.
};

struct TensorPlan {
  Decision decision;
  std::optional<std::size_t> rule;      // Index into Plan::rules; nothing: the budget, or the default.
  std::optional<std::size_t> alias_of;  // The same tensor under another name, which comes earlier.
  std::optional<Forecast> forecast;     // With a budget, of tensors that are no aliases.
};

// How much was asked for, and what is expected.
struct BudgetPlan {
  std::optional<double> bits_per_weight;      // Wanted, or
  std::optional<std::uint64_t> target_bytes;  // of the whole file.
  std::uint64_t overhead_bytes = 0;           // Of the file, beside the tensors' planes and indices; with target_bytes.
  std::uint64_t stored_bytes = 0;             // Expected of all tensors: planes and indices.
  double elements = 0;                        // Of all stored tensors.
  double mean_error = 0;                      // Mean of the relative squared errors, weighted by elements.
  double price = 0;                           // As in Allocation.
  bool all_best = false;                      // The budget is larger than what all best presets take.
};

// What becomes of each tensor of a model, and why.
struct Plan {
  std::vector<PlanRule> rules;      // The first that fits decides.
  std::vector<TensorPlan> tensors;  // One for each of Model::tensors(), in their order.
  std::optional<BudgetPlan> budget;
  std::vector<std::string> notes;  // Rules that decide nothing, one line each; to be escaped before printing.
  Codec codec = Codec::raw;
  std::string recorded_options;  // JSON: the metadata entry "cdna.options" of the file to be.
  Metadata metadata;             // ConvertOptions::metadata.
};

// The number of elements, as the weight that a tensor has among others.
double elements_of(const ModelTensor& tensor);

// Decides. Finds embeddings and output heads that are tied, which reads each of their bytes at most once; with a budget
// tries the candidates on up to 2^20 values of each tensor, which is what `progress` reports of (without one it is not
// called).
// Errors: those of check(); bad_argument (a glob of keep_exact that fits no tensor; a budget below the least possible,
// which the message says; a tensor of the model that is none: an unknown dtype, a size that is not that of its shape,
// names that do not ascend: Error::item), limit (a size beyond 2^64 bytes), those of Model::read, cancelled.
Result<Plan> make_plan(const Model& model, const ConvertOptions& options);

// Codes that the source held, and that were taken over as they were.
struct SourceCodes {
  std::uint32_t bits = 0;    // Per code.
  std::uint32_t vector = 1;  // Elements that a code stands for.
  std::uint32_t group = 0;   // Columns per group scale; 0: none.
  bool has_offsets = false;  // Of groups.
  bool has_column_scales = false;
  std::uint64_t outliers = 0;
  DType outlier_dtype = DType::none;  // none: the tensor's.
  std::uint32_t rank = 0;             // Of the matrix that is added; 0: none.
  bool operator==(const SourceCodes&) const = default;
};

// What became of a tensor.
struct ConvertedTensor {
  std::string name;
  std::uint64_t source_bytes = 0;
  Decision decision;
  std::optional<std::size_t> alias_of;  // Index into ConvertReport::tensors: stored once, under that name.
  WrittenItem written;                  // All 0 of an alias.
  std::optional<SourceCodes> codes;     // With Preset::Method::source.
};

struct ConvertReport {
  Digest root{};
  // Sums over tensors that are stored: aliases are not counted.
  std::uint64_t source_bytes = 0;
  std::uint64_t stored_bytes = 0;  // Planes and indices.
  double elements = 0;
  std::uint64_t file_bytes = 0;          // Written to the sink.
  std::vector<ConvertedTensor> tensors;  // In the order of Model::tensors().
  std::vector<std::string> notes;        // The model's, then the plan's; to be escaped before printing.

  double bits_per_weight() const;  // 8 * stored_bytes / elements; 0 without elements.
};

// Writes tensors, metadata and assets of a model as a plan says: tensors in the model's order, then the assets. Of the
// options only `threads`, `stop` and `progress` are looked at; the file's bytes depend on model and plan alone.
// Requires: the plan is one for this model; a sink. After an error the sink has been destroyed, which leaves no file.
// Memory: that of a Writer. Errors: those of Model::read and of Writer, with the tensor as Error::item: io, exists,
// bad_argument (names, shapes and metadata that no file can have; a value that is not finite, with its place), limit,
// cancelled.
Result<ConvertReport> convert(const Model& model, const Plan& plan, std::unique_ptr<Sink> sink,
                              const ConvertOptions& options);

// Both: make_plan() and then convert(), with one count of progress for both. Errors: those of both.
Result<ConvertReport> convert(const Model& model, std::unique_ptr<Sink> sink, const ConvertOptions& options = {});

struct ExportOptions {
  // What F16, BF16, F32 and F64 tensors become: one of these four. Nothing: each its source's dtype. All other tensors
  // stay what they are.
  std::optional<DType> dtype;
  // GGUF only. Tensors of two and more dimensions whose rows are whole blocks of 32 become Q8_0; `dtype` is for others.
  bool q8_0 = false;
  // GGUF only. general.architecture, as llama.cpp calls it ("llama", "qwen2"); "": what the container says.
  std::string architecture;
  // When it becomes true, the call fails with Code::cancelled. May be null.
  const std::atomic<bool>* stop = nullptr;
  ProgressCallback progress;  // Of bytes written, without the header; may be empty.
  // Gets what the format could not hold as it is, one line each, to be escaped before printing. May be null.
  std::vector<std::string>* notes = nullptr;
};

// Writes all tensors of a container, aliases as tensors of their own, and the metadata that came from a safetensors
// file ("safetensors:KEY") as one safetensors file (see SafetensorsWriter). Exact tensors of a file that
// SafetensorsWriter wrote come out as that file, byte for byte. Values are rounded as Tensor::read_rows() says.
// Requires: a sink. Memory: 4 MiB, or one row. After an error the sink has been destroyed, which leaves no file.
// Errors: bad_argument (dtype, q8_0, architecture; a sub-byte tensor that is not whole bytes), unsupported, corrupt,
// malformed, io, exists, limit (a row over 256 MiB to be decoded; the header's), cancelled.
Result<void> export_safetensors(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options = {});

// Writes all tensors of a container, aliases as tensors of their own, as the arrays NAME.npy of one .npz file, which
// numpy.load() reads: stored, not compressed, with CRC-32, zip64 where sizes ask for it; the same container gives the
// same bytes. NumPy has no BF16, F8, F6 and F4: such tensors become F32, which holds each of their values; BF16 becomes
// what ExportOptions::dtype says if that is set (F16 rounds). Metadata and assets have no place in such a file.
// Requires: a sink. Memory: 4 MiB, or one row, and some 100 bytes for each tensor. After an error the sink has been
// destroyed, which leaves no file. Errors: bad_argument (dtype, BF16 included; q8_0, architecture; a name that is a
// path out of a folder), unsupported, corrupt, malformed, io, exists, limit (a row over 256 MiB to be decoded),
// cancelled.
Result<void> export_npz(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options = {});

// Writes all tensors of a container, aliases as tensors of their own, as one GGUF file of version 3. Floats of two
// and more dimensions become what the options say; without, and with fewer dimensions, F16, BF16, F32, F64 and I8 to
// I64 stay what they are, and F8, F6 and F4 become F32. Q8_0 blocks are those that ggml's reference makes of the f32
// values, bit for bit; blocks that it made come back as they were. Metadata are the keys of the GGUF file that the
// container was made of (asset gguf-metadata.bin) and what "gguf:KEY" entries say instead or besides;
// general.architecture is that of the options, of these, or model_type of the asset config.json. Data lie 32 bytes
// apart or a multiple of it. Requires: a sink. Memory: the metadata, and 4 MiB or one row. After an error the sink has
// been destroyed, which leaves no file. Errors: bad_argument (dtype; no architecture; metadata that GGUF has no type
// for; a value that is not finite or too large for Q8_0), unsupported (a dtype that GGUF lacks: BOOL, U8 to U64, C64),
// limit (a name of over 63 bytes or more than four dimensions, which ggml does not read; a row over 256 MiB to be
// decoded), corrupt, malformed, io, exists, cancelled.
Result<void> export_gguf(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options = {});

// Writes a container as a new folder, an HXQ checkpoint that helix-substrate loads: model.safetensors with the codes of
// each matrix NAME.weight that has neither row nor group scales as NAME.codebook (F32), NAME.indices (U8, or U16 above
// 256 entries), sidecar, SVD and channel scales; all other tensors as values (ExportOptions::dtype, or their source's);
// config.json with quantization_config, method "cdna_v3", which every version of the loader knows; all other assets.
// The folder appears whole or not at all. Returns notes, one line each, to be escaped before printing: matrices that
// HXQ has no codes for. Memory: 4 MiB, one row, or a block. Errors: bad_argument (dtype, q8_0, architecture), exists
// (a folder is never replaced), malformed (also: the asset config.json is no JSON object, two tensors of one name),
// unsupported, corrupt, io, limit, cancelled.
Result<std::vector<std::string>> export_hxq(const Reader& reader, const std::string& folder,
                                            const ExportOptions& options = {},
                                            FileSystem& file_system = posix_file_system());

// What a container can be exported as.
enum class ExportFormat : std::uint8_t {
  safetensors,
  gguf,
  npz,
  hxq,  // A folder: a checkpoint that helix-substrate loads.
};
// "safetensors", "gguf", "npz", "hxq". Static storage.
std::string_view name_of(ExportFormat format);
// In the order of the enumeration.
std::span<const ExportFormat> export_formats();
std::optional<ExportFormat> parse_export_format(std::string_view name);
// By the ending of a destination: ".safetensors", ".gguf" or ".npz", in small letters. Nothing of others: a folder's
// name says nothing.
std::optional<ExportFormat> export_format_of(std::string_view path);

// Writes a container in a format that is one file. Requires: a sink. After an error the sink has been destroyed, which
// leaves no file. Errors: those of the format's own function; bad_argument (hxq, which is a folder).
Result<void> export_model(const Reader& reader, std::unique_ptr<Sink> sink, ExportFormat format,
                          const ExportOptions& options = {});

// Writes a container as the file, or for hxq the folder, `path`. A destination that is refused is refused before the
// long work, and after an error there is nothing at `path` that was not there before. Errors: those of create_file()
// and of the format's own function; bad_argument (hxq with force: a folder is never replaced).
Result<void> export_file(const Reader& reader, const std::string& path, ExportFormat format,
                         const FileSinkOptions& file_options = {}, const ExportOptions& options = {});

}  // namespace cdna
