// From a picture to what a network takes, and from what it returns to a label for each pixel: the
// steps of keras_seg.inference.Predictor for a whole picture.

import { resize, resizedRows, taps } from "./resize.js";

/**
 * Pixels for the network: (height, width, channels) of the numbers 0..255, stretched to `size`.
 * @param {Uint8ClampedArray} rgba of a picture of `from` = [height, width]
 * @param {{dtype: string, channels: number, scale: number, zero: number}} input scale and zero:
 *   of a quantised input, whose numbers mean (number - zero) * scale
 */
export function toInput(rgba, from, size, input) {
  let pixels = channelsOf(rgba, input.channels);
  if (!same(from, size)) pixels = resize(pixels, from, input.channels, size, "antialias");
  if (input.dtype === "float32") return Float32Array.from(pixels);
  // Uint8ClampedArray rounds to the nearest number, a half to the even one, and clips to 0..255.
  const whole = new Uint8ClampedArray(pixels.length);
  for (let i = 0; i < whole.length; i++) whole[i] = pixels[i] / input.scale + input.zero;
  return new Uint8Array(whole.buffer);
}

function channelsOf(rgba, channels) {
  const count = rgba.length / 4;
  const pixels = new Uint8Array(count * channels);
  if (channels === 3) {
    for (let i = 0; i < count; i++) {
      pixels[3 * i] = rgba[4 * i];
      pixels[3 * i + 1] = rgba[4 * i + 1];
      pixels[3 * i + 2] = rgba[4 * i + 2];
    }
    return pixels;
  }
  // ITU-R 601 luma in 16 bits, as Pillow makes colours grey.
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    pixels[i] = (19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16;
  }
  return pixels;
}

/**
 * The label of each pixel of a picture of `size`, of what the network returned for `seen`.
 * @param {object} output data; size: of its map; classes: K; kind: "labels", "probabilities",
 *   "logits" or "logits_lowres"; sampling: how scores smaller than what the network saw are
 *   enlarged
 * @returns {Uint8Array}
 */
export function toLabels(output, seen, size) {
  if (output.classes > 256) {
    throw new Error(`The network has ${output.classes} classes; this page shows up to 256.`);
  }
  if (output.kind === "labels") return fromLabelMap(output, size);
  const { classes } = output;
  if (same(output.size, seen) && same(seen, size)) return argmax(output.data, classes);
  let scores = output.data;
  if (same(output.size, seen)) scores = Float32Array.from(scores);
  else {
    if (output.kind !== "logits_lowres") checkSubsampled(output.size, seen);
    scores = resize(scores, output.size, classes, seen, output.sampling);
  }
  if (output.kind !== "probabilities") softmax(scores, classes);
  if (same(seen, size)) return argmax(scores, classes);
  const labels = new Uint8Array(size[0] * size[1]);
  let offset = 0;
  for (const row of resizedRows(scores, seen, classes, size, "antialias")) {
    labels.set(argmax(row, classes), offset);
    offset += size[1];
  }
  return labels;
}

/** A label map at another size: each source pixel votes with its weight, the most votes win. */
function fromLabelMap({ data, size: from, classes }, size) {
  for (let i = 0; i < data.length; i++) {
    if (data[i] < 0 || data[i] >= classes) {
      throw new Error(
        `The network returned the label ${data[i]}, but there are ${classes} classes.`,
      );
    }
  }
  if (same(from, size)) return Uint8Array.from(data);
  const vertical = taps(from[0], size[0], "antialias");
  const horizontal = taps(from[1], size[1], "antialias");
  const labels = new Uint8Array(size[0] * size[1]);
  const votes = new Float64Array(classes);
  for (let y = 0; y < size[0]; y++) {
    for (let x = 0; x < size[1]; x++) {
      votes.fill(0);
      for (let t = 0; t < vertical.count; t++) {
        const start = vertical.index[y * vertical.count + t] * from[1];
        const weight = vertical.weight[y * vertical.count + t];
        for (let u = 0; u < horizontal.count; u++) {
          const column = horizontal.index[x * horizontal.count + u];
          votes[data[start + column]] += weight * horizontal.weight[x * horizontal.count + u];
        }
      }
      labels[y * size[1] + x] = argmax(votes, classes)[0];
    }
  }
  return labels;
}

/** Of several equal scores the first class wins. */
function argmax(scores, classes) {
  const labels = new Uint8Array(scores.length / classes);
  for (let i = 0, start = 0; i < labels.length; i++, start += classes) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (scores[start + k] > scores[start + best]) best = k;
    labels[i] = best;
  }
  return labels;
}

function softmax(scores, classes) {
  for (let start = 0; start < scores.length; start += classes) {
    let largest = -Infinity;
    for (let k = 0; k < classes; k++) largest = Math.max(largest, scores[start + k]);
    let sum = 0;
    for (let k = 0; k < classes; k++)
      sum += scores[start + k] = Math.exp(scores[start + k] - largest);
    for (let k = 0; k < classes; k++) scores[start + k] /= sum;
  }
}

/** A map that is 2, 4, ... times smaller is enlarged; one with a lost border must not be. */
function checkSubsampled(map, seen) {
  for (const stride of [2, 4, 8, 16, 32]) {
    if (map.every((n, axis) => Math.abs(n - seen[axis] / stride) <= 1)) return;
  }
  throw new Error(
    `The network returns a map of ${map.join(" × ")} for a picture of ${seen.join(" × ")}: valid ` +
      "convolutions have cut its border off, which this page does not handle.",
  );
}

function same(a, b) {
  return a[0] === b[0] && a[1] === b[1];
}
