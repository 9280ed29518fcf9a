// The C interface: tensors, planes, rows, codebooks, blocks, and what of them is in memory; also from eight threads.
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstddef>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "../random.hpp"
#include "../sample_file.hpp"
#include "../temporary_folder.hpp"
#include "../tensor_file.hpp"
#include "cdna/reader.hpp"
#include "handles.hpp"

namespace {

using namespace cdna::test;

constexpr std::uint64_t kSeed = 20260301;

const Bytes& sample() {
  static const Bytes bytes = make_sample();
  return bytes;
}

// Tensors of many blocks: codes with everything that belongs to them, raw and compressed, and exact elements.
const Bytes& tensors() {
  static const Bytes bytes = [] {
    TensorFile file;
    CodebookShape shape{203, 300, 6, cdna::DType::f32, true, 64, cdna::DType::u8, cdna::DType::bf16, 50, 65536};
    file.add("codes", random_planes(shape, kSeed), {16, 1, cdna::Codec::raw});
    shape.codes_used = 5;
    file.add("compressed", random_planes(shape, kSeed + 1), {16, 2, cdna::Codec::zstd});
    Random random(kSeed + 2);
    file.add_exact("exact", cdna::DType::f32, 203, 41, bytes_of_values(random.weights(203 * 41)),
                   {10, 1, cdna::Codec::raw});
    file.add_exact("flat", cdna::DType::u8, 2, (1 << 20) + 5, random.bytes(2 * ((1 << 20) + 5)),
                   {0, 1, cdna::Codec::raw});
    return file.finish();
  }();
  return bytes;
}

struct Both {
  explicit Both(const Bytes& bytes, const cdna_open_options* options = nullptr)
      : cpp(must(cdna::Reader::open(cdna::memory_source(bytes)))), c(open_c(bytes, options)) {}
  cdna::Reader cpp;
  ReaderHandle c;
};

cdna_open_options strict() {
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  options.trust = CDNA_TRUST_STRICT;
  return options;
}

Bytes rows_in_cpp(const cdna::Tensor& tensor, std::uint64_t begin, std::uint64_t end, cdna::DType dtype) {
  Bytes out((end - begin) * tensor.row_bytes(dtype));
  const auto result = tensor.read_rows(begin, end, dtype, out);
  if (!result) throw std::runtime_error(result.error().describe());
  return out;
}

template <class T>
void check_bytes(const void* data, std::uint64_t size, std::span<const T> expected) {
  const auto bytes = std::as_bytes(expected);
  REQUIRE(size == bytes.size());
  CHECK((size == 0 || std::memcmp(data, bytes.data(), size) == 0));
}

}  // namespace

// ---- What tensors are ----

TEST_CASE("c: every tensor is found and described as in C++") {
  const Both both(sample());
  std::string last;
  for (std::uint64_t i = 0; i < cdna_tensor_count(both.c.get()); ++i) {
    const cdna::Item item = both.cpp.tensor_item(static_cast<std::uint32_t>(i));
    const cdna::Tensor tensor = both.cpp.resolve(item);
    const cdna_tensor_info info = describe_c(both.c, i);
    CHECK(info.name == item.name());
    CHECK(last < info.name);
    last = info.name;
    CHECK(find_c(both.c, info.name) == i);
    CHECK(info.encoding == tensor.encoding());
    CHECK(info.dtype == static_cast<std::uint32_t>(tensor.dtype()));
    CHECK(info.role == static_cast<std::uint32_t>(tensor.role()));
    CHECK(std::vector<std::uint64_t>(info.shape, info.shape + info.rank) ==
          std::vector<std::uint64_t>(tensor.shape().begin(), tensor.shape().end()));
    CHECK(info.rows == tensor.rows());
    CHECK(info.cols == tensor.cols());
    CHECK(info.element_count == tensor.element_count());
    CHECK(info.block_count == tensor.plane(0).block_count);
    CHECK(info.source_bytes == tensor.source_bytes());
    CHECK(info.stored_bytes == tensor.stored_bytes());
    const double bits = tensor.element_count() == 0 ? 0.0
                                                    : 8.0 * static_cast<double>(tensor.stored_bytes()) /
                                                          static_cast<double>(tensor.element_count());
    CHECK(info.bits_per_weight == bits);
    CHECK(info.plane_count == tensor.plane_count());
    CHECK(info.bits == (tensor.encoding() == "cdna.exact" ? cdna::bits_of(tensor.dtype()) : 8U));
    CHECK(info.group == 0);
    CHECK(info.supported == 1);
    CHECK(info.is_plain == 1);
    CHECK(info.reserved == 0);
    CHECK(cdna_tensor_check(both.c.get(), i, nullptr) == CDNA_OK);
    CHECK(info.max_abs_error == tensor.max_abs_error());
    CHECK(info.sum_squares == tensor.sum_squares());
    CHECK(info.sum_squared_error == tensor.sum_squared_error());
    CHECK(std::memcmp(info.source_digest, tensor.source_digest().data(), 32) == 0);
  }
  const cdna_tensor_info alias = describe_c(both.c, find_c(both.c, "lm_head.weight"));
  CHECK(std::string(alias.alias_of) == "model.embed_tokens.weight");
  CHECK(describe_c(both.c, find_c(both.c, "temperature")).rank == 0);
  CHECK(describe_c(both.c, find_c(both.c, "temperature")).alias_of == nullptr);
  CHECK(describe_c(open_c(tensors()), 0).group == 64);
}

namespace {

std::string good(const std::string& name) {
  return std::string(CDNA_SOURCE_DIR) + "/spec/vectors/good/" + name + ".cdna";
}

ReaderHandle open_file_c(const std::string& path) {
  cdna_reader* reader = nullptr;
  must_c([&](cdna_error* error) { return cdna_open(path.c_str(), nullptr, &reader, error); });
  return ReaderHandle(reader);
}

bool has_further_planes(const cdna::Tensor& tensor) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const std::uint16_t role = tensor.plane(i).role;
    if (role == CDNA_PLANE_GROUP_OFFSET || role == CDNA_PLANE_LEFT || role == CDNA_PLANE_COLUMN_SCALE) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("c: vectors of codes, and planes beyond scales and outliers, are told") {
  std::set<std::pair<std::uint32_t, int>> seen;
  for (const char* const name :
       {"row_scale", "vectors", "vectors_f32", "group_16", "group_offset", "low_rank", "column_scale", "extensions"}) {
    CAPTURE(name);
    const cdna::Reader cpp = must(cdna::Reader::open(good(std::string("codebook_") + name)));
    const ReaderHandle reader = open_file_c(good(std::string("codebook_") + name));
    for (std::uint64_t i = 0; i < cdna_tensor_count(reader.get()); ++i) {
      const cdna::Tensor tensor = cpp.resolve(cpp.tensor_item(static_cast<std::uint32_t>(i)));
      const cdna_tensor_info info = describe_c(reader, i);
      CHECK(info.is_plain == (has_further_planes(tensor) ? 0 : 1));
      for (std::uint32_t plane = 0; plane < info.plane_count; ++plane) {
        auto described = sized<cdna_plane_info>();
        must_c([&](cdna_error* error) { return cdna_plane_describe(reader.get(), i, plane, &described, error); });
        // The columns say it too.
        const std::uint64_t expected = plane == 0 && info.cols != 0 ? info.cols / described.row_entries : 1;
        CHECK(described.vector == expected);
        if (plane == 0) seen.emplace(described.vector, info.is_plain);
      }
    }
  }
  for (const std::uint32_t vector : {1U, 2U, 4U}) {
    for (const int is_plain : {0, 1}) {
      CAPTURE(vector);
      CAPTURE(is_plain);
      CHECK(seen.count({vector, is_plain}) == 1);
    }
  }
}

TEST_CASE("c: a tensor that is not supported is not plain") {
  for (const char* const name : {"unknown_encoding", "unknown_role_codebook", "unknown_vector_codes"}) {
    CAPTURE(name);
    const ReaderHandle reader = open_file_c(good(name));
    int unsupported = 0;
    for (std::uint64_t i = 0; i < cdna_tensor_count(reader.get()); ++i) {
      const cdna_tensor_info info = describe_c(reader, i);
      CHECK(info.is_plain == info.supported);
      unsupported += info.supported == 0 ? 1 : 0;
    }
    CHECK(unsupported > 0);
  }
}

TEST_CASE("c: what is described ends where the caller's struct does") {
  const ReaderHandle reader = open_c(tensors());
  auto info = sized<cdna_tensor_info>();
  info.struct_size = offsetof(cdna_tensor_info, is_plain);
  info.is_plain = 77;
  must_c([&](cdna_error* error) { return cdna_tensor_describe(reader.get(), 0, &info, error); });
  CHECK(info.rows == 203);
  CHECK(info.is_plain == 77);
  auto plane = sized<cdna_plane_info>();
  plane.struct_size = offsetof(cdna_plane_info, vector);
  plane.vector = 77;
  must_c([&](cdna_error* error) { return cdna_plane_describe(reader.get(), 0, 0, &plane, error); });
  CHECK(plane.rows == 203);
  CHECK(plane.vector == 77);
}

TEST_CASE("c: a name that is not there is not found, and named") {
  const ReaderHandle reader = open_c(sample());
  std::uint64_t tensor = 77;
  cdna_error error{};
  for (const char* const name : {"", "a", "lm_head.weigh", "lm_head.weight.", "zzz", "config.json", "\xff"}) {
    CHECK(cdna_tensor_find(reader.get(), name, &tensor, &error) == CDNA_NOT_FOUND);
    CHECK(std::string(error.tensor) == cdna::escape(name));
  }
  CHECK(tensor == 77);
  CHECK(cdna_tensor_describe(reader.get(), 13, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "tensor is 13 of 13 [bad_argument]");
}

TEST_CASE("c: planes are described as in C++, and raw ones are pointers into the file") {
  const Both both(tensors());
  for (std::uint64_t i = 0; i < cdna_tensor_count(both.c.get()); ++i) {
    const cdna::Tensor tensor = both.cpp.resolve(both.cpp.tensor_item(static_cast<std::uint32_t>(i)));
    for (std::uint32_t plane = 0; plane < tensor.plane_count(); ++plane) {
      const cdna::PlaneInfo expected = tensor.plane(plane);
      auto info = sized<cdna_plane_info>();
      must_c([&](cdna_error* error) { return cdna_plane_describe(both.c.get(), i, plane, &info, error); });
      CHECK(info.role == expected.role);
      CHECK(info.dtype == static_cast<std::uint32_t>(expected.dtype));
      CHECK(info.bits == expected.bits);
      CHECK(info.group == expected.group);
      CHECK(info.block_count == expected.block_count);
      CHECK(info.rows == expected.rows);
      CHECK(info.row_entries == expected.row_entries);
      CHECK(info.rows_per_block == expected.rows_per_block);
      CHECK(info.offset == expected.offset);
      CHECK(info.stored_bytes == expected.stored_bytes);
      CHECK(info.layout == expected.layout);
      CHECK(info.scope == expected.scope);
      CHECK(info.vector == 1);
      CHECK(info.reserved == 0);
      const auto bytes = tensor.plane_bytes(plane);
      const void* data = nullptr;
      std::uint64_t size = 0;
      const cdna_code code = cdna_plane_data(both.c.get(), i, plane, &data, &size, nullptr);
      REQUIRE((code == CDNA_OK) == bytes.has_value());
      if (!bytes) {
        CHECK(code == static_cast<cdna_code>(bytes.error().code));
        CHECK(data == nullptr);
        continue;
      }
      CHECK(data == tensors().data() + info.offset);
      CHECK(size == bytes->size());
    }
  }
  cdna_error error{};
  const void* data = nullptr;
  std::uint64_t size = 0;
  const std::uint64_t exact = find_c(both.c, "exact");
  CHECK(cdna_plane_data(both.c.get(), exact, 0, &data, &size, &error) == CDNA_OK);
  const Bytes expected = rows_in_cpp(*both.cpp.find("exact"), 0, 203, cdna::DType::f32);
  check_bytes(data, size, std::span(expected));
  CHECK(cdna_plane_data(both.c.get(), exact, 1, &data, &size, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "'exact': plane is 1 of 1 [bad_argument]");
  const cdna_open_options options = strict();
  CHECK(cdna_plane_data(open_c(tensors(), &options).get(), exact, 0, &data, &size, &error) == CDNA_BAD_ARGUMENT);
}

TEST_CASE("c: a plane has a pointer only where its rows follow each other") {
  TensorFile file;
  Random random(kSeed);
  const Bytes elements = random.bytes(50 * 3 * 4);
  file.add_exact("gaps", cdna::DType::u8, 50, 12, elements, {8, 1, cdna::Codec::zstd});  // Random: stored raw.
  file.add_exact("one", cdna::DType::u8, 50, 12, elements, {50, 1, cdna::Codec::zstd});
  const Bytes bytes = file.finish();
  const ReaderHandle reader = open_c(bytes);
  const void* data = &bytes;
  std::uint64_t size = 77;
  cdna_error error{};
  const std::uint64_t gaps = find_c(reader, "gaps");
  auto info = sized<cdna_plane_info>();
  must_c([&](cdna_error* e) { return cdna_plane_describe(reader.get(), gaps, 0, &info, e); });
  CHECK(info.layout == CDNA_LAYOUT_PACKED);
  CHECK(info.scope == CDNA_SCOPE_ROWS);
  REQUIRE(info.stored_bytes > elements.size());
  CHECK(cdna_plane_data(reader.get(), gaps, 0, &data, &size, &error) == CDNA_BAD_ARGUMENT);
  CHECK(std::string(error.message).find("has gaps between its blocks") != std::string::npos);
  CHECK(std::string(error.tensor) == "gaps");
  CHECK(error.plane == 0);
  CHECK(data == &bytes);
  CHECK(size == 77);
  must_c([&](cdna_error* e) { return cdna_plane_data(reader.get(), find_c(reader, "one"), 0, &data, &size, e); });
  check_bytes(data, size, std::span<const std::byte>(elements));
}

TEST_CASE("c: the codebook is the library's, and exact tensors have none") {
  const Both both(tensors());
  const float* entries = nullptr;
  std::uint64_t count = 0;
  must_c(
      [&](cdna_error* error) { return cdna_codebook(both.c.get(), find_c(both.c, "codes"), &entries, &count, error); });
  CHECK(count == 64);
  check_bytes(entries, 4 * count, must(both.cpp.find("codes")->codebook()));
  CHECK(cdna_codebook(both.c.get(), find_c(both.c, "exact"), &entries, &count, nullptr) == CDNA_BAD_ARGUMENT);
}

// ---- Rows ----

TEST_CASE("c: rows are the library's, for every range, stride and number of threads") {
  const cdna_open_options options = strict();
  const WorkersHandle three = workers_c(3);
  for (const bool is_strict : {false, true}) {
    const Both both(tensors(), is_strict ? &options : nullptr);
    for (const char* const name : {"codes", "compressed", "exact"}) {
      const cdna::Tensor tensor = *both.cpp.find(name);
      const std::uint64_t number = find_c(both.c, name);
      for (const auto& [c_dtype, cpp_dtype] : {std::pair(CDNA_F32, cdna::DType::f32),
                                               {CDNA_BF16, cdna::DType::bf16},
                                               {CDNA_F16, cdna::DType::f16},
                                               {CDNA_F64, cdna::DType::f64}}) {
        const auto dtype = static_cast<std::uint32_t>(c_dtype);  // Lambdas of clang 14 take no structured bindings.
        for (const auto& range : {std::pair(0U, 203U), {0, 0}, {203, 203}, {7, 8}, {15, 17}, {3, 130}}) {
          const std::uint64_t begin = range.first;
          const std::uint64_t end = range.second;
          const Bytes expected = rows_in_cpp(tensor, begin, end, cpp_dtype);
          const std::uint64_t row = tensor.row_bytes(cpp_dtype);
          for (const std::uint64_t gap : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{96}}) {
            for (cdna_workers* const workers : {static_cast<cdna_workers*>(nullptr), three.get()}) {
              const std::uint64_t stride = row + gap;
              Bytes out((end - begin) * stride + 1, std::byte{0xA5});
              must_c([&](cdna_error* error) {
                return cdna_read_rows(both.c.get(), number, begin, end, dtype, out.data(), gap == 0 ? 0 : stride,
                                      workers, error);
              });
              bool same = true;
              bool poison = out.back() == std::byte{0xA5};
              for (std::uint64_t i = 0; i < end - begin; ++i) {
                same = same && std::memcmp(out.data() + i * stride, expected.data() + i * row, row) == 0;
                for (std::uint64_t j = row; j < stride; ++j) poison = poison && out[i * stride + j] == std::byte{0xA5};
              }
              CHECK(same);
              CHECK(poison);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("c: rows without elements take nothing, whatever their stride") {
  TensorFile file;
  file.add_exact("hollow", cdna::DType::f32, 3, 0, {}, {1, 1, cdna::Codec::raw});
  const Bytes bytes = file.finish();
  const ReaderHandle reader = open_c(bytes);
  const WorkersHandle workers = workers_c(2);
  const cdna_tensor_info info = describe_c(reader, 0);
  REQUIRE(info.rows == 3);
  REQUIRE(info.cols == 0);
  Bytes out(3 * 8, std::byte{0xA5});
  for (cdna_workers* const used : {static_cast<cdna_workers*>(nullptr), workers.get()}) {
    for (const std::uint64_t stride : {0U, 1U, 8U}) {
      must_c([&](cdna_error* error) {
        return cdna_read_rows(reader.get(), 0, 0, 3, CDNA_F32, out.data(), stride, used, error);
      });
    }
    CHECK(cdna_read_rows(reader.get(), 0, 0, 3, CDNA_I32, out.data(), 8, used, nullptr) == CDNA_BAD_ARGUMENT);
  }
  CHECK(out == Bytes(3 * 8, std::byte{0xA5}));
}

TEST_CASE("c: with workers every block is read once, and pieces are shared out") {
  Random random(kSeed);
  const std::vector<float> values = random.weights(4096 * 512);  // 8 MiB: eight pieces.
  const Bytes file = file_of_exact(cdna::DType::f32, 4096, 512, bytes_of_values(values), {32, 1, cdna::Codec::raw});
  const cdna_open_options options = strict();
  const ReaderHandle reader = open_c(file, &options);
  const WorkersHandle workers = workers_c(4);
  std::vector<float> out(values.size());
  must_c([&](cdna_error* error) {
    return cdna_read_rows(reader.get(), 0, 0, 4096, CDNA_F32, out.data(), 0, workers.get(), error);
  });
  CHECK(out == values);
  auto statistics = sized<cdna_statistics>();
  REQUIRE(cdna_statistics_get(reader.get(), &statistics, nullptr) == CDNA_OK);
  CHECK(statistics.blocks_verified == 4096 / 32);
}

TEST_CASE("c: threads of the library take none of the program's signals, and leave it SIGBUS and its like") {
  struct Watching : CallbackFile {
    std::thread::id caller = std::this_thread::get_id();
    std::atomic<bool> waiting{false};  // For a read by another thread.
    sigset_t blocked{};
    std::once_flag once;

    // The caller's own reads wait for one by another thread.
    static std::int32_t watch(void* context, std::uint64_t offset, void* out, std::uint64_t size) {
      auto& self = *static_cast<Watching*>(context);
      if (self.waiting && std::this_thread::get_id() == self.caller) {
        self.waiting.wait(true);
      } else if (self.waiting) {
        std::call_once(self.once, [&self] {
          pthread_sigmask(SIG_BLOCK, nullptr, &self.blocked);
          self.waiting = false;
          self.waiting.notify_all();
        });
      }
      std::memcpy(out, self.bytes.data() + offset, size);
      return 0;
    }
  } file;
  file.bytes = file_of_exact(cdna::DType::f32, 4096, 512, Bytes(4096 * 512 * 4), {32, 1, cdna::Codec::raw});
  cdna_source source = file.source("watching");
  source.read_at = Watching::watch;
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, nullptr, &opened, error); });
  const ReaderHandle reader(opened);
  must_c([&](cdna_error* error) { return cdna_tensor_verify(opened, 0, error); });
  const WorkersHandle workers = workers_c(3);
  sigset_t own;
  pthread_sigmask(SIG_BLOCK, nullptr, &own);
  CHECK(sigismember(&own, SIGTERM) == 0);  // As before.
  Bytes out(4096 * 512 * 4);
  file.waiting = true;
  must_c([&](cdna_error* error) {
    return cdna_read_rows(opened, 0, 0, 4096, CDNA_F32, out.data(), 0, workers.get(), error);
  });
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGCHLD, SIGUSR1, SIGPIPE, SIGRTMIN})
    CHECK(sigismember(&file.blocked, signal) == 1);
  for (const int signal : {SIGBUS, SIGSEGV, SIGFPE, SIGILL}) CHECK(sigismember(&file.blocked, signal) == 0);
}

TEST_CASE("c: rows that are moved apart are decoded a block at a time, and none twice") {
  constexpr std::uint64_t kRows = 6000;  // 24 MiB in blocks of 100 rows.
  constexpr std::uint64_t kRowBytes = 4096;
  Bytes elements(kRows * kRowBytes);
  for (std::uint64_t i = 0; i < kRows; ++i) std::memcpy(&elements[i * kRowBytes + 8], &i, sizeof i);
  const Bytes file = file_of_exact(cdna::DType::f32, kRows, kRowBytes / 4, elements, {100, 1, cdna::Codec::zstd});
  const ReaderHandle reader = open_c(file);
  const std::uint64_t stride = kRowBytes + 1;
  Bytes out(kRows * stride, std::byte{0xA5});
  must_c([&](cdna_error* error) {
    return cdna_read_rows(reader.get(), 0, 150, CDNA_ALL_ROWS, CDNA_F32, out.data(), stride, nullptr, error);
  });
  bool same = true;
  for (std::uint64_t i = 150; i < kRows; ++i) {
    const std::byte* const row = &out[(i - 150) * stride];
    same = same && std::memcmp(row, &elements[i * kRowBytes], kRowBytes) == 0 && row[kRowBytes] == std::byte{0xA5};
  }
  CHECK(same);
  auto statistics = sized<cdna_statistics>();
  REQUIRE(cdna_statistics_get(reader.get(), &statistics, nullptr) == CDNA_OK);
  CHECK(statistics.blocks_decoded == 59);
}

TEST_CASE("c: CDNA_ALL_ROWS is the last row everywhere, and 0 is no row") {
  const ReaderHandle reader = open_c(tensors());
  const std::uint64_t exact = find_c(reader, "exact");
  cdna_error error{};
  Bytes all(203 * 41 * 4);
  Bytes range(all.size());
  CHECK(cdna_read_rows(reader.get(), exact, 0, 203, CDNA_F32, all.data(), 0, nullptr, &error) == CDNA_OK);
  CHECK(cdna_read_rows(reader.get(), exact, 0, CDNA_ALL_ROWS, CDNA_F32, range.data(), 0, nullptr, &error) == CDNA_OK);
  CHECK(range == all);
  CHECK(cdna_read_rows(reader.get(), exact, 0, 0, CDNA_F32, nullptr, 0, nullptr, &error) == CDNA_OK);
  CHECK(cdna_prefetch(reader.get(), exact, 200, CDNA_ALL_ROWS, &error) == CDNA_OK);
  CHECK(cdna_evict(reader.get(), exact, 200, CDNA_ALL_ROWS, &error) == CDNA_OK);
  CHECK(cdna_prefetch(reader.get(), exact, 200, 0, &error) == CDNA_BAD_ARGUMENT);
  for (const auto& expected : {std::pair(CDNA_ALL_ROWS, 21), {std::uint64_t{0}, 0}}) {
    cdna_blocks* opened = nullptr;
    must_c([&](cdna_error* e) { return cdna_blocks_open(reader.get(), exact, 0, expected.first, &opened, e); });
    const BlocksHandle handle(opened);
    cdna_block block = CDNA_BLOCK_INIT;
    int count = 0;
    while (cdna_blocks_next(opened, &block, &error) == CDNA_OK) ++count;
    CHECK(count == expected.second);
  }
}

TEST_CASE("c: wrong calls are told with the file and the name that was asked for") {
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  options.name = "weights.cdna in memory";
  const ReaderHandle reader = open_c(sample(), &options);
  auto info = sized<cdna_reader_info>();
  REQUIRE(cdna_reader_describe(reader.get(), &info, nullptr) == CDNA_OK);
  CHECK(std::string(info.name) == options.name);
  CHECK(info.name != options.name);  // Copied.
  CHECK(std::string(info.io) == "memory");
  CHECK(info.trust == CDNA_TRUST_ZERO_COPY);
  const std::uint64_t alias = find_c(reader, "lm_head.weight");
  cdna_error error{};
  float number = 0;
  const auto check = [&](cdna_code code) {
    CHECK(code == CDNA_BAD_ARGUMENT);
    CHECK(std::string(error.tensor) == "lm_head.weight");
    CHECK(std::string(error.file) == options.name);
    error = {};
  };
  const std::uint64_t beyond = describe_c(reader, alias).rows + 1;
  check(cdna_read_rows(reader.get(), alias, 0, beyond, CDNA_F32, &number, 0, nullptr, &error));
  check(cdna_read_rows(reader.get(), alias, 0, 1, 99, &number, 0, nullptr, &error));
  check(cdna_read_rows(reader.get(), alias, 0, 1, CDNA_F32, nullptr, 0, nullptr, &error));
  check(cdna_read_rows(reader.get(), alias, 0, 1, CDNA_F32, &number, 1, nullptr, &error));
  check(cdna_read_rows(reader.get(), alias, 0, 1, CDNA_BOOL, &number, 0, nullptr, &error));
  check(cdna_prefetch(reader.get(), alias, 0, beyond, &error));
  const std::uint64_t plain = find_c(reader, "temperature");
  const float* entries = nullptr;
  std::uint64_t count = 0;
  CHECK(cdna_codebook(reader.get(), plain, &entries, &count, &error) == CDNA_BAD_ARGUMENT);
  CHECK(std::string(error.tensor) == "temperature");
  CHECK(std::string(error.file) == options.name);
  cdna_reader* none = nullptr;
  CHECK(cdna_open("", nullptr, &none, &error) == CDNA_BAD_ARGUMENT);
  CHECK(std::string(error.message) == "path is empty");
}

TEST_CASE("c: of several damaged blocks the first is reported, whoever reads it") {
  Bytes damaged = tensors();
  const cdna::Reader good = must(cdna::Reader::open(cdna::memory_source(tensors())));
  const cdna::Tensor tensor = *good.find("codes");
  const std::uint64_t block_bytes = tensor.plane(0).stored_bytes / 203 * 16;
  for (const std::uint64_t block : {11U, 4U, 9U})
    damaged[tensor.plane(0).offset + block * block_bytes + 1] ^= std::byte{1};
  const WorkersHandle workers = workers_c(4);
  std::vector<float> out(203 * 300);
  for (int i = 0; i < 20; ++i) {
    const ReaderHandle reader = open_c(damaged);
    cdna_error error{};
    CHECK(cdna_read_rows(reader.get(), find_c(reader, "codes"), 0, 203, CDNA_F32, out.data(), 0, workers.get(),
                         &error) == CDNA_CORRUPT);
    CHECK(error.block == 4);
  }
}

TEST_CASE("c: what a parallel_for left out is told to the call that it left alone, and to no other") {
  Bytes damaged = tensors();
  const cdna::Reader good = must(cdna::Reader::open(cdna::memory_source(tensors())));
  damaged[good.find("flat")->plane(0).offset] ^= std::byte{1};
  const ReaderHandle reader = open_c(damaged);
  const std::uint64_t tensor = find_c(reader, "flat");
  bool lazy = true;
  const auto loop = [](void* context, std::uint64_t count, void (*body)(void*, std::uint64_t), void* body_context) {
    for (std::uint64_t i = 0; i < (*static_cast<bool*>(context) ? 1 : count); ++i) body(body_context, i);
  };
  cdna_workers* created = nullptr;
  must_c([&](cdna_error* error) { return cdna_workers_create_with(2, loop, &lazy, &created, error); });
  const WorkersHandle workers(created);
  Bytes out(2 * ((1 << 20) + 5));
  const auto read = [&](const ReaderHandle& from) {
    return cdna_read_rows(from.get(), tensor, 0, 2, CDNA_U8, out.data(), 0, workers.get(), nullptr);
  };
  REQUIRE(read(reader) == CDNA_CORRUPT);
  lazy = false;
  const ReaderHandle undamaged = open_c(tensors());
  CHECK(read(undamaged) == CDNA_OK);
  lazy = true;
  CHECK(read(undamaged) == CDNA_BAD_ARGUMENT);
  lazy = false;
  CHECK(read(undamaged) == CDNA_OK);
}

TEST_CASE("c: rows that cannot be had are refused by name and value") {
  const ReaderHandle reader = open_c(tensors());
  const std::uint64_t exact = find_c(reader, "exact");
  std::vector<float> out(203 * 41);
  cdna_error error{};
  const auto read = [&](std::uint64_t begin, std::uint64_t end, std::uint32_t dtype, std::uint64_t stride) {
    error = {};
    return cdna_read_rows(reader.get(), exact, begin, end, dtype, out.data(), stride, nullptr, &error);
  };
  CHECK(read(0, 204, CDNA_F32, 0) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "'exact': row_begin is 0 and row_end 204 of 203 rows [bad_argument]");
  CHECK(read(5, 4, CDNA_F32, 0) == CDNA_BAD_ARGUMENT);
  CHECK(read(0, 1, CDNA_DTYPE_NONE, 0) == CDNA_BAD_ARGUMENT);
  CHECK(read(0, 1, 23, 0) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "'exact': dtype is 23 [bad_argument]");
  CHECK(read(0, 1, CDNA_I32, 0) == CDNA_BAD_ARGUMENT);
  CHECK(read(0, 2, CDNA_F32, 163) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "'exact': row_stride is 163, and a row takes 164 bytes [bad_argument]");
  CHECK(read(0, 203, CDNA_F32, ~std::uint64_t{0}) == CDNA_BAD_ARGUMENT);
  CHECK(read(0, 203, CDNA_F32, std::uint64_t{1} << 60) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_read_rows(reader.get(), exact, 3, 3, CDNA_F32, nullptr, 0, nullptr, nullptr) == CDNA_OK);
}

// ---- Blocks ----

namespace {

void check_block(const cdna_block& block, const cdna::Block& expected) {
  CHECK(block.number == expected.number);
  CHECK(block.row_begin == expected.row_begin);
  CHECK(block.row_count == expected.row_count);
  CHECK(block.col_begin == expected.entry_begin);
  CHECK(block.col_count == expected.entry_count);
  CHECK(block.max_abs_error == expected.max_abs_error);
  CHECK(block.in_place == (expected.in_place ? 1 : 0));
  check_bytes(block.data, block.data_size, expected.data);
  CHECK((block.row_scales == nullptr) == expected.row_scales.empty());
  if (block.row_scales != nullptr) check_bytes(block.row_scales, 4 * block.row_count, expected.row_scales);
  CHECK((block.group_scales == nullptr) == expected.group_scales.empty());
  check_bytes(block.group_scales, block.group_scales_size, expected.group_scales);
  CHECK(block.outlier_count == expected.outlier_count);
  check_bytes(block.outlier_values, expected.outlier_values.size(), expected.outlier_values);
  check_bytes(block.outlier_positions, 4 * block.outlier_count, expected.outlier_positions);
}

}  // namespace

TEST_CASE("c: blocks are the library's, walked over and acquired") {
  const cdna_open_options options = strict();
  for (const bool is_strict : {false, true}) {
    cdna::OpenOptions cpp_options;
    if (is_strict) cpp_options.trust = cdna::Trust::strict;
    const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(tensors()), cpp_options));
    const ReaderHandle reader = open_c(tensors(), is_strict ? &options : nullptr);
    for (std::uint64_t i = 0; i < cdna_tensor_count(reader.get()); ++i) {
      const cdna::Tensor tensor = cpp.resolve(cpp.tensor_item(static_cast<std::uint32_t>(i)));
      cdna_blocks* opened = nullptr;
      must_c([&](cdna_error* error) { return cdna_blocks_open(reader.get(), i, 0, tensor.rows(), &opened, error); });
      const BlocksHandle blocks(opened);
      cdna::BlockRange range = must(tensor.blocks());
      std::uint64_t number = 0;
      for (const auto& expected : range) {
        cdna_block block = CDNA_BLOCK_INIT;
        REQUIRE(cdna_blocks_next(blocks.get(), &block, nullptr) == CDNA_OK);
        REQUIRE(expected);
        check_block(block, *expected);
        CHECK(block.owner == nullptr);
        cdna_block acquired = CDNA_BLOCK_INIT;
        REQUIRE(cdna_block_acquire(reader.get(), i, number++, &acquired, nullptr) == CDNA_OK);
        check_block(acquired, *expected);
        cdna_block_release(&block);  // A borrowed one: nothing happens.
        CHECK(block.data != nullptr);
        cdna_block_release(&acquired);
        CHECK(acquired.data == nullptr);
        CHECK(acquired.outlier_values == nullptr);
        cdna_block_release(&acquired);
      }
      CHECK(number == tensor.plane(0).block_count);
      cdna_block block = CDNA_BLOCK_INIT;
      cdna_error error{};
      for (int again = 0; again < 3; ++again) CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_END);
      CHECK(error.code == CDNA_OK);
      CHECK(cdna_block_acquire(reader.get(), i, number, &block, &error) == CDNA_BAD_ARGUMENT);
      CHECK(block.data == nullptr);
    }
  }
}

TEST_CASE("c: blocks of a row that is cut are acquired without reading those before them") {
  const cdna_open_options options = strict();
  const ReaderHandle reader = open_c(tensors(), &options);
  cdna_block block = CDNA_BLOCK_INIT;
  REQUIRE(cdna_block_acquire(reader.get(), find_c(reader, "flat"), 3, &block, nullptr) == CDNA_OK);
  CHECK(block.row_begin == 1);
  CHECK(block.col_begin == 1 << 20);
  CHECK(block.col_count == 5);
  auto statistics = sized<cdna_statistics>();
  REQUIRE(cdna_statistics_get(reader.get(), &statistics, nullptr) == CDNA_OK);
  CHECK(statistics.blocks_verified == 1);
  cdna_block_release(&block);
}

TEST_CASE("c: acquired blocks outlive the iterator, each other, and the reader's other uses") {
  const cdna_open_options options = strict();
  for (const bool is_strict : {false, true}) {
    const ReaderHandle reader = open_c(tensors(), is_strict ? &options : nullptr);
    const std::uint64_t tensor = find_c(reader, "compressed");
    const std::uint64_t count = describe_c(reader, tensor).block_count;
    std::vector<cdna_block> held(count, cdna_block CDNA_BLOCK_INIT);
    for (std::uint64_t i = 0; i < count; ++i)
      must_c([&](cdna_error* error) { return cdna_block_acquire(reader.get(), tensor, i, &held[i], error); });
    const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(tensors())));
    cdna::BlockRange range = must(cpp.find("compressed")->blocks());
    std::uint64_t number = 0;
    for (const auto& expected : range) {
      check_bytes(held[number].data, held[number].data_size, expected->data);
      ++number;
    }
    std::thread([&] {
      for (cdna_block& block : held) cdna_block_release(&block);
    }).join();
  }
}

TEST_CASE("c: a damaged block is an error in its place, and the next one can be had") {
  Bytes damaged = tensors();
  const cdna::Reader good = must(cdna::Reader::open(cdna::memory_source(tensors())));
  const std::uint64_t block_bytes = 10 * 41 * 4;
  damaged[good.find("exact")->plane(0).offset + 2 * block_bytes] ^= std::byte{1};
  const ReaderHandle reader = open_c(damaged);
  cdna_blocks* opened = nullptr;
  must_c([&](cdna_error* error) {
    return cdna_blocks_open(reader.get(), find_c(reader, "exact"), 15, 41, &opened, error);
  });
  const BlocksHandle blocks(opened);
  cdna_block block = CDNA_BLOCK_INIT;
  cdna_error error{};
  CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_OK);
  CHECK(block.number == 1);
  CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_CORRUPT);
  CHECK(error.block == 2);
  CHECK(block.number == 1);
  CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_OK);
  CHECK(block.number == 3);
  CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_OK);
  CHECK(cdna_blocks_next(blocks.get(), &block, &error) == CDNA_END);
}

// ---- Memory ----

TEST_CASE("c: rows are asked for ahead, let go and kept, within the limit of the options") {
  const TemporaryFolder folder;
  const std::string path = folder / "t.cdna";
  save_file(path, tensors());
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  options.io = CDNA_IO_MMAP;
  options.pinned_bytes_max = 64 << 10;
  cdna_reader* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_open(path.c_str(), &options, &opened, error); });
  const ReaderHandle reader(opened);
  const std::uint64_t exact = find_c(reader, "exact");
  cdna_error error{};
  CHECK(cdna_prefetch(reader.get(), exact, 0, 203, &error) == CDNA_OK);
  CHECK(cdna_prefetch(reader.get(), exact, 0, 204, &error) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_evict(reader.get(), exact, 10, 200, &error) == CDNA_OK);
  CHECK(cdna_evict(reader.get(), exact, 10, 9, &error) == CDNA_BAD_ARGUMENT);

  struct rlimit limit {};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  cdna_pin* pin = nullptr;
  if (limit.rlim_cur >= (64 << 10)) {
    must_c([&](cdna_error* out) { return cdna_pin_rows(reader.get(), exact, 0, 203, &pin, out); });
    const PinHandle held(std::exchange(pin, nullptr));
    CHECK(cdna_evict(reader.get(), exact, 0, 203, &error) == CDNA_OK);
  }
  CHECK(cdna_pin_rows(reader.get(), find_c(reader, "flat"), 0, 2, &pin, &error) == CDNA_LIMIT);
  CHECK(cdna_pin_rows(reader.get(), exact, 0, 204, &pin, &error) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_pin_rows(open_c(tensors()).get(), exact, 0, 203, &pin, &error) != CDNA_OK);
  const cdna_open_options copies = strict();
  CHECK(cdna_pin_rows(open_c(tensors(), &copies).get(), exact, 0, 1, &pin, &error) != CDNA_OK);
  CHECK(pin == nullptr);
}

// ---- Threads ----

TEST_CASE("c: eight threads use one reader at once, and all get the same") {
  const cdna_open_options options = strict();
  const Bytes& file = tensors();
  for (const bool is_strict : {false, true}) {
    const Both both(file, is_strict ? &options : nullptr);
    std::vector<Bytes> expected;
    for (std::uint64_t i = 0; i < 3; ++i) {
      const cdna::Tensor tensor = both.cpp.resolve(both.cpp.tensor_item(static_cast<std::uint32_t>(i)));
      expected.push_back(rows_in_cpp(tensor, 0, tensor.rows(), cdna::DType::f32));
    }
    std::atomic<int> wrong{0};
    const auto work = [&](std::uint64_t start) {
      for (std::uint64_t turn = 0; turn < 12; ++turn) {
        const std::uint64_t i = (start + turn) % 3;
        Bytes out(expected[i].size());
        const cdna_tensor_info info = describe_c(both.c, i);
        if (cdna_read_rows(both.c.get(), i, 0, info.rows, CDNA_F32, out.data(), 0, nullptr, nullptr) != CDNA_OK)
          ++wrong;
        if (out != expected[i]) ++wrong;
        cdna_block block = CDNA_BLOCK_INIT;
        if (cdna_block_acquire(both.c.get(), i, turn, &block, nullptr) != CDNA_OK) ++wrong;
        cdna_block_release(&block);
        std::uint64_t count = 1;
        if (cdna_metadata_count(both.c.get(), &count, nullptr) != CDNA_OK || count != 0) ++wrong;
        if (cdna_tensor_verify(both.c.get(), i, nullptr) != CDNA_OK) ++wrong;
      }
    };
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 8; ++i) threads.emplace_back(work, i);
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}
