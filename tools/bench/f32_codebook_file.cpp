// Planes, index and record by the offsets of spec/format.md, 7 to 10; the library's rebuild() makes footer and tail.
#include "tools/bench/f32_codebook_file.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "cdna/fsck.hpp"
#include "tools/bench/measure.hpp"

namespace cdna::tools::bench {
namespace {

using Bytes = std::vector<std::byte>;
using View = std::span<const std::byte>;

// Offsets and sizes of the format.
constexpr std::size_t kTailBytes = 256;
constexpr std::size_t kItemsAt = 56;  // In the footer.
constexpr std::size_t kItemBytes = 160;
constexpr std::size_t kPlaneBytes = 48;
constexpr std::size_t kEntryBytes = 64;
constexpr std::size_t kAlignment = 64;
constexpr std::uint16_t kCodebook = 3;
constexpr std::byte kF32Bits{32};

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

std::uint64_t align_up(std::uint64_t position, std::uint64_t alignment) {
  return (position + alignment - 1) / alignment * alignment;
}

void append(Bytes& to, View bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

void hash(View bytes, std::byte* digest) {
  ::SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(digest));
}

Bytes widened_codebook(const Tensor& tensor) {
  const std::span<const float> entries = require(tensor.codebook());
  Bytes bytes;
  for (const float entry : entries) {
    const float shifted = entry * (1 + 0x1p-13F);
    append(bytes, std::as_bytes(std::span(&shifted, 1)));
  }
  return bytes;
}

// What a file has before `head_bytes` is another's, the rest its own.
class SplicedSource final : public Source {
 public:
  SplicedSource(View head, Bytes rest) : head_(head), rest_(std::move(rest)) {}

  std::uint64_t size_bytes() const override { return head_.size() + rest_.size(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    const std::size_t split = std::clamp<std::uint64_t>(head_.size(), offset, offset + out.size()) - offset;
    if (split > 0) std::memcpy(out.data(), head_.data() + offset, split);
    if (split < out.size())
      std::memcpy(out.data() + split, rest_.data() + (offset + split - head_.size()), out.size() - split);
    return {};
  }

 private:
  View head_;
  Bytes rest_;
};

// The first item of a file, on its way to another place behind its first plane.
class RewrittenItem {
 public:
  explicit RewrittenItem(const Reader& reader)
      : reader_(reader), tensor_(reader.resolve(reader.item(0))), file_(reader.source().mapping()) {
    const View footer = file_.subspan(load<std::uint64_t>(&file_[file_.size() - kTailBytes + 40]));
    const auto item_count = load<std::uint32_t>(&file_[file_.size() - kTailBytes + 56]);
    item_ = copy(footer.subspan(kItemsAt, kItemBytes));
    // After the items: a count at a position p with p mod 8 = 4, then the planes.
    planes_ = copy(footer.subspan(kItemsAt + kItemBytes * item_count + 8, kPlaneBytes * tensor_.plane_count()));
    entries_ = copy(file_.subspan(tensor_.index_offset(), kEntryBytes * tensor_.block_count()));
    const PlaneInfo codes = tensor_.plane(0);
    head_bytes_ = codes.offset + codes.stored_bytes;
  }

  SplicedSource rewrite() {
    std::size_t entry = tensor_.plane(0).block_count;
    for (std::uint32_t i = 1; i < tensor_.plane_count(); ++i) {
      append_plane(i, entry);
      entry += tensor_.plane(i).block_count;
    }
    append_index();
    append_record();
    return {file_.first(head_bytes_), std::move(rest_)};
  }

 private:
  static Bytes copy(View bytes) { return {bytes.begin(), bytes.end()}; }

  std::uint64_t position() const { return head_bytes_ + rest_.size(); }
  void pad_to(std::uint64_t alignment) { rest_.resize(align_up(position(), alignment) - head_bytes_); }

  void append_plane(std::uint32_t index, std::size_t first_entry) {
    const PlaneInfo plane = tensor_.plane(index);
    const bool is_codebook = plane.role == kCodebook;
    const Bytes content =
        is_codebook ? widened_codebook(tensor_) : copy(file_.subspan(plane.offset, plane.stored_bytes));
    if (content.empty()) return;
    const bool is_large = plane.scope != 2 && content.size() >= 256 * std::uint64_t{reader_.alignment()};
    pad_to(is_large ? reader_.alignment() : kAlignment);
    std::byte* const out = &planes_[kPlaneBytes * index];
    store<std::uint64_t>(out, position());
    store<std::uint64_t>(out + 8, content.size());
    if (is_codebook) widen(out, &entries_[kEntryBytes * first_entry], content);
    append(rest_, content);
  }

  // What plane and index entry say of the codebook. D of up to 16 KiB is the SHA-256 of their SHA-256.
  static void widen(std::byte* plane, std::byte* entry, View content) {
    plane[36] = kF32Bits;
    plane[37] = static_cast<std::byte>(DType::f32);
    store<std::uint32_t>(entry + 8, static_cast<std::uint32_t>(content.size()));
    store<std::uint32_t>(entry + 12, static_cast<std::uint32_t>(content.size()));
    Bytes piece(32);
    hash(content, piece.data());
    hash(piece, entry + 32);
  }

  void append_index() {
    pad_to(kAlignment);
    store<std::uint64_t>(&item_[8], position());
    hash(entries_, &item_[16]);
    append(rest_, entries_);
  }

  void append_record() {
    Bytes content = item_;
    for (const std::uint64_t dim : tensor_.shape()) append(content, std::as_bytes(std::span(&dim, 1)));
    append(content, planes_);
    append(content, std::as_bytes(std::span(tensor_.name())));
    append(content, std::as_bytes(std::span(tensor_.type())));
    content.resize(align_up(content.size(), kAlignment));
    pad_to(kAlignment);
    Bytes frame(32);
    constexpr unsigned char kMagic[] = {0xCD, 0x43, 0x44, 0x4E, 0x33, 0x52, 0x45, 0x43};
    std::memcpy(frame.data(), kMagic, sizeof kMagic);
    store<std::uint32_t>(&frame[8], static_cast<std::uint32_t>(64 + content.size()));
    store<std::uint64_t>(&frame[16], position());
    Bytes covered = frame;
    append(covered, content);
    frame.resize(64);
    hash(covered, &frame[32]);
    append(rest_, frame);
    append(rest_, content);
  }

  const Reader& reader_;
  Tensor tensor_;
  View file_;
  Bytes item_;
  Bytes planes_;
  Bytes entries_;
  std::uint64_t head_bytes_ = 0;
  Bytes rest_;
};

}  // namespace

void write_with_f32_codebook(const Reader& reader, const std::string& path, const std::atomic<bool>& stop) {
  const SplicedSource source = RewrittenItem(reader).rewrite();
  require(rebuild(source, require(create_file(path)), &stop));
}

}  // namespace cdna::tools::bench
