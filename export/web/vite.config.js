import { readFileSync } from "node:fs";
import { defineConfig } from "vite";

// What the two runtimes load while they run, under names that they choose: copied as it is.
const RUNTIMES = {
  ort: [
    "onnxruntime-web/dist",
    ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"].flatMap((name) => [
      `${name}.mjs`,
      `${name}.wasm`,
    ]),
  ],
  litert: [
    "@litertjs/core/wasm",
    [
      "litert_wasm_internal",
      "litert_wasm_threaded_internal",
      "litert_wasm_compat_internal",
    ].flatMap((name) => [`${name}.js`, `${name}.wasm`]),
  ],
};

function copyRuntimes() {
  return {
    name: "copy-runtimes",
    generateBundle() {
      for (const [folder, [source, names]] of Object.entries(RUNTIMES)) {
        for (const name of names) {
          const url = new URL(`node_modules/${source}/${name}`, import.meta.url);
          this.emitFile({
            type: "asset",
            fileName: `${folder}/${name}`,
            source: readFileSync(url),
          });
        }
      }
      const license = new URL("../../LICENSE", import.meta.url);
      this.emitFile({ type: "asset", fileName: "LICENSE.txt", source: readFileSync(license) });
    },
  };
}

export default defineConfig({
  base: "./",
  // LiteRT.js starts with importScripts, which only a classic worker has.
  worker: { format: "iife" },
  // onnxruntime's own loader then stays a file of its own, which its threads start from.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "production"] },
  plugins: [copyRuntimes()],
  build: { target: "es2022", chunkSizeWarningLimit: 1000 },
});
