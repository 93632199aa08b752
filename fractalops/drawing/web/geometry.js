// Affine maps of the picture's plane. u grows to the right and v grows downwards. The picture is `width` x `height` and
// its longer side is 1. A map [a, b, c, d, e, f] maps (u, v) to (a u + b v + e, c u + d v + f).

const IDENTITY = [1, 0, 0, 1, 0, 0];
const FEW_WORDS = 32; // least number of words in a sample that replaces more words
const [TESTS_AT_ONCE, MOST_TESTS] = [6e4, 2e6]; // most tests of words against the window: per length, in total
const [SAMPLE, BURN_IN] = [2000, 100]; // points that determine the attractor's extent, points skipped before them
const LARGEST_STRETCH = 0.98; // largest singular value to which a map can be scaled, so that it contracts

/** Return the map that applies `second`, then `first`. */
function compose(first, second) {
  const [a, b, c, d, e, f] = first;
  const [p, q, r, s, t, w] = second;
  return [a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, a * t + b * w + e, c * t + d * w + f];
}

function apply(map, [u, v]) {
  return [map[0] * u + map[1] * v + map[4], map[2] * u + map[3] * v + map[5]];
}

/** Return the largest singular value of a map's linear part. */
function stretch([a, b, c, d]) {
  return (Math.hypot(a + d, c - b) + Math.hypot(a - d, b + c)) / 2;
}

function determinant([a, b, c, d]) {
  return Math.abs(a * d - b * c);
}

/** Return the map scaled and rotated (radians) about the image of `pivot`, which does not move. */
function scaleAndTurn(map, pivot, scale, angle) {
  const most = Math.max(LARGEST_STRETCH, stretch(map)); // a map that does not contract may keep its size
  const factor = Math.min(Math.max(scale, 1e-3), most / stretch(map));
  const [cos, sin] = [factor * Math.cos(angle), factor * Math.sin(angle)];
  const turned = compose([cos, -sin, sin, cos, 0, 0], map);
  const [u, v] = apply(map, pivot);
  const [movedU, movedV] = apply(turned, pivot);
  turned[4] += u - movedU;
  turned[5] += v - movedV;
  return turned;
}

/** Return the scales and the origin that convert the plane of the parameters to the plane of the picture. */
function placement({ size: [rows, columns], viewport: [xMin, yMin, xMax, yMax] }) {
  const longest = Math.max(rows, columns);
  const [width, height] = [columns / longest, rows / longest];
  return { width, height, alongU: width / (yMax - yMin), alongV: height / (xMax - xMin), xMin, yMin };
}

/** Return maps in the picture's plane. Parameters: matrix (N, 2, 2), offset (N, 2), x along rows, y along columns. */
function toPicture(parameters) {
  const { alongU, alongV, xMin, yMin } = placement(parameters);
  return parameters.matrix.map(([[xx, xy], [yx, yy]], n) => {
    const [x, y] = parameters.offset[n];
    const toU = alongU * (yx * xMin + yy * yMin + y - yMin);
    const toV = alongV * (xx * xMin + xy * yMin + x - xMin);
    return [yy, (yx * alongU) / alongV, (xy * alongV) / alongU, xx, toU, toV];
  });
}

/** Return the matrix and offset of maps in the picture's plane: the inverse of `toPicture`. */
function fromPicture(maps, parameters) {
  const { alongU, alongV, xMin, yMin } = placement(parameters);
  const matrix = maps.map(([yy, b, c, xx]) => [
    [xx, (c * alongU) / alongV],
    [(b * alongV) / alongU, yy],
  ]);
  const offset = maps.map(([, , , , e, f], n) => {
    const [[xx, xy], [yx, yy]] = matrix[n];
    return [f / alongV + xMin - xx * xMin - xy * yMin, e / alongU + yMin - yx * xMin - yy * yMin];
  });
  return { matrix, offset };
}

/** Return the probabilities of changed maps. They are scaled by the maps' change in area and normalized. */
function rescale(probabilities, before, now) {
  const weights = probabilities.map((p, n) => {
    const old = determinant(before[n]);
    return old > 0 ? p * Math.min(Math.max(determinant(now[n]) / old, 1e-3), 1e3) : p;
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** Return the tables of the alias method (Walker 1977): one random number chooses an item in constant time. */
function aliasTable(weights) {
  const count = weights.length;
  const mean = weights.reduce((sum, weight) => sum + weight, 0) / count;
  const keep = Float64Array.from(weights, (weight) => weight / mean);
  const other = Int32Array.from(weights.keys());
  const small = [];
  const large = [];
  keep.forEach((share, n) => (share < 1 ? small : large).push(n));
  while (small.length && large.length) {
    const [low, high] = [small.pop(), large[large.length - 1]];
    other[low] = high;
    keep[high] -= 1 - keep[low];
    if (keep[high] < 1) small.push(large.pop());
  }
  for (const n of [...small, ...large]) keep[n] = 1; // items that remain because of rounding
  return { keep, other };
}

/** Return an integer below 2^32 for a state (mulberry32). The state grows by RANDOM_STEP for each number. */
const RANDOM_STEP = 0x6d2b79f5;
function hash(state) {
  let t = Math.imul(state ^ (state >>> 15), state | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return (t ^ (t >>> 14)) >>> 0;
}

/** Return the bounding box { u, v, halfU, halfV } of an attractor, or null if its points diverge. */
function findExtent(maps, probabilities) {
  const { keep, other } = aliasTable(probabilities);
  const sample = [];
  let point = [0.5, 0.5];
  for (let i = -BURN_IN; i < SAMPLE; i++) {
    const slot = hash(Math.imul(i, RANDOM_STEP)) * (maps.length / 2 ** 32);
    const n = Math.floor(slot);
    point = apply(maps[slot - n < keep[n] ? n : other[n]], point);
    if (i >= 0) sample.push(point);
  }
  const step = Math.ceil(maps.length / 8);
  const some = sample.filter((_, i) => i % step === 0); // their images cover maps that are too rare for the sample
  for (const map of maps) for (const each of some) sample.push(apply(map, each));
  const [low, high] = [[Infinity, Infinity], [-Infinity, -Infinity]];
  for (const each of sample) {
    for (let axis = 0; axis < 2; axis++) {
      low[axis] = Math.min(low[axis], each[axis]);
      high[axis] = Math.max(high[axis], each[axis]);
    }
  }
  const [halfU, halfV] = [0, 1].map((axis) => (1.02 * (high[axis] - low[axis])) / 2 + 1e-9);
  if (!(halfU + halfV < 1e6)) return null;
  return { u: (low[0] + high[0]) / 2, v: (low[1] + high[1]) / 2, halfU, halfV };
}

/** Return the bounding box of the image of a box under a map. */
function imageOf({ u, v, halfU, halfV }, map) {
  const [middleU, middleV] = apply(map, [u, v]);
  const [a, b, c, d] = map.map(Math.abs);
  return { u: middleU, v: middleV, halfU: a * halfU + b * halfV, halfV: c * halfU + d * halfV };
}

/**
 * Return { words, exact }. Words are products of maps, whose images of the attractor cover its part in a window.
 *
 * Words that miss the window are dropped. Words that cross its edge are divided until they are smaller than the window.
 * Each word is { map, probability, first }, where `first` is the index of its outermost map, or -1 for the empty word.
 * If maps overlap, the number of words can grow without limit. More than about `mostWords` words are replaced by an
 * unbiased random sample, different for each `seed`. Then each word has the probability of all words that it replaces,
 * and `exact` is false.
 */
function findWords(maps, probabilities, extent, window, mostWords, seed) {
  const whole = { map: IDENTITY, probability: 1, first: -1 };
  if (extent === null) return { words: [whole], exact: true };
  let [open, done, exact] = [[whole], [], true];
  const most = Math.max(FEW_WORDS, Math.min(mostWords, TESTS_AT_ONCE / maps.length));
  let tests = 0; // limited, because maps that do not contract would need infinitely many; open words are then kept
  for (let length = 0; open.length > 0 && tests < MOST_TESTS; length++) {
    // While there are few words, words smaller than the window are also divided, so that fewer points miss it.
    const small = (open.length + done.length) * maps.length <= mostWords ? 1 / 32 : 1;
    const isDone = ({ u, v, halfU, halfV }) => {
      const inside = Math.abs(u - window.u) + halfU <= window.halfU && Math.abs(v - window.v) + halfV <= window.halfV;
      return inside || Math.max(halfU / window.halfU, halfV / window.halfV) < small;
    };
    let others = [];
    for (const word of open) (isDone(imageOf(extent, word.map)) ? done : others).push(word);
    if (others.length > most || done.length > mostWords) {
      const offset = hash(seed + Math.imul(length, RANDOM_STEP)) / 2 ** 32;
      [others, done, exact] = [thin(others, most, offset), thin(done, mostWords, offset), false];
    }
    open = divide(others, maps, probabilities, extent, window);
    tests += others.length * maps.length;
  }
  return { words: [...done, ...open], exact };
}

/** Replace each word by the words with one more map that intersect the window. */
function divide(words, maps, probabilities, extent, window) {
  const middles = maps.map((map) => apply(map, [extent.u, extent.v]));
  const found = [];
  for (const word of words) {
    const [a, b, c, d, e, f] = word.map;
    for (let n = 0; n < maps.length; n++) {
      const [p, q, r, s] = maps[n];
      const [u, v] = middles[n];
      const halfU = Math.abs(a * p + b * r) * extent.halfU + Math.abs(a * q + b * s) * extent.halfV;
      if (Math.abs(a * u + b * v + e - window.u) > halfU + window.halfU) continue;
      const halfV = Math.abs(c * p + d * r) * extent.halfU + Math.abs(c * q + d * s) * extent.halfV;
      if (Math.abs(c * u + d * v + f - window.v) > halfV + window.halfV) continue;
      const map = compose(word.map, maps[n]);
      if (isBeside(map, extent, window)) continue;
      found.push({ map, probability: word.probability * probabilities[n], first: word.first < 0 ? n : word.first });
    }
  }
  return found;
}

/** Return whether a side of the image of a box, a parallelogram that may be thin, separates it from a window. */
function isBeside(map, { u, v, halfU, halfV }, window) {
  const [a, b, c, d] = map;
  const [middleU, middleV] = apply(map, [u, v]);
  const [awayU, awayV] = [middleU - window.u, middleV - window.v];
  const area = determinant(map);
  const along = Math.abs(a * awayV - c * awayU) - area * halfV;
  const across = Math.abs(b * awayV - d * awayU) - area * halfU;
  return (
    along > Math.abs(c) * window.halfU + Math.abs(a) * window.halfV ||
    across > Math.abs(d) * window.halfU + Math.abs(b) * window.halfV
  );
}

/** Return an unbiased sample of about `most` words with the same sum of probabilities (systematic resampling). */
function thin(words, most, offset) {
  if (words.length <= most) return words;
  const step = words.reduce((sum, word) => sum + word.probability, 0) / most;
  const kept = [];
  let [before, passed] = [offset, 0];
  for (const word of words) {
    before += word.probability / step;
    const times = Math.floor(before) - passed;
    passed += times;
    if (times > 0) kept.push({ ...word, probability: times * step });
  }
  return kept;
}
