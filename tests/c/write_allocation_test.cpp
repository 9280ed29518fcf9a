// Every allocation of the C functions for writing fails in turn: the result is right or NO_MEMORY, nothing leaks, and
// no file is left.
#include <catch2/catch.hpp>
#include <string>

#include "failing_allocations.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"
#include "writing.hpp"

namespace {

using cdna::test::Bytes;
using cdna::test::EncodedHandle;
using cdna::test::fail_everywhere;
using cdna::test::granted_to_test;
using cdna::test::Outcome;
using cdna::test::Spec;
using cdna::test::TemporaryFolder;
using cdna::test::WriterHandle;

Outcome outcome_of(cdna_code code) {
  if (code == CDNA_OK) return Outcome::right;
  return code == CDNA_NO_MEMORY ? Outcome::no_memory : Outcome::other_error;
}

// An error says what it is, with no memory for its text either.
Outcome outcome_of(cdna_code code, const cdna_error& error) {
  if (code == CDNA_OK) return Outcome::right;
  if (code != CDNA_NO_MEMORY) std::fprintf(stderr, "%s: %s\n", error.tensor, error.message);
  return error.code == code && error.message[0] != 0 ? outcome_of(code) : Outcome::wrong;
}

struct Model {
  Bytes data;
  Spec exact{"an exact tensor with a long name", CDNA_BF16, {10, 100}};
  Spec planes{"byte planes, by a long name as well", CDNA_BF16, {10, 100}, "exact-z"};
  Spec codes{"codes, by a long name as well", CDNA_BF16, {2, 32}, "cb4g32,k=2,outliers=0.1"};
  Spec by_policy{"model.embed_tokens.with_a_long_name.weight", CDNA_BF16, {10, 100}, "cb8"};
  Spec rows{"rows, by a long name as well", CDNA_BF16, {10, 100}};
  Spec encoded{"encoded, by a long name as well", CDNA_BF16, {10, 100}};

  Model() : data(cdna::test::bf16_of(cdna::test::Random(1).weights(1000))) { by_policy.c.by_policy = 1; }
};

Outcome write_tensors(cdna_writer* writer, const Model& model, const cdna_encoded* encoded, cdna_error& error) {
  for (const Spec* const spec : {&model.exact, &model.planes, &model.codes, &model.by_policy}) {
    const std::uint64_t size = 2 * spec->shape[0] * spec->shape[1];
    TRY_OUTCOME(outcome_of(cdna_writer_add(writer, &spec->c, model.data.data(), size, &error), error));
  }
  TRY_OUTCOME(outcome_of(cdna_writer_begin(writer, &model.rows.c, &error), error));
  TRY_OUTCOME(outcome_of(cdna_writer_append_rows(writer, model.data.data(), 4, &error), error));
  TRY_OUTCOME(outcome_of(cdna_writer_append_rows(writer, model.data.data() + 800, 6, &error), error));
  TRY_OUTCOME(outcome_of(cdna_writer_end(writer, &error), error));
  TRY_OUTCOME(outcome_of(cdna_writer_add_encoded(writer, &model.encoded.c, encoded, &error), error));
  return outcome_of(cdna_writer_add_alias(writer, "an alias with a long name as well", model.exact.c.name, &error),
                    error);
}

Outcome write_rest(cdna_writer* writer, const Model& model, cdna_error& error) {
  TRY_OUTCOME(outcome_of(cdna_writer_add_asset(writer, "an asset with a long name as well", "application/json",
                                               model.data.data(), 100, CDNA_CODEC_ZSTD, &error),
                         error));
  const std::string_view text = "a text that is too long for a string without memory";
  for (const std::uint32_t kind : {CDNA_STRING, CDNA_BYTES, CDNA_JSON, CDNA_INT}) {
    cdna_metadata_value value{};
    value.struct_size = sizeof value;
    value.key = kind == CDNA_INT ? "an int with a key that is long as well" : "a key that is long as well";
    value.kind = kind;
    value.data = text.data();
    value.size = text.size();
    TRY_OUTCOME(outcome_of(cdna_writer_set_metadata(writer, &value, &error), error));
  }
  return outcome_of(cdna_writer_finish(writer, nullptr, &error), error);
}

Outcome write_all(cdna_writer* writer, const Model& model, const cdna_encoded* encoded, cdna_error& error) {
  TRY_OUTCOME(write_tensors(writer, model, encoded, error));
  return write_rest(writer, model, error);
}

EncodedHandle encode(const Model& model) {
  cdna_encoded* encoded = nullptr;
  REQUIRE(cdna_encode(CDNA_BF16, 10, 100, model.data.data(), "cb4g32,k=4", nullptr, &encoded, nullptr) == CDNA_OK);
  return EncodedHandle(encoded);
}

}  // namespace

TEST_CASE("C allocation failure: a file is written whole, or NO_MEMORY and no file") {
  const Model model;
  const EncodedHandle encoded = encode(model);
  const TemporaryFolder folder;
  const std::string path = folder / "a name beyond the small string buffer.cdna";
  Bytes expected;
  fail_everywhere("write a file in C", [&] {
    granted_to_test([&] { return std::filesystem::remove(path); });
    cdna_error error{};
    cdna_writer* writer = nullptr;
    const cdna_code created = cdna_writer_create(path.c_str(), nullptr, &writer, &error);
    Outcome outcome = outcome_of(created, error);
    if (created == CDNA_OK) {
      const WriterHandle handle(writer);
      outcome = write_all(writer, model, encoded.get(), error);
    }
    return granted_to_test([&] {
      if (outcome != Outcome::right) return cdna::test::files_in(folder.path()) == 0 ? outcome : Outcome::wrong;
      const Bytes found = cdna::test::file_content(path);
      if (expected.empty()) expected = found;
      return found == expected ? outcome : Outcome::wrong;
    });
  });
}

TEST_CASE("C allocation failure: a caller's sink is closed once") {
  const Model model;
  struct Counter {
    std::uint64_t closes = 0;
  };
  fail_everywhere("write into a sink in C", [&] {
    Counter counter;
    cdna_sink sink = CDNA_SINK_INIT;
    sink.context = &counter;
    sink.write = [](void*, const void*, std::uint64_t) -> std::int32_t { return 0; };
    sink.close = [](void* context) { ++static_cast<Counter*>(context)->closes; };
    cdna_error error{};
    cdna_writer* writer = nullptr;
    const cdna_code created = cdna_writer_create_sink(&sink, nullptr, &writer, &error);
    Outcome outcome = outcome_of(created, error);
    if (created == CDNA_OK) {
      const WriterHandle handle(writer);
      outcome = write_rest(writer, model, error);
    }
    return counter.closes == 1 ? outcome : Outcome::wrong;
  });
}

TEST_CASE("C allocation failure: encoding gives the same codes, or NO_MEMORY") {
  const Model model;
  const EncodedHandle expected = encode(model);
  cdna_encoded_info wanted{};
  wanted.struct_size = sizeof wanted;
  REQUIRE(cdna_encoded_describe(expected.get(), &wanted, nullptr) == CDNA_OK);
  fail_everywhere("encode in C", [&] {
    cdna_error error{};
    cdna_encoded* encoded = nullptr;
    const cdna_code code = cdna_encode(CDNA_BF16, 10, 100, model.data.data(), "cb4g32,k=4", nullptr, &encoded, &error);
    if (code != CDNA_OK) return encoded == nullptr ? outcome_of(code, error) : Outcome::wrong;
    const EncodedHandle handle(encoded);
    cdna_encoded_info info{};
    info.struct_size = sizeof info;
    if (cdna_encoded_describe(encoded, &info, nullptr) != CDNA_OK) return Outcome::wrong;
    return std::memcmp(info.codes, wanted.codes, 250) == 0 ? Outcome::right : Outcome::wrong;
  });
}

TEST_CASE("C allocation failure: refusals stay refusals, or are NO_MEMORY") {
  const Spec spec("a tensor with a name that is long", CDNA_F32, {10, 100}, "a preset that does not exist at all");
  const TemporaryFolder folder;
  const std::string path = folder / "a name beyond the small string buffer.cdna";
  fail_everywhere("refuse in C", [&] {
    cdna_error error{};
    cdna_writer* writer = nullptr;
    TRY_OUTCOME(outcome_of(cdna_writer_create(path.c_str(), nullptr, &writer, &error), error));
    const WriterHandle handle(writer);
    const cdna_code code = cdna_writer_add(writer, &spec.c, &spec, 4000, &error);
    if (code == CDNA_OK || error.message[0] == 0) return Outcome::wrong;
    return code == CDNA_BAD_ARGUMENT ? Outcome::right : outcome_of(code);
  });
}

TEST_CASE("C allocation failure: an encoding that is refused stays so, or is NO_MEMORY") {
  cdna_convert_options options = CDNA_CONVERT_OPTIONS_INIT;
  options.encoding = "a preset that does not exist at all";
  fail_everywhere("refuse an encoding in C", [&] {
    cdna_error error{};
    const cdna_code code =
        cdna_convert("a source that is not looked at", "a destination that is neither", &options, nullptr, &error);
    if (code == CDNA_OK || error.message[0] == 0) return Outcome::wrong;
    if (code != CDNA_BAD_ARGUMENT) return outcome_of(code);
    // Without memory for the text of the refusal that is all that the message says.
    const std::string_view message = error.message;
    const bool is_one = message == "out of memory" || message.find("out of memory") == std::string_view::npos;
    return is_one ? Outcome::right : Outcome::wrong;
  });
}
