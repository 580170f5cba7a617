// The pen: what a tool makes of points of the image, whoever moves it (mouse, finger, stylus, arrow keys).

import { toast } from "./dom.js";
import { hud, redraw } from "./hud.js";
import { drawStrokes } from "./overlay.js";
import { picture, repaint, valueOf } from "./picture.js";
import { push } from "./queue.js";
import { scaledWidth } from "./raster.js";
import { penWentUp } from "./spread.js";
import { active, classOf, hear, kept, state, tell, unique } from "./state.js";
import { magnified } from "./view.js";

const NEAR = 0.35; // pixels of the screen below which a move is no new point
const DRAFT = "spml-studio-draft";

let stroke = null; // the stroke under the pen

export const drawing = () => stroke !== null;

const round = (value) => Math.round(value * 100) / 100;

/** Inside the image, give or take a pen's width: a stroke may leave it and come back. */
function tidy([x, y]) {
  const room = stroke?.kind === "box" || stroke?.kind === "point" || stroke?.kind === "polygon" ? 0 : kept.width;
  const clamp = (value, size) => round(Math.min(size + room, Math.max(-room, value)));
  return [clamp(x, picture.width), clamp(y, picture.height)];
}

/** Why the pen cannot draw now, or null. */
function obstacle(tool) {
  if (!picture.ready) return "No image is open.";
  if (tool === "erase") return null;
  const one = active();
  if (!one) return "Add a class first: its name goes into the panel on the right.";
  return one.locked ? `“${one.name}” is locked.` : null;
}

/** The pen goes down at a point of the image; false where it cannot draw. */
export function down(point, tool = kept.tool) {
  const why = obstacle(tool);
  if (why) {
    toast(why);
    return false;
  }
  if (stroke?.kind === "polygon") return corner(point);
  const kind = tool;
  const width = kind === "box" || kind === "polygon" ? 1 : kept.width; // a shape's rim is a thin line
  const key = kind === "erase" ? null : active().key;
  stroke = { id: unique(), kind, class: key, width, points: [], filled: kind === "polygon" };
  stroke.points.push(tidy(point));
  if (isPaint()) paint(stroke.points[0], stroke.points[0]);
  if (kind === "point") return finish();
  preview(point);
  return true;
}

const isPaint = () => stroke.kind === "brush" || stroke.kind === "erase";

function paint(a, b) {
  const { scale } = picture;
  const at = ([x, y]) => [x * scale, y * scale];
  picture.paint.segment(at(a), at(b), scaledWidth(stroke.width, scale), valueOf(stroke.class));
  drawStrokes();
}

function corner(point) {
  const next = tidy(point);
  const reach = 9 / magnified();
  const [first] = stroke.points;
  if (stroke.points.length > 2 && Math.hypot(next[0] - first[0], next[1] - first[1]) < reach) return finish();
  stroke.points.push(next);
  stroke.end = null;
  preview(point);
  return true;
}

/** The pen moves while it is down. `straight`: a line keeps to steps of 45 degrees. */
export function move(point, straight = false) {
  if (!stroke) return;
  const next = tidy(straight && stroke.kind === "line" ? snapped(stroke.points[0], point) : point);
  if (isPaint()) {
    const last = stroke.points.at(-1);
    if (Math.hypot(next[0] - last[0], next[1] - last[1]) * magnified() < NEAR) return;
    stroke.points.push(next);
    paint(last, next);
  } else {
    stroke.end = next;
  }
  preview(next);
}

function snapped([x, y], point) {
  const [dx, dy] = [point[0] - x, point[1] - y];
  const angle = Math.round(Math.atan2(dy, dx) / (Math.PI / 4)) * (Math.PI / 4);
  const long = dx * Math.cos(angle) + dy * Math.sin(angle);
  return [x + long * Math.cos(angle), y + long * Math.sin(angle)];
}

/** A polygon drawn by hand: the corners follow the pen. */
export function trace(point) {
  if (stroke?.kind !== "polygon") return;
  const next = tidy(point);
  const last = stroke.points.at(-1);
  if (Math.hypot(next[0] - last[0], next[1] - last[1]) * magnified() > 3) stroke.points.push(next);
  preview(next);
}

function preview(point) {
  if (stroke && !isPaint()) hud.draft = { kind: stroke.kind, points: stroke.points, end: stroke.end ?? point };
  redraw();
}

/** The pen goes up: a brush, line or box is done; a polygon waits for its last corner. */
export function up() {
  if (stroke && stroke.kind !== "polygon") finish();
}

/** Ends the stroke and sends it; one that is no shape (a box without inside) is dropped. */
export function finish() {
  if (!stroke) return false;
  const done = { ...stroke };
  if (done.end && done.kind !== "polygon") done.points = [done.points[0], done.end];
  delete done.end;
  stroke = null;
  hud.draft = null;
  redraw();
  if (!isShape(done)) {
    repaint();
    return false;
  }
  penWentUp();
  picture.strokes.push(done);
  if (done.kind !== "brush" && done.kind !== "erase") picture.paint.stroke(done, valueOf(done.class), picture.scale);
  push({ op: "stroke", image: picture.name, stroke: done, base: picture.version });
  tell("strokes");
  return true;
}

function isShape({ kind, points }) {
  if (kind === "polygon") return points.length > 2;
  if (kind !== "box") return kind !== "line" || points.length === 2;
  const [[ax, ay], [bx, by]] = [points[0], points.at(-1)];
  return Math.abs(ax - bx) >= 1 && Math.abs(ay - by) >= 1;
}

/** Takes the last corner of a polygon back; with one corner left, the polygon. */
export function backOne() {
  if (stroke?.kind !== "polygon") return false;
  stroke.points.pop();
  if (!stroke.points.length) return cancel();
  preview(stroke.points.at(-1));
  return true;
}

export function cancel() {
  if (!stroke) return false;
  stroke = null;
  hud.draft = null;
  repaint();
  redraw();
  return true;
}

/** The page goes away: a stroke is sent as far as it was drawn, an unfinished polygon is kept for the next time. */
function leave() {
  if (!stroke) return;
  if (stroke.kind !== "polygon") finish();
  else sessionStorage.setItem(DRAFT, JSON.stringify({ image: picture.name, path: state.path, stroke }));
}

export function restore() {
  const draft = JSON.parse(sessionStorage.getItem(DRAFT) ?? "null");
  if (draft?.image !== picture.name || draft.path !== state.path || !classOf(draft.stroke.class)) return;
  sessionStorage.removeItem(DRAFT);
  stroke = draft.stroke;
  preview(stroke.points.at(-1));
}

/** Takes away the topmost stroke under a point of the image. */
export function removeAt(point) {
  const found = picture.strokes.findLast((one) => one.kind !== "erase" && near(one, point));
  if (!found) return false;
  if (classOf(found.class)?.locked) {
    toast(`“${classOf(found.class).name}” is locked.`);
    return false;
  }
  picture.strokes = picture.strokes.filter((one) => one !== found);
  penWentUp();
  push({ op: "remove", image: picture.name, id: found.id });
  repaint();
  return true;
}

function near({ kind, points, width }, [x, y]) {
  const reach = 6 / magnified();
  if (kind === "box") {
    const [left, right] = [points[0][0], points[1][0]].sort((a, b) => a - b);
    const [top, bottom] = [points[0][1], points[1][1]].sort((a, b) => a - b);
    const inside = x > left - reach && x < right + reach && y > top - reach && y < bottom + reach;
    return inside && !(x > left + reach && x < right - reach && y > top + reach && y < bottom - reach);
  }
  const ring = kind === "polygon" ? [...points, points[0]] : points;
  const far = Math.max(reach, width / 2);
  return ring.some((point, place) => distance([x, y], ring[Math.max(0, place - 1)], point) < far);
}

function distance([x, y], [ax, ay], [bx, by]) {
  const square = (bx - ax) ** 2 + (by - ay) ** 2;
  const along = square ? Math.min(1, Math.max(0, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / square)) : 0;
  return Math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay));
}

export function startPen() {
  window.addEventListener("pagehide", leave);
  hear("opening", () => { if (stroke?.kind === "polygon") cancel(); else finish(); });
  hear("strokes", () => { if (picture.paint) drawStrokes(); });
  hear("image", () => { if (picture.ready) restore(); });
}
