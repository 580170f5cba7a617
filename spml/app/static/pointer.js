// Mouse, stylus and fingers on the canvas, by pointer events: one draws, two zoom and move, the middle button moves.

import { byId } from "./dom.js";
import { hud, redraw } from "./hud.js";
import { cancel, down, drawing, finish, move, trace, up } from "./pen.js";
import { paintedAt, picture } from "./picture.js";
import { labelledAt } from "./spread.js";
import { activate, active, hear, kept } from "./state.js";
import { inView, pan, toImage, zoom } from "./view.js";

const box = byId("view");
const pointers = new Map(); // of those that are down: id -> place in the view
let mode = null; // "draw", "pan", "pinch"
let space = false;
let pressedAt = null;
let around = false; // whether the pen went away from there: a polygon that is drawn around, not clicked
let tool = null; // that went down: a stylus has two
let stylus = false; // once a stylus was seen, fingers only move the view

export const pointerState = { point: null }; // the pointer in pixels of the image, for keys

/** Picks the class under a point: of a stroke, else of the labels. */
export function pickAt(point) {
  const one = point && (paintedAt(point) ?? labelledAt(point));
  if (one) activate(one.key);
  return one;
}

function start(event) {
  if (event.target !== hudOf() || (event.button > 1 && event.button !== 5)) return;
  event.preventDefault();
  box.focus({ preventScroll: true });
  hudOf().setPointerCapture(event.pointerId);
  const place = inView(event);
  pointers.set(event.pointerId, place);
  stylus ||= event.pointerType === "pen";
  if (pointers.size === 2) return pinch();
  if (pointers.size > 2) return;
  const fingerMoves = event.pointerType === "touch" && stylus;
  if (event.button === 1 || space || kept.tool === "hand" || fingerMoves) return setMode("pan");
  if (event.altKey) return void pickAt(toImage(place));
  [pressedAt, around] = [place, false];
  hud.cross = false;
  const rubber = event.button === 5 || (event.buttons & 32) !== 0; // the other end of a stylus
  tool = rubber ? "erase" : kept.tool;
  if (down(toImage(place), tool)) setMode("draw");
}

const hudOf = () => byId("hud");

function pinch() {
  if (mode === "draw") cancel();
  setMode("pinch");
}

function setMode(next) {
  mode = next;
  box.dataset.mode = mode ?? "";
}

function follow(event) {
  const place = inView(event);
  hover(place, event);
  const before = pointers.get(event.pointerId);
  if (!before) return;
  if (mode === "pan") pan(place[0] - before[0], place[1] - before[1]);
  else if (mode === "pinch") pinched(event.pointerId, before, place);
  else if (mode === "draw") draw(event);
  pointers.set(event.pointerId, place);
}

function pinched(id, before, place) {
  const other = [...pointers].find(([one]) => one !== id)?.[1];
  if (!other) return;
  const length = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
  const middle = ([x, y]) => [(x + other[0]) / 2, (y + other[1]) / 2];
  const [from, to] = [middle(before), middle(place)];
  pan(to[0] - from[0], to[1] - from[1]);
  zoom(length(place) / Math.max(1, length(before)), to);
}

/** All the moves that the browser gathered since the last frame. */
function draw(event) {
  const gathered = event.getCoalescedEvents?.() ?? [];
  for (const one of gathered.length ? gathered : [event]) {
    const point = toImage(inView(one));
    if (tool === "polygon") byHand(one, point);
    else move(point, event.shiftKey);
  }
}

function byHand(event, point) {
  const [x, y] = inView(event);
  around ||= Math.hypot(x - pressedAt[0], y - pressedAt[1]) > 8;
  if (around) trace(point);
}

function end(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (mode === "draw") {
    if (tool === "polygon" && around) finish();
    else up();
  }
  if (mode !== "pinch" || !pointers.size) setMode(null);
}

function hover(place, event) {
  pointerState.point = toImage(place);
  hud.pointer = event.pointerType === "touch" ? null : pointerState.point;
  hud.cross = false;
  if (kept.tool === "polygon" && drawing() && mode === null) move(pointerState.point);
  redraw();
}

/** Ring and cursor as the tool has them. */
export function dress() {
  const paints = ["brush", "line", "point", "erase"].includes(kept.tool);
  hud.ring = paints ? kept.width : 0;
  hud.colour = kept.tool === "erase" ? "#ffffff" : (active()?.color ?? "#ffffff");
  box.dataset.tool = kept.tool;
  redraw();
}

export function holdSpace(on) {
  space = on;
  box.classList.toggle("grab", on);
}

export function startPointer() {
  box.addEventListener("pointerdown", start);
  box.addEventListener("pointermove", follow);
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) box.addEventListener(name, end);
  box.addEventListener("pointerleave", () => { hud.pointer = null; redraw(); });
  box.addEventListener("contextmenu", (event) => event.preventDefault());
  box.addEventListener("dblclick", () => { if (kept.tool === "polygon" && picture.ready) finish(); });
  window.addEventListener("blur", () => holdSpace(false));
  hear("class tool state", dress);
  dress();
}
