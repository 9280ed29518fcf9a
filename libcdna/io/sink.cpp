// Sinks over descriptors and memory.
#include "cdna/sink.hpp"

#include "libcdna/io/descriptor.hpp"
#include "libcdna/no_throw.hpp"

namespace cdna {
namespace {

class DescriptorSink final : public Sink {
 public:
  DescriptorSink(int fd, FileSystem& file_system) : fd_(fd), file_system_(file_system) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    return no_throw([&] { return write_all(file_system_, fd_, bytes); });
  }
  Result<void> commit() override { return {}; }

 private:
  int fd_;
  FileSystem& file_system_;
};

class MemorySink final : public Sink {
 public:
  explicit MemorySink(std::vector<std::byte>& out) : out_(out) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    return no_throw([&]() -> Result<void> {
      out_.insert(out_.end(), bytes.begin(), bytes.end());
      return {};
    });
  }
  Result<void> commit() override { return {}; }

 private:
  std::vector<std::byte>& out_;
};

}  // namespace

std::unique_ptr<Sink> descriptor_sink(int fd, FileSystem& file_system) {
  return std::make_unique<DescriptorSink>(fd, file_system);
}

std::unique_ptr<Sink> memory_sink(std::vector<std::byte>& out) { return std::make_unique<MemorySink>(out); }

}  // namespace cdna
