// Tests of GGUF's blocks as codes: every type against loops in the order of ggml's own, bit for bit, and against what
// helix-substrate wrote.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "gguf_file.hpp"
#include "libcdna/format/float_bits.hpp"
#include "libcdna/import/gguf/gguf.hpp"
#include "random.hpp"

using namespace cdna;
using namespace cdna::test;

namespace {

using Block = const std::uint8_t*;
using Out = float*;

float half(Block b) { return f32_of_f16(static_cast<std::uint16_t>(b[0] | b[1] << 8)); }

// What follows are the loops of dequantize_row_*() of ggml-quants.c on one block.
void q4_0(Block b, Out y) {
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((b[2 + j] & 15) - 8) * half(b);
    y[j + 16] = static_cast<float>((b[2 + j] >> 4) - 8) * half(b);
  }
}

void q4_1(Block b, Out y) {
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(b[4 + j] & 15) * half(b) + half(b + 2);
    y[j + 16] = static_cast<float>(b[4 + j] >> 4) * half(b) + half(b + 2);
  }
}

std::uint32_t word(Block b) {
  std::uint32_t value;
  std::memcpy(&value, b, 4);
  return value;
}

void q5_0(Block b, Out y) {
  const std::uint32_t qh = word(b + 2);
  for (unsigned j = 0; j < 16; ++j) {
    const unsigned high0 = ((qh >> j) << 4) & 16;
    const unsigned high1 = (qh >> (j + 12)) & 16;
    y[j] = static_cast<float>(static_cast<int>((b[6 + j] & 15U) | high0) - 16) * half(b);
    y[j + 16] = static_cast<float>(static_cast<int>((b[6 + j] >> 4U) | high1) - 16) * half(b);
  }
}

void q5_1(Block b, Out y) {
  const std::uint32_t qh = word(b + 4);
  for (unsigned j = 0; j < 16; ++j) {
    const unsigned high0 = ((qh >> j) << 4) & 16;
    const unsigned high1 = (qh >> (j + 12)) & 16;
    y[j] = static_cast<float>((b[8 + j] & 15U) | high0) * half(b) + half(b + 2);
    y[j + 16] = static_cast<float>((b[8 + j] >> 4U) | high1) * half(b) + half(b + 2);
  }
}

void q8_0(Block b, Out y) {
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(static_cast<std::int8_t>(b[2 + j])) * half(b);
}

void q2_k(Block b, Out y) {
  const float d = half(b + 80);
  const float min = half(b + 82);
  Block q = b + 16;
  int is = 0;
  for (int n = 0; n < 256; n += 128, q += 32) {
    for (int shift = 0; shift < 8; shift += 2) {
      for (int part = 0; part < 2; ++part, ++is) {
        const float dl = d * static_cast<float>(b[is] & 15);
        const float ml = min * static_cast<float>(b[is] >> 4);
        for (int l = 0; l < 16; ++l) *y++ = dl * static_cast<float>(q[16 * part + l] >> shift & 3) - ml;
      }
    }
  }
}

void q3_k(Block b, Out y) {
  constexpr std::uint32_t kMask1 = 0x03030303;
  constexpr std::uint32_t kMask2 = 0x0f0f0f0f;
  const float d_all = half(b + 108);
  const std::uint32_t low0 = word(b + 96);
  const std::uint32_t low1 = word(b + 100);
  const std::uint32_t tmp = word(b + 104);
  const std::uint32_t aux[4] = {(low0 & kMask2) | ((tmp & kMask1) << 4), (low1 & kMask2) | (((tmp >> 2) & kMask1) << 4),
                                ((low0 >> 4) & kMask2) | (((tmp >> 4) & kMask1) << 4),
                                ((low1 >> 4) & kMask2) | (((tmp >> 6) & kMask1) << 4)};
  std::int8_t scales[16];
  std::memcpy(scales, aux, 16);
  Block q = b + 32;
  unsigned m = 1;
  int is = 0;
  for (int n = 0; n < 256; n += 128, q += 32) {
    for (int shift = 0; shift < 8; shift += 2, m <<= 1) {
      for (int part = 0; part < 2; ++part) {
        const float dl = d_all * static_cast<float>(scales[is++] - 32);
        for (int l = 0; l < 16; ++l)
          *y++ = dl * static_cast<float>((q[16 * part + l] >> shift & 3) - ((b[16 * part + l] & m) != 0 ? 0 : 4));
      }
    }
  }
}

void get_scale_min_k4(int j, Block q, unsigned& d, unsigned& m) {
  if (j < 4) {
    d = q[j] & 63U;
    m = q[j + 4] & 63U;
  } else {
    const auto at = [q](int i) { return static_cast<unsigned>(q[i]); };
    d = (at(j + 4) & 15U) | at(j - 4) >> 6U << 4U;
    m = at(j + 4) >> 4U | at(j) >> 6U << 4U;
  }
}

void k4(Block b, Block q, Block qh, Out y) {
  unsigned u1 = 1;
  unsigned u2 = 2;
  for (int is = 0; is < 8; is += 2, q += 32, u1 <<= 2, u2 <<= 2) {
    unsigned sc = 0;
    unsigned m = 0;
    get_scale_min_k4(is, b + 4, sc, m);
    const float d1 = half(b) * static_cast<float>(sc);
    const float m1 = half(b + 2) * static_cast<float>(m);
    get_scale_min_k4(is + 1, b + 4, sc, m);
    const float d2 = half(b) * static_cast<float>(sc);
    const float m2 = half(b + 2) * static_cast<float>(m);
    for (int l = 0; l < 32; ++l)
      *y++ = d1 * static_cast<float>((q[l] & 15) + (qh != nullptr && (qh[l] & u1) != 0 ? 16 : 0)) - m1;
    for (int l = 0; l < 32; ++l)
      *y++ = d2 * static_cast<float>((q[l] >> 4) + (qh != nullptr && (qh[l] & u2) != 0 ? 16 : 0)) - m2;
  }
}

void q4_k(Block b, Out y) { k4(b, b + 16, nullptr, y); }
void q5_k(Block b, Out y) { k4(b, b + 48, b + 16, y); }

void q6_k(Block b, Out y) {
  const float d = half(b + 208);
  Block ql = b;
  Block qh = b + 128;
  Block sc = b + 192;
  for (int n = 0; n < 256; n += 128, y += 128, ql += 64, qh += 32, sc += 8) {
    for (int l = 0; l < 32; ++l) {
      const int is = l / 16;
      const auto scale = [&](int i) { return d * static_cast<float>(static_cast<std::int8_t>(sc[is + i])); };
      y[l] = scale(0) * static_cast<float>(((ql[l] & 15) | (qh[l] & 3) << 4) - 32);
      y[l + 32] = scale(2) * static_cast<float>(((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4) - 32);
      y[l + 64] = scale(4) * static_cast<float>((ql[l] >> 4 | (qh[l] >> 4 & 3) << 4) - 32);
      y[l + 96] = scale(6) * static_cast<float>((ql[l + 32] >> 4 | (qh[l] >> 6 & 3) << 4) - 32);
    }
  }
}

constexpr float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr float kFp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void nibbles(Block q, int count, const float* table, float d, Out y) {
  for (int j = 0; j < count; ++j) {
    y[j] = d * table[q[j] & 15];
    y[j + count] = d * table[q[j] >> 4];
  }
}

void iq4_nl(Block b, Out y) { nibbles(b + 2, 16, kIq4, half(b), y); }

void iq4_xs(Block b, Out y) {
  const unsigned high = b[2] | static_cast<unsigned>(b[3]) << 8;
  for (int ib = 0; ib < 8; ++ib) {
    const int ls = static_cast<int>((b[4 + ib / 2] >> 4 * (ib % 2) & 15U) | (high >> 2 * ib & 3U) << 4U);
    nibbles(b + 8 + 16 * ib, 16, kIq4, half(b) * static_cast<float>(ls - 32), y + 32 * ib);
  }
}

void tq1_0(Block b, Out y) {
  constexpr std::uint8_t kPow3[5] = {1, 3, 9, 27, 81};
  const auto digits = [&](Block q, int bytes, int count) {
    for (int n = 0; n < count; ++n) {
      for (int m = 0; m < bytes; ++m) {
        const auto shifted = static_cast<std::uint8_t>(q[m] * kPow3[n]);
        *y++ = static_cast<float>((shifted * 3 >> 8) - 1) * half(b + 52);
      }
    }
  };
  digits(b, 32, 5);
  digits(b + 32, 16, 5);
  digits(b + 48, 4, 4);
}

void tq2_0(Block b, Out y) {
  for (int j = 0; j < 64; j += 32) {
    for (int l = 0; l < 4; ++l) {
      for (int m = 0; m < 32; ++m) *y++ = static_cast<float>((b[j + m] >> (l * 2) & 3) - 1) * half(b + 64);
    }
  }
}

void mxfp4(Block b, Out y) { nibbles(b + 1, 16, kFp4, static_cast<float>(std::ldexp(1.0, b[0] - 128)), y); }

void nvfp4(Block b, Out y) {
  for (int i = 0; i < 4; ++i) {
    const int exponent = b[i] >> 3 & 15;
    const int mantissa = b[i] & 7;
    double scale = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
    if (b[i] == 0 || b[i] == 0x7F) scale = 0;
    nibbles(b + 4 + 8 * i, 8, kFp4, static_cast<float>(scale * 0.5), y + 16 * i);
  }
}

// Section 1.6 of the description of helix-substrate's formats.
void hxq_g128(Block b, Out y) {
  for (int i = 0; i < 128; ++i) y[i] = static_cast<float>(b[4 + i]) * half(b) + half(b + 2);
}

void hxq_6(Block b, Out y) {
  for (int i = 0; i < 32; ++i) {
    Block q = b + 4 + 3 * i;
    const int codes[4] = {q[0] & 63, q[0] >> 6 | (q[1] & 15) << 2, q[1] >> 4 | (q[2] & 3) << 4, q[2] >> 2};
    for (const int code : codes) *y++ = static_cast<float>(code) * half(b) + half(b + 2);
  }
}

struct Case {
  const char* name;
  std::uint32_t id;
  std::uint64_t elements;
  std::size_t bytes;
  std::vector<std::size_t> halves;  // Bytes at which a binary16 number stands.
  void (*decode)(Block, Out);
};

const std::vector<Case> kCases{
    {"Q4_0", 2, 32, 18, {0}, q4_0},
    {"Q4_1", 3, 32, 20, {0, 2}, q4_1},
    {"Q5_0", 6, 32, 22, {0}, q5_0},
    {"Q5_1", 7, 32, 24, {0, 2}, q5_1},
    {"Q8_0", 8, 32, 34, {0}, q8_0},
    {"Q2_K", 10, 256, 84, {80, 82}, q2_k},
    {"Q3_K", 11, 256, 110, {108}, q3_k},
    {"Q4_K", 12, 256, 144, {0, 2}, q4_k},
    {"Q5_K", 13, 256, 176, {0, 2}, q5_k},
    {"Q6_K", 14, 256, 210, {208}, q6_k},
    {"IQ4_NL", 20, 32, 18, {0}, iq4_nl},
    {"IQ4_XS", 23, 256, 136, {0}, iq4_xs},
    {"TQ1_0", 34, 256, 54, {52}, tq1_0},
    {"TQ2_0", 35, 256, 66, {64}, tq2_0},
    {"MXFP4", 39, 32, 17, {}, mxfp4},
    {"NVFP4", 40, 64, 36, {}, nvfp4},
    {"HXQ_AFFINE_G128", 36, 128, 132, {0, 2}, hxq_g128},
    {"HXQ_AFFINE_6", 37, 128, 100, {0, 2}, hxq_6},
};

// Random bytes as blocks whose halves are finite: also negative, subnormal and zero.
std::string random_blocks(const Case& type, std::size_t count, std::uint64_t seed) {
  Random random(seed);
  const std::vector<std::byte> bytes = random.bytes(type.bytes * count);
  std::string out(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (std::size_t i = 0; i < count; ++i) {
    for (const std::size_t at : type.halves) {
      auto bits = static_cast<std::uint16_t>(random.next());
      if ((bits & 0x7C00U) == 0x7C00U) bits ^= 0x0400U;
      if (i == 0) bits &= 0x8000U;  // +0 or -0.
      std::memcpy(out.data() + i * type.bytes + at, &bits, 2);
    }
  }
  return out;
}

std::vector<std::uint32_t> bits_of_values(const std::vector<float>& values) {
  std::vector<std::uint32_t> out(values.size());
  std::memcpy(out.data(), values.data(), values.size() * 4);
  return out;
}

std::vector<float> decoded(const Model& model, std::size_t tensor) {
  std::vector<float> out(model.tensors()[tensor].size_bytes / 4);
  REQUIRE(model.read(tensor, 0, std::as_writable_bytes(std::span(out))));
  return out;
}

// `file` must outlive the model.
std::unique_ptr<Model> open_bytes(const std::string& file) {
  auto model = open_gguf(memory_source(std::as_bytes(std::span(file)), false), GgufDialect::hxq);
  REQUIRE(model);
  return *std::move(model);
}

std::string content_of(const std::string& path) {
  std::ifstream in(std::string(CDNA_SOURCE_DIR "/tests/legacy/") + path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

// The data of an .npy file of version 1.
std::vector<std::uint32_t> npy_words(const std::string& path) {
  const std::string file = content_of(path);
  std::uint16_t header = 0;
  std::memcpy(&header, file.data() + 8, 2);
  std::vector<std::uint32_t> words((file.size() - 10 - header) / 4);
  std::memcpy(words.data(), file.data() + 10 + header, words.size() * 4);
  return words;
}

}  // namespace

TEST_CASE("gguf blocks: random blocks decode to the bits of ggml's loops") {
  constexpr std::size_t kBlocks = 48;
  for (const Case& type : kCases) {
    INFO(type.name << ", seed " << type.id);
    const std::string data = random_blocks(type, kBlocks, type.id);
    const std::string file = gguf_file({}, {gguf_tensor("w", {type.elements * 4, kBlocks / 4}, type.id, 0)}, data);
    const auto model = open_bytes(file);
    const ModelTensor& tensor = model->tensors()[0];
    CHECK(tensor.is_encoded);
    CHECK(tensor.dtype == DType::f32);
    CHECK(tensor.source_type == type.name);
    CHECK(tensor.shape == std::vector<std::uint64_t>{kBlocks / 4, type.elements * 4});
    std::vector<float> expected(type.elements * kBlocks);
    for (std::size_t i = 0; i < kBlocks; ++i)
      type.decode(reinterpret_cast<Block>(data.data()) + i * type.bytes, expected.data() + i * type.elements);
    CHECK(bits_of_values(decoded(*model, 0)) == bits_of_values(expected));
  }
}

TEST_CASE("gguf blocks: planes have the form that a writer takes") {
  for (const Case& type : kCases) {
    INFO(type.name);
    const std::string data = random_blocks(type, 6, type.id + 100);
    const std::string file = gguf_file({}, {gguf_tensor("w", {type.elements * 2, 3}, type.id, 0)}, data);
    const auto model = open_bytes(file);
    const auto held = model->read_planes(0);
    REQUIRE(held);
    const EncodedPlanes& planes = held->planes;
    const std::uint64_t elements = type.elements * 6;
    CHECK(planes.codebook.size() == std::size_t{1} << planes.bits);
    CHECK(std::is_sorted(planes.codebook.begin(), planes.codebook.end()));
    CHECK(planes.codes.size() == elements * planes.bits / 8);
    CHECK((planes.group == 16 || planes.group == 32 || planes.group == 64 || planes.group == 128));
    CHECK(planes.group_factors.size() == elements / planes.group);
    CHECK((planes.group_offsets.empty() || planes.group_offsets.size() == elements / planes.group));
    CHECK((planes.group_scales.empty() && planes.row_scales.empty() && planes.vector == 1));
  }
}

TEST_CASE("gguf blocks: values are read from any byte on") {
  const Case& type = kCases[8];
  const std::string data = random_blocks(type, 4, 5);
  const std::string file = gguf_file({}, {gguf_tensor("w", {512, 2}, type.id, 0)}, data);
  const auto model = open_bytes(file);
  const std::vector<float> whole = decoded(*model, 0);
  const auto* const bytes = reinterpret_cast<const std::byte*>(whole.data());
  for (const std::uint64_t begin : {1U, 1023U, 2047U, 2048U, 4090U}) {
    std::vector<std::byte> part(std::min<std::size_t>(2100, whole.size() * 4 - begin));
    REQUIRE(model->read(0, begin, part));
    CHECK(std::memcmp(part.data(), bytes + begin, part.size()) == 0);
  }
}

TEST_CASE("gguf blocks: a scale that is not finite is malformed, with its tensor and byte") {
  for (const Case& type : kCases) {
    for (const std::size_t at : type.halves) {
      INFO(type.name << ", half at byte " << at);
      std::string data = random_blocks(type, 3, 7);
      const std::uint16_t infinity = 0x7C00;
      std::memcpy(data.data() + type.bytes + at, &infinity, 2);
      std::memset(data.data() + type.bytes, 0x11, at > 16 ? 16 : 0);  // Scales that are multiplied with it are not 0.
      const std::string file = gguf_file({}, {gguf_tensor("w", {type.elements * 3, 1}, type.id, 0)}, data);
      const auto model = open_bytes(file);
      const auto held = model->read_planes(0);
      REQUIRE_FALSE(held);
      CHECK(held.error().code == Code::malformed);
      CHECK(held.error().item == "w");
      CHECK(held.error().offset == file.size() - 2 * type.bytes);
    }
  }
}

TEST_CASE("gguf blocks: what helix-substrate wrote decodes to what it read") {
  const std::string q5k = content_of("packing/q5k.blocks.bin");
  const std::string q5k_file = gguf_file({}, {gguf_tensor("w", {256 * (q5k.size() / 176)}, 13, 0)}, q5k);
  CHECK(bits_of_values(decoded(*open_bytes(q5k_file), 0)) == npy_words("packing/q5k.decoded.npy"));
  const std::string affine = content_of("packing/affine6_g128.ggml_blocks_type37.bin");
  const std::string affine_file = gguf_file({}, {gguf_tensor("w", {384, 8}, 37, 0)}, affine);
  CHECK(bits_of_values(decoded(*open_bytes(affine_file), 0)) == npy_words("packing/affine6_g128.decoded.npy"));
}

TEST_CASE("gguf blocks: types 36 and 37 are helix-substrate's only where that is asked for") {
  const std::string path = CDNA_SOURCE_DIR "/tests/legacy/gguf/hxq_types_36_37_q5k.gguf";
  const auto refused = open_model(path);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Code::unsupported);
  CHECK(refused.error().file == path);
  CHECK(refused.error().item == "blk.0.attn_q.weight");
  CHECK(refused.error().message.find("IQ4_NL_4_8") != std::string::npos);
  CHECK(refused.error().message.find("HXQ_AFFINE_6") != std::string::npos);
  ModelOptions options;
  options.format = ModelFormat::gguf_hxq;
  const auto model = open_model(path, options);
  REQUIRE(model);
  REQUIRE((*model)->tensors().size() == 5);
  // The same matrix was written to packing/.
  const auto tensors = (*model)->tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].source_type == "HXQ_AFFINE_6")
      CHECK(bits_of_values(decoded(**model, i)) == npy_words("packing/affine6_g128.decoded.npy"));
    if (tensors[i].source_type == "Q5_K")
      CHECK(bits_of_values(decoded(**model, i)) == npy_words("packing/q5k.decoded.npy"));
  }
}

TEST_CASE("gguf blocks: vectors are values, as no codes fit their one column") {
  for (const Case& type : kCases) {
    INFO(type.name);
    const std::string data = random_blocks(type, 3, 11);
    const std::string line = gguf_file({}, {gguf_tensor("w", {type.elements * 3}, type.id, 0)}, data);
    const std::string matrix = gguf_file({}, {gguf_tensor("w", {type.elements, 3}, type.id, 0)}, data);
    const auto model = open_bytes(line);
    CHECK_FALSE(model->tensors()[0].is_encoded);
    CHECK(model->tensors()[0].dtype == DType::f32);
    CHECK(bits_of_values(decoded(*model, 0)) == bits_of_values(decoded(*open_bytes(matrix), 0)));
  }
}

TEST_CASE("gguf blocks: rows of more than 2^24 columns are values, as no codes of them can be stored") {
  const Case& type = kCases[0];
  INFO(type.name);
  const std::uint64_t blocks = (std::uint64_t{1} << 24) / type.elements + 1;
  const std::string block = random_blocks(type, 1, 12);
  std::string data;
  for (std::uint64_t i = 0; i < blocks; ++i) data += block;
  const std::string wide = gguf_file({}, {gguf_tensor("w", {type.elements * blocks, 1}, type.id, 0)}, data);
  const std::string small = gguf_file({}, {gguf_tensor("w", {type.elements, 1}, type.id, 0)}, block);
  const auto model = open_bytes(wide);
  CHECK_FALSE(model->tensors()[0].is_encoded);
  std::vector<float> last(type.elements);
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(last));
  REQUIRE(model->read(0, model->tensors()[0].size_bytes - bytes.size(), bytes));
  CHECK(bits_of_values(last) == bits_of_values(decoded(*open_bytes(small), 0)));
}
