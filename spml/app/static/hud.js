// Thin lines over the picture at the screen's own resolution: boxes, points, the shape being drawn, the pen's ring.

import { byId } from "./dom.js";
import { picture } from "./picture.js";
import { classOf, hear, kept } from "./state.js";
import { magnified, toView } from "./view.js";

export const hud = { draft: null, pointer: null, ring: 0, colour: "#fff", cross: false };

const canvas = byId("hud");
const context = canvas.getContext("2d");
let due = false;

export function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

function draw() {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const dense = devicePixelRatio;
  if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
    [canvas.width, canvas.height] = [Math.round(width * dense), Math.round(height * dense)];
  }
  context.setTransform(dense, 0, 0, dense, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!picture.ready) return;
  if (kept.layers.strokes.on) {
    context.globalAlpha = kept.layers.strokes.opacity;
    for (const stroke of picture.strokes) shape(stroke, classOf(stroke.class)?.color ?? "#fff");
    context.globalAlpha = 1;
  }
  if (hud.draft) draft(hud.draft);
  if (hud.pointer) ring();
}

/** A line that is seen on light and on dark. */
function line(colour, width = 2) {
  context.lineJoin = context.lineCap = "round";
  context.strokeStyle = "rgba(0, 0, 0, .55)";
  context.lineWidth = width + 2;
  context.stroke();
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
}

function shape(stroke, colour) {
  if (stroke.kind === "box") box(stroke.points, colour);
  else if (stroke.kind === "point") dot(stroke, colour);
}

function box([a, b], colour) {
  const [[left, top], [right, bottom]] = [toView(a), toView(b)];
  context.beginPath();
  context.rect(Math.min(left, right), Math.min(top, bottom), Math.abs(right - left), Math.abs(bottom - top));
  line(colour);
}

function dot(stroke, colour) {
  const [x, y] = toView(stroke.points[0]);
  context.beginPath();
  context.arc(x, y, Math.max(5, (stroke.width / 2) * magnified() + 1.5), 0, 7);
  line(colour);
}

function draft({ kind, points, end }) {
  const corners = (end ? [...points, end] : points).map(toView);
  if (!corners.length) return;
  if (kind === "box") return corners.length > 1 && box([points[0], end ?? points.at(-1)], hud.colour);
  context.beginPath();
  corners.forEach(([x, y], place) => (place ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (kind === "polygon" && corners.length > 2) {
    context.fillStyle = hud.colour;
    context.globalAlpha = 0.25;
    context.fill();
    context.globalAlpha = 1;
  }
  line(hud.colour, kind === "line" ? Math.max(2, hud.ring * magnified()) : 2);
  if (kind === "polygon") {
    for (const [x, y] of points.map(toView)) {
      context.beginPath();
      context.arc(x, y, 3, 0, 7);
      line(hud.colour, 2);
    }
  }
}

function ring() {
  const [x, y] = toView(hud.pointer);
  const radius = (hud.ring / 2) * magnified();
  context.beginPath();
  if (radius > 2.5) context.arc(x, y, radius, 0, 7);
  if (radius <= 2.5 || hud.cross) {
    const [inner, outer] = [Math.max(3, radius + 2), Math.max(9, radius + 8)];
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      context.moveTo(x + dx * inner, y + dy * inner);
      context.lineTo(x + dx * outer, y + dy * outer);
    }
  }
  line(hud.colour, 1.5);
}

hear("view strokes class layers image state", redraw);
