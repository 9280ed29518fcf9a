// Writes a file with one exact and one compressed tensor: write_file DST.cdna.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "cdna/writer.hpp"

int main(int argc, char** argv) {
  if (argc != 2) return 16;
  std::vector<float> weights(std::size_t{256} * 128);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i) * 0.7F);
  const auto data = [&weights](std::uint64_t offset, std::span<std::byte> out) -> cdna::Result<void> {
    std::memcpy(out.data(), reinterpret_cast<const std::byte*>(weights.data()) + offset, out.size());
    return {};
  };
  const auto write = [&]() -> cdna::Result<cdna::Digest> {
    auto sink = cdna::create_file(argv[1]);
    if (!sink) return sink.error();
    auto writer = cdna::Writer::create(*std::move(sink));
    if (!writer) return writer.error();
    if (auto item = writer->add_exact({"exact", cdna::DType::f32, {256, 128}}, data); !item) return item.error();
    if (auto item = writer->add_codebook({"compressed", cdna::DType::f32, {256, 128}}, {}, data); !item)
      return item.error();
    return writer->finish({{"licence", std::string("Apache-2.0")}});
  };
  const auto root = write();
  if (!root) return std::fprintf(stderr, "%s\n", root.error().describe().c_str()), 8;
  std::printf("%s\n", cdna::to_hex(*root).c_str());
  return 0;
}
