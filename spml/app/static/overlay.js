// Pictures over the photograph: labels, strokes, regions, uncertainty, embedding. Ids come as grey; colours are ours.

import { byId, rgb } from "./dom.js";
import { picture } from "./picture.js";
import { state } from "./state.js";

const NONE = 254; // no label
const HOT = [255, 84, 40];

/** 0xAABBGGRR, the order of bytes in ImageData on every machine that runs a browser. */
const pack = ([r, g, b], alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

const lighter = ([r, g, b], part) => [r, g, b].map((value) => Math.round(value + (255 - value) * part));

/** Reads a picture of the server to bytes (H * W * 4), unchanged by colour management. */
export async function decode(blob, width, height) {
  const settings = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(blob, settings);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}

export function firstChannel(bytes) {
  const grey = new Uint8Array(bytes.length / 4);
  for (let place = 0; place < grey.length; place += 1) grey[place] = bytes[4 * place];
  return grey;
}

function canvasOf(id) {
  const canvas = byId(id);
  const { width, height } = picture.paint;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  return canvas.getContext("2d");
}

export function wipe(id) {
  const canvas = byId(id);
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

function put(id, paint) {
  const context = canvasOf(id);
  const { width, height } = context.canvas;
  const image = context.createImageData(width, height);
  paint(new Uint32Array(image.data.buffer), width, height);
  context.putImageData(image, 0, 0);
}

/** Class ids as colours, an edge of full colour where two classes meet. */
export function drawLabels(ids) {
  const colour = new Uint32Array(256);
  const edge = new Uint32Array(256);
  for (const one of state.classes) {
    colour[one.id] = pack(rgb(one.color), one.id === state.background ? 80 : 190); // what is sought stands out
    edge[one.id] = pack(lighter(rgb(one.color), 0.25), 255);
  }
  put("labels", (out, width, height) => {
    for (let y = 0, place = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, place += 1) {
        const id = ids[place];
        const meets = (x + 1 < width && ids[place + 1] !== id) || (y + 1 < height && ids[place + width] !== id);
        out[place] = meets ? edge[id] : colour[id];
      }
    }
  });
}

/** Part of the labelled pixels that each class id takes. */
export function fractions(ids) {
  const count = new Uint32Array(256);
  for (let place = 0; place < ids.length; place += 1) count[ids[place]] += 1;
  const total = ids.length - count[NONE] - count[255];
  return Array.from(count, (number) => (total ? number / total : 0));
}

/** Strokes where they changed. */
export function drawStrokes() {
  const { paint } = picture;
  const context = canvasOf("strokes");
  const { left, top, right, bottom, width, map } = paint;
  if (right < left) return;
  const colour = new Uint32Array(256);
  state.classes.forEach((one, place) => { colour[place + 1] = pack(rgb(one.color), 255); });
  const image = context.createImageData(right - left + 1, bottom - top + 1);
  const out = new Uint32Array(image.data.buffer);
  for (let y = top, to = 0; y <= bottom; y += 1) {
    for (let x = left, from = y * width + left; x <= right; x += 1, from += 1, to += 1) out[to] = colour[map[from]];
  }
  context.putImageData(image, left, top);
  paint.clean();
}

/** First minus second probability as 0..255: the less sure, the hotter. */
export function drawMargin(bytes) {
  const alpha = (margin) => Math.round(235 * (1 - margin / 255) ** 1.5);
  const colour = Uint32Array.from({ length: 256 }, (_, margin) => pack(HOT, alpha(margin)));
  put("margin", (out) => {
    for (let place = 0; place < out.length; place += 1) out[place] = colour[bytes[4 * place]];
  });
}

/** Lines between regions; a region's id is R + 256 G + 65536 B. */
export function drawRegions(bytes) {
  const id = new Uint32Array(bytes.buffer);
  const line = pack([255, 255, 255], 220);
  put("regions", (out, width, height) => {
    for (let y = 0, place = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, place += 1) {
        const own = id[place];
        const meets = (x + 1 < width && id[place + 1] !== own) || (y + 1 < height && id[place + width] !== own);
        if (meets) out[place] = line;
      }
    }
  });
}

export async function drawEmbedding(blob) {
  const bitmap = await createImageBitmap(blob);
  const context = canvasOf("embedding");
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  bitmap.close();
}
