// A caller's sink: every failure of it, and that it is closed once. Cancellation.
#include <catch2/catch.hpp>
#include <functional>
#include <string>

#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::test::Bytes;
using cdna::test::MemorySink;
using cdna::test::Spec;
using cdna::test::TemporaryFolder;
using cdna::test::writer_at;
using cdna::test::WriterHandle;

const Bytes& data() {
  static const Bytes bytes = cdna::test::bytes_of_values(cdna::test::Random(1).weights(40'000));
  return bytes;
}

// Something of everything. CDNA_OK, or the first error.
cdna_code write_all(cdna_writer* writer, cdna_error* error) {
  const Spec exact("exact", CDNA_F32, {400, 100});
  const Spec codes("codes", CDNA_F32, {400, 100}, "cb8g64");
  const Spec rows("rows", CDNA_F32, {400, 100});
  const std::function<cdna_code()> steps[] = {
      [&] { return cdna_writer_add(writer, &exact.c, data().data(), data().size(), error); },
      [&] { return cdna_writer_add(writer, &codes.c, data().data(), data().size(), error); },
      [&] { return cdna_writer_begin(writer, &rows.c, error); },
      [&] { return cdna_writer_append_rows(writer, data().data(), 150, error); },
      [&] { return cdna_writer_append_rows(writer, data().data(), 250, error); },
      [&] { return cdna_writer_end(writer, error); },
      [&] { return cdna_writer_add_alias(writer, "alias", "exact", error); },
      [&] { return cdna_writer_add_asset(writer, "asset", "text/plain", data().data(), 1000, CDNA_CODEC_ZSTD, error); },
      [&] { return cdna_writer_finish(writer, nullptr, error); },
  };
  for (const auto& step : steps) {
    if (const cdna_code code = step(); code != CDNA_OK) return code;
  }
  return CDNA_OK;
}

cdna_code write_into(MemorySink& sink, const cdna_writer_options* options, cdna_error* error) {
  const cdna_sink c = sink.c();
  cdna_writer* writer = nullptr;
  const cdna_code created = cdna_writer_create_sink(&c, options, &writer, error);
  CHECK((created == CDNA_OK) == (writer != nullptr));
  CHECK(sink.closes == (created == CDNA_OK ? 0 : 1));
  if (created != CDNA_OK) return created;
  const WriterHandle handle(writer);
  const cdna_code code = write_all(writer, error);
  CHECK(sink.closes == 0);
  return code;
}

// Answers with 1 at one of its calls.
struct Canceller {
  std::uint64_t calls = 0;
  std::uint64_t cancel_at = ~std::uint64_t{0};
  cdna_writer_options options(std::uint32_t threads) {
    cdna_writer_options out = CDNA_WRITER_OPTIONS_INIT;
    out.threads = threads;
    out.progress_context = this;
    out.progress = [](void* context, std::uint64_t, std::uint64_t) -> std::int32_t {
      auto& self = *static_cast<Canceller*>(context);
      return self.calls++ == self.cancel_at ? 1 : 0;
    };
    return out;
  }
};

}  // namespace

TEST_CASE("C sink: each write of it that fails is an error with its errno, and it is closed once") {
  for (const std::uint32_t threads : {1U, 3U}) {
    cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
    options.threads = threads;
    MemorySink whole;
    REQUIRE(write_into(whole, &options, nullptr) == CDNA_OK);
    CHECK(whole.closes == 1);
    CHECK(whole.commits == 1);
    CHECK(whole.writes > 10);
    for (std::uint64_t number = 0; number < whole.writes; ++number) {
      INFO("write " << number << " of " << whole.writes);
      MemorySink sink;
      sink.fail_write = number;
      cdna_error error{};
      CHECK(write_into(sink, &options, &error) == CDNA_IO);
      CHECK(error.os_errno == ENOSPC);
      CHECK_THAT(error.message, Catch::Contains("the sink cannot write"));
      CHECK(sink.closes == 1);
      CHECK(sink.commits == 0);
      CHECK(sink.writes == number + 1);
      REQUIRE(sink.bytes.size() <= whole.bytes.size());
      CHECK(std::equal(sink.bytes.begin(), sink.bytes.end(), whole.bytes.begin()));
    }
    MemorySink sink;
    sink.fail_commit = true;
    cdna_error error{};
    CHECK(write_into(sink, &options, &error) == CDNA_IO);
    CHECK(error.os_errno == EDQUOT);
    CHECK_THAT(error.message, Catch::Contains("the sink cannot commit"));
    CHECK(sink.closes == 1);
    CHECK(sink.commits == 1);
  }
}

TEST_CASE("C sink: without commit and close the file is the same") {
  MemorySink whole;
  REQUIRE(write_into(whole, nullptr, nullptr) == CDNA_OK);
  MemorySink bare;
  cdna_sink c = bare.c();
  c.commit = nullptr;
  c.close = nullptr;
  cdna_writer* writer = nullptr;
  REQUIRE(cdna_writer_create_sink(&c, nullptr, &writer, nullptr) == CDNA_OK);
  const WriterHandle handle(writer);
  CHECK(write_all(writer, nullptr) == CDNA_OK);
  CHECK(bare.bytes == whole.bytes);
}

TEST_CASE("C sink: it is closed also when it is refused") {
  MemorySink sink;
  cdna_error error{};
  cdna_code place = 0;
  auto* const untouched = reinterpret_cast<cdna_writer*>(&place);
  cdna_writer* writer = untouched;
  const auto refused = [&](const cdna_sink& c, const cdna_writer_options* options, cdna_code code,
                           const char* message) {
    sink.closes = 0;
    CHECK(cdna_writer_create_sink(&c, options, &writer, &error) == code);
    CHECK(error.code == code);
    CHECK_THAT(error.message, Catch::Contains(message));
    CHECK(sink.closes == 1);
    CHECK(writer == untouched);
    CHECK(sink.writes == 0);
  };
  cdna_sink c = sink.c();
  c.write = nullptr;
  refused(c, nullptr, CDNA_BAD_ARGUMENT, "sink->write is NULL");
  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.alignment = 3;
  refused(sink.c(), &options, CDNA_BAD_ARGUMENT, "alignment");
  options = CDNA_WRITER_OPTIONS_INIT;
  options.threads = 100'000;
  refused(sink.c(), &options, CDNA_LIMIT, "threads is 100000");
  options.struct_size = 0;
  refused(sink.c(), &options, CDNA_BAD_ARGUMENT, "options: struct_size is not set");
  struct Later {
    cdna_sink sink;
    std::uint64_t more;
  } later{sink.c(), 1};
  later.sink.struct_size = sizeof later;
  refused(later.sink, nullptr, CDNA_BAD_ARGUMENT, "sink has a field of a later version set");
  c = sink.c();
  sink.closes = 0;
  CHECK(cdna_writer_create_sink(&c, nullptr, nullptr, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("ret_writer is NULL"));
  CHECK(sink.closes == 1);

  // What cannot be read cannot be closed.
  sink.closes = 0;
  CHECK(cdna_writer_create_sink(nullptr, nullptr, &writer, &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("sink is NULL"));
  c.struct_size = 0;
  CHECK(cdna_writer_create_sink(&c, nullptr, &writer, &error) == CDNA_BAD_ARGUMENT);
  CHECK(sink.closes == 0);
  CHECK(writer == untouched);
}

TEST_CASE("C sink: structs of earlier and later versions") {
  MemorySink whole;
  REQUIRE(write_into(whole, nullptr, nullptr) == CDNA_OK);
  MemorySink sink;
  struct Later {
    cdna_sink sink;
    std::uint64_t more;
  } later{sink.c(), 0};
  later.sink.struct_size = sizeof later;
  cdna_writer* writer = nullptr;
  REQUIRE(cdna_writer_create_sink(&later.sink, nullptr, &writer, nullptr) == CDNA_OK);
  {
    const WriterHandle handle(writer);
    CHECK(write_all(writer, nullptr) == CDNA_OK);
  }
  CHECK(sink.bytes == whole.bytes);
  CHECK(sink.closes == 1);

  MemorySink without_close;
  cdna_sink earlier = without_close.c();
  earlier.struct_size = offsetof(cdna_sink, commit);
  REQUIRE(cdna_writer_create_sink(&earlier, nullptr, &writer, nullptr) == CDNA_OK);
  {
    const WriterHandle handle(writer);
    CHECK(write_all(writer, nullptr) == CDNA_OK);
  }
  CHECK(without_close.bytes == whole.bytes);
  CHECK(without_close.closes == 0);
  CHECK(without_close.commits == 0);
}

TEST_CASE("C writer: cancelled at any time, it leaves no file") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.cdna";
  for (const std::uint32_t threads : {1U, 3U}) {
    Canceller never;
    {
      const cdna_writer_options options = never.options(threads);
      const WriterHandle writer = writer_at(path, &options);
      REQUIRE(write_all(writer.get(), nullptr) == CDNA_OK);
    }
    std::filesystem::remove(path);
    // Which thread reads what is chance with several: the last calls may not come.
    const std::uint64_t calls = threads == 1 ? never.calls : 3;
    CHECK(calls >= 3);
    for (std::uint64_t at = 0; at < calls; ++at) {
      INFO("progress " << at << " of " << calls << ", " << threads << " threads");
      Canceller canceller;
      canceller.cancel_at = at;
      const cdna_writer_options options = canceller.options(threads);
      {
        const WriterHandle writer = writer_at(path, &options);
        cdna_error error{};
        CHECK(write_all(writer.get(), &error) == CDNA_CANCELLED);
        CHECK(error.code == CDNA_CANCELLED);
        CHECK(std::string(error.tensor) != "");
        CHECK(canceller.calls == at + 1);
        CHECK(cdna_writer_finish(writer.get(), nullptr, &error) == CDNA_BAD_ARGUMENT);
      }
      CHECK(cdna::test::files_in(folder.path()) == 0);
    }
  }
}
