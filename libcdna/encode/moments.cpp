// Moments about a pivot to moments about the mean, and two of them to one.
#include "libcdna/encode/moments.hpp"

namespace cdna {

CentralMoments CentralMoments::about(double pivot, double count, double d, double d2, double d3, double d4) {
  CentralMoments moments;
  if (count == 0) return moments;
  const double shift = d / count;
  moments.count = count;
  moments.mean = pivot + shift;
  moments.m2 = d2 - shift * d;
  if (!(moments.m2 > d2 * 0x1p-40)) {
    moments.m2 = 0;
    return moments;
  }
  moments.m3 = d3 - 3 * shift * d2 + 2 * shift * shift * d;
  moments.m4 = d4 - 4 * shift * d3 + 6 * shift * shift * d2 - 3 * shift * shift * shift * d;
  return moments;
}

void CentralMoments::add(const CentralMoments& other) {
  if (other.count == 0) return;
  if (count == 0) {
    *this = other;
    return;
  }
  const double all = count + other.count;
  const double delta = other.mean - mean;
  const double part = delta / all;
  const double product = count * other.count;
  const double square = delta * part * product;  // delta^2 * n1 * n2 / n
  m4 += other.m4 + square * part * part * (count * count - product + other.count * other.count) +
        6 * part * part * (count * count * other.m2 + other.count * other.count * m2) +
        4 * part * (count * other.m3 - other.count * m3);
  m3 += other.m3 + square * part * (count - other.count) + 3 * part * (count * other.m2 - other.count * m2);
  m2 += other.m2 + square;
  mean += part * other.count;
  count = all;
}

double CentralMoments::excess_kurtosis() const {
  if (count == 0) return 0;
  const double variance = m2 / count;
  if (!(variance * variance > 0)) return 0;
  return m4 / count / (variance * variance) - 3;
}

}  // namespace cdna
