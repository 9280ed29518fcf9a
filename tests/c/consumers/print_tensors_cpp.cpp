// The same as print_tensors.c by the C++ interface and its static library.
#include <cdna/import.hpp>
#include <cdna/reader.hpp>
#include <cdna/version.hpp>
#include <cstdio>
#include <string>
#include <vector>

static int fail(const cdna::Error& error) {
  std::fprintf(stderr, "%s\n", error.describe().c_str());
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto reader = cdna::Reader::open(argv[1]);
  if (!reader) return fail(reader.error());
  std::printf("libcdna %s, %d\n", std::string(cdna::kLibraryVersion).c_str(), 1);
  if (cdna::open_model("missing.safetensors")) return 3;  // The reading of other formats is in the archive, too.
  for (std::uint32_t i = 0; i < reader->tensor_count(); ++i) {
    const cdna::Item item = reader->tensor_item(i);
    const cdna::Tensor tensor = reader->resolve(item);  // Of an alias, the tensor that it stands for.
    std::vector<float> values(tensor.rows() * tensor.cols());
    const auto read = tensor.read_rows(0, tensor.rows(), cdna::DType::f32, std::as_writable_bytes(std::span(values)));
    if (!read) return fail(read.error());
    std::printf("%s %llu %llu", std::string(item.name()).c_str(), static_cast<unsigned long long>(tensor.rows()),
                static_cast<unsigned long long>(tensor.cols()));
    for (const float value : values) std::printf(" %a", static_cast<double>(value));
    std::printf("\n");
  }
  return 0;
}
