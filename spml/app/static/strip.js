// The strip of images: only what is in sight stands in the document, so thousands cost no more than ten.

import { get, path } from "./api.js";
import { byId, icon, make, percent, plural } from "./dom.js";
import { open } from "./picture.js";
import { hear, keep, kept, state, tell } from "./state.js";

const HEIGHT = 134; // of one entry, as in parts.css
const PAGE = 100;
const MORE = 3; // entries kept beyond the edges

const strip = byId("strip");
const nodes = new Map(); // place -> element
let pages = new Map(); // number -> array of entries
let asked = new Set(); // pages on their way
let stale = new Set(); // pages to ask again
let total = 0;
let here = -1; // place of the open image in this order
let generation = 0;

const entry = (place) => pages.get(Math.floor(place / PAGE))?.[place % PAGE];

async function fetchPage(number) {
  if (asked.has(number)) return;
  asked.add(number);
  const mine = generation;
  try {
    const answer = await get(`/api/images?start=${number * PAGE}&count=${PAGE}&order=${kept.order}`);
    if (mine !== generation) return;
    pages.set(number, answer.images);
    stale.delete(number);
    setTotal(answer.total);
    if (entry(here)?.name !== state.image) here = known(state.image);
    draw();
  } catch {
    // The next scroll or event asks again.
  } finally {
    if (mine === generation) asked.delete(number);
  }
}

function setTotal(count) {
  total = count;
  byId("strip-space").style.height = `${total * HEIGHT}px`;
  byId("strip-foot").textContent = plural(total, "image");
  tell("total", total);
}

function inSight() {
  const first = Math.max(0, Math.floor(strip.scrollTop / HEIGHT) - MORE);
  const last = Math.min(total - 1, Math.ceil((strip.scrollTop + strip.clientHeight) / HEIGHT) + MORE);
  return [first, last];
}

function draw() {
  const [first, last] = inSight();
  for (const [place, node] of nodes) {
    if (place >= first && place <= last) continue;
    node.remove();
    nodes.delete(place);
  }
  for (let place = first; place <= last; place += 1) {
    if (!nodes.has(place)) {
      nodes.set(place, shell(place));
      strip.append(nodes.get(place));
    }
    if (entry(place)) fill(nodes.get(place), entry(place), place);
  }
  askSoon(first, last);
}

let timer = 0;

/** Pages in sight, once scrolling rests: a flight over thousands asks for nothing on the way. */
function askSoon(first, last) {
  clearTimeout(timer);
  timer = setTimeout(() => {
    for (let number = Math.floor(first / PAGE); number <= Math.floor(Math.max(first, last) / PAGE); number += 1) {
      if (!pages.has(number) || stale.has(number)) fetchPage(number);
    }
  }, pages.size ? 70 : 0);
}

function shell(place) {
  const node = make("div", { class: "thumb", role: "option", id: `image-${place}` },
    make("div", { class: "thumb-box" }, make("span", { class: "thumb-sure" })),
    make("div", { class: "thumb-line" }, make("span", { class: "thumb-name" }), make("span", { class: "thumb-has" })));
  node.style.transform = `translateY(${place * HEIGHT}px)`;
  node.addEventListener("click", () => openAt(place));
  return node;
}

const LABELS = {
  spread: "labelled from strokes",
  accepted: "accepted",
  predicted: "labelled by the model",
  none: "no labels yet",
};

function fill(node, one, place) {
  const current = one.name === state.image;
  node.setAttribute("aria-selected", String(current));
  node.setAttribute("aria-posinset", place + 1);
  node.setAttribute("aria-setsize", total);
  if (current) strip.setAttribute("aria-activedescendant", node.id);
  const looks = JSON.stringify(one);
  if (node.dataset.looks === looks) return;
  node.dataset.looks = looks;
  node.title = one.name;
  const words = [one.error ?? LABELS[one.labels] ?? "", plural(one.strokes, "stroke")];
  if (one.sure !== null && one.sure !== undefined) words.push(`${percent(one.sure)} sure`);
  node.setAttribute("aria-label", `${one.name}: ${words.join(", ")}`);
  node.querySelector(".thumb-name").textContent = one.name;
  node.dataset.labels = one.error ? "error" : one.labels;
  thumbnail(node, one);
  const bar = node.querySelector(".thumb-sure");
  bar.hidden = one.sure === null || one.sure === undefined;
  bar.style.setProperty("--sure", one.sure ?? 0);
  node.querySelector(".thumb-has").replaceChildren(...badges(one));
}

function thumbnail(node, one) {
  const box = node.querySelector(".thumb-box");
  const url = `${path(one.name)}/thumb`;
  if (one.error) {
    box.querySelector("img")?.remove();
    if (!box.querySelector(".icon")) box.prepend(icon("broken"));
  } else if (box.querySelector("img")?.getAttribute("src") !== url) {
    box.querySelector("img, .icon")?.remove();
    box.prepend(make("img", { src: url, alt: "", decoding: "async", draggable: "false" }));
  }
}

function badges(one) {
  const found = [];
  if (one.strokes) found.push(make("span", { class: "badge", text: String(one.strokes) }, icon("brush")));
  if (one.labels === "accepted") found.push(make("span", { class: "badge good" }, icon("check")));
  if (one.labels === "predicted") found.push(make("span", { class: "badge" }, icon("model")));
  return found;
}

function openAt(place) {
  if (!entry(place)) return;
  here = place;
  open(entry(place).name);
}

/** Opens the image `step` places on in the present order. */
export async function go(step) {
  const place = Math.min(total - 1, Math.max(0, here < 0 ? 0 : here + step));
  await show(place);
  openAt(place);
}

/** Scrolls to a place, with its page there. */
async function show(place) {
  if (place < 0) return;
  if (!entry(place)) await fetchPage(Math.floor(place / PAGE));
  const top = place * HEIGHT;
  if (top < strip.scrollTop) strip.scrollTop = top;
  else if (top + HEIGHT > strip.scrollTop + strip.clientHeight) strip.scrollTop = top + HEIGHT - strip.clientHeight;
  draw();
}

/** Place of an image among the pages that are here; -1 where it is in none. */
function known(name) {
  for (const [number, images] of pages) {
    const place = images.findIndex((one) => one.name === name);
    if (place >= 0) return number * PAGE + place;
  }
  return -1;
}

/** Finds the open image in the present order and scrolls there. */
async function locate() {
  if (!state.image) return;
  if (entry(here)?.name !== state.image) here = known(state.image);
  if (here >= 0) return show(here);
  const question = `/api/images?start=0&count=1&order=${kept.order}&find=${encodeURIComponent(state.image)}`;
  const answer = await get(question).catch(() => null);
  here = answer?.index ?? -1;
  await show(here);
}

export async function setOrder(order) {
  keep({ order });
  byId("order").value = order;
  generation += 1;
  [pages, asked, stale, here] = [new Map(), new Set(), new Set(), -1];
  strip.scrollTop = 0;
  await fetchPage(0);
  await locate();
}

/** What the strip says may be old: asked again for what is in sight, once a moment. */
export function renewStrip() {
  stale = new Set(pages.keys());
  const [first, last] = inSight();
  askSoon(first, last);
}

export const firstName = async () => {
  if (!pages.size) await fetchPage(0);
  return (pages.get(0) ?? []).find((one) => !one.error)?.name ?? null;
};

export function startStrip() {
  strip.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  strip.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    go(step);
  });
  new ResizeObserver(draw).observe(strip);
  byId("order").addEventListener("change", (event) => setOrder(event.target.value));
  byId("order").value = kept.order;
  hear("opening", locate);
}
