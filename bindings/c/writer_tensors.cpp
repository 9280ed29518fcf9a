// The C functions that put tensors into a file.
#include <cstring>
#include <string>

#include "bindings/c/arguments.hpp"
#include "bindings/c/encoded.hpp"
#include "bindings/c/writer.hpp"

namespace cdna::c {
namespace {

template <class T>
Result<T> named(Result<T> result, const std::string& name) {
  if (!result && result.error().item.empty()) result.error().item = name;
  return result;
}

// What all ways to add a tensor end with.
Result<void> register_tensor(cdna_writer& writer, const std::string& name, std::uint32_t number) {
  writer.tensors.emplace(name, number);
  return named(writer.progress.tell(writer.bytes_done, 0), name);
}

Result<void> add_data(cdna_writer& writer, const TakenTensor& tensor, const ByteReader& data) {
  SharedProgress progress(writer.progress, writer.bytes_done);
  const ByteReader read = [&](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    CDNA_TRY(data(offset, out));
    return progress.add(out.size());
  };
  const bool codes = tensor.preset.method == Preset::Method::codebook;
  const std::uint32_t number = CDNA_TRY(codes ? writer.writer->add_codebook(tensor.spec, tensor.preset.codebook, read)
                                              : writer.writer->add_exact(tensor.spec, read));
  return register_tensor(writer, tensor.spec.name, number);
}

Error wrong_size(const TakenTensor& tensor, std::uint64_t size) {
  Error error = bad_argument("size " + std::to_string(size) + ": shape and dtype give " +
                             std::to_string(tensor.size_bytes) + " bytes");
  error.item = tensor.spec.name;
  return error;
}

Result<void> add_memory(cdna_writer& writer, const cdna_tensor_spec* spec, const void* data, std::uint64_t size) {
  const TakenTensor tensor = CDNA_TRY(take_tensor(spec));
  if (size != tensor.size_bytes) return wrong_size(tensor, size);
  if (size != 0) CDNA_TRY(named(need(data, "data"), tensor.spec.name));
  return add_data(writer, tensor, [data](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    std::memcpy(out.data(), static_cast<const std::byte*>(data) + offset, out.size());
    return {};
  });
}

Result<void> add_from(cdna_writer& writer, const cdna_tensor_spec* spec, cdna_tensor_reader reader, void* context) {
  const TakenTensor tensor = CDNA_TRY(take_tensor(spec));
  CDNA_TRY(named(need(reinterpret_cast<const void*>(reader), "reader"), tensor.spec.name));
  return add_data(writer, tensor, [=](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    const std::int32_t returned = reader(context, offset, out.data(), out.size());
    if (returned != 0) return callback_failed("the tensor's reader failed", returned);
    return {};
  });
}

Result<void> check_same_matrix(const TakenTensor& tensor, const EncodedMatrix& matrix) {
  const auto view = [](std::uint64_t rows, std::uint64_t cols) {
    return std::to_string(rows) + " x " + std::to_string(cols);
  };
  if (tensor.spec.dtype != matrix.dtype) {
    return bad_argument("spec->dtype " + std::string(name_of(tensor.spec.dtype)) + ": " +
                        std::string(name_of(matrix.dtype)) + " was encoded");
  }
  if (tensor.rows != matrix.rows || tensor.cols != matrix.cols) {
    return bad_argument("spec->shape gives a matrix of " + view(tensor.rows, tensor.cols) + ": " +
                        view(matrix.rows, matrix.cols) + " was encoded");
  }
  return {};
}

Result<void> add_encoded(cdna_writer& writer, const cdna_tensor_spec* spec, const cdna_encoded* encoded) {
  cdna_tensor_spec without_preset = CDNA_TRY(take_struct(spec, "spec"));
  without_preset.struct_size = sizeof without_preset;
  without_preset.preset = nullptr;
  const TakenTensor tensor = CDNA_TRY(take_tensor(&without_preset));
  CDNA_TRY(named(need(encoded, "encoded"), tensor.spec.name));
  CDNA_TRY(named(check_same_matrix(tensor, encoded->matrix), tensor.spec.name));
  const std::uint32_t number = CDNA_TRY(writer.writer->add_encoded(tensor.spec, view(encoded->matrix)));
  writer.bytes_done += tensor.size_bytes;
  return register_tensor(writer, tensor.spec.name, number);
}

Result<void> begin(cdna_writer& writer, const cdna_tensor_spec* spec) {
  const TakenTensor tensor = CDNA_TRY(take_tensor(spec));
  if (tensor.preset.method == Preset::Method::codebook) {
    return named(Result<void>(bad_argument("spec->preset '" + name_of(tensor.preset) +
                                           "' reads the data twice: rows that arrive once can only be stored exactly")),
                 tensor.spec.name);
  }
  cdna_writer::OpenTensor open{tensor.spec.name, tensor.row_bytes, tensor.rows};
  CDNA_TRY(writer.writer->begin_tensor(tensor.spec));
  writer.open_tensor = std::move(open);
  return {};
}

Result<cdna_writer::OpenTensor*> need_open(cdna_writer& writer) {
  if (!writer.open_tensor) return bad_argument("no tensor has been begun");
  return &*writer.open_tensor;
}

Result<void> append_rows(cdna_writer& writer, const void* rows, std::uint64_t row_count) {
  cdna_writer::OpenTensor& open = *CDNA_TRY(need_open(writer));
  const auto append = [&]() -> Result<void> {
    if (row_count > open.rows_left) {
      return bad_argument("row_count " + std::to_string(row_count) + ": " + std::to_string(open.rows_left) +
                          " rows are left");
    }
    const std::uint64_t size = row_count * open.row_bytes;
    if (size != 0) CDNA_TRY(need(rows, "rows"));
    CDNA_TRY(writer.writer->append({static_cast<const std::byte*>(rows), size}));
    open.rows_left -= row_count;
    writer.bytes_done += size;
    return writer.progress.tell(writer.bytes_done, 0);
  };
  return named(append(), open.name);
}

Result<void> end(cdna_writer& writer) {
  const std::string name = CDNA_TRY(need_open(writer))->name;
  const std::uint32_t number = CDNA_TRY(named(writer.writer->end_tensor(), name));
  writer.open_tensor.reset();
  return register_tensor(writer, name, number);
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_writer_add(cdna_writer* writer, const cdna_tensor_spec* spec, const void* data, uint64_t size,
                          cdna_error* error) {
  return cdna::c::use_writer(writer, error,
                             [&](cdna_writer& used) { return cdna::c::add_memory(used, spec, data, size); });
}

cdna_code cdna_writer_add_from(cdna_writer* writer, const cdna_tensor_spec* spec, cdna_tensor_reader reader,
                               void* context, cdna_error* error) {
  return cdna::c::use_writer(writer, error,
                             [&](cdna_writer& used) { return cdna::c::add_from(used, spec, reader, context); });
}

cdna_code cdna_writer_add_encoded(cdna_writer* writer, const cdna_tensor_spec* spec, const cdna_encoded* encoded,
                                  cdna_error* error) {
  return cdna::c::use_writer(writer, error,
                             [&](cdna_writer& used) { return cdna::c::add_encoded(used, spec, encoded); });
}

cdna_code cdna_writer_begin(cdna_writer* writer, const cdna_tensor_spec* spec, cdna_error* error) {
  return cdna::c::use_writer(writer, error, [&](cdna_writer& used) { return cdna::c::begin(used, spec); });
}

cdna_code cdna_writer_append_rows(cdna_writer* writer, const void* rows, uint64_t row_count, cdna_error* error) {
  return cdna::c::use_writer(writer, error,
                             [&](cdna_writer& used) { return cdna::c::append_rows(used, rows, row_count); });
}

cdna_code cdna_writer_end(cdna_writer* writer, cdna_error* error) {
  return cdna::c::use_writer(writer, error, [&](cdna_writer& used) { return cdna::c::end(used); });
}

}  // extern "C"
