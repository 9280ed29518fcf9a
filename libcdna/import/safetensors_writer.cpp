// Writes safetensors files whose bytes are those that the `safetensors` package 0.8 writes for the same tensors.
// (Save for the order of metadata keys, which there is that of a hash table and differs from run to run: here sorted.)
#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/format/utf8.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

// The package orders tensors by this list from its end, then by name: enum Dtype of safetensors/src/tensor.rs, by
// rising alignment. Found in 0.8 by experiment, tests/import_test.cpp holds its output.
constexpr std::array<DType, kDTypeLast> kRisingOrder{
    DType::boolean, DType::f4,      DType::f6_e2m3, DType::f6_e3m2,     DType::u8,          DType::i8,
    DType::f8_e5m2, DType::f8_e4m3, DType::f8_e8m0, DType::f8_e4m3fnuz, DType::f8_e5m2fnuz, DType::i16,
    DType::u16,     DType::f16,     DType::bf16,    DType::i32,         DType::u32,         DType::f32,
    DType::c64,     DType::f64,     DType::i64,     DType::u64};

std::ptrdiff_t position_of(DType dtype) {
  return std::find(kRisingOrder.begin(), kRisingOrder.end(), dtype) - kRisingOrder.begin();
}

bool comes_before(const ModelTensor& a, const ModelTensor& b) {
  const std::ptrdiff_t of_a = position_of(a.dtype);
  const std::ptrdiff_t of_b = position_of(b.dtype);
  return of_a != of_b ? of_a > of_b : a.name < b.name;
}

Error fail_tensor(Code code, const ModelTensor& tensor, std::string message) {
  Error error = fail(code, "", std::move(message));
  error.item = tensor.name;
  return error;
}

// Checks a tensor and sets its size_bytes, whatever it was.
Result<void> check_tensor(ModelTensor& tensor) {
  if (!is_known(tensor.dtype)) return fail_tensor(Code::bad_argument, tensor, "has no dtype");
  if (tensor.name == kSafetensorsMetadataKey) {
    return fail_tensor(Code::malformed, tensor, "no tensor can have this name: it is the key of the metadata");
  }
  if (!is_utf8(tensor.name)) return fail_tensor(Code::malformed, tensor, "the name is not UTF-8");
  auto size = safetensors_size_bytes(tensor.dtype, tensor.shape);
  if (!size) {
    const Code code = size.error().code == Code::malformed ? Code::bad_argument : size.error().code;
    return fail_tensor(code, tensor, size.error().message);
  }
  tensor.size_bytes = *size;
  return {};
}

Result<void> check_names_unique(std::span<const ModelTensor> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const ModelTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  const auto twin = std::adjacent_find(names.begin(), names.end());
  if (twin == names.end()) return {};
  Error error = fail(Code::malformed, "", "two tensors have this name");
  error.item = std::string(*twin);
  return error;
}

Result<void> check_metadata(const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    CDNA_CHECK(is_utf8(key) && is_utf8(value), Code::malformed, "", "metadata '" + key + "': not UTF-8");
  }
  return {};
}

// The escapes of serde_json: the short ones, \u00xx below 0x20, everything else as it is.
void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kEscaped = "\"\\\b\f\n\r\t";
  constexpr std::string_view kLetters = "\"\\bfnrt";
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const std::size_t known = kEscaped.find(c);
    if (known != std::string_view::npos) {
      out += '\\';
      out += kLetters[known];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += kDigits[static_cast<unsigned char>(c) >> 4];
      out += kDigits[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_json_metadata(std::string& out, const std::map<std::string, std::string>& metadata) {
  append_json_string(out, kSafetensorsMetadataKey);
  char separator = '{';
  out += ':';
  for (const auto& [key, value] : metadata) {
    out += std::exchange(separator, ',');
    append_json_string(out, key);
    out += ':';
    append_json_string(out, value);
  }
  out += '}';
}

void append_json_tensor(std::string& out, const ModelTensor& tensor, std::uint64_t begin) {
  append_json_string(out, tensor.name);
  out += ":{\"dtype\":\"";
  out += name_of(tensor.dtype);
  out += "\",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i > 0) out += ',';
    out += std::to_string(tensor.shape[i]);
  }
  out += "],\"data_offsets\":[";
  out += std::to_string(begin);
  out += ',';
  out += std::to_string(begin + tensor.size_bytes);
  out += "]}";
}

// The JSON header, padded to a multiple of 8. Stops at the first tensor beyond the limit.
Result<std::string> make_header(std::span<const ModelTensor> tensors,
                                const std::map<std::string, std::string>& metadata) {
  std::string out = "{";
  if (!metadata.empty()) append_json_metadata(out, metadata);
  std::uint64_t begin = 0;
  for (const ModelTensor& tensor : tensors) {
    std::uint64_t end = 0;
    if (__builtin_add_overflow(begin, tensor.size_bytes, &end)) {
      return fail_tensor(Code::limit, tensor, "the tensors have over 2^64-1 bytes together");
    }
    if (out.size() > 1) out += ',';
    append_json_tensor(out, tensor, begin);
    if (out.size() >= kSafetensorsHeaderBytesMax) break;
    begin = end;
  }
  out += '}';
  out.append((8 - out.size() % 8) % 8, ' ');
  CDNA_CHECK(out.size() <= kSafetensorsHeaderBytesMax, Code::limit, "", "the header is over 100000000 bytes");
  return out;
}

class Writer final : public SafetensorsWriter {
 public:
  Writer(std::unique_ptr<Sink> sink, std::vector<ModelTensor> tensors)
      : sink_(std::move(sink)), tensors_(std::move(tensors)) {
    for (const ModelTensor& tensor : tensors_) left_bytes_ += tensor.size_bytes;
  }

  std::span<const ModelTensor> tensors() const override { return tensors_; }

  Result<void> write_header(const std::string& json) {
    std::array<std::byte, kSafetensorsLengthBytes> length{};
    const std::uint64_t size = json.size();
    std::memcpy(length.data(), &size, sizeof size);
    CDNA_TRY(sink_->write(length));
    return sink_->write(std::as_bytes(std::span(json)));
  }

  Result<void> append(std::span<const std::byte> bytes) override {
    return no_throw([&]() -> Result<void> {
      CDNA_CHECK(bytes.size() <= left_bytes_, Code::bad_argument, "",
                 std::to_string(bytes.size()) + " bytes for a file that lacks " + std::to_string(left_bytes_));
      CDNA_TRY(sink_->write(bytes));
      left_bytes_ -= bytes.size();
      return {};
    });
  }

  Result<void> commit() override {
    return no_throw([&]() -> Result<void> {
      CDNA_CHECK(left_bytes_ == 0, Code::bad_argument, "", std::to_string(left_bytes_) + " bytes of data are missing");
      return sink_->commit();
    });
  }

 private:
  std::unique_ptr<Sink> sink_;
  std::vector<ModelTensor> tensors_;
  std::uint64_t left_bytes_ = 0;
};

Result<std::unique_ptr<SafetensorsWriter>> plan(std::unique_ptr<Sink> sink, std::vector<ModelTensor> tensors,
                                                const std::map<std::string, std::string>& metadata) {
  for (ModelTensor& tensor : tensors) CDNA_TRY(check_tensor(tensor));
  CDNA_TRY(check_names_unique(tensors));
  CDNA_TRY(check_metadata(metadata));
  std::sort(tensors.begin(), tensors.end(), comes_before);
  const std::string json = CDNA_TRY(make_header(tensors, metadata));
  auto writer = std::make_unique<Writer>(std::move(sink), std::move(tensors));
  CDNA_TRY(writer->write_header(json));
  return std::unique_ptr<SafetensorsWriter>(std::move(writer));
}

}  // namespace

Result<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::create(
    std::unique_ptr<Sink> sink, std::vector<ModelTensor> tensors, const std::map<std::string, std::string>& metadata) {
  assert(sink != nullptr);
  return no_throw([&] { return plan(std::move(sink), std::move(tensors), metadata); });
}

}  // namespace cdna
