// The references, each cut into parts of about the same size, one for each worker.
#include "tools/bench/matmul_references.hpp"

#include <brotli/decode.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "tools/bench/measure.hpp"
#include "tools/bench/read_words.hpp"

namespace cdna::tools::bench {
namespace {

constexpr std::uint64_t kBufferBytes = std::uint64_t{256} << 10;
constexpr std::uint64_t kPageBytes = 4096;

void read_floats(const Tensor& tensor, std::uint64_t begin, std::uint64_t end, std::span<float> out) {
  require(tensor.read_rows(begin, end, DType::f32, std::as_writable_bytes(out)));
}

void decode_rows(const Tensor& tensor, Part rows) {
  const std::uint64_t each = std::max<std::uint64_t>(1, kBufferBytes / (4 * tensor.cols()));
  std::vector<float> buffer(each * tensor.cols());
  for (std::uint64_t begin = rows.begin; begin < rows.end; begin += each) {
    const std::uint64_t end = std::min(rows.end, begin + each);
    read_floats(tensor, begin, end, std::span(buffer).first((end - begin) * tensor.cols()));
    keep(buffer[0]);
  }
}

void walk_rows(const Tensor& tensor, Part rows) {
  BlockRange range = require(tensor.blocks(rows.begin, rows.end));
  for (const Result<Block>& block : range) {
    if (!block) throw Failure(block.error());
    keep(block->data.data());
  }
}

// So that no block is walked by two workers.
std::uint64_t rows_per_block(const Tensor& tensor) {
  return std::max<std::uint64_t>(1, tensor.plane(0).rows_per_block);
}

}  // namespace

Part part_of(std::uint64_t size, std::uint64_t step, std::size_t index, std::size_t count) {
  const std::uint64_t steps = (size + step - 1) / step;
  return {std::min(size, steps * index / count * step), std::min(size, steps * (index + 1) / count * step)};
}

void for_parts(Workers& workers, std::uint64_t size, std::uint64_t step, const std::function<void(Part)>& body) {
  const unsigned count = workers.concurrency();
  std::vector<std::exception_ptr> thrown(count);
  workers.run([&](std::size_t i) {
    try {
      const Part part = part_of(size, step, i, count);
      if (part.begin < part.end) body(part);
    } catch (...) {
      thrown[i] = std::current_exception();
    }
  });
  for (const std::exception_ptr& each : thrown) {
    if (each) std::rethrow_exception(each);
  }
}

std::span<const std::byte> first_plane(const Reader& reader, const Tensor& tensor) {
  const PlaneInfo plane = tensor.plane(0);
  const std::span<const std::byte> mapping = reader.source().mapping();
  return mapping.empty() ? mapping : mapping.subspan(plane.offset, plane.stored_bytes);
}

void read(Workers& workers, std::span<const std::byte> bytes) {
  for_parts(workers, bytes.size(), kPageBytes,
            [&](Part part) { keep(sum_of_words(bytes.subspan(part.begin, part.end - part.begin))); });
}

void decode(Workers& workers, const Tensor& tensor) {
  for_parts(workers, tensor.rows(), rows_per_block(tensor), [&](Part part) { decode_rows(tensor, part); });
}

void walk(Workers& workers, const Tensor& tensor) {
  for_parts(workers, tensor.rows(), rows_per_block(tensor), [&](Part part) { walk_rows(tensor, part); });
}

DenseMatrix::DenseMatrix(const Tensor& tensor, std::uint64_t rows, Workers& workers)
    : rows_(rows), cols_(tensor.cols()), values_(rows_ * cols_) {
  for_parts(workers, rows_, rows_per_block(tensor), [&](Part part) {
    read_floats(tensor, part.begin, part.end,
                std::span(values_).subspan(part.begin * cols_, (part.end - part.begin) * cols_));
  });
}

CodecBlocks::CodecBlocks(const Reader& reader, const Tensor& tensor) {
  constexpr std::size_t kEntryBytes = 64;  // spec/format.md, section 9.
  const std::span<const std::byte> file = reader.source().mapping();
  const PlaneInfo plane = tensor.plane(0);
  for (std::uint32_t i = 0; i < plane.block_count; ++i) {
    const std::byte* const entry = file.data() + tensor.index_offset() + kEntryBytes * i;
    std::uint64_t offset = 0;
    std::uint32_t stored_length = 0;
    Stored block;
    std::memcpy(&offset, entry, 8);
    std::memcpy(&stored_length, entry + 8, 4);
    std::memcpy(&block.decoded_length, entry + 12, 4);
    block.codec = static_cast<Codec>(entry[16]);
    block.bytes = file.subspan(plane.offset + offset, stored_length);
    decoded_bytes_ += block.decoded_length;
    blocks_.push_back(block);
  }
}

void CodecBlocks::decompress_one(const Stored& block, std::span<std::byte> out) {
  std::size_t size = out.size();
  if (block.codec == Codec::zstd) {
    thread_local ZSTD_DCtx* const context = ZSTD_createDCtx();
    size = ZSTD_decompressDCtx(context, out.data(), out.size(), block.bytes.data(), block.bytes.size());
  } else if (block.codec == Codec::brotli) {
    BrotliDecoderDecompress(block.bytes.size(), reinterpret_cast<const std::uint8_t*>(block.bytes.data()), &size,
                            reinterpret_cast<std::uint8_t*>(out.data()));
  } else {
    std::memcpy(out.data(), block.bytes.data(), out.size());
  }
  if (size != out.size()) throw std::runtime_error("a codec cannot decompress a block that the library can");
}

void CodecBlocks::decompress(Workers& workers) const {
  for_parts(workers, blocks_.size(), 1, [&](Part part) {
    std::vector<std::byte> out(blocks_[0].decoded_length);
    for (std::uint64_t i = part.begin; i < part.end; ++i)
      decompress_one(blocks_[i], std::span(out).first(blocks_[i].decoded_length));
  });
}

}  // namespace cdna::tools::bench
