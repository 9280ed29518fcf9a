// The public writing class: Writer::Session behind a pointer, with allocation failure as an error.
#include "cdna/writer.hpp"

#include <bit>

#include "libcdna/cpu.hpp"
#include "libcdna/hash/sha256_kernel.hpp"
#include "libcdna/no_throw.hpp"
#include "libcdna/try.hpp"
#include "libcdna/write/writer_session.hpp"

namespace cdna {
namespace {

// The name of the item goes into every error about it.
template <class T>
Result<T> named(Result<T> result, const std::string& name) {
  if (!result && result.error().item.empty()) result.error().item = name;
  return result;
}

}  // namespace

Writer::Writer(std::unique_ptr<Session> session) : session_(std::move(session)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<Writer> Writer::create(std::unique_ptr<Sink> sink, const WriterOptions& options) {
  return no_throw([&]() -> Result<Writer> {
    CDNA_CHECK(std::has_single_bit(options.alignment) && options.alignment >= 64 && options.alignment <= 65536,
               Code::bad_argument, "T8", "the alignment is not a power of two in 64..65536");
    CDNA_TRY(check_sha256_kernel());
    CDNA_TRY(check_isa());
    auto session = std::make_unique<Session>(std::move(sink), options);
    CDNA_TRY(session->write_head());
    return Writer(std::move(session));
  });
}

Result<std::uint32_t> Writer::add_exact(const TensorSpec& spec, const ByteReader& data) {
  return no_throw([&] {
    const auto add = [&]() -> Result<std::uint32_t> {
      CDNA_TRY(session_->begin_exact(spec));
      return session_->copy_from(data);
    };
    return named(add(), spec.name);
  });
}

Result<std::uint32_t> Writer::add_codebook(const TensorSpec& spec, const CodebookOptions& options,
                                           const ByteReader& data) {
  return no_throw([&] { return named(session_->add_codebook(spec, options, data), spec.name); });
}

Result<std::uint32_t> Writer::add_encoded(const TensorSpec& spec, const EncodedPlanes& planes) {
  return no_throw([&] { return named(session_->add_encoded(spec, planes), spec.name); });
}

Result<std::uint32_t> Writer::add_alias(const std::string& name, std::uint32_t tensor) {
  return no_throw([&] { return named(session_->add_alias(name, tensor), name); });
}

Result<std::uint32_t> Writer::add_asset(const std::string& name, const std::string& media_type,
                                        std::uint64_t size_bytes, Codec codec, const ByteReader& data) {
  return no_throw([&] { return named(session_->add_asset(name, media_type, size_bytes, codec, data), name); });
}

Result<void> Writer::begin_tensor(const TensorSpec& spec) {
  return no_throw([&] { return named(session_->begin_exact(spec), spec.name); });
}

Result<void> Writer::append(std::span<const std::byte> bytes) {
  return no_throw([&] { return session_->append(bytes); });
}

Result<std::uint32_t> Writer::end_tensor() {
  return no_throw([&] { return session_->end(); });
}

void Writer::rest() { session_->rest(); }

const WrittenItem& Writer::written(std::uint32_t item) const { return session_->written(item); }

Result<Digest> Writer::finish(Metadata metadata) {
  return no_throw([&] { return session_->finish(std::move(metadata)); });
}

}  // namespace cdna
