// The page: what is loaded, what is shown, and what the buttons do.

import "./style.css";
import { startCamera } from "./camera.js";
import { parseManifest, runnableFiles } from "./manifest.js";
import { labelPicture, loadModel } from "./model.js";
import { readPicture, samplePicture } from "./picture.js";
import {
  clearResult,
  drawLabels,
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
let openAgain = null; // loads the model once more, for another place
let readAgain = null; // gives the picture at the size that the model asks for
let shown = null; // {picture, labels}: what is on the page
let hidden = new Set(); // ids of classes that are not drawn
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

/** @param {() => Promise<ArrayBuffer>} read gives the file's content */
async function useModel(name, read, manifest) {
  openAgain = () => useModel(name, read, manifest);
  model = null;
  shown = null;
  hidden = new Set();
  runs = [];
  clearResult();
  enable();
  find("model").textContent = `Loading ${name}…`;
  try {
    model = await loadModel(name, await read(), manifest, find("place").value);
  } catch (error) {
    find("model").textContent = "No model.";
    throw new Error(`${name} cannot be loaded: ${error.message}`);
  }
  showError(null);
  drawModel(model);
  find("limit-field").hidden = model.input.size !== null;
  if (readAgain) await label(await readAgain());
}

/** A model file that was picked or dropped, with or without its manifest. */
async function useModelFiles(files) {
  const file = files.find(({ name }) => isModel(name));
  const json = files.find(({ name }) => name.endsWith(".json"));
  if (!file) throw new Error(`${files[0].name} is no model: choose an .onnx or a .tflite file.`);
  const manifest = json ? parseManifest(await json.text()) : null;
  if (json && !manifest) throw new Error(`${json.name} is no manifest of keras_seg.`);
  find("files-field").hidden = true;
  await useModel(file.name, () => file.arrayBuffer(), manifest);
}

function isModel(name) {
  return name.endsWith(".onnx") || name.endsWith(".tflite");
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
  const load = () => {
    const name = choice.value;
    const read = async () => {
      const file = await fetch(`model/${encodeURIComponent(name)}`);
      if (!file.ok) throw new Error("it is not there, though the manifest names it.");
      return file.arrayBuffer();
    };
    return useModel(name, read, manifest);
  };
  choice.onchange = () => queue(load);
  await load();
}

/** Offer the GPU where there is one. */
async function offerPlaces() {
  find("place-field").hidden = !(await navigator.gpu?.requestAdapter());
  find("place").onchange = () => queue(async () => openAgain?.());
}

// --- the picture ---

function limit() {
  const value = Math.round(Number(find("limit").value));
  return model?.input.size === null && value >= 1 ? value : Infinity;
}

async function usePicture(file) {
  endCamera();
  await take(() => readPicture(file, limit()));
}

/** Show a new picture, which `read` gives. */
async function take(read) {
  const picture = await read();
  readAgain = read;
  await label(picture);
}

/** Show a picture, with its labels if there is a model. */
async function label(picture) {
  if (!model) {
    drawPicture(picture, null);
    showError("Open a model to label the picture.");
    return;
  }
  const { labels, times } = await labelPicture(model, picture);
  runs = [...runs, times].slice(-RUNS_KEPT);
  shown = { picture, labels };
  drawPicture(picture, labels, model.table, hidden);
  drawLegend(labels, model.table, hidden);
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
  showCamera(false);
}

async function toggleCamera() {
  if (stopCamera) {
    endCamera();
    return;
  }
  const use = (frame) => queue(() => stopCamera && take(() => frame));
  stopCamera = await startCamera(limit, use);
  showCamera(true);
}

function showCamera(on) {
  find("camera").setAttribute("aria-pressed", on);
  find("camera").textContent = on ? "Stop camera" : "Camera";
}

// --- events ---

function picks(button, input, use) {
  find(button).onclick = () => find(input).click();
  find(input).onchange = () => {
    const files = [...find(input).files];
    find(input).value = ""; // the same file can then be picked again
    if (files.length) queue(() => use(files));
  };
}

picks("open-model", "model-input", useModelFiles);
picks("open-picture", "picture-input", ([file]) => usePicture(file));
find("camera").onclick = () => queue(toggleCamera);
find("sample").onclick = () => {
  endCamera();
  queue(() => {
    const picture = samplePicture();
    return take(() => picture);
  });
};
find("repeat").onclick = () => {
  endCamera();
  for (let i = 0; i < 10; i++) queue(() => label(shown.picture));
};
find("limit").onchange = () => queue(async () => readAgain && label(await readAgain()));

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
  if (files.some(({ name }) => isModel(name))) queue(() => useModelFiles(files));
  else if (files.length) queue(() => usePicture(files[0]));
};

find("opacity").oninput = () => {
  find("opacity-value").value = `${find("opacity").value} %`;
  find("mask").style.opacity = find("opacity").value / 100;
};
find("opacity").oninput();

document.querySelector(".side").onchange = ({ target }) => {
  if (target.className !== "shown" || !shown) return;
  if (target.checked) hidden.delete(Number(target.value));
  else hidden.add(Number(target.value));
  drawLabels(shown.labels, model.table, hidden);
};

find("mask").onpointermove = (event) => {
  if (!shown) return;
  const box = find("mask").getBoundingClientRect();
  const { width, height } = shown.picture;
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  const name = inside && model.table.names[shown.labels[y * width + x]];
  find("pointed").hidden = !name;
  find("pointed").textContent = `${name} at ${x}, ${y}`;
};
find("mask").onpointerleave = () => {
  find("pointed").hidden = true;
};

async function save(name, file) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

find("save-overlay").onclick = () => {
  const { picture, labels } = shown;
  const opacity = find("opacity").value / 100;
  save("overlay.png", overlayFile(picture, labels, model.table, hidden, opacity));
};
find("save-labels").onclick = () => {
  const { picture, labels } = shown;
  save("labels.png", labelFile(labels, picture.width, picture.height));
};

queue(offerPlaces);
queue(useServedExport);
