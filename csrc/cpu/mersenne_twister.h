// MT19937 (Matsumoto and Nishimura 1998), seeded like Python's `random`. Kernels include this file once per instruction
// set, so it has no include guard. It does not include torch, so that the sanitizer tests can compile it separately.

namespace fractalops::cpu::FRACTALOPS_ISA {

struct MersenneTwister {
  static constexpr int64_t size = 624, middle = 397;

  uint32_t state[size];

  // Seeds the generator like `random.seed(seed)`: by an array of the seed's 32-bit words, the lowest first.
  explicit MersenneTwister(uint64_t seed) {
    const uint32_t key[] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    const int64_t words = key[1] ? 2 : 1;
    state[0] = 19650218;
    for (int64_t i = 1; i < size; ++i)
      state[i] = 1812433253u * (state[i - 1] ^ (state[i - 1] >> 30)) + static_cast<uint32_t>(i);
    int64_t i = 1, j = 0;
    const auto advance = [&]() FRACTALOPS_LAMBDA {
      if (++i == size) {
        state[0] = state[size - 1];
        i = 1;
      }
    };
    for (int64_t k = 0; k < size; ++k) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1664525u)) + key[j] + static_cast<uint32_t>(j);
      advance();
      j = j + 1 == words ? 0 : j + 1;
    }
    for (int64_t k = 1; k < size; ++k) {
      state[i] = (state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1566083941u)) - static_cast<uint32_t>(i);
      advance();
    }
    state[0] = 0x80000000u;
  }

  // Writes the next `size` numbers. The loops are split where an index would wrap around, so that each of them
  // vectorizes.
  FRACTALOPS_INLINE void draw(uint32_t* __restrict__ words /* (size) */) {
    const auto twisted = [&](int64_t i, int64_t next, int64_t other) FRACTALOPS_LAMBDA {
      const uint32_t mixed = (state[i] & 0x80000000u) | (state[next] & 0x7fffffffu);
      return state[other] ^ (mixed >> 1) ^ (-(mixed & 1u) & 0x9908b0dfu);
    };
    for (int64_t i = 0; i < size - middle; ++i) state[i] = twisted(i, i + 1, i + middle);
    for (int64_t i = size - middle; i < size - 1; ++i) state[i] = twisted(i, i + 1, i + middle - size);
    state[size - 1] = twisted(size - 1, 0, middle - 1);
    for (int64_t i = 0; i < size; ++i) {
      uint32_t word = state[i];
      word ^= word >> 11;
      word ^= (word << 7) & 0x9d2c5680u;
      word ^= (word << 15) & 0xefc60000u;
      words[i] = word ^ (word >> 18);
    }
  }
};

}  // namespace fractalops::cpu::FRACTALOPS_ISA
