// Streams over models, over blocks, and over decoded rows.
#include "tools/tensor_stream.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "tools/text.hpp"

namespace cdna::tools {
namespace {

using ReadAt = std::function<Result<void>(std::uint64_t, std::span<std::byte>)>;

class PartStream : public ByteStream {
 public:
  PartStream(std::uint64_t size_bytes, ReadAt read) : size_bytes_(size_bytes), read_(std::move(read)) {}

  Result<std::span<const std::byte>> next() override {
    buffer_.resize(std::min(kPartBytes, size_bytes_ - position_));
    if (buffer_.empty()) return std::span<const std::byte>();
    if (auto result = read_(position_, buffer_); !result) return std::move(result).error();
    position_ += buffer_.size();
    return std::span<const std::byte>(buffer_);
  }

 private:
  std::uint64_t size_bytes_;
  ReadAt read_;
  std::uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
};

// The blocks of an exact tensor are its bytes, in order.
class BlockStream : public ByteStream {
 public:
  explicit BlockStream(BlockRange range) : range_(std::move(range)) {}

  Result<std::span<const std::byte>> next() override {
    if (iterator_) {
      ++*iterator_;
    } else {
      iterator_.emplace(range_.begin());
    }
    if (*iterator_ == range_.end()) return std::span<const std::byte>();
    const Result<Block>& block = **iterator_;
    if (!block) return block.error();
    return block->data;
  }

 private:
  BlockRange range_;
  std::optional<BlockRange::Iterator> iterator_;
};

class RowStream : public ByteStream {
 public:
  explicit RowStream(const Tensor& tensor) : tensor_(tensor) {}

  Result<std::span<const std::byte>> next() override {
    if (row_ == tensor_.rows() || tensor_.cols() == 0) return std::span<const std::byte>();
    const std::uint64_t row_bytes = tensor_.row_bytes(DType::f64);
    const std::uint64_t end = std::min(tensor_.rows(), row_ + rows_at_once(row_bytes));
    buffer_.resize((end - row_) * row_bytes);
    if (auto result = tensor_.read_rows(row_, end, DType::f64, buffer_); !result) return std::move(result).error();
    row_ = end;
    return std::span<const std::byte>(buffer_);
  }

 private:
  // Whole blocks where they are small enough, so that none is decompressed twice.
  std::uint64_t rows_at_once(std::uint64_t row_bytes) const {
    constexpr std::uint64_t kBufferBytes = std::uint64_t{16} << 20;
    const std::uint64_t most = std::max<std::uint64_t>(1, kBufferBytes / row_bytes);
    const std::uint64_t block = tensor_.plane(0).rows_per_block;
    return block > 0 && block <= most ? most / block * block : most;
  }

  Tensor tensor_;
  std::uint64_t row_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace

Error too_wide(const Tensor& tensor, std::uint64_t row_bytes) {
  Error error;
  error.code = Code::limit;
  error.item = tensor.name();
  error.message = fmt::format("a row has {}, over the {} that are decoded at once", format_bytes(row_bytes),
                              format_bytes(kRowBytesMax));
  return error;
}

TensorStream stream_of(const Model& model, std::size_t tensor) {
  const ModelTensor& info = model.tensors()[tensor];
  const auto read = [&model, tensor](std::uint64_t offset, std::span<std::byte> out) {
    return model.read(tensor, offset, out);
  };
  return {std::make_unique<PartStream>(info.size_bytes, read), info.dtype, true};
}

Result<TensorStream> stream_of(const Tensor& tensor) {
  auto blocks = tensor.blocks();  // Says what is wrong with the tensor as a whole.
  if (!blocks) return std::move(blocks).error();
  if (tensor.encoding() == "cdna.exact")
    return TensorStream{std::make_unique<BlockStream>(*std::move(blocks)), tensor.dtype(), true};
  const std::uint64_t row_bytes = tensor.row_bytes(DType::f64);
  if (row_bytes > kRowBytesMax) return too_wide(tensor, row_bytes);
  return TensorStream{std::make_unique<RowStream>(tensor), DType::f64, false};
}

std::unique_ptr<ByteStream> stream_of_asset(const Model& model, std::size_t asset) {
  const auto read = [&model, asset](std::uint64_t offset, std::span<std::byte> out) {
    return model.read_asset(asset, offset, out);
  };
  return std::make_unique<PartStream>(model.assets()[asset].size_bytes, read);
}

std::unique_ptr<ByteStream> stream_of(const Asset& asset) {
  const auto read = [asset](std::uint64_t offset, std::span<std::byte> out) { return asset.read(offset, out); };
  return std::make_unique<PartStream>(asset.size_bytes(), read);
}

}  // namespace cdna::tools
