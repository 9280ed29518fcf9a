// Fuzz target: mutations of CDNA files that know their structure and make the digests right again.
#include <algorithm>
#include <random>
#include <span>

#include "fuzz/mutate.hpp"
#include "fuzz/open_file.hpp"
#include "fuzz/repair.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using cdna::fuzz::ByteMutator;
constexpr std::size_t kChangesMax = 4;

// Mostly all digests are made right; else a random part of them stays wrong.
void repair_most(std::span<std::byte> file, std::mt19937_64& random) {
  const bool all = random() % 8 != 0;
  cdna::fuzz::repair(file, all ? std::uint8_t{cdna::fuzz::kRepairAll} : static_cast<std::uint8_t>(random() & 0xFF));
}

// libFuzzer's mutation, which knows what earlier comparisons looked for; it may shorten, but not lengthen.
void mutate_by_libfuzzer(std::span<std::byte> bytes) {
  LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size(), bytes.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cdna::fuzz::check_input(data, size);
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned int seed) {
  std::mt19937_64 random(seed);
  if (size < 2 || random() % 64 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::span<std::byte> file = std::as_writable_bytes(std::span(data, size - 1));
  const bool own = random() % 2 == 0;
  const ByteMutator mutator = own ? cdna::fuzz::byte_mutator(random) : ByteMutator(mutate_by_libfuzzer);
  for (std::size_t left = 1 + random() % kChangesMax; left-- > 0;) cdna::fuzz::mutate(file, random, mutator);
  repair_most(file, random);
  if (random() % 8 == 0) data[size - 1] = static_cast<std::uint8_t>(random() & 0xFF);
  return size;
}

extern "C" std::size_t LLVMFuzzerCustomCrossOver(const std::uint8_t* data1, std::size_t size1,
                                                 const std::uint8_t* data2, std::size_t size2, std::uint8_t* out,
                                                 std::size_t max_out_size, unsigned int seed) {
  if (size1 < 2 || size2 < 2 || size1 > max_out_size) return 0;
  std::mt19937_64 random(seed);
  std::copy_n(data1, size1, out);
  const std::span<std::byte> file = std::as_writable_bytes(std::span(out, size1 - 1));
  cdna::fuzz::splice(file, std::as_bytes(std::span(data2, size2 - 1)), random);
  repair_most(file, random);
  return size1;
}
