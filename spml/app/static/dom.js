// Small helpers for the document: find, make, name, say.

export const byId = (id) => document.getElementById(id);

/** An element: `make("button", {class: "tool", text: "Go", on: {click: go}, "aria-label": "Go"}, child, ..)`. */
export function make(tag, settings = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "text") node.textContent = value;
    else if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name in node && typeof value === "boolean") node[name] = value;
    else if (value !== null && value !== undefined) node.setAttribute(name === "class" ? "class" : name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, settings = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(settings)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `/static/icons.svg#${name}` }));
}

/** Puts the picture into each button that names one by data-icon. */
export function drawIcons(root = document) {
  for (const node of root.querySelectorAll("[data-icon]")) {
    node.querySelector("svg.icon")?.remove();
    node.prepend(icon(node.dataset.icon));
  }
}

export const percent = (part) => `${part >= 0.1 || part < 0.0005 ? Math.round(100 * part) : (100 * part).toFixed(1)} %`;

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** "#rrggbb" -> [r, g, b]. */
export function rgb(colour) {
  const number = Number.parseInt(colour.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** Lets a slider draw how full it is. */
export function fill(slider) {
  slider.style.setProperty("--value", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
}

/** A line that goes away by itself; `action` {text, run} adds a button; a new one takes the place of its `slot`. */
export function toast(text, { kind = "info", action = null, seconds = 5, slot = text } = {}) {
  const box = byId("toasts");
  [...box.children].find((other) => other.dataset.slot === slot)?.remove();
  const node = make("div", { class: `toast ${kind}`, "data-slot": slot }, make("span", { text }));
  const gone = () => node.remove();
  if (action) {
    const run = () => { gone(); action.run(); };
    node.append(make("button", { class: "link", text: action.text, on: { click: run } }));
  }
  const click = { click: gone };
  node.append(make("button", { class: "tool small", "data-icon": "close", "aria-label": "Close", on: click }));
  drawIcons(node);
  box.append(node);
  while (box.children.length > 4) box.firstChild.remove();
  setTimeout(gone, 1000 * (kind === "error" ? 2 * seconds : seconds));
}
