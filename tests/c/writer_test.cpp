// Files written through C, byte for byte against the C++ writer, and read back in C++.
#include "cdna/writer.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "cdna/policy.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::Codec;
using cdna::DType;
using cdna::Preset;
using cdna::test::add;
using cdna::test::Bytes;
using cdna::test::EncodedHandle;
using cdna::test::MemorySink;
using cdna::test::must;
using cdna::test::must_be_ok;
using cdna::test::reader_of;
using cdna::test::Spec;
using cdna::test::TemporaryFolder;
using cdna::test::writer_at;
using cdna::test::writer_into;
using cdna::test::WriterHandle;

using WriteC = std::function<void(cdna_writer*)>;
using WriteCpp = std::function<void(cdna::Writer&)>;

Bytes file_of(const WriteC& write, const cdna_writer_options* options = nullptr) {
  MemorySink sink;
  {
    const WriterHandle writer = writer_into(sink, options);
    write(writer.get());
    cdna_error error{};
    std::uint8_t root[32] = {};
    must_be_ok(cdna_writer_finish(writer.get(), root, &error), error);
    CHECK(sink.commits == 1);
    CHECK(sink.closes == 0);
    const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(sink.bytes)));
    CHECK(std::memcmp(root, reader.root().data(), sizeof root) == 0);
  }
  CHECK(sink.closes == 1);
  return sink.bytes;
}

cdna::TensorSpec cpp_spec(const Spec& spec, Codec codec = Codec::raw, cdna::Filter filter = cdna::Filter::none) {
  const auto dtype = static_cast<DType>(spec.c.dtype);
  return {spec.c.name, dtype, spec.shape, cdna::role_of(spec.c.name, dtype, spec.shape), codec, filter};
}

void set(cdna_writer* writer, const cdna_metadata_value& value) {
  cdna_error error{};
  must_be_ok(cdna_writer_set_metadata(writer, &value, &error), error);
}

cdna_metadata_value value_of(const char* key, std::uint32_t kind) {
  cdna_metadata_value value{};
  value.struct_size = sizeof value;
  value.key = key;
  value.kind = kind;
  return value;
}

cdna_metadata_value text_of(const char* key, std::uint32_t kind, const std::string& text) {
  cdna_metadata_value value = value_of(key, kind);
  value.data = text.data();
  value.size = text.size();
  return value;
}

// Read back in C++.
cdna::Reader reader_over(const Bytes& file) { return must(cdna::Reader::open(cdna::memory_source(file))); }

Bytes rows_of(const cdna::Reader& reader, const char* name) {
  const auto tensor = reader.find(name);
  REQUIRE(tensor.has_value());
  Bytes out(tensor->rows() * tensor->row_bytes(tensor->dtype()));
  REQUIRE(tensor->read_rows(0, tensor->rows(), tensor->dtype(), out).has_value());
  return out;
}

}  // namespace

TEST_CASE("C writer: exact tensors are the C++ writer's, for every codec, dtype and shape") {
  cdna::test::Random random(1);
  struct Case {
    std::uint32_t dtype;
    std::vector<std::uint64_t> shape;
    std::uint64_t bytes;
  };
  const Case cases[] = {{CDNA_F32, {}, 4},          {CDNA_U8, {7}, 7},
                        {CDNA_I64, {3, 0, 5}, 0},   {CDNA_BF16, {300, 1000}, 600'000},
                        {CDNA_F4, {5, 8}, 20},      {CDNA_F4, {3, 5}, 8},
                        {CDNA_F6_E2M3, {4, 4}, 12}, {CDNA_F8_E4M3, {2, 3, 4, 5, 1, 1, 2, 2}, 480}};
  for (const Case& each : cases) {
    INFO("dtype " << each.dtype << ", " << each.bytes << " bytes");
    Bytes data = random.bytes(each.bytes);
    for (std::size_t i = 0; i < data.size(); i += 2) data[i] = std::byte{0};
    if (!data.empty()) data.back() = std::byte{0};  // Bits behind the last element.
    for (const std::uint32_t codec : {CDNA_CODEC_RAW, CDNA_CODEC_ZSTD, CDNA_CODEC_BROTLI}) {
      Spec spec("a", each.dtype, each.shape);
      spec.c.codec = codec;
      const Bytes expected = cdna::test::write_file({}, [&](cdna::Writer& writer) {
        must(writer.add_exact(cpp_spec(spec, static_cast<Codec>(codec)), reader_of(data)));
      });
      CHECK(file_of([&](cdna_writer* writer) { add(writer, spec, data); }) == expected);
      CHECK(rows_of(reader_over(expected), "a") == data);
    }
  }
}

TEST_CASE("C writer: a callback that calls into its writer is told so, and does no harm") {
  struct Nested {
    cdna_writer* writer = nullptr;
    cdna_code code = CDNA_OK;
    cdna_error error{};
  } nested;
  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.progress_context = &nested;
  options.progress = [](void* context, std::uint64_t, std::uint64_t) -> std::int32_t {
    auto& self = *static_cast<Nested*>(context);
    self.code = cdna_writer_finish(self.writer, nullptr, &self.error);
    return 0;
  };
  MemorySink sink;
  const WriterHandle writer = writer_into(sink, &options);
  nested.writer = writer.get();
  add(writer.get(), Spec("w", CDNA_U8, {600}), Bytes(600));
  CHECK(nested.code == CDNA_BAD_ARGUMENT);
  CHECK_THAT(nested.error.message, Catch::Contains("another call with it is under way"));
  CHECK(cdna_writer_finish(writer.get(), nullptr, nullptr) == CDNA_OK);
}

TEST_CASE("C writer: no thread outlives a call, so that a child process can free a writer") {
  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.threads = 4;
  MemorySink sink;
  WriterHandle writer = writer_into(sink, &options);
  const auto threads = [] { return cdna::test::files_in("/proc/self/task"); };
  CHECK(threads() == 1);
  const Bytes data(8 << 20, std::byte{1});
  add(writer.get(), Spec("exact", CDNA_F32, {2048, 1024}), data);
  CHECK(threads() == 1);
  add(writer.get(), Spec("codes", CDNA_F32, {2048, 1024}, "cb8"), data);
  CHECK(threads() == 1);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    cdna_error error{};
    const Spec more("child", CDNA_F32, {2048, 1024}, "cb8");
    const cdna_code code = cdna_writer_add(writer.get(), &more.c, data.data(), data.size(), &error);
    cdna_writer_free(writer.release());
    _exit(code == CDNA_OK ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  add(writer.get(), Spec("parent", CDNA_F32, {2048, 1024}, "cb8"), data);
}

TEST_CASE("C writer: presets are the C++ writer's, for any alignment and number of threads") {
  const std::vector<float> weights = cdna::test::Random(2).weights(300 * 1000);
  const Bytes data = cdna::test::bytes_of_values(weights);
  for (const char* const name : {"exact", "exact-z", "cb8", "cb8g64", "cb4g32,outliers=0.01"}) {
    INFO(name);
    const Spec spec("layer.weight", CDNA_F32, {300, 10, 100}, name);
    const Preset preset = must(cdna::parse_preset(name));
    for (const std::uint32_t alignment : {0U, 64U, 65536U}) {
      cdna::WriterOptions cpp;
      if (alignment != 0) cpp.alignment = alignment;
      const Bytes expected = cdna::test::write_file(cpp, [&](cdna::Writer& writer) {
        if (preset.method == Preset::Method::codebook)
          must(writer.add_codebook(cpp_spec(spec), preset.codebook, reader_of(data)));
        else if (preset.method == Preset::Method::exact_z)
          must(writer.add_exact(cpp_spec(spec, Codec::zstd, cdna::Filter::byte_planes), reader_of(data)));
        else
          must(writer.add_exact(cpp_spec(spec), reader_of(data)));
      });
      cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
      options.alignment = alignment;
      options.threads = alignment == 0 ? 3 : 0;
      CHECK(file_of([&](cdna_writer* writer) { add(writer, spec, data); }, &options) == expected);
    }
  }
}

TEST_CASE("C writer: data may come from a callback, in every part with its offset") {
  const Bytes data = cdna::test::bytes_of_values(cdna::test::Random(3).weights(300 * 2000));
  const Spec exact("exact", CDNA_F32, {300, 2000});
  const Spec codes("codes", CDNA_F32, {300, 2000}, "cb8");
  const Bytes expected = file_of([&](cdna_writer* writer) {
    add(writer, exact, data);
    add(writer, codes, data);
  });
  const cdna_tensor_reader read = [](void* context, std::uint64_t offset, void* out, std::uint64_t size) {
    const auto& from = *static_cast<const Bytes*>(context);
    if (offset > from.size() || size > from.size() - offset) return EINVAL;
    std::memcpy(out, from.data() + offset, size);
    return 0;
  };
  Bytes copy = data;
  const Bytes found = file_of([&](cdna_writer* writer) {
    cdna_error error{};
    must_be_ok(cdna_writer_add_from(writer, &exact.c, read, &copy, &error), error);
    must_be_ok(cdna_writer_add_from(writer, &codes.c, read, &copy, &error), error);
  });
  CHECK(found == expected);
}

TEST_CASE("C writer: rows that arrive in parts make the same file") {
  Bytes data = cdna::test::Random(4).bytes(1001 * 600);
  const Spec spec("rows", CDNA_U16, {1001, 300});
  for (const char* const preset : {"exact", "exact-z"}) {
    Spec described("rows", preset[5] == 0 ? CDNA_U16 : CDNA_F16, {1001, 300}, preset);
    const Bytes expected = file_of([&](cdna_writer* writer) { add(writer, described, data); });
    const Bytes found = file_of([&](cdna_writer* writer) {
      cdna_error error{};
      must_be_ok(cdna_writer_begin(writer, &described.c, &error), error);
      std::uint64_t row = 0;
      for (std::uint64_t count = 0; row < 1001; row += count++) {
        count = std::min(count, 1001 - row);
        must_be_ok(cdna_writer_append_rows(writer, data.data() + row * 600, count, &error), error);
      }
      must_be_ok(cdna_writer_end(writer, &error), error);
    });
    CHECK(found == expected);
  }
  // One row where rows are not whole bytes; none where there are no elements.
  const Spec one_row("nibbles", CDNA_F4, {3, 3});
  const Bytes nibbles(5);
  const Spec empty("empty", CDNA_F32, {4, 0});
  const Bytes found = file_of([&](cdna_writer* writer) {
    CHECK(cdna_writer_begin(writer, &one_row.c, nullptr) == CDNA_OK);
    CHECK(cdna_writer_append_rows(writer, nibbles.data(), 1, nullptr) == CDNA_OK);
    CHECK(cdna_writer_end(writer, nullptr) == CDNA_OK);
    CHECK(cdna_writer_begin(writer, &empty.c, nullptr) == CDNA_OK);
    CHECK(cdna_writer_append_rows(writer, nullptr, 4, nullptr) == CDNA_OK);
    CHECK(cdna_writer_end(writer, nullptr) == CDNA_OK);
  });
  CHECK(found == file_of([&](cdna_writer* writer) {
          add(writer, one_row, nibbles);
          add(writer, empty, {});
        }));
}

TEST_CASE("C writer: an encoded matrix is the C++ writer's, and decodes to the same values") {
  const Bytes data = cdna::test::bf16_of(cdna::test::Random(5).weights(200 * 320));
  const Spec spec("w", CDNA_BF16, {200, 5, 64});
  for (const char* const preset : {"cb8", "cb6g64"}) {
    cdna_encoded* encoded = nullptr;
    REQUIRE(cdna_encode(CDNA_BF16, 1000, 64, data.data(), preset, nullptr, &encoded, nullptr) == CDNA_OK);
    const EncodedHandle handle(encoded);
    const auto matrix = must(cdna::encode(DType::bf16, 1000, 64, data, must(cdna::parse_preset(preset)).codebook));
    const Bytes expected = cdna::test::write_file(
        {}, [&](cdna::Writer& writer) { must(writer.add_encoded(cpp_spec(spec, Codec::zstd), cdna::view(matrix))); });
    const Bytes found = file_of([&](cdna_writer* writer) {
      Spec with_codec("w", CDNA_BF16, {200, 5, 64}, "not used");
      with_codec.c.codec = CDNA_CODEC_ZSTD;
      with_codec.c.by_policy = 1;
      cdna_error error{};
      must_be_ok(cdna_writer_add_encoded(writer, &with_codec.c, encoded, &error), error);
    });
    CHECK(found == expected);
    std::vector<float> values(64'000);
    CHECK(cdna_encoded_decode(encoded, values.data(), nullptr) == CDNA_OK);
    std::vector<float> read(values.size());
    const cdna::Reader reader = reader_over(found);
    REQUIRE(reader.find("w")->read_rows(0, 1000, DType::f32, std::as_writable_bytes(std::span(read))).has_value());
    CHECK(read == values);
  }
}

TEST_CASE("C writer: the policy decides as for a whole model") {
  const Bytes data = cdna::test::bf16_of(cdna::test::Random(6).weights(128 * 64));
  struct Case {
    const char* name;
    std::uint32_t dtype;
    std::vector<std::uint64_t> shape;
    const char* encoding;
  };
  const Case cases[] = {{"model.embed_tokens.weight", CDNA_BF16, {128, 64}, "cdna.exact"},
                        {"lm_head.weight", CDNA_BF16, {128, 64}, "cdna.exact"},
                        {"model.layers.0.mlp.up_proj.weight", CDNA_BF16, {128, 64}, "cdna.codebook"},
                        {"conv.weight", CDNA_BF16, {8, 16, 8, 8}, "cdna.codebook"},
                        {"narrow.weight", CDNA_BF16, {256, 32}, "cdna.exact"},
                        {"vector.weight", CDNA_BF16, {8192}, "cdna.exact"},
                        {"counts.weight", CDNA_I16, {128, 64}, "cdna.exact"}};
  const Preset preset = must(cdna::parse_preset("cb8"));
  const Bytes found = file_of([&](cdna_writer* writer) {
    for (const Case& each : cases) {
      Spec spec(each.name, each.dtype, each.shape, "cb8");
      spec.c.by_policy = 1;
      add(writer, spec, data);
    }
  });
  const cdna::Reader reader = reader_over(found);
  for (const Case& each : cases) {
    INFO(each.name);
    const auto decision = cdna::decide(preset, each.name, static_cast<DType>(each.dtype), each.shape);
    const auto tensor = reader.find(each.name);
    REQUIRE(tensor.has_value());
    CHECK(tensor->encoding() == each.encoding);
    CHECK((decision.preset.method == Preset::Method::codebook) == (tensor->encoding() == "cdna.codebook"));
    CHECK(tensor->role() == decision.role);
  }
  // Without it the preset is what is done.
  const Bytes forced = file_of([&](cdna_writer* writer) {
    add(writer, {cases[0].name, CDNA_BF16, {128, 64}, "cb8"}, data);
  });
  CHECK(reader_over(forced).find(cases[0].name)->encoding() == "cdna.codebook");
  // Rows that arrive once can be asked for with the policy, as long as it keeps them exact.
  Spec embedding(cases[0].name, CDNA_BF16, {128, 64}, "cb8");
  embedding.c.by_policy = 1;
  const Bytes streamed = file_of([&](cdna_writer* writer) {
    CHECK(cdna_writer_begin(writer, &embedding.c, nullptr) == CDNA_OK);
    CHECK(cdna_writer_append_rows(writer, data.data(), 128, nullptr) == CDNA_OK);
    CHECK(cdna_writer_end(writer, nullptr) == CDNA_OK);
  });
  CHECK(streamed == file_of([&](cdna_writer* writer) { add(writer, embedding, data); }));
}

TEST_CASE("C writer: values that are not finite are kept where that is asked for") {
  std::vector<float> values = cdna::test::Random(7).weights(64 * 100);
  values[77] = std::numeric_limits<float>::infinity();
  const Bytes data = cdna::test::bytes_of_values(values);
  Spec spec("w", CDNA_F32, {64, 100}, "cb8");
  spec.c.keep_nonfinite = 1;
  cdna::CodebookOptions options;
  options.nonfinite = cdna::Nonfinite::exact;
  const Bytes expected = cdna::test::write_file(
      {}, [&](cdna::Writer& writer) { must(writer.add_codebook(cpp_spec(spec), options, reader_of(data))); });
  CHECK(file_of([&](cdna_writer* writer) { add(writer, spec, data); }) == expected);
}

TEST_CASE("C writer: aliases, assets and metadata are the C++ writer's") {
  const Bytes data = cdna::test::Random(8).bytes(600);
  const Bytes asset = cdna::test::Random(9).bytes(5000);
  const std::string text("a\0b", 3);
  const Spec spec("w", CDNA_U8, {20, 30});
  const Bytes expected = cdna::test::write_file(
      {},
      [&](cdna::Writer& writer) {
        must(writer.add_exact(cpp_spec(spec), reader_of(data)));
        must(writer.add_alias("v", 0));
        must(writer.add_alias("u", 0));
        must(writer.add_asset("config.json", "application/json", 5000, Codec::zstd, reader_of(asset)));
        must(writer.add_asset("empty", "", 0, Codec::raw, reader_of({})));
      },
      {{"null", std::monostate{}},
       {"bool", true},
       {"int", std::int64_t{-5}},
       {"uint", ~std::uint64_t{0}},
       {"real", 0.25},
       {"string", text},
       {"bytes", data},
       {"no bytes", Bytes()},
       {"json", cdna::JsonText{"{}"}}});
  const Bytes found = file_of([&](cdna_writer* writer) {
    add(writer, spec, data);
    CHECK(cdna_writer_add_alias(writer, "v", "w", nullptr) == CDNA_OK);
    CHECK(cdna_writer_add_alias(writer, "u", "v", nullptr) == CDNA_OK);
    CHECK(cdna_writer_add_asset(writer, "config.json", "application/json", asset.data(), asset.size(), CDNA_CODEC_ZSTD,
                                nullptr) == CDNA_OK);
    CHECK(cdna_writer_add_asset(writer, "empty", "", nullptr, 0, CDNA_CODEC_RAW, nullptr) == CDNA_OK);
    set(writer, value_of("null", CDNA_NULL));
    cdna_metadata_value value = value_of("bool", CDNA_BOOLEAN);
    value.integer = 1;
    set(writer, value);
    value = value_of("int", CDNA_INT);
    value.integer = 7;
    set(writer, value);
    value.integer = -5;  // The last one counts.
    set(writer, value);
    value = value_of("uint", CDNA_UINT);
    value.uinteger = ~std::uint64_t{0};
    set(writer, value);
    value = value_of("real", CDNA_FLOAT);
    value.real = 0.25;
    set(writer, value);
    {
      std::string copied_text = text;
      std::string copied_key = "string";
      set(writer, text_of(copied_key.c_str(), CDNA_STRING, copied_text));
      copied_text.assign(3, 'x');
      copied_key.assign(6, 'x');
    }
    set(writer, text_of("json", CDNA_JSON, "{}"));
    value = value_of("bytes", CDNA_BYTES);
    value.data = data.data();
    value.size = data.size();
    set(writer, value);
    set(writer, value_of("no bytes", CDNA_BYTES));
  });
  CHECK(found == expected);
}

TEST_CASE("C writer: a file at a path, which appears when it is finished; force replaces one") {
  const TemporaryFolder folder;
  const std::string path = folder / "a.cdna";
  const Bytes data = cdna::test::Random(10).bytes(600);
  const Spec spec("w", CDNA_U8, {20, 30});
  const Bytes expected = file_of([&](cdna_writer* writer) { add(writer, spec, data); });
  {
    const WriterHandle writer = writer_at(path);
    add(writer.get(), spec, data);
    CHECK(!std::filesystem::exists(path));
    CHECK(cdna_writer_finish(writer.get(), nullptr, nullptr) == CDNA_OK);
    CHECK(cdna::test::file_content(path) == expected);
  }
  cdna_writer* refused = nullptr;
  cdna_error error{};
  CHECK(cdna_writer_create(path.c_str(), nullptr, &refused, &error) == CDNA_EXISTS);
  CHECK(std::string(error.file) == path);
  CHECK(refused == nullptr);

  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.force = 1;
  {
    const WriterHandle abandoned = writer_at(path, &options);
    add(abandoned.get(), Spec("other", CDNA_U8, {600}), data);
  }
  CHECK(cdna::test::file_content(path) == expected);
  {
    const WriterHandle writer = writer_at(path, &options);
    CHECK(cdna_writer_finish(writer.get(), nullptr, nullptr) == CDNA_OK);
  }
  CHECK(cdna::test::file_content(path) == file_of([](cdna_writer*) {}));
  CHECK(cdna::test::files_in(folder.path()) == 1);
}

TEST_CASE("C writer: structs of earlier and later versions") {
  const Bytes data = cdna::test::Random(11).bytes(600);
  const Spec now("w", CDNA_U8, {20, 30});
  const Bytes expected = file_of([&](cdna_writer* writer) { add(writer, now, data); });

  Spec earlier("w", CDNA_U8, {20, 30}, "behind the end");
  earlier.c.struct_size = offsetof(cdna_tensor_spec, preset);
  CHECK(file_of([&](cdna_writer* writer) { add(writer, earlier, data); }) == expected);

  struct Later {
    cdna_tensor_spec spec;
    std::uint64_t more;
  } later{now.c, 0};
  later.spec.struct_size = sizeof later;
  const auto add_later = [&](cdna_writer* writer, cdna_error* error) {
    return cdna_writer_add(writer, &later.spec, data.data(), data.size(), error);
  };
  CHECK(file_of([&](cdna_writer* writer) { CHECK(add_later(writer, nullptr) == CDNA_OK); }) == expected);
  later.more = 1;
  MemorySink sink;
  const WriterHandle writer = writer_into(sink);
  cdna_error error{};
  CHECK(add_later(writer.get(), &error) == CDNA_BAD_ARGUMENT);
  CHECK_THAT(error.message, Catch::Contains("spec has a field of a later version set"));

  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.struct_size = offsetof(cdna_writer_options, threads);
  options.alignment = 64;
  options.threads = 5000;  // Behind the end.
  const Bytes aligned = file_of([&](cdna_writer* each) { add(each, now, data); }, &options);
  CHECK(reader_over(aligned).alignment() == 64);
}

TEST_CASE("C writer: progress comes from the caller's thread, and ends with all bytes") {
  const Bytes data = cdna::test::bytes_of_values(cdna::test::Random(12).weights(300 * 2000));
  struct Seen {
    std::set<std::thread::id> threads;
    std::uint64_t last = 0;
    bool grows = true;
    std::uint64_t calls = 0;
  } seen;
  cdna_writer_options options = CDNA_WRITER_OPTIONS_INIT;
  options.threads = 3;
  options.progress_context = &seen;
  options.progress = [](void* context, std::uint64_t done, std::uint64_t total) {
    Seen& self = *static_cast<Seen*>(context);
    self.threads.insert(std::this_thread::get_id());
    self.grows = self.grows && done >= self.last && total == 0;
    self.last = done;
    ++self.calls;
    return 0;
  };
  file_of(
      [&](cdna_writer* writer) {
        add(writer, {"exact", CDNA_F32, {300, 2000}}, data);
        CHECK(seen.last == data.size());
        add(writer, {"codes", CDNA_F32, {300, 2000}, "cb8"}, data);
        CHECK(seen.last >= 3 * data.size());
      },
      &options);
  CHECK(seen.threads == std::set{std::this_thread::get_id()});
  CHECK(seen.grows);
  CHECK(seen.calls > 4);
}
