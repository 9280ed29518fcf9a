// Reads rows of a tensor into floats: read_rows FILE TENSOR BEGIN END. Every byte that is used has been verified.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cdna/reader.hpp"

int main(int argc, char** argv) {
  if (argc != 5) return 16;
  const auto reader = cdna::Reader::open(argv[1]);
  if (!reader) return std::fprintf(stderr, "%s\n", reader.error().describe().c_str()), 4;
  const auto tensor = reader->find(argv[2]);
  const auto begin = std::strtoull(argv[3], nullptr, 10);
  const auto end = std::strtoull(argv[4], nullptr, 10);
  if (!tensor || begin > end || end > tensor->rows()) return std::fprintf(stderr, "no such tensor or rows\n"), 16;
  std::vector<float> values((end - begin) * tensor->cols());
  const auto result = tensor->read_rows(begin, end, cdna::DType::f32, std::as_writable_bytes(std::span(values)));
  if (!result) return std::fprintf(stderr, "%s\n", result.error().describe().c_str()), 4;
  for (const float value : values) std::printf("%g\n", static_cast<double>(value));
  return 0;
}
