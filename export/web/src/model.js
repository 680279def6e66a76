// The page's side of the worker.

import { checkSha256, classTable } from "./manifest.js";

const worker = new Worker(new URL("./worker.js", import.meta.url));
const waiting = new Map();
let last = 0;

worker.onmessage = ({ data: { id, error, ...answer } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(new Error(error));
  else resolve(answer);
};

function ask(message, transfer) {
  const id = ++last;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, ...message }, transfer);
  });
}

/**
 * Load a model file into the worker; it replaces the one before.
 * @param {string} name
 * @param {ArrayBuffer} bytes
 * @param {object | null} manifest
 * @returns what `runtimes.open` says of it, and name, bytes (how many), table (null until known)
 */
export async function loadModel(name, bytes, manifest) {
  await checkSha256(manifest, name, bytes);
  const size = bytes.byteLength;
  const network = await ask({ load: { name, bytes } }, [bytes]);
  return { ...network, name, bytes: size, table: manifest?.classes ? classTable(manifest) : null };
}

/**
 * Label a picture.
 * @param {ImageData} picture
 * @returns {Promise<{labels: Uint8Array, times: object}>}
 */
export async function labelPicture(model, picture) {
  // A label map does not say how many classes there are; without a manifest any id will do.
  const classes = model.table?.names.length ?? (model.output.kind === "labels" ? 256 : null);
  const rgba = picture.data.slice();
  const size = [picture.height, picture.width];
  const answer = await ask({ run: { rgba, size, classes } }, [rgba.buffer]);
  model.table ??= classTable(null, answer.classes);
  return answer;
}
