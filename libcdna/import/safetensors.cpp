// Reads safetensors files: the header at once, the data of tensors when asked.
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <utility>

#include "cdna/import.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

class SafetensorsModel final : public Model {
 public:
  // `data_begin`: byte of the source at which the data area begins.
  SafetensorsModel(std::unique_ptr<Source> source, SafetensorsHeader header, std::uint64_t data_begin)
      : source_(std::move(source)),
        tensors_(std::move(header.tensors)),
        begins_(std::move(header.begins)),
        data_begin_(data_begin) {
    for (auto& [key, value] : header.metadata) metadata_.emplace("safetensors:" + key, std::move(value));
  }

  std::span<const ModelTensor> tensors() const override { return tensors_; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const ModelAsset> assets() const override { return {}; }
  std::span<const std::string> notes() const override { return {}; }

  Result<void> read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const override {
    assert(tensor < tensors_.size() && offset <= tensors_[tensor].size_bytes);
    assert(out.size() <= tensors_[tensor].size_bytes - offset);
    if (out.empty()) return {};
    return no_throw([&] {
      auto result = source_->read_at(data_begin_ + begins_[tensor] + offset, out);
      if (!result) result.error().item = tensors_[tensor].name;
      return result;
    });
  }

  Result<void> read_asset(std::size_t, std::uint64_t, std::span<std::byte>) const override {
    return no_throw([]() -> Result<void> { return fail(Code::bad_argument, "", "a safetensors file has no assets"); });
  }

 private:
  std::unique_ptr<Source> source_;
  std::vector<ModelTensor> tensors_;
  std::vector<std::uint64_t> begins_;
  std::uint64_t data_begin_;
  Metadata metadata_;
};

// The length and the first byte of the header tell a damaged safetensors file from one of another kind.
Result<std::uint64_t> read_header_length(const Source& source) {
  std::array<std::byte, kSafetensorsLengthBytes + 1> head{};
  constexpr std::uint64_t kFileBytesMin = 10;  // The length and "{}".
  CDNA_CHECK(source.size_bytes() >= kFileBytesMin, Code::truncated, "",
             "a safetensors file has at least 10 bytes, this has " + std::to_string(source.size_bytes()));
  CDNA_TRY(source.read_at(0, head));
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t length = 0;
  std::memcpy(&length, head.data(), sizeof length);
  CDNA_CHECK(head.back() == std::byte{'{'}, Code::malformed, "",
             "not a safetensors file: its header must begin with '{' at byte 8", kSafetensorsLengthBytes);
  CDNA_CHECK(length <= kSafetensorsHeaderBytesMax, Code::limit, "",
             "a header of " + std::to_string(length) + " bytes; at most 100000000 are allowed", 0);
  CDNA_CHECK(length <= source.size_bytes() - kSafetensorsLengthBytes, Code::truncated, "",
             "a header of " + std::to_string(length) + " bytes in a file of " + std::to_string(source.size_bytes()), 0);
  return length;
}

Result<std::unique_ptr<Model>> open(std::unique_ptr<Source> source) {
  const std::uint64_t length = CDNA_TRY(read_header_length(*source));
  std::string json(length, '\0');
  CDNA_TRY(source->read_at(kSafetensorsLengthBytes, std::as_writable_bytes(std::span(json))));
  const std::uint64_t data_begin = kSafetensorsLengthBytes + length;
  auto header = parse_safetensors_header(json, source->size_bytes() - data_begin);
  if (!header) return std::move(header).error();  // Not CDNA_TRY: g++ 12 at -O1 takes its variable for freed memory.
  return std::unique_ptr<Model>(std::make_unique<SafetensorsModel>(std::move(source), *std::move(header), data_begin));
}

// Adds the file, and cuts a name that no message should repeat in full: it can be as long as the header.
Error finish_error(Error error, const std::string& file) {
  constexpr std::size_t kItemBytesMax = 1024;  // The longest name of an item in a CDNA file.
  if (error.file.empty()) error.file = file;
  if (error.item.size() > kItemBytesMax) error.item.replace(kItemBytesMax, std::string::npos, "...");
  return error;
}

}  // namespace

Result<std::unique_ptr<Model>> open_safetensors(std::unique_ptr<Source> source) {
  assert(source != nullptr);
  return no_throw([&]() -> Result<std::unique_ptr<Model>> {
    const std::string name(source->name());
    auto result = open(std::move(source));
    if (!result) return finish_error(std::move(result).error(), name);
    return result;
  });
}

}  // namespace cdna
