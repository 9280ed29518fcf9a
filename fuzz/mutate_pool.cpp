// Mutated and repaired CDNA files, and what the library finds in them: for comparison with the reference decoder.
//
//   mutate_pool SEED COUNT POOL VECTOR...    writes COUNT files to POOL, each after its length (u32); prints a line of
//                                            JSON for each, the document of spec/format.md section 19
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "fuzz/mutate.hpp"
#include "fuzz/repair.hpp"
#include "libcdna/hash/sha256.hpp"
#include "tests/sample_file.hpp"

namespace {

using namespace cdna;
using nlohmann::json;
using Bytes = std::vector<std::byte>;
using Random = std::mt19937_64;

// Kept low: the reference decoder is slow. What is over it is passed over (class limit without a rule).
constexpr std::uint64_t kDecodedBytesMax = std::uint64_t{1} << 16;
constexpr std::size_t kChangesMax = 3;

Bytes load_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path);
  const std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

json fault_of(const Error& error) { return {{"rule", error.rule}, {"class", name_of(error.code)}}; }

// Members that both decoders copy from the footer alike (name, shape) are left out: the footer's own bytes are checked.
json item_outcome(const Reader& reader, std::uint32_t number) {
  const Item item = reader.item(number);
  const bool has_content = item.kind() <= ItemKind::metadata;
  json out{{"number", number}, {"shape", item.shape()}, {"decoded_sha256", nullptr}, {"status", "ok"}};
  if (!has_content) {
    if (auto result = item.verify(); !result) out["status"] = fault_of(result.error());
    return out;
  }
  const auto bytes = test::read_item(reader, number);
  if (bytes) {
    out["decoded_sha256"] = to_hex(sha256(*bytes));
  } else {
    out["status"] = fault_of(bytes.error());
  }
  return out;
}

json examine(const Bytes& file) {
  OpenOptions options;
  options.limits.tensor_decoded_bytes_max = kDecodedBytesMax;
  json out{{"items", json::array()}, {"deep", nullptr}, {"open", "ok"}};
  const auto reader = Reader::open(memory_source(file), options);
  if (!reader) {
    out["open"] = fault_of(reader.error());
    return out;
  }
  bool readable = true;
  for (std::uint32_t i = 0; i < reader->item_count(); ++i) {
    out["items"].push_back(item_outcome(*reader, i));
    const json& status = out["items"].back()["status"];
    readable = readable && (status == "ok" || status["rule"].get<std::string>().starts_with('U'));
  }
  if (!readable) return out;
  FsckOptions deep;
  deep.level = FsckLevel::deep;
  deep.limits = options.limits;
  const FsckReport report = fsck(memory_source(file), deep);
  out["deep"] = report.valid ? json("clean") : fault_of(report.problems.at(0).error);
  return out;
}

// A vector after some changes, mostly with its digests made right.
Bytes next_file(const std::vector<Bytes>& vectors, Random& random) {
  Bytes file = vectors[random() % vectors.size()];
  const auto mutate_bytes = fuzz::byte_mutator(random);
  for (std::size_t left = 1 + random() % kChangesMax; left-- > 0;) {
    if (random() % 8 == 0) {
      fuzz::splice(file, vectors[random() % vectors.size()], random);
    } else {
      fuzz::mutate(file, random, mutate_bytes);
    }
  }
  const bool all = random() % 8 != 0;
  fuzz::repair(file, all ? std::uint8_t{fuzz::kRepairAll} : static_cast<std::uint8_t>(random() & 0xFF));
  return file;
}

void make_pool(std::uint64_t seed, std::uint64_t count, const std::string& pool, const std::vector<Bytes>& vectors) {
  Random random(seed);
  std::ofstream stream(pool, std::ios::binary);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Bytes file = next_file(vectors, random);
    const auto size = static_cast<std::uint32_t>(file.size());
    stream.write(reinterpret_cast<const char*>(&size), sizeof size);
    stream.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
    std::printf("%s\n", examine(file).dump().c_str());
  }
  stream.close();
  if (!stream || std::fflush(stdout) != 0) throw std::runtime_error("cannot write " + pool);
}

}  // namespace

int main(int count, char** arguments) try {
  const std::vector<std::string> words(arguments + 1, arguments + count);
  if (words.size() < 4) {
    std::fputs("usage: mutate_pool SEED COUNT POOL VECTOR...\n", stderr);
    return 16;
  }
  std::vector<Bytes> vectors;
  for (std::size_t i = 3; i < words.size(); ++i) vectors.push_back(load_file(words[i]));
  make_pool(std::strtoull(words[0].c_str(), nullptr, 10), std::strtoull(words[1].c_str(), nullptr, 10), words[2],
            vectors);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "mutate_pool: %s\n", error.what());
  return 8;
}
