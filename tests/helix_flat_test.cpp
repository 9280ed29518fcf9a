// helix-substrate's CDNA v1 and v2 files: bit for bit what its own readers returned, and an error for every lie.
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "cdna/import.hpp"
#include "legacy_files.hpp"
#include "libcdna/hash/sha256.hpp"
#include "temporary_folder.hpp"

using namespace cdna;
using namespace cdna::test;
using Bytes = std::vector<std::byte>;

namespace {

const std::string kBrotli = "v2_hxz/t300x200.brotli.br64";
const std::string kSidecar = "hxzo/t300x200_p999.hxzo";

Bytes bytes_of_text(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

template <class T>
void append(Bytes& out, T value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

template <class T>
void put(Bytes& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <class T>
T get(const Bytes& bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

Bytes zlib_stream(const Bytes& bytes) {
  uLongf size = compressBound(bytes.size());
  Bytes out(size);
  REQUIRE(compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                    bytes.size(), 9) == Z_OK);
  out.resize(size);
  return out;
}

// An HXZC file of any codebook and indices.
Bytes hxzc(std::uint32_t rows, std::uint32_t cols, const std::vector<float>& codebook, const Bytes& indices) {
  Bytes out = bytes_of_text("HXZC");
  for (const std::uint32_t value : {1U, rows, cols}) append(out, value);
  for (std::size_t i = 0; i < 256; ++i) append(out, i < codebook.size() ? codebook[i] : 0.0F);
  const Bytes stream = zlib_stream(indices);
  append(out, static_cast<std::uint32_t>(indices.size()));
  append(out, static_cast<std::uint32_t>(stream.size()));
  append(out, stream);
  return out;
}

struct Outlier {
  std::uint64_t delta = 0;
  std::uint16_t value = 0;
};

// An HXZO file.
Bytes hxzo(const std::string& tensor, const std::string& shape, const std::vector<Outlier>& outliers,
           std::size_t stated, const std::string& more_header = "", const Bytes& more_payload = {}) {
  Bytes positions;
  Bytes values;
  for (const Outlier& outlier : outliers) {
    std::uint64_t rest = outlier.delta;
    for (; rest >= 0x80; rest >>= 7) append(positions, static_cast<std::uint8_t>(rest | 0x80));
    append(positions, static_cast<std::uint8_t>(rest));
    append(values, outlier.value);
  }
  Bytes payload;
  append(payload, __builtin_bswap32(static_cast<std::uint32_t>(positions.size())));
  append(payload, positions);
  append(payload, values);
  append(payload, more_payload);
  const std::string header = R"({"schema":"hxzo_outlier_sidecar_v1","tensor_name":")" + tensor + R"(","shape":)" +
                             shape + R"(,"num_outliers":)" + std::to_string(stated) + more_header + "}";
  Bytes out = bytes_of_text("HXZO");
  for (const std::size_t value : {std::size_t{1}, header.size()}) {
    append(out, static_cast<std::uint8_t>(value >> 8));
    append(out, static_cast<std::uint8_t>(value));
  }
  append(out, bytes_of_text(header));
  append(out, zlib_stream(payload));
  return out;
}

// A folder with files, opened by one of them.
class Files {
 public:
  void save(const char* name, const Bytes& bytes) const { save_file(folder_ / name, bytes); }
  std::string path(const char* name) const { return folder_ / name; }
  const TemporaryFolder& folder() const { return folder_; }

 private:
  TemporaryFolder folder_;
};

Error error_of(const Result<std::unique_ptr<Model>>& result) {
  REQUIRE_FALSE(result.has_value());
  return result.error();
}

// The error of opening or reading a file with these bytes.
Error refused(const Bytes& bytes) {
  const Files files;
  files.save("weights.hxz", bytes);
  const auto model = open_model(files.path("weights.hxz"));
  if (!model) return model.error();
  const auto planes = (*model)->read_planes(0);
  REQUIRE_FALSE(planes.has_value());
  return planes.error();
}

bool has_note(const Model& model, const std::string& text) {
  return std::any_of(model.notes().begin(), model.notes().end(),
                     [&](const std::string& note) { return note.find(text) != std::string::npos; });
}

std::string text_at(const Model& model, const std::string& key) {
  INFO(key);
  REQUIRE(model.metadata().contains(key));
  return std::get<std::string>(model.metadata().at(key));
}

// Values, planes and shape against the original's own reader.
void check_legacy(const Model& model, const std::string& array) {
  INFO(array);
  REQUIRE(model.tensors().size() == 1);
  const ModelTensor& tensor = model.tensors().front();
  CHECK(tensor.dtype == DType::f32);
  CHECK(tensor.shape == expected_shape(array));
  CHECK(tensor.is_encoded);
  CHECK(digest_text(read_tensor(model, 0, tensor.size_bytes)) == expected_digest(array));
  CHECK(digest_text(read_tensor(model, 0, 1021)) == expected_digest(array));
  const std::vector<float> values = decoded_planes(model, 0);
  CHECK(digest_text(std::as_bytes(std::span(values))) == expected_digest(array));
  const auto planes = model.read_planes(0);
  CHECK(planes->planes.bits == 8);
  CHECK(std::is_sorted(planes->planes.codebook.begin(), planes->planes.codebook.end()));
}

}  // namespace

TEST_CASE("hxzc: files of both versions decode to what their own reader returned") {
  for (const std::string name : {"const32x16.v021", "few64x64.v021", "g96x64.v021", "g96x64.v023", "norm128.v021",
                                 "t300x200.v021", "t300x200.v023"}) {
    const auto model = opened(open_model(legacy("v1_cdna/" + name + ".cdna")));
    check_legacy(*model, "v1_cdna/" + name + ".decoded");
    CHECK(model->tensors().front().name == name);
    CHECK(text_at(*model, "cdna.source.integrity") == "none");
    CHECK(has_note(*model, "source integrity: none"));
  }
}

TEST_CASE("hxzc: an unsorted codebook keeps every value, the signs of zeros and the order of equals included") {
  std::vector<float> codebook(256);
  for (std::size_t i = 0; i < 256; ++i) codebook[i] = static_cast<float>((i * 37) % 256) - 128.0F;
  codebook[5] = -0.0F;
  codebook[6] = 0.0F;
  codebook[7] = -0.0F;
  Bytes indices;
  for (std::size_t i = 0; i < 512; ++i) append(indices, static_cast<std::uint8_t>(i * 91));
  const Files files;
  files.save("a.b.cdna", hxzc(8, 64, codebook, indices));
  const auto model = opened(open_model(files.path("a.b.cdna")));
  CHECK(model->tensors().front().name == "a.b");
  const std::vector<float> values = decoded_planes(*model, 0);
  for (std::size_t i = 0; i < 512; ++i) {
    const float wanted = codebook[std::to_integer<std::size_t>(indices[i])];
    REQUIRE(std::bit_cast<std::uint32_t>(values[i]) == std::bit_cast<std::uint32_t>(wanted));
  }
}

TEST_CASE("hxzc: an entry that is not finite is an error where it is used, and nothing where it is not") {
  std::vector<float> codebook(256, 1.0F);
  Bytes indices(16, std::byte{3});
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    codebook[200] = value;
    const Files files;
    files.save("w.cdna", hxzc(4, 4, codebook, indices));
    const auto model = opened(open_model(files.path("w.cdna")));
    CHECK(decoded_planes(*model, 0) == std::vector<float>(16, 1.0F));
    Bytes used = indices;
    used[9] = std::byte{200};
    const Error error = refused(hxzc(4, 4, codebook, used));
    CHECK(error.code == Code::malformed);
    CHECK(error.message.find("entry 200") != std::string::npos);
    CHECK(error.message.find("row 2, column 1") != std::string::npos);
    CHECK(error.offset == 16);
  }
}

TEST_CASE("hxzc: every lie about sizes is an error with its place") {
  const Bytes good = load_file(legacy("v1_cdna/g96x64.v021.cdna"));
  struct Lie {
    std::size_t at;
    std::uint32_t value;
    Code code;
  };
  const std::vector<Lie> lies{
      {4, 2, Code::malformed},      {8, 95, Code::malformed},         {12, 65, Code::malformed},
      {8, 0, Code::malformed},      {1040, 6145, Code::malformed},    {1044, 7203, Code::truncated},
      {1044, 100, Code::malformed}, {8, 0xFFFFFFFF, Code::malformed},
  };
  for (const Lie& lie : lies) {
    Bytes bytes = good;
    put(bytes, lie.at, lie.value);
    const Error error = refused(bytes);
    INFO(error.describe());
    CHECK(error.code == lie.code);
    CHECK(error.offset != kNoOffset);
    CHECK(error.file.ends_with("weights.hxz"));
  }
  Bytes trailing = good;
  trailing.push_back(std::byte{0});
  CHECK(refused(trailing).message.find("1 bytes after the indices") != std::string::npos);
  for (const std::size_t size : {std::size_t{5}, std::size_t{1047}, good.size() - 1})
    CHECK(refused(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))).code == Code::truncated);
  Bytes damaged = good;
  damaged[3000] ^= std::byte{1};
  CHECK(refused(damaged).code == Code::malformed);
}

TEST_CASE("hxzc: sizes that agree with one another but not with the stream are refused, whatever they claim") {
  Bytes huge = load_file(legacy("v1_cdna/const32x16.v021.cdna"));
  put(huge, 8, std::uint32_t{60000});
  put(huge, 12, std::uint32_t{60000});
  put(huge, 1040, std::uint32_t{3600000000});
  CHECK(refused(huge).code == Code::malformed);
  // Within what the stream could give: it gives less, and more.
  for (const std::uint32_t rows : {31U, 33U}) {
    Bytes bytes = load_file(legacy("v1_cdna/const32x16.v021.cdna"));
    put(bytes, 8, rows);
    put(bytes, 1040, rows * 16);
    CHECK(refused(bytes).code == Code::malformed);
  }
}

TEST_CASE("hxzc: the other format with this magic is refused by name") {
  Bytes other = bytes_of_text("HXZC");
  append(other, std::uint16_t{3});
  append(other, std::uint16_t{24});
  append(other, bytes_of_text("blk.0.attn_q.weight_____"));
  other.resize(5000);
  const Error error = refused(other);
  CHECK(error.code == Code::malformed);
  CHECK(error.message.find("helix_cdc") != std::string::npos);
}

TEST_CASE("hxz2: files of all three codecs decode to what their own reader returned") {
  for (const std::string name :
       {"g96x64.brotli.br16", "t300x200.brotli.br32.meta", "t300x200.brotli.br34.meta", "t300x200.brotli.br64",
        "t300x200.gguf_floor_uniform.br16", "t300x200.lz4.br256", "t300x200.zstd.br128"}) {
    const auto model = opened(open_model(legacy("v2_hxz/" + name + ".cdna2.hxz")));
    check_legacy(*model, "v2_hxz/" + name + ".decoded");
    CHECK(model->tensors().front().name.starts_with("blk.0."));
    CHECK(text_at(*model, "cdna.source.integrity") == "payload only");
    CHECK(text_at(*model, "helix:created_utc") == "2026-01-02T03:04:05Z");
    CHECK(has_note(*model, "source integrity: payload only"));
  }
}

TEST_CASE("hxz2: what the header has beyond the format becomes metadata") {
  const auto model = opened(open_model(legacy("v2_hxz/t300x200.brotli.br32.meta.cdna2.hxz")));
  CHECK(text_at(*model, "helix:note") == "truth: below both thresholds");
  CHECK(text_at(*model, "helix:codec") == "brotli");
  CHECK(std::get<JsonText>(model->metadata().at("helix:fidelity_stats")).text ==
        R"({"cosine_no_sidecar":0.9978,"sidecar_required":true})");
}

TEST_CASE("hxz2: with its sidecar a file decodes to what the original's own read gave") {
  ModelOptions options;
  options.sidecar = legacy(kSidecar);
  for (const std::string sidecar : {"hxzo/t300x200_p999.hxzo", "hxzo/t300x200_p999.head_v2_noctx.hxzo"}) {
    options.sidecar = legacy(sidecar);
    const auto model = opened(open_model(legacy(kBrotli + ".cdna2.hxz"), options));
    check_legacy(*model, kBrotli + ".decoded_with_hxzo_sidecar");
    CHECK(has_note(*model, "120 outliers"));
    CHECK(model->read_planes(0)->planes.outlier_dtype == DType::f16);
  }
  const Files beside;
  beside.save("w.cdna2.hxz", load_file(legacy(kBrotli + ".cdna2.hxz")));
  beside.save("w.hxzo", load_file(legacy(kSidecar)));
  check_legacy(*opened(open_model(beside.path("w.cdna2.hxz"))), kBrotli + ".decoded_with_hxzo_sidecar");
}

TEST_CASE("hxz2: each damaged bit of a block is found by its SHA-256 or its codec, of one block each") {
  for (const std::string name : {"g96x64.brotli.br16", "t300x200.zstd.br128", "t300x200.lz4.br256"}) {
    const Bytes good = load_file(legacy("v2_hxz/" + name + ".cdna2.hxz"));
    const std::size_t codebook = 8 + get<std::uint16_t>(good, 6);
    const std::size_t index = codebook + 1028;
    const auto blocks = get<std::uint32_t>(good, codebook + 1024);
    for (std::uint32_t i = 0; i < blocks; ++i) {
      const std::size_t entry = index + std::size_t{48} * i;
      const auto begin = get<std::uint64_t>(good, entry);
      const auto size = get<std::uint32_t>(good, entry + 8);
      Bytes in_digest = good;
      in_digest[entry + 20] ^= std::byte{4};
      const Error wrong = refused(in_digest);
      CHECK(wrong.code == Code::corrupt);
      CHECK(wrong.block == static_cast<std::int64_t>(i));
      CHECK(wrong.offset == begin);
      CHECK_FALSE(wrong.item.empty());
      Bytes in_data = good;
      in_data[begin + size / 2] ^= std::byte{16};
      const Error error = refused(in_data);
      INFO(error.describe());
      CHECK((error.code == Code::corrupt || error.code == Code::malformed));
      CHECK(error.block == static_cast<std::int64_t>(i));
    }
  }
}

TEST_CASE("hxz2: every field of the index is checked") {
  const Bytes good = load_file(legacy(kBrotli + ".cdna2.hxz"));
  const std::size_t count_at = 8 + get<std::uint16_t>(good, 6) + std::size_t{1024};
  const std::size_t second = count_at + 4 + 48;
  struct Lie {
    std::string what;
    std::size_t at;
    std::uint32_t difference;
    Code code;
  };
  const std::vector<Lie> lies{
      {"blocks", count_at, 1, Code::malformed},     {"fewer blocks", count_at, ~0U, Code::malformed},
      {"offset", second, 1, Code::malformed},       {"overlap", second, ~99U, Code::malformed},
      {"stored", second + 8, 1, Code::malformed},   {"stored, far", second + 8, 1000000, Code::truncated},
      {"decoded", second + 12, 1, Code::malformed}, {"decoded, huge", second + 12, 0xF0000000, Code::malformed},
  };
  for (const Lie& lie : lies) {
    Bytes bytes = good;
    put(bytes, lie.at, get<std::uint32_t>(good, lie.at) + lie.difference);
    const Error error = refused(bytes);
    INFO(lie.what + ": " + error.describe());
    CHECK(error.code == lie.code);
    CHECK(error.offset != kNoOffset);
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(refused(longer).code == Code::malformed);
  for (std::size_t size = 1; size < good.size(); size += 487) {
    const Error error = refused(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)));
    INFO(size << ": " << error.describe());
    CHECK((error.code == Code::truncated || error.code == Code::malformed));
  }
}

TEST_CASE("hxz2: a header with another story is refused") {
  const Bytes good = load_file(legacy(kBrotli + ".cdna2.hxz"));
  const std::string text(reinterpret_cast<const char*>(good.data()), good.size());
  struct Change {
    std::string from;
    std::string to;  // Of the same length: offsets stay.
    Code code;
  };
  const std::vector<Change> changes{
      {"[300,200]", "[200,300]", Code::malformed},
      {"[300,200]", "[300,-20]", Code::malformed},
      {"[300,200]", "[999999,9", Code::malformed},
      {"\"uint8\"", "\"int16\"", Code::unsupported},
      {"\"codebook_size\":256", "\"codebook_size\":255", Code::unsupported},
      {"\"block_rows\":64", "\"block_rows\":63", Code::malformed},
      {"\"block_rows\":64", "\"block_rows\":00", Code::malformed},
      {"\"num_blocks\":5", "\"num_blocks\":6", Code::malformed},
      {"\"brotli\"", "\"gzipxx\"", Code::unsupported},
      {"\"brotli\"", "\"zstd\"  ", Code::malformed},
      {"\"tensor_name\"", "\"tensor_nome\"", Code::malformed},
      {"\"dtype\"", "\"shape\"", Code::malformed},
      {"cdna2_hxz_v1", "cdna2_hxz_v9", Code::unsupported},
      {"HXZ2\x01", "HXZ2\x02", Code::unsupported},
  };
  for (const Change& change : changes) {
    const std::size_t at = text.find(change.from);
    INFO(change.from << " -> " << change.to);
    REQUIRE(at != std::string::npos);
    REQUIRE(change.from.size() == change.to.size());
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, change.to.data(), change.to.size());
    const Error error = refused(bytes);
    INFO(error.describe());
    CHECK(error.code == change.code);
  }
}

TEST_CASE("hxz2: a matrix of over 2^30 values and 1024 times the file's size is refused before anything is allocated") {
  const auto code_of = [](const std::string& shape) {
    const std::string header = R"({"tensor_name":"w","shape":[)" + shape + R"(],"block_rows":4294967295})";
    Bytes bytes = bytes_of_text("HXZ2");
    append(bytes, std::uint16_t{1});
    append(bytes, static_cast<std::uint16_t>(header.size()));
    append(bytes, bytes_of_text(header));
    bytes.resize(bytes.size() + 1024);
    append(bytes, std::uint32_t{1});
    bytes.resize(bytes.size() + 48);
    return refused(bytes).code;
  };
  CHECK(code_of("4294967295,4294967295") == Code::limit);
  CHECK(code_of("32769,32768") == Code::limit);
  CHECK(code_of("32768,32768") == Code::malformed);  // An entry of zeros in the index.
}

TEST_CASE("hxzo: a sidecar of another tensor or shape is an error that names both") {
  const Files files;
  files.save("w.hxz", load_file(legacy(kBrotli + ".cdna2.hxz")));
  for (const auto& [tensor, shape] : std::map<std::string, std::string>{{"blk.0.other.weight", "[300,200]"},
                                                                        {"blk.0.t300x200.weight", "[200,300]"}}) {
    files.save("w.hxzo", hxzo(tensor, shape, {{3, 0x3C00}}, 1));
    const Error error = error_of(open_model(files.path("w.hxz")));
    INFO(error.describe());
    CHECK(error.code == Code::malformed);
    CHECK(error.message.find(tensor) != std::string::npos);
    CHECK(error.message.find("blk.0.t300x200.weight") != std::string::npos);
    CHECK(error.file.ends_with("w.hxzo"));
  }
}

TEST_CASE("hxzo: a sidecar that is named is taken for a v1 file of another name, with a note, if its shape fits") {
  const Files files;
  files.save("renamed.cdna", hxzc(4, 4, {0.5F}, Bytes(16, std::byte{0})));
  files.save("w.hxzo", hxzo("blk.0.w", "[4,4]", {{3, 0x3C00}}, 1));
  files.save("other.hxzo", hxzo("blk.0.w", "[2,8]", {{3, 0x3C00}}, 1));
  ModelOptions options;
  options.sidecar = files.path("w.hxzo");
  const auto model = opened(open_model(files.path("renamed.cdna"), options));
  CHECK(decoded_planes(*model, 0)[3] == 1.0F);
  CHECK(has_note(*model, "renamed: its sidecar is of tensor \"blk.0.w\""));
  options.sidecar = files.path("other.hxzo");
  CHECK(error_of(open_model(files.path("renamed.cdna"), options)).code == Code::malformed);
}

TEST_CASE("hxzo: of a position that occurs again the last value is taken, and what is infinite stays and is noted") {
  const Files files;
  files.save("m.cdna", hxzc(4, 4, {0.5F}, Bytes(16, std::byte{0})));
  files.save("m.hxzo", hxzo("m", "[4,4]", {{1, 0x3C00}, {0, 0x4000}, {2, 0x7C00}, {12, 0x8000}}, 4));
  const auto model = opened(open_model(files.path("m.cdna")));
  std::vector<float> wanted(16, 0.5F);
  wanted[1] = 2.0F;
  wanted[3] = std::numeric_limits<float>::infinity();
  wanted[15] = -0.0F;
  const std::vector<float> values = decoded_planes(*model, 0);
  CHECK(std::memcmp(values.data(), wanted.data(), 64) == 0);
  CHECK(has_note(*model, "m: 1 of the sidecar's values are infinite or NaN"));
  CHECK(has_note(*model, "m: 1 positions occur again"));
}

TEST_CASE("hxzo: the original's own edge cases have its positions and values") {
  for (const std::string name : {"empty", "fp16_overflow", "unsorted_input"}) {
    const Bytes bytes = load_file(legacy("hxzo/" + name + ".hxzo"));
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const std::size_t at = text.find("\"tensor_name\":\"") + 15;
    const std::string tensor = text.substr(at, text.find('"', at) - at);
    const Files files;
    files.save((tensor + ".cdna").c_str(), hxzc(4, 4, {0.5F}, Bytes(16, std::byte{0})));
    files.save((tensor + ".hxzo").c_str(), bytes);
    const auto model = opened(open_model(files.path((tensor + ".cdna").c_str())));
    const auto held = model->read_planes(0);
    REQUIRE(held.has_value());
    CHECK(digest_text(std::as_bytes(held->planes.outlier_positions)) == expected_digest("hxzo/" + name + ".positions"));
    CHECK(digest_text(held->planes.outlier_values) == expected_digest("hxzo/" + name + ".values_f16"));
    CHECK(has_note(*model, "are infinite or NaN") == (name == "fp16_overflow"));
  }
}

TEST_CASE("hxzo: every lie is an error with its file and place") {
  const Files files;
  files.save("m.cdna", hxzc(4, 4, {0.5F}, Bytes(16, std::byte{0})));
  const auto refused_sidecar = [&](const Bytes& sidecar) {
    files.save("m.hxzo", sidecar);
    const Error error = error_of(open_model(files.path("m.cdna")));
    INFO(error.describe());
    CHECK(error.file.ends_with("m.hxzo"));
    CHECK(error.offset != kNoOffset);
    return error.code;
  };
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{16, 0}}, 1)) == Code::malformed);  // Position.
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{15, 0}, {1, 0}}, 2)) == Code::malformed);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{~0ULL >> 1, 0}}, 1)) == Code::malformed);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{15, 0}, {~0ULL >> 1, 0}}, 2)) == Code::malformed);  // Would wrap.
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{1, 0}}, 2)) == Code::malformed);                    // Count.
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{1, 0}, {1, 0}}, 1)) == Code::malformed);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{1, 0}}, 1ULL << 60)) == Code::malformed);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {{1, 0}}, 1, "", Bytes(2))) == Code::malformed);
  CHECK(refused_sidecar(hxzo("m", "[4294967296,4294967296]", {}, 0)) == Code::limit);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {}, 0, R"(,"value_dtype":"float32")")) == Code::unsupported);
  CHECK(refused_sidecar(hxzo("m", "[4,4]", {}, 0, R"(,"position_encoding":"raw")")) == Code::unsupported);
  Bytes version = hxzo("m", "[4,4]", {}, 0);
  version[5] = std::byte{3};
  CHECK(refused_sidecar(version) == Code::unsupported);
  Bytes trailing = hxzo("m", "[4,4]", {}, 0);
  trailing.push_back(std::byte{0});
  CHECK(refused_sidecar(trailing) == Code::malformed);
  Bytes cut = hxzo("m", "[4,4]", {{1, 0}}, 1);
  cut.resize(cut.size() - 3);
  CHECK(refused_sidecar(cut) == Code::malformed);
  cut.resize(30);
  CHECK(refused_sidecar(cut) == Code::truncated);
}

TEST_CASE("hxzo: the sidecar of what takes none is bad_argument, and a sidecar alone is none") {
  ModelOptions options;
  options.sidecar = legacy(kSidecar);
  CHECK(error_of(open_model(legacy("v2_hxz"), options)).code == Code::bad_argument);
  const Files files;
  files.save("a.npy", bytes_of_text("\x93NUMPY"));
  CHECK(error_of(open_model(files.path("a.npy"), options)).code == Code::bad_argument);
  CHECK(error_of(open_model(legacy(kSidecar))).code == Code::unsupported);
}
