// The C interface: every allocation of every call fails in turn, once and from then on: the result is right or
// NO_MEMORY, nothing comes out but a code, and nothing leaks.
#include "cdna/reader.hpp"
#include "failing_allocations.hpp"
#include "handles.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace cdna::test;

const Bytes& sample() {
  static const Bytes bytes = make_small_sample();
  return bytes;
}

Outcome outcome_of(cdna_code code) {
  if (code == CDNA_OK) return Outcome::right;
  return code == CDNA_NO_MEMORY ? Outcome::no_memory : Outcome::other_error;
}

// An error that says the same as the code, and nothing that is not text.
Outcome outcome_of(cdna_code code, const cdna_error& error) {
  if (code != error.code) return Outcome::wrong;
  return cdna_error_describe(&error, nullptr, 0) == 0 ? Outcome::wrong : outcome_of(code);
}

// Opens, calls and frees.
template <class Call>
void fail_with_reader(const char* name, const Call& call, const cdna_open_options* options = nullptr) {
  fail_everywhere(name, [&] {
    cdna_error error{};
    cdna_reader* opened = nullptr;
    TRY_OUTCOME(outcome_of(cdna_open_memory(sample().data(), sample().size(), options, &opened, &error), error));
    const ReaderHandle reader(opened);
    return call(opened, &error);
  });
}

}  // namespace

TEST_CASE("c: opening in every way gives a reader, or no_memory and nothing") {
  const TemporaryFolder folder;
  const std::string path = folder / "a file with a name beyond the small string buffer.cdna";
  save_file(path, sample());
  for (const std::uint32_t io : {CDNA_IO_MMAP, CDNA_IO_PREAD}) {
    cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
    options.io = io;
    fail_everywhere("open a path", [&] {
      cdna_error error{};
      cdna_reader* reader = nullptr;
      const cdna_code code = cdna_open(path.c_str(), &options, &reader, &error);
      if ((reader != nullptr) != (code == CDNA_OK)) return Outcome::wrong;
      cdna_reader_free(reader);
      return outcome_of(code, error);
    });
  }
  CallbackFile file{sample()};
  const cdna_source source = file.source("a source with a name beyond the small string buffer");
  fail_everywhere("open a source", [&] {
    cdna_error error{};
    cdna_reader* reader = nullptr;
    file.closed = 0;
    const cdna_code code = cdna_open_source(&source, nullptr, &reader, &error);
    if (code == CDNA_OK && file.closed != 0) return Outcome::wrong;
    cdna_reader_free(reader);
    return file.closed == 1 ? outcome_of(code, error) : Outcome::wrong;
  });
}

TEST_CASE("c: reading gives the right bytes, or no_memory") {
  const cdna::Reader cpp = must(cdna::Reader::open(cdna::memory_source(sample())));
  const cdna::Tensor tensor = *cpp.find("a.weight");
  Bytes expected(tensor.rows() * tensor.row_bytes(cdna::DType::f32));
  REQUIRE(tensor.read_rows(0, tensor.rows(), cdna::DType::f32, expected));
  Bytes out(3 * expected.size());
  for (const std::uint64_t gap : {0U, 8U}) {
    fail_with_reader("read rows", [&](const cdna_reader* reader, cdna_error* error) {
      std::uint64_t number = 99;
      const cdna_code found = cdna_tensor_find(reader, "a.weight", &number, error);
      TRY_OUTCOME(outcome_of(found, *error));
      const std::uint64_t row = tensor.row_bytes(cdna::DType::f32);
      const cdna_code code =
          cdna_read_rows(reader, number, 0, tensor.rows(), CDNA_F32, out.data(), row + gap, nullptr, error);
      TRY_OUTCOME(outcome_of(code, *error));
      for (std::uint64_t i = 0; i < tensor.rows(); ++i) {
        if (std::memcmp(out.data() + i * (row + gap), expected.data() + i * row, row) != 0) return Outcome::wrong;
      }
      return Outcome::right;
    });
  }
}

TEST_CASE("c: blocks, metadata, assets and descriptions are right, or no_memory") {
  cdna_open_options strict = CDNA_OPEN_OPTIONS_INIT;
  strict.trust = CDNA_TRUST_STRICT;
  fail_with_reader(
      "blocks",
      [](const cdna_reader* reader, cdna_error* error) {
        cdna_block block = CDNA_BLOCK_INIT;
        TRY_OUTCOME(outcome_of(cdna_block_acquire(reader, 5, 0, &block, error), *error));
        const bool whole = block.data_size == 160 && block.owner != nullptr;
        cdna_block_release(&block);
        cdna_blocks* opened = nullptr;
        TRY_OUTCOME(outcome_of(cdna_blocks_open(reader, 0, 0, 3, &opened, error), *error));
        const BlocksHandle blocks(opened);
        TRY_OUTCOME(outcome_of(cdna_blocks_next(opened, &block, error), *error));
        return whole && cdna_blocks_next(opened, &block, error) == CDNA_END ? Outcome::right : Outcome::wrong;
      },
      &strict);
  fail_with_reader("contents", [](const cdna_reader* reader, cdna_error* error) {
    auto value = sized<cdna_metadata_value>();
    TRY_OUTCOME(outcome_of(cdna_metadata_find(reader, "s", &value, error), *error));
    char text[64] = "";
    auto asset = sized<cdna_asset_info>();
    TRY_OUTCOME(outcome_of(cdna_asset_describe(reader, 0, &asset, error), *error));
    TRY_OUTCOME(outcome_of(cdna_asset_read(reader, 0, 0, text, asset.size, error), *error));
    auto info = sized<cdna_tensor_info>();
    TRY_OUTCOME(outcome_of(cdna_tensor_describe(reader, 0, &info, error), *error));
    const void* data = nullptr;
    std::uint64_t size = 0;
    TRY_OUTCOME(outcome_of(cdna_plane_data(reader, 1, 0, &data, &size, error), *error));
    const float* entries = nullptr;
    TRY_OUTCOME(outcome_of(cdna_codebook(reader, 0, &entries, &size, error), *error));
    return std::string_view(static_cast<const char*>(value.data)) == "x" && size == 256 ? Outcome::right
                                                                                        : Outcome::wrong;
  });
}

TEST_CASE("c: a check gives the verdict, or no_memory") {
  for (const std::uint32_t level : {CDNA_VERIFY_QUICK, CDNA_VERIFY_STANDARD, CDNA_VERIFY_DEEP}) {
    cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
    options.level = level;
    options.progress = [](void*, uint64_t, uint64_t) -> int32_t { return 0; };
    fail_with_reader("verify", [&](const cdna_reader* reader, cdna_error* error) {
      auto report = sized<cdna_verify_report>();
      const cdna_code code = cdna_verify(reader, &options, &report, error);
      if (code == CDNA_OK && report.problem_count != 0) return Outcome::wrong;
      return outcome_of(code, *error);
    });
  }
}

TEST_CASE("c: products are right, or no_memory, with workers and without") {
  const float x[20] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  const cdna_matrix from{x, CDNA_F32, 0, 2, 10, 10, 1};
  float expected[6] = {};
  float y[6] = {};
  const ReaderHandle known = open_c(sample());
  const cdna_rows of_known{known.get(), 0, 0, CDNA_ALL_ROWS, {0, 0}};
  cdna_matrix to{expected, CDNA_F32, 0, 2, 3, 3, 1};
  REQUIRE(cdna_matmul(&of_known, 1, &from, &to, nullptr, nullptr) == CDNA_OK);
  to.data = y;
  for (const bool shared : {false, true}) {
    fail_with_reader("matmul", [&](const cdna_reader* reader, cdna_error* error) {
      cdna_matmul_options options = CDNA_MATMUL_OPTIONS_INIT;
      const auto loop = [](void*, uint64_t count, void (*body)(void*, uint64_t), void* context) {
        for (uint64_t i = 0; i < count; ++i) body(context, i);
      };
      if (shared) TRY_OUTCOME(outcome_of(cdna_workers_create_with(3, loop, nullptr, &options.workers, error), *error));
      const WorkersHandle workers(options.workers);
      const cdna_rows part{reader, 0, 0, CDNA_ALL_ROWS, {0, 0}};
      auto plan = sized<cdna_matmul_plan>();
      TRY_OUTCOME(outcome_of(cdna_matmul_describe(&part, 1, 2, &options, &plan, error), *error));
      TRY_OUTCOME(outcome_of(cdna_matmul(&part, 1, &from, &to, &options, error), *error));
      return std::memcmp(y, expected, sizeof y) == 0 ? Outcome::right : Outcome::wrong;
    });
  }
}

TEST_CASE("c: texts need no memory, and escaping without any escapes more") {
  cdna_error error{};
  error.code = CDNA_IO;
  error.os_errno = EIO;
  std::strcpy(error.message, "cannot read the bytes that were asked for");
  char out[128] = "";
  const std::size_t all = cdna_error_describe(&error, out, sizeof out);
  CHECK(run(
            [&] {
              char again[128] = "";
              if (cdna_error_describe(&error, again, sizeof again) != all) return Outcome::wrong;
              return std::strcmp(again, out) == 0 ? Outcome::right : Outcome::wrong;
            },
            0, kNever) == Outcome::right);
  const char* const text = "caf\xC3\xA9 \\ \x1b[31m and more of it";
  CHECK(run(
            [&] {
              cdna_escape(text, out, sizeof out);
              return std::strcmp(out, "caf\\xc3\\xa9 \\\\ \\x1b[31m and more of it") == 0 ? Outcome::right
                                                                                          : Outcome::wrong;
            },
            0, kNever) == Outcome::right);
}
