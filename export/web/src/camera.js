// Frames of the camera, one after the other, as fast as they are used up.

import { toImageData } from "./picture.js";

/** Many phones give 4K otherwise, which takes longer to copy than small networks to run. */
const WANTED = { facingMode: "environment", width: { ideal: 640 }, height: { ideal: 480 } };

/**
 * @param {() => number} limit the longest side of a frame
 * @param {(frame: ImageData) => Promise<void>} use called with a frame once the last is done
 * @returns {Promise<() => void>} stops the camera
 */
export async function startCamera(limit, use) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers give the camera only to pages from this machine or over HTTPS.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: WANTED });
  } catch (error) {
    throw new Error(`The camera cannot be used: ${error.message}`);
  }
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  let running = true;
  const stop = () => {
    running = false;
    for (const track of stream.getTracks()) track.stop();
  };
  video.play().then(async () => {
    while (running) {
      await use(toImageData(video, video.videoWidth, video.videoHeight, limit()));
      await new Promise(requestAnimationFrame);
    }
  });
  return stop;
}
