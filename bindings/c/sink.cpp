// Writing through a caller's functions.
#include "bindings/c/sink.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "bindings/c/arguments.hpp"
#include "bindings/c/boundary.hpp"

namespace cdna::c {

Result<void> CallbackSink::write(std::span<const std::byte> bytes) {
  return no_throw([&]() -> Result<void> {
    if (bytes.empty()) return {};
    const std::int32_t returned = (*sink_).write((*sink_).context, bytes.data(), bytes.size());
    if (returned != 0) return callback_failed("the sink cannot write", returned);
    return {};
  });
}

Result<void> CallbackSink::commit() {
  return no_throw([&]() -> Result<void> {
    if ((*sink_).commit == nullptr) return {};
    const std::int32_t returned = (*sink_).commit((*sink_).context);
    if (returned != 0) return callback_failed("the sink cannot commit", returned);
    return {};
  });
}

Result<std::unique_ptr<Sink>> take_sink(const cdna_sink* given) {
  const std::uint32_t size = CDNA_TRY(struct_size(given, "sink"));
  if (!is_struct_size(size)) return bad_argument("sink: struct_size is " + std::to_string(size));
  cdna_sink known{};
  std::memcpy(&known, given, std::min<std::size_t>(size, sizeof known));
  OwnedSink sink(known);
  CDNA_TRY(take_struct(given, "sink"));
  CDNA_TRY(need_zero(known.reserved, "sink->reserved"));
  CDNA_TRY(need(reinterpret_cast<const void*>(known.write), "sink->write"));
  return std::unique_ptr<Sink>(std::make_unique<CallbackSink>(std::move(sink)));
}

}  // namespace cdna::c
