// Writing CDNA files front to back, in memory that does not grow with the file.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cdna/codec.hpp"
#include "cdna/digest.hpp"
#include "cdna/dtype.hpp"
#include "cdna/encode.hpp"
#include "cdna/error.hpp"
#include "cdna/metadata.hpp"
#include "cdna/preset.hpp"
#include "cdna/reader.hpp"
#include "cdna/sink.hpp"
#include "cdna/statistics.hpp"

namespace cdna {

struct WriterOptions {
  std::uint32_t alignment = 4096;  // Of large planes; a power of two, 64..65536.
  // Including the caller's; 0 means one per core. The others start with the first work for more than one. The file's
  // bytes do not depend on it.
  unsigned threads = 1;
  // When it becomes true, the call in progress fails with Code::cancelled. May be null.
  const std::atomic<bool>* stop = nullptr;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::none;
  std::vector<std::uint64_t> shape;
  Role role = Role::other;  // `embedding` gets smaller blocks (spec/format.md, section 17).
  Codec codec = Codec::raw;
  // byte_planes needs codec zstd, add_exact() or begin_tensor(), and dtype F16, BF16, F32 or F64.
  Filter filter = Filter::none;
};

// Fills `out` from byte `offset` of a tensor's row-major little-endian data. Called from several threads at once; must
// not throw.
using ByteReader = std::function<Result<void>(std::uint64_t offset, std::span<std::byte> out)>;

// What became of an item.
struct WrittenItem {
  std::uint64_t stored_bytes = 0;  // Planes and index.
  TensorStatistics statistics;     // All 0 but for codebook tensors.
};

// Not shared between threads. After an error the writer may only be destroyed, which leaves no file.
//
// Memory: 2 * threads blocks in flight, the index of one item, the footer, and up to 32 MiB of the later planes of one
// tensor (beyond that they wait in an unlinked temporary file). Errors of all add_ calls: io, exists (a name is taken),
// bad_argument, limit, no_memory, cancelled, and those of the ByteReader.
class Writer {
 public:
  // Writes the head. Errors: io, bad_argument (alignment).
  static Result<Writer> create(std::unique_ptr<Sink> sink, const WriterOptions& options = {});
  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();

  // Each returns the new item's number.
  Result<std::uint32_t> add_exact(const TensorSpec& spec, const ByteReader& data);
  // Requires dtype F16, BF16, F32 or F64 and 1..2^24 columns (bad_argument otherwise). Reads the data twice. A NaN or
  // infinity in it is bad_argument, with its place.
  Result<std::uint32_t> add_codebook(const TensorSpec& spec, const CodebookOptions& options, const ByteReader& data);
  // A codebook tensor whose planes exist already: they are written as they are, cut into blocks as add_codebook() cuts
  // them, and decode to the same values. Codes and outliers are compressed with spec.codec. The codebook becomes F16
  // where every entry is a binary16 number, else F32; so do group factors and group offsets.
  //
  // Differs from add_codebook() on the data that the planes were made of in what only the data can tell: the source
  // digest is unknown, every block has the whole tensor's max_abs_error, a codebook of class pwl or affine is not
  // claimed to be one, and without statistics the sums and bounds are +Inf (unknown) and there is no statistics plane.
  // Outlier values may be NaN or infinite: the item then says so, as with Nonfinite::exact.
  //
  // Requires of the planes, or bad_argument with what is wrong: dtype, rows and columns as for add_codebook(), rows of
  // at most 2^24 bytes of codes; bits, group and sizes as EncodedPlanes says; a codebook that ascends, unless codes
  // stand for several elements; codebook, scales, offsets and the matrix of low rank finite, no column scale 0; zero
  // bits behind the last code of each row; positions that ascend and lie in the matrix; statistics that are not
  // negative, with the right number of outliers and, within 10^-6, the right entropy (spec/format.md, D4). limit: over
  // 16 MiB of outliers in a block. Cost: reads the planes once or twice, copies a block at a time.
  Result<std::uint32_t> add_encoded(const TensorSpec& spec, const EncodedPlanes& planes);
  // Another name of an earlier tensor.
  Result<std::uint32_t> add_alias(const std::string& name, std::uint32_t tensor);
  Result<std::uint32_t> add_asset(const std::string& name, const std::string& media_type, std::uint64_t size_bytes,
                                  Codec codec, const ByteReader& data);

  // An exact tensor whose bytes arrive in order, in parts of any size.
  Result<void> begin_tensor(const TensorSpec& spec);
  Result<void> append(std::span<const std::byte> bytes);
  Result<std::uint32_t> end_tensor();

  // Ends the writer's threads until there is work for more than one again. Cost: as many thread starts then.
  void rest();

  // Requires: item < number of items added.
  const WrittenItem& written(std::uint32_t item) const;

  // Writes metadata (with "cdna.writer" added), footer and tail, and commits the sink. Returns the root.
  Result<Digest> finish(Metadata metadata = {});

 private:
  class Session;
  explicit Writer(std::unique_ptr<Session> session);
  std::unique_ptr<Session> session_;
};

// How many leading dimensions make the rows of the matrix view by default (spec/format.md, section 17).
std::uint8_t default_row_dims(DType dtype, std::span<const std::uint64_t> shape);

}  // namespace cdna
