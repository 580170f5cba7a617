// What the page knows, who is told when it changes, and what this browser keeps.

/** A name that no other stroke, class or tab has; `crypto.randomUUID` is missing where the page came by plain http. */
export function unique() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

export const state = {
  client: unique(), // this tab
  folder: "", // its name
  path: "",
  classes: [], // {key, id, name, color, locked}
  background: null,
  total: 0,
  seq: 0,
  undo: 0,
  redo: 0,
  train: { state: "idle" },
  away: false, // whether the server was not reached when last tried
  image: null, // the open image's name
};

const hearers = new Map();

/** `hear("image", act)`; events: state, class, tool, image, strokes, labels, view, queue, layers, order, train. */
export function hear(names, act) {
  for (const name of names.split(" ")) hearers.set(name, [...(hearers.get(name) ?? []), act]);
}

export function tell(name, detail) {
  for (const act of hearers.get(name) ?? []) act(detail);
}

const KEPT = "spml-studio";
const FIRST = {
  theme: null,
  tool: "brush",
  width: 8, // pixels of the image
  chosen: false, // whether the user set it
  own: false,
  crf: false,
  from: "spread",
  order: "name",
  layers: {
    photo: { on: true, opacity: 1 },
    labels: { on: true, opacity: 0.6 },
    strokes: { on: true, opacity: 1 },
    regions: { on: false, opacity: 0.7 },
    margin: { on: false, opacity: 0.8 },
    embedding: { on: false, opacity: 0.8 },
  },
};

function read() {
  const first = structuredClone(FIRST);
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? "{}");
    return { ...first, ...kept, from: "spread", layers: { ...first.layers, ...kept.layers } };
  } catch {
    return first;
  }
}

export const kept = read();

export function keep(changes) {
  Object.assign(kept, changes);
  try {
    localStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    // The settings then last as long as the page.
  }
}

export const classOf = (key) => state.classes.find((one) => one.key === key) ?? null;

let activeKey = null;

/** The class that the pen draws, or null where there is none. */
export function active() {
  return classOf(activeKey) ?? state.classes.find((one) => !one.locked) ?? state.classes[0] ?? null;
}

export function activate(key) {
  if (!classOf(key)) return;
  activeKey = key;
  tell("class");
}

export function takeState(fresh) {
  Object.assign(state, fresh);
  tell("state");
  tell("class");
}
