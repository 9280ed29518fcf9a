// Every read asks the object, with the GIL.
#include "python_source.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "libcdna/try.hpp"
#include "python_error.hpp"

namespace cdna::python {

namespace nb = nanobind;

namespace {

// What a source's read_at() raised, and as what message it went through the library.
struct Raised {
  const void* source;
  std::string message;
  nb::object exception;
};
constexpr std::size_t kRaisedMax = 16;  // Of all sources: of most errors of several threads only one is reported.

// The latest last. Used with the GIL; never destroyed, as that would be behind the interpreter's end.
std::vector<Raised>& raised() {
  static auto* const raised = new std::vector<Raised>;
  return *raised;
}

void keep_raised(Raised latest) {
  nb::object forgotten;  // Dropped last: that may run Python code.
  if (raised().size() == kRaisedMax) {
    forgotten = std::move(raised().front().exception);
    raised().erase(raised().begin());
  }
  raised().push_back(std::move(latest));
}

void forget_raised(const void* source) {
  std::vector<Raised> forgotten;
  const auto begin =
      std::stable_partition(raised().begin(), raised().end(), [&](const Raised& one) { return one.source != source; });
  std::move(begin, raised().end(), std::back_inserter(forgotten));
  raised().erase(begin, raised().end());
}

class PythonSource final : public Source {
 public:
  PythonSource(nb::object object, std::uint64_t size_bytes, std::string name)
      : object_(std::move(object)), size_bytes_(size_bytes), name_(std::move(name)) {}
  ~PythonSource() override {
    const GilHeld gil;
    if (!gil) (void)object_.release();  // What outlives the interpreter is left to the system.
    object_.reset();
  }
  nb::handle object() const { return object_; }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  std::string_view name() const override { return name_; }
  Result<void> read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    const GilHeld gil;
    if (!gil) return fail(Code::io, "", "the interpreter has ended", offset);
    return run_python([&] { return ask(offset, out); });
  }

 private:
  // Lets nothing out but std::bad_alloc.
  Result<void> ask(std::uint64_t offset, std::span<std::byte> out) const {
    try {
      const nb::object answer = object_.attr("read_at")(offset, out.size());
      const Borrowed bytes = Borrowed::bytes(answer);
      if (bytes.read().size() != out.size())
        return fail(
            Code::io, "",
            "read_at() gave " + std::to_string(bytes.read().size()) + " bytes instead of " + std::to_string(out.size()),
            offset);
      if (!out.empty()) std::memcpy(out.data(), bytes.read().data(), out.size());
      return {};
    } catch (nb::python_error& error) {
      std::string message = "read_at() raised " + description_of(error);
      keep_raised({this, message, nb::borrow(error.value())});
      return fail(Code::io, "", std::move(message), offset);
    }
  }
  // Of an exception whose __str__ raises, the class alone.
  static std::string description_of(const nb::python_error& error) {
    std::string type = reinterpret_cast<PyTypeObject*>(error.type().ptr())->tp_name;
    type.erase(0, type.rfind('.') + 1);
    try {
      return type + ": " + utf8_of(nb::str(error.value()));
    } catch (nb::python_error&) {
      return type;
    }
  }

  nb::object object_;
  std::uint64_t size_bytes_;
  std::string name_;
};

}  // namespace

nb::handle object_behind(const Source& source) {
  const auto* const asking = dynamic_cast<const PythonSource*>(&source);
  return asking == nullptr ? nb::handle() : asking->object();
}

std::shared_ptr<const void> keep_exceptions(const Source& source) {
  return {&source, [](const void* gone) {
            const GilHeld gil;
            if (gil) forget_raised(gone);
          }};
}

nb::object exception_behind(const Error& error) {
  if (error.code != Code::io) return {};
  const auto found =
      std::find_if(raised().rbegin(), raised().rend(), [&](const Raised& one) { return one.message == error.message; });
  if (found == raised().rend()) return {};
  nb::object exception = std::move(found->exception);
  raised().erase(std::next(found).base());
  return exception;
}

std::unique_ptr<Source> python_source(const nb::object& object) {
  const auto size = nb::cast<std::uint64_t>(object.attr("size"));
  std::string name = "<source>";
  if (nb::hasattr(object, "name") && nb::isinstance<nb::str>(object.attr("name"))) name = utf8_of(object.attr("name"));
  return std::make_unique<PythonSource>(object, size, std::move(name));
}

}  // namespace cdna::python
