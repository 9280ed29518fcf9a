// Readers as C sees them: what they are, and what they have done.
#include "bindings/c/reader.hpp"

#include <algorithm>

namespace cdna::c {
namespace {

std::vector<std::uint32_t> assets_of(const Reader& reader) {
  std::vector<std::uint32_t> assets;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    if (reader.item(i).kind() == ItemKind::asset) assets.push_back(i);
  }
  std::sort(assets.begin(), assets.end(),
            [&reader](std::uint32_t a, std::uint32_t b) { return reader.item(a).name() < reader.item(b).name(); });
  return assets;
}

cdna_reader_info info_of(const cdna_reader& handle) {
  const Reader& reader = handle.reader;
  cdna_reader_info info{};
  info.alignment = reader.alignment();
  std::memcpy(info.root, reader.root().data(), sizeof info.root);
  info.file_bytes = reader.file_bytes();
  info.footer_bytes = reader.footer_bytes();
  info.tensor_count = reader.tensor_count();
  info.asset_count = handle.assets.size();
  info.required_features = reader.required_features();
  info.optional_features = reader.optional_features();
  info.trust = reader.trust() == Trust::zero_copy ? CDNA_TRUST_ZERO_COPY : CDNA_TRUST_STRICT;
  info.io = handle.io.c_str();
  info.io_reason = handle.io_reason.c_str();
  info.name = handle.name.c_str();
  return info;
}

cdna_statistics statistics_of(const ReadStatistics& counts) {
  cdna_statistics statistics{};
  statistics.bytes_read = counts.bytes_read;
  statistics.bytes_hashed = counts.bytes_hashed;
  statistics.bytes_decoded = counts.bytes_decoded;
  statistics.blocks_verified = counts.blocks_verified;
  statistics.blocks_decoded = counts.blocks_decoded;
  statistics.blocks_reused = counts.blocks_reused;
  statistics.read_ns = counts.read_ns;
  statistics.verify_ns = counts.verify_ns;
  statistics.decode_ns = counts.decode_ns;
  return statistics;
}

Result<void> describe(const cdna_reader* reader, cdna_reader_info* ret_info) {
  CDNA_TRY(need(reader, "reader"));
  return give_struct(info_of(*reader), ret_info, "ret_info");
}

Result<void> give_statistics(const cdna_reader* reader, cdna_statistics* ret_statistics) {
  CDNA_TRY(need(reader, "reader"));
  return give_struct(statistics_of(reader->reader.statistics()), ret_statistics, "ret_statistics");
}

}  // namespace

ItemTexts::ItemTexts(const Reader& reader) {
  std::uint64_t size = 0;
  for (std::uint32_t i = 0; i < reader.item_count(); ++i)
    size += reader.item(i).name().size() + reader.item(i).type().size() + 2;
  text_.reserve(size);
  begins_.reserve(reader.item_count());
  for (std::uint32_t i = 0; i < reader.item_count(); ++i) {
    begins_.push_back(text_.size());
    text_.append(reader.item(i).name()).push_back('\0');
    text_.append(reader.item(i).type()).push_back('\0');
  }
}

Result<NamedTensor> named_tensor(const cdna_reader* reader, std::uint64_t tensor) {
  CDNA_TRY(need(reader, "reader"));
  const std::uint64_t count = reader->reader.tensor_count();
  if (tensor >= count) {
    Error error = bad_argument("tensor is " + std::to_string(tensor) + " of " + std::to_string(count));
    error.file = reader->name;
    return error;
  }
  const Item item = reader->reader.tensor_item(static_cast<std::uint32_t>(tensor));
  return NamedTensor{item, reader->reader.resolve(item)};
}

Result<RowRange> row_range(const cdna_reader* reader, std::uint64_t tensor, std::uint64_t begin, std::uint64_t end) {
  const NamedTensor named = CDNA_TRY(named_tensor(reader, tensor));
  const std::uint64_t rows = named.tensor.rows();
  const std::uint64_t last = end == CDNA_ALL_ROWS ? rows : end;
  if (begin <= last && last <= rows) return RowRange{named, begin, last};
  return bad_argument_of(*reader, named.item,
                         "row_begin is " + std::to_string(begin) + " and row_end " + std::to_string(last) + " of " +
                             std::to_string(rows) + " rows");
}

Error bad_argument_of(const cdna_reader& reader, const Item& item, std::string message) {
  Error error = bad_argument(std::move(message));
  error.file = reader.name;
  error.item = item.name();
  return error;
}

}  // namespace cdna::c

cdna_reader::cdna_reader(cdna::Reader opened, const cdna::Limits& opened_with)
    : reader(std::move(opened)),
      limits(opened_with),
      name(reader.source().name()),
      io(reader.source().backend()),
      io_reason(reader.source().reason()),
      texts(reader),
      assets(cdna::c::assets_of(reader)) {}

extern "C" {

void cdna_reader_free(cdna_reader* reader) { cdna::c::free_handle(reader); }

cdna_code cdna_reader_describe(const cdna_reader* reader, cdna_reader_info* ret_info, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe(reader, ret_info); });
}

cdna_code cdna_statistics_get(const cdna_reader* reader, cdna_statistics* ret_statistics, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::give_statistics(reader, ret_statistics); });
}

}  // extern "C"
