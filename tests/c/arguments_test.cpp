// The C interface: NULL for everything, and structs of other versions.
#include <catch2/catch.hpp>
#include <functional>
#include <string>

#include "../sample_file.hpp"
#include "handles.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace cdna::test;

const Bytes& sample() {
  static const Bytes bytes = make_small_sample();
  return bytes;
}

struct NullCase {
  const char* argument;
  std::function<cdna_code(cdna_error*)> call;
};

void no_parallel_for(void*, uint64_t, void (*)(void*, uint64_t), void*) {}
std::int32_t no_read(void*, uint64_t, void*, uint64_t) { return 0; }

std::vector<NullCase> opening_cases(const char* path) {
  static cdna_reader* out = nullptr;
  static cdna_workers* workers = nullptr;
  static cdna_source source = CDNA_SOURCE_INIT;
  static cdna_source unreadable = CDNA_SOURCE_INIT;
  source.read_at = no_read;
  return {
      {"path", [](cdna_error* e) { return cdna_open(nullptr, nullptr, &out, e); }},
      {"ret_reader", [path](cdna_error* e) { return cdna_open(path, nullptr, nullptr, e); }},
      {"ret_reader", [](cdna_error* e) { return cdna_open_descriptor(0, nullptr, nullptr, e); }},
      {"data", [](cdna_error* e) { return cdna_open_memory(nullptr, 1, nullptr, &out, e); }},
      {"ret_reader", [](cdna_error* e) { return cdna_open_memory("x", 1, nullptr, nullptr, e); }},
      {"source", [](cdna_error* e) { return cdna_open_source(nullptr, nullptr, &out, e); }},
      {"source->read_at", [](cdna_error* e) { return cdna_open_source(&unreadable, nullptr, &out, e); }},
      {"ret_reader", [](cdna_error* e) { return cdna_open_source(&source, nullptr, nullptr, e); }},
      {"ret_workers", [](cdna_error* e) { return cdna_workers_create(1, nullptr, e); }},
      {"parallel_for", [](cdna_error* e) { return cdna_workers_create_with(1, nullptr, nullptr, &workers, e); }},
      {"ret_workers", [](cdna_error* e) { return cdna_workers_create_with(1, no_parallel_for, nullptr, nullptr, e); }},
  };
}

// Every function that takes a reader, without one.
std::vector<NullCase> reader_cases() {
  static auto reader_info = sized<cdna_reader_info>();
  static auto statistics = sized<cdna_statistics>();
  static auto info = sized<cdna_tensor_info>();
  static auto plane = sized<cdna_plane_info>();
  static auto value = sized<cdna_metadata_value>();
  static auto asset = sized<cdna_asset_info>();
  static auto block = sized<cdna_block>();
  static std::uint64_t number = 0;
  static const void* data = nullptr;
  static const float* entries = nullptr;
  static float out[64];
  static cdna_blocks* blocks = nullptr;
  static cdna_pin* pin = nullptr;
  return {
      {"reader", [](cdna_error* e) { return cdna_reader_describe(nullptr, &reader_info, e); }},
      {"reader", [](cdna_error* e) { return cdna_statistics_get(nullptr, &statistics, e); }},
      {"reader", [](cdna_error* e) { return cdna_tensor_find(nullptr, "w", &number, e); }},
      {"reader", [](cdna_error* e) { return cdna_tensor_describe(nullptr, 0, &info, e); }},
      {"reader", [](cdna_error* e) { return cdna_tensor_check(nullptr, 0, e); }},
      {"reader", [](cdna_error* e) { return cdna_plane_describe(nullptr, 0, 0, &plane, e); }},
      {"reader", [](cdna_error* e) { return cdna_plane_data(nullptr, 0, 0, &data, &number, e); }},
      {"reader", [](cdna_error* e) { return cdna_codebook(nullptr, 0, &entries, &number, e); }},
      {"reader", [](cdna_error* e) { return cdna_read_rows(nullptr, 0, 0, 1, CDNA_F32, out, 0, nullptr, e); }},
      {"reader", [](cdna_error* e) { return cdna_block_acquire(nullptr, 0, 0, &block, e); }},
      {"reader", [](cdna_error* e) { return cdna_blocks_open(nullptr, 0, 0, 1, &blocks, e); }},
      {"blocks", [](cdna_error* e) { return cdna_blocks_next(nullptr, &block, e); }},
      {"reader", [](cdna_error* e) { return cdna_prefetch(nullptr, 0, 0, 1, e); }},
      {"reader", [](cdna_error* e) { return cdna_evict(nullptr, 0, 0, 1, e); }},
      {"reader", [](cdna_error* e) { return cdna_pin_rows(nullptr, 0, 0, 1, &pin, e); }},
      {"reader", [](cdna_error* e) { return cdna_verify(nullptr, nullptr, nullptr, e); }},
      {"reader", [](cdna_error* e) { return cdna_tensor_verify(nullptr, 0, e); }},
      {"reader", [](cdna_error* e) { return cdna_metadata_count(nullptr, &number, e); }},
      {"reader", [](cdna_error* e) { return cdna_metadata_at(nullptr, 0, &value, e); }},
      {"reader", [](cdna_error* e) { return cdna_metadata_find(nullptr, "k", &value, e); }},
      {"reader", [](cdna_error* e) { return cdna_asset_find(nullptr, "t", &number, e); }},
      {"reader", [](cdna_error* e) { return cdna_asset_describe(nullptr, 0, &asset, e); }},
      {"reader", [](cdna_error* e) { return cdna_asset_read(nullptr, 0, 0, out, 1, e); }},
  };
}

// Every other pointer that is asked for.
std::vector<NullCase> output_cases(const cdna_reader* r, cdna_blocks* blocks) {
  static std::uint64_t number = 0;
  static const void* data = nullptr;
  static const float* entries = nullptr;
  static auto value = sized<cdna_metadata_value>();
  return {
      {"ret_info", [r](cdna_error* e) { return cdna_reader_describe(r, nullptr, e); }},
      {"ret_statistics", [r](cdna_error* e) { return cdna_statistics_get(r, nullptr, e); }},
      {"name", [r](cdna_error* e) { return cdna_tensor_find(r, nullptr, &number, e); }},
      {"ret_tensor", [r](cdna_error* e) { return cdna_tensor_find(r, "zstd", nullptr, e); }},
      {"ret_info", [r](cdna_error* e) { return cdna_tensor_describe(r, 0, nullptr, e); }},
      {"ret_info", [r](cdna_error* e) { return cdna_plane_describe(r, 0, 0, nullptr, e); }},
      {"ret_data", [r](cdna_error* e) { return cdna_plane_data(r, 1, 0, nullptr, &number, e); }},
      {"ret_size", [r](cdna_error* e) { return cdna_plane_data(r, 1, 0, &data, nullptr, e); }},
      {"ret_entries", [r](cdna_error* e) { return cdna_codebook(r, 0, nullptr, &number, e); }},
      {"ret_count", [r](cdna_error* e) { return cdna_codebook(r, 0, &entries, nullptr, e); }},
      {"out", [r](cdna_error* e) { return cdna_read_rows(r, 0, 0, 1, CDNA_F32, nullptr, 0, nullptr, e); }},
      {"ret_block", [r](cdna_error* e) { return cdna_block_acquire(r, 0, 0, nullptr, e); }},
      {"ret_blocks", [r](cdna_error* e) { return cdna_blocks_open(r, 0, 0, 1, nullptr, e); }},
      {"ret_block", [blocks](cdna_error* e) { return cdna_blocks_next(blocks, nullptr, e); }},
      {"ret_pin", [r](cdna_error* e) { return cdna_pin_rows(r, 0, 0, 1, nullptr, e); }},
      {"ret_count", [r](cdna_error* e) { return cdna_metadata_count(r, nullptr, e); }},
      {"ret_value", [r](cdna_error* e) { return cdna_metadata_at(r, 0, nullptr, e); }},
      {"key", [r](cdna_error* e) { return cdna_metadata_find(r, nullptr, &value, e); }},
      {"ret_value", [r](cdna_error* e) { return cdna_metadata_find(r, "s", nullptr, e); }},
      {"name", [r](cdna_error* e) { return cdna_asset_find(r, nullptr, &number, e); }},
      {"ret_asset", [r](cdna_error* e) { return cdna_asset_find(r, "t", nullptr, e); }},
      {"ret_info", [r](cdna_error* e) { return cdna_asset_describe(r, 0, nullptr, e); }},
      {"out", [r](cdna_error* e) { return cdna_asset_read(r, 0, 0, nullptr, 1, e); }},
  };
}

std::vector<NullCase> product_cases(const cdna_reader* r) {
  static float numbers[64] = {};
  static const cdna_matrix x{numbers, CDNA_F32, 0, 1, 10, 10, 1};
  static const cdna_matrix y{numbers + 32, CDNA_F32, 0, 1, 3, 3, 1};
  static const cdna_rows nothing{nullptr, 0, 0, 0, {0, 0}};
  static cdna_rows part{};
  static auto plan = sized<cdna_matmul_plan>();
  part.reader = r;
  return {
      {"parts", [](cdna_error* e) { return cdna_matmul(nullptr, 1, &x, &y, nullptr, e); }},
      {"parts[0]: reader", [](cdna_error* e) { return cdna_matmul(&nothing, 1, &x, &y, nullptr, e); }},
      {"x", [](cdna_error* e) { return cdna_matmul(&part, 1, nullptr, &y, nullptr, e); }},
      {"y", [](cdna_error* e) { return cdna_matmul(&part, 1, &x, nullptr, nullptr, e); }},
      {"parts", [](cdna_error* e) { return cdna_matmul_describe(nullptr, 1, 1, nullptr, &plan, e); }},
      {"ret_plan", [](cdna_error* e) { return cdna_matmul_describe(&part, 1, 1, nullptr, nullptr, e); }},
  };
}

void check_all(const std::vector<NullCase>& cases) {
  for (const NullCase& each : cases) {
    cdna_error error{};
    CHECK(each.call(&error) == CDNA_BAD_ARGUMENT);
    CHECK(std::string(error.message) == std::string(each.argument) + " is NULL");
    CHECK(each.call(nullptr) == CDNA_BAD_ARGUMENT);
  }
}

// A struct in more memory than it takes, all bytes of which are known.
template <class Struct>
struct Padded {
  alignas(16) unsigned char bytes[sizeof(Struct) + 64];
  Padded(std::uint32_t size, int fill) {
    std::memset(bytes, fill, sizeof bytes);
    std::memcpy(bytes, &size, sizeof size);
  }
  Struct* get() { return reinterpret_cast<Struct*>(bytes); }
  bool is_filled_from(std::size_t begin, int fill) const {
    for (std::size_t i = begin; i < sizeof bytes; ++i) {
      if (bytes[i] != fill) return false;
    }
    return true;
  }
};

// What a call writes with each struct_size: never more than that, and always the beginning of what it writes with all.
template <class Struct, class Call>
void check_output(const Call& call, std::size_t smallest = sizeof(std::uint32_t)) {
  Padded<Struct> all(sizeof(Struct), 0);
  REQUIRE(call(all.get()) == CDNA_OK);
  for (std::uint32_t size = 0; size <= sizeof(Struct) + 64; size += 4) {
    CAPTURE(size, sizeof(Struct));
    Padded<Struct> out(size, 0xA5);
    const cdna_code code = call(out.get());
    if (size < smallest) {
      CHECK(code == CDNA_BAD_ARGUMENT);
      CHECK(out.is_filled_from(4, 0xA5));
      continue;
    }
    CHECK(code == CDNA_OK);
    const std::size_t written = std::min<std::size_t>(size, sizeof(Struct));
    CHECK(std::memcmp(out.bytes + 4, all.bytes + 4, written - 4) == 0);
    CHECK(out.is_filled_from(written, 0xA5));
    std::uint32_t kept = 0;
    std::memcpy(&kept, out.bytes, sizeof kept);
    CHECK(kept == size);
  }
}

// Options of all zeros mean the defaults, of any version; what this version does not know must be 0.
template <class Struct, class Call>
void check_options(const Call& call) {
  for (std::uint32_t size = 0; size <= sizeof(Struct) + 64; size += 4) {
    CAPTURE(size, sizeof(Struct));
    Padded<Struct> options(size, 0);
    const bool is_size = size != 0 && size % 8 == 0;  // As every version's.
    CHECK(call(options.get()) == (is_size ? CDNA_OK : CDNA_BAD_ARGUMENT));
    // Beyond what struct_size says nothing is read.
    if (!is_size) continue;
    std::memset(options.bytes + size, 0xA5, sizeof options.bytes - size);
    CHECK(call(options.get()) == CDNA_OK);
    if (size <= sizeof(Struct)) continue;
    options.bytes[size - 1] = 1;
    CHECK(call(options.get()) == CDNA_BAD_ARGUMENT);
  }
}

}  // namespace

TEST_CASE("c: NULL is an error that names the argument, wherever something is asked for") {
  const ReaderHandle reader = open_c(sample());
  cdna_blocks* opened = nullptr;
  must_c([&](cdna_error* error) { return cdna_blocks_open(reader.get(), 0, 0, 3, &opened, error); });
  const BlocksHandle blocks(opened);
  check_all(opening_cases("/dev/null"));
  check_all(reader_cases());
  check_all(output_cases(reader.get(), blocks.get()));
  check_all(product_cases(reader.get()));
}

TEST_CASE("c: NULL is nothing, where there is nothing to do") {
  cdna_reader_free(nullptr);
  cdna_workers_free(nullptr);
  cdna_blocks_free(nullptr);
  cdna_block_release(nullptr);
  cdna_pin_free(nullptr);
  CHECK(cdna_tensor_count(nullptr) == 0);
  CHECK(cdna_asset_count(nullptr) == 0);
  CHECK(cdna_workers_concurrency(nullptr) == 0);
}

TEST_CASE("c: numbers beyond the last are errors") {
  const ReaderHandle reader = open_c(sample());
  const cdna_reader* const r = reader.get();
  auto info = sized<cdna_tensor_info>();
  auto plane = sized<cdna_plane_info>();
  auto value = sized<cdna_metadata_value>();
  auto asset = sized<cdna_asset_info>();
  cdna_block block = CDNA_BLOCK_INIT;
  const void* data = nullptr;
  const float* entries = nullptr;
  std::uint64_t size = 0;
  float out[64];
  cdna_blocks* blocks = nullptr;
  cdna_pin* pin = nullptr;
  for (const std::uint64_t number : {cdna_tensor_count(r), std::uint64_t{1} << 32, ~std::uint64_t{0}}) {
    CHECK(cdna_tensor_describe(r, number, &info, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_tensor_check(r, number, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_plane_describe(r, number, 0, &plane, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_plane_data(r, number, 0, &data, &size, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_codebook(r, number, &entries, &size, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_read_rows(r, number, 0, 1, CDNA_F32, out, 0, nullptr, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_block_acquire(r, number, 0, &block, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_block_acquire(r, 0, number, &block, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_blocks_open(r, number, 0, 1, &blocks, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_blocks_open(r, 0, 0, number == CDNA_ALL_ROWS ? number - 1 : number, &blocks, nullptr) ==
          CDNA_BAD_ARGUMENT);
    CHECK(cdna_prefetch(r, number, 0, 1, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_evict(r, number, 0, 1, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_pin_rows(r, number, 0, 1, &pin, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_tensor_verify(r, number, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_metadata_at(r, number, &value, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_asset_describe(r, number, &asset, nullptr) == CDNA_BAD_ARGUMENT);
    CHECK(cdna_asset_read(r, number, 0, out, 1, nullptr) == CDNA_BAD_ARGUMENT);
  }
  CHECK(cdna_plane_describe(r, 0, ~0U, &plane, nullptr) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_plane_data(r, 0, ~0U, &data, &size, nullptr) == CDNA_BAD_ARGUMENT);
  cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
  options.level = 3;
  cdna_error error{};
  CHECK(cdna_verify(r, &options, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "options->level is 3 [bad_argument]");
  options.level = 0;
  options.threads = 1025;
  CHECK(cdna_verify(r, &options, nullptr, nullptr) == CDNA_LIMIT);
}

// So that they can get a meaning: in every struct that callers fill and that has such a field.
TEST_CASE("c: reserved fields are 0, or a bad argument") {
  const ReaderHandle reader = open_c(sample());
  const auto message_of = [](const auto& call) {
    cdna_error error{};
    CHECK(call(&error) == CDNA_BAD_ARGUMENT);
    return described(error);
  };
  CHECK(message_of([](cdna_error* error) {
          cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
          options.reserved = 1;
          cdna_reader* none = nullptr;
          return cdna_open_memory(sample().data(), sample().size(), &options, &none, error);
        }) == "options->reserved is 1 [bad_argument]");
  CHECK(message_of([](cdna_error* error) {
          CallbackFile file{sample()};
          cdna_source source = file.source("");
          source.reserved = 2;
          cdna_reader* none = nullptr;
          const cdna_code code = cdna_open_source(&source, nullptr, &none, error);
          CHECK(file.closed == 1);
          return code;
        }) == "source->reserved is 2 [bad_argument]");
  CHECK(message_of([&](cdna_error* error) {
          cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
          options.reserved = 3;
          return cdna_verify(reader.get(), &options, nullptr, error);
        }) == "options->reserved is 3 [bad_argument]");
  CHECK(message_of([](cdna_error* error) {
          int closed = 0;
          cdna_sink sink = CDNA_SINK_INIT;
          sink.context = &closed;
          sink.write = [](void*, const void*, std::uint64_t) -> std::int32_t { return 0; };
          sink.close = [](void* context) { ++*static_cast<int*>(context); };
          sink.reserved = 4;
          cdna_writer* none = nullptr;
          const cdna_code code = cdna_writer_create_sink(&sink, nullptr, &none, error);
          CHECK(closed == 1);
          return code;
        }) == "sink->reserved is 4 [bad_argument]");
  const float values[20] = {};
  float y[3] = {};
  for (const int which : {0, 1, 2}) {
    INFO("matrix " << which);
    cdna_matrix matrices[] = {
        {values, CDNA_F32, 0, 1, 10, 10, 1}, {y, CDNA_F32, 0, 1, 3, 3, 1}, {values, CDNA_F32, 0, 1, 3, 3, 1}};
    matrices[which].reserved = 6;
    cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
    options.bias = &matrices[2];
    const cdna_rows part{reader.get(), 0, 0, CDNA_ALL_ROWS, {0, 0}};
    const char* const names[] = {"x", "y", "options->bias"};
    CHECK(message_of([&](cdna_error* error) {
            return cdna_matmul(&part, 1, &matrices[0], &matrices[1], &options, error);
          }) == std::string(names[which]) + "->reserved is 6 [bad_argument]");
  }
}

TEST_CASE("c: outputs of other versions get as much as they have room for") {
  const ReaderHandle reader = open_c(sample());
  const cdna_reader* const r = reader.get();
  check_output<cdna_reader_info>([r](auto* out) { return cdna_reader_describe(r, out, nullptr); });
  check_output<cdna_statistics>([r](auto* out) { return cdna_statistics_get(r, out, nullptr); });
  check_output<cdna_tensor_info>([r](auto* out) { return cdna_tensor_describe(r, 0, out, nullptr); });
  check_output<cdna_plane_info>([r](auto* out) { return cdna_plane_describe(r, 0, 0, out, nullptr); });
  check_output<cdna_metadata_value>([r](auto* out) { return cdna_metadata_at(r, 0, out, nullptr); });
  check_output<cdna_asset_info>([r](auto* out) { return cdna_asset_describe(r, 0, out, nullptr); });
  check_output<cdna_verify_report>([r](auto* out) { return cdna_verify(r, nullptr, out, nullptr); });
  cdna_rows part{r, 0, 0, CDNA_ALL_ROWS, {0, 0}};
  check_output<cdna_matmul_plan>(
      [&part](auto* out) { return cdna_matmul_describe(&part, 1, 4, nullptr, out, nullptr); });
  check_output<cdna_block>([r](auto* out) {
    cdna_blocks* blocks = nullptr;
    must_c([&](cdna_error* error) { return cdna_blocks_open(r, 1, 0, 1, &blocks, error); });
    const cdna_code code = cdna_blocks_next(blocks, out, nullptr);
    cdna_blocks_free(blocks);
    return code;
  });
}

TEST_CASE("c: an acquired block needs room for its owner") {
  const ReaderHandle reader = open_c(sample());
  for (std::uint32_t size = 0; size <= sizeof(cdna_block) + 64; size += 4) {
    Padded<cdna_block> block(size, 0);
    const cdna_code code = cdna_block_acquire(reader.get(), 1, 0, block.get(), nullptr);
    CHECK(code == (size < sizeof(cdna_block) ? CDNA_BAD_ARGUMENT : CDNA_OK));
    CHECK(block.is_filled_from(code == CDNA_OK ? sizeof(cdna_block) : 4, 0));
    if (code == CDNA_OK) cdna_block_release(block.get());
  }
}

TEST_CASE("c: options of other versions are taken as far as they are known") {
  check_options<cdna_open_options>([](const cdna_open_options* options) {
    cdna_reader* reader = nullptr;
    const cdna_code code = cdna_open_memory(sample().data(), sample().size(), options, &reader, nullptr);
    cdna_reader_free(reader);
    return code;
  });
  const ReaderHandle reader = open_c(sample());
  check_options<cdna_verify_options>(
      [&reader](const cdna_verify_options* options) { return cdna_verify(reader.get(), options, nullptr, nullptr); });
  std::vector<float> numbers(64);
  const cdna_matrix x{numbers.data(), CDNA_F32, 0, 1, 10, 10, 1};
  const cdna_matrix y{numbers.data() + 32, CDNA_F32, 0, 1, 3, 3, 1};
  const cdna_rows part{reader.get(), 0, 0, CDNA_ALL_ROWS, {0, 0}};
  check_options<cdna_matmul_options>(
      [&](const cdna_matmul_options* options) { return cdna_matmul(&part, 1, &x, &y, options, nullptr); });
}

TEST_CASE("c: a source of a later version is closed, too, when it is refused") {
  CallbackFile file{sample()};
  Padded<cdna_source> later(sizeof(cdna_source) + 8, 0);
  const cdna_source source = file.source("s");
  std::memcpy(later.bytes + 4, reinterpret_cast<const unsigned char*>(&source) + 4, sizeof source - 4);
  cdna_reader* reader = nullptr;
  CHECK(cdna_open_source(later.get(), nullptr, &reader, nullptr) == CDNA_OK);
  cdna_reader_free(std::exchange(reader, nullptr));
  CHECK(file.closed == 1);
  later.bytes[sizeof source + 1] = 1;
  CHECK(cdna_open_source(later.get(), nullptr, &reader, nullptr) == CDNA_BAD_ARGUMENT);
  CHECK(file.closed == 2);
  CHECK(reader == nullptr);
}
