// Prints the rate of fused multiply-adds of one core, in AVX2 vector instructions of 8 floats per nanosecond, from
// registers only. If a core starts two per cycle, the rate is twice its clock in GHz.

#include <chrono>
#include <cstdio>

typedef float Vector __attribute__((vector_size(32)));

// Enough independent chains, with two to spare, to hide a latency of 4 cycles at two instructions per cycle.
constexpr int kChains = 10;

int main(int count, char**) {
  const long iterations = 20'000'000;
  // The values are known only at run time, so that nothing is computed at compile time. The sums stay finite.
  const Vector factor = Vector{} + 0.5f / count;
  const Vector term = Vector{} + 1.0f / count;
  double best = 0;
  float sink = 0;
  for (int round = 0; round < 7; ++round) {
    Vector chain[kChains];  // all different, because the compiler would compute equal ones once
    for (int j = 0; j < kChains; ++j) chain[j] = Vector{} + static_cast<float>(j * count);
    const auto began = std::chrono::steady_clock::now();
    for (long i = 0; i < iterations; ++i) {
#pragma GCC unroll 10
      for (int j = 0; j < kChains; ++j) chain[j] = chain[j] * factor + term;
    }
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - began;
    for (const Vector& value : chain) sink += value[0];
    const double rate = kChains * iterations / taken.count();
    if (rate > best) best = rate;
  }
  std::printf("%.3f\n", best);
  return sink == 0;
}
