// Writes one small deterministic CDNA file, for kill_writer.py to stop at every system call and to compare builds by.
//
//   write_sample DST [--force] [--no-tmpfile]        a file at DST; says "begin" on stderr when all before it is done
//   write_sample --print-sha256 [--threads N]        the SHA-256 of a larger file made in memory, with all presets
//
// Exit codes: 0 written, 1 an error of the library (on stderr), 2 usage.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/writer.hpp"
#include "libcdna/hash/sha256.hpp"

using namespace cdna;

namespace {

using Bytes = std::vector<std::byte>;

// As on NFS and FUSE file systems.
class NoTmpfile final : public FileSystem {
  int openat(int directory, const char* path, int flags, mode_t mode) override {
    return (flags & O_TMPFILE) == O_TMPFILE ? -EOPNOTSUPP : FileSystem::openat(directory, path, flags, mode);
  }
};

// SplitMix64, seed fixed: the same numbers everywhere, without a libm.
std::uint64_t noise(std::uint64_t index) {
  std::uint64_t z = (index + 1) * 0x9E3779B97F4A7C15U;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// The sum of four uniform numbers: bell-shaped, exact in f64.
double weight(std::uint64_t index) {
  const std::uint64_t bits = noise(index);
  double sum = 0;
  for (int shift = 0; shift < 64; shift += 16) sum += static_cast<double>(bits >> shift & 0xFFFFU) - 32767.5;
  const bool large = noise(index + (std::uint64_t{1} << 40)) % 700 == 0;
  return sum * (large ? 0x1p-13 : 0x1p-18);
}

Bytes weights(DType dtype, std::uint64_t count) {
  Bytes bytes(count * bits_of(dtype) / 8);
  for (std::uint64_t i = 0; i < count; ++i) {
    const double wide = weight(i);
    const auto narrow = static_cast<float>(wide);
    std::uint32_t bits = 0;
    std::memcpy(&bits, &narrow, sizeof bits);
    const auto upper = static_cast<std::uint16_t>(bits >> 16);
    // F16: 1.fraction * 2^-4 with the sign and fraction of the noise.
    const auto half = static_cast<std::uint16_t>((noise(i) & 0x83FFU) | 11U << 10);
    if (dtype == DType::f64) std::memcpy(&bytes[8 * i], &wide, 8);
    if (dtype == DType::f32) std::memcpy(&bytes[4 * i], &narrow, 4);
    if (dtype == DType::bf16) std::memcpy(&bytes[2 * i], &upper, 2);
    if (dtype == DType::f16) std::memcpy(&bytes[2 * i], &half, 2);
  }
  return bytes;
}

ByteReader reader_of(const Bytes& bytes) {
  return [&bytes](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
}

// Tensors of `rows` x 192, exact and codebook, an alias, an asset.
Result<Digest> write_items(Writer& writer, std::uint64_t rows, Codec codec) {
  constexpr std::uint64_t kCols = 192;
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    const Bytes bytes = weights(dtype, rows * kCols);
    const std::string name(name_of(dtype));
    auto added =
        writer.add_codebook({"codebook." + name, dtype, {rows, kCols}, Role::matrix, codec}, {}, reader_of(bytes));
    if (!added) return added.error();
  }
  const Bytes bytes = weights(DType::f32, rows * kCols);
  auto added = writer.add_exact({"exact", DType::f32, {rows, kCols}, Role::other, codec}, reader_of(bytes));
  if (added) added = writer.add_alias("alias", *added);
  if (added) added = writer.add_asset("asset", "text/plain", 100, codec, reader_of(bytes));
  if (!added) return added.error();
  return writer.finish();
}

// A tensor for each preset and for other parameters, of the four types in turn.
Result<void> write_presets(Writer& writer, std::uint64_t rows) {
  constexpr std::uint64_t kCols = 192;
  std::vector<std::string> texts(preset_names().begin(), preset_names().end());
  texts.insert(texts.end(), {"cb8,class=pwl16", "cb8g64,class=pwl16,outliers=0.01", "cb4g32,class=affine",
                             "cb4g32,k=15,group=128", "cb6g64,k=50,outliers=0.001"});
  std::size_t number = 0;
  for (const std::string& text : texts) {
    const auto preset = parse_preset(text);
    if (!preset) return preset.error();
    const DType dtype = std::array{DType::bf16, DType::f32, DType::f16, DType::f64}[number++ % 4];
    const Bytes bytes = weights(dtype, rows * kCols);
    // Embeddings have small blocks: several of them here.
    TensorSpec spec{"preset." + text, dtype, {rows, kCols}, Role::embedding, Codec::raw};
    const bool planes = preset->method == Preset::Method::exact_z;
    if (planes) spec.codec = Codec::zstd;  // Its version matters; builds on one machine have the same.
    if (planes) spec.filter = Filter::byte_planes;
    const auto added = preset->method == Preset::Method::codebook
                           ? writer.add_codebook(spec, preset->codebook, reader_of(bytes))
                           : writer.add_exact(spec, reader_of(bytes));
    if (!added) return added.error();
  }
  return {};
}

int report(const Error& error) {
  std::fprintf(stderr, "%s\n", error.describe().c_str());
  return 1;
}

int write_file(const std::string& path, const FileSinkOptions& options) {
  static constexpr std::string_view kBegin = "begin\n";
  if (::write(STDERR_FILENO, kBegin.data(), kBegin.size()) < 0) return 1;
  auto sink = create_file(path, options);
  if (!sink) return report(sink.error());
  auto writer = Writer::create(*std::move(sink));
  if (!writer) return report(writer.error());
  const auto root = write_items(*writer, 12, Codec::raw);  // Raw: the reference reader needs no module.
  return root ? 0 : report(root.error());
}

int print_sha256(unsigned threads) {
  Bytes out;
  auto writer = Writer::create(memory_sink(out), {4096, threads, nullptr});
  if (!writer) return report(writer.error());
  const auto presets = write_presets(*writer, 3'000);  // Three blocks each, as below.
  if (!presets) return report(presets.error());
  const auto root = write_items(*writer, 12'000, Codec::raw);  // Raw: no version of a codec matters.
  if (!root) return report(root.error());
  std::printf("%s\n", to_hex(sha256(out)).c_str());
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  std::string path;
  bool hash = false;
  unsigned threads = 1;
  NoTmpfile no_tmpfile;
  FileSinkOptions options;
  for (int i = 1; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--force") {
      options.force = true;
    } else if (argument == "--no-tmpfile") {
      options.file_system = &no_tmpfile;
    } else if (argument == "--print-sha256") {
      hash = true;
    } else if (argument == "--threads" && i + 1 < count) {
      threads = static_cast<unsigned>(std::stoul(arguments[++i]));
    } else {
      path = argument;
    }
  }
  if (hash == !path.empty()) return 2;
  return hash ? print_sha256(threads) : write_file(path, options);
}
