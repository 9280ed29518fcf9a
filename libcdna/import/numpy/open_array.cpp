// What cannot be read in pieces is kept until another is asked for.
#include "libcdna/import/numpy/open_array.hpp"

#include <algorithm>
#include <utility>

#include "libcdna/try.hpp"

namespace cdna {
namespace {

bool are_same(const NpyHeader& a, const NpyHeader& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.is_big_endian == b.is_big_endian &&
         a.is_column_major == b.is_column_major && a.data_begin == b.data_begin;
}

Error changed(const Source& source) {
  Error error = fail(Code::io, "", "the file changed while it was read");
  error.file = source.name();
  return error;
}

}  // namespace

ModelTensor array_tensor(std::string name, const NpyHeader& header) {
  ModelTensor tensor;
  tensor.name = std::move(name);
  tensor.dtype = header.dtype;
  tensor.shape = header.shape;
  tensor.size_bytes = header.size_bytes;
  return tensor;
}

Result<OpenArray> OpenArray::open(std::shared_ptr<const Source> source, const NpyHeader& header) {
  auto now = read_npy_header(*source);
  if (!now && now.error().code == Code::io) return std::move(now).error();
  if (!now || !are_same(*now, header)) return changed(*source);
  OpenArray array;
  array.header_ = header;
  array.source_ = std::move(source);
  if (!header.is_column_major) return array;
  array.values_.resize(header.size_bytes);
  CDNA_TRY(read_npy(*array.source_, header, 0, array.values_));
  return array;
}

Result<void> OpenArray::read(std::uint64_t offset, std::span<std::byte> out) const {
  if (!header_.is_column_major) return read_npy(*source_, header_, offset, out);
  std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

Result<void> LastArray::read(std::size_t tensor, const Open& open, std::uint64_t offset,
                             std::span<std::byte> out) const {
  std::shared_ptr<const OpenArray> array;
  {
    const std::lock_guard lock(mutex_);
    if (tensor_ != tensor) {
      tensor_.reset();
      array_.reset();  // Two at once could be twice the memory.
      array_ = std::make_shared<OpenArray>(CDNA_TRY(open(tensor)));
      tensor_ = tensor;
    }
    array = array_;
  }
  return array->read(offset, out);
}

}  // namespace cdna
