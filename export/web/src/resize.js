// Bilinear resizing as keras_seg.inference.Predictor does it, so that the labels are the same.
//
// Every output pixel along an axis is a weighted sum of source pixels. Where output pixel i of n
// looks in a source of N pixels is the `sampling`:
//   "half_pixel"     (i + 0.5) N / n - 0.5
//   "antialias"      the same, but where a side shrinks the filter widens with it
//   "align_corners"  i (N - 1) / (n - 1)

/**
 * Which `count` source pixels make up each of `size` output pixels, and with what weights.
 * @returns {{count: number, index: Int32Array, weight: Float32Array}} both of size * count numbers
 */
export function taps(length, size, sampling) {
  const scale = length / size;
  if (sampling === "antialias" && scale > 1) return widenedTaps(length, size, scale);
  const corners = sampling === "align_corners";
  const step = corners ? (length - 1) / Math.max(1, size - 1) : scale;
  const index = new Int32Array(2 * size);
  const weight = new Float32Array(2 * size);
  for (let i = 0; i < size; i++) {
    const wanted = corners ? i * step : (i + 0.5) * step - 0.5;
    const position = Math.min(Math.max(wanted, 0), length - 1);
    const low = Math.min(Math.floor(position), Math.max(0, length - 2));
    index[2 * i] = low;
    index[2 * i + 1] = Math.min(low + 1, length - 1);
    weight[2 * i] = 1 - (position - low);
    weight[2 * i + 1] = position - low;
  }
  return { count: 2, index, weight };
}

function widenedTaps(length, size, scale) {
  const count = 2 * Math.ceil(scale) + 1;
  const index = new Int32Array(count * size);
  const weight = new Float32Array(count * size);
  for (let i = 0; i < size; i++) {
    const center = (i + 0.5) * scale;
    const first = Math.floor(center - scale + 0.5);
    const found = new Float64Array(count);
    let sum = 0;
    for (let t = 0; t < count; t++) {
      const inside = first + t >= 0 && first + t < length;
      found[t] = inside ? Math.max(0, 1 - Math.abs((first + t + 0.5 - center) / scale)) : 0;
      sum += found[t];
    }
    for (let t = 0; t < count; t++) {
      index[i * count + t] = Math.min(Math.max(first + t, 0), length - 1);
      weight[i * count + t] = found[t] / sum;
    }
  }
  return { count, index, weight };
}

/**
 * The rows of `values` (height, width, channels), resized to `size` = [height, width], one by one.
 * Columns first, each product and sum rounded to float32: the numbers are NumPy's.
 * @yields {Float32Array} width * channels numbers, overwritten by the next row
 */
export function* resizedRows(values, [height, width], channels, size, sampling) {
  const vertical = taps(height, size[0], sampling);
  const horizontal = taps(width, size[1], sampling);
  const row = new Float32Array(size[1] * channels);
  const held = new Map(); // source rows at their new width, as long as they are needed
  for (let y = 0; y < size[0]; y++) {
    const first = y * vertical.count;
    for (const index of held.keys()) if (index < vertical.index[first]) held.delete(index);
    row.fill(0);
    for (let t = first; t < first + vertical.count; t++) {
      const weight = vertical.weight[t];
      if (weight === 0) continue;
      const index = vertical.index[t];
      if (!held.has(index)) {
        const start = index * width * channels;
        held.set(index, resizedColumns(values, start, channels, horizontal));
      }
      const source = held.get(index);
      for (let i = 0; i < row.length; i++) row[i] += Math.fround(weight * source[i]);
    }
    yield row;
  }
}

/** The row of `values` that begins at `start`, at another width. */
function resizedColumns(values, start, channels, { count, index, weight }) {
  const size = index.length / count;
  const row = new Float32Array(size * channels);
  for (let x = 0; x < size; x++) {
    for (let t = x * count; t < (x + 1) * count; t++) {
      if (weight[t] === 0) continue;
      const from = start + index[t] * channels;
      for (let c = 0; c < channels; c++) {
        row[x * channels + c] += Math.fround(weight[t] * values[from + c]);
      }
    }
  }
  return row;
}

/** `values` (height, width, channels) at another size, as one Float32Array. */
export function resize(values, from, channels, size, sampling) {
  const result = new Float32Array(size[0] * size[1] * channels);
  let offset = 0;
  for (const row of resizedRows(values, from, channels, size, sampling)) {
    result.set(row, offset);
    offset += row.length;
  }
  return result;
}
