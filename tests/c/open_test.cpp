// The C interface: opening, what readers say of themselves, errors and their texts, sources of the caller's.
#include <fcntl.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "../random.hpp"
#include "../sample_file.hpp"
#include "../temporary_folder.hpp"
#include "cdna/dtype.hpp"
#include "cdna/fsck.hpp"
#include "cdna/reader.hpp"
#include "handles.hpp"

namespace {

namespace fs = std::filesystem;
using namespace cdna::test;

const Bytes& sample() {
  static const Bytes bytes = make_sample();
  return bytes;
}

const cdna::Reader& pristine() {
  static const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(sample())));
  return reader;
}

cdna_reader_info describe(const ReaderHandle& reader) {
  auto info = sized<cdna_reader_info>();
  must_c([&](cdna_error* error) { return cdna_reader_describe(reader.get(), &info, error); });
  return info;
}

cdna_statistics statistics(const ReaderHandle& reader) {
  auto out = sized<cdna_statistics>();
  must_c([&](cdna_error* error) { return cdna_statistics_get(reader.get(), &out, error); });
  return out;
}

// Through one of the four ways to open.
ReaderHandle open_path(const std::string& path, const cdna_open_options* options = nullptr) {
  cdna_reader* reader = nullptr;
  must_c([&](cdna_error* error) { return cdna_open(path.c_str(), options, &reader, error); });
  return ReaderHandle(reader);
}

ReaderHandle open_source(const cdna_source& source, const cdna_open_options* options = nullptr) {
  cdna_reader* reader = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_source(&source, options, &reader, error); });
  return ReaderHandle(reader);
}

void check_same_file(const ReaderHandle& reader) {
  const cdna::Reader expected = pristine();
  const cdna_reader_info info = describe(reader);
  CHECK(std::memcmp(expected.root().data(), info.root, sizeof info.root) == 0);
  CHECK(info.file_bytes == sample().size());
  CHECK(info.footer_bytes == expected.footer_bytes());
  CHECK(info.alignment == 128);
  CHECK(info.tensor_count == expected.tensor_count());
  CHECK(info.tensor_count == cdna_tensor_count(reader.get()));
  CHECK(info.asset_count == 4);
  CHECK(info.asset_count == cdna_asset_count(reader.get()));
  CHECK(info.required_features == expected.required_features());
  CHECK(info.optional_features == expected.optional_features());
  CHECK(info.reserved == 0);
}

cdna_code open_with(const cdna_open_options& options, cdna_error* error) {
  cdna_reader* reader = nullptr;
  const cdna_code code = cdna_open_memory(sample().data(), sample().size(), &options, &reader, error);
  CHECK((code == CDNA_OK) == (reader != nullptr));
  cdna_reader_free(reader);
  return code;
}

Bytes load(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

}  // namespace

// ---- Opening ----

TEST_CASE("c: a path, a descriptor, memory and callbacks open the same file") {
  const TemporaryFolder folder;
  const std::string path = folder / "sample.cdna";
  save_file(path, sample());

  const ReaderHandle by_path = open_path(path);
  check_same_file(by_path);
  CHECK(describe(by_path).name == path);

  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  options.io = CDNA_IO_MMAP;
  CHECK(describe(open_path(path, &options)).trust == CDNA_TRUST_ZERO_COPY);
  CHECK(std::string(describe(open_path(path, &options)).io) == "mmap");
  options.io = CDNA_IO_PREAD;
  CHECK(describe(open_path(path, &options)).trust == CDNA_TRUST_STRICT);
  CHECK(std::string(describe(open_path(path, &options)).io) == "pread");

  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(descriptor >= 0);
  REQUIRE(::lseek(descriptor, 17, SEEK_SET) == 17);
  cdna_reader* reader = nullptr;
  must_c([&](cdna_error* error) { return cdna_open_descriptor(descriptor, nullptr, &reader, error); });
  const ReaderHandle by_descriptor(reader);
  CHECK(::lseek(descriptor, 0, SEEK_CUR) == 17);
  CHECK(::close(descriptor) == 0);
  check_same_file(by_descriptor);
  CHECK(cdna_tensor_verify(by_descriptor.get(), 0, nullptr) == CDNA_OK);

  const ReaderHandle in_memory = open_c(sample());
  check_same_file(in_memory);
  CHECK(std::string(describe(in_memory).io) == "memory");
  CHECK(describe(in_memory).trust == CDNA_TRUST_ZERO_COPY);

  CallbackFile file{sample()};
  {
    const ReaderHandle by_callbacks = open_source(file.source("bucket/key"));
    check_same_file(by_callbacks);
    CHECK(std::string(describe(by_callbacks).io) == "custom");
    CHECK(std::string(describe(by_callbacks).name) == "bucket/key");
    CHECK(describe(by_callbacks).trust == CDNA_TRUST_STRICT);
    CHECK(file.closed == 0);
  }
  CHECK(file.closed == 1);
}

TEST_CASE("c: options are kept, and refused where they say nothing") {
  cdna_error error{};
  cdna_open_options options = CDNA_OPEN_OPTIONS_INIT;
  CHECK(open_with(options, &error) == CDNA_OK);

  const cdna::Digest root = pristine().root();
  options.expected_root = reinterpret_cast<const std::uint8_t*>(root.data());
  CHECK(open_with(options, &error) == CDNA_OK);
  cdna::Digest other = root;
  other[5] ^= std::byte{1};
  options.expected_root = reinterpret_cast<const std::uint8_t*>(other.data());
  CHECK(open_with(options, &error) == CDNA_ROOT_MISMATCH);

  options = CDNA_OPEN_OPTIONS_INIT;
  options.footer_bytes_max = 64;
  CHECK(open_with(options, &error) == CDNA_LIMIT);
  options = CDNA_OPEN_OPTIONS_INIT;
  options.items_max = 3;
  CHECK(open_with(options, &error) == CDNA_LIMIT);

  options = CDNA_OPEN_OPTIONS_INIT;
  options.tensor_decoded_bytes_max = 10;
  const ReaderHandle reader = open_c(sample(), &options);
  CHECK(cdna_tensor_verify(reader.get(), 0, &error) == CDNA_LIMIT);

  options = CDNA_OPEN_OPTIONS_INIT;
  options.io = 3;
  CHECK(open_with(options, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "options->io is 3 [bad_argument]");
  options = CDNA_OPEN_OPTIONS_INIT;
  options.trust = 77;
  CHECK(open_with(options, &error) == CDNA_BAD_ARGUMENT);
  CHECK(described(error) == "options->trust is 77 [bad_argument]");
  options = CDNA_OPEN_OPTIONS_INIT;
  options.reserved = 1;
  CHECK(open_with(options, &error) == CDNA_BAD_ARGUMENT);

  options = CDNA_OPEN_OPTIONS_INIT;
  options.trust = CDNA_TRUST_STRICT;
  CHECK(describe(open_c(sample(), &options)).trust == CDNA_TRUST_STRICT);
  options.trust = CDNA_TRUST_ZERO_COPY;
  CallbackFile file{sample()};
  const cdna_source source = file.source("s");
  cdna_reader* none = nullptr;
  CHECK(cdna_open_source(&source, &options, &none, &error) == CDNA_BAD_ARGUMENT);
  CHECK(file.closed == 1);
}

TEST_CASE("c: what cannot be opened has its code, and the output is not touched") {
  const TemporaryFolder folder;
  cdna_error error{};
  auto* const marker = reinterpret_cast<cdna_reader*>(&error);
  cdna_reader* reader = marker;
  CHECK(cdna_open((folder / "missing").c_str(), nullptr, &reader, &error) == CDNA_NOT_FOUND);
  CHECK(std::string(error.file) == folder / "missing");
  CHECK(cdna_open(folder.path().c_str(), nullptr, &reader, &error) == CDNA_BAD_ARGUMENT);
  CHECK(cdna_open_descriptor(-1, nullptr, &reader, &error) == CDNA_IO);
  CHECK(error.os_errno == EBADF);
  CHECK(cdna_open_memory("nonsense", 8, nullptr, &reader, &error) == CDNA_NOT_CDNA);
  CHECK(cdna_open_memory(nullptr, 0, nullptr, &reader, &error) == CDNA_NOT_CDNA);
  CHECK(cdna_open_memory(sample().data(), sample().size() - 1, nullptr, &reader, &error) == CDNA_TRUNCATED);
  Bytes damaged = sample();
  damaged[damaged.size() - 200] ^= std::byte{4};
  CHECK(cdna_open_memory(damaged.data(), damaged.size(), nullptr, &reader, &error) == CDNA_CORRUPT);
  CHECK(reader == marker);
}

// The same as the C++ reader says of every vector: good, bad and damaged files.
TEST_CASE("c: all vectors open as they do in C++, and a deep check says the same") {
  std::size_t files = 0;
  std::size_t refused = 0;
  for (const char* folder : {"good", "bad"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(CDNA_SOURCE_DIR) / "spec/vectors" / folder)) {
      if (entry.path().extension() != ".cdna") continue;
      INFO(entry.path());
      ++files;
      const Bytes bytes = load(entry.path());
      const auto expected = cdna::Reader::open(cdna::memory_source(bytes));
      cdna_reader* opened = nullptr;
      cdna_error error{};
      const cdna_code code = cdna_open_memory(bytes.data(), bytes.size(), nullptr, &opened, &error);
      const ReaderHandle reader(opened);
      REQUIRE((code == CDNA_OK) == expected.has_value());
      if (!expected) {
        ++refused;
        CHECK(code == static_cast<cdna_code>(expected.error().code));
        CHECK(described(error) == expected.error().describe());
        continue;
      }
      cdna::FsckOptions deep;
      deep.level = cdna::FsckLevel::deep;
      const cdna::FsckReport report = cdna::fsck(cdna::memory_source(bytes), deep);
      cdna_verify_options options = CDNA_VERIFY_OPTIONS_INIT;
      options.level = CDNA_VERIFY_DEEP;
      auto found = sized<cdna_verify_report>();
      const cdna_code verified = cdna_verify(reader.get(), &options, &found, &error);
      CHECK(found.problem_count == report.problem_count);
      CHECK(found.item_count == report.item_count);
      CHECK(found.unsupported_count == report.unsupported_count);
      CHECK(found.blocks_checked == report.blocks_checked);
      REQUIRE((verified == CDNA_OK) == report.valid);
      if (!report.valid) CHECK(described(error) == report.problems[0].error.describe());
    }
  }
  CHECK(files > 150);
  CHECK(refused > 50);
}

// ---- Errors ----

TEST_CASE("c: an error has all that the library's has, and reads the same") {
  Bytes damaged = sample();
  const cdna::Reader good = pristine();
  const cdna::Tensor tensor = *good.find("layers.0.mlp.weight");
  const std::uint64_t place = tensor.plane(0).offset + 3;
  damaged[place] ^= std::byte{1};
  const ReaderHandle reader = open_c(damaged);
  cdna_error error{};
  CHECK(cdna_tensor_verify(reader.get(), find_c(reader, "layers.0.mlp.weight"), &error) == CDNA_CORRUPT);
  CHECK(error.code == CDNA_CORRUPT);
  CHECK(error.os_errno == 0);
  CHECK(error.plane == 0);
  CHECK(error.block == 0);
  CHECK(error.offset == place - 3);
  CHECK(std::string(error.rule) == "B1");
  CHECK(std::string(error.tensor) == "layers.0.mlp.weight");
  CHECK(std::string(error.file).empty());
  CHECK(std::string(error.message) == "the block does not match its digest");
  const auto expected = must(cdna::Reader::open(cdna::memory_source(damaged))).find("layers.0.mlp.weight")->verify();
  CHECK(described(error) == expected.error().describe());
  // The same without an error to write to.
  CHECK(cdna_tensor_verify(reader.get(), find_c(reader, "layers.0.mlp.weight"), nullptr) == CDNA_CORRUPT);
}

TEST_CASE("c: descriptions are cut like snprintf's") {
  cdna_error error{};
  error.code = CDNA_IO;
  error.os_errno = ENOENT;
  error.block = 12;
  error.plane = 3;
  error.offset = 4096;
  std::strcpy(error.tensor, "w");
  std::strcpy(error.file, "a.cdna");
  std::strcpy(error.message, "cannot read");
  const std::string all = "a.cdna, 'w', plane 3, block 12, at byte 4096: cannot read: No such file or directory [io]";
  CHECK(described(error) == all);
  for (std::size_t size = 0; size <= all.size() + 2; ++size) {
    std::vector<char> out(size + 1, '#');
    CHECK(cdna_error_describe(&error, out.data(), size) == all.size());
    if (size == 0) {
      CHECK(out[0] == '#');
      continue;
    }
    CHECK(std::string(out.data()) == all.substr(0, size - 1));
    CHECK(out[size] == '#');
  }
  CHECK(cdna_error_describe(&error, nullptr, 100) == all.size());
  char text[8] = "before";
  CHECK(cdna_error_describe(nullptr, text, sizeof text) == 0);
  CHECK(std::string(text).empty());
  // Arrays whose 0 is missing are not read beyond their ends.
  std::memset(error.message, 'x', sizeof error.message);
  std::memset(error.rule, 'y', sizeof error.rule);
  CHECK(cdna_error_describe(&error, nullptr, 0) == all.size() - std::strlen("cannot read") + 512 + 1 + 12);
}

TEST_CASE("c: codes and dtypes have their names") {
  for (cdna_code code = -3; code < 64; ++code) {
    const bool file = code >= 1 && code <= 7;
    const bool other = code >= 32 && code <= 37;
    const std::string expected = code == 0       ? "ok"
                                 : code == -1    ? "end"
                                 : file || other ? std::string(cdna::name_of(static_cast<cdna::Code>(code)))
                                                 : "";
    CHECK(cdna_code_name(code) == expected);
  }
  for (std::uint32_t dtype = 0; dtype < 300; ++dtype) {
    const bool known = dtype >= 1 && dtype <= cdna::kDTypeLast;
    const auto expected = known ? static_cast<cdna::DType>(dtype) : cdna::DType::none;
    CHECK(cdna_dtype_name(dtype) == std::string(cdna::name_of(expected)));
    CHECK(cdna_dtype_bits(dtype) == cdna::bits_of(expected));
    if (known) CHECK(cdna_dtype_of(cdna_dtype_name(dtype)) == dtype);
  }
  CHECK(cdna_dtype_of("bf16") == CDNA_DTYPE_NONE);
  CHECK(cdna_dtype_of("") == CDNA_DTYPE_NONE);
  CHECK(cdna_dtype_of(nullptr) == CDNA_DTYPE_NONE);
}

TEST_CASE("c: escaping is the library's, cut like snprintf's") {
  const std::uint64_t seed = 11;
  CAPTURE(seed);
  Random random(seed);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (std::uint64_t n = random.below(40); n > 0; --n) text += static_cast<char>(1 + random.below(255));
    const std::string expected = cdna::escape(text);
    char out[64] = "";
    const std::size_t size = random.below(sizeof out);
    CHECK(cdna_escape(text.c_str(), out, size) == expected.size());
    if (size != 0) CHECK(std::string(out) == expected.substr(0, size - 1));
  }
  CHECK(cdna_escape(nullptr, nullptr, 0) == 0);
}

// ---- Sources of the caller's ----

TEST_CASE("c: an errno of the source comes out with tensor and block") {
  const cdna::Reader good = pristine();
  const cdna::Tensor tensor = *good.find("layers.0.attention.weight");
  for (const auto& [outcome, expected] : {std::pair<std::int32_t, int>{ETIMEDOUT, ETIMEDOUT},
                                          {-ETIMEDOUT, ETIMEDOUT},
                                          {ENOMEM, ENOMEM},
                                          {std::numeric_limits<std::int32_t>::min(), EIO}}) {
    CallbackFile file{sample()};
    const ReaderHandle reader = open_source(file.source("https://host/\x1bmodel"));
    file.outcome = outcome;
    file.place = tensor.plane(0).offset;
    std::vector<float> out(64 * 66);
    cdna_error error{};
    CHECK(cdna_read_rows(reader.get(), find_c(reader, "layers.0.attention.weight"), 0, 64, CDNA_F32, out.data(), 0,
                         nullptr, &error) == CDNA_IO);
    CHECK(error.os_errno == expected);
    CHECK(std::string(error.tensor) == "layers.0.attention.weight");
    CHECK(error.plane == 0);
    CHECK(error.block == 0);
    CHECK(error.offset == tensor.plane(0).offset);
    CHECK(std::string(error.file) == "https://host/\\x1bmodel");
    // It is asked again: a failure is not remembered.
    file.outcome = 0;
    CHECK(cdna_read_rows(reader.get(), find_c(reader, "layers.0.attention.weight"), 0, 64, CDNA_F32, out.data(), 0,
                         nullptr, &error) == CDNA_OK);
  }
}

TEST_CASE("c: a source that lies once is found out, with tensor and block") {
  const cdna::Reader good = pristine();
  const cdna::Tensor tensor = *good.find("layers.0.mlp.weight");
  CallbackFile file{sample()};
  const ReaderHandle reader = open_source(file.source("remote"));
  file.lies = true;
  file.lies_left = 1;
  file.place = tensor.plane(0).offset + 100;
  std::vector<float> out(48 * 200);
  cdna_error error{};
  const std::uint64_t number = find_c(reader, "layers.0.mlp.weight");
  CHECK(cdna_read_rows(reader.get(), number, 0, 48, CDNA_F32, out.data(), 0, nullptr, &error) == CDNA_CORRUPT);
  CHECK(std::string(error.tensor) == "layers.0.mlp.weight");
  CHECK(std::string(error.rule) == "B1");
  CHECK(error.block == 0);
  CHECK(file.lies_left == 0);
}

TEST_CASE("c: the source is closed once, whatever becomes of it") {
  cdna_error error{};
  cdna_reader* reader = nullptr;
  CallbackFile failing{sample(), EIO, sample().size() - 1};
  cdna_source source = failing.source(nullptr);
  CHECK(cdna_open_source(&source, nullptr, &reader, &error) == CDNA_IO);
  CHECK(failing.closed == 1);

  CallbackFile refused{sample()};
  source = refused.source("");
  source.read_at = nullptr;
  CHECK(cdna_open_source(&source, nullptr, &reader, &error) == CDNA_BAD_ARGUMENT);
  CHECK(refused.closed == 1);
  source = refused.source("");
  source.reserved = 9;
  CHECK(cdna_open_source(&source, nullptr, &reader, &error) == CDNA_BAD_ARGUMENT);
  CHECK(refused.closed == 2);
  source = refused.source("");
  CHECK(cdna_open_source(&source, nullptr, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK(refused.closed == 3);
  CHECK(cdna_open_source(nullptr, nullptr, &reader, &error) == CDNA_BAD_ARGUMENT);
  source.struct_size = 0;
  CHECK(cdna_open_source(&source, nullptr, &reader, &error) == CDNA_BAD_ARGUMENT);
  CHECK(refused.closed == 3);

  source = refused.source("");
  source.close = nullptr;
  const ReaderHandle unclosed = open_source(source);
  CHECK(cdna_tensor_verify(unclosed.get(), 0, nullptr) == CDNA_OK);
}

// ---- Statistics ----

TEST_CASE("c: a thread that is cancelled in a call ends behind it") {
  struct Cancelling : CallbackFile {
    static std::int32_t read_and_cancel(void* context, std::uint64_t offset, void* out, std::uint64_t size) {
      pthread_cancel(pthread_self());
      pthread_testcancel();
      return read_at(context, offset, out, size);
    }
    static void close_and_test(void* context) {
      pthread_testcancel();
      close(context);
    }
    cdna_code opened = CDNA_END;
    bool freed = false;

    static void* run(void* context) {
      auto& self = *static_cast<Cancelling*>(context);
      cdna_source source = self.source("cancelled");
      source.read_at = read_and_cancel;
      source.close = close_and_test;
      cdna_reader* reader = nullptr;
      self.opened = cdna_open_source(&source, nullptr, &reader, nullptr);
      cdna_reader_free(reader);
      self.freed = true;
      pthread_testcancel();
      return nullptr;
    }
  } file;
  file.bytes = make_sample();
  pthread_t thread{};
  REQUIRE(pthread_create(&thread, nullptr, Cancelling::run, static_cast<void*>(&file)) == 0);
  void* ended = nullptr;
  REQUIRE(pthread_join(thread, &ended) == 0);
  CHECK(file.opened == CDNA_OK);
  CHECK(file.closed == 1);
  CHECK(file.freed);
  CHECK(ended == PTHREAD_CANCELED);
}

TEST_CASE("c: statistics are the library's, and count what was done") {
  const ReaderHandle reader = open_c(sample());
  const cdna_statistics before = statistics(reader);
  CHECK(before.blocks_verified == 0);
  CHECK(before.bytes_read != 0);
  const std::uint64_t tensor = find_c(reader, "layers.0.zstd");
  const cdna_tensor_info info = describe_c(reader, tensor);
  std::vector<double> out(info.element_count);
  for (int i = 0; i < 2; ++i)
    REQUIRE(cdna_read_rows(reader.get(), tensor, 0, info.rows, CDNA_F64, out.data(), 0, nullptr, nullptr) == CDNA_OK);
  const cdna_statistics after = statistics(reader);
  CHECK(after.blocks_verified == info.block_count);
  CHECK(after.blocks_reused == info.block_count);
  CHECK(after.blocks_decoded == 2 * info.block_count);
  CHECK(after.bytes_decoded == 2 * info.source_bytes);
  CHECK(after.bytes_hashed > before.bytes_hashed);
  CHECK(after.verify_ns > 0);
  CHECK(after.decode_ns > 0);
}
