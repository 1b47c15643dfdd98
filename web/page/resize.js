// PIL's Image.resize, bit by bit: a canvas resizes otherwise, and each browser in its own way.
// See src/libImaging/Resample.c of Pillow.

const FILTERS = {
  bilinear: {support: 1, weigh: (x) => Math.max(0, 1 - Math.abs(x))},
  bicubic: {
    support: 2,
    weigh(x) {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};
const BITS = 22; // of the weights, which are integers: the sum of 255 times them fits into 32 bits
const HALF = 1 << (BITS - 1);

/** For each pixel of a row of the result: the first pixel that it is made of, and the weights of that and the next. */
function computeTaps(from, to, {support, weigh}) {
  const scale = from / to;
  const stretch = Math.max(scale, 1); // a smaller image is made of all pixels of the larger: antialiasing
  const reach = support * stretch;
  return Array.from({length: to}, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(from, Math.trunc(center + reach + 0.5));
    const weights = Array.from({length: end - first}, (_, x) => weigh((x + first - center + 0.5) * (1 / stretch)));
    const sum = weights.reduce((a, b) => a + b, 0);
    return {first, weights: Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** BITS + (w < 0 ? -0.5 : 0.5)))};
  });
}

const clip = (sum) => Math.min(255, Math.max(0, (sum + HALF) >> BITS));

/** Weighted sums of RGB pixels that lie `step` bytes apart, written to `target` at `at`. */
function mix(source, start, step, weights, target, at) {
  let red = 0, green = 0, blue = 0;
  for (let i = 0, p = start; i < weights.length; i++, p += step) {
    red += source[p] * weights[i];
    green += source[p + 1] * weights[i];
    blue += source[p + 2] * weights[i];
  }
  target[at] = clip(red);
  target[at + 1] = clip(green);
  target[at + 2] = clip(blue);
}

/**
 * Resize an image as PIL does: first its rows, then its columns, rounded to 8 bits between.
 * @param {{width: number, height: number, readRows: (first: number, count: number) => Uint8ClampedArray}} image
 *   Its pixels are read in strips of rows, as RGBA, so that a large photograph needs little memory.
 * @param {number} width
 * @param {number} height
 * @param {'bilinear' | 'bicubic'} interpolation
 * @returns {Uint8Array} height x width x 3
 */
export function resize(image, width, height, interpolation) {
  const filter = FILTERS[interpolation];
  const across = computeTaps(image.width, width, filter);
  const down = computeTaps(image.height, height, filter);
  const narrow = new Uint8Array(image.height * width * 3);
  const strip = Math.max(1, Math.floor(2 ** 20 / image.width));
  for (let top = 0; top < image.height; top += strip) {
    const count = Math.min(strip, image.height - top);
    const rows = image.readRows(top, count);
    for (let y = 0; y < count; y++) {
      across.forEach(({first, weights}, x) =>
        mix(rows, 4 * (y * image.width + first), 4, weights, narrow, 3 * ((top + y) * width + x)));
    }
  }
  const result = new Uint8Array(height * width * 3);
  down.forEach(({first, weights}, y) => {
    for (let x = 0; x < width; x++) mix(narrow, 3 * (first * width + x), 3 * width, weights, result, 3 * (y * width + x));
  });
  return result;
}
