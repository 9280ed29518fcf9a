// Key-values of a file, read once and kept by the reader.
#include <algorithm>

#include "bindings/c/reader.hpp"

namespace cdna::c {
namespace {

using Entries = std::vector<MetadataEntry>;

// Fills in the kind and what belongs to it; texts and bytes go to `data`.
struct ValueTaker {
  MetadataEntry& entry;

  void operator()(std::monostate) const { entry.value.kind = CDNA_NULL; }
  void operator()(bool value) const {
    entry.value.kind = CDNA_BOOLEAN;
    entry.value.integer = value ? 1 : 0;
  }
  void operator()(std::int64_t value) const {
    entry.value.kind = CDNA_INT;
    entry.value.integer = value;
  }
  void operator()(std::uint64_t value) const {
    entry.value.kind = CDNA_UINT;
    entry.value.uinteger = value;
  }
  void operator()(double value) const {
    entry.value.kind = CDNA_FLOAT;
    entry.value.real = value;
  }
  void operator()(std::string& value) const { keep(CDNA_STRING, std::move(value)); }
  void operator()(JsonText& value) const { keep(CDNA_JSON, std::move(value.text)); }
  void operator()(const std::vector<std::byte>& value) const {
    keep(CDNA_BYTES, std::string(reinterpret_cast<const char*>(value.data()), value.size()));
  }

 private:
  void keep(std::uint32_t kind, std::string data) const {
    entry.value.kind = kind;
    entry.data = std::move(data);
    entry.value.size = entry.data.size();
  }
};

std::unique_ptr<const Entries> entries_of(Metadata metadata) {
  auto entries = std::make_unique<Entries>(metadata.size());
  std::size_t i = 0;
  for (auto& [key, value] : metadata) {
    MetadataEntry& entry = (*entries)[i++];
    entry.key = key;
    entry.value.key = entry.key.c_str();
    entry.value.key_size = entry.key.size();
    std::visit(ValueTaker{entry}, value);
    if (entry.value.kind >= CDNA_STRING) entry.value.data = entry.data.c_str();
  }
  return entries;
}

Result<const Entries*> metadata_of(const cdna_reader* reader) {
  CDNA_TRY(need(reader, "reader"));
  if (const Entries* known = reader->metadata.load(std::memory_order_acquire)) return known;
  std::unique_ptr<const Entries> read = entries_of(CDNA_TRY(reader->reader.metadata()));
  const Entries* expected = nullptr;
  // Several threads may read it; the first to publish it wins.
  if (reader->metadata.compare_exchange_strong(expected, read.get(), std::memory_order_acq_rel)) return read.release();
  return expected;
}

Result<void> count(const cdna_reader* reader, std::uint64_t* ret_count) {
  CDNA_TRY(need(ret_count, "ret_count"));
  *ret_count = CDNA_TRY(metadata_of(reader))->size();
  return {};
}

Result<void> at(const cdna_reader* reader, std::uint64_t index, cdna_metadata_value* ret_value) {
  const Entries& entries = *CDNA_TRY(metadata_of(reader));
  if (index >= entries.size())
    return bad_argument("index is " + std::to_string(index) + " of " + std::to_string(entries.size()));
  return give_struct(entries[index].value, ret_value, "ret_value");
}

Result<void> find(const cdna_reader* reader, const char* key, cdna_metadata_value* ret_value) {
  const std::string_view wanted = CDNA_TRY(text(key, "key"));
  const Entries& entries = *CDNA_TRY(metadata_of(reader));
  const auto place = std::lower_bound(entries.begin(), entries.end(), wanted,
                                      [](const MetadataEntry& entry, std::string_view of) { return entry.key < of; });
  if (place != entries.end() && place->key == wanted) return give_struct(place->value, ret_value, "ret_value");
  Error error = fail(Code::not_found, "", "no metadata of the key '" + std::string(wanted) + "'");
  error.file = reader->name;
  return error;
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_metadata_count(const cdna_reader* reader, uint64_t* ret_count, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::count(reader, ret_count); });
}

cdna_code cdna_metadata_at(const cdna_reader* reader, uint64_t index, cdna_metadata_value* ret_value,
                           cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::at(reader, index, ret_value); });
}

cdna_code cdna_metadata_find(const cdna_reader* reader, const char* key, cdna_metadata_value* ret_value,
                             cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::find(reader, key, ret_value); });
}

}  // extern "C"
