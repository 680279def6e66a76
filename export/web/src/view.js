// Drawing: the picture, the labels over it, the legend, the times.

const find = (id) => document.getElementById(id);

/** Draw a picture and its labels; `labels` of null takes the old ones away. */
export function drawPicture(picture, labels, table) {
  const canvases = [find("picture"), find("mask")];
  for (const canvas of canvases) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  const [base, mask] = canvases.map((canvas) => canvas.getContext("2d"));
  base.putImageData(picture, 0, 0);
  if (labels) mask.putImageData(colored(labels, table, picture.width, picture.height), 0, 0);
  find("hint").hidden = true;
  find("frame").hidden = false;
  find("frame").style.setProperty("--ratio", picture.width / picture.height);
}

function colored(labels, table, width, height) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = Uint32Array.from(table.colors, ([r, g, b]) => {
    return new Uint32Array(Uint8Array.of(r, g, b, 255).buffer)[0];
  });
  for (let i = 0; i < labels.length; i++) pixels[i] = colors[labels[i]];
  return image;
}

/** The classes in the picture, most pixels first; the others below, folded. */
export function drawLegend(labels, table) {
  const counts = new Array(table.names.length).fill(0);
  for (const label of labels) counts[label]++;
  const ids = table.names.map((_, id) => id);
  const present = ids.filter((id) => counts[id]).sort((a, b) => counts[b] - counts[a]);
  find("legend").replaceChildren(
    ...present.map((id) => entry(table, id, counts[id] / labels.length)),
  );
  const absent = ids.filter((id) => !counts[id]);
  find("absent").hidden = absent.length === 0;
  find("absent").querySelector("summary").textContent = `${absent.length} not in this picture`;
  find("absent").querySelector("ul").replaceChildren(...absent.map((id) => entry(table, id, 0)));
}

function entry(table, id, share) {
  const item = document.createElement("li");
  item.dataset.id = id;
  const swatch = element("span", "swatch");
  swatch.style.background = `rgb(${table.colors[id].join(" ")})`;
  const bar = element("span", "bar");
  bar.style.width = `${100 * share}%`;
  bar.style.background = swatch.style.background;
  const track = element("span", "track");
  track.append(bar);
  item.append(swatch, element("span", "name", table.names[id]), element("span", "share", percent(share)), track);
  return item;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(1)} %`;
}

/** Medians of `runs`, a list of {prepare, network, finish} in milliseconds. */
export function drawTime(runs) {
  const middle = (name) => median(runs.map((times) => times[name]));
  const total = median(runs.map((t) => t.prepare + t.network + t.finish));
  const of = runs.length === 1 ? "first run" : `median of ${runs.length} runs`;
  find("time").innerHTML = "";
  find("time").append(
    element("strong", "", `${milliseconds(middle("network"))} network`),
    `, ${milliseconds(total)} with resizing and labels (${of})`,
  );
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** What was loaded, in one line. */
export function drawModel(model) {
  const { size, channels, dtype } = model.input;
  const pixels = size ? `${size[0]} × ${size[1]}` : "any size";
  const colors = channels === 1 ? "grey" : "RGB";
  find("model").textContent =
    `${model.name}, ${(model.bytes / 1e6).toFixed(1)} MB: ${pixels}, ${colors}, ${dtype} in, ` +
    `${model.output.kind} out`;
  find("device").textContent = model.device;
}

export function showError(message) {
  find("error").hidden = !message;
  find("error").textContent = message ?? "";
}

/** The picture with the labels' colours over it, `opacity` of 0..1, as a PNG. */
export function overlayFile(opacity) {
  const [base, mask] = [find("picture"), find("mask")];
  const canvas = new OffscreenCanvas(base.width, base.height);
  const context = canvas.getContext("2d");
  context.drawImage(base, 0, 0);
  context.globalAlpha = opacity;
  context.drawImage(mask, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}

/** A grey PNG whose pixels are the class ids. */
export function labelFile(labels, width, height) {
  const image = new ImageData(width, height);
  for (let i = 0; i < labels.length; i++) {
    image.data.fill(labels[i], 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
