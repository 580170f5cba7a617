// Zoom and pan. One number a direction: where the photograph's corner stands in the view, and its size there.

import { byId } from "./dom.js";
import { picture } from "./picture.js";
import { hear, kept, tell } from "./state.js";

export const view = { x: 0, y: 0, zoom: 1, fitted: true }; // zoom: CSS pixels in one pixel of the photograph

const box = byId("view");
const stage = byId("stage");
const [SMALLEST, LARGEST, MARGIN] = [0.02, 64, 28];

const size = () => [picture.paint?.width ?? 1, picture.paint?.height ?? 1];

function apply() {
  stage.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
  stage.classList.toggle("pixels", view.zoom * devicePixelRatio >= 3);
  tell("view");
}

export function fit() {
  const [width, height] = size();
  const room = [box.clientWidth - 2 * MARGIN, box.clientHeight - 2 * MARGIN];
  view.zoom = Math.max(SMALLEST, Math.min(room[0] / width, room[1] / height, 16));
  view.x = (box.clientWidth - width * view.zoom) / 2;
  view.y = (box.clientHeight - height * view.zoom) / 2;
  view.fitted = true;
  apply();
}

/** Zooms by a factor around a point of the view (its middle by default). */
export function zoom(factor, [x, y] = [box.clientWidth / 2, box.clientHeight / 2]) {
  const next = Math.min(LARGEST, Math.max(SMALLEST, view.zoom * factor));
  view.x = x - (x - view.x) * (next / view.zoom);
  view.y = y - (y - view.y) * (next / view.zoom);
  view.zoom = next;
  view.fitted = false;
  apply();
}

/** One pixel of the image on one of the screen. */
export const actual = () => zoom(1 / devicePixelRatio / view.zoom * (1 / picture.scale));

/** Moves the image, of which a little always stays in sight. */
export function pan(dx, dy) {
  const [width, height] = size();
  const stay = (place, long, room) => Math.min(room - 40, Math.max(40 - long * view.zoom, place));
  view.x = stay(view.x + dx, width, box.clientWidth);
  view.y = stay(view.y + dy, height, box.clientHeight);
  view.fitted = false;
  apply();
}

/** A point of the window -> the view. */
export function inView(event) {
  const frame = box.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
}

/** A point of the view -> pixels of the image, and back. */
export const toImage = ([x, y]) => [(x - view.x) / view.zoom / picture.scale, (y - view.y) / view.zoom / picture.scale];
export const toView = ([x, y]) => [x * picture.scale * view.zoom + view.x, y * picture.scale * view.zoom + view.y];

/** CSS pixels in one pixel of the image. */
export const magnified = () => view.zoom * picture.scale;

let padAt = 0; // when a touch pad was last seen

/** A wheel goes in steps of 120, a touch pad in any. */
function isMouse(event) {
  if (event.deltaMode !== 0) return true;
  if (event.deltaX !== 0 || Math.abs(event.wheelDeltaY ?? 0) % 120 !== 0) padAt = event.timeStamp;
  return event.timeStamp - padAt > 400 || padAt === 0;
}

function wheel(event) {
  event.preventDefault();
  const mouse = isMouse(event);
  if (event.ctrlKey && !mouse) zoom(Math.exp(-event.deltaY / 100), inView(event)); // a pinch on a touch pad
  else if (mouse || event.ctrlKey) zoom(event.deltaY > 0 ? 1 / 1.2 : 1.2, inView(event));
  else pan(-event.deltaX, -event.deltaY);
}

export function startView() {
  box.addEventListener("wheel", wheel, { passive: false });
  new ResizeObserver(() => { if (view.fitted) fit(); else apply(); }).observe(box);
  hear("image", () => {
    if (!picture.ready) return;
    const [width, height] = size();
    Object.assign(stage.style, { width: `${width}px`, height: `${height}px` });
    fit();
  });
  hear("layers", showLayers);
  showLayers();
}

function showLayers() {
  for (const [name, { on, opacity }] of Object.entries(kept.layers)) {
    const layer = byId(name);
    layer.style.opacity = opacity;
    layer.classList.toggle("off", !on);
  }
}
