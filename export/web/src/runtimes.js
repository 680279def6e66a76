// The two runtimes behind one small interface. `open` returns a network:
//   input   {dtype: "float32" | "uint8", size: null (any) or [H, W], channels, scale, zero}
//   output  {kind: "logits" | "logits_lowres" | "probabilities" | "labels", dtype}
//   device  where it runs, for people to read
//   run(pixels, [H, W])  -> {data, size: [h, w], classes: K (null for labels)}
//   close()

import { quantisation } from "./tflite.js";

// Folders that the build copies beside the page.
const BASE = new URL("..", self.location.href).href;

/**
 * A name's ending decides, as everywhere in keras_seg.
 * @param {"cpu" | "gpu"} place
 */
export function open(name, bytes, place) {
  if (name.endsWith(".onnx")) return openOnnx(bytes, place);
  if (name.endsWith(".tflite")) return openTflite(bytes, place);
  throw new Error(`${name} is no model for this page: it reads .onnx and .tflite files.`);
}

async function openOnnx(bytes, place) {
  const gpu = place === "gpu";
  // Each is a program of its own; that for the GPU is twice as large.
  const ort = await (gpu ? import("onnxruntime-web/webgpu") : import("onnxruntime-web/wasm"));
  ort.env.wasm.wasmPaths = `${BASE}ort/`;
  ort.env.wasm.numThreads = threads();
  ort.env.logLevel = "error";
  const executionProviders = [gpu ? "webgpu" : "wasm"];
  const session = await ort.InferenceSession.create(bytes, { executionProviders });
  const [image] = onlyInput(session.inputMetadata);
  const result = pick(session.outputMetadata);
  const output = describeOutput(result.name, result.type);
  return {
    input: describeInput(image.type, image.shape.map(knownSize)),
    output,
    device: `onnxruntime-web, ${gpu ? "GPU" : onCpu(ort.env.wasm.numThreads)}`,
    async run(pixels, [height, width]) {
      const channels = pixels.length / (height * width);
      const tensor = new ort.Tensor(image.type, pixels, [1, height, width, channels]);
      const found = (await session.run({ [image.name]: tensor }, [result.name]))[result.name];
      return describeResult(found.data, found.dims, output);
    },
    close: () => session.release(),
  };
}

let litert = null;

async function openTflite(bytes, place) {
  const { Tensor, loadLiteRt, loadAndCompile, supportsFeature } = await import("@litertjs/core");
  const several = threads() > 1 && (await supportsFeature("relaxedSimd"));
  // In a worker its loader would look for its files, and start its threads, where the worker lies.
  self.Module = {
    locateFile: (name) => `${BASE}litert/${name}`,
    mainScriptUrlOrBlob: `${BASE}litert/litert_wasm_threaded_internal.js`,
  };
  litert ??= loadLiteRt(`${BASE}litert/`, { threads: several });
  await litert;
  const gpu = place === "gpu";
  const refused = "the GPU does not take all of it. Run it on the CPU.";
  const explain = (error) => {
    throw gpu ? new Error(`${refused} LiteRT.js: ${error?.message ?? error}`) : error;
  };
  const model = await loadAndCompile(bytes, {
    accelerator: gpu ? "webgpu" : "wasm",
    cpuOptions: { numThreads: threads() },
    gpuOptions: { precision: "fp32" },
  }).catch(explain);
  if (gpu && !model.isFullyAccelerated) {
    model.delete();
    throw new Error(refused);
  }
  const [image] = onlyInput(model.getInputDetails());
  const result = pick(model.getOutputDetails());
  const output = describeOutput(result.name, result.dtype);
  return {
    input: {
      ...describeInput(image.dtype, [...image.shape].map(knownSize)),
      ...quantisation(bytes),
    },
    output,
    device: `LiteRT.js, ${gpu ? "GPU" : onCpu(several ? threads() : 1)}`,
    async run(pixels, [height, width]) {
      const channels = pixels.length / (height * width);
      const tensor = new Tensor(pixels, [1, height, width, channels]);
      const outputs = await model.run({ [image.name]: tensor }).catch(explain);
      const data = (await outputs[result.name].data()).slice();
      for (const each of [tensor, ...Object.values(outputs)]) each.delete();
      return describeResult(data, result.shape, output);
    },
    close: () => model.delete(),
  };
}

function onlyInput(inputs) {
  if (inputs.length === 1) return inputs;
  const names = inputs.map(({ name }) => name).join(", ");
  throw new Error(`The model has the inputs ${names}; a segmentation network has one, the image.`);
}

const OUTPUTS = ["logits", "logits_lowres", "probabilities", "labels"];

function pick(outputs) {
  if (outputs.length === 1) return outputs[0];
  for (const wanted of OUTPUTS) {
    const found = outputs.find(({ name }) => name === wanted);
    if (found) return found;
  }
  const names = outputs.map(({ name }) => name).join(", ");
  throw new Error(`The model has the outputs ${names}; one must be called ${OUTPUTS.join(", ")}.`);
}

function describeInput(dtype, shape) {
  const [batch, height, width, channels] = shape;
  if (shape.length !== 4 || (channels !== 1 && channels !== 3) || (batch ?? 1) !== 1) {
    throw new Error(
      `The model takes an input of shape (${shape.map((n) => n ?? "?").join(", ")}). This page runs ` +
        "networks that take one picture (1, H, W, C) with 1 or 3 channels.",
    );
  }
  if (dtype !== "float32" && dtype !== "uint8") {
    throw new Error(`The model takes pixels of ${dtype}; this page gives float32 or uint8.`);
  }
  return { dtype, size: height && width ? [height, width] : null, channels, scale: 1, zero: 0 };
}

/** Of a name that is none of ours the numbers decide: whole ones are labels. */
function describeOutput(name, dtype) {
  if (OUTPUTS.includes(name)) return { kind: name, dtype };
  return { kind: /int/.test(dtype) ? "labels" : "logits", dtype };
}

function describeResult(data, dims, { kind }) {
  const labels = kind === "labels";
  if (dims.length !== 4 && !(labels && dims.length === 3)) {
    throw new Error(`The model returns a tensor of shape (${dims.join(", ")}); expected a map.`);
  }
  // Labels may be of float32, as a GPU returns them, or of int64, which are BigInts here.
  if (labels) data = Int32Array.from(data, (label) => Math.round(Number(label)));
  return { data, size: [dims[1], dims[2]], classes: labels ? null : dims[3] };
}

/** ONNX writes an unknown size as a name, LiteRT as -1. */
function knownSize(n) {
  return typeof n === "number" && n > 0 ? n : null;
}

/** Threads need memory that they share, which browsers give only to isolated pages (serve.js). */
function threads() {
  return self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
}

function onCpu(n) {
  return n === 1 ? "CPU, 1 thread" : `CPU, ${n} threads`;
}
