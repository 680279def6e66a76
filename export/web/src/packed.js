// manifest.json as keras_seg.export packs it in a file: in the ZIP archive that ends a .tflite
// file, in the metadata of an .onnx file.

const NAME = "manifest.json";
const KEY = "keras_seg_manifest";

/** Its text, or null. */
export function packedManifest(name, bytes) {
  try {
    return name.endsWith(".onnx") ? fromOnnx(bytes) : fromZip(bytes);
  } catch (error) {
    if (error instanceof RangeError) return null; // cut off, or no such file at all
    throw error;
  }
}

/** Of a protocol buffer: ModelProto.metadata_props is field 14, pairs of key (1) and value (2). */
function fromOnnx(bytes) {
  for (const [number, entry] of fields(bytes)) {
    if (number !== 14) continue;
    const pair = new Map([...fields(entry)].map(([n, content]) => [n, decode(content)]));
    if (pair.get(1) === KEY) return pair.get(2);
  }
  return null;
}

/** (number, bytes) of the fields that hold bytes; the others are skipped. */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = view.getUint8(position++);
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), bytes.subarray(position, position + length)];
      position += length;
    } else if (kind === 0) varint();
    else if (kind === 1) position += 8;
    else if (kind === 5) position += 4;
    else throw new RangeError("no protocol buffer");
  }
}

/** Of an archive whose members are stored as they are, behind anything else. */
function fromZip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // The record at the end is 22 bytes long, and a comment of at most 65535 bytes may follow it.
  let end = bytes.length - 22;
  const last = Math.max(0, end - 65535);
  while (end >= last && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < last) return null;
  const size = view.getUint32(end + 12, true);
  // Offsets in the archive may count from its own start or from that of the file.
  const start = end - size - view.getUint32(end + 16, true);
  for (let entry = end - size; entry < end;) {
    const [nameLength, extra, comment] = [28, 30, 32].map((at) => view.getUint16(entry + at, true));
    const name = decode(bytes.subarray(entry + 46, entry + 46 + nameLength));
    if (name === NAME && view.getUint16(entry + 10, true) === 0) {
      const local = start + view.getUint32(entry + 42, true);
      const content =
        local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return decode(bytes.subarray(content, content + view.getUint32(entry + 24, true)));
    }
    entry += 46 + nameLength + extra + comment;
  }
  return null;
}

function decode(bytes) {
  return new TextDecoder().decode(bytes);
}
