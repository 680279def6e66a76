// The page: what is loaded, what is shown, and what the buttons do.

import "./style.css";
import { startCamera } from "./camera.js";
import { parseManifest, runnableFiles } from "./manifest.js";
import { labelPicture, loadModel } from "./model.js";
import { readPicture, samplePicture } from "./picture.js";
import {
  drawLegend,
  drawModel,
  drawPicture,
  drawTime,
  labelFile,
  overlayFile,
  showError,
} from "./view.js";

/** The times shown are the median of this many last runs. */
const RUNS_KEPT = 9;

const find = (id) => document.getElementById(id);
let model = null;
let picture = null; // ImageData
let shown = null; // {labels, width, height} of what is on the page
let runs = [];
let stopCamera = null;
// Loading and labelling take turns: one that starts waits for those before it.
let turn = Promise.resolve();

/** Run `work` after everything before it; an error of it is shown. */
function queue(work) {
  turn = turn.then(async () => {
    find("busy").hidden = false;
    try {
      await work();
    } catch (error) {
      showError(error.message);
    } finally {
      find("busy").hidden = true;
    }
  });
  return turn;
}

// --- the model ---

async function useModel(name, bytes, manifest) {
  model = null;
  shown = null;
  runs = [];
  enable();
  find("model").textContent = `Loading ${name}…`;
  try {
    model = await loadModel(name, bytes, manifest);
  } catch (error) {
    find("model").textContent = "No model.";
    throw new Error(`${name} cannot be loaded: ${error.message}`);
  }
  showError(null);
  drawModel(model);
  find("limit-field").hidden = model.input.size !== null;
  if (picture) await label(picture);
}

/** Files that were picked or dropped: a model with or without its manifest, or a picture. */
async function useFiles(files) {
  files = [...files];
  const file = files.find(({ name }) => /\.(onnx|tflite)$/.test(name));
  const json = files.find(({ name }) => name.endsWith(".json"));
  if (file) {
    const manifest = json ? parseManifest(await json.text()) : null;
    if (json && !manifest) throw new Error(`${json.name} is no manifest of keras_seg.`);
    find("files-field").hidden = true;
    await useModel(file.name, await file.arrayBuffer(), manifest);
  } else if (json) {
    throw new Error(`${json.name} came without its model: choose both files at once.`);
  } else if (files.length) await usePicture(files[0]);
}

/** The export that is served beside the page, as `npm run serve -- FOLDER` does. */
async function useServedExport() {
  const answer = await fetch("model/manifest.json");
  if (!answer.ok) return;
  const manifest = parseManifest(await answer.text());
  const names = manifest ? runnableFiles(manifest) : [];
  if (!names.length) throw new Error("The folder beside this page holds no .onnx or .tflite file.");
  const choice = find("files");
  choice.replaceChildren(...names.map((name) => new Option(name)));
  find("files-field").hidden = names.length < 2;
  const load = async () => {
    const name = choice.value;
    const file = await fetch(`model/${encodeURIComponent(name)}`);
    if (!file.ok) throw new Error(`${name} is not there, though the manifest names it.`);
    await useModel(name, await file.arrayBuffer(), manifest);
  };
  choice.onchange = () => queue(load);
  await load();
}

// --- the picture ---

function limit() {
  const value = Math.round(Number(find("limit").value));
  return model?.input.size === null && value >= 1 ? value : Infinity;
}

async function usePicture(file) {
  endCamera();
  await label(await readPicture(file, limit()));
}

/** Show a picture, with its labels if there is a model. */
async function label(next) {
  picture = next;
  if (!model) {
    drawPicture(picture, null);
    showError("Open a model to label the picture.");
    return;
  }
  const { labels, times } = await labelPicture(model, picture);
  runs = [...runs, times].slice(-RUNS_KEPT);
  shown = { labels, width: picture.width, height: picture.height };
  drawPicture(picture, labels, model.table);
  drawLegend(labels, model.table);
  drawTime(runs);
  showError(null);
  enable();
}

function enable() {
  for (const id of ["repeat", "save-overlay", "save-labels"]) find(id).disabled = !shown;
}

function endCamera() {
  stopCamera?.();
  stopCamera = null;
  find("camera").setAttribute("aria-pressed", "false");
}

async function toggleCamera() {
  if (stopCamera) {
    endCamera();
    return;
  }
  stopCamera = await startCamera(limit, (frame) => queue(() => stopCamera && label(frame)));
  find("camera").setAttribute("aria-pressed", "true");
}

// --- events ---

function picks(button, input) {
  find(button).onclick = () => find(input).click();
  find(input).onchange = () => {
    const files = [...find(input).files];
    find(input).value = ""; // the same file can then be picked again
    queue(() => useFiles(files));
  };
}

picks("open-model", "model-input");
picks("open-picture", "picture-input");
find("camera").onclick = () => queue(toggleCamera);
find("sample").onclick = () => {
  endCamera();
  queue(() => label(samplePicture()));
};
find("repeat").onclick = () => {
  endCamera();
  for (let i = 0; i < 10; i++) queue(() => label(picture));
};

document.ondragover = (event) => {
  event.preventDefault();
  find("stage").classList.add("dropping");
};
document.ondragleave = (event) => {
  if (!event.relatedTarget) find("stage").classList.remove("dropping");
};
document.ondrop = (event) => {
  event.preventDefault();
  find("stage").classList.remove("dropping");
  const files = [...event.dataTransfer.files];
  queue(() => useFiles(files));
};

find("opacity").oninput = () => {
  find("opacity-value").value = `${find("opacity").value} %`;
  find("mask").style.opacity = find("opacity").value / 100;
};
find("opacity").oninput();

find("mask").onpointermove = (event) => {
  if (!shown) return;
  const box = find("mask").getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * shown.width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * shown.height);
  const inside = x >= 0 && y >= 0 && x < shown.width && y < shown.height;
  const name = inside && model.table.names[shown.labels[y * shown.width + x]];
  find("pointed").textContent = name ? `${name} at ${x}, ${y}` : "\u00a0";
};

async function save(name, file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

find("save-overlay").onclick = () => save("overlay.png", overlayFile(find("opacity").value / 100));
find("save-labels").onclick = () =>
  save("labels.png", labelFile(shown.labels, shown.width, shown.height));

queue(useServedExport);
