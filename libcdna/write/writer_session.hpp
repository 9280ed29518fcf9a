// What a Writer holds while a file grows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cdna/writer.hpp"
#include "libcdna/hash/sha256.hpp"
#include "libcdna/thread_pool.hpp"
#include "libcdna/write/packet_writer.hpp"
#include "libcdna/write/plane_plan.hpp"

namespace cdna {

class Writer::Session {
 public:
  Session(std::unique_ptr<Sink> sink, const WriterOptions& options);

  Result<void> write_head();
  Result<void> begin_exact(const TensorSpec& spec);
  Result<void> begin_asset(const std::string& name, const std::string& media_type, ItemDraft draft,
                           std::uint64_t size_bytes, Codec codec);
  Result<void> append(std::span<const std::byte> bytes);
  Result<std::uint32_t> end();
  // append() of all that `data` gives, then end().
  Result<std::uint32_t> copy_from(const ByteReader& data);

  Result<std::uint32_t> add_codebook(const TensorSpec& spec, const CodebookOptions& options, const ByteReader& data);
  Result<std::uint32_t> add_encoded(const TensorSpec& spec, const EncodedPlanes& planes);
  Result<std::uint32_t> add_alias(const std::string& name, std::uint32_t tensor);
  Result<std::uint32_t> add_asset(const std::string& name, const std::string& media_type, std::uint64_t size_bytes,
                                  Codec codec, const ByteReader& data);
  Result<Digest> finish(Metadata metadata);
  void rest() { pool_.rest(); }
  const WrittenItem& written(std::uint32_t item) const { return written_[item]; }

 private:
  // An item whose first plane takes the source bytes as they are.
  struct OpenItem {
    PacketWriter packet;
    wire::Plane plane;
    MatrixView matrix;
    BlockCoding coding;
    std::uint64_t block_count = 0;
    std::uint64_t next_block = 0;               // First block that is not in `batch`.
    std::vector<std::vector<std::byte>> batch;  // Whole blocks, then one that is being filled.
    std::uint64_t missing_bytes = 0;            // To fill the last block of `batch`.
    BulkHasher source_hasher;
    std::byte last_byte{0};
  };

  Result<void> check_new_name(bool tensor_class, const std::string& name, std::string_view type);
  Result<ItemDraft> draft_tensor(const TensorSpec& spec, std::string_view encoding);
  void open_item(ItemDraft draft, const PlaneShape& shape, const BlockCoding& coding);
  void open_block();
  Result<void> flush_batch();
  Result<std::uint32_t> close_item(PacketWriter& packet, WrittenItem written);
  Result<void> check_stop() const;

  class CodebookTensor;
  class EncodedTensor;

  std::uint64_t alignment_;
  PositionedSink sink_;
  ThreadPool pool_;
  std::vector<BlockEncoder> encoders_;  // Per worker.
  const std::atomic<bool>* stop_;
  PacketWalk walk_;
  FooterBuilder footer_;
  std::set<std::pair<bool, std::string>> names_;
  std::vector<bool> is_tensor_;
  std::vector<WrittenItem> written_;
  std::optional<OpenItem> open_;
};

}  // namespace cdna
