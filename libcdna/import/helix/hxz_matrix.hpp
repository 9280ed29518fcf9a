// One matrix in a file of helix-substrate's CDNA v1 (HXZC) or v2 (HXZ2): 256 codebook entries and an index per value.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cdna/error.hpp"
#include "cdna/metadata.hpp"
#include "cdna/source.hpp"
#include "libcdna/import/helix/sorted_codebook.hpp"

namespace cdna {

inline constexpr std::size_t kHxzCodebookEntries = 256;
inline constexpr std::size_t kHxzCodebookBytes = 4 * kHxzCodebookEntries;

// What the header says, all of it checked against the file's size.
struct HxzHeader {
  std::string tensor_name;  // "" in v1, which has none.
  std::uint64_t rows = 0;
  std::uint64_t cols = 0;
  Metadata metadata;  // "helix:KEY"
};

// Const methods may be called from any thread.
class HxzMatrix {
 public:
  virtual ~HxzMatrix() = default;
  const HxzHeader& header() const { return header_; }
  // "none" or "payload only", and why.
  virtual std::string_view integrity() const = 0;
  virtual std::string_view integrity_reason() const = 0;
  // Codebook and codes, [rows, cols], of 8 bits. Memory: twice rows * cols. Errors: io, corrupt, malformed, no_memory;
  // with file and tensor.
  virtual Result<CodedMatrix> read() const = 0;

 protected:
  HxzHeader header_;
};

// Errors: io, truncated, malformed, limit, unsupported; offset is in the file.
Result<std::unique_ptr<HxzMatrix>> open_hxzc(std::unique_ptr<Source> source);
Result<std::unique_ptr<HxzMatrix>> open_hxz2(std::unique_ptr<Source> source);

// The one of these that the file begins as; nullptr for neither. Errors: as above.
Result<std::unique_ptr<HxzMatrix>> open_hxz(std::unique_ptr<Source> source);

// Entries as they stand in a file. Requires: 1024 bytes.
std::vector<float> hxz_codebook(std::span<const std::byte> bytes);

}  // namespace cdna
