// The compressor without a file in C, against the C++ one.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "cdna/encode.hpp"
#include "sample_file.hpp"
#include "writing.hpp"

namespace {

using cdna::test::Bytes;
using cdna::test::EncodedHandle;
using cdna::test::must;
using cdna::test::must_be_ok;

struct Call {
  cdna_encode_options options() const {
    cdna_encode_options out = CDNA_ENCODE_OPTIONS_INIT;
    out.threads = threads;
    out.keep_nonfinite = keep_nonfinite;
    return out;
  }

  std::uint32_t dtype = CDNA_F32;
  std::uint64_t rows = 40;
  std::uint64_t cols = 100;
  const void* data = nullptr;
  const char* preset = "cb8";
  std::uint32_t threads = 0;
  std::int32_t keep_nonfinite = 0;
};

EncodedHandle encode(const Call& call) {
  cdna_encoded* encoded = nullptr;
  cdna_error error{};
  const cdna_encode_options options = call.options();
  must_be_ok(cdna_encode(call.dtype, call.rows, call.cols, call.data, call.preset, &options, &encoded, &error), error);
  REQUIRE(encoded != nullptr);
  return EncodedHandle(encoded);
}

cdna_encoded_info info_of(const cdna_encoded* encoded) {
  cdna_encoded_info info{};
  info.struct_size = sizeof info;
  REQUIRE(cdna_encoded_describe(encoded, &info, nullptr) == CDNA_OK);
  return info;
}

template <class T, class U>
bool same(const T* found, const std::vector<U>& expected) {
  static_assert(sizeof(T) == sizeof(U));
  if (expected.empty()) return found == nullptr;
  return found != nullptr && std::memcmp(found, expected.data(), expected.size() * sizeof(U)) == 0;
}

void check_same(const cdna_encoded* encoded, const cdna::EncodedMatrix& expected) {
  const cdna_encoded_info info = info_of(encoded);
  CHECK(info.dtype == static_cast<std::uint32_t>(expected.dtype));
  CHECK(info.rows == expected.rows);
  CHECK(info.cols == expected.cols);
  CHECK(info.bits == expected.bits);
  CHECK(info.group == expected.group);
  CHECK(same(info.codebook, expected.codebook));
  CHECK(same(info.codes, expected.codes));
  CHECK(same(info.row_scales, expected.row_scales));
  CHECK(same(info.group_scales, expected.group_scales));
  CHECK(same(info.scale_table, expected.scale_table));
  CHECK(same(static_cast<const std::byte*>(info.outlier_values), expected.outlier_values));
  CHECK(same(info.outlier_positions, expected.outlier_positions));
  CHECK(info.outlier_count == expected.outlier_positions.size());
  CHECK(info.payload_bytes == expected.payload_bytes());
  CHECK(info.bits_per_weight == expected.bits_per_weight());
  CHECK(info.snr_db == expected.statistics.snr_db());
  CHECK(info.max_abs_error == expected.statistics.max_abs_error);
  std::vector<float> found(expected.rows * expected.cols);
  std::vector<float> values(found.size());
  CHECK(cdna_encoded_decode(encoded, found.data(), nullptr) == CDNA_OK);
  cdna::decode(expected, values);
  CHECK(found == values);
}

// An error, and nothing given out.
std::string message_of(const Call& call, cdna_code expected) {
  auto* const untouched = reinterpret_cast<cdna_encoded*>(&expected);
  cdna_encoded* encoded = untouched;
  cdna_error error{};
  const cdna_encode_options options = call.options();
  CHECK(cdna_encode(call.dtype, call.rows, call.cols, call.data, call.preset, &options, &encoded, &error) == expected);
  CHECK(error.code == expected);
  CHECK(encoded == untouched);
  CHECK(cdna_encode(call.dtype, call.rows, call.cols, call.data, call.preset, &options, &encoded, nullptr) == expected);
  return error.message;
}

}  // namespace

TEST_CASE("encoded: the same as in C++, for every preset, dtype and number of threads") {
  const std::vector<float> weights = cdna::test::Random(1).weights(4000);
  const Bytes f32 = cdna::test::bytes_of_values(weights);
  const Bytes f64 = cdna::test::bytes_of_values(std::vector<double>(weights.begin(), weights.end()));
  const Bytes bf16 = cdna::test::bf16_of(weights);
  for (const char* const preset : {"cb8", "cb8g64", "cb4g32", "cb6g64,k=50,outliers=0.01", "cb8,class=pwl16"}) {
    const cdna::CodebookOptions options = must(cdna::parse_preset(preset)).codebook;
    const auto compare = [&](std::uint32_t dtype, const Bytes& data, std::uint32_t threads) {
      INFO(preset << ", dtype " << dtype << ", threads " << threads);
      const EncodedHandle encoded = encode({dtype, 40, 100, data.data(), preset, threads});
      check_same(encoded.get(), must(cdna::encode(static_cast<cdna::DType>(dtype), 40, 100, data, options)));
    };
    compare(CDNA_F32, f32, 0);
    compare(CDNA_F32, f32, 3);
    compare(CDNA_F64, f64, 0);
    compare(CDNA_BF16, bf16, 1);
  }
}

TEST_CASE("encoded: wrong arguments are named") {
  const Bytes data = cdna::test::bytes_of_values(cdna::test::Random(2).weights(4000));
  Call call;
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("data is NULL"));
  call.data = data.data();
  for (const std::uint32_t dtype : {0U, 23U, 256U + CDNA_F32, ~0U}) {
    call.dtype = dtype;
    CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("dtype " + std::to_string(dtype)));
  }
  call.dtype = CDNA_U8;
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("F16, BF16, F32 and F64"));
  call = {CDNA_F32, 0, 100, data.data()};
  message_of(call, CDNA_BAD_ARGUMENT);
  call = {CDNA_F32, 40, 0, data.data()};
  message_of(call, CDNA_BAD_ARGUMENT);
  call = {CDNA_F32, 1, (1U << 24) + 1, data.data()};
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("2^24"));
  for (const std::uint64_t rows : {std::uint64_t{1} << 36, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    call = {CDNA_F64, rows, 1U << 24, data.data()};
    CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("rows " + std::to_string(rows)));
  }
  call = {CDNA_F32, ~std::uint64_t{0}, ~std::uint64_t{0}, data.data()};
  message_of(call, CDNA_BAD_ARGUMENT);
  call = {CDNA_F32, 40, 100, data.data(), nullptr};
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("preset is NULL"));
  call.preset = "cb9";
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("preset 'cb9'"));
  call.preset = "exact-z";
  CHECK_THAT(message_of(call, CDNA_BAD_ARGUMENT), Catch::Contains("preset 'exact-z' makes no codes"));
  call.preset = "cb8";
  call.threads = 1025;
  CHECK_THAT(message_of(call, CDNA_LIMIT), Catch::Contains("1025"));
  cdna_error error{};
  CHECK(cdna_encode(CDNA_F32, 40, 100, data.data(), "cb8", nullptr, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("ret_encoded is NULL"));
}

TEST_CASE("encoded: values that are not finite become outliers where that is asked for, and no field is unknown") {
  std::vector<float> values = cdna::test::Random(3).weights(4000);
  values[1234] = std::numeric_limits<float>::infinity();
  Call call;
  call.data = values.data();
  call.keep_nonfinite = 1;
  for (const std::uint32_t threads : {0U, 3U, CDNA_ALL_CORES}) {
    call.threads = threads;
    const EncodedHandle encoded = encode(call);
    const cdna_encoded_info info = info_of(encoded.get());
    const std::span positions(info.outlier_positions, info.outlier_count);
    CHECK(std::count(positions.begin(), positions.end(), 1234U) == 1);
    std::vector<float> decoded(values.size());
    REQUIRE(cdna_encoded_decode(encoded.get(), decoded.data(), nullptr) == CDNA_OK);
    CHECK(decoded[1234] == values[1234]);
  }
  cdna_encode_options options = call.options();
  options.reserved = 1;
  cdna_encoded* encoded = nullptr;
  CHECK(cdna_encode(CDNA_F32, 40, 100, values.data(), "cb8", &options, &encoded, nullptr) == CDNA_BAD_ARGUMENT);
  for (const std::uint32_t size : {1U, 4U, 12U, 20U, 5000U, 0xCCCCCCC8U, 0xFFFFFFFFU}) {
    options = call.options();
    options.struct_size = size;
    CHECK(cdna_encode(CDNA_F32, 40, 100, values.data(), "cb8", &options, &encoded, nullptr) == CDNA_BAD_ARGUMENT);
  }
  CHECK(encoded == nullptr);
}

TEST_CASE("encoded: a value that is not finite has its place in the message") {
  std::vector<float> values = cdna::test::Random(3).weights(4000);
  values[1234] = std::numeric_limits<float>::quiet_NaN();
  const auto cpp = cdna::encode(cdna::DType::f32, 40, 100, cdna::test::bytes_of_values(values));
  REQUIRE(!cpp);
  const std::string message = message_of({CDNA_F32, 40, 100, values.data()}, CDNA_BAD_ARGUMENT);
  CHECK(message == cpp.error().message);
}

TEST_CASE("encoded: descriptions of other sizes, and what is not there") {
  const Bytes data = cdna::test::bytes_of_values(cdna::test::Random(4).weights(4000));
  const EncodedHandle encoded = encode({CDNA_F32, 40, 100, data.data()});
  cdna_encoded_info earlier{};
  earlier.struct_size = offsetof(cdna_encoded_info, codebook);
  CHECK(cdna_encoded_describe(encoded.get(), &earlier, nullptr) == CDNA_OK);
  CHECK(earlier.rows == 40);
  CHECK(earlier.codebook == nullptr);
  struct Later {
    cdna_encoded_info info;
    std::uint64_t more;
  } later{};
  later.info.struct_size = sizeof later;
  later.more = 5;
  CHECK(cdna_encoded_describe(encoded.get(), &later.info, nullptr) == CDNA_OK);
  CHECK(later.info.max_abs_error == info_of(encoded.get()).max_abs_error);
  CHECK(later.more == 5);

  cdna_error error{};
  cdna_encoded_info none{};
  CHECK(cdna_encoded_describe(encoded.get(), &none, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("struct_size"));
  CHECK(none.rows == 0);
  CHECK(cdna_encoded_describe(encoded.get(), nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_encoded_describe(nullptr, &later.info, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("encoded is NULL"));
  CHECK(cdna_encoded_decode(encoded.get(), nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("out is NULL"));
  float value = 0;
  CHECK(cdna_encoded_decode(nullptr, &value, &error) == CDNA_BAD_ARGUMENT);
  cdna_encoded_free(nullptr);
}
