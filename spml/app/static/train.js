// The panel that trains: settings in plain words as the server gives them, progress, curve, pictures, stop, go on.

import { get, send } from "./api.js";
import { drawCurve } from "./curve.js";
import { byId, drawIcons, make, toast } from "./dom.js";
import { showLabelsFrom } from "./layers.js";
import { hear, state, tell } from "./state.js";
import { setOrder } from "./strip.js";

const panel = byId("panel-train");
const MORE = {
  key: "config", label: "More settings", help: "Of the config: key=value, one a line.",
  kind: "lines", value: [],
};
const WHAT = "A network learns from all strokes of the folder, and then labels every image. "
  + "You can go on drawing meanwhile.";
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
  if (name === "train") ask();
}

const ask = () => get("/api/train").then(take).catch(() => {});

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
  const action = { text: "Show them", run: showResult };
  toast("Training is done: every image has labels from the model.", { seconds: 20, action });
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
    const example = "train.batch_size=4";
    input = make("textarea", { id, rows: "3", spellcheck: "false", placeholder: example, "aria-label": label });
    input.value = now.join("\n");
    input.addEventListener("change", () => set(input.value.split("\n").map((line) => line.trim()).filter(Boolean)));
  } else {
    input = make("input", { id, type: "number", min: low, max: high, step: step ?? "any", value: now });
    input.addEventListener("change", () => {
      if (input.checkValidity()) set(input.value === "" ? undefined : Number(input.value));
    });
  }
  return make("div", { class: `field ${kind}` }, make("label", { for: id, text: label }), input,
    help ? make("p", { class: "help", text: help }) : null);
}

function more() {
  const box = make("details", { class: "more" }, make("summary", { text: MORE.label }), field(MORE));
  box.open = Boolean(chosen.config?.length);
  return box;
}

function button(text, kind, name, act) {
  return make("button", { class: `button ${kind}`, type: "button", id: name, text, on: { click: act } });
}

function draw() {
  const { train } = state;
  const busy = isBusy();
  const asked = [train.message, train.settings, train.can_resume, train.why_not];
  const signature = JSON.stringify([train.state, busy || asked]);
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
    make("p", { class: "help", text: WHAT }),
  ];
  if (train.state === "done") {
    parts.push(said("good", train.message || "Training is done."));
    parts.push(button("Show the model’s labels", "", "train-show", showResult));
  }
  if (train.state === "failed") parts.push(said("bad", train.message || "Training failed."));
  if (train.state === "stopped") parts.push(said("", train.message || "Stopped. It can go on from there."));
  parts.push(make("form", { class: "fields", id: "train-form" }, ...(train.settings ?? []).map(field), more()));
  if (train.why_not) parts.push(said("", train.why_not));
  const acts = make("div", { class: "acts" });
  if (train.can_resume) acts.append(button("Go on", "primary", "train-resume", () => start(true)));
  const words = train.can_resume || train.state === "done" ? "Train anew" : "Start training";
  acts.append(button(words, train.can_resume ? "" : "primary", "train-start", () => start(false)));
  acts.lastChild.disabled = Boolean(train.why_not);
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
    make("div", { class: "acts" },
      button(state.train.state === "stopping" ? "Stopping" : "Stop", "", "train-stop", stop)),
    ...result(),
  ];
}

const result = () => [
  make("figure", { class: "curve", id: "train-curve" }),
  make("div", { class: "pictures", id: "train-pictures" }),
];

function progress() {
  const { train } = state;
  if (isBusy()) {
    byId("train-progress").value = train.steps ? train.step / train.steps : 0;
    byId("train-step").textContent = train.steps ? `step ${train.step} of ${train.steps}` : "";
    byId("train-left").textContent = left(train.seconds_left);
    byId("train-message").textContent = train.message || "";
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
  ask();
  draw();
}
