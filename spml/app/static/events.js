// What the server says by itself: features that are done, edits of another tab, training. A tab out of sight listens no
// longer after a while: browsers allow six connections to a server, and a seventh tab would wait for ever.

import { freshState } from "./actions.js";
import { toast } from "./dom.js";
import { picture, renew } from "./picture.js";
import { flush, standing } from "./queue.js";
import { refresh } from "./spread.js";
import { hear, kept, state, tell } from "./state.js";
import { renewStrip } from "./strip.js";

const HIDDEN = 20_000; // ms out of sight before a tab stops listening
const FOLDER = "folder"; // who changed what no page did: files, accepted labels
const SELDOM = 5_000; // ms between two looks at the strip's figures while features are computed
let source = null;
let calm = 0;
let timer = 0;
let missed = false; // something may have happened while nobody listened

function listen() {
  source?.close();
  source = new EventSource(`/api/events?client=${state.client}`);
  const on = (name, act) => source.addEventListener(name, (event) => act(JSON.parse(event.data)));
  on("features", features);
  on("changed", changed);
  on("train", (train) => tell("server-train", train));
  on("message", ({ text }) => { if (text) toast(text); });
  source.addEventListener("open", () => {
    reach(true);
    if (missed) catchUp();
  });
  source.addEventListener("error", () => {
    missed = true;
    reach(false);
  });
}

function reach(reached) {
  state.away = !reached;
  tell("queue");
}

let wasReady = null;

function features(progress) {
  tell("features", progress);
  if (wasReady !== null && wasReady !== progress.done) calm ||= setTimeout(() => { calm = 0; renewStrip(); }, SELDOM);
  wasReady = progress.done;
}

async function changed({ images, classes, client }) {
  soon();
  if (client === state.client) return;
  const here = images === null || images?.includes(picture.name);
  if (classes) await freshState();
  if (here) await renew();
  if (client !== FOLDER) say(images, classes);
  if (here || classes || !kept.own) refresh();
}

function say(images, classes) {
  if (images?.includes(picture.name)) toast("Another tab drew on this image. The strokes of both are kept.");
  else if (classes) toast("Another tab changed the classes.");
}

/** The strip's figures, once the stream of events pauses. */
function soon() {
  clearTimeout(timer);
  timer = setTimeout(renewStrip, 400);
}

/** After a pause everything may be different. */
async function catchUp() {
  missed = false;
  await flush();
  try {
    await freshState();
    await renew();
    refresh();
    renewStrip();
  } catch {
    missed = true;
  }
}

export function startEvents() {
  listen();
  let away = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(away);
    if (document.hidden) away = setTimeout(() => { source.close(); source = null; missed = true; }, HIDDEN);
    else if (!source) listen();
  });
  hear("confirmed", soon);
  hear("refused", () => renew().then(refresh));
  hear("brought", catchUp);
  hear("queue", () => { if (standing().state === "offline") missed = true; });
}
