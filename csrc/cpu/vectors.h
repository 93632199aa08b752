// Vectors of 32 bytes in the compiler's own vector extension: AVX2 registers where the kernel is compiled for them,
// pairs of SSE or NEON registers elsewhere. Included by a kernel, once for each instruction set; so no include guard.

namespace fractalops::cpu::FRACTALOPS_ISA {

typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef double Double4 __attribute__((vector_size(32)));
typedef int64_t Int4 __attribute__((vector_size(32)));
// The bits of a vector's elements, whose arithmetic wraps.
typedef uint32_t Bits8 __attribute__((vector_size(32)));
typedef uint64_t Bits4 __attribute__((vector_size(32)));

template <typename T>
struct Lanes;

template <>
struct Lanes<float> {
  using Vector = Float8;
  using Integer = int32_t;
  using Integers = Int8;
  static constexpr int count = 8;
  static_assert(count == Raster<float>::lanes);
  static constexpr Vector iota = {0, 1, 2, 3, 4, 5, 6, 7};
  static constexpr float rounder = 12582912.0f;       // 1.5 * 2^23
  static constexpr float smallest_exponent = -87.0f;  // exp of less is subnormal
};

template <>
struct Lanes<double> {
  using Vector = Double4;
  using Integer = int64_t;
  using Integers = Int4;
  static constexpr int count = 4;
  static_assert(count == Raster<double>::lanes);
  static constexpr Vector iota = {0, 1, 2, 3};
  static constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double smallest_exponent = -708.0;
};

template <typename T>
using Vector = typename Lanes<T>::Vector;
template <typename T>
using Integers = typename Lanes<T>::Integers;

template <typename T>
FRACTALOPS_INLINE Vector<T> load(const T* from) {
  Vector<T> to;
  __builtin_memcpy(&to, from, sizeof(to));
  return to;
}

template <typename T>
FRACTALOPS_INLINE void store(const Vector<T>& from, T* to) {
  __builtin_memcpy(to, &from, sizeof(from));
}

// GCC has the builtin of the clang kind since version 12.
#if defined(__clang__) || __GNUC__ >= 12
#define FRACTALOPS_SHUFFLE_TWO(mask_type, v, w, ...) __builtin_shufflevector(v, w, __VA_ARGS__)
#else
#define FRACTALOPS_SHUFFLE_TWO(mask_type, v, w, ...) __builtin_shuffle(v, w, mask_type{__VA_ARGS__})
#endif
#define FRACTALOPS_SHUFFLE(mask_type, v, ...) FRACTALOPS_SHUFFLE_TWO(mask_type, v, v, __VA_ARGS__)

template <typename T>
FRACTALOPS_INLINE T sum(const Vector<T>& v) {
  if constexpr (sizeof(T) == 4) {
    const Vector<T> halves = v + FRACTALOPS_SHUFFLE(Int8, v, 4, 5, 6, 7, 0, 1, 2, 3);
    const Vector<T> quarters = halves + FRACTALOPS_SHUFFLE(Int8, halves, 2, 3, 0, 1, 6, 7, 4, 5);
    return quarters[0] + quarters[1];
  } else {
    const Vector<T> halves = v + FRACTALOPS_SHUFFLE(Int4, v, 2, 3, 0, 1);
    return halves[0] + halves[1];
  }
}

// Takes pairs that lie in two vectors, one after the other, apart: their first elements, and their second ones.
template <typename T>
FRACTALOPS_INLINE void take_apart(const Vector<T>& v, const Vector<T>& w, Vector<T>& first, Vector<T>& second) {
  if constexpr (sizeof(T) == 4) {
    first = FRACTALOPS_SHUFFLE_TWO(Int8, v, w, 0, 2, 4, 6, 8, 10, 12, 14);
    second = FRACTALOPS_SHUFFLE_TWO(Int8, v, w, 1, 3, 5, 7, 9, 11, 13, 15);
  } else {
    first = FRACTALOPS_SHUFFLE_TWO(Int4, v, w, 0, 2, 4, 6);
    second = FRACTALOPS_SHUFFLE_TWO(Int4, v, w, 1, 3, 5, 7);
  }
}

// Whether all lanes of a comparison's result are true.
template <typename T>
FRACTALOPS_INLINE bool all(const Integers<T>& compared) {
  const Int4 words = reinterpret_cast<Int4>(compared);
  return (words[0] & words[1] & words[2] & words[3]) == -1;
}

template <typename T>
FRACTALOPS_INLINE Vector<T> magnitude(const Vector<T>& v) {
  constexpr auto all_but_sign = std::numeric_limits<typename Lanes<T>::Integer>::max();
  return reinterpret_cast<Vector<T>>(reinterpret_cast<Integers<T>>(v) & all_but_sign);
}

#undef FRACTALOPS_SHUFFLE
#undef FRACTALOPS_SHUFFLE_TWO

// Rounds half to even, for |x| below 2^(mantissa bits - 1): adding 1.5 * 2^(mantissa bits) leaves no room for a
// fraction.
template <typename T>
FRACTALOPS_INLINE Vector<T> round(const Vector<T>& x) {
  return (x + Lanes<T>::rounder) - Lanes<T>::rounder;
}

// exp(x) for smallest_exponent <= x <= 0, anything outside: x = n ln 2 + f, exp(f) by a polynomial, and n, which the
// rounder leaves in the low bits of the sum, added to the exponent's bits.
FRACTALOPS_INLINE Float8 exp_nonpositive(const Float8& x) {
  const Float8 shifted = x * 1.44269504f + Lanes<float>::rounder;
  const Float8 n = shifted - Lanes<float>::rounder;
  const Float8 f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Float8 p = 1.9875691500e-4f * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f + 1.0f;
  return reinterpret_cast<Float8>(reinterpret_cast<Bits8>(p) + (reinterpret_cast<Bits8>(shifted) << 23));
}

FRACTALOPS_INLINE Double4 exp_nonpositive(const Double4& x) {
  const Double4 shifted = x * 1.4426950408889634 + Lanes<double>::rounder;
  const Double4 n = shifted - Lanes<double>::rounder;
  const Double4 f = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  // Taylor's terms up to f^13 / 13!; |f| <= ln(2) / 2 leaves a remainder below 1e-17.
  Double4 p = 1.6059043836821613e-10 * f + 2.08767569878681e-09;
  p = p * f + 2.505210838544172e-08;
  p = p * f + 2.755731922398589e-07;
  p = p * f + 2.7557319223985893e-06;
  p = p * f + 2.48015873015873e-05;
  p = p * f + 1.984126984126984e-04;
  p = p * f + 1.388888888888889e-03;
  p = p * f + 8.333333333333333e-03;
  p = p * f + 4.1666666666666664e-02;
  p = p * f + 1.6666666666666666e-01;
  p = p * f + 0.5;
  p = p * (f * f) + f + 1.0;
  return reinterpret_cast<Double4>(reinterpret_cast<Bits4>(p) + (reinterpret_cast<Bits4>(shifted) << 52));
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
