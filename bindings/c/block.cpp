// Blocks, one by one: acquired by number, or walked over.
#include <memory>
#include <optional>

#include "bindings/c/reader.hpp"

namespace cdna::c {
namespace {

// What an acquired block points into. Has the file open, too.
struct BlockOwner {
  Reader reader;
  BlockRange range;
};

cdna_block block_of(const Block& given) {
  cdna_block block{};
  block.in_place = given.in_place ? 1 : 0;
  block.number = given.number;
  block.row_begin = given.row_begin;
  block.row_count = given.row_count;
  block.col_begin = given.entry_begin;
  block.col_count = given.entry_count;
  block.data = given.data.data();
  block.data_size = given.data.size();
  block.max_abs_error = given.max_abs_error;
  if (!given.row_scales.empty()) block.row_scales = given.row_scales.data();
  if (!given.group_scales.empty()) block.group_scales = given.group_scales.data();
  block.group_scales_size = given.group_scales.size();
  block.outlier_count = given.outlier_count;
  if (block.outlier_count == 0) return block;
  block.outlier_values = given.outlier_values.data();
  block.outlier_positions = given.outlier_positions.data();
  return block;
}

Result<void> acquire(const cdna_reader* reader, std::uint64_t number, std::uint64_t block, cdna_block* ret_block) {
  const Tensor tensor = CDNA_TRY(tensor_of(reader, number));
  const std::uint64_t count = tensor.plane(0).block_count;
  if (block >= count)
    return bad_argument_of(*reader, tensor, "block is " + std::to_string(block) + " of " + std::to_string(count));
  const std::uint32_t size = CDNA_TRY(struct_size(ret_block, "ret_block"));
  if (size < offsetof(cdna_block, owner) + sizeof ret_block->owner)
    return bad_argument("ret_block: struct_size is " + std::to_string(size) + ", without the owner");
  BlockRange range = CDNA_TRY(tensor.numbered_blocks(block, block + 1));
  auto owner = std::make_unique<BlockOwner>(BlockOwner{reader->reader, std::move(range)});
  const Result<Block>& fetched = *owner->range.begin();
  if (!fetched) return fetched.error();
  cdna_block out = block_of(*fetched);
  out.owner = owner.get();
  CDNA_TRY(give_struct(out, ret_block, "ret_block"));
  (void)owner.release();
  return {};
}

void release(cdna_block& block) {
  free_handle(static_cast<BlockOwner*>(block.owner));
  block.data = nullptr;
  block.row_scales = nullptr;
  block.group_scales = nullptr;
  block.outlier_values = nullptr;
  block.outlier_positions = nullptr;
  block.owner = nullptr;
}

}  // namespace
}  // namespace cdna::c

struct cdna_blocks {
  cdna::Reader reader;
  cdna::BlockRange range;
  std::optional<cdna::BlockRange::Iterator> at;
};

namespace cdna::c {
namespace {

Result<void> open_blocks(const cdna_reader* reader, std::uint64_t number, std::uint64_t row_begin,
                         std::uint64_t row_end, cdna_blocks** ret_blocks) {
  const RowRange rows = CDNA_TRY(row_range(reader, number, row_begin, row_end));
  CDNA_TRY(need(ret_blocks, "ret_blocks"));
  BlockRange range = CDNA_TRY(rows.named.tensor.blocks(rows.begin, rows.end));
  *ret_blocks = std::make_unique<cdna_blocks>(cdna_blocks{reader->reader, std::move(range), {}}).release();
  return {};
}

// False at the end.
Result<bool> next(cdna_blocks* blocks, cdna_block* ret_block) {
  CDNA_TRY(need(blocks, "blocks"));
  CDNA_TRY(struct_size(ret_block, "ret_block"));
  if (!blocks->at) {
    blocks->at = blocks->range.begin();
  } else if (*blocks->at != blocks->range.end()) {
    ++*blocks->at;
  }
  if (*blocks->at == blocks->range.end()) return false;
  const Result<Block>& block = **blocks->at;
  if (!block) return block.error();
  CDNA_TRY(give_struct(block_of(*block), ret_block, "ret_block"));
  return true;
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_block_acquire(const cdna_reader* reader, uint64_t tensor, uint64_t block, cdna_block* ret_block,
                             cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::acquire(reader, tensor, block, ret_block); });
}

void cdna_block_release(cdna_block* block) {
  if (block != nullptr && block->owner != nullptr) cdna::c::release(*block);
}

cdna_code cdna_blocks_open(const cdna_reader* reader, uint64_t tensor, uint64_t row_begin, uint64_t row_end,
                           cdna_blocks** ret_blocks, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::open_blocks(reader, tensor, row_begin, row_end, ret_blocks); });
}

cdna_code cdna_blocks_next(cdna_blocks* blocks, cdna_block* ret_block, cdna_error* error) {
  bool more = false;
  const cdna_code code = cdna::c::guarded(error, [&]() -> cdna::Result<void> {
    more = CDNA_TRY(cdna::c::next(blocks, ret_block));
    return {};
  });
  return code == CDNA_OK && !more ? CDNA_END : code;
}

void cdna_blocks_free(cdna_blocks* blocks) { cdna::c::free_handle(blocks); }

}  // extern "C"
