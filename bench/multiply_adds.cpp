// Prints the rate of fused multiply-adds of one core, in AVX2 vector instructions a nanosecond: 8 floats each, from
// registers alone. A core that starts two every cycle shows twice its clock in GHz.

#include <chrono>
#include <cstdio>

typedef float Vector __attribute__((vector_size(32)));

// Independent chains enough, with two to spare, to hide a latency of 4 cycles at two instructions a cycle.
constexpr int kChains = 10;

int main(int count, char**) {
  const long iterations = 20'000'000;
  // Known at run time only, so that nothing is computed beforehand; the sums stay finite.
  const Vector factor = Vector{} + 0.5f / count;
  const Vector term = Vector{} + 1.0f / count;
  double best = 0;
  float sink = 0;
  for (int round = 0; round < 7; ++round) {
    Vector chain[kChains];  // no two alike, or the compiler would run one for all
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
