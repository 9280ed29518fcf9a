// What the parts of the check share: counting, and calling a product with memory in which nothing goes unseen.
#pragma once

#include <cstdarg>
#include <cstdio>
#include <string>
#include <vector>

#include "reference.h"

#ifdef __CUDACC__
#define CDNA_EMULATED 0
#else
#define CDNA_EMULATED 1
#endif

namespace cdna_cuda {

constexpr Loop kLoops[] = {Loop::stream, Loop::block, Loop::wgmma};

// Counts, and prints what failed: the first few of each section.
class Tally {
 public:
  // Whether it held. The message is printed if not.
  bool check(bool holds, const char* format, ...) __attribute__((format(printf, 3, 4)));
  void begin_section() { printed_ = 0; }
  unsigned passed() const { return passed_; }
  unsigned failed() const { return failed_; }

 private:
  unsigned passed_ = 0;
  unsigned failed_ = 0;
  unsigned printed_ = 0;
};

struct CheckOptions {
  bool quick = false;
  bool tiny = CDNA_EMULATED != 0;  // Small enough for an emulated device, or for a sanitizer.
  std::string preset;              // Only this one; empty: all.
  double seconds = 1e6;            // Presets that have not begun by then are left out, which is stated.
};

// y of one or more segments, all of it poison before each call.
class Output {
 public:
  // Rows of y are `stride` elements apart.
  Output(Float type, std::uint32_t m, std::int64_t stride)
      : type_(type), stride_(stride), bytes_(std::size_t{m} * static_cast<std::size_t>(stride) * size_of(type)) {
    poison();
  }
  void poison() const { bytes_.fill(0xFF); }
  Float type() const { return type_; }
  std::int64_t stride() const { return stride_; }
  void* data() const { return bytes_.data(); }
  std::vector<unsigned char> host() const { return bytes_.host(); }
  bool is_poison() const;

 private:
  Float type_;
  std::int64_t stride_;
  DeviceArray<unsigned char> bytes_;
};

// A workspace as linear.h wants it: the first 4 KiB are 0, the rest is NaN, and behind its end is a guard.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes) : size_(bytes), bytes_(bytes + kGuardBytes) { reset(); }
  void reset() const;
  void give_to(LinearCall* call) const;
  // Whether the call left the first 4 KiB as 0, and what is behind as it was.
  bool is_intact() const;

 private:
  static constexpr std::size_t kZeroBytes = 4096;
  static constexpr std::size_t kGuardBytes = 256;
  std::size_t size_;
  DeviceArray<unsigned char> bytes_;
};

// A call for x and y without workspace. `segments` outlives it.
LinearCall call_of(const std::vector<Segment>& segments, const Activations& x, std::uint32_t m, const Output& y,
                   Loop loop);

// Products of every preset, shape, m, type and loop against float64.
void check_products(const Device& device, const CheckOptions& options, Tally* tally);
// Codes and scales into the order of tiles, and back to numbers.
void check_packing(const CheckOptions& options, Tally* tally);
// Same bits every time; streams, graphs, memory, several segments, refusals.
void check_behaviour(const Device& device, const CheckOptions& options, Tally* tally);

}  // namespace cdna_cuda
