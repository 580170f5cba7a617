// The panel of classes: pick, add, rename, recolour, lock, delete; what part of the image each takes; tags by tick.

import { get } from "./api.js";
import { byId, drawIcons, make, percent, plural, toast } from "./dom.js";
import { confirm } from "./dialogs.js";
import { drawLabels } from "./overlay.js";
import { picture } from "./picture.js";
import { push } from "./queue.js";
import { spread } from "./spread.js";
import { activate, active, hear, state, takeState, tell, unique } from "./state.js";

const COLOURS = [
  "#8d99ae", "#e4572e", "#3fa7d6", "#59c36a", "#f5b700", "#b56ce0", "#ff7aa2", "#17b8a6", "#a1622f", "#5b6cff",
  "#c2d64a", "#ff9f5a", "#2f7f5f", "#d63a6a", "#79d2e6", "#7a5c99", "#f0d9a0", "#4f6d7a", "#c94fc0", "#98d8a0",
];

const list = byId("classes");

/** Draws the change at once and sends it; the server's state follows with the next event. */
function change(edit, classes) {
  takeState({ classes: classes.map((one, id) => ({ ...one, id })) });
  push(edit);
}

const edited = (key, changes) => state.classes.map((one) => (one.key === key ? { ...one, ...changes } : one));

export function addClass(name) {
  const text = name.trim();
  if (!text) return;
  if (state.classes.some((one) => one.name === text)) return toast(`There is a class “${text}” already.`);
  const taken = new Set(state.classes.map((one) => one.color));
  const color = COLOURS.find((one) => !taken.has(one)) ?? COLOURS[state.classes.length % COLOURS.length];
  const key = `c-${unique().slice(0, 13)}`;
  change({ op: "class_add", key, name: text, color }, [...state.classes, { key, name: text, color, locked: false }]);
  activate(key);
}

export function toggleLock(one = active()) {
  if (one) change({ op: "class_edit", key: one.key, locked: !one.locked }, edited(one.key, { locked: !one.locked }));
}

function recolour(one, color) {
  change({ op: "class_edit", key: one.key, color }, edited(one.key, { color }));
}

function rename(one, name) {
  const text = name.trim();
  if (!text || text === one.name) return tell("class");
  const taken = state.classes.some((other) => other !== one && other.name === text);
  if (taken) toast(`There is a class “${text}” already.`);
  else return change({ op: "class_edit", key: one.key, name: text }, edited(one.key, { name: text }));
  tell("class");
}

export async function removeClass(one = active()) {
  if (!one || locked(one)) return;
  let said = "Its strokes go with it.";
  try {
    const uses = await get(`/api/classes/${encodeURIComponent(one.key)}/uses`);
    said = uses.strokes
      ? `${plural(uses.strokes, "stroke")} on ${plural(uses.images, "image")} will go with it.`
      : "No stroke uses it.";
  } catch (error) {
    return toast(`Not deleted: ${error.message}.`, { kind: "error" });
  }
  const sure = await confirm(`Delete “${one.name}”?`, `${said} Undo brings everything back.`, "Delete", "danger");
  if (!sure) return;
  picture.strokes = picture.strokes.filter((stroke) => stroke.class !== one.key);
  change({ op: "class_delete", key: one.key }, state.classes.filter((other) => other !== one));
}

function locked(one) {
  if (one.locked) toast(`“${one.name}” is locked: unlock it first.`);
  return one.locked;
}

/** The tick: "this class is in the image". */
export function toggleTag(one = active()) {
  if (!one || !picture.ready) return;
  if (!picture.tags.delete(one.key)) picture.tags.add(one.key);
  push({ op: "tags", image: picture.name, tags: [...picture.tags] });
  tell("class");
}

/** Opens the field to rename the active class. */
export function startRename(one = active()) {
  if (!one || locked(one)) return;
  const row = list.querySelector(`[data-class="${CSS.escape(one.key)}"]`);
  const name = row.querySelector(".class-name");
  const field = make("input", {
    type: "text", class: "class-field", "aria-label": "Name of the class", value: one.name, maxlength: "60",
  });
  let left = false;
  const leave = (take) => {
    if (left) return;
    left = true;
    rename(one, take ? field.value : "");
  };
  field.addEventListener("blur", () => leave(true));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") leave(true);
    if (event.key === "Escape") leave(false);
    event.stopPropagation();
  });
  name.replaceWith(field);
  field.select();
}

function row(one, place) {
  const act = (name, picture, words, run) => make("button", {
    class: `tool small act-${name}`, type: "button", "data-icon": picture, "aria-label": words,
    on: { click: (event) => { event.stopPropagation(); run(one); } },
  });
  const colour = make("input", {
    type: "color", class: "swatch", value: one.color, disabled: one.locked, "aria-label": `Colour of ${one.name}`,
  });
  colour.addEventListener("change", () => recolour(one, colour.value));
  const tag = make("input", {
    type: "checkbox", class: "tag", "aria-label": `${one.name} is in this image`, title: "In this image",
  });
  tag.checked = picture.tags.has(one.key);
  tag.addEventListener("change", () => toggleTag(one));
  const isActive = one === active();
  const pick = make("button", {
    class: "class-name", type: "button", text: one.name, "aria-pressed": String(isActive),
    title: `${one.name}: double click renames`,
    on: { click: () => activate(one.key), dblclick: () => startRename(one) },
  });
  const looks = ["class", isActive ? "active" : "", one.locked ? "locked" : ""].filter(Boolean).join(" ");
  const item = make("li", { class: looks, "data-class": one.key },
    make("kbd", { text: place < 10 ? String((place + 1) % 10) : "" }), colour, pick,
    make("span", { class: "class-part" }),
    make("span", { class: "class-acts" },
      act("rename", "pencil", `Rename ${one.name}`, startRename),
      act("delete", "trash", `Delete ${one.name}`, removeClass),
      act("lock", one.locked ? "lock" : "unlock", `${one.locked ? "Unlock" : "Lock"} ${one.name}`, toggleLock)),
    tag, make("span", { class: "class-bar" }));
  item.addEventListener("click", (event) => { if (event.target === item) activate(one.key); });
  return item;
}

let due = false;

function redraw() {
  if (due) return;
  due = true;
  queueMicrotask(() => { due = false; draw(); });
}

function draw() {
  const focus = list.contains(document.activeElement) ? place(document.activeElement) : null;
  list.replaceChildren(...state.classes.map(row));
  drawIcons(list);
  byId("classes-hint").textContent = state.classes.length ? "in this image" : "";
  byId("class-name").placeholder = state.classes.length ? "Add a class" : "First: background";
  parts();
  if (focus) list.querySelector(`[data-class="${CSS.escape(focus.key)}"] .${focus.part}`)?.focus();
}

/** Where the focus was, so that drawing the list anew does not lose it. */
function place(node) {
  const key = node.closest("[data-class]")?.dataset.class;
  return key ? { key, part: [...node.classList].findLast((name) => name !== "small" && name !== "tool") } : null;
}

function parts() {
  for (const one of state.classes) {
    const item = list.querySelector(`[data-class="${CSS.escape(one.key)}"]`);
    if (!item) continue;
    const part = spread.part[one.id] ?? 0;
    item.querySelector(".class-part").textContent = spread.ids ? percent(part) : "";
    const bar = item.querySelector(".class-bar");
    bar.style.setProperty("--part", part);
    bar.style.setProperty("--colour", one.color);
  }
}

export function startClasses() {
  byId("class-add").addEventListener("submit", (event) => {
    event.preventDefault();
    addClass(byId("class-name").value);
    byId("class-name").value = "";
  });
  hear("state class image", redraw);
  hear("labels", parts);
  hear("state", () => { if (spread.ids && picture.ready) drawLabels(spread.ids); });
}
