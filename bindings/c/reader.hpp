// What is behind a cdna_reader: the C++ reader, and what C needs besides: texts that end with 0, assets by number.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/c/boundary.hpp"
#include "cdna/reader.hpp"

namespace cdna::c {

// Names and types of all items, each with a 0 behind it.
class ItemTexts {
 public:
  explicit ItemTexts(const Reader& reader);
  const char* name_of(const Item& item) const { return text_.data() + begins_[item.number()]; }
  const char* type_of(const Item& item) const { return name_of(item) + item.name().size() + 1; }

 private:
  std::string text_;
  std::vector<std::uint64_t> begins_;  // Of names, by number of the item.
};

struct MetadataEntry {
  std::string key;
  cdna_metadata_value value;  // Points into `key` and `data`.
  std::string data;
};

}  // namespace cdna::c

struct cdna_reader {
  cdna_reader(cdna::Reader opened, const cdna::Limits& opened_with);
  ~cdna_reader() { delete metadata.load(); }
  cdna_reader(const cdna_reader&) = delete;
  cdna_reader& operator=(const cdna_reader&) = delete;

  cdna::Reader reader;
  cdna::Limits limits;
  std::string name;
  std::string io;
  std::string io_reason;
  cdna::c::ItemTexts texts;
  std::vector<std::uint32_t> assets;  // Numbers of the items, in the order of names.

  // Read at the first use, without a lock: a source of the caller's is asked for it. Null before; owned.
  mutable std::atomic<const std::vector<cdna::c::MetadataEntry>*> metadata{nullptr};
};

namespace cdna::c {

// An item and what it is called; an alias leads to its tensor, but has its own name.
struct NamedTensor {
  Item item;
  Tensor tensor;
};

// Errors: bad_argument (null, no such tensor).
Result<NamedTensor> named_tensor(const cdna_reader* reader, std::uint64_t tensor);
inline Result<Tensor> tensor_of(const cdna_reader* reader, std::uint64_t tensor) {
  return CDNA_TRY(named_tensor(reader, tensor)).tensor;
}

// A range of rows of a tensor, by the name asked for. CDNA_ALL_ROWS is its last one here.
struct RowRange {
  NamedTensor named;
  std::uint64_t begin;
  std::uint64_t end;
};

// Errors: bad_argument (null, no such tensor, or not begin <= end <= rows of the tensor).
Result<RowRange> row_range(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t begin, std::uint64_t end);

// A bad_argument that names no tensor yet gets the names of file and tensor.
template <class T>
Result<T> placed(const cdna_reader& reader, const Item& item, Result<T> result) {
  if (result || result.error().code != Code::bad_argument) return result;
  if (result.error().file.empty()) result.error().file = reader.name;
  if (result.error().item.empty()) result.error().item = item.name();
  return result;
}

// A bad_argument with the names of file and tensor.
Error bad_argument_of(const cdna_reader& reader, const Item& item, std::string message);

}  // namespace cdna::c
