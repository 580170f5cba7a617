// Every key, once: what it does here, and the list that `?` shows.

import { accept, openNext, setTool, step, thinner, toggle, wider } from "./actions.js";
import { removeClass, startRename, toggleLock, toggleTag } from "./classes.js";
import { dialog, isOpen } from "./dialogs.js";
import { byId, make } from "./dom.js";
import { openFiles } from "./files.js";
import { hud, redraw } from "./hud.js";
import { NAMES, peek, showLabelsFrom, toggleLayer } from "./layers.js";
import { backOne, cancel, down, drawing, finish, move, removeAt, up } from "./pen.js";
import { picture } from "./picture.js";
import { dress, holdSpace, pickAt, pointerState } from "./pointer.js";
import { activate, active, keep, kept, state } from "./state.js";
import { go } from "./strip.js";
import { showPanel, toggleTrain } from "./train.js";
import { actual, fit, magnified, pan, toImage, toView, zoom } from "./view.js";

const box = byId("view");
let byKeys = false; // the pen is moved by arrow keys

/** name: [group, keys as they are listed, what, the function]; "Mod" is Ctrl, on a Mac Command. */
const ACTIONS = {
  brush: ["Draw", "B", "Brush", () => setTool("brush")],
  line: ["Draw", "L", "Line (Shift: steps of 45°)", () => setTool("line")],
  point: ["Draw", "P", "Point", () => setTool("point")],
  box: ["Draw", "R", "Box around an object", () => setTool("box")],
  polygon: ["Draw", "G", "Polygon: click corners, or draw around", () => setTool("polygon")],
  erase: ["Draw", "E", "Eraser", () => setTool("erase")],
  hand: ["Draw", "H", "Move the view", () => setTool("hand")],
  thinner: ["Draw", "[", "Thinner pen", thinner],
  wider: ["Draw", "]", "Wider pen", wider],
  remove: ["Draw", "Delete", "Remove the stroke under the pointer", remove],
  backspace: [null, "Backspace", "", remove],
  cancel: ["Draw", "Escape", "Give up the shape being drawn", () => cancel()],
  undo: ["Draw", "Mod+Z", "Undo", () => step("undo")],
  redo: ["Draw", "Mod+Shift+Z", "Redo", () => step("redo")],
  redoToo: [null, "Mod+Y", "", () => step("redo")],
  arrows: ["Without a mouse", "↑ ↓ ← →", "Move the pen (Shift: by 1 pixel)", null],
  enter: ["Without a mouse", "Enter", "Pen down, pen up; next corner", null],
  close: ["Without a mouse", "Shift+Enter", "Close the polygon", null],
  digits: ["Classes", "1 … 9, 0", "Pick a class", null],
  pick: ["Classes", "I", "Pick the class under the pointer (also Alt+click)", () => pickAt(pointerState.point)],
  classUp: ["Classes", "W", "Class above", () => walkClasses(-1)],
  classDown: ["Classes", "S", "Class below", () => walkClasses(1)],
  classAdd: ["Classes", "C", "Add a class", () => atClasses(() => byId("class-name").focus())],
  rename: ["Classes", "F2", "Rename the class", () => atClasses(startRename)],
  lock: ["Classes", "K", "Lock or unlock the class", () => toggleLock()],
  classDelete: ["Classes", "Shift+Delete", "Delete the class", () => removeClass()],
  tag: ["Classes", "T", "Tick: the class is in this image", () => toggleTag()],
  own: ["Labels", "O", "From this image’s strokes only", () => toggle("own")],
  crf: ["Labels", "F", "Sharp edges (CRF)", () => toggle("crf")],
  accept: ["Labels", "A", "Accept the labels; again: take back", accept],
  source: ["Labels", "Q", "From strokes, model, accepted", nextSource],
  peek: ["Labels", "V", "Hold: only the photograph", null],
  layers: ["Labels", "Alt+1 … 6", `Switch ${Object.values(NAMES).join(", ").toLowerCase()}`, null],
  train: ["Train, files, page", "M", "Panel: train a model", toggleTrain],
  files: ["Train, files, page", "X", "Import and export", openFiles],
  theme: ["Train, files, page", "D", "Light or dark", switchTheme],
  help: ["Train, files, page", "?", "This list", showHelp],
  next: ["Images", "N", "Label this next", openNext],
  nextImage: ["Images", "PageDown", "Next image", () => go(1)],
  previousImage: ["Images", "PageUp", "Image before", () => go(-1)],
  zoomIn: ["View", "+", "Zoom in", () => zoom(1.25, aim())],
  zoomInToo: [null, "=", "", () => zoom(1.25, aim())],
  zoomOut: ["View", "-", "Zoom out", () => zoom(0.8, aim())],
  fit: ["View", "Z", "Fit the image", fit],
  actual: ["View", "Shift+Z", "100 %", actual],
  space: ["View", "Space", "Hold and drag: move (also the middle button, two fingers)", null],
};

/** The last corner of a polygon that is being drawn, else the stroke under the pointer. */
function remove() {
  if (!backOne() && pointerState.point) removeAt(pointerState.point);
}

/** Zoom goes to the pen where it stands in sight. */
function aim() {
  if (!hud.pointer) return undefined;
  const [x, y] = toView(hud.pointer);
  return x >= 0 && y >= 0 && x <= box.clientWidth && y <= box.clientHeight ? [x, y] : undefined;
}

function atClasses(act) {
  showPanel("label");
  act();
}

function walkClasses(step) {
  const place = state.classes.indexOf(active()) + step;
  if (state.classes[place]) activate(state.classes[place].key);
}

function nextSource() {
  const order = ["spread", "prediction", "accepted"];
  showLabelsFrom(order[(order.indexOf(kept.from) + 1) % 3]);
}

export function switchTheme() {
  const page = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  page.dataset.theme = (page.dataset.theme ?? system) === "dark" ? "light" : "dark";
  keep({ theme: page.dataset.theme });
}

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const inWords = (keys) => keys.replace("Mod", MAC ? "⌘" : "Ctrl");

export function showHelp() {
  const groups = new Map();
  for (const [group, keys, what] of Object.values(ACTIONS)) {
    if (group) groups.set(group, [...(groups.get(group) ?? []), [keys, what]]);
  }
  const parts = [...groups].map(([group, rows]) =>
    make("section", {}, make("h3", { text: group }),
      make("dl", {}, ...rows.flatMap(([keys, what]) => [
        make("dt", {}, ...inWords(keys).split(/(?<=.)\+(?=.)/).map((key) => make("kbd", { text: key }))),
        make("dd", { text: what }),
      ]))));
  return dialog("Keys", [make("div", { class: "keys" }, ...parts)], { wide: true });
}

/** "Mod+Shift+Z" of an event. */
function nameOf(event) {
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  const shift = event.shiftKey && (event.key.length > 1 || /[A-Z]/i.test(event.key));
  return [event.ctrlKey || event.metaKey ? "Mod" : "", shift ? "Shift" : "", key].filter(Boolean).join("+");
}

const BY_KEY = new Map(Object.values(ACTIONS).filter(([, , , run]) => run).map(([, keys, , run]) => [keys, run]));

const REPEATED = new Set(["[", "]", "+", "-", "=", "PageUp", "PageDown", "Mod+Z", "Mod+Shift+Z"]); // while held

const isText = (node) => node.matches("input[type=text], input[type=number], select, textarea");

function press(event) {
  if (isOpen() || isText(event.target)) {
    if (event.key === "Escape" && isText(event.target)) box.focus();
    return;
  }
  if (handled(event)) event.preventDefault();
}

function handled(event) {
  if (/^Digit\d$/.test(event.code) && !event.ctrlKey && !event.metaKey) return digit(Number(event.code[5]), event);
  if (event.altKey) return false;
  const onCanvas = event.target === box || event.target === document.body;
  if (onCanvas && event.key.startsWith("Arrow")) return walk(event);
  if (onCanvas && event.key === "Enter") return enter(event);
  if (event.key === " " && onCanvas) return hold(() => holdSpace(true));
  if (nameOf(event) === "V") return hold(() => peek(true));
  const run = BY_KEY.get(nameOf(event));
  if (run && (!event.repeat || REPEATED.has(nameOf(event)))) run();
  return Boolean(run);
}

function hold(act) {
  act();
  return true;
}

function digit(number, event) {
  if (event.altKey) {
    const name = Object.keys(NAMES)[number - 1];
    if (name) toggleLayer(name);
    return Boolean(name);
  }
  if (event.shiftKey) return false;
  const one = state.classes[(number + 9) % 10];
  if (one) activate(one.key);
  return true;
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Arrow keys move a pen of their own: 10 pixels of the screen, with Shift one of the image. */
function walk(event) {
  if (!picture.ready) return false;
  const step = event.shiftKey ? 1 : Math.max(1, 10 / magnified());
  const from = hud.pointer ?? toImage([box.clientWidth / 2, box.clientHeight / 2]);
  const [dx, dy] = STEPS[event.key];
  const clamp = (value, size) => Math.min(size - 0.5, Math.max(0.5, value));
  const to = [clamp(from[0] + dx * step, picture.width), clamp(from[1] + dy * step, picture.height)];
  pointerState.point = hud.pointer = to;
  hud.cross = byKeys = true;
  if (drawing()) move(to);
  follow(to);
  redraw();
  return true;
}

/** Keeps the pen in sight. */
function follow(point) {
  const [x, y] = toView(point);
  const over = (place, room) => (place < 30 ? 30 - place : place > room - 30 ? room - 30 - place : 0);
  const [dx, dy] = [over(x, box.clientWidth), over(y, box.clientHeight)];
  if (dx || dy) pan(dx, dy);
}

function enter(event) {
  if (event.repeat) return true;
  if (kept.tool === "polygon" && drawing() && (event.shiftKey || !byKeys)) return hold(finish);
  if (!byKeys || !hud.pointer || kept.tool === "hand") return false;
  if (drawing() && kept.tool !== "polygon") up();
  else down(hud.pointer);
  return true;
}

function release(event) {
  if (event.key === " ") holdSpace(false);
  if (event.key === "v" || event.key === "V") peek(false);
}

/** After a click on a button the keys belong to the canvas again. */
function giveBack(event) {
  if (event.detail > 0 && event.target.closest(".bar button, .zoom button, .class, .thumb, #source")
    && !isText(document.activeElement) && !isOpen()) box.focus({ preventScroll: true });
}

export function startKeys() {
  window.addEventListener("keydown", press);
  window.addEventListener("keyup", release);
  window.addEventListener("click", giveBack);
  box.addEventListener("pointermove", () => { byKeys = false; }, { passive: true });
  for (const node of document.querySelectorAll("[data-key]")) {
    const [, keys] = ACTIONS[node.dataset.key];
    node.title = `${node.getAttribute("aria-label") ?? node.textContent.trim()} (${inWords(keys)})`;
    node.setAttribute("aria-keyshortcuts", keys.replace("Mod", "Control"));
  }
  byId("help").addEventListener("click", showHelp);
  byId("theme").addEventListener("click", switchTheme);
  byId("train").addEventListener("click", toggleTrain);
  byId("zoom-in").addEventListener("click", () => zoom(1.25));
  byId("zoom-out").addEventListener("click", () => zoom(0.8));
  byId("zoom-fit").addEventListener("click", fit);
  dress();
}
