// The C functions that begin and end a file, and name what is in it. Its tensors: writer_tensors.cpp.
#include "bindings/c/writer.hpp"

#include <cstdint>
#include <memory>

#include "bindings/c/arguments.hpp"
#include "bindings/c/sink.hpp"
#include "bindings/c/workers.hpp"
#include "cdna/sink.hpp"

namespace cdna::c {

Result<void> need_ready(const cdna_writer* writer) {
  CDNA_TRY(need(writer, "writer"));
  if (writer->state == cdna_writer::State::busy)
    return bad_argument("writer: another call with it is under way, and a callback may not call into it");
  if (writer->state == cdna_writer::State::failed)
    return bad_argument("writer: an earlier call with it has failed, so it can only be freed");
  if (writer->state == cdna_writer::State::finished) return bad_argument("writer: the file is finished");
  return {};
}

namespace {

// Everything but the sink, which comes last: a file is made when nothing else can be refused.
struct NewWriter {
  std::unique_ptr<cdna_writer> handle;
  WriterOptions options;
  bool force = false;
};

Result<NewWriter> take_options_of(const cdna_writer_options* given, cdna_writer** ret_writer) {
  CDNA_TRY(need(ret_writer, "ret_writer"));
  const cdna_writer_options known = CDNA_TRY(take_options(given, "options"));
  NewWriter made;
  made.handle = std::make_unique<cdna_writer>(known);
  if (known.alignment != 0) made.options.alignment = known.alignment;
  made.options.threads = CDNA_TRY(take_threads(known.threads, "options->threads"));
  made.options.stop = &made.handle->progress.stop();
  made.force = known.force != 0;
  return made;
}

Result<void> create(NewWriter made, std::unique_ptr<Sink> sink, cdna_writer** ret_writer) {
  made.handle->writer = CDNA_TRY(Writer::create(std::move(sink), made.options));
  *ret_writer = made.handle.release();
  return {};
}

Result<void> create_at(const char* path, const cdna_writer_options* options, cdna_writer** ret_writer) {
  const std::string name(CDNA_TRY(text(path, "path")));
  NewWriter made = CDNA_TRY(take_options_of(options, ret_writer));
  FileSinkOptions file_options;
  file_options.force = made.force;
  std::unique_ptr<Sink> sink = CDNA_TRY(create_file(name, file_options));
  return create(std::move(made), std::move(sink), ret_writer);
}

Result<void> create_on(const cdna_sink* given, const cdna_writer_options* options, cdna_writer** ret_writer) {
  std::unique_ptr<Sink> sink = CDNA_TRY(take_sink(given));
  NewWriter made = CDNA_TRY(take_options_of(options, ret_writer));
  return create(std::move(made), std::move(sink), ret_writer);
}

Result<void> add_alias(cdna_writer& writer, const char* given_name, const char* given_tensor) {
  const std::string name(CDNA_TRY(text(given_name, "name")));
  const std::string_view tensor = CDNA_TRY(text(given_tensor, "tensor"));
  const auto found = writer.tensors.find(tensor);
  if (found == writer.tensors.end()) {
    Error missing = fail(Code::not_found, "", "no tensor of this name was added");
    missing.item = tensor;
    return missing;
  }
  CDNA_TRY(writer.writer->add_alias(name, found->second));
  writer.tensors.emplace(name, found->second);
  return {};
}

Result<void> add_asset(cdna_writer& writer, const char* given_name, const char* given_type, const void* data,
                       std::uint64_t size, std::uint32_t codec) {
  const std::string name(CDNA_TRY(text(given_name, "name")));
  const std::string media_type(CDNA_TRY(text(given_type, "media_type")));
  const Codec known_codec = CDNA_TRY(need_codec(codec, "codec"));
  if (size != 0) CDNA_TRY(need(data, "data"));
  const ByteReader read = [data](std::uint64_t offset, std::span<std::byte> out) -> Result<void> {
    std::memcpy(out.data(), static_cast<const std::byte*>(data) + offset, out.size());
    return {};
  };
  CDNA_TRY(writer.writer->add_asset(name, media_type, size, known_codec, read));
  return {};
}

Result<MetadataValue> value_of(const cdna_metadata_value& given) {
  const auto* const bytes = static_cast<const std::byte*>(given.data);
  const bool has_data = given.kind == CDNA_STRING || given.kind == CDNA_BYTES || given.kind == CDNA_JSON;
  if (has_data && given.size != 0) CDNA_TRY(need(bytes, "value->data"));
  const std::size_t size = has_data ? given.size : 0;
  CDNA_CHECK(size <= PTRDIFF_MAX, Code::no_memory, "", "out of memory");  // Beyond any object.
  const auto string = [&] {
    return size == 0 ? std::string() : std::string(static_cast<const char*>(given.data), size);
  };
  switch (given.kind) {
    case CDNA_NULL:
      return MetadataValue();
    case CDNA_BOOLEAN:
      if (given.integer != 0 && given.integer != 1)
        return bad_argument("value->integer " + std::to_string(given.integer) + " is neither 0 nor 1");
      return MetadataValue(given.integer == 1);
    case CDNA_INT:
      return MetadataValue(given.integer);
    case CDNA_UINT:
      return MetadataValue(given.uinteger);
    case CDNA_FLOAT:
      return MetadataValue(given.real);
    case CDNA_STRING:
      return MetadataValue(string());
    case CDNA_BYTES:
      return MetadataValue(std::vector<std::byte>(bytes, bytes + size));
    case CDNA_JSON:
      return MetadataValue(JsonText{string()});
    default:
      return bad_argument("value->kind " + std::to_string(given.kind) + " is no kind of metadata");
  }
}

Result<void> set_metadata(cdna_writer& writer, const cdna_metadata_value* given) {
  const cdna_metadata_value known = CDNA_TRY(take_struct(given, "value"));
  const std::string key(CDNA_TRY(text(known.key, "value->key")));
  MetadataValue value = CDNA_TRY(value_of(known));
  CDNA_TRY(check_entry(key, value));
  writer.metadata.insert_or_assign(key, std::move(value));
  return {};
}

Result<void> finish(cdna_writer& writer, std::uint8_t* ret_root) {
  const Digest root = CDNA_TRY(writer.writer->finish(std::move(writer.metadata)));
  if (ret_root != nullptr) std::memcpy(ret_root, root.data(), root.size());
  return {};
}

}  // namespace
}  // namespace cdna::c

extern "C" {

cdna_code cdna_writer_create(const char* path, const cdna_writer_options* options, cdna_writer** ret_writer,
                             cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::create_at(path, options, ret_writer); });
}

cdna_code cdna_writer_create_sink(const cdna_sink* sink, const cdna_writer_options* options, cdna_writer** ret_writer,
                                  cdna_error* error) {
  return cdna::c::guarded(error, [&] { return cdna::c::create_on(sink, options, ret_writer); });
}

void cdna_writer_free(cdna_writer* writer) { cdna::c::free_handle(writer); }

cdna_code cdna_writer_add_alias(cdna_writer* writer, const char* name, const char* tensor, cdna_error* error) {
  return cdna::c::use_writer(writer, error, [&](cdna_writer& used) { return cdna::c::add_alias(used, name, tensor); });
}

cdna_code cdna_writer_add_asset(cdna_writer* writer, const char* name, const char* media_type, const void* data,
                                uint64_t size, uint32_t codec, cdna_error* error) {
  return cdna::c::use_writer(
      writer, error, [&](cdna_writer& used) { return cdna::c::add_asset(used, name, media_type, data, size, codec); });
}

cdna_code cdna_writer_set_metadata(cdna_writer* writer, const cdna_metadata_value* value, cdna_error* error) {
  return cdna::c::use_writer(writer, error, [&](cdna_writer& used) { return cdna::c::set_metadata(used, value); });
}

cdna_code cdna_writer_finish(cdna_writer* writer, uint8_t* ret_root, cdna_error* error) {
  const cdna_code code =
      cdna::c::use_writer(writer, error, [&](cdna_writer& used) { return cdna::c::finish(used, ret_root); });
  if (code == CDNA_OK) writer->state = cdna_writer::State::finished;
  return code;
}

}  // extern "C"
