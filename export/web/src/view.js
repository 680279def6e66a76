// Drawing: the picture, the labels over it, the legend, the times.

const find = (id) => document.getElementById(id);

/** Draw a picture and its labels, without those in `hidden`; null takes the old ones away. */
export function drawPicture(picture, labels, table, hidden) {
  const canvases = [find("picture"), find("mask")];
  for (const canvas of canvases) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  find("picture").getContext("2d").putImageData(picture, 0, 0);
  if (labels) drawLabels(labels, table, hidden);
  find("hint").hidden = true;
  find("frame").hidden = false;
  find("frame").style.setProperty("--ratio", picture.width / picture.height);
}

/** Take away what a model made of the picture. */
export function clearResult() {
  const mask = find("mask");
  mask.getContext("2d").clearRect(0, 0, mask.width, mask.height);
  find("legend").replaceChildren();
  find("absent").hidden = true;
  find("time").textContent = "–";
  find("device").textContent = "";
  find("pointed").hidden = true;
}

/** Draw the labels alone, over the picture that is there. */
export function drawLabels(labels, table, hidden) {
  const mask = find("mask");
  const image = new ImageData(mask.width, mask.height);
  const pixels = new Uint32Array(image.data.buffer);
  const colors = Uint32Array.from(table.colors, ([r, g, b], id) => {
    return hidden.has(id) ? 0 : new Uint32Array(Uint8Array.of(r, g, b, 255).buffer)[0];
  });
  for (let i = 0; i < labels.length; i++) pixels[i] = colors[labels[i]];
  mask.getContext("2d").putImageData(image, 0, 0);
}

/**
 * The classes in the picture, most pixels first; the others below, folded.
 * @param {Set<number>} hidden ids that are not drawn; each entry has a box to draw it or not
 */
export function drawLegend(labels, table, hidden) {
  const counts = new Array(table.names.length).fill(0);
  for (const label of labels) counts[label]++;
  const ids = table.names.map((_, id) => id);
  const present = ids.filter((id) => counts[id]).sort((a, b) => counts[b] - counts[a]);
  const absent = ids.filter((id) => !counts[id]);
  const entries = (ids) => ids.map((id) => entry(table, id, counts[id] / labels.length, hidden));
  find("legend").replaceChildren(...entries(present));
  find("absent").hidden = absent.length === 0;
  find("absent").querySelector("summary").textContent = `${absent.length} not in this picture`;
  find("absent")
    .querySelector("ul")
    .replaceChildren(...entries(absent));
}

function entry(table, id, share, hidden) {
  const color = `rgb(${table.colors[id].join(" ")})`;
  const box = element("input", "shown");
  box.type = "checkbox";
  box.checked = !hidden.has(id);
  box.value = id;
  box.style.accentColor = color;
  const swatch = element("span", "swatch");
  swatch.style.background = color;
  const bar = element("span", "bar");
  bar.style.background = color;
  bar.style.width = `${100 * share}%`;
  const track = element("span", "track");
  track.append(bar);
  const label = element("label", "");
  const name = element("span", "name", table.names[id]);
  label.append(box, swatch, name, element("span", "share", percent(share)), track);
  const item = element("li", "");
  item.append(label);
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
  find("time").replaceChildren(
    element("strong", "", milliseconds(middle("network"))),
    " for the network, ",
    element("strong", "", milliseconds(total)),
    ` with resizing and labels (${of})`,
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
    `${model.name}, ${megabytes(model.bytes)} MB: ${pixels}, ${colors}, ${dtype} in, ` +
    `${model.output.kind} out`;
  find("device").textContent = model.device;
}

function megabytes(bytes) {
  return (bytes / 1e6).toPrecision(2).replace(/e.*/, "");
}

export function showError(message) {
  find("error").hidden = !message;
  find("error").textContent = message ?? "";
}

/**
 * The picture with the labels' colours over it as a PNG: round((1 - opacity) * picture + opacity *
 * colour), as keras_seg.inference.overlay makes it.
 */
export function overlayFile(picture, labels, table, hidden, opacity) {
  const image = new ImageData(picture.data.slice(), picture.width, picture.height);
  for (let i = 0; i < labels.length; i++) {
    if (hidden.has(labels[i])) continue;
    for (let c = 0; c < 3; c++) {
      const color = table.colors[labels[i]][c];
      image.data[4 * i + c] = image.data[4 * i + c] * (1 - opacity) + color * opacity;
    }
  }
  return png(image);
}

/** A grey PNG whose pixels are the class ids. */
export function labelFile(labels, width, height) {
  const image = new ImageData(width, height);
  for (let i = 0; i < labels.length; i++) {
    image.data.fill(labels[i], 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  return png(image);
}

function png(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
