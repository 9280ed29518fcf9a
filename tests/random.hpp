// Random numbers for tests: bytes, weights, and distributions of weights.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cdna::test {

// Numbers that are the same everywhere: SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  // Requires: end > 0. The bias of the remainder does not matter to tests.
  std::uint64_t below(std::uint64_t end) { return next() % end; }
  std::vector<std::byte> bytes(std::size_t size);
  // Bell-shaped, about -2..2, every one a multiple of 2^-16: exact in f32.
  std::vector<float> weights(std::size_t count);

 private:
  std::uint64_t state_;
};

// Random numbers with the distributions of weights.
class Noise : public Random {
 public:
  using Random::Random;
  double unit();      // In (0, 1).
  double gaussian();  // Box and Muller 1958.
  double student(int degrees);
};

inline std::uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15U;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

inline std::vector<std::byte> Random::bytes(std::size_t size) {
  std::vector<std::byte> out(size);
  for (std::byte& byte : out) byte = static_cast<std::byte>(next() >> 56);
  return out;
}

inline std::vector<float> Random::weights(std::size_t count) {
  std::vector<float> out(count);
  for (float& value : out) {
    std::int64_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += static_cast<std::int64_t>(next() >> 48) - 0x8000;
    value = static_cast<float>(sum) / 65536.0F;
  }
  return out;
}

inline double Noise::unit() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }

inline double Noise::gaussian() { return std::sqrt(-2 * std::log(unit())) * std::cos(6.283185307179586 * unit()); }

inline double Noise::student(int degrees) {
  double sum = 0;
  for (int i = 0; i < degrees; ++i) {
    const double value = gaussian();
    sum += value * value;
  }
  return gaussian() / std::sqrt(sum / degrees);
}

}  // namespace cdna::test
