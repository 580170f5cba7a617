// The list of layers with their opacity, and which labels they are of.

import { byId, drawIcons, fill, make } from "./dom.js";
import { picture } from "./picture.js";
import { refresh, showLayer, spread } from "./spread.js";
import { hear, keep, kept, state, tell } from "./state.js";

export const NAMES = {
  photo: "Image",
  labels: "Labels",
  strokes: "Strokes",
  regions: "Regions",
  margin: "Uncertainty",
  embedding: "Embedding",
};

export function toggleLayer(name) {
  const layers = { ...kept.layers, [name]: { ...kept.layers[name], on: !kept.layers[name].on } };
  keep({ layers });
  tell("layers");
  if (layers[name].on) showLayer(name);
}

function setOpacity(name, opacity) {
  keep({ layers: { ...kept.layers, [name]: { on: true, opacity } } });
  tell("layers");
}

/** While held, only the photograph is seen. */
export function peek(on) {
  byId("stage").classList.toggle("peek", on);
  byId("hud").classList.toggle("off", on);
}

export function showLabelsFrom(from) {
  keep({ from });
  for (const button of byId("source").children) {
    button.setAttribute("aria-checked", String(button.dataset.from === from));
    button.tabIndex = button.dataset.from === from ? 0 : -1;
  }
  refresh();
}

/** Why there is nothing to see, where the labels asked for are not there. */
function hint() {
  const box = byId("source-hint");
  const why = {
    spread: "Draw a stroke, and the image is labelled.",
    prediction: state.train?.state === "done" ? "The model has not labelled this image." : "No model is trained yet.",
    accepted: "Nothing is accepted on this image.",
  }[kept.from];
  box.hidden = !picture.ready || !spread.empty || !state.classes.length;
  box.textContent = why;
}

function row(name, place) {
  const switcher = make("button", {
    class: "tool small", type: "button", id: `layer-${name}`, title: `Alt+${place + 1}`,
    on: { click: () => toggleLayer(name) },
  });
  const words = `Opacity of ${NAMES[name].toLowerCase()}`;
  const slider = make("input", { type: "range", min: "0", max: "100", "aria-label": words });
  slider.value = Math.round(100 * kept.layers[name].opacity);
  fill(slider);
  slider.addEventListener("input", () => {
    fill(slider);
    const was = kept.layers[name].on;
    setOpacity(name, slider.value / 100);
    if (!was) showLayer(name);
  });
  const title = make("span", { class: "layer-name", text: NAMES[name] });
  return make("li", { class: "layer-row", "data-layer": name }, switcher, title, slider);
}

function draw() {
  for (const item of byId("layers").children) {
    const { on } = kept.layers[item.dataset.layer];
    const button = item.querySelector("button");
    item.classList.toggle("off", !on);
    button.dataset.icon = on ? "eye" : "eye-off";
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", `Show ${NAMES[item.dataset.layer].toLowerCase()}`);
  }
  drawIcons(byId("layers"));
}

export function startLayers() {
  byId("layers").replaceChildren(...Object.keys(NAMES).map(row));
  byId("source").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) showLabelsFrom(button.dataset.from);
  });
  byId("source").addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const buttons = [...event.currentTarget.children];
    const next = buttons[(buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length];
    event.stopPropagation();
    showLabelsFrom(next.dataset.from);
    next.focus();
  });
  hear("layers", draw);
  hear("labels image state train", hint);
  hear("confirmed", ({ edits }) => { // accepted labels stay as they are: who draws wants to see what follows
    const here = edits.some((edit) => edit.op === "stroke" && edit.image === picture.name);
    if (here && kept.from === "accepted") showLabelsFrom("spread");
  });
  draw();
}
