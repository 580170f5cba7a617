// Edits on their way to the server. Each is kept by the browser before it is sent and forgotten once the server has
// confirmed it: a lost connection or a reload loses nothing. Sending twice is harmless, as the server knows the ids.

import { send } from "./api.js";
import { toast } from "./dom.js";
import { state, tell } from "./state.js";

const MANY = 200; // edits in one request
const LONGEST = 10_000; // ms between two tries

let waiting = []; // edits in order
let sending = null; // the promise of the loop that sends
let failures = 0;
let timer = 0;
let batch = MANY;

const prefix = () => `spml-studio-unsent:${state.path}:`;

/** How it stands: saved, sending, offline. */
export function standing() {
  if (failures) return { state: "offline", count: waiting.length };
  return { state: waiting.length ? "sending" : "saved", count: waiting.length };
}

export const unsentOf = (image) => waiting.filter((edit) => edit.image === image);

export const unsent = () => waiting;

function store() {
  try {
    if (waiting.length) localStorage.setItem(prefix() + state.client, JSON.stringify(waiting));
    else localStorage.removeItem(prefix() + state.client);
  } catch {
    toast("This browser cannot keep unsent strokes: leave the page open until it says Saved.", { kind: "error" });
  }
}

/** Takes over what earlier pages of this folder left unsent. */
export function adopt() {
  const names = Object.keys(localStorage).filter((name) => name.startsWith(prefix()) && !name.endsWith(state.client));
  for (const name of names) {
    try {
      waiting.push(...JSON.parse(localStorage.getItem(name)));
    } catch {
      // Half a record: nothing in it was ever confirmed to the user as kept.
    }
    localStorage.removeItem(name);
  }
  store();
  if (waiting.length) flush();
  return waiting.length;
}

export function push(edit) {
  waiting.push(edit);
  store();
  tell("queue");
  flush();
}

/** Takes the last edit back that has not been sent; null where all have been, or one is on its way. */
export function takeBack() {
  if (!failures || sending || !waiting.length) return null;
  const edit = waiting.pop();
  if (!waiting.length) failures = 0;
  store();
  tell("queue");
  return edit;
}

/** The try that is on its way, if there is one: until it ends, nobody knows what the server has. */
export const trying = () => sending ?? Promise.resolve();

/** Sends what waits; resolves to whether all of it was confirmed. */
export function flush() {
  clearTimeout(timer);
  sending ??= loop().finally(() => { sending = null; });
  return sending;
}

async function loop() {
  while (waiting.length) {
    const edits = waiting.slice(0, batch);
    try {
      const answer = await send("/api/edits", { client: state.client, edits });
      waiting = waiting.slice(edits.length);
      failures = 0;
      store();
      tell("confirmed", { edits, ...answer });
    } catch (error) {
      if (!refused(error, edits)) {
        if (error.status && !failures) toast(`Not saved yet: ${error.message}`, { kind: "error" });
        later();
        return false;
      }
    }
    tell("queue");
  }
  return true;
}

/** Takes out an edit that the server will never take, and says so. */
function refused(error, edits) {
  if (![400, 404, 409, 413, 422].includes(error.status)) return false;
  if (error.body.index === undefined && edits.length > 1) {
    batch = 1; // one at a time, to find it
    return true;
  }
  const [edit] = waiting.splice(error.body.index ?? 0, 1);
  batch = MANY;
  store();
  toast(`Not taken: ${error.message}`, { kind: "error" });
  tell("refused", edit);
  return true;
}

function later() {
  failures += 1;
  timer = setTimeout(flush, Math.min(LONGEST, 500 * 2 ** failures));
  tell("queue");
}

window.addEventListener("online", () => { if (failures) flush(); });
