// Reading copies from the arrays.
#include "array_model.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <tuple>
#include <utility>

#include "container.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

Result<void> copy(const Borrowed& bytes, std::uint64_t offset, std::span<std::byte> out) {
  if (!out.empty()) std::memcpy(out.data(), bytes.read().data() + offset, out.size());
  return {};
}

}  // namespace

ArrayModel::ArrayModel(const nb::list& tensors, const nb::list& assets) {
  for (const nb::handle entry : tensors) {
    auto [name, dtype, shape, bytes] =
        nb::cast<std::tuple<std::string, std::string, std::vector<std::uint64_t>, nb::object>>(entry);
    tensor_bytes_.push_back(Borrowed::bytes(bytes));
    tensors_.push_back({name, dtype_named(dtype), shape, tensor_bytes_.back().read().size()});
  }
  for (const nb::handle entry : assets) {
    auto [name, media_type, bytes] = nb::cast<std::tuple<std::string, std::string, nb::object>>(entry);
    asset_bytes_.push_back(Borrowed::bytes(bytes));
    assets_.push_back({name, media_type, asset_bytes_.back().read().size()});
  }
}

Result<void> ArrayModel::read(std::size_t tensor, std::uint64_t offset, std::span<std::byte> out) const {
  return copy(tensor_bytes_[tensor], offset, out);
}

Result<void> ArrayModel::read_asset(std::size_t asset, std::uint64_t offset, std::span<std::byte> out) const {
  return copy(asset_bytes_[asset], offset, out);
}

}  // namespace cdna::python
