// Polynomials for the Gaussian over a row of pixels (FINUFFT's spreader uses them for its kernel). Let d be a point's
// distance from the nearest pixel, |d| <= 1/2. At the pixel k away from the nearest one, exp(-(d - k)^2 / tau) is a
// polynomial in d for each k.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace fractalops::cpu {

// Returns the degree at which the error is about that of exp in float32, at most 1.3e-7. Returns 0 if exponentials are
// used: float64 would need twice the degree, and so would a bandwidth below 0.5. Far below the default cutoff, under
// 1e-13, values can be negative.
template <typename T>
int polynomial_degree(T bandwidth) {
  if (sizeof(T) > 4 || bandwidth < T(0.5)) return 0;
  return bandwidth < T(1) ? 10 : 8;
}

// Replaces the values with the coefficients of the polynomial through (node, value), lowest power first. These are
// Newton's divided differences, multiplied out.
inline void interpolate(const double* nodes /* (count) */, int count, double* values /* (count) */) {
  for (int order = 1; order < count; ++order)
    for (int i = count - 1; i >= order; --i) values[i] = (values[i] - values[i - 1]) / (nodes[i] - nodes[i - order]);
  for (int i = count - 2; i >= 0; --i)
    for (int j = i; j < count - 1; ++j) values[j] -= nodes[i] * values[j + 1];
}

// Returns the polynomials for k = 0 to radius, (radius + 1, degree + 1), by interpolation in double at the Chebyshev
// points of |d| <= 1/2. The odd coefficients for -k are those for k with the other sign. The even part is a polynomial
// in d^2 of half the degree, and the odd part is d times such a polynomial. The degree is even.
template <typename T>
std::vector<T> gaussian_polynomials(double bandwidth, int64_t radius, int degree) {
  constexpr int most = 6;
  const int half = degree / 2;
  double square[most], right[most], left[most],
      step[most];  // (half + 1) each: d^2; the Gaussian at d and at -d; a factor from k to k + 1
  for (int i = 0; i <= half; ++i) {
    const double d = i == 0 ? 0 : 0.5 * std::sin(std::numbers::pi * i / (degree + 1));
    square[i] = d * d;
    right[i] = left[i] = std::exp(-square[i] / bandwidth);
    step[i] = std::exp(2 * d / bandwidth);
  }
  std::vector<T> coefficients((radius + 1) * (degree + 1));  // (radius + 1, degree + 1)
  const double ratio = std::exp(-2 / bandwidth);
  double fall = std::exp(-1 / bandwidth);  // exp(-(2 k + 1) / tau)
  for (int64_t k = 0; k <= radius; ++k, fall *= ratio) {
    double even[most], odd[most] = {};  // (half + 1), (half)
    for (int i = 0; i <= half; ++i) {
      even[i] = (right[i] + left[i]) / 2;
      if (i > 0) odd[i - 1] = (right[i] - left[i]) / (2 * std::sqrt(square[i]));
      right[i] *= fall * step[i];
      left[i] *= fall / step[i];
    }
    interpolate(square, half + 1, even);
    interpolate(square + 1, half, odd);
    T* row = coefficients.data() + k * (degree + 1);  // (degree + 1)
    for (int i = 0; i <= half; ++i) row[2 * i] = static_cast<T>(even[i]);
    for (int i = 0; i < half; ++i) row[2 * i + 1] = static_cast<T>(odd[i]);
  }
  return coefficients;
}

}  // namespace fractalops::cpu
