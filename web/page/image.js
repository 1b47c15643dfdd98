import {Problem} from './problem.js';
import {resize} from './resize.js';

/** First bytes of the formats that browsers read: what begins so, and cannot be read, is damaged. */
const SIGNATURES = [/^\xff\xd8\xff/, /^\x89PNG/, /^GIF8/, /^RIFF....WEBP/s, /^BM/, /^....ftyp/s];

/**
 * Decode a photograph, turned as its camera was held, its colours as they are in the file: as PIL reads it.
 * @param {Blob} blob
 * @param {string} name How to call it if it cannot be read.
 * @returns {Promise<ImageBitmap>}
 */
export async function decode(blob, name) {
  try {
    return await createImageBitmap(blob, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  } catch {
    const start = await blob.slice(0, 16).arrayBuffer().catch(() => new ArrayBuffer(0)); // a folder cannot be read
    const text = String.fromCharCode(...new Uint8Array(start));
    if (SIGNATURES.some((signature) => signature.test(text))) {
      throw new Problem(`“${name}” is damaged, too large, or of a kind that this browser cannot read. Try another file.`);
    }
    throw new Problem(`“${name}” is not an image. Choose a photograph: JPEG, PNG or WebP.`);
  }
}

/** Width and height of an image, or of a frame of a video. */
const measure = (source) => source.videoWidth ? [source.videoWidth, source.videoHeight] : [source.width, source.height];

/** Pixels of a decoded image or of a frame of the camera, strip by strip. What is transparent becomes white. */
function read(source, width, height) {
  const canvas = new OffscreenCanvas(1, 1);
  return {
    width,
    height,
    readRows(first, count) {
      canvas.width = width;
      canvas.height = count;
      const context = canvas.getContext('2d', {willReadFrequently: true});
      context.fillStyle = 'white';
      context.fillRect(0, 0, width, count);
      context.drawImage(source, 0, first, width, count, 0, 0, width, count);
      return context.getImageData(0, 0, width, count).data;
    },
  };
}

/**
 * What timm's transform makes of an image: resized to the square of the network, whatever its shape.
 * @param {ImageBitmap | HTMLVideoElement} source
 * @param {{size: number, interpolation: string, mean: number[], std: number[]}} settings
 * @returns {{pixels: Uint8Array, input: Float32Array}} Pixels as size x size x 3, and the normalized 3 x size x size.
 */
export function prepare(source, {size, interpolation, mean, std}) {
  const [width, height] = measure(source);
  const pixels = resize(read(source, width, height), size, size, interpolation);
  const area = size * size;
  const input = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) input[c * area + i] = (pixels[3 * i + c] / 255 - mean[c]) / std[c];
  }
  return {pixels, input};
}

/** Show RGB pixels on a canvas of their size. */
export function showPixels(canvas, pixels, size) {
  canvas.width = canvas.height = size;
  const image = new ImageData(size, size);
  for (let i = 0; i < size * size; i++) image.data.set([pixels[3 * i], pixels[3 * i + 1], pixels[3 * i + 2], 255], 4 * i);
  canvas.getContext('2d').putImageData(image, 0, 0);
}

/** Show an image on a canvas, no larger than a page needs. Returns the factor from its pixels to the canvas's. */
export function showImage(canvas, source, longest = 1280) {
  const [width, height] = measure(source);
  const scale = Math.min(1, longest / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext('2d').drawImage(source, 0, 0, canvas.width, canvas.height);
  return scale;
}
