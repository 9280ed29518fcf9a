// Every allocation of every operation fails in turn, once and from then on: the result is right or no_memory, and
// nothing leaks.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <new>

#include "cdna/encode.hpp"
#include "cdna/fsck.hpp"
#include "cdna/import.hpp"
#include "cdna/policy.hpp"
#include "failing_allocations.hpp"
#include "libcdna/thread_pool.hpp"
#include "sample_file.hpp"
#include "temporary_folder.hpp"

namespace {

namespace fs = std::filesystem;
using cdna::Code;
using cdna::Result;
using cdna::test::fail_everywhere;
using cdna::test::Failure;
using cdna::test::Granted;
using cdna::test::granted_to_test;
using cdna::test::must;
using cdna::test::Outcome;
using cdna::test::save_file;
using cdna::test::TemporaryFolder;
using Bytes = std::vector<std::byte>;

Outcome outcome_of(Code code) { return code == Code::no_memory ? Outcome::no_memory : Outcome::other_error; }
template <class T>
Outcome outcome_of(const Result<T>& result) {
  return result ? Outcome::right : outcome_of(result.error().code);
}

// ---- Reading ----

const Bytes& sample() {
  static const Bytes file = cdna::test::make_sample();
  return file;
}

const Bytes& small_sample() {
  static const Bytes file = cdna::test::make_small_sample();
  return file;
}

// What every item decodes to, and memory to decode into.
struct Expected {
  std::vector<Bytes> items;
  mutable Bytes buffer;

  explicit Expected(const Bytes& file) {
    const cdna::Reader reader = must(cdna::Reader::open(cdna::memory_source(file)));
    for (std::uint32_t i = 0; i < reader.item_count(); ++i) items.push_back(must(cdna::test::read_item(reader, i)));
    for (const Bytes& item : items) buffer.resize(std::max(buffer.size(), item.size()));
  }
};

Outcome read_tensor(const cdna::Tensor& tensor, const Bytes& expected, std::span<std::byte> buffer) {
  TRY_OUTCOME(outcome_of(tensor.check_supported()));
  const bool exact = tensor.encoding() == "cdna.exact";
  const std::span<std::byte> out = buffer.first(expected.size());
  std::fill(out.begin(), out.end(), std::byte{0xA5});
  TRY_OUTCOME(outcome_of(tensor.read_rows(0, tensor.rows(), exact ? tensor.dtype() : cdna::DType::f32, out)));
  if (!std::equal(out.begin(), out.end(), expected.begin())) return Outcome::wrong;
  auto range = tensor.blocks();
  TRY_OUTCOME(outcome_of(range));
  for (const Result<cdna::Block>& block : *range) TRY_OUTCOME(outcome_of(block));
  if (!exact) TRY_OUTCOME(outcome_of(tensor.codebook()));
  const auto pointer = tensor.contiguous();
  return !pointer && pointer.error().code == Code::bad_argument ? Outcome::right : outcome_of(pointer);
}

Outcome read_all(const cdna::Reader& reader, const Expected& expected) {
  for (std::uint32_t number = 0; number < reader.item_count(); ++number) {
    const cdna::Item item = reader.item(number);
    TRY_OUTCOME(outcome_of(item.verify()));
    if (item.kind() == cdna::ItemKind::tensor) {
      TRY_OUTCOME(read_tensor(reader.resolve(item), expected.items[number], expected.buffer));
    } else if (item.kind() != cdna::ItemKind::alias) {
      const std::span<std::byte> out = std::span(expected.buffer).first(expected.items[number].size());
      TRY_OUTCOME(outcome_of(cdna::Asset(item).read(0, out)));
      if (!std::equal(out.begin(), out.end(), expected.items[number].begin())) return Outcome::wrong;
    }
  }
  const auto metadata = reader.metadata();
  TRY_OUTCOME(outcome_of(metadata));
  return metadata->empty() ? Outcome::wrong : Outcome::right;
}

}  // namespace

TEST_CASE("allocation failure: opening and reading all of a file, mapped and strict") {
  const Expected expected(sample());
  for (const bool mapped : {true, false}) {
    fail_everywhere(mapped ? "read, mapped" : "read, strict", [&] {
      auto source = granted_to_test([&] { return cdna::memory_source(sample(), mapped); });
      const auto reader = cdna::Reader::open(std::move(source));
      TRY_OUTCOME(outcome_of(reader));
      const Outcome outcome = read_all(*reader, expected);
      // Nothing is remembered of it: with memory the same reader reads all.
      if (outcome != Outcome::no_memory ||
          granted_to_test([&] { return read_all(*reader, expected); }) == Outcome::right)
        return outcome;
      return Outcome::wrong;
    });
  }
}

TEST_CASE("allocation failure: opening a path, by mmap and pread") {
  const TemporaryFolder folder;
  const std::string path = folder / "a name beyond the small string buffer.cdna";
  save_file(path, small_sample());
  const Expected expected(small_sample());
  for (const cdna::Io io : {cdna::Io::automatic, cdna::Io::mmap, cdna::Io::pread}) {
    cdna::OpenOptions options;
    options.io = io;
    fail_everywhere("open a path", [&] {
      const auto reader = cdna::Reader::open(path, options);
      return reader ? read_all(*reader, expected) : outcome_of(reader);
    });
  }
}

TEST_CASE("allocation failure: rows are pinned and planes handed out, or nothing is locked") {
  const TemporaryFolder folder;
  const std::string path = folder / "a name beyond the small string buffer.cdna";
  save_file(path, sample());
  cdna::OpenOptions options;
  options.io = cdna::Io::mmap;
  options.pinned_bytes_max = 1 << 20;
  fail_everywhere("pin", [&] {
    const auto reader = cdna::Reader::open(path, options);
    TRY_OUTCOME(outcome_of(reader));
    const cdna::Tensor tensor = reader->find("layers.0.attention.weight").value();
    const auto pin_all = [&] {
      const auto first = tensor.pin(0, 1);
      TRY_OUTCOME(outcome_of(first));
      return outcome_of(tensor.pin(0, tensor.rows()));
    };
    TRY_OUTCOME(outcome_of(tensor.prefetch(0, tensor.rows())));
    const Outcome outcome = pin_all();
    if (outcome == Outcome::no_memory && granted_to_test(pin_all) != Outcome::right) return Outcome::wrong;
    TRY_OUTCOME(outcome);
    return outcome_of(tensor.plane_bytes(0));
  });
}

TEST_CASE("allocation failure: errors about damage stay errors about damage, or are no_memory") {
  Bytes damaged = sample();
  const cdna::Reader pristine = must(cdna::Reader::open(cdna::memory_source(sample())));
  damaged[pristine.find("layers.0.attention.weight")->plane(0).offset + 5] ^= std::byte{1};
  fail_everywhere("read damage", [&] {
    auto source = granted_to_test([&] { return cdna::memory_source(damaged); });
    const auto reader = cdna::Reader::open(std::move(source));
    TRY_OUTCOME(outcome_of(reader));
    const auto result = reader->find("layers.0.attention.weight")->verify();
    if (result) return Outcome::wrong;
    return result.error().code == Code::corrupt ? Outcome::right : outcome_of(result);
  });
  const Bytes cut(damaged.begin(), damaged.end() - 300);
  fail_everywhere("open a cut file", [&] {
    auto source = granted_to_test([&] { return cdna::memory_source(cut); });
    const auto reader = cdna::Reader::open(std::move(source));
    if (reader) return Outcome::wrong;
    return reader.error().code == Code::truncated ? Outcome::right : outcome_of(reader);
  });
}

// ---- Checking and rebuilding ----

namespace {

// The expected verdict, or an operational failure for want of memory; never another verdict.
Outcome check(const Bytes& file, cdna::FsckLevel level, std::uint64_t problems) {
  cdna::FsckOptions options;
  options.level = level;
  auto source = granted_to_test([&] { return cdna::memory_source(file); });
  const cdna::FsckReport report = cdna::fsck(std::move(source), options);
  if (report.operational_failure) return report.valid ? Outcome::wrong : Outcome::no_memory;
  return report.complete && report.problem_count == problems && report.valid == (problems == 0) ? Outcome::right
                                                                                                : Outcome::wrong;
}

}  // namespace

TEST_CASE("allocation failure: fsck of a good and of a damaged file never gives another verdict") {
  Bytes damaged = small_sample();
  const cdna::Reader pristine = must(cdna::Reader::open(cdna::memory_source(small_sample())));
  damaged[pristine.find("zstd")->plane(0).offset + 5] ^= std::byte{1};
  for (const auto level : {cdna::FsckLevel::quick, cdna::FsckLevel::standard, cdna::FsckLevel::deep}) {
    fail_everywhere("fsck", [&] { return check(small_sample(), level, 0); });
    const std::uint64_t problems = level == cdna::FsckLevel::quick ? 0 : 1;
    fail_everywhere("fsck of a damaged file", [&] { return check(damaged, level, problems); });
  }
  fail_everywhere("deep fsck of the large sample", [&] { return check(sample(), cdna::FsckLevel::deep, 0); });
}

TEST_CASE("allocation failure: rebuilding gives the original or no_memory") {
  const Bytes& file = small_sample();
  const Bytes cut(file.begin(), file.end() - 300);
  fail_everywhere("rebuild", [&] {
    Bytes out;
    auto source = granted_to_test([&] { return cdna::memory_source(cut); });
    auto sink = granted_to_test([&] { return cdna::memory_sink(out); });
    TRY_OUTCOME(outcome_of(cdna::rebuild(*source, std::move(sink))));
    return out == file ? Outcome::right : Outcome::wrong;
  });
}

// ---- Writing ----

namespace {

// One kind of item, with everything that its call needs made beforehand.
struct Kind {
  const char* name;
  std::function<Outcome(cdna::Writer&)> add;
};

Outcome write_with(std::unique_ptr<cdna::Sink> sink, const Kind& kind, const cdna::Metadata& metadata) {
  auto writer = cdna::Writer::create(std::move(sink));
  TRY_OUTCOME(outcome_of(writer));
  TRY_OUTCOME(kind.add(*writer));
  auto copy = granted_to_test([&] { return metadata; });
  return outcome_of(writer->finish(std::move(copy)));
}

std::vector<Kind> kinds(const Bytes& half, const cdna::ByteReader& reader) {
  const auto exact = [&](const char* name, cdna::Codec codec) {
    return Kind{
        name,
        [&reader,
         spec = cdna::TensorSpec{"a tensor with a long name", cdna::DType::u8, {4, 500}, cdna::Role::matrix, codec}](
            cdna::Writer& writer) { return outcome_of(writer.add_exact(spec, reader)); }};
  };
  const cdna::TensorSpec spec{
      "a tensor with a long name", cdna::DType::bf16, {10, 100}, cdna::Role::matrix, cdna::Codec::zstd};
  const auto codebook = [&reader, spec](cdna::Writer& writer) {
    return outcome_of(writer.add_codebook(spec, {}, reader));
  };
  cdna::CodebookOptions any_value;
  any_value.nonfinite = cdna::Nonfinite::exact;
  const auto encoded = [spec, matrix = must(cdna::encode(spec.dtype, 10, 100, half, any_value))](cdna::Writer& writer) {
    return outcome_of(writer.add_encoded(spec, cdna::view(matrix)));
  };
  const auto planes = [&reader, spec](cdna::Writer& writer) {
    auto filtered = granted_to_test([&] { return spec; });
    filtered.filter = cdna::Filter::byte_planes;
    return outcome_of(writer.add_exact(filtered, reader));
  };
  const auto alias = [&reader, spec, name = std::string("another name for the tensor")](cdna::Writer& writer) {
    TRY_OUTCOME(outcome_of(writer.add_exact(spec, reader)));
    return outcome_of(writer.add_alias(name, 0));
  };
  const auto asset = [&reader, name = std::string("an asset with a long name"),
                      type = std::string("application/json")](cdna::Writer& writer) {
    return outcome_of(writer.add_asset(name, type, 2000, cdna::Codec::zstd, reader));
  };
  const auto parts = [&half, spec](cdna::Writer& writer) {
    TRY_OUTCOME(outcome_of(writer.begin_tensor(spec)));
    TRY_OUTCOME(outcome_of(writer.append(std::span(half).first(777))));
    TRY_OUTCOME(outcome_of(writer.append(std::span(half).subspan(777))));
    return outcome_of(writer.end_tensor());
  };
  const auto taken = [&reader, spec](cdna::Writer& writer) {
    TRY_OUTCOME(outcome_of(writer.add_exact(spec, reader)));
    const auto again = writer.add_exact(spec, reader);
    return !again && again.error().code == Code::exists ? Outcome::right : outcome_of(again);
  };
  return {exact("write raw", cdna::Codec::raw),
          exact("write zstd", cdna::Codec::zstd),
          exact("write brotli", cdna::Codec::brotli),
          {"write byte planes", planes},
          {"write codebook", codebook},
          {"write encoded planes", encoded},
          {"write alias", alias},
          {"write asset", asset},
          {"write in parts", parts},
          {"write a name twice", taken}};
}

}  // namespace

TEST_CASE("allocation failure: what is written is the same bytes, or no_memory") {
  cdna::test::Random random(5);
  Bytes half = random.bytes(2000);
  for (std::size_t i = 0; i < half.size(); i += 2) half[i] = std::byte{0x3F};  // Finite as BF16, and compressible.
  const cdna::ByteReader reader = cdna::test::reader_of(half);
  const cdna::Metadata metadata{{"a key beyond the small string buffer", std::string("a value beyond it as well")},
                                {"bytes", random.bytes(100)}};
  for (const Kind& kind : kinds(half, reader)) {
    Bytes expected;
    if (std::string_view(kind.name) != "write a name twice") {
      REQUIRE(write_with(cdna::memory_sink(expected), kind, metadata) == Outcome::right);
    }
    fail_everywhere(kind.name, [&] {
      Bytes out;
      auto sink = granted_to_test([&] { return cdna::memory_sink(out); });
      if (expected.empty()) {
        auto writer = cdna::Writer::create(std::move(sink));
        return writer ? kind.add(*writer) : outcome_of(writer);
      }
      TRY_OUTCOME(write_with(std::move(sink), kind, metadata));
      return out == expected ? Outcome::right : Outcome::wrong;
    });
  }
}

TEST_CASE("allocation failure: a file is replaced whole or not at all") {
  const TemporaryFolder folder;
  const std::string path = folder / "a name beyond the small string buffer.cdna";
  save_file(folder / "a neighbour with a name beyond the buffer", {});
  const Bytes bytes = cdna::test::Random(6).bytes(2000);
  const cdna::ByteReader reader = cdna::test::reader_of(bytes);
  const Kind kind = kinds(bytes, reader)[1];
  Bytes expected;
  REQUIRE(write_with(cdna::memory_sink(expected), kind, {}) == Outcome::right);
  const auto stands_there = [&](const Bytes& wanted) {
    const Granted granted;
    std::ifstream in(path, std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    const auto found = std::as_bytes(std::span(text));
    return std::equal(found.begin(), found.end(), wanted.begin(), wanted.end());
  };
  const Bytes old(10);
  cdna::FileSinkOptions options;
  options.force = true;
  fail_everywhere("replace a file", [&] {
    granted_to_test([&] { save_file(path, old); });
    auto sink = cdna::create_file(path, options);
    if (!sink) return stands_there(old) ? outcome_of(sink) : Outcome::wrong;
    const Outcome outcome = write_with(*std::move(sink), kind, {});
    if (stands_there(expected)) return outcome;
    return outcome == Outcome::right || !stands_there(old) ? Outcome::wrong : outcome;
  });
  CHECK(std::distance(fs::directory_iterator(fs::path(path).parent_path()), fs::directory_iterator()) == 2);
}

// ---- Import, export, policies ----

namespace {

Bytes safetensors_file(const std::string& layer) {
  std::string header = R"({"__metadata__":{"format":"pt","a key beyond the small string buffer":"the value of layer )" +
                       layer + R"("},)" + R"("model.layers.)" + layer +
                       R"(.attention.weight":{"dtype":"BF16","shape":[10,100],"data_offsets":[0,2000]},)" +
                       R"("model.layers.)" + layer +
                       R"(.norm.weight":{"dtype":"F32","shape":[2],"data_offsets":[2000,2008]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  std::uint64_t length = header.size();
  Bytes out(8 + header.size() + 2008, std::byte{0x3C});
  std::memcpy(out.data(), &length, 8);
  std::memcpy(out.data() + 8, header.data(), header.size());
  return out;
}

// The library's part of `cdna convert`: decide, read, encode.
Outcome convert(const cdna::Model& model, Bytes& out) {
  auto sink = granted_to_test([&] { return cdna::memory_sink(out); });
  auto writer = cdna::Writer::create(std::move(sink));
  TRY_OUTCOME(outcome_of(writer));
  for (std::size_t i = 0; i < model.tensors().size(); ++i) {
    const cdna::ModelTensor& tensor = model.tensors()[i];
    const auto spec = granted_to_test([&] {
      return cdna::TensorSpec{tensor.name, tensor.dtype, tensor.shape, cdna::Role::matrix, cdna::Codec::zstd};
    });
    const cdna::ByteReader read = [&model, i](std::uint64_t offset, std::span<std::byte> part) {
      return model.read(i, offset, part);
    };
    TRY_OUTCOME(outcome_of(i == 0 ? writer->add_codebook(spec, {}, read) : writer->add_exact(spec, read)));
  }
  for (std::size_t i = 0; i < model.assets().size(); ++i) {
    const cdna::ModelAsset& asset = model.assets()[i];
    const cdna::ByteReader read = [&model, i](std::uint64_t offset, std::span<std::byte> part) {
      return model.read_asset(i, offset, part);
    };
    TRY_OUTCOME(outcome_of(writer->add_asset(asset.name, asset.media_type, asset.size_bytes, cdna::Codec::raw, read)));
  }
  return outcome_of(writer->finish());
}

}  // namespace

TEST_CASE("allocation failure: a safetensors file and a folder are imported and converted, or no_memory") {
  const TemporaryFolder folder;
  const TemporaryFolder sharded;
  const auto text = [](const std::string& path, const std::string& content) {
    save_file(path, std::as_bytes(std::span(content)));
  };
  save_file(folder / "model.safetensors", safetensors_file("0"));
  save_file(sharded / "model-00001-of-00002.safetensors", safetensors_file("0"));
  save_file(sharded / "model-00002-of-00002.safetensors", safetensors_file("1"));
  text(sharded / "model.safetensors.index.json",
       R"({"weight_map":{"model.layers.0.attention.weight":"model-00001-of-00002.safetensors",)"
       R"("model.layers.0.norm.weight":"model-00001-of-00002.safetensors",)"
       R"("model.layers.1.attention.weight":"model-00002-of-00002.safetensors",)"
       R"("model.layers.1.norm.weight":"model-00002-of-00002.safetensors"}})");
  text(sharded / "program_code_with_a_long_name.py", "");
  for (const TemporaryFolder* const each : {&folder, &sharded})
    text(*each / "config.json", R"({"architectures": ["OneThatHasALongName"]})");
  for (const std::string& path : {folder / "model.safetensors", folder / "", sharded / ""}) {
    Bytes expected;
    REQUIRE(convert(*must(cdna::open_model(path)), expected) == Outcome::right);
    fail_everywhere("import", [&] {
      const auto model = cdna::open_model(path);
      TRY_OUTCOME(outcome_of(model));
      Bytes out;
      TRY_OUTCOME(convert(**model, out));
      return out == expected ? Outcome::right : Outcome::wrong;
    });
  }
}

TEST_CASE("allocation failure: a safetensors file is written, or no_memory") {
  const std::vector<cdna::ModelTensor> tensors{{"a tensor with a long name", cdna::DType::f32, {2, 3}, 24},
                                               {"another tensor with a long name", cdna::DType::bf16, {4}, 8}};
  const std::map<std::string, std::string> metadata{{"a key beyond the buffer", "a value beyond the buffer"}};
  const Bytes data(32, std::byte{7});
  Bytes expected;
  const auto write = [&](Bytes& out) {
    auto sink = granted_to_test([&] { return cdna::memory_sink(out); });
    auto plan = granted_to_test([&] { return tensors; });
    auto writer = cdna::SafetensorsWriter::create(std::move(sink), std::move(plan), metadata);
    TRY_OUTCOME(outcome_of(writer));
    TRY_OUTCOME(outcome_of((*writer)->append(data)));
    const auto more = (*writer)->append(data);
    if (more || more.error().code != Code::bad_argument) return more ? Outcome::wrong : outcome_of(more);
    return outcome_of((*writer)->commit());
  };
  REQUIRE(write(expected) == Outcome::right);
  fail_everywhere("write safetensors", [&] {
    Bytes out;
    TRY_OUTCOME(write(out));
    return out == expected ? Outcome::right : Outcome::wrong;
  });
}

TEST_CASE("allocation failure: policies give their decision or std::bad_alloc, for they return no Result") {
  const std::uint64_t shape[] = {256, 256};
  fail_everywhere(
      "decide",
      [&] {
        const cdna::Decision decision = cdna::decide({cdna::Preset::Method::codebook, {}},
                                                     "model.layers.0.attention.weight", cdna::DType::bf16, shape);
        return decision.preset.method == cdna::Preset::Method::codebook ? Outcome::right : Outcome::wrong;
      },
      Failure::exception);
}

// ---- Threads ----

TEST_CASE("allocation failure: a pool that cannot start its threads does the same work with fewer") {
  std::array<std::atomic<unsigned>, 100> turns{};
  const cdna::ThreadPool::Task task = [&turns](std::size_t index, unsigned) -> Result<void> {
    ++turns[index];
    return {};
  };
  fail_everywhere(
      "pool",
      [&] {
        for (auto& turn : turns) turn = 0;
        cdna::ThreadPool pool(4);
        TRY_OUTCOME(outcome_of(pool.run(turns.size(), task)));
        const bool all = std::all_of(turns.begin(), turns.end(), [](const auto& turn) { return turn == 1; });
        return all ? Outcome::right : Outcome::wrong;
      },
      Failure::nothing);
}

TEST_CASE("allocation failure: std::bad_alloc in a pool's task is no_memory, after the tasks before it") {
  cdna::ThreadPool pool(4);
  for (std::size_t bad = 0; bad < 50; ++bad) {
    std::array<std::atomic<bool>, 50> done{};
    const auto result = pool.run(done.size(), [&](std::size_t index, unsigned) -> Result<void> {
      if (index >= bad) throw std::bad_alloc();
      done[index] = true;
      return {};
    });
    REQUIRE_FALSE(result);
    CHECK(result.error().describe() == "out of memory [no_memory]");
    for (std::size_t i = 0; i < bad; ++i) CHECK(done[i]);
  }
}
