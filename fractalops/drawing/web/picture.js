// A picture of a system that is drawn step by step: points are counted on pixels, and counts are converted to colors.

const FALLOFF = Math.exp(-1); // ratio of a point's Gaussian bump (bandwidth 1) from one pixel to the next
const KERNEL_SUM = (1 + 2 * FALLOFF) ** 2;
const POINTS_A_PIXEL = 8; // points per pixel of a finished picture, on average
const CHUNK = 20000; // points that are drawn before the time is checked again
const POPULATION = 600000; // points that are drawn through one sample of words
const GAMMA = 0.4; // as in `fractalops.drawing`: a hundredth of the full density still has brightness 0.16
const WHITE = 0.95; // as in `fractalops.drawing`: the densest twentieth of the lit pixels is white
const TONES = 1024;
const LEAST_CELL = 1.5; // with fewer pixels per learned pixel, the points' bumps leave no seams
const [FILLED_ZOOM, OPEN_ZOOM] = [4, 32]; // seams are filled up to the first zoom and open from the second zoom on
const LOOKED_AT = 50000; // number of pixels that determine the white point

class Picture {
  /** `home` is the { width, height } of the whole picture. `mostWords` limits the work before the first point. */
  constructor({ size, blend, intensity, background_weight: backgroundWeight }, channels, home, mostWords) {
    Object.assign(this, { blend, intensity, backgroundWeight, channels, home, mostWords });
    this.learned = Math.max(...size); // pixels per unit of the plane in the learned images
    this.stride = channels === 0 ? 1 : channels + 1; // values per pixel: the count, then the sums of the colors
    this.level = null; // the brightness of the densest parts of the whole picture; null until it is known
    this.resize(1, 1);
  }

  /** Set the size in pixels. */
  resize(width, height) {
    Object.assign(this, { width, height });
    this.image = new ImageData(width, height);
    this.row = width + 2; // with an empty pixel on each side, so that the blur needs no test for the edges
    const length = this.row * (height + 2) * this.stride;
    [this.sums, this.spare, this.soft] = [0, 1, 2].map(() => new Float32Array(length));
  }

  /**
   * Start a new picture of a system { maps, probabilities, colors, background, ink }.
   *
   * The view is { u, v, scale, zoom }: the center of the window, the pixels per unit of the plane, and the
   * magnification relative to the whole picture. `whole` is true if the system is unchanged and the whole picture is
   * visible.
   */
  restart(system, view, whole) {
    const { maps, probabilities, colors } = system;
    if (maps !== this.known) {
      this.known = maps;
      this.extent = findExtent(maps, probabilities);
      this.maps = { ...aliasTable(probabilities), numbers: Float64Array.from(maps.flat()), count: maps.length };
    }
    this.colors = Float32Array.from((colors ?? []).flat());
    Object.assign(this, { system, view, whole, point: [0.5, 0.5], state: 1, populations: 0 });
    this.chooseWords();
    this.scatter(200); // points before the chain is on the attractor, which are deleted below
    Object.assign(this, { drawn: 0, landed: 0, equivalent: 0 });
    this.sums.fill(0);
  }

  /** Choose the words through which the next points are drawn. */
  chooseWords() {
    const { system, width, height } = this;
    const { u, v, scale } = this.view;
    const window = { u, v, halfU: (width / 2 + 2) / scale, halfV: (height / 2 + 2) / scale };
    const { maps, probabilities } = system;
    const { words, exact } = findWords(maps, probabilities, this.extent, window, this.mostWords, this.populations);
    const pixels = ({ map: [a, b, c, d, e, f] }) =>
      [a * scale, b * scale, c * scale, d * scale, (e - u) * scale + width / 2, (f - v) * scale + height / 2];
    this.words = {
      ...aliasTable(words.map((word) => word.probability)),
      numbers: Float64Array.from(words.flatMap(pixels)),
      first: Int32Array.from(words, (word) => word.first),
      count: words.length,
      share: words.reduce((sum, word) => sum + word.probability, 0), // share of the attractor's points
    };
    if (this.populations === 0) Object.assign(this, { exact, firstShare: this.words.share });
    this.populations++;
    // A sample of words that covers a larger share of the attractor draws more points.
    this.left = POPULATION * Math.min(this.words.share / this.firstShare, 10) || 0;
  }

  /** Whether the picture has at least as many points as pixels, which is enough to show it. */
  get presentable() {
    return this.landed >= this.width * this.height;
  }

  get finished() {
    const due = POINTS_A_PIXEL * this.width * this.height;
    return this.firstShare === 0 || this.landed >= due || this.drawn >= 8 * due;
  }

  /** Draw points for `milliseconds`. */
  work(milliseconds) {
    const end = performance.now() + milliseconds;
    while (!this.finished && performance.now() < end) {
      if (!this.exact && this.left <= 0) this.chooseWords();
      this.scatter(CHUNK);
      this.left -= CHUNK;
    }
  }

  /** Draw `count` points through the current words. */
  scatter(count) {
    const { maps, words, sums, colors, width, height, row, stride } = this;
    if (words.count === 0) {
      // No word of this sample intersects the window. This counts as a population of points that miss it.
      this.drawn += POPULATION;
      this.equivalent += POPULATION / this.firstShare;
      return;
    }
    this.drawn += count;
    this.equivalent += count / words.share;
    let [u, v] = this.point;
    let state = this.state;
    let landed = 0;
    const [mapScale, wordScale] = [maps.count / 2 ** 32, words.count / 2 ** 32];
    for (let i = 0; i < count; i++) {
      state = (state + RANDOM_STEP) | 0;
      let slot = hash(state) * mapScale;
      let n = slot | 0;
      if (slot - n >= maps.keep[n]) n = maps.other[n];
      let at = 6 * n;
      const next = maps.numbers[at] * u + maps.numbers[at + 1] * v + maps.numbers[at + 4];
      v = maps.numbers[at + 2] * u + maps.numbers[at + 3] * v + maps.numbers[at + 5];
      u = next;
      if (!(Math.abs(u) + Math.abs(v) < 1e9)) u = v = 0.5; // diverged
      let k = 0;
      if (words.count > 1) {
        state = (state + RANDOM_STEP) | 0;
        slot = hash(state) * wordScale;
        k = slot | 0;
        if (slot - k >= words.keep[k]) k = words.other[k];
      }
      at = 6 * k;
      const x = words.numbers[at] * u + words.numbers[at + 1] * v + words.numbers[at + 4];
      const y = words.numbers[at + 2] * u + words.numbers[at + 3] * v + words.numbers[at + 5];
      if (!(x >= 0 && x < width && y >= 0 && y < height)) continue;
      landed++;
      const pixel = (((y | 0) + 1) * row + (x | 0) + 1) * stride;
      sums[pixel] += 1;
      const color = (words.first[k] < 0 ? n : words.first[k]) * (stride - 1);
      for (let channel = 1; channel < stride; channel++) sums[pixel + channel] += colors[color + channel - 1];
    }
    this.point = [u, v];
    this.state = state;
    this.landed += landed;
  }

  /** Convert the current counts to an image. */
  develop() {
    const density = this.landed / (this.width * this.height);
    const passes = density < 0.5 ? 2 : 1; // a second blur hides the grain of few points
    this.soften(passes);
    const white = this.white() || 1;
    if (this.channels === 0) this.paintGray(white);
    else this.paintColor(white, KERNEL_SUM ** passes);
    return this.image;
  }

  /** Blur `sums` to `soft`. With one pass, the result is as if each point were drawn as a bump. */
  soften(passes) {
    const { sums, spare, soft, stride } = this;
    const down = this.row * stride;
    for (let pass = 0; pass < passes; pass++) {
      const from = pass === 0 ? sums : soft;
      for (let i = stride; i < from.length - stride; i++) {
        spare[i] = from[i] + FALLOFF * (from[i - stride] + from[i + stride]);
      }
      for (let i = down; i < soft.length - down; i++) {
        soft[i] = spare[i] + FALLOFF * (spare[i - down] + spare[i + down]);
      }
    }
  }

  /** Return the blurred count that the densest twentieth of the lit pixels exceeds. */
  white() {
    const { soft, stride } = this;
    const step = stride * Math.max(1, Math.floor(soft.length / stride / LOOKED_AT));
    const lit = new Float32Array(Math.ceil(soft.length / step));
    let count = 0;
    for (let i = 0; i < soft.length; i += step) if (soft[i] > 0) lit[count++] = soft[i];
    return lit.subarray(0, count).sort()[Math.ceil(WHITE * count) - 1];
  }

  paintGray(white) {
    const { soft, width, height, row } = this;
    const pixels = new Uint32Array(this.image.data.buffer);
    const { ink, background } = this.system;
    const tones = Uint32Array.from({ length: TONES }, (_, i) => {
      const tone = (i / (TONES - 1)) ** (2 * GAMMA); // the index is a square root, for small steps in dark parts
      return pack(background.map((dark, channel) => dark + (ink[channel] - dark) * tone));
    });
    for (let y = 0, to = 0; y < height; y++) {
      let from = (y + 1) * row + 1;
      for (let x = 0; x < width; x++) {
        pixels[to++] = tones[(Math.sqrt(Math.min(soft[from++] / white, 1)) * (TONES - 1)) | 0];
      }
    }
  }

  /**
   * Paint colors with the brightness of the images for which they were learned. If only a part is visible, or if maps
   * have been changed, the densest parts get the brightness that they had in the whole picture.
   */
  paintColor(white, kernelSum) {
    const { soft, width, height, row, stride, view, home } = this;
    const { background } = this.system;
    const { data } = this.image;
    const share = (view.scale ** 2 * home.width * home.height) / this.equivalent; // pixels of the whole per point
    let exposure = (Math.PI * this.intensity * share) / kernelSum;
    if (this.whole && this.landed > 2 * width * height) this.level = exposure * white;
    if (!this.whole && this.level !== null) exposure = this.level / white;
    if (this.blend === "mean") {
      this.paintMean((this.backgroundWeight * kernelSum) / share, kernelSum);
      return;
    }
    for (let y = 0, to = 0; y < height; y++) {
      let from = ((y + 1) * row + 1) * stride;
      for (let x = 0; x < width; x++, from += stride, to += 4) {
        for (let channel = 0; channel < 3; channel++) {
          data[to + channel] = 255 * soft[from + 1 + channel] * exposure; // the array rounds and clamps
        }
        data[to + 3] = 255;
      }
    }
  }

  /** Paint mean colors over a layer of the learned size and over the background, which has the weight `weight`. */
  paintMean(weight, kernelSum) {
    const { soft, width, height, row } = this; // `soft` has four values per pixel: the count, red, green and blue
    const { background } = this.system;
    if (this.landed === 0) {
      new Uint32Array(this.image.data.buffer).fill(pack(background));
      return;
    }
    const [red, green, blue] = background;
    const { data } = this.image;
    const under = this.layUnder(weight, kernelSum);
    const below = new Float32Array(4 * width); // for each pixel of a row: opacity, then the colors times opacity
    for (let y = 0, to = 0; y < height; y++) {
      if (under !== null) under.row(y, below);
      let from = ((y + 1) * row + 1) * 4;
      for (let x = 0, at = 0; x < width; x++, from += 4, to += 4, at += 4) {
        const over = 255 / (soft[from] + weight || 1);
        const clear = weight * (1 - below[at]);
        data[to] = (soft[from + 1] + weight * below[at + 1] + clear * red) * over; // the array rounds and clamps
        data[to + 1] = (soft[from + 2] + weight * below[at + 2] + clear * green) * over;
        data[to + 2] = (soft[from + 3] + weight * below[at + 3] + clear * blue) * over;
        data[to + 3] = 255;
      }
    }
  }

  /**
   * Return the layer below the picture as { row(y, values) }: the same points on pixels of the learned size, without
   * seams between the images of the maps. Return null if no seam is visible, or at large zooms, where seams are part of
   * the fractal. The layer is like that of `_draw_under` in `fractalops.drawing`, except at the edge of the
   * window, because only points in the window are known.
   */
  layUnder(weight, kernelSum) {
    const { sums, width, height, row, stride, view } = this;
    const cell = view.scale / this.learned; // side of a learned pixel, in pixels
    const visible = 1 - Math.log(Math.max(view.zoom / FILLED_ZOOM, 1)) / Math.log(OPEN_ZOOM / FILLED_ZOOM);
    if (!(cell > LEAST_CELL && visible > 0)) return null;
    const [across, down] = [cellsAlong(view.u, view.scale, width, cell), cellsAlong(view.v, view.scale, height, cell)];
    const line = across.count * stride;
    const length = down.count * line;
    if (!(this.cells?.[0].length >= length)) this.cells = [0, 1].map(() => new Float32Array(length));
    const [counts, spare] = this.cells.map((each) => each.subarray(0, length).fill(0));
    for (let y = 0; y < height; y++) {
      const to = down.of[y] * line;
      for (let x = 0, from = ((y + 1) * row + 1) * 4; x < width; x++, from += 4) {
        const at = to + across.of[x] * 4;
        counts[at] += sums[from];
        counts[at + 1] += sums[from + 1];
        counts[at + 2] += sums[from + 2];
        counts[at + 3] += sums[from + 3];
      }
    }
    // Means over the pixels of a cell, because cells at the edge are cut off and have fewer pixels.
    for (let y = 0, at = 0; y < down.count; y++) {
      for (let x = 0; x < across.count; x++) {
        const factor = kernelSum / (across.pixels[x] * down.pixels[y]);
        for (let channel = 0; channel < stride; channel++, at++) counts[at] *= factor;
      }
    }
    blur(counts, spare, line, stride);
    for (let at = 0; at < length; at += stride) {
      const total = counts[at];
      const opacity = visible * Math.min(Math.max((2 * total) / (total + weight) - 0.5, 0), 1) || 0;
      counts[at] = opacity;
      for (let channel = 1; channel < stride; channel++) counts[at + channel] *= total > 0 ? opacity / total : 0;
    }
    const blended = new Float32Array(line);
    return {
      row(y, values) {
        const [above, part] = [down.before[y] * line, down.part[y]];
        const beneath = Math.min(above + line, length - line);
        for (let i = 0; i < line; i++) blended[i] = counts[above + i] + part * (counts[beneath + i] - counts[above + i]);
        for (let x = 0, to = 0; x < width; x++, to += 4) {
          const left = across.before[x] * 4;
          const right = left + 4 < line ? left + 4 : left;
          const share = across.part[x];
          values[to] = blended[left] + share * (blended[right] - blended[left]);
          values[to + 1] = blended[left + 1] + share * (blended[right + 1] - blended[left + 1]);
          values[to + 2] = blended[left + 2] + share * (blended[right + 2] - blended[left + 2]);
          values[to + 3] = blended[left + 3] + share * (blended[right + 3] - blended[left + 3]);
        }
      },
    };
  }
}

/**
 * Return how pixels along a side are grouped into cells of `cell` pixels, which have fixed positions in the plane.
 *
 * The result has the cell `of` each pixel, the number of `pixels` of each cell, and for the interpolation of each pixel
 * the cell `before` it and the `part` of the distance to the next cell.
 */
function cellsAlong(middle, scale, length, cell) {
  const first = (middle * scale - length / 2 + 0.5) / cell; // the center of the first pixel, in cells
  const places = Float64Array.from({ length }, (_, i) => first - Math.floor(first) + i / cell);
  const of = Int32Array.from(places, Math.floor);
  const count = of[length - 1] + 1;
  const pixels = new Float64Array(count);
  for (const each of of) pixels[each]++;
  const before = Int32Array.from(places, (place) => Math.min(Math.max(Math.floor(place - 0.5), 0), count - 1));
  const part = places.map((place, i) => Math.min(Math.max(place - 0.5 - before[i], 0), 1));
  return { of, count, pixels, before, part };
}

/** Blur rows of `line` values in place, with `stride` values per cell. A cell at an edge is its own neighbor. */
function blur(values, spare, line, stride) {
  const middle = 1 / (1 + 2 * FALLOFF);
  for (let begin = 0; begin < values.length; begin += line) {
    const end = begin + line;
    for (let i = begin; i < end; i++) {
      const [before, after] = [i - stride < begin ? i : i - stride, i + stride >= end ? i : i + stride];
      spare[i] = middle * (values[i] + FALLOFF * (values[before] + values[after]));
    }
  }
  for (let begin = 0; begin < values.length; begin += line) {
    const [up, down] = [begin === 0 ? 0 : line, begin + line >= values.length ? 0 : line];
    for (let i = begin; i < begin + line; i++) {
      values[i] = middle * (spare[i] + FALLOFF * (spare[i - up] + spare[i + down]));
    }
  }
}

/** Return a color with channels in [0, 1] as a 32-bit pixel of an ImageData. */
function pack([red, green, blue]) {
  const level = (value) => Math.round(255 * Math.min(Math.max(value, 0), 1));
  return (0xff000000 | (level(blue) << 16) | (level(green) << 8) | level(red)) >>> 0;
}
