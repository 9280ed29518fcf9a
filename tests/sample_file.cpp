// The sample files.
#include "sample_file.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "libcdna/format/wire.hpp"

namespace cdna::test {

std::vector<std::byte> bf16_of(const std::vector<float>& values) {
  std::vector<std::byte> out(2 * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::memcpy(out.data() + 2 * i, reinterpret_cast<const std::byte*>(&values[i]) + 2, 2);
  }
  return out;
}

ByteReader reader_of(const std::vector<std::byte>& bytes) {
  return [&bytes](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    if (!out.empty()) std::memcpy(out.data(), bytes.data() + offset, out.size());
    return {};
  };
}

std::vector<std::byte> write_file(const WriterOptions& options, const std::function<void(Writer&)>& add,
                                  Metadata metadata) {
  std::vector<std::byte> out;
  Writer writer = must(Writer::create(memory_sink(out), options));
  add(writer);
  must(writer.finish(std::move(metadata)));
  return out;
}

namespace {

constexpr std::uint64_t kSeed = 20240117;

void add_exact(Writer& writer, const TensorSpec& spec, const std::vector<std::byte>& bytes) {
  must(writer.add_exact(spec, reader_of(bytes)));
}

void add_codebook(Writer& writer, const TensorSpec& spec, const std::vector<std::byte>& bytes) {
  must(writer.add_codebook(spec, {}, reader_of(bytes)));
}

void add_asset(Writer& writer, const std::string& name, const std::string& type, Codec codec, const std::string& text) {
  const auto view = std::as_bytes(std::span(text));
  const std::vector<std::byte> bytes(view.begin(), view.end());
  must(writer.add_asset(name, type, bytes.size(), codec, reader_of(bytes)));
}

// Bytes that compress to about a half: every other one is zero.
std::vector<std::byte> half_random(Random& random, std::size_t size) {
  std::vector<std::byte> out = random.bytes(size);
  for (std::size_t i = 1; i < size; i += 2) out[i] = std::byte{0};
  return out;
}

std::string words(Random& random, std::size_t count) {
  static constexpr std::string_view kWords[] = {"row",   "column",  "block", "plane",  "codebook",
                                                "scale", "outlier", "index", "footer", "tail"};
  std::string out;
  for (std::size_t i = 0; i < count; ++i) {
    out += kWords[random.below(std::size(kWords))];
    out += i % 9 == 8 ? '\n' : ' ';
  }
  return out;
}

Metadata every_type(Random& random) {
  return {{"bool", true},
          {"bytes", random.bytes(21)},
          {"f64", -0.1},
          {"i64", std::int64_t{-5}},
          {"json", JsonText{R"({"preset": "cb8"})"}},
          {"null", std::monostate{}},
          {"string", std::string("\xC3\xA9t\xC3\xA9")},
          {"u64", ~std::uint64_t{0}}};
}

// 65 rows in two blocks of 64 and 1: the codes of the first compress to nearly nothing, those of the last stay raw.
std::vector<std::byte> embedding(Random& random) {
  constexpr std::size_t kCols = 4096;
  std::vector<float> values(64 * kCols);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = i % 3 == 0 ? 0.5F : -0.5F;
  const std::vector<float> last = random.weights(kCols);
  values.insert(values.end(), last.begin(), last.end());
  return bf16_of(values);
}

}  // namespace

std::vector<std::byte> make_sample() {
  Random random(kSeed);
  // A = 128: the large planes begin at multiples of it, all others at multiples of 64.
  return write_file(
      {128, 1, nullptr},
      [&](Writer& writer) {
        add_codebook(writer, {"model.embed_tokens.weight", DType::bf16, {65, 4096}, Role::embedding, Codec::zstd},
                     embedding(random));
        add_codebook(writer, {"layers.0.mlp.weight", DType::f32, {48, 200}, Role::matrix, Codec::raw},
                     bytes_of_values(random.weights(9600)));
        add_exact(writer, {"layers.0.attention.weight", DType::f32, {64, 66}, Role::matrix, Codec::raw},
                  bytes_of_values(random.weights(4224)));
        add_exact(writer, {"layers.0.norm.weight", DType::bf16, {100}, Role::norm, Codec::raw},
                  bf16_of(random.weights(100)));
        add_exact(writer, {"layers.0.gate", DType::f4, {3, 4}, Role::other, Codec::raw}, random.bytes(6));
        add_exact(writer, {"layers.0.gate_scale", DType::f6_e3m2, {12}, Role::other, Codec::raw}, random.bytes(9));
        add_exact(writer, {"layers.0.brotli", DType::i16, {64, 50}, Role::matrix, Codec::brotli},
                  half_random(random, 6400));
        add_exact(writer, {"layers.0.zstd", DType::f64, {10, 80}, Role::matrix, Codec::zstd},
                  half_random(random, 6400));
        add_exact(writer, {"layers.0.planes", DType::bf16, {40, 64}, Role::matrix, Codec::zstd, Filter::byte_planes},
                  bf16_of(random.weights(2560)));
        add_exact(writer, {"temperature", DType::f32, {}, Role::other, Codec::raw}, random.bytes(4));
        add_exact(writer, {"nothing", DType::f16, {0, 5}, Role::other, Codec::zstd}, {});
        add_exact(writer, {"incompressible", DType::u8, {7, 300}, Role::other, Codec::brotli}, random.bytes(2100));
        must(writer.add_alias("lm_head.weight", 0));
        add_asset(writer, "config.json", "application/json", Codec::raw, words(random, 1200));
        add_asset(writer, "tokenizer.json", "application/json", Codec::brotli, words(random, 1200));
        add_asset(writer, "LICENSE", "text/plain", Codec::zstd, words(random, 500));
        add_asset(writer, "empty.txt", "text/plain", Codec::raw, "");
      },
      every_type(random));
}

std::vector<std::byte> make_small_sample() {
  Random random(kSeed + 1);
  return write_file(
      {64, 1, nullptr},
      [&](Writer& writer) {
        add_codebook(writer, {"a.weight", DType::f16, {3, 10}, Role::matrix, Codec::zstd}, half_random(random, 60));
        add_exact(writer, {"b.weight", DType::f4, {3, 3}, Role::other, Codec::raw},
                  {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}});
        add_exact(writer, {"zstd", DType::u8, {2, 80}, Role::other, Codec::zstd}, half_random(random, 160));
        add_exact(writer, {"planes", DType::f32, {2, 40}, Role::matrix, Codec::zstd, Filter::byte_planes},
                  bytes_of_values(std::vector<float>(80, 1.25F)));
        add_exact(writer, {"brotli", DType::i32, {40}, Role::other, Codec::brotli}, half_random(random, 160));
        must(writer.add_alias("c.weight", 0));
        add_asset(writer, "t", "text/plain", Codec::raw, words(random, 3));
      },
      {{"s", std::string("x")}});
}

std::string_view name_of(Part part) {
  switch (part) {
    case Part::head:
      return "head";
    case Part::block:
      return "block";
    case Part::index:
      return "index";
    case Part::record:
      return "record";
    case Part::gap:
      return "gap";
    case Part::footer:
      return "footer";
    case Part::tail:
      return "tail";
  }
  return "?";
}

std::vector<Region> regions_of(std::span<const std::byte> file) {
  const auto tail = load<wire::Tail>(file.last(kTailBytes));
  const std::span<const std::byte> footer = file.subspan(tail.footer_offset(), tail.footer_length());
  std::vector<Region> regions;
  const auto add = [&regions](Part part, std::uint32_t item, std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t position = regions.empty() ? 0 : regions.back().end;
    if (position > begin) throw std::runtime_error("regions overlap at byte " + std::to_string(begin));
    if (position < begin) regions.push_back({Part::gap, Region::kNoItem, position, begin});
    if (begin < end) regions.push_back({part, item, begin, end});
  };
  add(Part::head, Region::kNoItem, 0, kHeadBytes);
  // Section 6: the first count stands at 52, the next at the next place that is 4 mod 8.
  const std::size_t items_at = 56;
  const std::size_t planes_at = (items_at + sizeof(wire::Item) * tail.item_count() + 3) / 8 * 8 + 8;
  std::size_t plane_number = 0;
  for (std::uint32_t number = 0; number < tail.item_count(); ++number) {
    const auto item = load<wire::Item>(footer.subspan(items_at + number * sizeof(wire::Item)));
    std::uint64_t entry_at = item.index_offset();
    for (unsigned i = 0; i < item.plane_count(); ++i) {
      const auto plane = load<wire::Plane>(footer.subspan(planes_at + plane_number++ * sizeof(wire::Plane)));
      for (std::uint32_t block = 0; block < plane.block_count(); ++block, entry_at += sizeof(wire::IndexEntry)) {
        const auto entry = load<wire::IndexEntry>(file.subspan(entry_at));
        const std::uint64_t begin = plane.offset() + entry.offset();
        if (entry.stored_length() != 0) add(Part::block, number, begin, begin + entry.stored_length());
      }
    }
    if (item.entry_count() != 0) add(Part::index, number, item.index_offset(), entry_at);
    const std::uint64_t record = (regions.back().end + 63) / 64 * 64;
    const std::uint64_t bytes =
        64 + 160 + 8ULL * item.rank() + 48ULL * item.plane_count() + item.name_length() + item.type_length();
    add(Part::record, number, record, record + (bytes + 63) / 64 * 64);
  }
  add(Part::footer, Region::kNoItem, tail.footer_offset(), tail.footer_offset() + tail.footer_length());
  add(Part::tail, Region::kNoItem, file.size() - kTailBytes, file.size());
  return regions;
}

Result<std::vector<std::byte>> read_item(const Reader& reader, std::uint32_t number) {
  const Item item = reader.item(number);
  if (auto result = item.verify(); !result) return result.error();
  std::vector<std::byte> bytes;
  if (item.kind() == ItemKind::tensor) {
    const Tensor tensor = reader.resolve(item);
    if (auto result = tensor.check_supported(); !result) return result.error();
    const DType dtype = tensor.encoding() == "cdna.exact" ? tensor.dtype() : DType::f32;
    bytes.resize(tensor.rows() * tensor.row_bytes(dtype));
    if (auto result = tensor.read_rows(0, tensor.rows(), dtype, bytes); !result) return result.error();
  } else if (item.kind() == ItemKind::asset || item.kind() == ItemKind::metadata) {
    const Asset asset(item);
    bytes.resize(asset.size_bytes());
    if (auto result = asset.read(0, bytes); !result) return result.error();
    if (item.kind() == ItemKind::metadata) {
      if (auto metadata = reader.metadata(); !metadata) return metadata.error();
    }
  }
  return bytes;
}

}  // namespace cdna::test
