// Big-endian sizes, a JSON header, and one zlib stream of positions (differences as LEB128) and half-precision values.
#include "libcdna/import/helix/hxzo.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "libcdna/import/helix/json_object.hpp"
#include "libcdna/import/inflate.hpp"
#include "libcdna/import/json.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::uint64_t kHeaderAt = 8;
constexpr std::uint64_t kLengthBytes = 4;       // Of the positions, before them.
constexpr std::uint64_t kPositionBytesMax = 9;  // 63 bits.
constexpr std::uint64_t kValueBytes = 2;
constexpr std::uint16_t kHalfExponent = 0x7C00;

std::uint32_t big_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (const std::byte byte : bytes) value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

Result<void> check_constants(const JsonObject& object) {
  const std::string schema = CDNA_TRY(text_field(object, "schema")).value_or("");
  CDNA_CHECK(schema == "hxzo_outlier_sidecar_v1" || schema == "hxzo_outlier_sidecar_v2", Code::unsupported, "",
             "schema " + quote(schema) + "; \"hxzo_outlier_sidecar_v1\" and _v2 are read");
  const std::string dtype = CDNA_TRY(text_field(object, "value_dtype")).value_or("float16");
  CDNA_CHECK(dtype == "float16", Code::unsupported, "", "values of dtype " + quote(dtype) + "; \"float16\" is read");
  const std::string positions = CDNA_TRY(text_field(object, "position_encoding")).value_or("delta_varint");
  CDNA_CHECK(positions == "delta_varint", Code::unsupported, "",
             "positions as " + quote(positions) + "; \"delta_varint\" is read");
  return {};
}

// Elements of a shape. Errors: limit.
Result<std::uint64_t> elements_of(const std::vector<std::uint64_t>& shape) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 63;
  std::uint64_t elements = 1;
  for (const std::uint64_t size : shape) {
    CDNA_CHECK(size == 0 || elements <= kMost / size, Code::limit, "", "\"shape\" has over 2^63 elements");
    elements *= size;
  }
  return elements;
}

Result<void> parse_header(std::string_view json, HxzoSidecar& out) {
  const JsonObject object = CDNA_TRY(parse_json_object(json));
  out.tensor_name = CDNA_TRY(text_field(object, "tensor_name")).value_or("");
  CDNA_TRY(check_constants(object));
  const auto shape = CDNA_TRY(shape_field(object, "shape"));
  const auto count = CDNA_TRY(size_field(object, "num_outliers"));
  CDNA_CHECK(shape && count && !out.tensor_name.empty(), Code::malformed, "",
             "the header lacks one of \"tensor_name\", \"shape\" and \"num_outliers\"");
  out.shape = *shape;
  out.stated_count = *count;
  add_metadata(object, "helix:sidecar",
               {"schema", "tensor_name", "shape", "num_outliers", "value_dtype", "position_encoding"}, out.metadata);
  return {};
}

// Differences, each in 7 bits a byte, the lowest first.
class Deltas {
 public:
  explicit Deltas(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool at_end() const { return at_ == bytes_.size(); }

  Result<std::uint64_t> next() {
    std::uint64_t value = 0;
    for (std::uint64_t i = 0; i < kPositionBytesMax; ++i) {
      CDNA_CHECK(at_ < bytes_.size(), Code::malformed, "", "the positions end too early");
      const auto byte = std::to_integer<std::uint64_t>(bytes_[at_++]);
      value |= (byte & 0x7F) << (7 * i);
      if ((byte & 0x80) == 0) return value;
    }
    return fail(Code::malformed, "", "a position has more than 63 bits");
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

bool is_finite_half(std::span<const std::byte> value) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, value.data(), sizeof bits);
  return (bits & kHalfExponent) != kHalfExponent;
}

// Of one place the last value stays.
void add_outlier(std::uint64_t position, std::span<const std::byte> value, HxzoSidecar& out) {
  if (!out.positions.empty() && out.positions.back() == position) {
    ++out.repeated_positions;
    out.values.resize(out.values.size() - kValueBytes);
  } else {
    out.positions.push_back(position);
  }
  out.values.insert(out.values.end(), value.begin(), value.end());
}

Result<void> parse_payload(std::span<const std::byte> payload, HxzoSidecar& out) {
  const std::uint64_t elements = CDNA_TRY(elements_of(out.shape));
  const std::uint64_t position_bytes = big_endian(payload.first(kLengthBytes));
  const std::uint64_t value_bytes = out.stated_count * kValueBytes;
  const std::uint64_t rest = payload.size() - kLengthBytes;
  CDNA_CHECK(position_bytes <= rest && rest - position_bytes == value_bytes, Code::malformed, "",
             std::to_string(rest) + " bytes, where " + std::to_string(position_bytes) + " of positions and " +
                 std::to_string(out.stated_count) + " values are stated");
  Deltas deltas(payload.subspan(kLengthBytes, position_bytes));
  const std::span<const std::byte> values = payload.last(value_bytes);
  std::uint64_t position = 0;
  for (std::uint64_t i = 0; i < out.stated_count; ++i) {
    const std::uint64_t delta = CDNA_TRY(deltas.next());
    CDNA_CHECK(delta < elements && position < elements - delta, Code::malformed, "",
               "outlier " + std::to_string(i) + " lies outside of the " + std::to_string(elements) + " elements");
    position += delta;
    add_outlier(position, values.subspan(i * kValueBytes, kValueBytes), out);
  }
  CDNA_CHECK(deltas.at_end(), Code::malformed, "", "positions follow the last outlier");
  for (std::size_t i = 0; i < out.positions.size(); ++i)
    out.nonfinite_values += is_finite_half(std::span(out.values).subspan(i * kValueBytes)) ? 0U : 1U;
  return {};
}

// Errors about the payload have its place.
Error at(Error error, std::uint64_t offset) {
  if (error.offset == kNoOffset) error.offset = offset;
  return error;
}

Result<void> read(const Source& source, HxzoSidecar& out) {
  const std::uint64_t file_bytes = source.size_bytes();
  CDNA_CHECK(file_bytes >= kHeaderAt, Code::truncated, "", "the file ends before its header", file_bytes);
  std::array<std::byte, kHeaderAt> head{};
  CDNA_TRY(source.read_at(0, head));
  CDNA_CHECK(std::memcmp(head.data(), "HXZO", 4) == 0, Code::malformed, "", "not an HXZO file", 0);
  const std::uint32_t version = big_endian(std::span(head).subspan(4, 2));
  CDNA_CHECK(version == 1 || version == 2, Code::unsupported, "",
             "version " + std::to_string(version) + " of HXZO, where 1 and 2 are known", 4);
  const std::uint64_t length = big_endian(std::span(head).subspan(6, 2));
  CDNA_CHECK(length <= file_bytes - kHeaderAt, Code::truncated, "", "the file ends within its header", file_bytes);
  std::string json(length, '\0');
  CDNA_TRY(source.read_at(kHeaderAt, std::as_writable_bytes(std::span(json))));
  const auto parsed = parse_header(json, out);
  if (!parsed) return at(parsed.error(), kHeaderAt);

  const std::uint64_t stream_at = kHeaderAt + length;
  const std::uint64_t stored = file_bytes - stream_at;
  CDNA_CHECK(out.stated_count / kInflateRatioMax <= stored, Code::malformed, "",
             std::to_string(out.stated_count) + " outliers in " + std::to_string(stored) + " bytes", kHeaderAt);
  Inflater inflater(source, stream_at, stored, Inflater::Format::zlib);
  const std::uint64_t least = kLengthBytes + out.stated_count * (1 + kValueBytes);
  const std::uint64_t most = kLengthBytes + out.stated_count * (kPositionBytesMax + kValueBytes);
  const auto payload = inflate(inflater, least, most);
  if (!payload) return at(payload.error(), stream_at);
  const auto checked = parse_payload(*payload, out);
  if (!checked) return at(checked.error(), stream_at);
  return {};
}

}  // namespace

Result<HxzoSidecar> read_hxzo(const Source& source) {
  return no_throw([&]() -> Result<HxzoSidecar> {
    HxzoSidecar sidecar;
    sidecar.file = std::string(source.name());
    auto result = read(source, sidecar);
    if (result) return sidecar;
    if (result.error().file.empty()) result.error().file = sidecar.file;
    if (result.error().item.empty()) result.error().item = sidecar.tensor_name;
    return result.error();
  });
}

}  // namespace cdna
