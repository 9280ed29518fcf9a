// What the library finds first in a file with one bit flipped, a line per bit: to compare with the reference decoder.
//
//   examine_flips write FILE        writes the small sample
//   examine_flips FILE BEGIN END    "BIT STAGE RULE" for bits BEGIN to END; stage: open, item N, deep, clean
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cdna/fsck.hpp"
#include "sample_file.hpp"

namespace {

using Bytes = std::vector<std::byte>;

// The first rule in the order of spec/format.md 16.2, with an item's unsupported features (U rules) not counting as
// faults.
std::string first_fault(const Bytes& file) {
  const auto reader = cdna::Reader::open(cdna::memory_source(file));
  if (!reader) return std::string("open ") + reader.error().rule;
  for (std::uint32_t item = 0; item < reader->item_count(); ++item) {
    const auto content = cdna::test::read_item(*reader, item);
    if (!content) return "item " + std::to_string(item) + " " + content.error().rule;
  }
  cdna::FsckOptions options;
  options.level = cdna::FsckLevel::deep;
  const cdna::FsckReport report = cdna::fsck(cdna::memory_source(file), options);
  return report.valid ? "clean" : std::string("deep ") + report.problems.at(0).error.rule;
}

int write_sample(const char* path) {
  const Bytes sample = cdna::test::make_small_sample();
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(sample.data()), static_cast<std::streamsize>(sample.size()));
  stream.close();
  return stream ? 0 : 8;
}

int examine(const char* path, std::uint64_t begin, std::uint64_t end) {
  std::ifstream stream(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  Bytes file(bytes.begin(), bytes.end());
  if (begin > end || end > 8 * file.size()) return 16;
  for (std::uint64_t bit = begin; bit < end; ++bit) {
    file[bit / 8] ^= std::byte{1} << (bit % 8);
    std::printf("%llu %s\n", static_cast<unsigned long long>(bit), first_fault(file).c_str());
    file[bit / 8] ^= std::byte{1} << (bit % 8);
  }
  return std::fflush(stdout) == 0 ? 0 : 8;
}

}  // namespace

int main(int count, char** arguments) try {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  if (words.size() == 2 && words[0] == "write") return write_sample(words[1].c_str());
  if (words.size() == 3) {
    return examine(words[0].c_str(), std::strtoull(words[1].c_str(), nullptr, 10),
                   std::strtoull(words[2].c_str(), nullptr, 10));
  }
  std::fputs("usage: examine_flips write FILE | examine_flips FILE BEGIN END\n", stderr);
  return 16;
} catch (const std::exception& error) {
  std::fprintf(stderr, "examine_flips: %s\n", error.what());
  return 8;
}
