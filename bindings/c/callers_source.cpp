// Calls of a source of the caller's.
#include "bindings/c/callers_source.hpp"

#include <limits>

#include "bindings/c/arguments.hpp"

namespace cdna::c {
namespace {

class CallersSource final : public Source {
 public:
  CallersSource(const cdna_source& source, SourceClosing closing)
      : closing_(std::move(closing)), source_(source), name_(source.name == nullptr ? "" : source.name) {}

  std::uint64_t size_bytes() const override { return source_.size_bytes; }
  std::string_view name() const override { return name_; }

  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    if (out.empty()) return {};
    const std::int32_t outcome = source_.read_at(source_.context, offset, out.data(), out.size());
    if (outcome == 0) return {};
    return no_throw([&]() -> Result<void> {
      Error error = fail(Code::io, "", "cannot read " + std::to_string(out.size()) + " bytes", offset);
      error.os_errno = outcome == std::numeric_limits<std::int32_t>::min() ? EIO : std::abs(outcome);
      error.file = name_;
      return error;
    });
  }

 private:
  SourceClosing closing_;
  cdna_source source_;
  std::string name_;
};

}  // namespace

SourceClosing::SourceClosing(const cdna_source* source) noexcept {
  std::uint32_t size = 0;
  if (source != nullptr) std::memcpy(&size, source, sizeof size);
  if (!is_struct_size(size) || size < offsetof(cdna_source, close) + sizeof source->close) return;
  close_ = source->close;
  context_ = source->context;
}

SourceClosing::SourceClosing(SourceClosing&& other) noexcept
    : close_(std::exchange(other.close_, nullptr)), context_(other.context_) {}

SourceClosing::~SourceClosing() {
  if (close_ != nullptr) close_(context_);
}

Result<std::unique_ptr<Source>> callers_source(const cdna_source* source, SourceClosing closing) {
  const cdna_source given = CDNA_TRY(take_struct(source, "source"));
  CDNA_TRY(need_zero(given.reserved, "source->reserved"));
  if (given.read_at == nullptr) return bad_argument("source->read_at is NULL");
  return std::unique_ptr<Source>(std::make_unique<CallersSource>(given, std::move(closing)));
}

}  // namespace cdna::c
