// The page's side of the worker.

import { classTable, manifestOf } from "./manifest.js";

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
 * @param {ArrayBuffer} buffer
 * @param {object | null} beside the manifest beside the file
 * @param {"cpu" | "gpu"} place where to run it
 * @returns what `runtimes.open` says of it, and name, bytes (how many), table (null until known),
 *   sampling (how its scores are enlarged)
 */
export async function loadModel(name, buffer, beside, place) {
  const manifest = await manifestOf(name, new Uint8Array(buffer), beside);
  const bytes = buffer.byteLength;
  const network = await ask({ load: { name, bytes: buffer, place } }, [buffer]);
  const table = manifest?.classes ? classTable(manifest) : null;
  return { ...network, name, bytes, table, sampling: samplingOf(network.output.kind, manifest) };
}

function samplingOf(kind, manifest) {
  const resize = manifest?.output?.resize;
  if (kind !== "logits_lowres" || resize === undefined) return "half_pixel";
  if (resize) return resize;
  throw new Error(
    "it returns logits at low resolution, which its network does not enlarge by a plain resize. " +
      "Use a file exported with logits, probabilities or labels.",
  );
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
  const run = { rgba, size, classes, sampling: model.sampling };
  const answer = await ask({ run }, [rgba.buffer]);
  model.table ??= classTable(null, answer.classes);
  return answer;
}
