// Assets: files that belong to a model, such as its configuration and tokenizer.
#include <algorithm>

#include "bindings/c/reader.hpp"

namespace cdna::c {
namespace {

Asset asset_at(const cdna_reader& reader, std::uint64_t number) {
  return Asset(reader.reader.item(reader.assets[number]));
}

Result<Asset> asset_of(const cdna_reader* reader, std::uint64_t asset) {
  CDNA_TRY(need(reader, "reader"));
  if (asset < reader->assets.size()) return asset_at(*reader, asset);
  Error error = bad_argument("asset is " + std::to_string(asset) + " of " + std::to_string(reader->assets.size()));
  error.file = reader->name;
  return error;
}

Result<void> find(const cdna_reader* reader, const char* name, std::uint64_t* ret_asset) {
  CDNA_TRY(need(reader, "reader"));
  const std::string_view wanted = CDNA_TRY(text(name, "name"));
  CDNA_TRY(need(ret_asset, "ret_asset"));
  const auto place =
      std::lower_bound(reader->assets.begin(), reader->assets.end(), wanted,
                       [&](std::uint32_t item, std::string_view of) { return reader->reader.item(item).name() < of; });
  if (place != reader->assets.end() && reader->reader.item(*place).name() == wanted) {
    *ret_asset = static_cast<std::uint64_t>(place - reader->assets.begin());
    return {};
  }
  Error error = fail(Code::not_found, "", "no such asset");
  error.file = reader->name;
  error.item = wanted;
  return error;
}

Result<void> describe(const cdna_reader* reader, std::uint64_t number, cdna_asset_info* ret_info) {
  const Asset asset = CDNA_TRY(asset_of(reader, number));
  cdna_asset_info info{};
  info.name = reader->texts.name_of(asset);
  info.media_type = reader->texts.type_of(asset);
  info.size = asset.size_bytes();
  info.stored_bytes = asset.stored_bytes();
  return give_struct(info, ret_info, "ret_info");
}

Result<void> read(const cdna_reader* reader, std::uint64_t number, std::uint64_t offset, void* out,
                  std::uint64_t size) {
  const Asset asset = CDNA_TRY(asset_of(reader, number));
  if (offset > asset.size_bytes() || size > asset.size_bytes() - offset)
    return bad_argument_of(*reader, asset,
                           "offset is " + std::to_string(offset) + " and size " + std::to_string(size) + " of " +
                               std::to_string(asset.size_bytes()) + " bytes");
  if (size != 0) CDNA_TRY(need(out, "out"));
  return asset.read(offset, {static_cast<std::byte*>(out), size});
}

}  // namespace
}  // namespace cdna::c

extern "C" {

uint64_t cdna_asset_count(const cdna_reader* reader) { return reader == nullptr ? 0 : reader->assets.size(); }

cdna_code cdna_asset_find(const cdna_reader* reader, const char* name, uint64_t* ret_asset, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::find(reader, name, ret_asset); });
}

cdna_code cdna_asset_describe(const cdna_reader* reader, uint64_t asset, cdna_asset_info* ret_info, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe(reader, asset, ret_info); });
}

cdna_code cdna_asset_read(const cdna_reader* reader, uint64_t asset, uint64_t offset, void* out, uint64_t size,
                          cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::read(reader, asset, offset, out, size); });
}

}  // extern "C"
