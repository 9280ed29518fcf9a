// Rows of a tensor into memory of Python's, by several threads.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "cdna/workers.hpp"
#include "container.hpp"
#include "python_error.hpp"
#include "threads.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

constexpr std::uint64_t kPartBytes = 1 << 20;  // Of a part that a thread takes; also how often signals are looked at.
constexpr std::uint64_t kPartBytesMax = 64 << 20;
constexpr std::uint64_t kPartsPerThread = 8;

// Rows in parts of whole blocks, so that none is decoded twice.
class Parts {
 public:
  Parts(const Tensor& tensor, std::uint64_t begin, std::uint64_t end, std::uint64_t row_bytes, unsigned threads)
      : begin_(begin), end_(end) {
    const std::uint64_t bytes = (end - begin) * row_bytes;
    const std::uint64_t wanted = std::clamp(bytes / (threads * kPartsPerThread), kPartBytes, kPartBytesMax);
    const std::uint64_t block = tensor.plane_count() == 0 ? 1 : std::max(tensor.plane(0).rows_per_block, 1U);
    const std::uint64_t blocks = std::max<std::uint64_t>(wanted / std::max<std::uint64_t>(block * row_bytes, 1), 1);
    rows_ = blocks * block;
  }
  std::uint64_t count() const { return begin_ == end_ ? 0 : (end_ - 1) / rows_ - begin_ / rows_ + 1; }
  std::uint64_t begin(std::uint64_t part) const { return std::max(begin_, (begin_ / rows_ + part) * rows_); }
  std::uint64_t end(std::uint64_t part) const { return std::min(end_, (begin_ / rows_ + part + 1) * rows_); }

 private:
  std::uint64_t begin_, end_, rows_ = 1;
};

class Decoding {
 public:
  Decoding(const Tensor& tensor, std::uint64_t begin, const Parts& parts, DType dtype, std::span<std::byte> out)
      : tensor_(tensor), begin_(begin), parts_(parts), dtype_(dtype), out_(out), row_bytes_(tensor.row_bytes(dtype)) {}

  // Without the GIL.
  Result<void> run(Workers& workers) {
    workers.run([this](std::size_t) { work(); });
    if (error_) return *std::move(error_);
    return {};
  }
  bool interrupted() const { return interrupted_; }

 private:
  void work() {
    while (!stop_) {
      const std::uint64_t part = next_.fetch_add(1);
      if (part >= parts_.count()) return;
      const std::uint64_t begin = parts_.begin(part);
      const std::uint64_t end = parts_.end(part);
      const auto done = tensor_.read_rows(begin, end, dtype_,
                                          out_.subspan((begin - begin_) * row_bytes_, (end - begin) * row_bytes_));
      if (!done) keep(part, done.error());
      if (std::this_thread::get_id() == caller_) look_at_signals();
    }
  }
  // Of several errors that of the lowest rows.
  void keep(std::uint64_t part, const Error& error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    if (part < error_part_) error_ = error;
    error_part_ = std::min(error_part_, part);
  }
  void look_at_signals() {
    const GilHeld gil;
    if (!gil || run_python([] { return PyErr_CheckSignals(); }) == 0) return;
    exception_.emplace();
    stop_ = interrupted_ = true;
  }

 public:
  // What a signal's handler raised. Requires: interrupted(), the GIL.
  [[noreturn]] void raise_interruption() { throw std::move(*exception_); }

 private:
  const Tensor& tensor_;
  std::uint64_t begin_;
  const Parts& parts_;
  DType dtype_;
  std::span<std::byte> out_;
  std::uint64_t row_bytes_;
  std::thread::id caller_ = std::this_thread::get_id();
  std::atomic<std::uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  bool interrupted_ = false;
  std::optional<nb::python_error> exception_;
  std::mutex mutex_;
  std::uint64_t error_part_ = ~std::uint64_t{0};
  std::optional<Error> error_;
};

// Rows [begin, end) into `out`, which has exactly their bytes.
void read_rows(const Container& container, std::uint32_t number, std::uint64_t begin, std::uint64_t end,
               std::string_view dtype_name, const nb::object& out, std::uint64_t threads) {
  const auto opened = container.opened();
  const Tensor tensor = container.tensor(number);
  value_of(tensor.check_supported());
  const DType dtype = dtype_named(dtype_name);
  const Borrowed borrowed = Borrowed::bytes(out, Borrowed::Access::write);
  const std::span<std::byte> bytes = borrowed.write();
  if (begin > end || end > tensor.rows()) raise_bad_argument("the rows are not within the tensor");
  const std::uint64_t row_bytes = tensor.row_bytes(dtype);
  if (row_bytes == 0 ? !bytes.empty() : bytes.size() % row_bytes != 0 || bytes.size() / row_bytes != end - begin)
    raise_bad_argument("the output has " + std::to_string(bytes.size()) + " bytes instead of " +
                       std::to_string((end - begin) * row_bytes));
  const Parts parts(tensor, begin, end, row_bytes, thread_count(threads));
  Decoding decoding(tensor, begin, parts, dtype, bytes);
  auto done = [&] {
    const GilReleased released;
    Workers workers(static_cast<unsigned>(std::clamp<std::uint64_t>(parts.count(), 1, thread_count(threads))));
    return decoding.run(workers);
  }();
  if (decoding.interrupted()) decoding.raise_interruption();
  value_of(std::move(done));
}

}  // namespace

void add_decode(nb::class_<Container>& container) {
  container.def("read_rows", &read_rows)
      .def("row_bytes", [](const Container& self, std::uint32_t number, std::string_view dtype) {
        return self.tensor(number).row_bytes(dtype_named(dtype));
      });
}

}  // namespace cdna::python
