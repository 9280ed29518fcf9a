// The tools' reading of their own memory, on memory of known size.
#include "tools/memory_sampler.hpp"

#include <sys/mman.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

#include "cdna/source.hpp"
#include "temporary_folder.hpp"

using cdna::tools::MemorySampler;
using cdna::tools::parse_status;

namespace {

constexpr std::size_t kPart = std::size_t{16} << 20;
constexpr std::size_t kSlack = std::size_t{4} << 20;  // Other threads' and the sanitizers' own.
constexpr std::size_t kPageBytes = 4096;

// Private pages, taken and given back.
void touch_private_pages(std::chrono::milliseconds pause) {
  void* const pages = ::mmap(nullptr, kPart, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(pages != MAP_FAILED);
  for (std::size_t i = 0; i < kPart; i += kPageBytes) static_cast<volatile std::byte*>(pages)[i] = std::byte{1};
  std::this_thread::sleep_for(pause);
  ::munmap(pages, kPart);
}

}  // namespace

TEST_CASE("memory sampler: the two lines of a status are read in bytes") {
  const auto memory = parse_status("VmRSS:\t 9 kB\nRssAnon:\t     112 kB\nRssFile:\t    1652 kB\nRssShmem:\t 0 kB\n");
  CHECK(memory.private_bytes == 112 * 1024);
  CHECK(memory.file_backed_bytes == 1652 * 1024);
}

TEST_CASE("memory sampler: a status without the lines, or cut off within one, is 0") {
  for (const char* const text : {"", "VmRSS: 5 kB\n", "\nRssAnon:", "\nRssAnon:\t ", "\nRssFile:\tkB"}) {
    CAPTURE(text);
    CHECK(parse_status(text).private_bytes == 0);
    CHECK(parse_status(text).file_backed_bytes == 0);
  }
}

TEST_CASE("memory sampler: pages that are gone again are in the peak") {
  MemorySampler sampler;
  touch_private_pages(std::chrono::milliseconds(300));
  const std::uint64_t growth = sampler.peak_private_growth();
  CHECK(growth >= kPart);
  CHECK(growth < 8 * kPart);  // With a sanitizer's shadow of it.
  CHECK(sampler.peak_private_growth() == growth);
}

TEST_CASE("memory sampler: what was there before does not count") {
  std::vector<std::byte> before(kPart, std::byte{1});
  MemorySampler sampler;
  CHECK(sampler.peak_private_growth() < kSlack);
  CHECK(before.back() == std::byte{1});
}

TEST_CASE("memory sampler: pages of a mapped file count as file-backed, not as private") {
  const cdna::test::TemporaryFolder folder;
  cdna::test::save_file(folder / "file", std::vector<std::byte>(kPart, std::byte{1}));
  const auto source = cdna::open_source(folder / "file", cdna::Io::mmap);
  REQUIRE(source);
  MemorySampler sampler;
  const std::uint64_t before = sampler.peak_file_backed();
  REQUIRE((*source)->populate(0, kPart));
  CHECK(sampler.peak_file_backed_growth() >= kPart);
  CHECK(sampler.peak_file_backed() >= before + kPart);
  CHECK(sampler.peak_private_growth() < kSlack);
}
