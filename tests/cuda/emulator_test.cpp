// The emulated device's threads and instructions: fragments as the PTX ISA draws them, and mistakes that have to show.
#include "../../kernels/cuda/emulator/emulator.h"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "../../kernels/cuda/device.h"
#include "../../kernels/cuda/launch.h"
#include "../random.hpp"
#include "../small_floats.hpp"

using namespace cdna_cuda;
using Catch::Matchers::Contains;
using cdna::test::bf16_of;
using cdna::test::f16_of;
using cdna::test::Random;
using cdna::test::value_of_bf16;
using cdna::test::value_of_f16;

namespace {

constexpr std::uint64_t kSeed = 20261124;

// Device memory of a test, gone with it.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : count_(count) {
    REQUIRE(cudaMalloc(&pointer_, count * sizeof(T)) == cudaSuccess);
  }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
    REQUIRE(cudaMemcpy(pointer_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~Buffer() { cudaFree(pointer_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* get() const { return pointer_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    REQUIRE(cudaMemcpy(values.data(), pointer_, count_ * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  std::size_t count_;
  T* pointer_ = nullptr;
};

struct Words {
  std::uint32_t* out;
  const std::uint32_t* in;
  unsigned number;
};

struct Shape {
  unsigned blocks = 1;
  unsigned threads = 32;
  std::size_t shared_bytes = 0;
};

void start_anew(std::uint64_t seed = 1) {
  emulator::reset();
  emulator::settings().seed = seed;
  emulator::settings().prints_failures = false;
}

cudaError_t run_words(void (*kernel)(const Words), const Shape& shape, const Words& words) {
  const cudaError_t error = launch(kernel, dim3(shape.blocks), dim3(shape.threads), shape.shared_bytes, nullptr, words);
  return error != cudaSuccess ? error : cudaDeviceSynchronize();
}

// What went wrong in a kernel; `count` words to write to.
std::string failure_of(void (*kernel)(const Words), const Shape& shape, unsigned number = 0) {
  start_anew();
  const Buffer<std::uint32_t> out(2048);
  CHECK(run_words(kernel, shape, {out.get(), nullptr, number}) == cudaErrorLaunchFailure);
  const std::string failure = emulator::failure();
  CHECK(cudaDeviceSynchronize() == cudaErrorLaunchFailure);
  CHECK(cudaGetLastError() == cudaErrorLaunchFailure);
  emulator::reset();
  return failure;
}

std::uint16_t half_of(Half half, double number) { return half == Half::f16 ? f16_of(number) : bf16_of(number); }

struct Products {
  const std::uint16_t* a;
  const std::uint16_t* b;
  float* c;
  std::uint64_t descriptor;
  unsigned mistake;
};

// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": groupID = lane >> 2, thread = lane % 4.
//   a_i: row groupID for i in {0, 1, 4, 5}, else groupID + 8; column thread * 2 + (i & 1), 8 more for i >= 4
//   b_i: row thread * 2 + (i & 1), 8 more for i >= 2; column groupID
//   c_i: row groupID for i < 2, else groupID + 8; column thread * 2 + (i & 1)
template <Half half>
__global__ void multiply_once(const Products p) {
  const unsigned group = threadIdx.x >> 2;
  const unsigned thread = threadIdx.x % 4;
  std::uint32_t a[4] = {};
  std::uint32_t b[2] = {};
  float c[4];
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned row = i == 0 || i == 1 || i == 4 || i == 5 ? group : group + 8;
    const unsigned column = thread * 2 + (i & 1U) + (i >= 4 ? 8 : 0);
    a[i / 2] |= std::uint32_t{p.a[16 * row + column]} << 16 * (i & 1U);
  }
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = thread * 2 + (i & 1U) + (i >= 2 ? 8 : 0);
    b[i / 2] |= std::uint32_t{p.b[8 * row + group]} << 16 * (i & 1U);
    c[i] = p.c[8 * (i < 2 ? group : group + 8) + thread * 2 + (i & 1U)];
  }
  mma_16816<half>(c, a, b);
  for (unsigned i = 0; i < 4; ++i) p.c[8 * (i < 2 ? group : group + 8) + thread * 2 + (i & 1U)] = c[i];
}

std::vector<int> random_integers(Random& random, std::size_t count) {
  std::vector<int> values(count);
  for (int& value : values) value = static_cast<int>(random.below(129)) - 64;
  return values;
}

std::vector<std::uint16_t> halves_of(Half half, const std::vector<int>& values) {
  std::vector<std::uint16_t> bits;
  for (const int value : values) bits.push_back(half_of(half, value));
  return bits;
}

template <Half half>
void check_multiply(std::uint64_t seed) {
  start_anew(seed);
  Random random(seed);
  const std::vector<int> a = random_integers(random, 16 * 16);
  const std::vector<int> b = random_integers(random, 16 * 8);
  const std::vector<int> before = random_integers(random, 16 * 8);
  const Buffer<std::uint16_t> device_a(halves_of(half, a));
  const Buffer<std::uint16_t> device_b(halves_of(half, b));
  const Buffer<float> c(std::vector<float>(before.begin(), before.end()));
  const Products products{device_a.get(), device_b.get(), c.get(), 0, 0};
  REQUIRE(launch(multiply_once<half>, dim3(1), dim3(32), 0, nullptr, products) == cudaSuccess);
  const std::vector<float> got = c.read();
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned n = 0; n < 8; ++n) {
      int sum = before[8 * row + n];
      for (unsigned k = 0; k < 16; ++k) sum += a[16 * row + k] * b[8 * k + n];
      REQUIRE(got[8 * row + n] == static_cast<float>(sum));
    }
  }
}

}  // namespace

TEST_CASE("emulator: mma multiplies fragments as the PTX ISA draws them") {
  for (std::uint64_t seed = kSeed; seed < kSeed + 8; ++seed) {
    CAPTURE(seed);
    check_multiply<Half::f16>(seed);
    check_multiply<Half::bf16>(seed);
  }
}

namespace {

// Rows of 16 bytes in an order of their own, 48 bytes apart.
__global__ void load_four_matrices(const Words words) {
  CDNA_SHARED(shared);
  const unsigned place = 48 * (threadIdx.x * 5 % 32);
  for (unsigned i = 0; i < 4; ++i) {
    reinterpret_cast<std::uint32_t*>(shared + place)[i] = words.in[4 * threadIdx.x + i];
  }
  __syncwarp();
  std::uint32_t r[4];
  ldmatrix_x4(r, shared_address(shared) + place);
  for (unsigned i = 0; i < 4; ++i) words.out[4 * threadIdx.x + i] = r[i];
}

}  // namespace

TEST_CASE("emulator: ldmatrix gives lane 4g + t elements 2t and 2t + 1 of row g of each matrix") {
  start_anew();
  std::vector<std::uint32_t> rows(32 * 4);
  for (std::uint32_t i = 0; i < rows.size(); ++i) rows[i] = 0x10000 * (2 * i + 1) + 2 * i;  // Its elements' numbers.
  const Buffer<std::uint32_t> in(rows);
  const Buffer<std::uint32_t> out(rows.size());
  REQUIRE(run_words(load_four_matrices, {1, 32, 48 * 32}, {out.get(), in.get(), 0}) == cudaSuccess);
  const std::vector<std::uint32_t> got = out.read();
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const std::uint32_t element = 64 * matrix + 8 * (lane / 4) + 2 * (lane % 4);
      REQUIRE(got[4 * lane + matrix] == (element | (element + 1) << 16));
    }
  }
}

namespace {

__global__ void exchange(const Words words) {
  const std::uint32_t lane = threadIdx.x;
  std::uint32_t* const out = words.out + 10 * lane;
  out[0] = __shfl_sync(0xFFFFFFFFU, lane * 3, 7);
  out[1] = __shfl_xor_sync(0xFFFFFFFFU, lane * 3, 5);
  out[2] = __shfl_down_sync(0xFFFFFFFFU, lane * 3, 4U);
  out[3] = __shfl_up_sync(0xFFFFFFFFU, lane * 3, 4U);
  out[4] = __shfl_sync(0xFFFFFFFFU, lane * 3, 9, 8);
  out[5] = __ballot_sync(0xFFFFFFFFU, lane % 3 == 0);
  out[6] = static_cast<std::uint32_t>(__any_sync(0xFFFFFFFFU, lane == 9));
  out[7] = static_cast<std::uint32_t>(__all_sync(0xFFFFFFFFU, lane != 9));
  // Halves of the warp on ways of their own.
  const std::uint32_t half = lane < 16 ? 0xFFFFU : 0xFFFF0000U;
  if (lane < 16) {
    out[8] = __shfl_xor_sync(half, lane + 100, 1);
    out[8] = __shfl_xor_sync(half, out[8], 2);
  } else {
    out[8] = __ballot_sync(half, lane % 2 == 0);
  }
  out[9] = static_cast<std::uint32_t>(__shfl_xor_sync(0xFFFFFFFFU, 0x100000000LL * lane + 1, 1) >> 32);
}

}  // namespace

TEST_CASE("emulator: shuffles and votes, of whole warps and of parts") {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    start_anew(seed);
    const Buffer<std::uint32_t> out(320);
    REQUIRE(run_words(exchange, {}, {out.get(), nullptr, 0}) == cudaSuccess);
    const std::vector<std::uint32_t> got = out.read();
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      const std::uint32_t* const own = got.data() + 10 * lane;
      REQUIRE(own[0] == 21);
      REQUIRE(own[1] == (lane ^ 5U) * 3);
      REQUIRE(own[2] == (lane + 4 < 32 ? lane + 4 : lane) * 3);
      REQUIRE(own[3] == (lane >= 4 ? lane - 4 : lane) * 3);
      REQUIRE(own[4] == (lane / 8 * 8 + 1) * 3);
      REQUIRE(own[5] == 0x49249249U);
      REQUIRE(own[6] == 1);
      REQUIRE(own[7] == 0);
      REQUIRE(own[8] == (lane < 16 ? (lane ^ 3U) + 100 : 0x55550000U));
      REQUIRE(own[9] == (lane ^ 1U));
    }
  }
}

namespace {

__global__ void reverse(const Words words) {
  CDNA_SHARED(shared);
  auto* const values = reinterpret_cast<std::uint32_t*>(shared);
  values[threadIdx.x] = threadIdx.x;
  if (words.number == 1) __syncthreads();
  words.out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

__global__ void note_order(const Words words) {
  const unsigned place = atomicAdd(words.out, 1U);
  words.out[1 + place] = blockIdx.x * blockDim.x + threadIdx.x;
}

std::vector<std::uint32_t> result_of(void (*kernel)(const Words), const Shape& shape, unsigned number,
                                     std::uint64_t seed) {
  start_anew(seed);
  Buffer<std::uint32_t> out(std::size_t{1} + shape.blocks * shape.threads);
  REQUIRE(cudaMemset(out.get(), 0, 4) == cudaSuccess);
  REQUIRE(run_words(kernel, shape, {out.get(), nullptr, number}) == cudaSuccess);
  return out.read();
}

}  // namespace

TEST_CASE("emulator: a missing barrier gives other numbers with other seeds, a kernel that has it does not") {
  std::set<std::vector<std::uint32_t>> racy;
  std::set<std::vector<std::uint32_t>> right;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    racy.insert(result_of(reverse, {1, 256, 1024}, 0, seed));
    right.insert(result_of(reverse, {1, 256, 1024}, 1, seed));
  }
  CHECK(racy.size() > 1);
  REQUIRE(right.size() == 1);
  for (std::uint32_t i = 0; i < 256; ++i) REQUIRE((*right.begin())[i] == 255 - i);
}

TEST_CASE("emulator: threads and blocks run in an order that is the seed's") {
  const Shape shape{8, 64, 0};
  const std::vector<std::uint32_t> first = result_of(note_order, shape, 0, 1);
  CHECK(result_of(note_order, shape, 0, 1) == first);
  CHECK(result_of(note_order, shape, 0, 2) != first);
  const std::set<std::uint32_t> all(first.begin() + 1, first.end());
  CHECK(all.size() == 512);
  std::set<std::uint32_t> first_blocks;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    first_blocks.insert(result_of(note_order, shape, 0, seed)[1] / 64);
  }
  CHECK(first_blocks.size() > 2);
  // The lanes of a warp come in an order that is no rotation of 0 .. 31.
  const std::vector<std::uint32_t> lanes = result_of(note_order, {1, 32, 0}, 0, 1);
  unsigned steps = 0;
  for (unsigned i = 1; i < 32; ++i) steps += (lanes[i] + 1) % 32 == lanes[i + 1] ? 1U : 0U;
  CHECK(steps < 16);
}

namespace {

// Every warp notes how far it got; warp 0 what it sees of the others at its end.
__global__ void note_progress(const Words words) {
  CDNA_SHARED(shared);
  auto* const progress = reinterpret_cast<std::uint32_t*>(shared);
  const unsigned warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) progress[warp] = 0;
  __syncthreads();
  for (unsigned i = 1; i <= 4; ++i) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) progress[warp] = i;
  }
  if (threadIdx.x == 0) words.out[0] = progress[1];
}

}  // namespace

TEST_CASE("emulator: one warp may be at any point of its way while another is at its end") {
  std::set<std::uint32_t> seen;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) seen.insert(result_of(note_progress, {1, 64, 8}, 0, seed)[0]);
  CHECK(seen == std::set<std::uint32_t>{0, 1, 2, 3, 4});
}

TEST_CASE("emulator: shared memory that nobody wrote is NaN") {
  start_anew();
  const Buffer<std::uint32_t> out(32);
  const auto kernel = +[](const Words words) {
    CDNA_SHARED(shared);
    words.out[threadIdx.x] = load_shared(shared_address(shared) + 4 * threadIdx.x);
  };
  REQUIRE(run_words(kernel, {1, 32, 128}, {out.get(), nullptr, 0}) == cudaSuccess);
  for (const std::uint32_t word : out.read()) REQUIRE(std::isnan(__uint_as_float(word)));
}

namespace {

__global__ void leave_before_barrier(const Words) {
  if (threadIdx.x == 70) return;
  __syncthreads();
}
__global__ void meet_at_different_places(const Words) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncwarp();
    __shfl_sync(0xFFFFFFFFU, threadIdx.x == 40 ? __ballot_sync(0xFFFFFFFFU, 1) : 0U, 0);
  }
}
__global__ void multiply_without_a_lane(const Words) {
  float c[4] = {};
  const std::uint32_t a[4] = {};
  const std::uint32_t b[2] = {};
  if (threadIdx.x != 9) mma_16816<Half::f16>(c, a, b);
}
__global__ void vote_from_outside(const Words) { __ballot_sync(0xFFFFU, 1); }
__global__ void shuffle_from_outside(const Words) {
  if (threadIdx.x < 16) __shfl_sync(0xFFFFU, 1U, 20);
}
__global__ void load_at(const Words words) {
  CDNA_SHARED(shared);
  load_shared(shared_address(shared) + words.number);
}
__global__ void load_matrices_at(const Words words) {
  CDNA_SHARED(shared);
  std::uint32_t r[4];
  ldmatrix_x4(r, shared_address(shared) + (threadIdx.x == 3 ? words.number : 0U));
}
__global__ void copy_to(const Words words) {
  CDNA_SHARED(shared);
  copy_async_16(shared_address(shared) + words.number, words.out);
}
__global__ void copy_from(const Words words) {
  CDNA_SHARED(shared);
  copy_async_16(shared_address(shared), words.out + words.number);
}
__global__ void load_once(const Words words) { words.out[0] = load_once_16(words.out + words.number).x; }
__global__ void address_of_a_global(const Words words) { words.out[0] = shared_address(words.out); }

}  // namespace

TEST_CASE("emulator: threads that wait for what never comes are told, not waited for") {
  const std::string left = failure_of(leave_before_barrier, {3, 128, 0});
  CHECK_THAT(left, Contains("127 wait at __syncthreads") && Contains("1 have ended (the first: thread (70, 0, 0))"));
  const std::string apart = failure_of(meet_at_different_places, {1, 64, 0});
  CHECK_THAT(apart, Contains("32 wait at __syncthreads") && Contains("31 wait at __shfl_sync") &&
                        Contains("1 wait at __ballot_sync (the first: thread (40, 0, 0))"));
  CHECK_THAT(failure_of(multiply_without_a_lane, {}), Contains("31 wait at mma_16816<f16>"));
  CHECK_THAT(failure_of(vote_from_outside, {}), Contains("not in the mask"));
  CHECK_THAT(failure_of(shuffle_from_outside, {}), Contains("reads lane 20"));
}

TEST_CASE("emulator: addresses outside of shared memory or not aligned end the kernel with a message") {
  CHECK_THAT(failure_of(load_at, {1, 32, 256}, 256), Contains("thread (") && Contains("byte 256 of 256"));
  CHECK_THAT(failure_of(load_at, {1, 32, 256}, 0xFFFFFFFCU), Contains("byte -4 of 256"));
  CHECK_THAT(failure_of(load_at, {1, 32, 254}, 252), Contains("byte 252 of 254"));
  CHECK_THAT(failure_of(load_at, {1, 32, 256}, 2), Contains("not aligned to 4 bytes"));
  CHECK_THAT(failure_of(load_matrices_at, {1, 32, 256}, 8), Contains("ldmatrix_x4") && Contains("aligned to 16"));
  CHECK_THAT(failure_of(load_matrices_at, {1, 32, 256}, 256), Contains("ldmatrix_x4") && Contains("byte 256 of 256"));
  CHECK_THAT(failure_of(copy_to, {1, 32, 256}, 8), Contains("copy_async_16") && Contains("aligned"));
  CHECK_THAT(failure_of(copy_to, {1, 32, 256}, 256), Contains("copy_async_16") && Contains("byte 256 of 256"));
  CHECK_THAT(failure_of(copy_from, {1, 32, 256}, 1), Contains("copy_async_16") && Contains("aligned"));
  CHECK_THAT(failure_of(load_once, {}, 2), Contains("load_once_16") && Contains("aligned"));
  CHECK_THAT(failure_of(address_of_a_global, {1, 32, 256}), Contains("not in shared memory"));
}

TEST_CASE("emulator: after a failure and a reset kernels run again") {
  failure_of(leave_before_barrier, {3, 128, 0});
  CHECK(result_of(reverse, {1, 256, 1024}, 1, 1)[0] == 255);
  CHECK(emulator::failure().empty());
}

namespace {

// Two groups of a copy each, and one that is not committed; what is seen of them after waiting for `number` groups.
__global__ void watch_copies(const Words words) {
  CDNA_SHARED(shared);
  const std::uint32_t base = shared_address(shared);
  for (unsigned i = 0; i < 48; i += 4) *reinterpret_cast<std::uint32_t*>(shared + i) = 7;
  copy_async_16(base, words.in);
  copy_async_commit();
  copy_async_16(base + 16, words.in + 4, 6);
  copy_async_commit();
  copy_async_16(base + 32, words.in + 8);
  if (words.number == 0) copy_async_wait<2>();
  if (words.number == 1) copy_async_wait<1>();
  if (words.number == 2) copy_async_wait<0>();
  for (unsigned i = 0; i < 12; ++i) words.out[i] = load_shared(base + 4 * i);
}

}  // namespace

TEST_CASE("emulator: a copy to shared memory is there after the wait for it, and before it nothing is") {
  std::vector<std::uint32_t> values;
  for (std::uint32_t i = 1; i <= 12; ++i) values.push_back(0x01010101U * i);
  for (unsigned waited = 0; waited < 3; ++waited) {
    CAPTURE(waited);
    start_anew();
    const Buffer<std::uint32_t> in(values);
    const Buffer<std::uint32_t> out(12);
    REQUIRE(run_words(watch_copies, {1, 1, 48}, {out.get(), in.get(), waited}) == cudaSuccess);
    std::vector<std::uint32_t> expected(12, 0xFFFFFFFFU);
    if (waited >= 1) std::copy(values.begin(), values.begin() + 4, expected.begin());
    if (waited == 2) {
      expected[4] = values[4];
      expected[5] = values[5] & 0xFFFFU;
      expected[6] = expected[7] = 0;
    }
    CHECK(out.read() == expected);
  }
}

TEST_CASE("emulator: a launch that a device would refuse is refused") {
  start_anew();
  const Buffer<std::uint32_t> out(1);
  const Words words{out.get(), nullptr, 0};
  const auto kernel = +[](const Words) {};
  CHECK(launch(kernel, dim3(1), dim3(1024), 0, nullptr, words) == cudaSuccess);
  CHECK(launch(kernel, dim3(1), dim3(1025), 0, nullptr, words) == cudaErrorInvalidConfiguration);
  CHECK(launch(kernel, dim3(1), dim3(32, 33), 0, nullptr, words) == cudaErrorInvalidConfiguration);
  CHECK(launch(kernel, dim3(1), dim3(0), 0, nullptr, words) == cudaErrorInvalidConfiguration);
  CHECK(launch(kernel, dim3(0), dim3(32), 0, nullptr, words) == cudaErrorInvalidConfiguration);
  CHECK(launch(kernel, dim3(1, 65536), dim3(32), 0, nullptr, words) == cudaErrorInvalidConfiguration);
  CHECK(launch(kernel, dim3(1), dim3(32), 227 * 1024, nullptr, words) == cudaSuccess);
  CHECK(launch(kernel, dim3(1), dim3(32), 227 * 1024 + 1, nullptr, words) == cudaErrorInvalidValue);
  // Without the opt-in that cdna_cuda::launch asks for.
  const auto other = +[](const Words w) { w.out[0] = 1; };
  const auto* const function = reinterpret_cast<const void*>(other);
  CHECK(emulator::launch(function, dim3(1), dim3(32), 48 * 1024, nullptr, [] {}) == cudaSuccess);
  CHECK(emulator::launch(function, dim3(1), dim3(32), 48 * 1024 + 1, nullptr, [] {}) == cudaErrorInvalidValue);
  CHECK(cudaDeviceSynchronize() == cudaSuccess);
}

TEST_CASE("emulator: narrowing and widening are those of float arithmetic") {
  CAPTURE(kSeed);
  Random random(kSeed);
  std::uint64_t wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<std::uint16_t>(i);
    if ((i & 0x7FFFU) <= 0x7C00U) {
      wrong += widen<Half::f16>(bits) != static_cast<float>(value_of_f16(bits));
      wrong += narrow<Half::f16>(widen<Half::f16>(bits)) != bits;
    }
    if ((i & 0x7FFFU) <= 0x7F80U) wrong += widen<Half::bf16>(bits) != static_cast<float>(value_of_bf16(bits));
  }
  for (int i = 0; i < 200000; ++i) {
    const float number = __uint_as_float(static_cast<std::uint32_t>(random.next() >> 32));
    if (std::isnan(number)) continue;
    const auto value = static_cast<double>(number);
    wrong += narrow<Half::f16>(number) != f16_of(value);
    wrong += narrow<Half::bf16>(number) != bf16_of(value);
    wrong += narrow_pair<Half::f16>(number, 1.0F) != (f16_of(value) | 0x3C000000U);
  }
  CHECK(wrong == 0);
  CHECK(narrow<Half::f16>(std::nanf("")) == 0x7FFF);
  CHECK(narrow<Half::bf16>(std::nanf("")) == 0x7FFF);
}

namespace {

__extension__ typedef __int128 Int128;

// A finite f16 number in units of 2^-24.
std::int64_t units_of(std::uint16_t bits) { return static_cast<std::int64_t>(std::ldexp(value_of_f16(bits), 24)); }

// a * b + c, exactly, in units of 2^-48; then 53 bits of it, the last one set if what is cut off is not 0: such a
// number is rounded to f16 as the exact one is.
double fma_of(std::uint16_t a, std::uint16_t b, std::uint16_t c) {
  const Int128 sum = static_cast<Int128>(units_of(a)) * units_of(b) + static_cast<Int128>(units_of(c)) * (1LL << 24);
  Int128 magnitude = sum < 0 ? -sum : sum;
  int shift = 0;
  bool is_cut = false;
  for (; magnitude >> 53 != 0; ++shift) {
    is_cut = is_cut || (magnitude & 1) != 0;
    magnitude >>= 1;
  }
  const auto odd = static_cast<std::int64_t>(magnitude) | (is_cut ? 1 : 0);
  return std::ldexp(static_cast<double>(sum < 0 ? -odd : odd), shift - 48);
}

std::uint32_t pair(std::uint16_t low, std::uint16_t high) { return low | std::uint32_t{high} << 16; }

}  // namespace

TEST_CASE("emulator: fma and difference of f16 pairs are rounded once") {
  CAPTURE(kSeed);
  Random random(kSeed + 1);
  const auto finite = [&random] {
    const auto bits = static_cast<std::uint16_t>(random.next() >> 48);
    return static_cast<std::uint16_t>((bits & 0x7C00U) == 0x7C00U ? bits & ~0x4000U : bits);
  };
  // The sign of 0 is not looked at.
  const auto differ = [](std::uint16_t x, std::uint16_t y) { return x != y && ((x | y) & 0x7FFFU) != 0; };
  std::uint64_t wrong = 0;
  for (int i = 0; i < 400000; ++i) {
    const std::array<std::uint16_t, 4> x = {finite(), finite(), finite(), finite()};
    const std::uint32_t sum = fma_f16x2(pair(x[0], x[1]), pair(x[1], x[2]), pair(x[2], x[3]));
    wrong += differ(static_cast<std::uint16_t>(sum), f16_of(fma_of(x[0], x[1], x[2])));
    wrong += differ(static_cast<std::uint16_t>(sum >> 16), f16_of(fma_of(x[1], x[2], x[3])));
    const std::uint32_t difference = subtract_f16x2(pair(x[0], x[1]), pair(x[2], x[3]));
    wrong += differ(static_cast<std::uint16_t>(difference), f16_of(value_of_f16(x[0]) - value_of_f16(x[2])));
    wrong += differ(static_cast<std::uint16_t>(difference >> 16), f16_of(value_of_f16(x[1]) - value_of_f16(x[3])));
  }
  CHECK(wrong == 0);
}

namespace {

enum Mistake : unsigned { kNone, kNoFence, kNoProxyFence, kNoBarrier, kOverwrites, kNoWait, kReadsEarly, kOneWarp };

// B, 256 x 64 of x (n, k), to shared memory in rows of `row_bytes`, groups of 8 rows one after the other; each group of
// `row_bytes` columns is a part of its own. `16` bytes are core matrices without swizzling.
//
// PTX ISA, "Strides" and "Swizzling modes": 128-byte swizzling exchanges 16-byte chunk c of row r of 8 with c ^ r;
// 64-byte: c ^ r / 2; 32-byte: c ^ r / 4.
CDNA_DEVICE unsigned place_of(unsigned n, unsigned k, unsigned row_bytes) {
  const unsigned row_columns = row_bytes / 2;
  const unsigned part = k / row_columns;
  const unsigned chunk = k % row_columns / 8;
  const unsigned row = n % 8;
  const unsigned swizzled = row_bytes == 128  ? chunk ^ row
                            : row_bytes == 64 ? chunk ^ row / 2
                            : row_bytes == 32 ? chunk ^ row / 4
                                              : chunk;
  return part * 256 * row_bytes + n / 8 * 8 * row_bytes + row * row_bytes + swizzled * 16 + k % 8 * 2;
}

template <Half half, unsigned row_bytes>
__global__ void multiply_warpgroup(const Products p) {
  CDNA_SHARED(shared);
  for (unsigned i = threadIdx.x; i < 256 * 64; i += 128) {
    std::memcpy(shared + place_of(i / 64, i % 64, row_bytes), &p.b[i], 2);
  }
  if (p.mistake != kNoProxyFence) fence_shared_for_wgmma();
  if (p.mistake != kNoBarrier) __syncthreads();
  const unsigned row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  const unsigned thread = threadIdx.x % 4;
  float c[128] = {};
  if (p.mistake == kOneWarp && threadIdx.x >= 96) return;
  for (unsigned step = 0; step < 4; ++step) {
    std::uint32_t a[4] = {};
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned column = 16 * step + thread * 2 + i % 2 + 8 * (i / 4);
      a[i / 2] |= std::uint32_t{p.a[64 * (row + 8 * (i / 2 % 2)) + column]} << 16 * (i % 2);
    }
    if (p.mistake != kNoFence) wgmma_fence();
    const unsigned start = (shared_address(shared) + place_of(0, 16 * step, row_bytes)) >> 4;
    wgmma_m64n256k16<half>(c, a, p.descriptor | (start & 0x3FFFU));
  }
  wgmma_commit();
  if (p.mistake == kOverwrites && threadIdx.x == 5) shared[0] = static_cast<unsigned char>(~shared[0]);
  if (p.mistake != kReadsEarly && p.mistake != kNoWait) wgmma_wait<0>();
  // PTX ISA, D of m64nNk16: d_i is row groupID + 8 * (i / 2 % 2) of the warp's 16, column 8 * (i / 4) + thread * 2 + i
  // % 2.
  for (unsigned i = 0; i < 128; ++i) {
    p.c[256 * (row + 8 * (i / 2 % 2)) + 8 * (i / 4) + thread * 2 + i % 2] = c[i];
  }
  if (p.mistake == kReadsEarly) wgmma_wait<0>();
}

std::uint64_t descriptor_of(unsigned row_bytes) {
  const std::uint64_t swizzle = row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : row_bytes == 32 ? 3 : 0;
  const std::uint64_t leading =
      row_bytes == 16 ? 256 * 16 : 16;         // From 8 columns to the next; not used with swizzling.
  const std::uint64_t stride = 8 * row_bytes;  // From 8 rows to the next.
  return leading / 16 << 16 | stride / 16 << 32 | swizzle << 62;
}

template <Half half, unsigned row_bytes>
std::uint64_t wrong_of_warpgroup(std::uint64_t seed, unsigned mistake) {
  start_anew(seed);
  Random random(seed);
  const std::vector<int> a = random_integers(random, 64 * 64);
  const std::vector<int> b = random_integers(random, 256 * 64);
  const Buffer<std::uint16_t> device_a(halves_of(half, a));
  const Buffer<std::uint16_t> device_b(halves_of(half, b));
  const Buffer<float> c(64 * 256);
  const Products products{device_a.get(), device_b.get(), c.get(), descriptor_of(row_bytes), mistake};
  REQUIRE(launch(multiply_warpgroup<half, row_bytes>, dim3(1), dim3(128), 256 * 128, nullptr, products) == cudaSuccess);
  if (cudaDeviceSynchronize() != cudaSuccess) return ~std::uint64_t{0};
  const std::vector<float> got = c.read();
  std::uint64_t wrong = 0;
  for (unsigned row = 0; row < 64; ++row) {
    for (unsigned n = 0; n < 256; ++n) {
      int sum = 0;
      for (unsigned k = 0; k < 64; ++k) sum += a[64 * row + k] * b[64 * n + k];
      wrong += got[256 * row + n] != static_cast<float>(sum);
    }
  }
  return wrong;
}

std::string failure_of_warpgroup(unsigned mistake) {
  CHECK(wrong_of_warpgroup<Half::f16, 128>(1, mistake) == ~std::uint64_t{0});
  return emulator::failure();
}

}  // namespace

TEST_CASE("emulator: wgmma reads B by its descriptor, with every swizzle") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    CHECK(wrong_of_warpgroup<Half::f16, 128>(seed, kNone) == 0);
    CHECK(wrong_of_warpgroup<Half::bf16, 128>(seed, kNone) == 0);
    CHECK(wrong_of_warpgroup<Half::f16, 64>(seed, kNone) == 0);
    CHECK(wrong_of_warpgroup<Half::bf16, 32>(seed, kNone) == 0);
    CHECK(wrong_of_warpgroup<Half::f16, 16>(seed, kNone) == 0);
  }
  emulator::reset();
}

namespace {

// Two groups of a product of ones each; the sums after waiting until at most one is under way, and then none.
__global__ void wait_for_one_group(const Products p) {
  CDNA_SHARED(shared);
  const std::uint16_t one = 0x3C00;
  for (unsigned i = threadIdx.x; i < 64 * 16; i += 128) std::memcpy(shared + 2 * i, &one, 2);
  fence_shared_for_wgmma();
  __syncthreads();
  float first[32] = {};
  float second[32] = {};
  const std::uint32_t a[4] = {0x3C003C00U, 0x3C003C00U, 0x3C003C00U, 0x3C003C00U};
  const std::uint64_t b = p.descriptor | shared_address(shared) >> 4;
  wgmma_fence();
  wgmma_m64n64k16<Half::f16>(first, a, b);
  wgmma_commit();
  wgmma_m64n64k16<Half::f16>(second, a, b);
  wgmma_m64n64k16<Half::f16>(second, a, b);
  wgmma_commit();
  wgmma_wait<1>();
  p.c[4 * threadIdx.x] = first[31];
  p.c[4 * threadIdx.x + 1] = second[31];
  wgmma_wait<0>();
  p.c[4 * threadIdx.x + 2] = first[31];
  p.c[4 * threadIdx.x + 3] = second[31];
}

}  // namespace

TEST_CASE("emulator: a wait for all groups of wgmma but one leaves that one under way") {
  start_anew();
  const Buffer<float> c(4 * 128);
  const Products products{nullptr, nullptr, c.get(), descriptor_of(32), 0};
  REQUIRE(launch(wait_for_one_group, dim3(1), dim3(128), 64 * 32, nullptr, products) == cudaSuccess);
  const std::vector<float> got = c.read();
  for (unsigned i = 0; i < 128; ++i) {
    REQUIRE(got[4 * i] == 16.0F);
    REQUIRE(got[4 * i + 1] == 0.0F);
    REQUIRE(got[4 * i + 2] == 16.0F);
    REQUIRE(got[4 * i + 3] == 32.0F);
  }
}

TEST_CASE("emulator: a wgmma without its fences, barrier or wait is told, and its sums are not there early") {
  CHECK_THAT(failure_of_warpgroup(kNoFence), Contains("no wgmma_fence"));
  CHECK_THAT(failure_of_warpgroup(kNoProxyFence), Contains("never fenced"));
  CHECK_THAT(failure_of_warpgroup(kNoBarrier), Contains("never fenced"));
  CHECK_THAT(failure_of_warpgroup(kOverwrites), Contains("was written after its fence"));
  CHECK_THAT(failure_of_warpgroup(kNoWait), Contains("ended before its wgmma"));
  CHECK_THAT(failure_of_warpgroup(kOneWarp), Contains("96 wait at wgmma_wait of the warpgroup"));
  CHECK(wrong_of_warpgroup<Half::f16, 128>(1, kReadsEarly) > 60 * 256);
  emulator::reset();
}
