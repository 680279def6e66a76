// Pictures from files and video frames, as ImageData.

/** Pictures larger than this are shrunk: labels, colours and copies of them must fit in memory. */
const MOST_PIXELS = 4096 * 4096;

/**
 * @param {Blob} file
 * @param {number} limit the longest side; larger pictures are shrunk to it
 * @returns {Promise<ImageData>} upright, in the file's own colours
 */
export async function readPicture(file, limit) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read.`);
  }
  const picture = toImageData(bitmap, bitmap.width, bitmap.height, limit);
  bitmap.close();
  return picture;
}

/** Of anything that a canvas can draw. */
export function toImageData(source, width, height, limit) {
  const most = Math.sqrt(MOST_PIXELS / (width * height));
  const scale = Math.min(1, limit / Math.max(width, height), most);
  const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(...size);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, ...size);
  return context.getImageData(0, 0, ...size);
}

/** A made-up picture: a circle, a square and a triangle of random colours on a textured ground. */
export function samplePicture() {
  const [width, height] = [256, 192];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  const color = () => `rgb(${[0, 0, 0].map(() => 30 + Math.random() * 200).join()})`;
  context.fillStyle = color();
  context.fillRect(0, 0, width, height);
  for (const [column, draw] of [drawCircle, drawSquare, drawTriangle].entries()) {
    const radius = 22 + Math.random() * 14;
    context.save();
    context.translate(45 + 82 * column + Math.random() * 6, 45 + Math.random() * (height - 90));
    context.rotate(Math.random() * 2 * Math.PI);
    context.fillStyle = color();
    context.beginPath();
    draw(context, radius);
    context.fill();
    context.restore();
  }
  const picture = context.getImageData(0, 0, width, height);
  for (let i = 0; i < picture.data.length; i++) {
    if (i % 4 < 3) picture.data[i] += (Math.random() - 0.5) * 12;
  }
  return picture;
}

function drawCircle(context, radius) {
  context.arc(0, 0, radius, 0, 2 * Math.PI);
}

function drawSquare(context, radius) {
  context.rect(-0.85 * radius, -0.85 * radius, 1.7 * radius, 1.7 * radius);
}

function drawTriangle(context, radius) {
  for (let corner = 0; corner < 3; corner++) {
    const angle = (corner * 2 * Math.PI) / 3;
    context.lineTo(1.2 * radius * Math.cos(angle), 1.2 * radius * Math.sin(angle));
  }
}
