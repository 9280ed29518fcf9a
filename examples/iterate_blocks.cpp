// Walks all blocks of all tensors: iterate_blocks FILE. Damaged blocks are reported; those after them are still read.
#include <cstdio>

#include "cdna/reader.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 16;
  const auto reader = cdna::Reader::open(argv[1]);
  if (!reader) return std::fprintf(stderr, "%s\n", reader.error().describe().c_str()), 4;
  int code = 0;
  for (std::uint32_t i = 0; i < reader->tensor_count(); ++i) {
    const cdna::Tensor tensor = reader->resolve(reader->tensor_item(i));
    auto blocks = tensor.blocks();
    if (!blocks) {
      std::fprintf(stderr, "%s\n", blocks.error().describe().c_str());
      code = 4;
      continue;
    }
    for (const cdna::Result<cdna::Block>& block : *blocks) {
      if (block) {
        std::printf("%s rows %llu..%llu: %zu bytes%s\n", cdna::escape(tensor.name()).c_str(),
                    static_cast<unsigned long long>(block->row_begin),
                    static_cast<unsigned long long>(block->row_begin + block->row_count), block->data.size(),
                    block->in_place ? ", in place" : "");
      } else {
        std::fprintf(stderr, "%s\n", block.error().describe().c_str());
        code = 4;
      }
    }
  }
  return code;
}
