// A tensor of codes as the parts of an HXQ module.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/reader.hpp"

namespace cdna {

using PartSink = std::function<Result<void>(std::span<const std::byte>)>;

// What of a tensor HXQ can hold: nothing, where it has row or group scales, or is no matrix NAME.weight.
class HxqParts {
 public:
  // Nothing where HXQ has no form for the tensor; `reason` then says why, or is "" for what nobody would expect there.
  // Errors: those of the reader.
  static Result<std::optional<HxqParts>> of(const Tensor& tensor, std::string_view name, std::string& reason);

  struct Part {
    std::string name;  // Behind the module's: ".codebook".
    DType dtype = DType::none;
    std::vector<std::uint64_t> shape;
  };
  const std::vector<Part>& parts() const { return parts_; }
  std::uint64_t entries() const { return std::uint64_t{1} << bits_; }
  std::uint32_t vector() const { return vector_; }
  bool has_low_rank() const { return left_.has_value(); }

  // The bytes of a part, front to back. Requires: a number of parts(). Errors: those of the reader and of `sink`.
  Result<void> write(std::size_t part, const PartSink& sink) const;

 private:
  explicit HxqParts(const Tensor& tensor) : tensor_(tensor) {}
  Result<void> plan();
  Result<void> write_codebook(const PartSink& sink) const;
  Result<void> write_indices(const PartSink& sink) const;
  Result<void> write_positions(const PartSink& sink) const;
  Result<void> write_values(const PartSink& sink) const;
  Result<void> write_left(const PartSink& sink) const;
  Result<void> write_plane(std::uint32_t plane, const PartSink& sink) const;
  Result<void> for_each_block(const std::function<Result<void>(const Block&)>& use) const;

  Tensor tensor_;
  std::uint32_t bits_ = 0;
  std::uint32_t vector_ = 1;
  DType outlier_dtype_ = DType::none;
  std::optional<std::uint32_t> left_;  // Numbers of planes.
  std::optional<std::uint32_t> factors_;
  std::optional<std::uint32_t> right_;
  std::optional<std::uint32_t> column_scales_;
  std::vector<Part> parts_;
};

}  // namespace cdna
