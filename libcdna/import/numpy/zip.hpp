// The little of zip archives that .npz files need: the central directory, stored and deflated members.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdna/error.hpp"
#include "cdna/source.hpp"

namespace cdna {

inline constexpr std::uint64_t kZipMembersMax = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kZipDirectoryBytesMax = std::uint64_t{100} << 20;

struct ZipMember {
  std::string name;                // Raw bytes: data, never a path.
  std::uint64_t size_bytes = 0;    // Decompressed: at most 1032 times stored_bytes, the most that deflate can give.
  std::uint64_t stored_bytes = 0;  // In the archive, from data_begin.
  std::uint64_t data_begin = 0;
  std::uint32_t crc32 = 0;
  bool is_deflated = false;
};

// A zip archive (PKWARE's APPNOTE 6.3, with zip64) in one file. Const methods may be called from any thread.
class ZipArchive {
 public:
  // Reads and checks the directory: every member's local header agrees with it, and no two members overlap. Errors: io,
  // malformed (also: a name twice), truncated, limit (members, directory), unsupported (encryption, a compression, an
  // archive in several files); with the source's name as file, the member's as item.
  static Result<ZipArchive> open(std::shared_ptr<const Source> source);

  std::span<const ZipMember> members() const { return members_; }  // Sorted by name, unique.
  std::optional<std::size_t> find(std::string_view name) const;

  // The first bytes of a member, at most `size`, before its checksum could be checked: for the header within. Errors:
  // io, malformed, truncated.
  Result<std::vector<std::byte>> read_head(std::size_t member, std::size_t size) const;

  // A member as a source, its checksum checked. Cost: reads all of it; a deflated one lies in memory afterwards, a
  // stored one stays in the archive, which the source keeps open. Errors: io, malformed, corrupt (its CRC-32),
  // no_memory.
  Result<std::unique_ptr<Source>> open_member(std::size_t member) const;

 private:
  ZipArchive() = default;
  std::shared_ptr<const Source> source_;
  std::vector<ZipMember> members_;
};

}  // namespace cdna
