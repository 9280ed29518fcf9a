// Parser of the JSON of safetensors headers.
#include "libcdna/import/safetensors_entries.hpp"

#include <string>
#include <utility>

#include "libcdna/import/json.hpp"
#include "libcdna/import/safetensors_header.hpp"
#include "libcdna/try.hpp"

namespace cdna {
namespace {

constexpr std::size_t kMetadataCountMax = 1 << 20;
constexpr std::size_t kRankMax = 64;  // NumPy and PyTorch: NPY_MAXDIMS and dim_bitset_size.

// Follows the document: {"__metadata__": {string: string}, NAME: {"dtype", "shape", "data_offsets", ...}, ...}.
class HeaderEvents final : public JsonEvents {
 public:
  Result<void> begin_object() override;
  Result<void> begin_array() override;
  Result<void> end() override;
  Result<void> key(std::string name) override;
  Result<void> scalar(JsonScalar value) override;

  SafetensorsEntries take() { return std::move(out_); }
  // The tensor being read, or "" between tensors.
  const std::string& current() const { return entry_.tensor.name; }

 private:
  enum class Place : std::uint8_t { document, top, metadata, tensor, shape, offsets, ignored };
  enum class Field : std::uint8_t { dtype, shape, offsets, other };

  static Field field_of(std::string_view name);
  Error malformed(std::string message) const { return fail_at(Code::malformed, current(), std::move(message)); }
  Error unexpected() const;
  Result<void> add_metadata(std::string value);
  Result<void> set_dtype(const std::string& name);
  Result<void> add_dimension(std::uint64_t value);
  Result<void> add_offset(std::uint64_t value);
  Result<void> end_tensor();

  Place place_ = Place::document;
  Field field_ = Field::other;
  std::size_t ignored_depth_ = 0;
  bool is_metadata_ = false;  // The key at the top that was read last is __metadata__.
  std::string metadata_key_;
  SafetensorsEntry entry_;
  std::size_t offset_count_ = 0;
  std::array<bool, 4> seen_{};  // By Field.
  SafetensorsEntries out_;
};

HeaderEvents::Field HeaderEvents::field_of(std::string_view name) {
  if (name == "dtype") return Field::dtype;
  if (name == "shape") return Field::shape;
  if (name == "data_offsets") return Field::offsets;
  return Field::other;
}

// What should have stood here; every wrong type ends up in this one place.
Error HeaderEvents::unexpected() const {
  switch (place_) {
    case Place::document:
      return malformed("the header is not a JSON object");
    case Place::top:
      return malformed(is_metadata_ ? "__metadata__ is not an object" : "the value of a tensor is not an object");
    case Place::metadata:
      return malformed("__metadata__: the value of " + quote(metadata_key_) + " is not a string");
    case Place::shape:
      return malformed("shape: a dimension is not an integer of 0 to 2^64-1");
    case Place::offsets:
      return malformed("data_offsets: an offset is not an integer of 0 to 2^64-1");
    case Place::tensor:
      break;
    case Place::ignored:
      break;
  }
  if (field_ == Field::dtype) return malformed("dtype is not a string");
  return malformed(field_ == Field::shape ? "shape is not an array" : "data_offsets is not an array");
}

Result<void> HeaderEvents::begin_object() {
  if (place_ == Place::document) {
    place_ = Place::top;
  } else if (place_ == Place::top) {
    place_ = is_metadata_ ? Place::metadata : Place::tensor;
  } else if (place_ == Place::ignored || (place_ == Place::tensor && field_ == Field::other)) {
    place_ = Place::ignored;
    ++ignored_depth_;
  } else {
    return unexpected();
  }
  return {};
}

Result<void> HeaderEvents::begin_array() {
  if (place_ == Place::tensor && field_ == Field::shape) {
    place_ = Place::shape;
  } else if (place_ == Place::tensor && field_ == Field::offsets) {
    place_ = Place::offsets;
  } else if (place_ == Place::ignored || (place_ == Place::tensor && field_ == Field::other)) {
    place_ = Place::ignored;
    ++ignored_depth_;
  } else {
    return unexpected();
  }
  return {};
}

Result<void> HeaderEvents::end() {
  switch (place_) {
    case Place::document:
    case Place::top:
      place_ = Place::document;
      return {};
    case Place::metadata:
      place_ = Place::top;
      return {};
    case Place::tensor:
      place_ = Place::top;
      return end_tensor();
    case Place::shape:
      place_ = Place::tensor;
      return {};
    case Place::offsets:
      place_ = Place::tensor;
      if (offset_count_ != 2) return malformed("data_offsets has one number or none, not two");
      return {};
    case Place::ignored:
      if (--ignored_depth_ == 0) place_ = Place::tensor;
      return {};
  }
  return {};
}

Result<void> HeaderEvents::key(std::string name) {
  if (place_ == Place::top) {
    is_metadata_ = name == kSafetensorsMetadataKey;
    if (!is_metadata_) entry_.tensor.name = std::move(name);
  } else if (place_ == Place::metadata) {
    metadata_key_ = std::move(name);
  } else if (place_ == Place::tensor) {
    field_ = field_of(name);
    // read_json finds all duplicates, but at the object's end; until then a second shape would lengthen the first.
    if (std::exchange(seen_[static_cast<std::size_t>(field_)], true) && field_ != Field::other) {
      return malformed("the key " + quote(name) + " occurs twice in one object");
    }
  }
  return {};
}

Result<void> HeaderEvents::scalar(JsonScalar value) {
  using Kind = JsonScalar::Kind;
  switch (place_) {
    case Place::ignored:
      return {};
    case Place::top:
      if (is_metadata_ && value.kind == Kind::null) return {};
      break;
    case Place::metadata:
      if (value.kind != Kind::string) break;
      return add_metadata(std::move(value.text));
    case Place::tensor:
      if (field_ == Field::other) return {};
      if (field_ != Field::dtype || value.kind != Kind::string) break;
      return set_dtype(value.text);
    case Place::shape:
      if (value.kind != Kind::size) break;
      return add_dimension(value.size);
    case Place::offsets:
      if (value.kind != Kind::size) break;
      return add_offset(value.size);
    case Place::document:
      break;
  }
  return unexpected();
}

Result<void> HeaderEvents::add_metadata(std::string value) {
  CDNA_CHECK(out_.metadata.size() < kMetadataCountMax, Code::limit, "",
             "__metadata__ has more than " + std::to_string(kMetadataCountMax) + " entries");
  out_.metadata.emplace(std::move(metadata_key_), std::move(value));
  return {};
}

Result<void> HeaderEvents::set_dtype(const std::string& name) {
  const std::optional<DType> dtype = dtype_of(name);
  if (!dtype) return fail_at(Code::unsupported, current(), "the dtype " + quote(name) + " is not known");
  entry_.tensor.dtype = *dtype;
  return {};
}

Result<void> HeaderEvents::add_dimension(std::uint64_t value) {
  if (entry_.tensor.shape.size() == kRankMax) {
    return fail_at(Code::limit, current(), "shape: more than " + std::to_string(kRankMax) + " dimensions");
  }
  entry_.tensor.shape.push_back(value);
  return {};
}

Result<void> HeaderEvents::add_offset(std::uint64_t value) {
  if (offset_count_ == 2) return malformed("data_offsets has more than two numbers");
  entry_.offsets[offset_count_++] = value;
  return {};
}

Result<void> HeaderEvents::end_tensor() {
  constexpr std::array<const char*, 3> kFields{"dtype", "shape", "data_offsets"};
  for (std::size_t i = 0; i < kFields.size(); ++i) {
    if (!seen_[i]) return malformed(std::string("has no ") + kFields[i]);
  }
  entry_.tensor.shape.shrink_to_fit();
  out_.entries.push_back(std::move(entry_));
  entry_ = {};
  offset_count_ = 0;
  seen_ = {};
  return {};
}

}  // namespace

Error fail_at(Code code, const std::string& tensor, std::string message) {
  Error error = fail(code, "", std::move(message));
  error.item = tensor;
  return error;
}

Result<SafetensorsEntries> parse_safetensors_entries(std::string_view json) {
  HeaderEvents events;
  auto result = read_json(json, events);
  if (result) return events.take();
  Error error = std::move(result).error();
  if (!events.current().empty()) error.item = events.current();
  return error;
}

}  // namespace cdna
