// The tensors of a container as one GGUF file of version 3.
#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/export_options.hpp"
#include "libcdna/convert/gguf_keys.hpp"
#include "libcdna/convert/number_text.hpp"
#include "libcdna/convert/progress.hpp"
#include "libcdna/convert/q8_0.hpp"
#include "libcdna/import/gguf/ggml_types.hpp"
#include "libcdna/import/gguf/header.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kStepBytes = std::uint64_t{4} << 20;
constexpr std::uint64_t kRowBytesMax = std::uint64_t{256} << 20;  // A few bytes can claim a row of any length.
constexpr std::size_t kNameBytesMax = 63;                         // GGML_MAX_NAME is 64, with the NUL at the end.
constexpr std::uint32_t kVersion = 3;
constexpr std::uint32_t kQ8_0 = 8;

struct PlannedTensor {
  std::string name;
  Tensor tensor;
  const GgmlType* type = nullptr;
  std::uint64_t size_bytes = 0;

  bool is_matrix() const { return tensor.shape().size() >= 2; }
  bool has_blocks() const { return type->dtype == DType::none; }
};

std::uint64_t padded(std::uint64_t size) { return (size + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

Error fail_tensor(Code code, std::string_view name, std::string message) {
  Error error = fail(code, "", std::move(message));
  error.item = name;
  return error;
}

// F8, F6 and F4 are floats, too, though no dtype of GGUF.
bool is_any_float(DType dtype) { return is_float(dtype) || dtype >= DType::f8_e4m3; }

// Null: GGUF has no type for the tensor.
const GgmlType* type_for(const Tensor& tensor, const ExportOptions& options) {
  const DType dtype = tensor.dtype();
  const GgmlType* const own = find_ggml_type(dtype);
  if (!is_any_float(dtype)) return own;
  const bool is_matrix = tensor.shape().size() >= 2;
  if (is_matrix && options.q8_0 && tensor.shape().back() % kQ8_0Elements == 0)
    return find_ggml_type(kQ8_0, GgufDialect::ggml);
  if (is_matrix && options.dtype) return find_ggml_type(*options.dtype);
  return own != nullptr ? own : find_ggml_type(DType::f32);
}

Result<void> check_name(std::string_view name) {
  if (name.size() <= kNameBytesMax) return {};
  return fail_tensor(Code::limit, name,
                     "a name of " + std::to_string(name.size()) + " bytes; ggml reads names of up to " +
                         std::to_string(kNameBytesMax));
}

Result<PlannedTensor> plan_tensor(const Reader& reader, const Item& named, const ExportOptions& options) {
  const Tensor tensor = reader.resolve(named);
  CDNA_TRY(tensor.check_supported());
  CDNA_TRY(check_name(named.name()));
  if (tensor.shape().size() > kGgufRankMax)
    return fail_tensor(Code::limit, named.name(),
                       std::to_string(tensor.shape().size()) + " dimensions; GGUF has at most four");
  const GgmlType* const type = type_for(tensor, options);
  if (type == nullptr)
    return fail_tensor(Code::unsupported, named.name(), "GGUF has no type for " + std::string(name_of(tensor.dtype())));
  const std::uint64_t bytes = tensor.element_count() / type->block_elements * type->block_bytes;
  return PlannedTensor{std::string(named.name()), tensor, type, bytes};
}

Result<std::vector<PlannedTensor>> plan(const Reader& reader, const ExportOptions& options) {
  std::vector<PlannedTensor> tensors;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i)
    tensors.push_back(CDNA_TRY(plan_tensor(reader, reader.tensor_item(i), options)));
  return tensors;
}

// enum llama_ftype for the type that most elements of matrices have; nothing where there is none for it.
std::optional<std::uint32_t> file_type_of(const std::vector<PlannedTensor>& tensors) {
  constexpr std::array<std::pair<std::string_view, std::uint32_t>, 4> kKnown{
      {{"F32", 0}, {"F16", 1}, {"Q8_0", 7}, {"BF16", 32}}};
  std::array<std::uint64_t, kKnown.size()> elements{};
  for (const PlannedTensor& planned : tensors) {
    for (std::size_t i = 0; i < kKnown.size(); ++i) {
      if (planned.is_matrix() && planned.type->name == kKnown[i].first) elements[i] += planned.tensor.element_count();
    }
  }
  const auto most = std::max_element(elements.begin(), elements.end());
  if (*most == 0) return std::nullopt;
  return kKnown[static_cast<std::size_t>(most - elements.begin())].second;
}

template <class T>
void append_number(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

void append_tensor(std::string& out, const PlannedTensor& planned, std::uint64_t offset) {
  const std::span<const std::uint64_t> shape = planned.tensor.shape();
  append_number(out, static_cast<std::uint64_t>(planned.name.size()));
  out += planned.name;
  append_number(out, static_cast<std::uint32_t>(shape.size()));
  for (std::size_t i = shape.size(); i > 0; --i) append_number(out, shape[i - 1]);
  append_number(out, planned.type->id);
  append_number(out, offset);
}

Result<std::string> make_header(const std::vector<PlannedTensor>& tensors, const GgufKeys& keys) {
  std::string out = "GGUF";
  append_number(out, kVersion);
  append_number(out, static_cast<std::uint64_t>(tensors.size()));
  append_number(out, keys.count);
  out += keys.bytes;
  std::uint64_t offset = 0;
  for (const PlannedTensor& planned : tensors) {
    append_tensor(out, planned, offset);
    if (__builtin_add_overflow(offset, padded(planned.size_bytes), &offset))
      return fail_tensor(Code::limit, planned.name, "the tensors have over 2^64-1 bytes together");
  }
  out.resize(padded(out.size()), '\0');
  return out;
}

std::uint64_t bytes_of(const std::vector<PlannedTensor>& tensors) {
  std::uint64_t bytes = 0;
  for (const PlannedTensor& planned : tensors) bytes += planned.size_bytes;
  return bytes;
}

class GgufExport {
 public:
  GgufExport(std::unique_ptr<Sink> sink, std::uint64_t total_bytes, const ExportOptions& options)
      : sink_(std::move(sink)), stop_(options.stop), progress_(options.progress, total_bytes) {}

  Result<void> run(const std::string& header, const std::vector<PlannedTensor>& tensors) {
    CDNA_TRY(sink_->write(std::as_bytes(std::span(header))));
    for (const PlannedTensor& planned : tensors) {
      auto result = write(planned);
      if (!result && result.error().item.empty()) result.error().item = planned.name;
      if (!result) return result;
    }
    CDNA_TRY(check_stop());  // Also what the last report of progress was answered with.
    CDNA_TRY(sink_->commit());
    progress_.finish();
    return {};
  }

 private:
  Result<void> write(const PlannedTensor& planned) {
    const bool as_stored = planned.tensor.encoding() == "cdna.exact" && planned.type->dtype == planned.tensor.dtype();
    CDNA_TRY(as_stored ? copy_blocks(planned.tensor) : decode_rows(planned));
    const std::vector<std::byte> zeros(static_cast<std::size_t>(padded(planned.size_bytes) - planned.size_bytes));
    return sink_->write(zeros);
  }

  // The blocks of an exact tensor are its bytes, in order.
  Result<void> copy_blocks(const Tensor& tensor) {
    BlockRange blocks = CDNA_TRY(tensor.blocks());
    for (const Result<Block>& block : blocks) {
      if (!block) return block.error();
      CDNA_TRY(append(block->data));
    }
    return {};
  }

  // Rows of the matrix view are whole rows of the tensor, and those whole blocks.
  Result<void> decode_rows(const PlannedTensor& planned) {
    const Tensor& tensor = planned.tensor;
    if (tensor.element_count() == 0) return {};
    const DType dtype = planned.has_blocks() ? DType::f32 : planned.type->dtype;
    const std::uint64_t row_bytes = tensor.row_bytes(dtype);
    CDNA_CHECK(
        row_bytes <= kRowBytesMax, Code::limit, "",
        "a row has " + bytes_text(row_bytes) + ", over the " + bytes_text(kRowBytesMax) + " that are decoded at once");
    const std::uint64_t step = std::max<std::uint64_t>(1, kStepBytes / row_bytes);
    for (std::uint64_t row = 0; row < tensor.rows(); row += step) {
      const std::uint64_t end = std::min(tensor.rows(), row + step);
      values_.resize(static_cast<std::size_t>((end - row) * row_bytes / sizeof(float) + 1));
      const auto bytes = std::as_writable_bytes(std::span(values_)).first((end - row) * row_bytes);
      CDNA_TRY(tensor.read_rows(row, end, dtype, bytes));
      CDNA_TRY(planned.has_blocks() ? append_blocks(bytes.size() / sizeof(float), row * tensor.cols()) : append(bytes));
    }
    return {};
  }

  // The first `count` values as blocks. `begin`: the number of the first in its tensor.
  Result<void> append_blocks(std::size_t count, std::uint64_t begin) {
    std::vector<std::byte> blocks(count / kQ8_0Elements * kQ8_0Bytes);
    CDNA_TRY(quantize_q8_0(std::span(values_).first(count), begin, blocks));
    return append(blocks);
  }

  Result<void> check_stop() const {
    CDNA_CHECK(stop_ == nullptr || !stop_->load(), Code::cancelled, "", "stopped on request");
    return {};
  }

  Result<void> append(std::span<const std::byte> bytes) {
    CDNA_TRY(check_stop());
    done_bytes_ += bytes.size();
    progress_.show(done_bytes_);
    return sink_->write(bytes);
  }

  std::unique_ptr<Sink> sink_;
  const std::atomic<bool>* stop_;
  Progress progress_;
  std::uint64_t done_bytes_ = 0;
  std::vector<float> values_;
};

Result<void> export_all(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  CDNA_TRY(check_export_dtype(options));
  const std::vector<PlannedTensor> tensors = CDNA_TRY(plan(reader, options));
  GgufKeyRequest request;
  request.architecture = options.architecture;
  request.file_type = file_type_of(tensors);
  request.has_blocks = std::any_of(tensors.begin(), tensors.end(), [](const auto& t) { return t.has_blocks(); });
  const GgufKeys keys = CDNA_TRY(gguf_keys(reader, request));
  const std::string header = CDNA_TRY(make_header(tensors, keys));
  return GgufExport(std::move(sink), bytes_of(tensors), options).run(header, tensors);
}

}  // namespace

Result<void> export_gguf(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  assert(sink != nullptr);
  return no_throw([&] { return export_all(reader, std::move(sink), options); });
}

}  // namespace cdna
