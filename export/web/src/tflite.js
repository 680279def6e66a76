// The few facts that LiteRT.js does not tell about a .tflite file, read from its flat buffer.

/**
 * How the numbers of the input are coded: a number q means (q - zero) * scale.
 * @param {Uint8Array} bytes
 * @returns {{scale: number, zero: number}} {1, 0} for an input that is not quantised
 */
export function quantisation(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const model = follow(view, 0);
  const graph = element(view, field(view, model, SUBGRAPHS), 0);
  const inputs = follow(view, field(view, graph, INPUTS));
  const tensor = element(view, field(view, graph, TENSORS), view.getInt32(inputs + 4, true));
  const entry = field(view, tensor, QUANTIZATION);
  const scales = entry && field(view, follow(view, entry), SCALE);
  if (!scales || view.getUint32(follow(view, scales), true) === 0) return { scale: 1, zero: 0 };
  const zeros = field(view, follow(view, entry), ZERO_POINT);
  return {
    scale: view.getFloat32(follow(view, scales) + 4, true),
    zero: zeros ? Number(view.getBigInt64(follow(view, zeros) + 4, true)) : 0,
  };
}

// Numbers of the fields in TFLite's schema (schema.fbs).
const SUBGRAPHS = 2;
const TENSORS = 0;
const INPUTS = 1;
const QUANTIZATION = 4;
const SCALE = 2;
const ZERO_POINT = 3;

/** Where the offset stored at `position` points. */
function follow(view, position) {
  return position + view.getUint32(position, true);
}

/** Where field number `index` of the table at `table` is stored; 0 if it is not there. */
function field(view, table, index) {
  const fields = table - view.getInt32(table, true);
  const slot = 4 + 2 * index;
  if (slot >= view.getUint16(fields, true)) return 0;
  const offset = view.getUint16(fields + slot, true);
  return offset && table + offset;
}

/** Table `index` of the vector of tables whose offset is stored at `position`. */
function element(view, position, index) {
  return follow(view, follow(view, position) + 4 + 4 * index);
}
