// node drive_web.mjs: use the page of export/web as a person does, in headless Chromium.
//
// One JSON on standard input: {web: the folder with node_modules, chromium: its path, url, steps}.
// One on standard output: {results: one for each step, requests: every URL asked for, errors: what
// the page threw}. A step is a list: a name and what it takes.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const {
  web,
  chromium: executablePath,
  url,
  steps,
  width = 1280,
  height = 900,
} = JSON.parse(readFileSync(0, "utf8"));
const { chromium } = createRequire(`${web}/`)("playwright-core");

const browser = await chromium.launch({
  executablePath,
  args: [
    "--no-sandbox",
    // A GPU computed by the CPU, so that WebGPU can be tested without one.
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
  ],
});
const context = await browser.newContext({ viewport: { width, height }, acceptDownloads: true });
const page = await context.newPage();
page.setDefaultTimeout(120_000);
const requests = [];
const errors = [];
context.on("request", (request) => requests.push(request.url()));
context.on("weberror", (error) => errors.push(String(error.error())));

/** Until nothing is being worked on. */
const idle = () => page.waitForFunction(() => document.getElementById("busy").hidden);

async function pick(input, files) {
  await page.setInputFiles(input, files);
  await idle();
}

async function download(button, path) {
  if (await page.isDisabled(button)) throw new Error(`no labels: ${(await read()).error}`);
  const [file] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  await file.saveAs(path);
}

/** What the page says now. */
async function read() {
  await idle();
  return page.evaluate(() => {
    const text = (id) => document.getElementById(id).textContent;
    const classes = [...document.querySelectorAll("#legend li, #absent li")].map((item) => ({
      id: Number(item.querySelector(".shown").value),
      name: item.querySelector(".name").textContent,
      color: getComputedStyle(item.querySelector(".swatch")).backgroundColor,
      share: item.querySelector(".share").textContent,
    }));
    return {
      model: text("model"),
      time: text("time"),
      device: text("device"),
      error: document.getElementById("error").hidden ? null : text("error"),
      labelled: !document.getElementById("save-labels").disabled,
      camera: document.getElementById("camera").getAttribute("aria-pressed"),
      files: [...document.getElementById("files").options].map((option) => option.value),
      wider: document.documentElement.scrollWidth > document.documentElement.clientWidth,
      classes,
    };
  });
}

const actions = {
  async goto() {
    await page.goto(url);
    await idle();
  },
  model: (...files) => pick("#model-input", files),
  picture: (file) => pick("#picture-input", [file]),
  async select(selector, value) {
    await page.selectOption(selector, value);
    await idle();
  },
  async drop(...files) {
    const contents = files.map((file) => [file.split("/").pop(), [...readFileSync(file)]]);
    await page.evaluate((contents) => {
      const dropped = new DataTransfer();
      for (const [name, bytes] of contents) {
        dropped.items.add(new File([Uint8Array.from(bytes)], name));
      }
      const event = new DragEvent("drop", { dataTransfer: dropped, bubbles: true });
      document.getElementById("stage").dispatchEvent(event);
    }, contents);
    await idle();
  },
  async click(selector) {
    await page.click(selector);
    await idle();
  },
  async opacity(value) {
    await page.fill("#opacity", String(value));
  },
  wait: (milliseconds) => page.waitForTimeout(milliseconds),
  labels: (path) => download("#save-labels", path),
  overlay: (path) => download("#save-overlay", path),
  async screenshot(path) {
    await page.screenshot({ path });
  },
  resize: (width, height) => page.setViewportSize({ width, height }),
  read,
  /** The colour of the mask and the name shown under the pointer, at a pixel of the picture. */
  async point(x, y) {
    const box = await page.locator("#mask").boundingBox();
    const [w, h] = await page.locator("#mask").evaluate((mask) => [mask.width, mask.height]);
    await page.mouse.move(
      box.x + ((x + 0.5) / w) * box.width,
      box.y + ((y + 0.5) / h) * box.height,
    );
    return page.textContent("#pointed");
  },
};

const results = [];
try {
  for (const [name, ...given] of steps) results.push((await actions[name](...given)) ?? null);
} finally {
  await browser.close();
}
console.log(JSON.stringify({ results, requests, errors }));
