// Tensors and planes: finding them, what they are, and those that can be used in place.
#include "bindings/c/reader.hpp"

namespace cdna::c {
namespace {

Result<void> find(const cdna_reader* reader, const char* name, std::uint64_t* ret_tensor) {
  CDNA_TRY(need(reader, "reader"));
  const std::string_view wanted = CDNA_TRY(text(name, "name"));
  CDNA_TRY(need(ret_tensor, "ret_tensor"));
  std::uint32_t begin = 0;
  std::uint32_t end = reader->reader.tensor_count();
  while (begin < end) {
    const std::uint32_t middle = begin + (end - begin) / 2;
    if (reader->reader.tensor_item(middle).name() < wanted) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  if (begin < reader->reader.tensor_count() && reader->reader.tensor_item(begin).name() == wanted) {
    *ret_tensor = begin;
    return {};
  }
  Error error = fail(Code::not_found, "", "no such tensor");
  error.file = reader->name;
  error.item = wanted;
  return error;
}

std::uint32_t group_of(const Tensor& tensor) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    if (tensor.plane(i).role == CDNA_PLANE_GROUP_SCALE) return tensor.plane(i).group;
  }
  return 0;
}

// Whether no plane but data, codes, codebook, scales and outliers takes part in the values (spec/format.md, 13.2).
bool has_plain_planes(const Tensor& tensor) {
  for (std::uint32_t i = 0; i < tensor.plane_count(); ++i) {
    const std::uint16_t role = tensor.plane(i).role;
    if (role > CDNA_PLANE_OUTLIERS && role < CDNA_PLANE_IGNORABLE) return false;
  }
  return true;
}

// Errors: none but of memory.
Result<bool> is_supported(const Tensor& tensor) {
  const Result<void> checked = tensor.check_supported();
  if (!checked && checked.error().code != Code::unsupported) return checked.error();
  return checked.has_value();
}

void add_errors(const Tensor& tensor, cdna_tensor_info& info) {
  info.max_abs_error = tensor.max_abs_error();
  info.sum_squares = tensor.sum_squares();
  info.sum_squared_error = tensor.sum_squared_error();
  const Digest digest = tensor.source_digest();
  std::memcpy(info.source_digest, digest.data(), sizeof info.source_digest);
}

Result<cdna_tensor_info> info_of(const cdna_reader& reader, const NamedTensor& named) {
  const Tensor& tensor = named.tensor;
  const PlaneInfo first = tensor.plane(0);  // I10: there is one.
  const std::uint64_t stored_bytes = tensor.stored_bytes();
  cdna_tensor_info info{};
  info.dtype = static_cast<std::uint32_t>(tensor.dtype());
  info.name = reader.texts.name_of(named.item);
  info.encoding = reader.texts.type_of(tensor);
  info.alias_of = named.item.kind() == ItemKind::alias ? reader.texts.name_of(tensor) : nullptr;
  info.shape = tensor.shape().data();
  info.rank = static_cast<std::uint32_t>(tensor.shape().size());
  info.role = static_cast<std::uint32_t>(tensor.role());
  info.rows = tensor.rows();
  info.cols = tensor.cols();
  info.element_count = tensor.element_count();
  info.block_count = first.block_count;
  info.source_bytes = tensor.source_bytes();
  info.stored_bytes = stored_bytes;
  if (info.element_count != 0)
    info.bits_per_weight = 8 * static_cast<double>(stored_bytes) / static_cast<double>(info.element_count);
  info.plane_count = tensor.plane_count();
  info.bits = first.bits;
  info.group = group_of(tensor);
  info.supported = CDNA_TRY(is_supported(tensor)) ? 1 : 0;
  info.is_plain = info.supported != 0 && has_plain_planes(tensor) ? 1 : 0;
  add_errors(tensor, info);
  return info;
}

Result<void> describe(const cdna_reader* reader, std::uint64_t tensor, cdna_tensor_info* ret_info) {
  const NamedTensor named = CDNA_TRY(named_tensor(reader, tensor));
  return give_struct(CDNA_TRY(info_of(*reader, named)), ret_info, "ret_info");
}

Result<void> check(const cdna_reader* reader, std::uint64_t tensor) {
  return CDNA_TRY(tensor_of(reader, tensor)).check_supported();
}

// ---- Planes ----

Result<void> check_plane(const cdna_reader& reader, const Tensor& tensor, std::uint32_t plane) {
  if (plane < tensor.plane_count()) return {};
  return bad_argument_of(reader, tensor,
                         "plane is " + std::to_string(plane) + " of " + std::to_string(tensor.plane_count()));
}

Result<void> describe_plane(const cdna_reader* reader, std::uint64_t tensor, std::uint32_t plane,
                            cdna_plane_info* ret_info) {
  const Tensor found = CDNA_TRY(tensor_of(reader, tensor));
  CDNA_TRY(check_plane(*reader, found, plane));
  const PlaneInfo given = found.plane(plane);
  cdna_plane_info info{};
  info.role = given.role;
  info.dtype = static_cast<std::uint32_t>(given.dtype);
  info.bits = given.bits;
  info.group = given.group;
  info.block_count = given.block_count;
  info.rows = given.rows;
  info.row_entries = given.row_entries;
  info.rows_per_block = given.rows_per_block;
  info.offset = given.offset;
  info.stored_bytes = given.stored_bytes;
  info.layout = given.layout;
  info.scope = given.scope;
  info.vector = given.vector;
  return give_struct(info, ret_info, "ret_info");
}

// That the rows follow each other. What comes by blocks has no rows.
Result<void> check_no_gaps(const cdna_reader& reader, const Tensor& tensor, std::uint32_t plane, std::uint64_t size) {
  const PlaneInfo info = tensor.plane(plane);
  if (info.scope == CDNA_SCOPE_PER_BLOCK) return {};
  const std::uint64_t row_bytes = info.row_entries / 8 * info.bits + (info.row_entries % 8 * info.bits + 7) / 8;
  std::uint64_t rows_bytes = 0;
  if (!__builtin_mul_overflow(info.rows, row_bytes, &rows_bytes) && size == rows_bytes) return {};
  Error error = bad_argument_of(reader, tensor,
                                "the plane has gaps between its blocks, so that its rows have no pointer: it takes " +
                                    std::to_string(size) + " bytes for " + std::to_string(rows_bytes));
  error.plane = static_cast<std::int32_t>(plane);
  error.offset = info.offset;
  return error;
}

Result<void> give_plane(const cdna_reader* reader, std::uint64_t tensor, std::uint32_t plane, const void** ret_data,
                        std::uint64_t* ret_size) {
  const Tensor found = CDNA_TRY(tensor_of(reader, tensor));
  CDNA_TRY(check_plane(*reader, found, plane));
  CDNA_TRY(need(ret_data, "ret_data"));
  CDNA_TRY(need(ret_size, "ret_size"));
  const std::span<const std::byte> bytes = CDNA_TRY(found.plane_bytes(plane));
  CDNA_TRY(check_no_gaps(*reader, found, plane, bytes.size()));
  *ret_data = bytes.data();
  *ret_size = bytes.size();
  return {};
}

Result<void> give_codebook(const cdna_reader* reader, std::uint64_t tensor, const float** ret_entries,
                           std::uint64_t* ret_count) {
  const NamedTensor found = CDNA_TRY(named_tensor(reader, tensor));
  CDNA_TRY(need(ret_entries, "ret_entries"));
  CDNA_TRY(need(ret_count, "ret_count"));
  const std::span<const float> entries = CDNA_TRY(placed(*reader, found.item, found.tensor.codebook()));
  *ret_entries = entries.data();
  *ret_count = entries.size();
  return {};
}

}  // namespace
}  // namespace cdna::c

extern "C" {

uint64_t cdna_tensor_count(const cdna_reader* reader) { return reader == nullptr ? 0 : reader->reader.tensor_count(); }

cdna_code cdna_tensor_find(const cdna_reader* reader, const char* name, uint64_t* ret_tensor, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::find(reader, name, ret_tensor); });
}

cdna_code cdna_tensor_describe(const cdna_reader* reader, uint64_t tensor, cdna_tensor_info* ret_info,
                               cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe(reader, tensor, ret_info); });
}

cdna_code cdna_tensor_check(const cdna_reader* reader, uint64_t tensor, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::check(reader, tensor); });
}

cdna_code cdna_plane_describe(const cdna_reader* reader, uint64_t tensor, uint32_t plane, cdna_plane_info* ret_info,
                              cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::describe_plane(reader, tensor, plane, ret_info); });
}

cdna_code cdna_plane_data(const cdna_reader* reader, uint64_t tensor, uint32_t plane, const void** ret_data,
                          uint64_t* ret_size, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::give_plane(reader, tensor, plane, ret_data, ret_size); });
}

cdna_code cdna_codebook(const cdna_reader* reader, uint64_t tensor, const float** ret_entries, uint64_t* ret_count,
                        cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::give_codebook(reader, tensor, ret_entries, ret_count); });
}

}  // extern "C"
