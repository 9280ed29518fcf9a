// The same bits for every number of threads, block size, codec, source, trust mode and budget; in f32 for every
// instruction set.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "small_floats.hpp"
#include "temporary_folder.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x62697473;
constexpr std::uint64_t kRowCount = 203;
constexpr std::uint64_t kColCount = 333;

// A tensor that can be cut into blocks in any way.
struct Subject {
  std::string name;
  std::function<Bytes(const BlockLayout&)> file;
  bool has_int8 = false;
};

// Entries that kernels may look up as 16 lines, every code used.
Subject lines() {
  CodebookShape shape;
  shape.rows = kRowCount;
  shape.cols = kColCount;
  CodebookPlanes planes = random_planes(shape, kSeed);
  for (std::size_t code = 0; code < planes.codebook.size(); ++code) {
    const auto base = static_cast<double>(code / 16) / 4 - 1.876953125;  // An odd multiple of 2^-9.
    planes.codebook[code] = value_of_f16(f16_of(base + static_cast<double>(code % 16) * 0x1.0Cp-6));
  }
  return {"8 bits, lines", [planes](const BlockLayout& layout) { return file_of(planes, layout); }, true};
}

Subject codes(std::uint32_t bits, std::uint32_t group, DType codebook_dtype = DType::f16) {
  CodebookShape shape;
  shape.rows = kRowCount;
  shape.cols = kColCount;
  shape.bits = bits;
  shape.group = group;
  shape.codebook_dtype = codebook_dtype;
  shape.outlier_dtype = DType::bf16;
  shape.codes_used = 1 + (1U << bits) / 8;  // Compressible, and random enough.
  const CodebookPlanes planes = random_planes(shape, kSeed + bits);
  return {std::to_string(bits) + " bits, group " + std::to_string(group),
          [planes](const BlockLayout& layout) { return file_of(planes, layout); }, bits <= 8};
}

Subject exact(DType dtype) {
  Noise noise(kSeed);
  std::vector<double> values(kRowCount * kColCount);
  for (double& value : values) value = static_cast<double>(noise.below(2001)) / 16 - 60;
  const Bytes elements = cdna::test::bytes_of(dtype, values);
  return {std::string(name_of(dtype)),
          [=](const BlockLayout& layout) { return file_of_exact(dtype, kRowCount, kColCount, elements, layout); },
          false};
}

const std::vector<Subject>& subjects() {
  static const std::vector<Subject> all{codes(8, 0),        lines(),          codes(8, 64),
                                        codes(6, 64),       codes(5, 32),     codes(4, 32),
                                        codes(3, 128),      codes(11, 0),     codes(4, 0, DType::f32),
                                        exact(DType::bf16), exact(DType::f64)};
  return all;
}

// What is multiplied, in which way.
struct Way {
  Math math;
  Orientation orientation;
  std::uint64_t m;
};

std::vector<Way> ways_of(const Subject& subject) {
  std::vector<Way> ways;
  for (const std::uint64_t m : {1U, 3U, 4U, 5U, 17U, 64U}) {
    for (const Math math : {Math::f32, Math::bf16}) {
      for (const Orientation orientation : {Orientation::linear, Orientation::transposed})
        ways.push_back({math, orientation, m});
    }
    if (subject.has_int8) ways.push_back({Math::int8, Orientation::linear, m});
  }
  return ways;
}

std::string text_of(const Way& way) {
  return std::string(name_of(way.math)) + (way.orientation == Orientation::linear ? ", linear" : ", transposed") +
         ", m " + std::to_string(way.m);
}

MatmulOptions options_of(const Way& way) {
  MatmulOptions options;
  options.math = way.math;
  options.orientation = way.orientation;
  return options;
}

Operand operand_of(const Way& way) {
  return random_operand(way.m, way.orientation == Orientation::linear ? kColCount : kRowCount, kSeed + way.m);
}

Tensor tensor_of(const Reader& reader) { return reader.find("w").value(); }

// One body after the other, the last first.
Workers reversed_workers(unsigned concurrency) {
  return {concurrency, [](std::size_t count, const std::function<void(std::size_t)>& body) {
            while (count-- > 0) body(count);
          }};
}

}  // namespace

TEST_CASE("matmul determinism: any number of threads, and bodies that run one by one in reverse, give the same bits") {
  INFO("seed " << kSeed);
  CaseStride stride;
  std::vector<Workers> pools;
  for (const unsigned threads : {1U, 2U, 3U, 8U}) pools.emplace_back(threads);
  for (const Subject& subject : subjects()) {
    for (const std::uint32_t rows_per_block : {1U, 21U}) {
      const Bytes bytes = subject.file({rows_per_block, 1, Codec::raw});
      const Reader reader = must(Reader::open(memory_source(bytes)));
      for (const Way& way : ways_of(subject)) {
        if (!stride.takes_next()) continue;
        INFO(subject.name << ", " << text_of(way) << ", " << rows_per_block << " rows per block");
        const Operand x = operand_of(way);
        MatmulOptions options = options_of(way);
        const std::vector<float> alone = multiply(tensor_of(reader), x, options);
        for (Workers& own : pools) {
          const unsigned threads = own.concurrency();
          Workers reversed = reversed_workers(threads);
          for (Workers* const workers : {&own, &reversed}) {
            options.workers = workers;
            INFO(threads << " threads" << (workers == &reversed ? " in reverse" : ""));
            CHECK(difference(alone, multiply(tensor_of(reader), x, options)) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("matmul determinism: any cut into blocks and any codec gives the same bits") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const Subject& subject : subjects()) {
    const Bytes first = subject.file({16, 1, Codec::raw});
    const Reader reader = must(Reader::open(memory_source(first)));
    for (const BlockLayout& layout :
         {BlockLayout{1, 1, Codec::raw}, BlockLayout{3, 2, Codec::zstd}, BlockLayout{64, 1, Codec::raw},
          BlockLayout{65, 3, Codec::brotli}, BlockLayout{1000, 1, Codec::zstd}, BlockLayout{0, 1, Codec::raw}}) {
      const Bytes second = subject.file(layout);
      const Reader other = must(Reader::open(memory_source(second)));
      for (const Way& way : ways_of(subject)) {
        if (!stride.takes_next()) continue;
        INFO(subject.name << ", " << text_of(way) << ", " << layout.rows_per_block << " rows per block, "
                          << name_of(layout.coding.codec));
        const Operand x = operand_of(way);
        CHECK(difference(multiply(tensor_of(reader), x, options_of(way)),
                         multiply(tensor_of(other), x, options_of(way))) == "");
      }
    }
  }
}

TEST_CASE("matmul determinism: a cut within rows gives the same bits whatever the threads and the codec") {
  INFO("seed " << kSeed);
  constexpr std::uint64_t kLong = (std::uint64_t{1} << 20) + (std::uint64_t{1} << 19) + 77;
  CodebookShape shape;
  shape.rows = 2;
  shape.cols = kLong;
  shape.bits = 4;
  shape.group = 32;
  shape.codes_used = 3;
  shape.outlier_dtype = DType::f32;
  shape.elements_per_outlier = 5000;
  const CodebookPlanes planes = random_planes(shape, kSeed);
  const Bytes whole = file_of(planes, {1, 1, Codec::raw});
  const Reader reader = must(Reader::open(memory_source(whole)));
  CaseStride stride;
  for (const Codec codec : {Codec::raw, Codec::zstd, Codec::brotli}) {
    const Bytes cut = file_of(planes, {0, 1, codec});
    const Reader other = must(Reader::open(memory_source(cut)));
    for (const Way& way : {Way{Math::f32, Orientation::linear, 1}, Way{Math::f32, Orientation::linear, 5},
                           Way{Math::f32, Orientation::transposed, 2}, Way{Math::bf16, Orientation::linear, 2},
                           Way{Math::bf16, Orientation::linear, 6}, Way{Math::int8, Orientation::linear, 1}}) {
      if (!stride.takes_next()) continue;
      const Operand x = random_operand(way.m, way.orientation == Orientation::linear ? kLong : 2, kSeed);
      MatmulOptions options = options_of(way);
      const std::vector<float> expected = multiply(tensor_of(reader), x, options);
      for (const unsigned threads : {1U, 3U}) {
        Workers workers(threads);
        options.workers = &workers;
        INFO(text_of(way) << ", " << name_of(codec) << ", " << threads << " threads");
        CHECK(difference(expected, multiply(tensor_of(other), x, options)) == "");
      }
    }
  }
}

TEST_CASE("matmul determinism: every source and trust mode gives the same bits, and the plan names them") {
  INFO("seed " << kSeed);
  CaseStride stride;
  const TemporaryFolder folder;
  const std::string path = folder / "w.cdna";
  for (const Subject& subject : subjects()) {
    for (const Codec codec : {Codec::raw, Codec::zstd}) {
      const Bytes bytes = subject.file({20, 1, codec});
      save_file(path, bytes);
      const Reader first = must(Reader::open(memory_source(bytes)));
      struct Opened {
        const char* io;
        const char* trust;
        Reader reader;
      };
      const auto open = [&](Io io, Trust trust) {
        OpenOptions options;
        options.io = io;
        options.trust = trust;
        return must(Reader::open(path, options));
      };
      std::vector<Opened> others;
      others.push_back({"mmap", "zero_copy", open(Io::mmap, Trust::automatic)});
      others.push_back({"mmap", "strict", open(Io::mmap, Trust::strict)});
      others.push_back({"pread", "strict", open(Io::pread, Trust::automatic)});
      others.push_back({"memory", "strict", must(Reader::open(memory_source(bytes, false)))});
      for (const Opened& other : others) {
        const MatmulPlan plan = must(describe(tensor_of(other.reader), 1));
        CHECK(plan.io == other.io);
        CHECK(plan.trust == other.trust);
        for (const Way& way : ways_of(subject)) {
          if (!stride.takes_next()) continue;
          const Operand x = operand_of(way);
          MatmulOptions options = options_of(way);
          const std::vector<float> expected = multiply(tensor_of(first), x, options);
          for (const unsigned threads : {1U, 2U}) {
            Workers workers(threads);
            options.workers = &workers;
            INFO(subject.name << ", " << text_of(way) << ", " << name_of(codec) << ", " << other.io << ", "
                              << other.trust << ", " << threads << " threads");
            CHECK(difference(expected, multiply(tensor_of(other.reader), x, options)) == "");
          }
        }
      }
    }
  }
}

TEST_CASE("matmul determinism: in f32 every instruction set gives the same bits") {
  INFO("seed " << kSeed);
  CaseStride stride;
  for (const Subject& subject : subjects()) {
    const Bytes bytes = subject.file({16, 1, Codec::raw});
    const Reader reader = must(Reader::open(memory_source(bytes)));
    for (const Way& way : ways_of(subject)) {
      if (way.math != Math::f32 || !stride.takes_next()) continue;
      const Operand x = operand_of(way);
      MatmulOptions options = options_of(way);
      const std::vector<float> expected = multiply(tensor_of(reader), x, options);
      for (const Isa isa : available_isas()) {
        for (const unsigned threads : {1U, 3U}) {
          Workers workers(threads);
          options.workers = &workers;
          options.isa = isa;
          INFO(subject.name << ", " << text_of(way) << ", " << name_of(isa) << ", " << threads << " threads");
          CHECK(must(describe(tensor_of(reader), way.m, options)).isa == isa);
          CHECK(difference(expected, multiply(tensor_of(reader), x, options)) == "");
        }
      }
    }
  }
}

TEST_CASE("matmul determinism: little scratch memory makes several passes and in f32 gives the same bits") {
  INFO("seed " << kSeed);
  CaseStride stride;
  std::uint64_t passes_max = 0;
  for (const Subject& subject : subjects()) {
    const Bytes bytes = subject.file({8, 1, subject.has_int8 ? Codec::zstd : Codec::raw});
    const Reader reader = must(Reader::open(memory_source(bytes)));
    for (Way way : ways_of(subject)) {
      if (way.m == 64) way.m = 300;
      if (way.math != Math::f32 || !stride.takes_next()) continue;
      const Operand x = operand_of(way);
      MatmulOptions options = options_of(way);
      const std::vector<float> expected = multiply(tensor_of(reader), x, options);
      for (const unsigned threads : {1U, 3U}) {
        Workers workers(threads);
        options.workers = &workers;
        options.scratch_bytes_max = MatmulOptions().scratch_bytes_max;
        options.scratch_bytes_max = must(describe(tensor_of(reader), way.m, options)).scratch_bytes;
        for (;; options.scratch_bytes_max = options.scratch_bytes_max * 2 / 3) {
          INFO(subject.name << ", " << text_of(way) << ", " << threads << " threads, " << options.scratch_bytes_max
                            << " bytes");
          const auto plan = describe(tensor_of(reader), way.m, options);
          if (!plan) {
            CHECK(plan.error().code == Code::limit);
            break;
          }
          CHECK(plan->scratch_bytes <= options.scratch_bytes_max);
          passes_max = std::max(passes_max, plan->passes);
          CHECK(difference(expected, multiply(tensor_of(reader), x, options)) == "");
          if (options.scratch_bytes_max == 0) break;
        }
      }
    }
  }
  CHECK(passes_max > 1);
}

TEST_CASE("matmul determinism: a limit of resident pages does not change the bits") {
  INFO("seed " << kSeed);
  CaseStride stride;
  const TemporaryFolder folder;
  const std::string path = folder / "w.cdna";
  for (const Subject& subject : subjects()) {
    save_file(path, subject.file({8, 1, Codec::raw}));
    for (const Io io : {Io::mmap, Io::pread}) {
      OpenOptions open;
      open.io = io;
      const Reader reader = must(Reader::open(path, open));
      for (const Way& way : ways_of(subject)) {
        if (!stride.takes_next()) continue;
        const Operand x = operand_of(way);
        MatmulOptions options = options_of(way);
        const std::vector<float> expected = multiply(tensor_of(reader), x, options);
        for (const std::uint64_t resident : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{10000}}) {
          for (const unsigned threads : {1U, 2U}) {
            Workers workers(threads);
            options.workers = &workers;
            options.resident_bytes_max = resident;
            INFO(subject.name << ", " << text_of(way) << ", " << resident << " bytes, " << threads << " threads");
            CHECK(difference(expected, multiply(tensor_of(reader), x, options)) == "");
          }
        }
      }
    }
  }
}
