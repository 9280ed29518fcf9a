// What matmul() refuses, and what becomes of damaged, missing and unreadable blocks.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "cdna/matmul.hpp"
#include "matmul_reference.hpp"
#include "temporary_folder.hpp"
#include "tensor_file.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

constexpr std::uint64_t kSeed = 0x657272;
constexpr std::uint64_t kRowCount = 40;
constexpr std::uint64_t kColCount = 100;

CodebookPlanes some_planes(std::uint32_t bits = 8, std::uint32_t group = 0) {
  CodebookShape shape;
  shape.rows = kRowCount;
  shape.cols = kColCount;
  shape.bits = bits;
  shape.group = group;
  shape.outlier_dtype = DType::f32;
  return random_planes(shape, kSeed);
}

// Ten blocks of each plane that has rows, of two tensors of codes and one of values.
const Bytes& good_file() {
  static const Bytes file = [] {
    TensorFile out;
    out.add("a", some_planes(), {4, 1, Codec::raw});
    out.add("b", some_planes(4, 32), {4, 1, Codec::raw});
    out.add_exact("c", DType::f32, kRowCount, kColCount, bytes_of_values(Random(kSeed).weights(kRowCount * kColCount)),
                  {4, 1, Codec::raw});
    return out.finish();
  }();
  return file;
}

// A call on buffers of its own.
struct Call {
  std::vector<WeightRows> parts;
  Operand x;
  std::uint64_t y_rows;
  std::uint64_t y_cols;
  MatmulOptions options;

  Result<void> run() const {
    StridedMatrix input(DType::f32, x.rows, x.cols);
    input.set(x.values);
    StridedMatrix output(DType::f32, y_rows, y_cols);
    const Result<void> result = matmul(parts, input.input(), output.output(), options);
    if (!output.is_poison_intact()) FAIL_CHECK("bytes around y were written");
    return result;
  }
};

Call call_of(const std::vector<WeightRows>& parts, std::uint64_t m, Orientation orientation = Orientation::linear) {
  Call call{parts, {}, m, 0, {}};
  call.options.orientation = orientation;
  const bool linear = orientation == Orientation::linear;
  for (const WeightRows& part : parts) {
    call.y_cols += linear ? part.row_end - part.row_begin : part.tensor.cols();
    call.x = random_operand(m, linear ? part.tensor.cols() : part.row_end - part.row_begin, kSeed);
  }
  return call;
}

void check_refused(const Result<void>& result, Code code) {
  REQUIRE(!result);
  INFO(result.error().describe());
  CHECK(result.error().code == code);
  CHECK(!result.error().message.empty());
}

// The place of a block as an error names it.
struct Place {
  std::string item;
  std::int32_t plane;
  std::int64_t block;
  std::uint64_t offset;
};

// All blocks of a tensor's plane, by the format's own arithmetic.
std::vector<Place> blocks_of(const Bytes& file, const Reader& reader, const std::string& name, std::int32_t plane) {
  const Tensor tensor = reader.find(name).value();
  std::vector<Place> places;
  std::uint32_t passed = 0;
  for (std::int32_t i = 0; i < plane; ++i) passed += tensor.plane(static_cast<std::uint32_t>(i)).block_count;
  const std::uint32_t count = tensor.plane(static_cast<std::uint32_t>(plane)).block_count;
  for (const Region& region : regions_of(file)) {
    if (region.part != Part::block || region.item != tensor.number()) continue;
    if (passed > 0) {
      --passed;
    } else if (places.size() < count) {
      places.push_back({name, plane, static_cast<std::int64_t>(places.size()), region.begin});
    }
  }
  return places;
}

void check_place(const Result<void>& result, Code code, const Place& place) {
  REQUIRE(!result);
  INFO(result.error().describe());
  CHECK(result.error().code == code);
  CHECK(result.error().item == place.item);
  CHECK(result.error().plane == place.plane);
  CHECK(result.error().block == place.block);
  CHECK(result.error().offset == place.offset);
}

Bytes flipped(Bytes file, std::initializer_list<std::uint64_t> places) {
  for (const std::uint64_t place : places) file[place + 3] ^= std::byte{16};
  return file;
}

// With 1, 2, 3 and 8 threads, and with bodies that run one by one in reverse.
void with_all_workers(Call call, const std::function<void(const Call&)>& check) {
  for (const unsigned threads : {1U, 2U, 3U, 8U}) {
    Workers own(threads);
    Workers reversed(threads, [](std::size_t count, const std::function<void(std::size_t)>& body) {
      while (count-- > 0) body(count);
    });
    for (Workers* const workers : {&own, &reversed}) {
      call.options.workers = workers;
      INFO(threads << " threads" << (workers == &reversed ? " in reverse" : ""));
      check(call);
    }
  }
}

}  // namespace

TEST_CASE("matmul errors: shapes that do not fit are bad arguments") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  for (const char* const name : {"a", "b", "c"}) {
    const Tensor tensor = reader.find(name).value();
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      for (const std::uint64_t m : {1U, 6U}) {
        const Call good = call_of({WeightRows(tensor)}, m, orientation);
        REQUIRE(good.run().has_value());
        for (const int by : {-1, 1}) {
          Call call = good;
          call.x = random_operand(m, good.x.cols + static_cast<std::uint64_t>(by), kSeed);
          check_refused(call.run(), Code::bad_argument);
          call = good;
          call.y_rows += static_cast<std::uint64_t>(by);
          check_refused(call.run(), Code::bad_argument);
          call = good;
          call.y_cols += static_cast<std::uint64_t>(by);
          check_refused(call.run(), Code::bad_argument);
        }
      }
    }
  }
}

TEST_CASE("matmul errors: ranges that are no rows of the tensor are bad arguments, in describe() too") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  const Tensor tensor = reader.find("a").value();
  const std::pair<std::uint64_t, std::uint64_t> ranges[] = {
      {0, kRowCount + 1}, {kRowCount + 1, kRowCount + 1}, {3, 2}, {0, ~std::uint64_t{0}}, {~std::uint64_t{0}, 3}};
  for (const auto& [begin, end] : ranges) {
    Call call = call_of({WeightRows(tensor)}, 2);
    call.parts = {WeightRows(tensor), WeightRows(tensor, begin, end)};
    call.y_cols = 2 * kRowCount;
    check_refused(call.run(), Code::bad_argument);
    const auto plan = describe(call.parts, 2, call.options);
    REQUIRE(!plan);
    CHECK(plan.error().code == Code::bad_argument);
  }
}

TEST_CASE("matmul errors: parts of different columns, and two parts transposed, are bad arguments") {
  TensorFile out;
  out.add("a", some_planes(), {});
  CodebookShape shape;
  shape.rows = kRowCount;
  shape.cols = kColCount + 1;
  out.add("wider", random_planes(shape, kSeed), {});
  const Bytes bytes = out.finish();
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const Tensor a = reader.find("a").value();
  Call call = call_of({WeightRows(a)}, 2);
  call.parts.emplace_back(reader.find("wider").value());
  call.y_cols = 2 * kRowCount;
  check_refused(call.run(), Code::bad_argument);

  call = call_of({WeightRows(a)}, 2, Orientation::transposed);
  call.parts.emplace_back(a);
  check_refused(call.run(), Code::bad_argument);
  const auto plan = describe(call.parts, 2, call.options);
  REQUIRE(!plan);
  CHECK(plan.error().code == Code::bad_argument);
}

TEST_CASE("matmul errors: dtypes other than F32, F16 and BF16 of x, y and bias are bad arguments") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  const Tensor tensor = reader.find("a").value();
  std::vector<double> memory(kColCount + kRowCount);
  for (const DType dtype : {DType::none, DType::f64, DType::i32, DType::u8, DType::f8_e4m3, DType::f4, DType::c64}) {
    INFO(static_cast<int>(dtype));
    ConstMatrix x{memory.data(), DType::f32, 1, kColCount, kColCount, 1};
    std::vector<double> out(kRowCount);
    Matrix y{out.data(), DType::f32, 1, kRowCount, kRowCount, 1};
    MatmulOptions options;
    x.dtype = dtype;
    check_refused(matmul(tensor, x, y), Code::bad_argument);
    x.dtype = DType::f32;
    y.dtype = dtype;
    check_refused(matmul(tensor, x, y), Code::bad_argument);
    y.dtype = DType::f32;
    options.bias = ConstMatrix{memory.data(), dtype, 1, kRowCount, kRowCount, 1};
    check_refused(matmul(tensor, x, y, options), Code::bad_argument);
  }
}

TEST_CASE("matmul errors: a list without a tensor is a bad argument") {
  const std::vector<float> x(12);
  for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
    MatmulOptions options;
    options.orientation = orientation;
    check_refused(matmul(std::span<const WeightRows>(), row_major(x.data(), 3, 4),
                         row_major(static_cast<float*>(nullptr), 3, 0), options),
                  Code::bad_argument);
  }
}

TEST_CASE("matmul errors: a bias of another shape is a bad argument") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  const std::vector<float> memory(2 * (kColCount + kRowCount));
  for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
    const Call good = call_of({WeightRows(reader.find("b").value())}, 3, orientation);
    for (const auto& [rows, cols] : {std::pair<std::uint64_t, std::uint64_t>{1, good.y_cols - 1},
                                     {1, good.y_cols + 1},
                                     {0, good.y_cols},
                                     {2, good.y_cols},
                                     {3, good.y_cols},
                                     {good.y_cols, 1},
                                     {1, 0}}) {
      Call call = good;
      call.options.bias = row_major(memory.data(), rows, cols);
      check_refused(call.run(), Code::bad_argument);
    }
    Call call = good;
    call.options.bias = row_major(memory.data(), 1, good.y_cols);
    CHECK(call.run().has_value());
  }
}

TEST_CASE("matmul errors: an instruction set that this machine lacks is a bad argument, never replaced by another") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  for (const Isa isa : kIsas) {
    Call call = call_of({WeightRows(reader.find("a").value())}, 2);
    call.options.isa = isa;
    if (is_available(isa)) {
      CHECK(call.run().has_value());
      continue;
    }
    check_refused(call.run(), Code::bad_argument);
    const auto plan = describe(call.parts, 2, call.options);
    REQUIRE(!plan);
    CHECK(plan.error().code == Code::bad_argument);
  }
}

TEST_CASE("matmul errors: int8 is unsupported for values, for codes of more than 8 bits, and transposed") {
  TensorFile out;
  out.add("8 bits", some_planes(8), {});
  out.add("9 bits", some_planes(9), {});
  out.add_exact("f16", DType::f16, kRowCount, kColCount, Bytes(kRowCount * kColCount * 2), {});
  out.add_exact("f8", DType::f8_e4m3, kRowCount, kColCount, Bytes(kRowCount * kColCount), {});
  const Bytes bytes = out.finish();
  const Reader reader = must(Reader::open(memory_source(bytes)));
  for (const char* const name : {"8 bits", "9 bits", "f16", "f8"}) {
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      for (const std::uint64_t m : {1U, 6U}) {
        Call call = call_of({WeightRows(reader.find(name).value())}, m, orientation);
        call.options.math = Math::int8;
        INFO(name << (orientation == Orientation::linear ? ", linear" : ", transposed"));
        const auto plan = describe(call.parts, m, call.options);
        if (std::string(name) == "8 bits" && orientation == Orientation::linear) {
          CHECK(call.run().has_value());
          CHECK(plan.has_value());
          continue;
        }
        check_refused(call.run(), Code::unsupported);
        REQUIRE(!plan);
        CHECK(plan.error().code == Code::unsupported);
      }
    }
  }
}

TEST_CASE("matmul errors: of a list, the first part that cannot be multiplied with is named") {
  TensorFile out;
  out.add("codes", some_planes(8), {});
  out.add_exact("numbers", DType::i32, kRowCount, kColCount, Bytes(kRowCount * kColCount * 4), {});
  out.add_exact("bytes", DType::u8, kRowCount, kColCount, Bytes(kRowCount * kColCount), {});
  const Bytes bytes = out.finish();
  const Reader reader = must(Reader::open(memory_source(bytes)));
  const WeightRows codes(reader.find("codes").value());
  const WeightRows numbers(reader.find("numbers").value());
  const WeightRows others(reader.find("bytes").value());
  const Result<void> first = call_of({codes, numbers, others}, 2).run();
  check_refused(first, Code::unsupported);
  CHECK(first.error().item == "numbers");
  const Result<void> second = call_of({others, codes, numbers}, 2).run();
  check_refused(second, Code::unsupported);
  CHECK(second.error().item == "bytes");
}

TEST_CASE("matmul errors: tensors of a later version of the format are unsupported") {
  std::uint64_t seen = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CDNA_SOURCE_DIR) + "/spec/vectors/good")) {
    if (entry.path().extension() != ".cdna" || !entry.path().filename().string().starts_with("unknown_")) continue;
    const Reader reader = must(Reader::open(entry.path().string()));
    for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
      const Tensor tensor = reader.resolve(reader.tensor_item(i));
      if (tensor.check_supported()) continue;
      INFO(entry.path().filename().string() << ", " << tensor.name());
      check_refused(call_of({WeightRows(tensor)}, 1).run(), Code::unsupported);
      const auto plan = describe(tensor, 1);
      REQUIRE(!plan);
      CHECK(plan.error().code == Code::unsupported);
      ++seen;
    }
  }
  CHECK(seen >= 5);
}

TEST_CASE("matmul errors: scratch memory for less than a row is over the limit") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  for (const char* const name : {"a", "b", "c"}) {
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      for (const std::uint64_t m : {1U, 50U}) {
        Call call = call_of({WeightRows(reader.find(name).value())}, m, orientation);
        call.options.scratch_bytes_max = 1;
        check_refused(call.run(), Code::limit);
        const auto plan = describe(call.parts, m, call.options);
        REQUIRE(!plan);
        CHECK(plan.error().code == Code::limit);
      }
    }
  }
}

TEST_CASE("matmul errors: a damaged block of any plane is named with its place, by any threads") {
  INFO("seed " << kSeed);
  const Reader good = must(Reader::open(memory_source(good_file())));
  CaseStride stride;
  for (const char* const name : {"a", "b", "c"}) {
    const std::uint32_t planes = good.find(name)->plane_count();
    for (std::uint32_t plane = 0; plane < planes; ++plane) {
      const std::vector<Place> places = blocks_of(good_file(), good, name, static_cast<std::int32_t>(plane));
      for (const Place& place : places) {
        if (!stride.takes_next()) continue;
        const Bytes bytes = flipped(good_file(), {place.offset});
        for (const bool mapped : {true, false}) {
          for (const std::uint64_t m : {1U, 6U}) {
            for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
              INFO(name << ", plane " << plane << ", block " << place.block << ", mapped " << mapped << ", m " << m);
              const Reader reader = must(Reader::open(memory_source(bytes, mapped)));
              with_all_workers(call_of({WeightRows(reader.find(name).value())}, m, orientation),
                               [&](const Call& call) { check_place(call.run(), Code::corrupt, place); });
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul errors: of several damaged blocks the one with the lowest part and block is named, by any threads") {
  INFO("seed " << kSeed);
  const Reader good = must(Reader::open(memory_source(good_file())));
  const std::vector<Place> a = blocks_of(good_file(), good, "a", 0);
  const std::vector<Place> c = blocks_of(good_file(), good, "c", 0);
  const std::vector<Place> outliers = blocks_of(good_file(), good, "a", 3);
  REQUIRE(a.size() == 10);
  REQUIRE(c.size() == 10);
  REQUIRE(outliers.size() == 10);
  struct Case {
    std::initializer_list<std::uint64_t> flips;
    Place first;
  };
  const Case cases[] = {
      {{a[9].offset, a[4].offset, a[7].offset}, a[4]},
      {{a[6].offset, outliers[2].offset}, outliers[2]},
      {{c[0].offset, a[8].offset}, a[8]},
      {{c[9].offset, c[1].offset, c[2].offset}, c[1]},
      {{a[9].offset, c[0].offset, outliers[9].offset - 0}, a[9]},
  };
  for (const Case& one : cases) {
    const Bytes bytes = flipped(good_file(), one.flips);
    for (const std::uint64_t m : {1U, 3U, 6U}) {
      for (int again = 0; again < 5; ++again) {
        const Reader reader = must(Reader::open(memory_source(bytes)));
        const std::vector<WeightRows> parts{WeightRows(reader.find("a").value()), WeightRows(reader.find("b").value()),
                                            WeightRows(reader.find("c").value())};
        with_all_workers(call_of(parts, m),
                         [&](const Call& call) { check_place(call.run(), Code::corrupt, one.first); });
      }
    }
  }
}

TEST_CASE("matmul errors: a damaged block outside of the rows that are asked for does not matter") {
  const Reader good = must(Reader::open(memory_source(good_file())));
  for (const char* const name : {"a", "b", "c"}) {
    const Bytes bytes = flipped(good_file(), {blocks_of(good_file(), good, name, 0)[5].offset});  // Rows 20 to 23.
    const Reader reader = must(Reader::open(memory_source(bytes)));
    const Tensor tensor = reader.find(name).value();
    for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
      CHECK(call_of({WeightRows(tensor, 0, 20)}, 2, orientation).run().has_value());
      CHECK(call_of({WeightRows(tensor, 24, kRowCount)}, 2, orientation).run().has_value());
      CHECK(call_of({WeightRows(tensor, 20, 20)}, 2, orientation).run().has_value());
      check_refused(call_of({WeightRows(tensor, 19, 21)}, 2, orientation).run(), Code::corrupt);
      check_refused(call_of({WeightRows(tensor, 23, 24)}, 2, orientation).run(), Code::corrupt);
    }
  }
}

TEST_CASE("matmul errors: what digests do not find is malformed: padding bits, a codebook that does not ascend") {
  CodebookPlanes planes = some_planes(8);
  std::swap(planes.codebook[7], planes.codebook[9]);
  const Bytes unsorted = file_of(planes);
  const Reader reader = must(Reader::open(memory_source(unsorted)));
  for (const std::uint64_t m : {1U, 6U}) {
    with_all_workers(call_of({WeightRows(reader.find("w").value())}, m), [](const Call& call) {
      const Result<void> result = call.run();
      check_refused(result, Code::malformed);
      CHECK(std::string(result.error().rule) == "E3");
    });
  }
  for (const char* const name : {"padding_codes", "E4"}) {
    for (const auto& entry : std::filesystem::directory_iterator(std::string(CDNA_SOURCE_DIR) + "/spec/vectors/bad")) {
      if (entry.path().extension() != ".cdna" || !entry.path().filename().string().starts_with(name)) continue;
      const Reader bad = must(Reader::open(entry.path().string()));
      const Tensor tensor = bad.resolve(bad.tensor_item(0));
      check_refused(call_of({WeightRows(tensor)}, 1).run(), Code::malformed);
    }
  }
}

TEST_CASE("matmul errors: the reader's limits hold") {
  OpenOptions open;
  open.limits.tensor_decoded_bytes_max = 100;
  const Reader reader = must(Reader::open(memory_source(good_file()), open));
  for (const char* const name : {"a", "c"})
    check_refused(call_of({WeightRows(reader.find(name).value())}, 1).run(), Code::limit);
}

TEST_CASE("matmul errors: a file that is cut off while it is open is an error with the first block that is gone") {
  const TemporaryFolder folder;
  const std::string path = folder / "w.cdna";
  const Reader good = must(Reader::open(memory_source(good_file())));
  for (const auto& [io, trust] : {std::pair{Io::pread, Trust::automatic}, {Io::mmap, Trust::strict}}) {
    save_file(path, good_file());
    OpenOptions open;
    open.io = io;
    open.trust = trust;
    const Reader reader = must(Reader::open(path, open));
    Call call = call_of({WeightRows(reader.find("c").value())}, 2);
    REQUIRE(call.run().has_value());
    const Place place = blocks_of(good_file(), good, "c", 0)[6];
    std::filesystem::resize_file(path, place.offset + 5);
    with_all_workers(call, [&, &mode = io](const Call& one) {
      const Result<void> result = one.run();
      REQUIRE(!result);
      CHECK(result.error().file == path);
      check_place(result, Code::io, place);
      (void)mode;
    });
  }
}

namespace {

// A source of which some bytes cannot be read.
class FailingSource final : public Source {
 public:
  FailingSource(const Bytes& bytes, std::uint64_t begin, std::uint64_t end) : bytes_(bytes), begin_(begin), end_(end) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (offset < end_ && offset + out.size() > begin_) {
      Error error;
      error.code = Code::io;
      error.os_errno = EIO;
      error.message = "a bad sector";
      return error;
    }
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

 private:
  const Bytes& bytes_;
  std::uint64_t begin_;
  std::uint64_t end_;
};

}  // namespace

TEST_CASE("matmul errors: a source that cannot read a block is an I/O error with its place, by any threads") {
  const Reader good = must(Reader::open(memory_source(good_file())));
  for (const char* const name : {"a", "b", "c"}) {
    const Place place = blocks_of(good_file(), good, name, 0)[3];
    const Reader reader =
        must(Reader::open(std::make_unique<FailingSource>(good_file(), place.offset, place.offset + 1)));
    for (const std::uint64_t m : {1U, 6U}) {
      with_all_workers(call_of({WeightRows(reader.find(name).value())}, m), [&](const Call& call) {
        const Result<void> result = call.run();
        check_place(result, Code::io, place);
        CHECK(result.error().os_errno == EIO);
      });
    }
    CHECK(must(describe(reader.find(name).value(), 1)).io == "custom");
  }
}

TEST_CASE("matmul errors: describe() reads no block of codes or values, and says what a call would do") {
  const Reader good = must(Reader::open(memory_source(good_file())));
  for (const char* const name : {"a", "b", "c"}) {
    Bytes bytes = good_file();
    for (const Place& place : blocks_of(good_file(), good, name, 0)) bytes = flipped(std::move(bytes), {place.offset});
    const Reader reader = must(Reader::open(memory_source(bytes)));
    Workers workers(3);
    for (const std::uint64_t m : {1U, 4U, 5U, 64U}) {
      for (const Isa isa : available_isas()) {
        MatmulOptions options;
        options.isa = isa;
        options.workers = &workers;
        const MatmulPlan plan = must(describe(reader.find(name).value(), m, options));
        CHECK(plan.isa == isa);
        CHECK(plan.loop == (m <= 4 ? "dot" : "tile"));
        CHECK(plan.products.starts_with("f32"));
        CHECK(!plan.kernel.empty());
        CHECK(plan.io == "memory");
        CHECK(plan.trust == "zero_copy");
        CHECK(plan.blocks == "raw, in place");
        CHECK(plan.threads == 3);
        CHECK(plan.passes == 1);
        CHECK(plan.scratch_bytes <= options.scratch_bytes_max);
      }
    }
  }
}

TEST_CASE("matmul errors: numbers of rows beyond all memory are planned for, not computed with") {
  const Reader reader = must(Reader::open(memory_source(good_file())));
  const Tensor tensor = reader.find("a").value();
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  for (const std::uint64_t m : {kMost, kMost - 1, std::uint64_t{1} << 57, std::uint64_t{1} << 40}) {
    for (const std::uint64_t bytes_max : {std::uint64_t{1} << 22, std::uint64_t{1} << 28, kMost}) {
      for (const Orientation orientation : {Orientation::linear, Orientation::transposed}) {
        MatmulOptions options;
        options.scratch_bytes_max = bytes_max;
        options.orientation = orientation;
        const MatmulPlan plan = must(describe(tensor, m, options));
        CHECK(plan.scratch_bytes <= bytes_max);
        CHECK(plan.passes >= m / bytes_max);
      }
    }
  }
  // No column of y, so many rows that the buffers for all would wrap around.
  const std::vector<float> x(tensor.cols(), 1.0F);
  float nothing = 0;
  const WeightRows none(tensor, 3, 3);
  MatmulOptions options;
  options.scratch_bytes_max = std::uint64_t{1} << 22;
  const ConstMatrix many{x.data(), DType::f32, 1000, tensor.cols(), 0, 1};
  must_do(matmul({&none, 1}, many, Matrix{&nothing, DType::f32, 1000, 0, 0, 1}, options));
}
