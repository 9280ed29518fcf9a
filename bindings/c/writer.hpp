// The handle of a file that is being written.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "bindings/c/boundary.hpp"
#include "bindings/c/progress.hpp"
#include "bindings/c/tensor_spec.hpp"
#include "cdna/writer.hpp"

struct cdna_writer {
  explicit cdna_writer(const cdna_writer_options& options) : progress(options.progress, options.progress_context) {}

  enum class State { ready, busy, failed, finished };
  State state = State::ready;
  cdna::c::Progress progress;
  std::atomic<std::uint64_t> bytes_done{0};  // Of source, of all tensors.
  cdna::Metadata metadata;
  std::map<std::string, std::uint32_t, std::less<>> tensors;  // Numbers of items by name; an alias has its tensor's.

  // Between begin and end.
  struct OpenTensor {
    std::string name;
    std::uint64_t row_bytes = 0;
    std::uint64_t rows_left = 0;
  };
  std::optional<OpenTensor> open_tensor;

  std::optional<cdna::Writer> writer;  // Destroyed first: it looks at the progress.
};

namespace cdna::c {

// Errors: bad_argument (null, or a writer that can only be freed).
Result<void> need_ready(const cdna_writer* writer);

// The use of a writer by one call. No thread of the writer outlives it.
class WriterInUse {
 public:
  explicit WriterInUse(cdna_writer& writer) : writer_(writer) { writer_.state = cdna_writer::State::busy; }
  ~WriterInUse() {
    if (writer_.writer) writer_.writer->rest();
    writer_.state = after_;
  }
  WriterInUse(const WriterInUse&) = delete;
  WriterInUse& operator=(const WriterInUse&) = delete;

  void succeed() { after_ = cdna_writer::State::ready; }

 private:
  cdna_writer& writer_;
  cdna_writer::State after_ = cdna_writer::State::failed;  // Unless the end is reached, whatever is thrown.
};

// Runs `work(writer)`, which returns Result<void>. After an error the writer can only be freed.
template <class Work>
cdna_code use_writer(cdna_writer* writer, cdna_error* error, const Work& work) noexcept {
  return guarded(error, [&]() -> Result<void> {
    CDNA_TRY(need_ready(writer));
    WriterInUse use(*writer);
    CDNA_TRY(work(*writer));
    use.succeed();
    return {};
  });
}

}  // namespace cdna::c
