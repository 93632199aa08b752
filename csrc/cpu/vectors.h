// Vectors of FRACTALOPS_VECTOR_BYTES in the compiler's vector extension. A vector is one register if the kernel is
// compiled for such registers. Otherwise it is several SSE or NEON registers. Kernels include this file once per
// instruction set, so it has no include guard.

namespace fractalops::cpu::FRACTALOPS_ISA {

typedef float Floats __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));
typedef double Doubles __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));
typedef int64_t Longs __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));
// The bits of a vector's elements. Their arithmetic wraps around.
typedef uint32_t IntBits __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));
typedef uint64_t LongBits __attribute__((vector_size(FRACTALOPS_VECTOR_BYTES)));

template <typename T>
struct Lanes;

template <>
struct Lanes<float> {
  using Vector = Floats;
  using Integer = int32_t;
  using Integers = Ints;
  static constexpr int count = FRACTALOPS_VECTOR_BYTES / 4;
  static constexpr float rounder = 12582912.0f;       // 1.5 * 2^23
  static constexpr float smallest_exponent = -87.0f;  // exp of a smaller number is subnormal
};

template <>
struct Lanes<double> {
  using Vector = Doubles;
  using Integer = int64_t;
  using Integers = Longs;
  static constexpr int count = FRACTALOPS_VECTOR_BYTES / 8;
  static constexpr double rounder = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double smallest_exponent = -708.0;
};

template <typename T>
using Vector = typename Lanes<T>::Vector;
template <typename T>
using Integers = typename Lanes<T>::Integers;

// Calls body(0), body(1), ... `count` times. If Known, count equals Count, and there is no loop.
template <bool Known, int Count, typename Body, int... At>
FRACTALOPS_INLINE void repeat_at(int64_t count, const Body& body, std::integer_sequence<int, At...>) {
  if constexpr (Known) {
    (body(At), ...);
  } else {
    for (int64_t at = 0; at < count; ++at) body(at);
  }
}

template <bool Known, int Count, typename Body>
FRACTALOPS_INLINE void repeat(int64_t count, const Body& body) {
  repeat_at<Known, Count>(count, body, std::make_integer_sequence<int, Count>());
}

template <typename T, int... Lane>
FRACTALOPS_INLINE Vector<T> count_lanes(std::integer_sequence<int, Lane...>) {
  return Vector<T>{static_cast<T>(Lane)...};
}

// Returns 0, 1, 2, ...
template <typename T>
FRACTALOPS_INLINE Vector<T> iota() {
  return count_lanes<T>(std::make_integer_sequence<int, Lanes<T>::count>());
}

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

// Returns the elements `Index::at(lane)...` of two concatenated vectors. GCC has had clang's builtin since version 12.
template <typename T, typename Index, int... Lane>
FRACTALOPS_INLINE Vector<T> pick_lanes(const Vector<T>& v, const Vector<T>& w, std::integer_sequence<int, Lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(v, w, Index::at(Lane)...);
#else
  return __builtin_shuffle(v, w, Integers<T>{Index::at(Lane)...});
#endif
}

template <typename T, typename Index>
FRACTALOPS_INLINE Vector<T> pick(const Vector<T>& v, const Vector<T>& w) {
  return pick_lanes<T, Index>(v, w, std::make_integer_sequence<int, Lanes<T>::count>());
}

// The first (Part 0) or second (Part 1) elements of pairs.
template <int Part>
struct OfPairs {
  static constexpr int at(int lane) { return 2 * lane + Part; }
};

// Alternating elements of two vectors, from their first (Part 0) or second (Part 1) halves.
template <int Count, int Part>
struct InTurn {
  static constexpr int at(int lane) { return Part * Count / 2 + lane / 2 + lane % 2 * Count; }
};

// Alternating runs of Width elements of two vectors: the first (Part 0) or second (Part 1) run of every 2 Width
// elements.
template <int Count, int Width, int Part>
struct Runs {
  static constexpr int at(int lane) {
    return lane / (2 * Width) * (2 * Width) + Part * Width + lane % Width + (lane / Width % 2) * Count;
  }
};

// Alternating elements of two vectors: the first (Part 0) or second (Part 1) two of every 4 elements. x86 has an
// instruction for this.
template <int Count, int Part>
struct Quarters {
  static constexpr int at(int lane) { return lane / 4 * 4 + 2 * Part + lane % 4 / 2 + lane % 2 * Count; }
};

// Separates the pairs in two consecutive vectors into their first and their second elements.
template <typename T>
FRACTALOPS_INLINE void take_apart(const Vector<T>& v, const Vector<T>& w, Vector<T>& first, Vector<T>& second) {
  first = pick<T, OfPairs<0>>(v, w);
  second = pick<T, OfPairs<1>>(v, w);
}

// The inverse of take_apart.
template <typename T>
FRACTALOPS_INLINE void put_together(const Vector<T>& first, const Vector<T>& second, Vector<T>& v, Vector<T>& w) {
  v = pick<T, InTurn<Lanes<T>::count, 0>>(first, second);
  w = pick<T, InTurn<Lanes<T>::count, 1>>(first, second);
}

template <typename T, int Width>
FRACTALOPS_INLINE Vector<T> add_runs(const Vector<T>& v, const Vector<T>& w) {
  constexpr int count = Lanes<T>::count;
  return pick<T, Runs<count, Width, 0>>(v, w) + pick<T, Runs<count, Width, 1>>(v, w);
}

// Adds up the lanes of each of four vectors, within 128 bits (float) or 256 bits (double). In each of these groups of
// four elements, the result has one sum per vector.
template <typename T>
FRACTALOPS_INLINE Vector<T> add_quads(const Vector<T>* v /* (4) */) {
  constexpr int count = Lanes<T>::count;
  if constexpr (sizeof(T) == 4) {
    const auto add = [](const Vector<T>& a, const Vector<T>& b) {
      return pick<T, Quarters<count, 0>>(a, b) + pick<T, Quarters<count, 1>>(a, b);
    };
    return add_runs<T, 2>(add(v[0], v[1]), add(v[2], v[3]));
  } else {
    return add_runs<T, 2>(add_runs<T, 1>(v[0], v[1]), add_runs<T, 1>(v[2], v[3]));
  }
}

// Completes add_quads. Element i is the sum over all lanes of vector i; there are as many vectors as lanes.
template <typename T>
FRACTALOPS_INLINE Vector<T> join_quads(const Vector<T>* quads /* (lanes / 4) */) {
  constexpr int count = Lanes<T>::count;
  if constexpr (count == 4) {
    return quads[0];
  } else if constexpr (count == 8) {
    return add_runs<T, 4>(quads[0], quads[1]);
  } else {
    return add_runs<T, 8>(add_runs<T, 4>(quads[0], quads[1]), add_runs<T, 4>(quads[2], quads[3]));
  }
}

template <int Count, int By>
struct Rotated {
  static constexpr int at(int lane) { return (lane + By) % Count; }
};

// Returns the sum over all lanes, by halves. With a smaller Count, it is the sum over the first Count lanes, which the
// others must repeat.
template <typename T, int Count = Lanes<T>::count>
FRACTALOPS_INLINE T sum(const Vector<T>& v) {
  if constexpr (Count == 2) {
    return v[0] + v[1];
  } else {
    return sum<T, Count / 2>(v + pick<T, Rotated<Lanes<T>::count, Count / 2>>(v, v));
  }
}

// Whether all lanes, or any lanes, of a comparison are true.
template <typename T>
FRACTALOPS_INLINE bool all(const Integers<T>& compared) {
  const Longs words = reinterpret_cast<Longs>(compared);
  int64_t together = words[0];
  for (int word = 1; word < FRACTALOPS_VECTOR_BYTES / 8; ++word) together &= words[word];
  return together == -1;
}

template <typename T>
FRACTALOPS_INLINE bool any(const Integers<T>& compared) {
  const Longs words = reinterpret_cast<Longs>(compared);
  int64_t together = words[0];
  for (int word = 1; word < FRACTALOPS_VECTOR_BYTES / 8; ++word) together |= words[word];
  return together != 0;
}

// Returns the vector in lanes where a comparison is true, and 0 in the others.
template <typename T>
FRACTALOPS_INLINE Vector<T> keep(const Vector<T>& v, const Integers<T>& where) {
  return reinterpret_cast<Vector<T>>(reinterpret_cast<Integers<T>>(v) & where);
}

// Returns elements 0, stride, 2 stride, ... in lanes below `members`, and 0 in the others.
template <typename T>
FRACTALOPS_INLINE Vector<T> gather(const T* from, int64_t stride, int64_t members) {
  if (stride == 1 && members == Lanes<T>::count) return load(from);
  Vector<T> v = {};
  for (int64_t lane = 0; lane < members; ++lane) v[lane] = from[lane * stride];
  return v;
}

template <typename T>
FRACTALOPS_INLINE void scatter(const Vector<T>& v, T* to, int64_t stride, int64_t members) {
  if (stride == 1 && members == Lanes<T>::count) return store<T>(v, to);
  for (int64_t lane = 0; lane < members; ++lane) to[lane * stride] = v[lane];
}

template <typename T>
FRACTALOPS_INLINE Vector<T> magnitude(const Vector<T>& v) {
  constexpr auto all_but_sign = std::numeric_limits<typename Lanes<T>::Integer>::max();
  return reinterpret_cast<Vector<T>>(reinterpret_cast<Integers<T>>(v) & all_but_sign);
}

// Rounds half to even, for |x| below 2^(mantissa bits - 1). Adding 1.5 * 2^(mantissa bits) leaves no bits for a
// fraction.
template <typename T>
FRACTALOPS_INLINE Vector<T> round(const Vector<T>& x) {
  return (x + Lanes<T>::rounder) - Lanes<T>::rounder;
}

// Converts whole numbers in the same range to integers.
template <typename T>
FRACTALOPS_INLINE Integers<T> to_integers(const Vector<T>& whole) {
  return reinterpret_cast<Integers<T>>(whole + Lanes<T>::rounder) -
         __builtin_bit_cast(typename Lanes<T>::Integer, Lanes<T>::rounder);
}

// Returns exp(x) for smallest_exponent <= x <= 0; other results are undefined. x = n ln 2 + f. exp(f) is a polynomial.
// n is in the low bits of the sum with the rounder, and is added to the exponent's bits.
FRACTALOPS_INLINE Floats exp_nonpositive(const Floats& x) {
  const Floats shifted = x * 1.44269504f + Lanes<float>::rounder;
  const Floats n = shifted - Lanes<float>::rounder;
  const Floats f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = 1.9875691500e-4f * f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f + 1.0f;
  return reinterpret_cast<Floats>(reinterpret_cast<IntBits>(p) + (reinterpret_cast<IntBits>(shifted) << 23));
}

FRACTALOPS_INLINE Doubles exp_nonpositive(const Doubles& x) {
  const Doubles shifted = x * 1.4426950408889634 + Lanes<double>::rounder;
  const Doubles n = shifted - Lanes<double>::rounder;
  const Doubles f = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  // Taylor's terms up to f^13 / 13!; |f| <= ln(2) / 2 leaves a remainder below 1e-17.
  Doubles p = 1.6059043836821613e-10 * f + 2.08767569878681e-09;
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
  return reinterpret_cast<Doubles>(reinterpret_cast<LongBits>(p) + (reinterpret_cast<LongBits>(shifted) << 52));
}

}  // namespace fractalops::cpu::FRACTALOPS_ISA
