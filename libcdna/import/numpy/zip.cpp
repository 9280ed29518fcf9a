// Reads the end of an archive, its directory and its local headers, and believes them where they agree.
#include "libcdna/import/numpy/zip.hpp"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <limits>
#include <string>
#include <utility>

#include "libcdna/import/inflate.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

// Sections and field offsets are those of PKWARE's APPNOTE.TXT 6.3.10.
namespace cdna {
namespace {

constexpr std::uint64_t kEndBytes = 22;          // 4.3.16, without the comment.
constexpr std::uint64_t kEnd64Bytes = 56;        // 4.3.14
constexpr std::uint64_t kLocatorBytes = 20;      // 4.3.15
constexpr std::uint64_t kEntryBytes = 46;        // 4.3.12
constexpr std::uint64_t kLocalHeaderBytes = 30;  // 4.3.7
constexpr std::uint64_t kCommentBytesMax = 65535;
constexpr std::uint32_t kEndSignature = 0x06054B50;
constexpr std::uint32_t kEnd64Signature = 0x06064B50;
constexpr std::uint32_t kLocatorSignature = 0x07064B50;
constexpr std::uint32_t kEntrySignature = 0x02014B50;
constexpr std::uint32_t kLocalSignature = 0x04034B50;
constexpr std::uint16_t kZip64Extra = 1;                       // 4.5.3
constexpr std::uint32_t kIn64 = 0xFFFFFFFF;                    // The field is in the zip64 record.
constexpr std::uint16_t kEncrypted = 1U | 1U << 6 | 1U << 13;  // 4.4.4
constexpr std::uint16_t kSizesFollow = 1U << 3;
constexpr std::uint16_t kStored = 0;  // 4.4.5
constexpr std::uint16_t kDeflated = 8;
constexpr std::size_t kStepBytes = std::size_t{1} << 20;

// Little-endian fields. Requires: they lie within the bytes.
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::uint16_t u16(std::size_t at) const { return static_cast<std::uint16_t>(value(at, 2)); }
  std::uint32_t u32(std::size_t at) const { return static_cast<std::uint32_t>(value(at, 4)); }
  std::uint64_t u64(std::size_t at) const { return value(at, 8); }

 private:
  std::uint64_t value(std::size_t at, std::size_t size) const {
    assert(at + size <= bytes_.size());
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes_[at + i]);
    return value;
  }
  std::span<const std::byte> bytes_;
};

struct Directory {
  std::uint64_t begin = 0;
  std::uint64_t size = 0;
  std::uint64_t entries = 0;
};

struct Entry {
  ZipMember member;
  std::uint64_t header_begin = 0;
  std::uint16_t flags = 0;
};

Error malformed(std::string message, std::uint64_t offset) {
  return fail(Code::malformed, "", std::move(message), offset);
}

Result<std::vector<std::byte>> read(const Source& source, std::uint64_t begin, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  CDNA_TRY(source.read_at(begin, bytes));
  return bytes;
}

// Byte at which the end record begins: the last one whose comment fills the file.
Result<std::uint64_t> find_end(const Source& source) {
  const std::uint64_t file_bytes = source.size_bytes();
  CDNA_CHECK(file_bytes >= kEndBytes, Code::truncated, "", "too short for a zip archive", file_bytes);
  const std::uint64_t size = std::min(file_bytes, kEndBytes + kCommentBytesMax);
  const std::vector<std::byte> tail = CDNA_TRY(read(source, file_bytes - size, size));
  const Fields fields(tail);
  for (std::size_t at = tail.size() - kEndBytes + 1; at-- > 0;) {
    if (fields.u32(at) == kEndSignature && fields.u16(at + 20) == tail.size() - kEndBytes - at)
      return file_bytes - size + at;
  }
  return fail(Code::truncated, "", "a zip archive without its end", file_bytes);
}

// The 64-bit record before the end record at `end`; its place becomes `end`.
Result<Directory> read_end64(const Source& source, const Directory& small, std::uint64_t& end) {
  const std::uint64_t locator_begin = end - kLocatorBytes;
  const std::vector<std::byte> locator = CDNA_TRY(read(source, locator_begin, kLocatorBytes));
  const std::uint64_t begin = Fields(locator).u64(8);
  CDNA_CHECK(Fields(locator).u32(4) == 0 && Fields(locator).u32(16) <= 1, Code::unsupported, "",
             "a zip archive in several files", locator_begin);
  if (begin > locator_begin || locator_begin - begin < kEnd64Bytes)
    return malformed("the zip64 end record is not where its locator says", locator_begin);
  const std::vector<std::byte> record = CDNA_TRY(read(source, begin, kEnd64Bytes));
  const Fields fields(record);
  if (fields.u32(0) != kEnd64Signature || fields.u64(4) != locator_begin - begin - 12)
    return malformed("the zip64 end record is not where its locator says", begin);
  CDNA_CHECK(fields.u32(16) == 0 && fields.u32(20) == 0 && fields.u64(24) == fields.u64(32), Code::unsupported, "",
             "a zip archive in several files", begin);
  const Directory wide{fields.u64(48), fields.u64(40), fields.u64(32)};
  const bool agree = (small.entries == 0xFFFF || small.entries == wide.entries) &&
                     (small.size == kIn64 || small.size == wide.size) &&
                     (small.begin == kIn64 || small.begin == wide.begin);
  if (!agree) return malformed("the zip64 end record contradicts the end record", begin);
  end = begin;
  return wide;
}

Result<Directory> find_directory(const Source& source) {
  std::uint64_t end = CDNA_TRY(find_end(source));
  const std::vector<std::byte> record = CDNA_TRY(read(source, end, kEndBytes));
  const Fields fields(record);
  CDNA_CHECK(fields.u16(4) == 0 && fields.u16(6) == 0 && fields.u16(8) == fields.u16(10), Code::unsupported, "",
             "a zip archive in several files", end);
  Directory directory{fields.u32(16), fields.u32(12), fields.u16(10)};
  if (end >= kLocatorBytes) {
    const std::vector<std::byte> before = CDNA_TRY(read(source, end - kLocatorBytes, 4));
    if (Fields(before).u32(0) == kLocatorSignature) directory = CDNA_TRY(read_end64(source, directory, end));
  }
  if (directory.begin > end || directory.size != end - directory.begin)
    return malformed("the directory of the zip archive does not lie before its end record", end);
  CDNA_CHECK(directory.size <= kZipDirectoryBytesMax && directory.entries <= kZipMembersMax, Code::limit, "",
             "a zip archive with " + std::to_string(directory.entries) + " members, in a directory of " +
                 std::to_string(directory.size) + " bytes; at most " + std::to_string(kZipMembersMax) + " and " +
                 std::to_string(kZipDirectoryBytesMax) + " are read",
             end);
  return directory;
}

// Takes what is 0xFFFFFFFF from the zip64 extra field among `extras`.
Result<void> widen(std::span<const std::byte> extras, std::span<std::uint64_t* const> narrow, std::uint64_t offset) {
  const bool is_wide = std::any_of(narrow.begin(), narrow.end(), [](const auto* field) { return *field == kIn64; });
  if (!is_wide) return {};
  while (extras.size() >= 4) {
    const Fields head(extras);
    const std::size_t size = head.u16(2);
    if (size > extras.size() - 4) break;
    if (head.u16(0) == kZip64Extra) {
      const Fields fields(extras.subspan(4, size));
      std::size_t at = 0;
      for (std::uint64_t* const field : narrow) {
        if (*field != kIn64) continue;
        if (size - at < 8) return malformed("a zip64 field is too short", offset);
        *field = fields.u64(at);
        at += 8;
      }
      return {};
    }
    extras = extras.subspan(4 + size);
  }
  return malformed("a member's zip64 field is missing", offset);
}

Result<void> check_member(const Entry& entry, std::uint16_t method, std::uint64_t offset) {
  CDNA_CHECK((entry.flags & kEncrypted) == 0, Code::unsupported, "", "an encrypted member", offset);
  CDNA_CHECK(method == kStored || method == kDeflated, Code::unsupported, "",
             "compression method " + std::to_string(method) + "; stored and deflated members are read", offset);
  const ZipMember& member = entry.member;
  if (method == kStored && member.size_bytes != member.stored_bytes)
    return malformed("a stored member with two sizes", offset);
  if (method == kDeflated && member.size_bytes / kInflateRatioMax > member.stored_bytes) {
    return malformed("a member of " + std::to_string(member.stored_bytes) + " bytes cannot become " +
                         std::to_string(member.size_bytes),
                     offset);
  }
  return {};
}

// The entry at byte `at` of the directory; `at` moves behind it.
Result<Entry> parse_entry(std::span<const std::byte> directory, std::size_t& at, std::uint64_t directory_begin) {
  const std::uint64_t offset = directory_begin + at;
  const std::span<const std::byte> rest = directory.subspan(at);
  if (rest.size() < kEntryBytes || Fields(rest).u32(0) != kEntrySignature)
    return malformed("an entry of the zip archive's directory is missing", offset);
  const Fields fields(rest);
  const std::size_t name = fields.u16(28);
  const std::size_t extra = fields.u16(30);
  const std::size_t size = kEntryBytes + name + extra + fields.u16(32);
  if (size > rest.size()) return malformed("an entry of the zip archive's directory is cut off", offset);
  CDNA_CHECK(fields.u16(34) == 0, Code::unsupported, "", "a zip archive in several files", offset);

  Entry entry;
  entry.flags = fields.u16(8);
  entry.member.name.assign(reinterpret_cast<const char*>(rest.data()) + kEntryBytes, name);
  entry.member.crc32 = fields.u32(16);
  entry.member.is_deflated = fields.u16(10) == kDeflated;
  entry.member.stored_bytes = fields.u32(20);
  entry.member.size_bytes = fields.u32(24);
  entry.header_begin = fields.u32(42);
  const std::array wide{&entry.member.size_bytes, &entry.member.stored_bytes, &entry.header_begin};
  auto checked = widen(rest.subspan(kEntryBytes + name, extra), wide, offset);
  if (checked) checked = check_member(entry, fields.u16(10), offset);
  if (!checked) {
    checked.error().item = entry.member.name;
    return checked.error();
  }
  at += size;
  return entry;
}

// Compares the header before a member's data with its entry, and finds where the data begin.
Result<void> check_local_header(const Source& source, Entry& entry, std::uint64_t directory_begin) {
  const std::uint64_t begin = entry.header_begin;
  ZipMember& member = entry.member;
  if (begin > directory_begin || directory_begin - begin < kLocalHeaderBytes)
    return malformed("a member lies outside of the archive", begin);
  const std::vector<std::byte> header = CDNA_TRY(read(source, begin, kLocalHeaderBytes));
  const Fields fields(header);
  const std::uint64_t name = fields.u16(26);
  const std::uint64_t extra = fields.u16(28);
  if (fields.u32(0) != kLocalSignature) return malformed("a member has no header of its own", begin);
  if (directory_begin - begin - kLocalHeaderBytes < name + extra ||
      directory_begin - begin - kLocalHeaderBytes - name - extra < member.stored_bytes) {
    return malformed("a member lies outside of the archive", begin);
  }
  const std::vector<std::byte> texts = CDNA_TRY(read(source, begin + kLocalHeaderBytes, name + extra));
  const std::string_view own_name(reinterpret_cast<const char*>(texts.data()), name);
  const bool is_deflated = fields.u16(8) == kDeflated;
  if (own_name != member.name || is_deflated != member.is_deflated || (fields.u16(6) & kEncrypted) != 0)
    return malformed("a member's own header contradicts the directory", begin);
  member.data_begin = begin + kLocalHeaderBytes + name + extra;
  if ((fields.u16(6) & kSizesFollow) != 0) return {};  // They come after the data, again.
  std::uint64_t stored = fields.u32(18);
  std::uint64_t size = fields.u32(22);
  const std::array wide{&size, &stored};
  CDNA_TRY(widen(std::span(texts).subspan(name), wide, begin));
  if (size != member.size_bytes || stored != member.stored_bytes || fields.u32(14) != member.crc32)
    return malformed("a member's own header contradicts the directory", begin);
  return {};
}

Result<void> check_local_headers(const Source& source, std::vector<Entry>& entries, std::uint64_t directory_begin) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.header_begin < b.header_begin; });
  std::uint64_t end = 0;
  for (Entry& entry : entries) {
    auto checked = entry.header_begin < end ? Result<void>(malformed("two members overlap", entry.header_begin))
                                            : check_local_header(source, entry, directory_begin);
    if (!checked) {
      checked.error().item = entry.member.name;
      return checked;
    }
    end = entry.member.data_begin + entry.member.stored_bytes;
  }
  return {};
}

Result<std::vector<Entry>> read_entries(const Source& source, const Directory& directory) {
  const std::vector<std::byte> bytes = CDNA_TRY(read(source, directory.begin, directory.size));
  std::vector<Entry> entries;
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < directory.entries; ++i)
    entries.push_back(CDNA_TRY(parse_entry(bytes, at, directory.begin)));
  if (at != bytes.size())
    return malformed("the zip archive's directory has more than its entries", directory.begin + at);
  return entries;
}

Result<std::vector<ZipMember>> read_members(const Source& source) {
  const Directory directory = CDNA_TRY(find_directory(source));
  std::vector<Entry> entries = CDNA_TRY(read_entries(source, directory));
  CDNA_TRY(check_local_headers(source, entries, directory.begin));
  std::vector<ZipMember> members;
  for (Entry& entry : entries) members.push_back(std::move(entry.member));
  std::sort(members.begin(), members.end(), [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
  const auto twice = std::adjacent_find(members.begin(), members.end(),
                                        [](const ZipMember& a, const ZipMember& b) { return a.name == b.name; });
  if (twice == members.end()) return members;
  Error error = malformed("the zip archive has two members of this name", twice->data_begin);
  error.item = twice->name;
  return error;
}

// A stored member.
class RangeSource final : public Source {
 public:
  RangeSource(std::shared_ptr<const Source> source, std::uint64_t begin, std::uint64_t size)
      : source_(std::move(source)), begin_(begin), size_(size) {}
  std::uint64_t size_bytes() const override { return size_; }
  std::string_view name() const override { return source_->name(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    assert(offset <= size_ && out.size() <= size_ - offset);
    return source_->read_at(begin_ + offset, out);
  }

 private:
  std::shared_ptr<const Source> source_;
  std::uint64_t begin_;
  std::uint64_t size_;
};

// A member that was deflated.
class InflatedSource final : public Source {
 public:
  InflatedSource(std::string name, std::vector<std::byte> bytes) : name_(std::move(name)), bytes_(std::move(bytes)) {}
  std::uint64_t size_bytes() const override { return bytes_.size(); }
  std::string_view name() const override { return name_; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    assert(offset <= bytes_.size() && out.size() <= bytes_.size() - offset);
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

 private:
  std::string name_;
  std::vector<std::byte> bytes_;
};

std::uint32_t updated_crc(std::uint32_t crc, std::span<const std::byte> bytes) {
  return static_cast<std::uint32_t>(::crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

Result<std::uint32_t> stored_crc(const Source& source, const ZipMember& member) {
  std::uint32_t crc = 0;
  std::vector<std::byte> piece;
  for (std::uint64_t done = 0; done < member.size_bytes; done += piece.size()) {
    piece.resize(std::min<std::uint64_t>(kStepBytes, member.size_bytes - done));
    CDNA_TRY(source.read_at(member.data_begin + done, piece));
    crc = updated_crc(crc, piece);
  }
  return crc;
}

Result<void> check_crc(std::uint32_t crc, const ZipMember& member) {
  CDNA_CHECK(crc == member.crc32, Code::corrupt, "", "the member's bytes differ from what its CRC-32 says",
             member.data_begin);
  return {};
}

Result<std::unique_ptr<Source>> open_checked(const std::shared_ptr<const Source>& source, const ZipMember& member) {
  if (!member.is_deflated) {
    const std::uint32_t crc = CDNA_TRY(stored_crc(*source, member));
    CDNA_TRY(check_crc(crc, member));
    return std::unique_ptr<Source>(std::make_unique<RangeSource>(source, member.data_begin, member.size_bytes));
  }
  Inflater inflater(*source, member.data_begin, member.stored_bytes, Inflater::Format::raw);
  std::vector<std::byte> bytes = CDNA_TRY(inflate(inflater, member.size_bytes, member.size_bytes));
  CDNA_TRY(check_crc(updated_crc(0, bytes), member));
  return std::unique_ptr<Source>(std::make_unique<InflatedSource>(std::string(source->name()), std::move(bytes)));
}

// The result, with the names of archive and member in its error.
template <class T>
Result<T> named(Result<T> result, const Source& source, const std::string& member) {
  if (result) return result;
  Error& error = result.error();
  if (error.file.empty()) error.file = std::string(source.name());
  if (error.item.empty()) error.item = member;
  return result;
}

}  // namespace

Result<ZipArchive> ZipArchive::open(std::shared_ptr<const Source> source) {
  assert(source != nullptr);
  return no_throw([&]() -> Result<ZipArchive> {
    ZipArchive archive;
    archive.members_ = CDNA_TRY(named(read_members(*source), *source, {}));
    archive.source_ = std::move(source);
    return archive;
  });
}

std::optional<std::size_t> ZipArchive::find(std::string_view name) const {
  const auto found =
      std::lower_bound(members_.begin(), members_.end(), name,
                       [](const ZipMember& member, std::string_view wanted) { return member.name < wanted; });
  if (found == members_.end() || found->name != name) return std::nullopt;
  return static_cast<std::size_t>(found - members_.begin());
}

Result<std::vector<std::byte>> ZipArchive::read_head(std::size_t member, std::size_t size) const {
  const ZipMember& chosen = members_[member];
  return no_throw([&]() -> Result<std::vector<std::byte>> {
    std::vector<std::byte> head(std::min<std::uint64_t>(size, chosen.size_bytes));
    if (!chosen.is_deflated) {
      CDNA_TRY(named(source_->read_at(chosen.data_begin, head), *source_, chosen.name));
      return head;
    }
    Inflater inflater(*source_, chosen.data_begin, chosen.stored_bytes, Inflater::Format::raw);
    const std::size_t got = CDNA_TRY(named(inflater.read(head), *source_, chosen.name));
    if (got == head.size()) return head;
    return named(Result<std::vector<std::byte>>(
                     fail(Code::malformed, "", "the member is shorter than the directory says", chosen.data_begin)),
                 *source_, chosen.name);
  });
}

Result<std::unique_ptr<Source>> ZipArchive::open_member(std::size_t member) const {
  return no_throw([&] { return named(open_checked(source_, members_[member]), *source_, members_[member].name); });
}

}  // namespace cdna
