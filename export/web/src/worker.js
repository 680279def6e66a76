// Everything that takes time, away from the page: {id, load} or {id, run} -> {id, ...} or
// {id, error}.

import { toInput, toLabels } from "./labels.js";
import { open } from "./runtimes.js";

let network = null;

self.onmessage = async ({ data: { id, load, run } }) => {
  try {
    if (load) self.postMessage({ id, ...(await loadModel(load)) });
    else {
      const result = await label(run);
      self.postMessage({ id, ...result }, [result.labels.buffer]);
    }
  } catch (error) {
    self.postMessage({ id, error: explain(error) });
  }
};

async function loadModel({ name, bytes, place }) {
  network?.close();
  network = null;
  network = await open(name, new Uint8Array(bytes), place);
  const { input, output, device } = network;
  return { input, output, device };
}

/** Times in milliseconds: resizing, the network, and the way from its output to labels. */
async function label({ rgba, size, classes, sampling }) {
  const seen = network.input.size ?? size;
  const start = performance.now();
  const pixels = toInput(rgba, size, seen, network.input);
  const ready = performance.now();
  const result = await network.run(pixels, seen);
  const done = performance.now();
  if (result.classes === null) result.classes = classes;
  else if (result.classes !== classes && classes !== null) {
    throw new Error(
      `The model returns ${result.classes} classes, but its manifest names ${classes}.`,
    );
  }
  const labels = toLabels({ ...result, kind: network.output.kind, sampling }, seen, size);
  const end = performance.now();
  return {
    labels,
    classes: result.classes,
    times: { prepare: ready - start, network: done - ready, finish: end - done },
  };
}

/** A runtime's error may be a number, or several lines; the first says what is wrong. */
function explain(error) {
  if (typeof error === "number") return "The runtime ran out of memory.";
  return String(error?.message ?? error)
    .trim()
    .split("\n")[0];
}
