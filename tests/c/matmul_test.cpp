// The C interface: products are the library's bit for bit, with workers of our own and of the caller's.
#include "cdna/matmul.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <limits>
#include <thread>

#include "../matmul_reference.hpp"
#include "../sample_file.hpp"
#include "../tensor_file.hpp"
#include "handles.hpp"

namespace {

using namespace cdna::test;

constexpr std::uint64_t kSeed = 20260302;

const Bytes& file() {
  static const Bytes bytes = [] {
    TensorFile out;
    CodebookShape shape{130, 200, 8, cdna::DType::f16, true, 0, cdna::DType::u8, cdna::DType::f32, 50, 65536};
    out.add("a", random_planes(shape, kSeed));
    shape.rows = 70;
    out.add("b", random_planes(shape, kSeed + 1), {7, 1, cdna::Codec::zstd});
    Random random(kSeed);
    out.add_exact("c", cdna::DType::f32, 9, 200, bytes_of_values(random.weights(1800)));
    out.add_exact("d", cdna::DType::i32, 9, 200, random.bytes(7200));
    out.add_exact("e", cdna::DType::f32, 0, 200, {});
    out.add_exact("f", cdna::DType::f32, 4, 100, bytes_of_values(random.weights(400)));
    return out.finish();
  }();
  return bytes;
}

cdna_matrix row_major(const void* data, std::uint64_t rows, std::uint64_t cols, std::uint32_t dtype = CDNA_F32) {
  return {data, dtype, 0, rows, cols, static_cast<std::int64_t>(cols), 1};
}

// Threads for the length of a call, which count what they are asked.
struct OwnThreads {
  std::atomic<std::uint64_t> bodies{0};
  std::uint64_t calls = 0;

  static void run(void* context, std::uint64_t count, void (*body)(void*, std::uint64_t), void* body_context) {
    auto& self = *static_cast<OwnThreads*>(context);
    ++self.calls;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < count; ++i)
      threads.emplace_back([&self, body, body_context, i] {
        ++self.bodies;
        body(body_context, i);
      });
    for (std::thread& thread : threads) thread.join();
  }
};

struct Fixture {
  cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(file())));
  ReaderHandle c = open_c(file());

  std::vector<cdna_rows> parts(std::initializer_list<const char*> names) const {
    std::vector<cdna_rows> out;
    for (const char* const name : names) out.push_back({c.get(), find_c(c, name), 0, CDNA_ALL_ROWS, {0, 0}});
    return out;
  }
};

}  // namespace

TEST_CASE("c: products of one part and of several are those of C++, bit for bit") {
  const Fixture fixture;
  for (const std::uint64_t m : {1U, 3U, 20U}) {
    const Operand x = random_operand(m, 200, kSeed + m);
    for (const auto math : {cdna::Math::f32, cdna::Math::bf16}) {
      const std::vector<cdna::WeightRows> weights{cdna::WeightRows(*fixture.cpp.find("a"), 5, 100),
                                                  cdna::WeightRows(*fixture.cpp.find("b")),
                                                  cdna::WeightRows(*fixture.cpp.find("c"), 2, 9)};
      std::vector<float> expected(m * (95 + 70 + 7));
      cdna::MatmulOptions cpp_options;
      cpp_options.math = math;
      must_do(cdna::matmul(weights, cdna::row_major(x.values.data(), m, 200), cdna::row_major(expected.data(), m, 172),
                           cpp_options));
      std::vector<cdna_rows> parts = fixture.parts({"a", "b", "c"});
      parts[0].row_begin = 5;
      parts[0].row_end = 100;
      parts[2].row_begin = 2;  // To the last.
      std::vector<float> y(expected.size(), 1.0F);
      const cdna_matrix from = row_major(x.values.data(), m, 200);
      const cdna_matrix to = row_major(y.data(), m, 172);
      cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
      options.math = math == cdna::Math::f32 ? CDNA_MATH_F32 : CDNA_MATH_BF16;
      must_c([&](cdna_error* error) { return cdna_matmul(parts.data(), 3, &from, &to, &options, error); });
      CHECK(difference(y, expected).empty());
    }
  }
}

TEST_CASE("c: every option reaches the library") {
  const Fixture fixture;
  const cdna::Tensor a = *fixture.cpp.find("a");
  const std::vector<cdna_rows> parts = fixture.parts({"a"});
  // Transposed, y += x W + bias, with operands of another dtype and strides.
  StridedMatrix x(cdna::DType::bf16, 3, 130, 1, 5);
  x.set(random_operand(3, 130, kSeed, cdna::DType::bf16).values);
  StridedMatrix bias(cdna::DType::f16, 1, 200, 0, -2);
  bias.set(random_operand(1, 200, kSeed + 1, cdna::DType::f16).values);
  const Operand start = random_operand(3, 200, kSeed + 2);
  StridedMatrix expected(cdna::DType::f32, 3, 200, -250, 1);
  StridedMatrix y(cdna::DType::f32, 3, 200, -250, 1);
  expected.set(start.values);
  y.set(start.values);
  cdna::MatmulOptions cpp_options;
  cpp_options.orientation = cdna::Orientation::transposed;
  cpp_options.accumulate = true;
  cpp_options.bias = bias.input();
  must_do(cdna::matmul(a, x.input(), expected.output(), cpp_options));

  const auto given = [](const cdna::ConstMatrix& matrix) {
    return cdna_matrix{
        matrix.data,      static_cast<std::uint32_t>(matrix.dtype), 0, matrix.rows, matrix.cols, matrix.row_stride,
        matrix.col_stride};
  };
  const cdna_matrix from = given(x.input());
  const cdna_matrix to = given(y.input());
  const cdna_matrix added = given(bias.input());
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  options.orientation = CDNA_TRANSPOSED;
  options.accumulate = 1;
  options.bias = &added;
  options.isa = "baseline";
  options.resident_bytes_max = 4096;
  must_c([&](cdna_error* error) { return cdna_matmul(parts.data(), 1, &from, &to, &options, error); });
  CHECK(difference(y.values(), expected.values()).empty());
  CHECK(y.is_poison_intact());

  options.scratch_bytes_max = 1;
  CHECK(cdna_matmul(parts.data(), 1, &from, &to, &options, nullptr) == CDNA_LIMIT);
}

TEST_CASE("c: the caller's own threads are asked for so many bodies, and give the same bits as one thread") {
  const Fixture fixture;
  const std::vector<cdna_rows> parts = fixture.parts({"a", "b"});
  const Operand x = random_operand(9, 200, kSeed);
  const cdna_matrix from = row_major(x.values.data(), 9, 200);
  std::vector<float> alone(9 * 200);
  std::vector<float> together(9 * 200);
  cdna_matrix to = row_major(alone.data(), 9, 200);
  must_c([&](cdna_error* error) { return cdna_matmul(parts.data(), 2, &from, &to, nullptr, error); });

  OwnThreads threads;
  cdna_workers* created = nullptr;
  must_c([&](cdna_error* error) { return cdna_workers_create_with(3, OwnThreads::run, &threads, &created, error); });
  const WorkersHandle workers(created);
  CHECK(cdna_workers_concurrency(workers.get()) == 3);
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  options.workers = workers.get();
  to.data = together.data();
  must_c([&](cdna_error* error) { return cdna_matmul(parts.data(), 2, &from, &to, &options, error); });
  CHECK(difference(together, alone).empty());
  CHECK(threads.calls > 0);
  CHECK(threads.bodies == 3 * threads.calls);

  const WorkersHandle own = workers_c(2);
  options.workers = own.get();
  std::fill(together.begin(), together.end(), 0.0F);
  must_c([&](cdna_error* error) { return cdna_matmul(parts.data(), 2, &from, &to, &options, error); });
  CHECK(difference(together, alone).empty());
}

TEST_CASE("c: a parallel_for that breaks its promise is an error, and workers are used by one call at a time") {
  const Fixture fixture;
  const std::vector<cdna_rows> parts = fixture.parts({"a"});
  const Operand x = random_operand(9, 200, kSeed);
  std::vector<float> y(9 * 130);
  const cdna_matrix from = row_major(x.values.data(), 9, 200);
  const cdna_matrix to = row_major(y.data(), 9, 130);
  const cdna_parallel_for broken[] = {
      [](void*, std::uint64_t, void (*)(void*, std::uint64_t), void*) {},
      [](void*, std::uint64_t count, void (*body)(void*, std::uint64_t), void* context) {
        for (std::uint64_t i = 0; i <= count; ++i) body(context, i);
      },
      [](void*, std::uint64_t, void (*body)(void*, std::uint64_t), void* context) {
        for (int i = 0; i < 2; ++i) body(context, 0);
      }};
  for (const cdna_parallel_for each : broken) {
    cdna_workers* created = nullptr;
    must_c([&](cdna_error* error) { return cdna_workers_create_with(2, each, nullptr, &created, error); });
    const WorkersHandle workers(created);
    cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
    options.workers = workers.get();
    cdna_error error{};
    CHECK(cdna_matmul(parts.data(), 1, &from, &to, &options, &error) == CDNA_BAD_ARGUMENT);
    CHECK(described(error) == "the parallel_for of workers did not call every body once [bad_argument]");
  }

  // A second call from within the first one.
  struct Nested {
    cdna_workers* workers = nullptr;
    const cdna_rows* parts = nullptr;
    const cdna_matrix* x = nullptr;
    const cdna_matrix* y = nullptr;
    cdna_code code = CDNA_OK;
    static void run(void* context, std::uint64_t count, void (*body)(void*, std::uint64_t), void* body_context) {
      auto& self = *static_cast<Nested*>(context);
      cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
      options.workers = self.workers;
      self.code = cdna_matmul(self.parts, 1, self.x, self.y, &options, nullptr);
      for (std::uint64_t i = 0; i < count; ++i) body(body_context, i);
    }
  } nested{nullptr, parts.data(), &from, &to};
  must_c([&](cdna_error* error) { return cdna_workers_create_with(2, Nested::run, &nested, &nested.workers, error); });
  const WorkersHandle workers(nested.workers);
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  options.workers = workers.get();
  CHECK(cdna_matmul(parts.data(), 1, &from, &to, &options, nullptr) == CDNA_OK);
  CHECK(nested.code == CDNA_BAD_ARGUMENT);
}

TEST_CASE("c: workers of absurd numbers are refused") {
  cdna_workers* workers = nullptr;
  CHECK(cdna_workers_create(1025, &workers, nullptr) == CDNA_LIMIT);
  CHECK(cdna_workers_create_with(1025, OwnThreads::run, nullptr, &workers, nullptr) == CDNA_LIMIT);
  CHECK(cdna_workers_create_with(0, OwnThreads::run, nullptr, &workers, nullptr) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_workers_create_with(1, nullptr, nullptr, &workers, nullptr) == CDNA_BAD_ARGUMENT);
  CHECK(workers == nullptr);
  CHECK(cdna_workers_concurrency(nullptr) == 0);
  CHECK(cdna_workers_create_with(CDNA_ALL_CORES, OwnThreads::run, nullptr, &workers, nullptr) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_workers_concurrency(workers_c(0).get()) == 1);
  CHECK(cdna_workers_concurrency(workers_c(CDNA_ALL_CORES).get()) ==
        std::clamp(std::thread::hardware_concurrency(), 1U, 1024U));
}

TEST_CASE("c: what cannot be multiplied is refused by name and value") {
  const Fixture fixture;
  std::vector<float> x(9 * 200);
  std::vector<float> y(9 * 130);
  const auto call = [&](std::vector<cdna_rows> parts, cdna_matrix from, cdna_matrix to, cdna_matmul_options options) {
    cdna_error error{};
    const cdna_code code = cdna_matmul(parts.data(), parts.size(), &from, &to, &options, &error);
    CHECK(code == error.code);
    return described(error);
  };
  const cdna_matmul_options none = CDNA_MATMUL_OPTIONS_INIT;
  const cdna_matrix from = row_major(x.data(), 9, 200);
  const cdna_matrix to = row_major(y.data(), 9, 130);
  const std::vector<cdna_rows> a = fixture.parts({"a"});
  const auto part = [&](std::uint64_t tensor, std::uint64_t begin, std::uint64_t end) {
    return std::vector<cdna_rows>{a[0], {fixture.c.get(), tensor, begin, end, {0, 0}}};
  };
  CHECK(call(part(6, 0, 0), from, to, none) == "parts[1]: tensor is 6 of 6 [bad_argument]");
  CHECK(call(part(0, 131, CDNA_ALL_ROWS), from, to, none) ==
        "'a': parts[1]: row_begin is 131 and row_end 130 of 130 rows [bad_argument]");
  CHECK(call(part(0, 0, 131), from, to, none) ==
        "'a': parts[1]: row_begin is 0 and row_end 131 of 130 rows [bad_argument]");
  CHECK(call(part(0, 1, 0), from, to, none) ==
        "'a': parts[1]: row_begin is 1 and row_end 0 of 130 rows [bad_argument]");
  for (const int field : {0, 1}) {
    std::vector<cdna_rows> later = a;
    later[0].reserved[field] = 1;
    CHECK(call(later, from, to, none) == "parts[0]: reserved is not 0 [bad_argument]");
  }
  CHECK(call({{nullptr, 0, 0, 0, {0, 0}}}, from, to, none) == "parts[0]: reader is NULL [bad_argument]");
  CHECK(call(fixture.parts({"a", "f"}), from, to, none).find("[bad_argument]") != std::string::npos);
  CHECK(call(fixture.parts({"d"}), from, row_major(y.data(), 9, 9), none).find("[unsupported]") != std::string::npos);

  const auto with = [&](auto&& change) {
    cdna_matrix changed = from;
    change(changed);
    return call(a, changed, to, none);
  };
  CHECK(with([](cdna_matrix& m) { m.data = nullptr; }) == "x->data is NULL [bad_argument]");
  CHECK(with([](cdna_matrix& m) { m.dtype = CDNA_F64; }) == "x->dtype is 13 [bad_argument]");
  CHECK(with([](cdna_matrix& m) { m.dtype = 255; }) == "x->dtype is 255 [bad_argument]");
  CHECK(with([](cdna_matrix& m) { m.reserved = 2; }) == "x->reserved is 2 [bad_argument]");
  CHECK(with([](cdna_matrix& m) { m.rows = 8; }).find("[bad_argument]") != std::string::npos);
  CHECK(with([](cdna_matrix& m) { m.cols = 199; }).find("[bad_argument]") != std::string::npos);
  for (const std::int64_t stride : {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max(),
                                    std::int64_t{1} << 58, -(std::int64_t{1} << 58)}) {
    CHECK(with([stride](cdna_matrix& m) { m.row_stride = stride; }).find("beyond any memory") != std::string::npos);
    CHECK(with([stride](cdna_matrix& m) { m.col_stride = stride; }).find("beyond any memory") != std::string::npos);
  }
  cdna_matrix shared = to;
  shared.row_stride = 0;
  CHECK(call(a, from, shared, none) == "y has a stride of 0: its elements share their places [bad_argument]");

  const auto option = [&](auto&& change) {
    cdna_matmul_options changed = none;
    change(changed);
    return call(a, from, to, changed);
  };
  CHECK(option([](cdna_matmul_options& o) { o.math = 3; }) == "options->math is 3 [bad_argument]");
  CHECK(option([](cdna_matmul_options& o) { o.orientation = 2; }) == "options->orientation is 2 [bad_argument]");
  CHECK(option([](cdna_matmul_options& o) { o.isa = "sse9"; }) == "options->isa is 'sse9' [bad_argument]");
  const cdna_matrix bias = row_major(x.data(), 1, 129);
  CHECK(option([&](cdna_matmul_options& o) { o.bias = &bias; }).find("the bias is [1, 129]") == 0);
  cdna_matrix nowhere = row_major(nullptr, 1, 130);
  CHECK(option([&](cdna_matmul_options& o) { o.bias = &nowhere; }) == "options->bias->data is NULL [bad_argument]");
}

TEST_CASE("c: products without elements take no time, however many rows they claim") {
  const Fixture fixture;
  const std::vector<cdna_rows> parts = fixture.parts({"e"});
  const float x = 1;
  cdna_matrix from = row_major(&x, std::uint64_t{1} << 62, 200);
  from.row_stride = 0;
  from.col_stride = 0;
  const cdna_matrix to = row_major(nullptr, std::uint64_t{1} << 62, 0);
  CHECK(cdna_matmul(parts.data(), 1, &from, &to, nullptr, nullptr) == CDNA_OK);
  std::vector<cdna_rows> none;
  CHECK(cdna_matmul(none.data(), 0, &from, &to, nullptr, nullptr) == CDNA_BAD_ARGUMENT);
}

TEST_CASE("c: plans are the library's") {
  const Fixture fixture;
  const std::vector<cdna_rows> parts = fixture.parts({"a", "b"});
  const std::vector<cdna::WeightRows> weights{cdna::WeightRows(*fixture.cpp.find("a")),
                                              cdna::WeightRows(*fixture.cpp.find("b"))};
  for (const std::uint64_t m : {0U, 1U, 64U}) {
    const cdna::MatmulPlan expected = must(cdna::describe(weights, m));
    auto plan = sized<cdna_matmul_plan>();
    must_c([&](cdna_error* error) { return cdna_matmul_describe(parts.data(), 2, m, nullptr, &plan, error); });
    CHECK(plan.threads == expected.threads);
    CHECK(plan.passes == expected.passes);
    CHECK(plan.scratch_bytes == expected.scratch_bytes);
    CHECK(plan.kernel == expected.kernel);
    CHECK(plan.loop == expected.loop);
    CHECK(plan.products == expected.products);
    CHECK(plan.isa == cdna::name_of(expected.isa));
    CHECK(plan.io == expected.io);
    CHECK(plan.trust == expected.trust);
    CHECK(plan.blocks == expected.blocks);
  }
  auto plan = sized<cdna_matmul_plan>();
  const WorkersHandle workers = workers_c(2);
  cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
  options.workers = workers.get();
  must_c([&](cdna_error* error) { return cdna_matmul_describe(parts.data(), 2, 4, &options, &plan, error); });
  CHECK(plan.threads == 2);
}
