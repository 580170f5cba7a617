// What buttons and keys do that no other file owns: undo, accept, switches, the next image.

import { get, path, send } from "./api.js";
import { byId, fill, toast } from "./dom.js";
import { open, picture, renew, repaint } from "./picture.js";
import { cancel, drawing } from "./pen.js";
import { flush, standing, takeBack, trying } from "./queue.js";
import { penWentUp, refresh } from "./spread.js";
import { hear, keep, kept, state, takeState, tell } from "./state.js";
import { renewStrip } from "./strip.js";

const WIDEST = 400;
const SHARE = 80; // a pen that nobody set is this part of the image's longer side

/** The slider's 0..100 stands for 1..400 pixels, finer at the thin end. */
const fromSlider = (value) => Math.max(1, Math.round(WIDEST ** (value / 100)));
const toSlider = (width) => Math.round((100 * Math.log(width)) / Math.log(WIDEST));

export function setWidth(width, chosen = true) {
  const next = Math.min(WIDEST, Math.max(1, Math.round(width)));
  keep({ width: next, chosen: chosen || kept.chosen });
  byId("width").value = toSlider(next);
  fill(byId("width"));
  byId("width-text").textContent = `${next} px`;
  tell("tool");
}

export const wider = () => setWidth(Math.max(kept.width + 1, kept.width * 1.25));
export const thinner = () => setWidth(Math.min(kept.width - 1, kept.width / 1.25));

export function setTool(tool) {
  if (drawing()) cancel();
  keep({ tool });
  for (const button of byId("tools").children) {
    button.setAttribute("aria-checked", String(button.dataset.tool === tool));
    button.tabIndex = button.dataset.tool === tool ? 0 : -1;
  }
  tell("tool");
}

export function toggle(name) {
  keep({ [name]: !kept[name] });
  byId(name).setAttribute("aria-pressed", String(kept[name]));
  refresh();
}

export const freshState = async () => takeState(await get("/api/state"));

let steps = Promise.resolve(); // one after the other, however fast the keys come

/** Undo or redo over the whole sitting, by the server; without it, of what has not been sent. */
export function step(which) {
  if (drawing()) return void cancel();
  const offline = () => which === "undo" && standing().state === "offline";
  if (offline()) steps = steps.then(trying).then(() => (offline() ? undoUnsent() : stepOnServer(which)));
  else steps = steps.then(() => stepOnServer(which));
}

async function stepOnServer(which) {
  if (!(await flush())) return;
  try {
    const answer = await send(`/api/${which}`, { client: state.client });
    const changed = answer.changed ?? [];
    if (answer.classes) await freshState();
    countSteps(answer);
    penWentUp();
    if (changed.includes(picture.name) || answer.classes) await renew();
    refresh();
    renewStrip();
    say(which, answer.what, changed);
  } catch (error) {
    toast(error.message);
  }
}

function countSteps({ undo, redo }) {
  Object.assign(state, { undo, redo });
  tell("history");
}

function undoUnsent() {
  const edit = takeBack();
  if (!edit) return toast("The server does not answer; what it has confirmed can be undone when it is back.");
  if (edit.op === "stroke" && edit.image === picture.name) {
    picture.strokes = picture.strokes.filter((stroke) => stroke.id !== edit.stroke.id);
    repaint();
  } else {
    freshState().then(renew).catch(() => {}); // as the server has it, now or when it is back
  }
}

function say(which, what, changed) {
  const slot = "history";
  if (!what) return toast(which === "undo" ? "Nothing to undo." : "Nothing to redo.", { seconds: 2, slot });
  const elsewhere = changed.find((name) => name !== picture.name);
  const action = elsewhere && !changed.includes(picture.name) ? { text: "Show", run: () => open(elsewhere) } : null;
  toast(`${which === "undo" ? "Undone" : "Redone"}: ${what}`, { seconds: action ? 6 : 2.5, action, slot });
}

let accepted = false;

/** Labels of the image become its pseudo labels; again takes them back. */
export async function accept() {
  if (!picture.ready) return;
  try {
    await flush();
    const wish = { others: !kept.own, crf: kept.crf, from: kept.from === "prediction" ? "prediction" : "spread" };
    const on = !accepted; // news of the server may come before its answer
    if (on) await send(`${path(picture.name)}/accept`, wish);
    else await send(`${path(picture.name)}/accept`, {}, "DELETE");
    setAccepted(on);
    if (on) toast("Accepted: these labels teach the model.", { kind: "good", seconds: 2.5 });
    else toast("No longer accepted.", { seconds: 2.5 });
    renewStrip();
    if (kept.from === "accepted") refresh();
  } catch (error) {
    toast(`Not accepted: ${error.message}`, { kind: "error" });
  }
}

function setAccepted(on) {
  accepted = on;
  byId("accept-text").textContent = on ? "Accepted" : "Accept";
  byId("accept").setAttribute("aria-pressed", String(on));
}

export async function openNext() {
  try {
    await flush();
    const { name, why } = await get("/api/next");
    if (!name) return toast("No image is left to suggest.");
    await open(name);
    toast(`Next: ${name}${why ? ` (${why})` : ""}`, { seconds: 3 });
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
}

export function startActions() {
  byId("undo").addEventListener("click", () => step("undo"));
  byId("redo").addEventListener("click", () => step("redo"));
  byId("own").addEventListener("click", () => toggle("own"));
  byId("crf").addEventListener("click", () => toggle("crf"));
  byId("accept").addEventListener("click", accept);
  byId("next").addEventListener("click", openNext);
  byId("width").addEventListener("input", (event) => setWidth(fromSlider(Number(event.target.value))));
  byId("tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) setTool(button.dataset.tool);
  });
  byId("tools").addEventListener("keydown", walkTools);
  for (const name of ["own", "crf"]) byId(name).setAttribute("aria-pressed", String(kept[name]));
  setWidth(kept.width, false);
  setTool(kept.tool);
  hear("state history queue", () => {
    byId("undo").disabled = !state.undo && !standing().count;
    byId("redo").disabled = !state.redo;
  });
  hear("confirmed", countSteps);
  hear("confirmed", ({ edits }) => { // labels that were accepted before a stroke can be accepted anew
    if (edits.some((edit) => edit.op === "stroke" && edit.image === picture.name)) setAccepted(false);
  });
  hear("image", () => {
    if (picture.ready && !kept.chosen) setWidth(Math.max(3, Math.max(picture.width, picture.height) / SHARE), false);
  });
  hear("image renewed", () => setAccepted(picture.labels === "accepted"));
}

/** Arrow keys inside the row of tools, as in every group of radio buttons. */
function walkTools(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  const buttons = [...byId("tools").children];
  const place = buttons.findIndex((one) => one.dataset.tool === kept.tool) + step;
  const next = buttons[(place + buttons.length) % buttons.length];
  setTool(next.dataset.tool);
  next.focus();
}
