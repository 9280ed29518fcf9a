// Everything that the C writer refuses: the code, what the message names, and that no file is left.
#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>

#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::test::add;
using cdna::test::Bytes;
using cdna::test::EncodedHandle;
using cdna::test::Spec;
using cdna::test::TemporaryFolder;
using cdna::test::writer_at;
using cdna::test::WriterHandle;

constexpr std::uint64_t kHuge = ~std::uint64_t{0};

const Bytes& data() {
  static const Bytes bytes = cdna::test::bytes_of_values(cdna::test::Random(1).weights(200));
  return bytes;
}

using Call = std::function<cdna_code(cdna_writer*, cdna_error*)>;

struct Refusal {
  Call call;
  cdna_code code;
  const char* message;  // Part of it.
  const char* tensor = "";
};

Call add_with(const std::function<void(cdna_tensor_spec&)>& change, std::uint64_t size = 800) {
  return [change, size](cdna_writer* writer, cdna_error* error) {
    Spec spec("w", CDNA_F32, {20, 10});
    change(spec.c);
    return cdna_writer_add(writer, &spec.c, data().data(), size, error);
  };
}

Call add_shape(const std::vector<std::uint64_t>& shape, std::uint64_t size = 800) {
  return [shape, size](cdna_writer* writer, cdna_error* error) {
    const Spec spec("w", CDNA_F32, shape);
    return cdna_writer_add(writer, &spec.c, data().data(), size, error);
  };
}

Call set_value(const std::function<void(cdna_metadata_value&)>& change) {
  return [change](cdna_writer* writer, cdna_error* error) {
    cdna_metadata_value value{};
    value.struct_size = sizeof value;
    value.key = "key";
    change(value);
    return cdna_writer_set_metadata(writer, &value, error);
  };
}

void begin(cdna_writer* writer) {
  const Spec spec("rows", CDNA_F32, {20, 10});
  REQUIRE(cdna_writer_begin(writer, &spec.c, nullptr) == CDNA_OK);
}

std::int32_t fail_to_read(void* context, std::uint64_t, void*, std::uint64_t) {
  return *static_cast<const std::int32_t*>(context);
}

// Each on a writer of its own, in a folder that is empty in the end.
void check_refused(const std::vector<Refusal>& refusals) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.cdna";
  for (std::size_t i = 0; i < refusals.size(); ++i) {
    const Refusal& refusal = refusals[i];
    INFO("refusal " << i << ": " << refusal.message);
    for (const bool wants_error : {true, false}) {
      const WriterHandle writer = writer_at(path);
      cdna_error error{};
      CHECK(refusal.call(writer.get(), wants_error ? &error : nullptr) == refusal.code);
      if (wants_error) {
        CHECK(error.code == refusal.code);
        CHECK_THAT(error.message, Catch::Contains(refusal.message));
        CHECK(std::string(error.tensor) == refusal.tensor);
      }
      // From now on it can only be freed.
      const Spec good("good", CDNA_F32, {20, 10});
      CHECK(cdna_writer_add(writer.get(), &good.c, data().data(), data().size(), &error) == CDNA_BAD_ARGUMENT);
      CHECK_THAT(error.message, Catch::Contains("it can only be freed"));
      std::uint8_t root[32] = {7};
      CHECK(cdna_writer_finish(writer.get(), root, &error) == CDNA_BAD_ARGUMENT);
      CHECK(root[0] == 7);
    }
    CHECK(cdna::test::files_in(folder.path()) == 0);
  }
}

}  // namespace

TEST_CASE("C writer: descriptions of tensors that cannot be written") {
  check_refused({
      {[](auto* writer, auto* error) { return cdna_writer_add(writer, nullptr, data().data(), 800, error); },
       CDNA_BAD_ARGUMENT, "spec is NULL"},
      {add_with([](auto& spec) { spec.struct_size = 0; }), CDNA_BAD_ARGUMENT, "struct_size is not set"},
      {add_with([](auto& spec) { spec.name = nullptr; }), CDNA_BAD_ARGUMENT, "spec->name is NULL"},
      {add_with([](auto& spec) { spec.name = ""; }), CDNA_BAD_ARGUMENT, "1 to 1024 bytes"},
      {add_with([](auto& spec) { spec.name = "\xFF"; }), CDNA_BAD_ARGUMENT, "not valid UTF-8", "\\xff"},
      {add_with([](auto& spec) { spec.name = "a\nb"; }), CDNA_BAD_ARGUMENT, "control character", "a\\x0ab"},
      {add_with([](auto& spec) { spec.dtype = 0; }), CDNA_BAD_ARGUMENT, "spec->dtype 0", "w"},
      {add_with([](auto& spec) { spec.dtype = 23; }), CDNA_BAD_ARGUMENT, "spec->dtype 23", "w"},
      {add_with([](auto& spec) { spec.dtype = 256 + CDNA_F32; }), CDNA_BAD_ARGUMENT, "spec->dtype 268", "w"},
      {add_with([](auto& spec) { spec.codec = 3; }), CDNA_BAD_ARGUMENT, "spec->codec 3", "w"},
      {add_with([](auto& spec) { spec.codec = 256; }), CDNA_BAD_ARGUMENT, "spec->codec 256", "w"},
      {add_with([](auto& spec) { spec.shape = nullptr; }), CDNA_BAD_ARGUMENT, "spec->shape is NULL", "w"},
      {add_with([](auto& spec) { spec.rank = 9; }), CDNA_BAD_ARGUMENT, "spec->rank 9", "w"},
      {add_with([](auto& spec) { spec.rank = ~0U; }), CDNA_BAD_ARGUMENT, "spec->rank 4294967295", "w"},
      {add_shape({std::uint64_t{1} << 60}), CDNA_LIMIT, "2^60", "w"},
      {add_shape({std::uint64_t{1} << 32, std::uint64_t{1} << 32}), CDNA_LIMIT, "2^60", "w"},
      {add_shape({0, kHuge}), CDNA_LIMIT, "2^60", "w"},
      {add_shape({kHuge, kHuge, kHuge, kHuge, kHuge, kHuge, kHuge, kHuge}), CDNA_LIMIT, "2^60", "w"},
      {add_shape({(std::uint64_t{1} << 60) - 1}), CDNA_BAD_ARGUMENT, "size 800", "w"},
      {add_shape({20, 10}, 799), CDNA_BAD_ARGUMENT, "size 799: shape and dtype give 800", "w"},
      {add_shape({20, 10}, 801), CDNA_BAD_ARGUMENT, "size 801", "w"},
      {add_shape({}, 0), CDNA_BAD_ARGUMENT, "size 0: shape and dtype give 4", "w"},
      {add_shape({20, 0}, 4), CDNA_BAD_ARGUMENT, "size 4: shape and dtype give 0", "w"},
      {add_with([](auto& spec) { spec.preset = "cb9"; }), CDNA_BAD_ARGUMENT, "spec->preset 'cb9'", "w"},
      {add_with([](auto& spec) { spec.preset = "exact,k=3"; }), CDNA_BAD_ARGUMENT, "spec->preset 'exact'", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_I32, {20, 10}, "cb8");
         return cdna_writer_add(writer, &spec.c, data().data(), 800, error);
       },
       CDNA_BAD_ARGUMENT, "F16, BF16, F32 and F64", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_I32, {20, 10}, "exact-z");
         return cdna_writer_add(writer, &spec.c, data().data(), 800, error);
       },
       CDNA_BAD_ARGUMENT, "F16, BF16, F32 or F64", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {0, 10}, "cb8");
         return cdna_writer_add(writer, &spec.c, nullptr, 0, error);
       },
       CDNA_BAD_ARGUMENT, "at least one element", "w"},
  });
}

TEST_CASE("C writer: data that cannot be written") {
  static const std::int32_t fails_with = EREMOTEIO;
  check_refused({
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add(writer, &spec.c, nullptr, 800, error);
       },
       CDNA_BAD_ARGUMENT, "data is NULL", "w"},
      {[](auto* writer, auto* error) {
         Bytes with_nan = data();
         const float nan = std::numeric_limits<float>::quiet_NaN();
         std::memcpy(with_nan.data() + 400, &nan, sizeof nan);
         const Spec spec("w", CDNA_F32, {20, 10}, "cb8");
         return cdna_writer_add(writer, &spec.c, with_nan.data(), 800, error);
       },
       CDNA_BAD_ARGUMENT, "finite", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F4, {5, 1});
         const unsigned char nibbles[3] = {0, 0, 0xF0};
         return cdna_writer_add(writer, &spec.c, nibbles, 3, error);
       },
       CDNA_BAD_ARGUMENT, "unused bits", "w"},
      {[](auto* writer, auto* error) {
         add(writer, {"w", CDNA_F32, {20, 10}}, data());
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add(writer, &spec.c, data().data(), 800, error);
       },
       CDNA_EXISTS, "the name is taken", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add_from(writer, &spec.c, nullptr, nullptr, error);
       },
       CDNA_BAD_ARGUMENT, "reader is NULL", "w"},
      {[](auto* writer, auto* error) { return cdna_writer_add_from(writer, nullptr, fail_to_read, nullptr, error); },
       CDNA_BAD_ARGUMENT, "spec is NULL"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add_from(writer, &spec.c, fail_to_read, const_cast<std::int32_t*>(&fails_with), error);
       },
       CDNA_IO, "the tensor's reader failed", "w"},
  });
}

TEST_CASE("C writer: the errno of a reader is the error's, with either sign") {
  const TemporaryFolder folder;
  struct Case {
    std::int32_t returned;
    std::int32_t expected;
  };
  for (const Case each : {Case{ENOENT, ENOENT}, Case{-ENOENT, ENOENT}, Case{ENOMEM, ENOMEM},
                          Case{std::numeric_limits<std::int32_t>::min(), EIO}}) {
    for (const char* const preset : {"exact", "cb8"}) {
      const WriterHandle writer = writer_at(folder / "a.cdna");
      const Spec spec("w", CDNA_F32, {20, 10}, preset);
      std::int32_t returned = each.returned;
      cdna_error error{};
      CHECK(cdna_writer_add_from(writer.get(), &spec.c, fail_to_read, &returned, &error) == CDNA_IO);
      CHECK(error.os_errno == each.expected);
      CHECK(error.block == -1);
      CHECK(error.plane == -1);
      CHECK(error.offset == CDNA_NO_OFFSET);
      CHECK(std::string(error.rule).empty());
    }
  }
}

TEST_CASE("C writer: rows that cannot be appended") {
  check_refused({
      {[](auto* writer, auto* error) { return cdna_writer_begin(writer, nullptr, error); }, CDNA_BAD_ARGUMENT,
       "spec is NULL"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {20, 10}, "cb8");
         return cdna_writer_begin(writer, &spec.c, error);
       },
       CDNA_BAD_ARGUMENT, "spec->preset 'cb8' reads the data twice", "w"},
      {[](auto* writer, auto* error) { return cdna_writer_append_rows(writer, data().data(), 1, error); },
       CDNA_BAD_ARGUMENT, "no tensor has been begun"},
      {[](auto* writer, auto* error) { return cdna_writer_end(writer, error); }, CDNA_BAD_ARGUMENT,
       "no tensor has been begun"},
      {[](auto* writer, auto* error) {
         begin(writer);
         return cdna_writer_append_rows(writer, nullptr, 1, error);
       },
       CDNA_BAD_ARGUMENT, "rows is NULL", "rows"},
      {[](auto* writer, auto* error) {
         begin(writer);
         return cdna_writer_append_rows(writer, data().data(), 21, error);
       },
       CDNA_BAD_ARGUMENT, "row_count 21: 20 rows are left", "rows"},
      {[](auto* writer, auto* error) {
         begin(writer);
         return cdna_writer_append_rows(writer, data().data(), (kHuge / 40) + 2, error);
       },
       CDNA_BAD_ARGUMENT, "20 rows are left", "rows"},
      {[](auto* writer, auto* error) {
         begin(writer);
         REQUIRE(cdna_writer_append_rows(writer, data().data(), 15, nullptr) == CDNA_OK);
         return cdna_writer_append_rows(writer, data().data(), 6, error);
       },
       CDNA_BAD_ARGUMENT, "row_count 6: 5 rows are left", "rows"},
      {[](auto* writer, auto* error) {
         begin(writer);
         REQUIRE(cdna_writer_append_rows(writer, data().data(), 19, nullptr) == CDNA_OK);
         return cdna_writer_end(writer, error);
       },
       CDNA_BAD_ARGUMENT, "fewer bytes", "rows"},
      {[](auto* writer, auto* error) {
         begin(writer);
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_begin(writer, &spec.c, error);
       },
       CDNA_BAD_ARGUMENT, "begun and not ended", "w"},
      {[](auto* writer, auto* error) {
         begin(writer);
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add(writer, &spec.c, data().data(), 800, error);
       },
       CDNA_BAD_ARGUMENT, "begun and not ended", "w"},
      {[](auto* writer, auto* error) {
         begin(writer);
         return cdna_writer_finish(writer, nullptr, error);
       },
       CDNA_BAD_ARGUMENT, "begun and not ended"},
  });
}

TEST_CASE("C writer: encoded matrices that do not fit their description") {
  cdna_encoded* encoded = nullptr;
  REQUIRE(cdna_encode(CDNA_F32, 20, 10, data().data(), "cb8", nullptr, &encoded, nullptr) == CDNA_OK);
  const EncodedHandle handle(encoded);
  const auto add_as = [encoded](std::uint32_t dtype, std::vector<std::uint64_t> shape) -> Call {
    return [encoded, dtype, shape](cdna_writer* writer, cdna_error* error) {
      const Spec spec("w", dtype, shape);
      return cdna_writer_add_encoded(writer, &spec.c, encoded, error);
    };
  };
  check_refused({
      {add_as(CDNA_F64, {20, 10}), CDNA_BAD_ARGUMENT, "spec->dtype F64: F32 was encoded", "w"},
      {add_as(CDNA_F32, {10, 20}), CDNA_BAD_ARGUMENT, "a matrix of 10 x 20: 20 x 10 was encoded", "w"},
      {add_as(CDNA_F32, {}), CDNA_BAD_ARGUMENT, "a matrix of 1 x 1", "w"},
      {[](auto* writer, auto* error) {
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add_encoded(writer, &spec.c, nullptr, error);
       },
       CDNA_BAD_ARGUMENT, "encoded is NULL", "w"},
      {[encoded](auto* writer, auto* error) { return cdna_writer_add_encoded(writer, nullptr, encoded, error); },
       CDNA_BAD_ARGUMENT, "spec is NULL"},
      {[encoded](auto* writer, auto* error) {
         add(writer, {"w", CDNA_F32, {20, 10}}, data());
         const Spec spec("w", CDNA_F32, {20, 10});
         return cdna_writer_add_encoded(writer, &spec.c, encoded, error);
       },
       CDNA_EXISTS, "the name is taken", "w"},
  });
}

TEST_CASE("C writer: aliases and assets that cannot be written") {
  const auto alias = [](const char* name, const char* tensor) -> Call {
    return [=](cdna_writer* writer, cdna_error* error) {
      add(writer, {"w", CDNA_F32, {20, 10}}, data());
      return cdna_writer_add_alias(writer, name, tensor, error);
    };
  };
  const auto asset = [](const char* name, const char* type, const void* bytes, std::uint64_t size,
                        std::uint32_t codec) -> Call {
    return [=](cdna_writer* writer, cdna_error* error) {
      return cdna_writer_add_asset(writer, name, type, bytes, size, codec, error);
    };
  };
  const void* const bytes = data().data();
  const std::string long_type(256, 'x');
  check_refused({
      {alias(nullptr, "w"), CDNA_BAD_ARGUMENT, "name is NULL"},
      {alias("v", nullptr), CDNA_BAD_ARGUMENT, "tensor is NULL"},
      {alias("v", "u"), CDNA_NOT_FOUND, "no tensor of this name", "u"},
      {alias("w", "w"), CDNA_EXISTS, "the name is taken", "w"},
      {alias("", "w"), CDNA_BAD_ARGUMENT, "1 to 1024 bytes"},
      {asset(nullptr, "", bytes, 4, 0), CDNA_BAD_ARGUMENT, "name is NULL"},
      {asset("a", nullptr, bytes, 4, 0), CDNA_BAD_ARGUMENT, "media_type is NULL"},
      {asset("a", "", nullptr, 4, 0), CDNA_BAD_ARGUMENT, "data is NULL"},
      {asset("a", "", bytes, 4, 3), CDNA_BAD_ARGUMENT, "codec 3"},
      {asset("a", "", bytes, kHuge, 0), CDNA_LIMIT, "2^60", "a"},
      {asset("a", "\xC3\xA9", bytes, 4, 0), CDNA_BAD_ARGUMENT, "not printable ASCII", "a"},
      {asset("a", long_type.c_str(), bytes, 4, 0), CDNA_BAD_ARGUMENT, "over 255 bytes", "a"},
      {asset("metadata", "", bytes, 4, 0), CDNA_BAD_ARGUMENT, "metadata", "metadata"},
      {[bytes](auto* writer, auto* error) {
         REQUIRE(cdna_writer_add_asset(writer, "a", "", bytes, 4, 0, nullptr) == CDNA_OK);
         return cdna_writer_add_asset(writer, "a", "", bytes, 4, 0, error);
       },
       CDNA_EXISTS, "the name is taken", "a"},
  });
}

TEST_CASE("C writer: metadata that cannot be written") {
  check_refused({
      {[](auto* writer, auto* error) { return cdna_writer_set_metadata(writer, nullptr, error); }, CDNA_BAD_ARGUMENT,
       "value is NULL"},
      {set_value([](auto& value) { value.struct_size = 0; }), CDNA_BAD_ARGUMENT, "struct_size is not set"},
      {set_value([](auto& value) { value.key = nullptr; }), CDNA_BAD_ARGUMENT, "value->key is NULL"},
      {set_value([](auto& value) { value.key = ""; }), CDNA_BAD_ARGUMENT, "the key is empty"},
      {set_value([](auto& value) { value.key = "\xC3"; }), CDNA_BAD_ARGUMENT, "not UTF-8"},
      {set_value([](auto& value) { value.kind = 8; }), CDNA_BAD_ARGUMENT, "value->kind 8"},
      {set_value([](auto& value) { value.kind = ~0U; }), CDNA_BAD_ARGUMENT, "value->kind 4294967295"},
      {set_value([](auto& value) {
         value.kind = CDNA_BOOLEAN;
         value.integer = 2;
       }),
       CDNA_BAD_ARGUMENT, "value->integer 2"},
      {set_value([](auto& value) {
         value.kind = CDNA_BYTES;
         value.size = 1;
       }),
       CDNA_BAD_ARGUMENT, "value->data is NULL"},
      {set_value([](auto& value) {
         value.kind = CDNA_STRING;
         value.data = "\xED\xA0\x80";  // A surrogate.
         value.size = 3;
       }),
       CDNA_BAD_ARGUMENT, "not UTF-8"},
      {set_value([](auto& value) {
         value.kind = CDNA_JSON;
         value.data = "\x80";
         value.size = 1;
       }),
       CDNA_BAD_ARGUMENT, "not UTF-8"},
      {set_value([](auto& value) {
         value.kind = CDNA_STRING;
         value.data = "";
         value.size = kHuge;
       }),
       CDNA_NO_MEMORY, "out of memory"},
      {set_value([](auto& value) {
         value.kind = CDNA_BYTES;
         value.data = "";
         value.size = kHuge;
       }),
       CDNA_NO_MEMORY, "out of memory"},
  });
}

TEST_CASE("C writer: metadata over 64 MiB is refused in the end, and no file is left") {
  const TemporaryFolder folder;
  const Bytes much((std::size_t{64} << 20) + 1);
  const WriterHandle writer = writer_at(folder / "a.cdna");
  cdna_metadata_value value{};
  value.struct_size = sizeof value;
  value.key = "key";
  value.kind = CDNA_BYTES;
  value.data = much.data();
  value.size = much.size();
  REQUIRE(cdna_writer_set_metadata(writer.get(), &value, nullptr) == CDNA_OK);
  cdna_error error{};
  CHECK(cdna_writer_finish(writer.get(), nullptr, &error) == CDNA_LIMIT);
  CHECK(std::string(error.rule) == "M1");
  CHECK(cdna::test::files_in(folder.path()) == 0);
}

TEST_CASE("C writer: without a writer, and behind the end") {
  const Spec spec("w", CDNA_F32, {20, 10});
  cdna_metadata_value value{};
  value.struct_size = sizeof value;
  value.key = "key";
  cdna_encoded* encoded = nullptr;
  REQUIRE(cdna_encode(CDNA_F32, 20, 10, data().data(), "cb8", nullptr, &encoded, nullptr) == CDNA_OK);
  const EncodedHandle handle(encoded);
  const std::vector<Call> calls = {
      [&](auto* writer, auto* error) { return cdna_writer_add(writer, &spec.c, data().data(), 800, error); },
      [&](auto* writer, auto* error) { return cdna_writer_add_from(writer, &spec.c, fail_to_read, nullptr, error); },
      [&](auto* writer, auto* error) { return cdna_writer_add_encoded(writer, &spec.c, encoded, error); },
      [&](auto* writer, auto* error) { return cdna_writer_begin(writer, &spec.c, error); },
      [&](auto* writer, auto* error) { return cdna_writer_append_rows(writer, data().data(), 1, error); },
      [&](auto* writer, auto* error) { return cdna_writer_end(writer, error); },
      [&](auto* writer, auto* error) { return cdna_writer_add_alias(writer, "v", "w", error); },
      [&](auto* writer, auto* error) { return cdna_writer_add_asset(writer, "a", "", "a", 1, 0, error); },
      [&](auto* writer, auto* error) { return cdna_writer_set_metadata(writer, &value, error); },
      [&](auto* writer, auto* error) { return cdna_writer_finish(writer, nullptr, error); },
  };
  const TemporaryFolder folder;
  const WriterHandle finished = writer_at(folder / "a.cdna");
  REQUIRE(cdna_writer_finish(finished.get(), nullptr, nullptr) == CDNA_OK);
  const Bytes file = cdna::test::file_content(folder / "a.cdna");
  for (const Call& call : calls) {
    cdna_error error{};
    CHECK(call(nullptr, &error) == CDNA_BAD_ARGUMENT);
    CHECK_THAT(error.message, Catch::Contains("writer is NULL"));
    CHECK(call(finished.get(), &error) == CDNA_BAD_ARGUMENT);
    CHECK_THAT(error.message, Catch::Contains("the file is finished"));
  }
  CHECK(cdna::test::file_content(folder / "a.cdna") == file);
  cdna_writer_free(nullptr);
}

TEST_CASE("C writer: files that cannot be created") {
  const TemporaryFolder folder;
  const auto create = [](const char* path, const cdna_writer_options* options, const char* message, cdna_code code) {
    auto* const untouched = reinterpret_cast<cdna_writer*>(&code);
    cdna_writer* writer = untouched;
    cdna_error error{};
    CHECK(cdna_writer_create(path, options, &writer, &error) == code);
    CHECK(error.code == code);
    CHECK_THAT(error.message, Catch::Contains(message));
    CHECK(writer == untouched);
    CHECK(cdna_writer_create(path, options, &writer, nullptr) == code);
    return std::pair(error.os_errno, std::string(error.file));
  };
  const std::string path = folder / "a.cdna";
  create(nullptr, nullptr, "path is NULL", CDNA_BAD_ARGUMENT);
  create("", nullptr, "is not a file name", CDNA_BAD_ARGUMENT);
  const std::string missing = folder / "no folder/a.cdna";
  CHECK(create(missing.c_str(), nullptr, "directory", CDNA_IO) == std::pair(ENOENT, missing));
  create(folder.path().c_str(), nullptr, "exists", CDNA_EXISTS);
  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.force = 1;
  create(folder.path().c_str(), &options, "not a regular file", CDNA_BAD_ARGUMENT);
  for (const std::uint32_t alignment : {1U, 32U, 100U, 4095U, 131072U, ~0U}) {
    options.alignment = alignment;
    create(path.c_str(), &options, "alignment", CDNA_BAD_ARGUMENT);
  }
  options = CDNA_WRITER_OPTIONS_INIT;
  options.threads = 1025;
  create(path.c_str(), &options, "threads is 1025", CDNA_LIMIT);
  options = CDNA_WRITER_OPTIONS_INIT;
  options.struct_size = 0;
  create(path.c_str(), &options, "options: struct_size is not set", CDNA_BAD_ARGUMENT);
  struct Later {
    cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
    std::uint64_t more = 1;
  } later;
  later.options.struct_size = sizeof later;
  create(path.c_str(), &later.options, "options has a field of a later version set", CDNA_BAD_ARGUMENT);
  cdna_error error{};
  CHECK(cdna_writer_create(path.c_str(), nullptr, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("ret_writer is NULL"));
  CHECK(cdna::test::files_in(folder.path()) == 0);
}
