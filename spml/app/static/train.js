// The panel that trains: settings in plain words, progress, curve, pictures, stop, go on.

import { get, send } from "./api.js";
import { drawCurve } from "./curve.js";
import { byId, drawIcons, make, toast } from "./dom.js";
import { showLabelsFrom } from "./layers.js";
import { hear, state, tell } from "./state.js";
import { setOrder } from "./strip.js";

const panel = byId("panel-train");
const SETTINGS = [
  {
    key: "steps", label: "Steps", help: "More steps: better labels, and a longer wait.",
    kind: "number", value: 400, low: 1, high: 100000, step: 1,
  },
  {
    key: "size", label: "Network", help: "A larger one draws finer edges and takes longer.", kind: "choice", value: "small",
    choices: [{ value: "small", label: "Small" }, { value: "medium", label: "Medium" }, { value: "large", label: "Large" }],
  },
  {
    key: "start", label: "Begins with", help: "Weights that know photographs already, or none.", kind: "choice", value: "pretrained",
    choices: [{ value: "pretrained", label: "Photographs" }, { value: "scratch", label: "Nothing" }],
  },
  {
    key: "rounds", label: "Rounds", help: "In each further round the model learns from its own labels, too.",
    kind: "number", value: 1, low: 1, high: 5, step: 1,
  },
  { key: "crf", label: "Sharp edges", help: "Labels follow the edges of the photograph (CRF).", kind: "switch", value: true },
  { key: "config", label: "More settings", help: "For those who know the config: key=value, one a line.", kind: "lines", value: [] },
];
const BUSY = new Set(["running", "starting", "stopping"]);

let chosen = {}; // what the user changed of the settings
let drawn = null; // the settings as they stand in the panel

export const isBusy = () => BUSY.has(state.train?.state);

export const left = (seconds) => {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
};

export function showPanel(name) {
  for (const one of ["label", "train"]) {
    byId(`panel-${one}`).hidden = one !== name;
    byId(`tab-${one}`).setAttribute("aria-selected", String(one === name));
    byId(`tab-${one}`).tabIndex = one === name ? 0 : -1;
  }
}

export const toggleTrain = () => showPanel(panel.hidden ? "train" : "label");

async function start(resume) {
  try {
    take(await send("/api/train", resume ? { resume: true } : chosen));
    take(await get("/api/train"));
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
}

async function stop() {
  try {
    await send("/api/train/stop");
    take(await get("/api/train"));
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
}

function take(train) {
  if (!train || !train.state) return;
  const before = state.train?.state;
  state.train = { ...state.train, ...train };
  tell("train");
  if (BUSY.has(before) && train.state === "done") done();
  if (BUSY.has(before) && train.state === "failed") toast(`Training failed: ${train.message}`, { kind: "error" });
}

function done() {
  setOrder("sure");
  toast("Training is done: every image has labels from the model.", { seconds: 20, action: { text: "Show them", run: showResult } });
}

export function showResult() {
  showPanel("label");
  showLabelsFrom("prediction");
}

/** One setting as a row of the form. */
function field({ key, label, help, kind, value, low, high, step, choices }) {
  const id = `set-${key}`;
  const now = chosen[key] ?? value;
  const set = (next) => { chosen = { ...chosen, [key]: next }; };
  let input;
  if (kind === "choice") {
    input = make("select", { id }, ...choices.map((one) => make("option", { value: one.value, text: one.label })));
    input.value = now;
    input.addEventListener("change", () => set(choices.find((one) => String(one.value) === input.value).value));
  } else if (kind === "switch") {
    input = make("input", { id, type: "checkbox" });
    input.checked = now;
    input.addEventListener("change", () => set(input.checked));
  } else if (kind === "lines") {
    input = make("textarea", { id, rows: "2", spellcheck: "false", placeholder: "train.batch_size=4" });
    input.value = now.join("\n");
    input.addEventListener("change", () => set(input.value.split("\n").map((line) => line.trim()).filter(Boolean)));
  } else {
    input = make("input", { id, type: "number", min: low, max: high, step: step ?? "any", value: now });
    input.addEventListener("change", () => { if (input.checkValidity() && input.value !== "") set(Number(input.value)); });
  }
  return make("div", { class: `field ${kind}` }, make("label", { for: id, text: label }), input, help ? make("p", { class: "help", text: help }) : null);
}

function button(text, kind, name, act) {
  return make("button", { class: `button ${kind}`, type: "button", id: name, text, on: { click: act } });
}

function draw() {
  const { train } = state;
  const busy = isBusy();
  const signature = JSON.stringify([train.state, isBusy() ? "" : train.message]);
  if (signature !== drawn) {
    drawn = signature;
    panel.replaceChildren(...(busy ? running() : form()));
    drawIcons(panel);
  }
  progress();
}

function form() {
  const { train } = state;
  const parts = [
    make("h2", { text: "Train a model" }),
    make("p", { class: "help", text: "A network learns from all strokes of the folder and then labels every image. You can go on drawing meanwhile." }),
  ];
  if (train.state === "done") parts.push(said("good", train.message || "Training is done."), button("Show the model’s labels", "", "train-show", showResult));
  if (train.state === "failed") parts.push(said("bad", train.message || "Training failed."));
  if (train.state === "stopped") parts.push(said("", train.message || "Training was stopped; it can go on from there."));
  parts.push(make("form", { class: "fields", id: "train-form" }, ...(SETTINGS).map(field)));
  const acts = make("div", { class: "acts" });
  const canResume = train.state === "stopped" || train.state === "failed";
  if (canResume) acts.append(button("Go on", "primary", "train-resume", () => start(true)));
  acts.append(button(canResume || train.state === "done" ? "Train anew" : "Start training", canResume ? "" : "primary", "train-start", () => start(false)));
  parts.push(acts, ...result());
  return parts;
}

const said = (kind, text) => make("p", { class: `said ${kind}`, text });

function running() {
  return [
    make("h2", { text: "Training" }),
    make("p", { class: "help", id: "train-message" }),
    make("progress", { id: "train-progress", max: "1", value: "0", "aria-label": "Progress of the training" }),
    make("p", { class: "train-line" }, make("span", { id: "train-step" }), make("span", { id: "train-left" })),
    make("div", { class: "acts" }, button(state.train.state === "stopping" ? "Stopping" : "Stop", "", "train-stop", stop)),
    ...result(),
  ];
}

const result = () => [make("figure", { class: "curve", id: "train-curve" }), make("div", { class: "pictures", id: "train-pictures" })];

function progress() {
  const { train } = state;
  if (isBusy()) {
    byId("train-progress").value = train.steps ? train.step / train.steps : 0;
    byId("train-step").textContent = train.steps ? `step ${train.step} of ${train.steps}` : "";
    byId("train-left").textContent = left(train.seconds_left);
    byId("train-message").textContent = train.message || "Drawing goes on meanwhile: new strokes count from the next training.";
    byId("train-stop").disabled = train.state === "stopping";
  }
  drawCurve(byId("train-curve"), train.history ?? [], train.steps);
  pictures(train.pictures ?? []);
}

function pictures(list) {
  const box = byId("train-pictures");
  const wanted = list.map((one) => (typeof one === "string" ? { url: one, caption: "" } : one));
  const looks = JSON.stringify(wanted);
  if (box.dataset.looks === looks) return;
  box.dataset.looks = looks;
  box.replaceChildren(...wanted.map(({ url, caption }) =>
    make("figure", {}, make("img", { src: url, alt: caption || "Labels of the model so far", loading: "lazy" }),
      caption ? make("figcaption", { text: caption }) : null)));
}

function badge() {
  const { train } = state;
  const part = train.steps ? Math.floor((100 * train.step) / train.steps) : 0;
  byId("train-text").textContent = isBusy() ? `Training ${part} %` : "Train";
  byId("train").classList.toggle("running", isBusy());
  byId("train").style.setProperty("--part", `${part}%`);
}

export function startTrain() {
  hear("train", () => { draw(); badge(); });
  hear("server-train", take);
  for (const one of ["label", "train"]) byId(`tab-${one}`).addEventListener("click", () => showPanel(one));
  byId("panel-train").parentElement.querySelector(".tabs").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.stopPropagation();
    toggleTrain();
    document.querySelector('.tabs [aria-selected="true"]').focus();
  });
  get("/api/train").then(take).catch(() => {});
  draw();
}
