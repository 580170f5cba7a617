// The open image: its photograph, its strokes (the server's and those still on their way), its tags, its paint.

import { Refused, fetchAnswer, get, path } from "./api.js";
import { unsentOf } from "./queue.js";
import { Paint } from "./raster.js";
import { hear, state, tell } from "./state.js";

export const picture = {
  name: null,
  error: null,
  width: 0, // of the image
  height: 0,
  scale: 1, // pixels of the photograph in one pixel of the image
  strokes: [],
  tags: new Set(),
  version: 0,
  labels: "none", // what it has: "spread", "accepted", "predicted"
  paint: null, // Paint at the photograph's size
  ready: false,
};

const photo = document.getElementById("photo");
let opening = 0;

function load(url) {
  photo.src = url;
  return photo.decode().catch(async () => {
    await fetchAnswer(url); // where the server cannot read it, either, it says why
    throw new Refused("this browser cannot show it", 415);
  });
}

/** Opens an image; resolves when photograph and strokes are there. */
export async function open(name) {
  if (!name) return;
  const mine = ++opening;
  state.image = name;
  Object.assign(picture, { name, error: null, ready: false, strokes: [], tags: new Set(), version: 0 });
  tell("opening", name);
  try {
    const known = await newest(name, load(`${path(name)}/photo`));
    if (mine !== opening) return;
    picture.width = known.width || photo.naturalWidth;
    picture.height = known.height || photo.naturalHeight;
    picture.scale = photo.naturalWidth / picture.width;
    picture.paint = new Paint(photo.naturalWidth, photo.naturalHeight);
    picture.ready = true;
    take(known);
    tell("image");
  } catch (error) {
    if (mine !== opening) return;
    picture.error = error.message;
    tell("image");
  }
}

/**
 * The server's strokes, and the photograph if there is one to wait for. An edit that was confirmed meanwhile may not be
 * in the answer: then it asks again.
 */
async function newest(name, photograph = null) {
  for (;;) {
    const before = picture.version;
    const [known] = await Promise.all([get(`${path(name)}/strokes`), photograph]);
    if (picture.version === before || known.version >= picture.version) return known;
  }
}

function take(known) {
  const unsent = unsentOf(picture.name);
  const removed = new Set(unsent.filter((edit) => edit.op === "remove").map((edit) => edit.id));
  const there = new Set(known.strokes.map((stroke) => stroke.id));
  const added = unsent.filter((edit) => edit.op === "stroke" && !there.has(edit.stroke.id)).map((edit) => edit.stroke);
  picture.strokes = [...known.strokes, ...added].filter((stroke) => !removed.has(stroke.id));
  const tags = unsent.findLast((edit) => edit.op === "tags");
  picture.tags = new Set(tags ? tags.tags : known.tags);
  picture.version = known.version;
  picture.labels = known.labels ?? "none";
  repaint();
  tell("renewed");
}

/** Asks the server for the strokes again: after an undo, or when another tab drew. */
export async function renew() {
  const { name } = picture;
  if (!picture.ready) return open(name);
  const known = await newest(name).catch(() => null);
  if (known && name === picture.name && picture.ready) take(known);
}

/** A class's number in paint; 0 for none: what an eraser paints. */
export const valueOf = (key) => state.classes.findIndex((one) => one.key === key) + 1;

/** Paints all strokes anew. */
export function repaint() {
  const { paint } = picture;
  if (!paint) return;
  paint.clear();
  for (const stroke of picture.strokes) paint.stroke(stroke, valueOf(stroke.class), picture.scale);
  tell("strokes");
}

/** The class painted at a point of the image: {key} or null. */
export function paintedAt([x, y]) {
  const { paint, scale } = picture;
  const [column, row] = [Math.floor(x * scale), Math.floor(y * scale)];
  if (!paint || column < 0 || row < 0 || column >= paint.width || row >= paint.height) return null;
  return state.classes[paint.map[row * paint.width + column] - 1] ?? null;
}

hear("state", repaint);
