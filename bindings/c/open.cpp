// Opening files, descriptors, memory and sources of the caller's.
#include "bindings/c/arguments.hpp"
#include "bindings/c/callers_source.hpp"
#include "bindings/c/reader.hpp"

namespace cdna::c {
namespace {

Result<Io> io_of(std::uint32_t io) {
  switch (io) {
    case CDNA_IO_AUTOMATIC:
      return Io::automatic;
    case CDNA_IO_MMAP:
      return Io::mmap;
    case CDNA_IO_PREAD:
      return Io::pread;
    default:
      return bad_argument("options->io is " + std::to_string(io));
  }
}

Result<Trust> trust_of(std::uint32_t trust) {
  switch (trust) {
    case CDNA_TRUST_AUTOMATIC:
      return Trust::automatic;
    case CDNA_TRUST_ZERO_COPY:
      return Trust::zero_copy;
    case CDNA_TRUST_STRICT:
      return Trust::strict;
    default:
      return bad_argument("options->trust is " + std::to_string(trust));
  }
}

Result<OpenOptions> options_of(const cdna_open_options* options) {
  const cdna_open_options given = CDNA_TRY(take_options(options, "options"));
  CDNA_TRY(need_zero(given.reserved, "options->reserved"));
  OpenOptions out;
  out.io = CDNA_TRY(io_of(given.io));
  out.trust = CDNA_TRY(trust_of(given.trust));
  out.pinned_bytes_max = given.pinned_bytes_max;
  if (given.footer_bytes_max != 0) out.limits.footer_bytes_max = given.footer_bytes_max;
  if (given.items_max != 0) out.limits.items_max = given.items_max;
  if (given.tensor_decoded_bytes_max != 0) out.limits.tensor_decoded_bytes_max = given.tensor_decoded_bytes_max;
  if (given.expected_root != nullptr) {
    out.expected_root.emplace();
    std::memcpy(out.expected_root->data(), given.expected_root, out.expected_root->size());
  }
  return out;
}

Result<void> open(std::unique_ptr<Source> source, const OpenOptions& options, cdna_reader** ret_reader) {
  Reader reader = CDNA_TRY(Reader::open(std::move(source), options));
  *ret_reader = std::make_unique<cdna_reader>(std::move(reader), options.limits).release();
  return {};
}

Result<void> open_path(const char* path, const cdna_open_options* options, cdna_reader** ret_reader) {
  CDNA_TRY(need(path, "path"));
  if (*path == 0) return bad_argument("path is empty");
  CDNA_TRY(need(ret_reader, "ret_reader"));
  const OpenOptions taken = CDNA_TRY(options_of(options));
  auto source = CDNA_TRY(open_source(std::string(path), taken.io));
  return open(std::move(source), taken, ret_reader);
}

Result<void> open_descriptor(int descriptor, const cdna_open_options* options, cdna_reader** ret_reader) {
  CDNA_TRY(need(ret_reader, "ret_reader"));
  const OpenOptions taken = CDNA_TRY(options_of(options));
  auto source = CDNA_TRY(open_source(descriptor, taken.io));
  return open(std::move(source), taken, ret_reader);
}

// Bytes in memory with a name for messages.
class NamedMemory final : public Source {
 public:
  NamedMemory(std::unique_ptr<Source> memory, std::string name) : memory_(std::move(memory)), name_(std::move(name)) {}
  std::uint64_t size_bytes() const override { return memory_->size_bytes(); }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    return memory_->read_at(offset, out);
  }
  std::span<const std::byte> mapping() const override { return memory_->mapping(); }
  std::string_view name() const override { return name_; }
  std::string_view backend() const override { return memory_->backend(); }
  std::string_view reason() const override { return memory_->reason(); }

 private:
  std::unique_ptr<Source> memory_;
  std::string name_;
};

Result<void> open_memory(const void* data, std::size_t size, const cdna_open_options* options,
                         cdna_reader** ret_reader) {
  if (size != 0) CDNA_TRY(need(data, "data"));
  CDNA_TRY(need(ret_reader, "ret_reader"));
  const OpenOptions taken = CDNA_TRY(options_of(options));
  const char* const name = CDNA_TRY(take_options(options, "options")).name;
  auto source = memory_source({static_cast<const std::byte*>(data), size});
  if (name != nullptr) source = std::make_unique<NamedMemory>(std::move(source), name);
  return open(std::move(source), taken, ret_reader);
}

Result<void> open_callers(const cdna_source* source, SourceClosing closing, const cdna_open_options* options,
                          cdna_reader** ret_reader) {
  CDNA_TRY(need(ret_reader, "ret_reader"));
  const OpenOptions taken = CDNA_TRY(options_of(options));
  auto opened = CDNA_TRY(callers_source(source, std::move(closing)));
  return open(std::move(opened), taken, ret_reader);
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_open(const char* path, const cdna_open_options* options, cdna_reader** ret_reader, cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::open_path(path, options, ret_reader); });
}

cdna_code cdna_open_descriptor(int descriptor, const cdna_open_options* options, cdna_reader** ret_reader,
                               cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::open_descriptor(descriptor, options, ret_reader); });
}

cdna_code cdna_open_memory(const void* data, size_t size, const cdna_open_options* options, cdna_reader** ret_reader,
                           cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::open_memory(data, size, options, ret_reader); });
}

cdna_code cdna_open_source(const cdna_source* source, const cdna_open_options* options, cdna_reader** ret_reader,
                           cdna_error* error) {
  cdna::c::SourceClosing closing(source);
  return cdna::c::guarded(error,
                          [&] { return cdna::c::open_callers(source, std::move(closing), options, ret_reader); });
}

}  // extern "C"
