// Masks of 3 x 3 pixels, as Python's `random.randrange(1, 512)` draws them.
//
// This file is included once per instruction set, so it has no include guard. It does not include torch, so that the
// sanitizer tests can compile it separately.
#include "mersenne_twister.h"

namespace fractalops::cpu::FRACTALOPS_ISA {

// randrange(1, 512) takes the highest 9 bits of each word until they are below 511, and adds 1.
inline void draw_masks(uint64_t seed, int64_t count, int16_t* mask /* (count) */) {
  constexpr int64_t size = MersenneTwister::size;
  MersenneTwister generator(seed);
  uint32_t words[size];
  int16_t kept[size];
  for (int64_t drawn = 0; drawn < count;) {
    generator.draw(words);
    int64_t length = 0;
    for (int64_t i = 0; i < size; ++i) {
      const uint32_t number = words[i] >> 23;
      kept[length] = static_cast<int16_t>(number + 1);
      length += number < 511;
    }
    length = length < count - drawn ? length : count - drawn;
    __builtin_memcpy(mask + drawn, kept, sizeof(int16_t) * static_cast<size_t>(length));
    drawn += length;
  }
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
