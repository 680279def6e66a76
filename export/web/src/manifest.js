// What an export says about its model: manifest.json beside the file, or packed in it.

import { packedManifest } from "./packed.js";

/** Formats that this page runs. */
const FORMATS = [".onnx", ".tflite"];

/** The manifest as an object; null where the text is not one of keras_seg's. */
export function parseManifest(text) {
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    return null;
  }
  return found?.keras_seg_manifest ? found : null;
}

/** The files of an export that this page runs, ONNX first. */
export function runnableFiles(manifest) {
  const names = Object.keys(manifest.files ?? {});
  return FORMATS.flatMap((ending) => names.filter((name) => name.endsWith(ending)));
}

/**
 * Names and colours of the classes.
 * @returns {{names: string[], colors: number[][]}} numbered classes in PASCAL VOC's colours where
 *   there is no manifest
 */
export function classTable(manifest, count) {
  const names =
    manifest?.classes?.names ??
    Array.from({ length: count }, (_, i) => (i === 0 ? "background" : `class ${i}`));
  const colors = manifest?.classes?.colors ?? names.map((_, i) => vocColor(i));
  return { names, colors };
}

/** Bits 0, 1 and 2 of the id are the highest of red, green and blue, the next three the second. */
function vocColor(id) {
  const color = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++) {
    for (let c = 0; c < 3; c++) color[c] |= ((id >> (3 * bit + c)) & 1) << (7 - bit);
  }
  return color;
}

/**
 * The manifest that counts for a file: the one beside it if that lists the file, else the one
 * packed in it, else the one beside it (of a training run, say, which still names the classes).
 * Throws where the file is not the one that its manifest describes.
 * @param {Uint8Array} bytes
 */
export async function manifestOf(name, bytes, beside) {
  const listed = beside?.files?.[name];
  if (listed) {
    await compare(name, bytes, listed.sha256);
    return beside;
  }
  const text = packedManifest(name, bytes);
  const packed = text && parseManifest(text);
  if (!packed?.content) return beside;
  await compare(name, bytes.subarray(0, packed.content.bytes), packed.content.sha256);
  return packed;
}

async function compare(name, bytes, expected) {
  // Browsers compute it only on pages from this machine or over HTTPS.
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) {
    throw new Error(`${name} is not the file that its manifest describes: its SHA-256 differs.`);
  }
}
