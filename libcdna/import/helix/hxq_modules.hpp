// The modules of an HXQ checkpoint: which tensors make up a weight, and its shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/import.hpp"
#include "libcdna/import/helix/codebook_tensor.hpp"
#include "libcdna/import/helix/skipped_names.hpp"

namespace cdna {

enum class IndexForm : std::uint8_t { bytes, words, packed_12bit };  // words: of 16 bits or more.

struct HxqModule {
  std::string name;         // Without ".weight".
  bool is_skipped = false;  // Nothing but its name is known.
  // Numbers of tensors in the checkpoint.
  std::size_t codebook = 0;
  std::size_t indices = 0;
  std::optional<std::size_t> positions;  // With values, or neither.
  std::optional<std::size_t> values;
  std::optional<std::size_t> svd_u;  // All three or none.
  std::optional<std::size_t> svd_s;
  std::optional<std::size_t> svd_vt;
  std::optional<std::size_t> channel_scales;
  IndexForm form = IndexForm::bytes;
  std::uint64_t entries = 0;  // k of the codebook.
  std::uint32_t vector = 1;
  std::uint64_t rows = 0;  // 0: 12-bit indices, whose shape nothing here tells.
  std::uint64_t cols = 0;

  std::string weight() const { return name + ".weight"; }
  std::uint64_t index_count(const Model& checkpoint) const;
};

// The number of a tensor by its name.
std::optional<std::size_t> find_tensor(const Model& model, std::string_view name);

// Whether a model has tensors M.codebook and M.indices with the dimensions that HXQ gives them: the codebook of any
// float (a model that was cast), indices of 8 or 16 bits.
bool has_hxq_codes(const Model& checkpoint);

// Whether a tensor is called as a part of a module is.
bool has_hxq_parts(const Model& checkpoint);

// All modules, in the order of their names, with the shapes that their tensors tell; those whose weight is to be
// skipped are not looked into. Indices may be I32, U32 or I64, too. None where no module has codebook and indices, and
// not `is_stated` that there are any; else parts of a module without codebook and indices are errors, unless their
// names are to be skipped. Errors: malformed (sizes that do not fit each other, half a sidecar or module), unsupported
// (dtypes), limit; with the tensor.
Result<std::vector<HxqModule>> find_hxq_modules(const Model& checkpoint, bool is_stated, SkippedNames& skipped);

// Numbers of the tensors that a module is made of, its bias not among them.
std::vector<std::size_t> tensors_of(const Model& checkpoint, const HxqModule& module);

// Gives a shape to a module with 12-bit indices, or says which one it already has. Errors: malformed: not of so many
// elements, or the tensors say otherwise; `source` is named.
Result<void> set_shape(HxqModule& module, const Model& checkpoint, std::uint64_t rows, std::uint64_t cols,
                       const std::string& source);

// The tensors of a module in memory, floats widened to F32. Requires: rows is not 0. Errors: io, malformed, unsupported
// (an F64 that F32 does not have).
Result<CodebookTensor> read_module(const Model& checkpoint, const HxqModule& module);
Result<HelixSidecar> read_sidecar(const Model& checkpoint, const HxqModule& module);

}  // namespace cdna
