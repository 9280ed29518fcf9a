// The tensors of a container as one .npz file: a zip archive of .npy arrays, written front to back.
#include <zlib.h>

#include <algorithm>
#include <cassert>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cdna/convert.hpp"
#include "libcdna/convert/export_options.hpp"
#include "libcdna/convert/progress.hpp"
#include "libcdna/convert/tensor_bytes.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"

// Sections are those of PKWARE's APPNOTE.TXT 6.3.10.
namespace cdna {
namespace {

constexpr std::uint64_t kIn64 = 0xFFFFFFFF;  // Or more: the field is in a zip64 record (4.5.3).
constexpr std::uint64_t kEntriesIn64 = 0xFFFF;
// Of the member: sizes and checksum follow its data, which are not read twice; the name is UTF-8 (4.4.4).
constexpr std::uint64_t kFlags = 1U << 3 | 1U << 11;
constexpr std::uint64_t kVersion = 20;
constexpr std::uint64_t kVersion64 = 45;
constexpr std::uint64_t kDate = 0x00210000;  // 1980-01-01 00:00, the first that there is (4.4.6).
constexpr std::size_t kNpyAlignment = 64;    // numpy/lib/format.py.

// What a tensor becomes: NumPy has no BF16, F8, F6 or F4.
DType target_of(const ExportOptions& options, DType source) {
  const DType wanted = exported_dtype(options, source);
  const bool is_small = wanted >= DType::f8_e4m3 && wanted <= DType::f4;
  return wanted == DType::bf16 || is_small ? DType::f32 : wanted;
}

std::string_view numpy_name(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return "|b1";
    case DType::u8:
      return "|u1";
    case DType::i8:
      return "|i1";
    case DType::u16:
      return "<u2";
    case DType::i16:
      return "<i2";
    case DType::u32:
      return "<u4";
    case DType::i32:
      return "<i4";
    case DType::u64:
      return "<u8";
    case DType::i64:
      return "<i8";
    case DType::f16:
      return "<f2";
    case DType::f32:
      return "<f4";
    case DType::f64:
      return "<f8";
    case DType::c64:
      return "<c8";
    default:
      return "";
  }
}

// What stands before the values of an array: version 1.0, a multiple of 64 bytes.
std::string npy_header(DType dtype, std::span<const std::uint64_t> shape) {
  std::string text = "{'descr': '";
  text += numpy_name(dtype);
  text += "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  text += shape.size() == 1 ? ",), }" : "), }";
  constexpr std::size_t kBegin = 10;
  text.append((kNpyAlignment - (kBegin + text.size() + 1) % kNpyAlignment) % kNpyAlignment, ' ');
  text += '\n';
  std::string out = "\x93NUMPY\x01";
  for (const std::size_t byte : {std::size_t{0}, text.size() & 0xFF, text.size() >> 8}) out += static_cast<char>(byte);
  return out + text;
}

// Little-endian fields one after the other.
class Record {
 public:
  Record& u16(std::uint64_t value) { return add(value, 2); }
  Record& u32(std::uint64_t value) { return add(value, 4); }
  Record& u64(std::uint64_t value) { return add(value, 8); }
  Record& text(std::string_view value) {
    bytes_ += value;
    return *this;
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  Record& add(std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xFF);
    return *this;
  }
  std::string bytes_;
};

std::uint64_t low32(std::uint64_t value) { return std::min(value, kIn64); }

struct Member {
  std::string name;
  std::uint64_t header_begin = 0;
  std::uint64_t size_bytes = 0;
  std::uint32_t crc = 0;
  bool is_wide() const { return size_bytes >= kIn64; }
};

// A zip archive of stored members, into a sink.
class ZipWriter {
 public:
  explicit ZipWriter(std::unique_ptr<Sink> sink) : sink_(std::move(sink)) {}

  Result<void> begin_member(std::string name, std::uint64_t size_bytes) {
    Member member;
    member.name = std::move(name);
    member.header_begin = at_;
    member.size_bytes = size_bytes;
    Record header;  // 4.3.7
    header.text("PK\x03\x04").u16(member.is_wide() ? kVersion64 : kVersion).u16(kFlags).u16(0).u32(kDate).u32(0);
    header.u32(member.is_wide() ? kIn64 : 0).u32(member.is_wide() ? kIn64 : 0);
    header.u16(member.name.size()).u16(member.is_wide() ? 20 : 0).text(member.name);
    if (member.is_wide()) header.u16(1).u16(16).u64(0).u64(0);
    members_.push_back(std::move(member));
    return put(header.bytes());
  }

  Result<void> append(std::span<const std::byte> bytes) {
    Member& member = members_.back();
    member.crc =
        static_cast<std::uint32_t>(::crc32_z(member.crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
    return put(bytes);
  }

  Result<void> end_member() {
    const Member& member = members_.back();
    Record descriptor;  // 4.3.9
    descriptor.text("PK\x07\x08").u32(member.crc);
    if (member.is_wide()) {
      descriptor.u64(member.size_bytes).u64(member.size_bytes);
    } else {
      descriptor.u32(member.size_bytes).u32(member.size_bytes);
    }
    return put(descriptor.bytes());
  }

  Result<void> commit() {
    const std::uint64_t begin = at_;
    for (const Member& member : members_) CDNA_TRY(put(entry_of(member).bytes()));
    CDNA_TRY(put(end_of(begin, at_ - begin).bytes()));
    return sink_->commit();
  }

 private:
  static Record entry_of(const Member& member) {
    Record wide;
    if (member.is_wide()) wide.u64(member.size_bytes).u64(member.size_bytes);
    if (member.header_begin >= kIn64) wide.u64(member.header_begin);
    const std::size_t wide_bytes = wide.bytes().size();
    const std::uint64_t version = wide_bytes > 0 ? kVersion64 : kVersion;
    Record entry;  // 4.3.12
    entry.text("PK\x01\x02").u16(version).u16(version).u16(kFlags).u16(0).u32(kDate).u32(member.crc);
    entry.u32(low32(member.size_bytes)).u32(low32(member.size_bytes));
    entry.u16(member.name.size()).u16(wide_bytes > 0 ? wide_bytes + 4 : 0).u16(0).u16(0).u16(0).u32(0);
    entry.u32(low32(member.header_begin)).text(member.name);
    if (wide_bytes > 0) {
      entry.u16(1).u16(wide_bytes);
      entry.text({reinterpret_cast<const char*>(wide.bytes().data()), wide_bytes});
    }
    return entry;
  }

  Record end_of(std::uint64_t begin, std::uint64_t size) const {
    const std::uint64_t entries = members_.size();
    Record end;
    if (entries >= kEntriesIn64 || begin >= kIn64 || size >= kIn64) {
      end.text("PK\x06\x06").u64(44).u16(kVersion64).u16(kVersion64).u32(0).u32(0);  // 4.3.14
      end.u64(entries).u64(entries).u64(size).u64(begin);
      end.text("PK\x06\x07").u32(0).u64(begin + size).u32(1);  // 4.3.15
    }
    end.text("PK\x05\x06").u16(0).u16(0);  // 4.3.16
    end.u16(std::min(entries, kEntriesIn64)).u16(std::min(entries, kEntriesIn64));
    end.u32(low32(size)).u32(low32(begin)).u16(0);
    return end;
  }

  Result<void> put(std::span<const std::byte> bytes) {
    at_ += bytes.size();
    return sink_->write(bytes);
  }

  std::unique_ptr<Sink> sink_;
  std::vector<Member> members_;
  std::uint64_t at_ = 0;
};

struct PlannedArray {
  std::string name;
  DType dtype = DType::none;
  std::string header;
  std::uint64_t data_bytes = 0;
};

std::vector<PlannedArray> plan_arrays(const Reader& reader, const ExportOptions& options) {
  std::vector<PlannedArray> arrays;
  for (std::uint32_t i = 0; i < reader.tensor_count(); ++i) {
    const Item named = reader.tensor_item(i);
    const Tensor tensor = reader.resolve(named);
    PlannedArray array;
    array.name = named.name();
    array.dtype = target_of(options, tensor.dtype());
    array.header = npy_header(array.dtype, tensor.shape());
    array.data_bytes = tensor.element_count() * (bits_of(array.dtype) / 8);
    arrays.push_back(std::move(array));
  }
  return arrays;
}

// The name of a tensor is no path, but that of a member is for who unpacks it.
bool leads_elsewhere(std::string_view name) {
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return true;
    begin = end + 1;
  }
  return false;
}

class NpzExport {
 public:
  NpzExport(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options)
      : reader_(reader),
        zip_(std::move(sink)),
        arrays_(plan_arrays(reader, options)),
        stop_(options.stop),
        progress_(options.progress, data_bytes()) {}

  Result<void> run() {
    CDNA_TRY(check_names());
    for (const PlannedArray& array : arrays_) CDNA_TRY(write(array));
    CDNA_TRY(check_stop());
    CDNA_TRY(zip_.commit());
    progress_.finish();
    return {};
  }

 private:
  Result<void> check_names() const {
    for (const PlannedArray& array : arrays_) {
      if (!leads_elsewhere(array.name)) continue;
      Error error =
          fail(Code::bad_argument, "", "no name for a member of an archive: unpacked, it would lie elsewhere");
      error.item = array.name;
      return error;
    }
    return {};
  }

  Result<void> write(const PlannedArray& array) {
    CDNA_TRY(zip_.begin_member(array.name + ".npy", array.header.size() + array.data_bytes));
    CDNA_TRY(zip_.append(std::as_bytes(std::span(array.header))));
    const Tensor tensor = *reader_.find(array.name);
    CDNA_TRY(
        write_tensor_bytes(tensor, array.dtype, [this](std::span<const std::byte> bytes) { return append(bytes); }));
    return zip_.end_member();
  }

  Result<void> append(std::span<const std::byte> bytes) {
    CDNA_TRY(check_stop());
    done_bytes_ += bytes.size();
    progress_.show(done_bytes_);
    return zip_.append(bytes);
  }

  Result<void> check_stop() const {
    CDNA_CHECK(stop_ == nullptr || !stop_->load(), Code::cancelled, "", "stopped on request");
    return {};
  }

  std::uint64_t data_bytes() const {
    std::uint64_t bytes = 0;
    for (const PlannedArray& array : arrays_) bytes += array.data_bytes;
    return bytes;
  }

  const Reader& reader_;
  ZipWriter zip_;
  std::vector<PlannedArray> arrays_;
  const std::atomic<bool>* stop_;
  Progress progress_;
  std::uint64_t done_bytes_ = 0;
};

Result<void> export_all(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  CDNA_TRY(check_export_options(options));
  CDNA_CHECK(options.dtype != DType::bf16, Code::bad_argument, "", "dtype: one of F16, F32 and F64; NumPy has no BF16");
  CDNA_TRY(check_all_supported(reader));
  return NpzExport(reader, std::move(sink), options).run();
}

}  // namespace

Result<void> export_npz(const Reader& reader, std::unique_ptr<Sink> sink, const ExportOptions& options) {
  assert(sink != nullptr);
  return no_throw([&] { return export_all(reader, std::move(sink), options); });
}

}  // namespace cdna
