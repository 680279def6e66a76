// npm run serve -- FOLDER [PORT]: the built page, and an export's folder as its model.
//
// On this machine only (127.0.0.1). The two headers on every answer let the runtimes use threads.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

const [folder, port = "8000"] = process.argv.slice(2);
const page = fileURLToPath(new URL("dist", import.meta.url));
if (!isFile(join(page, "index.html"))) fail("There is no built page: run `npm run build` first.");
if (folder && !isFile(join(folder, "manifest.json"))) {
  fail(`${folder} holds no manifest.json: give the folder that keras-seg export wrote.`);
}

const server = createServer((request, response) => {
  const file = locate(request.url);
  response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
  response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
  response.setHeader("Cache-Control", "no-cache");
  if (!file) {
    response.writeHead(404, { "Content-Type": "text/plain" }).end("not found");
    return;
  }
  response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
});
server.on("error", (error) => fail(`Cannot listen on port ${port}: ${error.message}`));
server.listen(Number(port), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});

function locate(url) {
  let path;
  try {
    path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
  } catch {
    return null;
  }
  // A normalised path that begins with / cannot climb out of its folder.
  const model = path.match(/^\/model\/(.+)$/);
  if (model && !folder) return null;
  const file = model
    ? join(resolve(folder), model[1])
    : join(page, path === "/" ? "index.html" : path);
  return isFile(file) ? file : null;
}

function isFile(path) {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function fail(message) {
  console.error(message);
  process.exit(2);
}
