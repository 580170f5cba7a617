// What the server makes of the strokes: labels, how sure they are, regions, embedding. Asked for after each stroke.

import { fetchAnswer, path } from "./api.js";
import { byId, toast } from "./dom.js";
import { decode, drawEmbedding, drawLabels, drawMargin, drawRegions, firstChannel, fractions } from "./overlay.js";
import { wipe } from "./overlay.js";
import { picture } from "./picture.js";
import { standing } from "./queue.js";
import { hear, kept, state, tell } from "./state.js";

export const spread = {
  ids: null, // (H * W) class ids of the photograph's size
  part: [], // of the labelled pixels, by class id
  ms: null, // the server's time
  wait: null, // from pen up to the new picture, ms
  sure: null,
  empty: false, // the server has nothing to spread from
};

let asked = null; // AbortController of the question on its way
let penUp = 0;

export const penWentUp = () => { penUp = performance.now(); };

function url(kind) {
  const question = new URLSearchParams({ others: kept.own ? 0 : 1, crf: kept.crf ? 1 : 0, from: kept.from });
  return `${path(picture.name)}/${kind}?${question}`;
}

export function forget() {
  asked?.abort();
  Object.assign(spread, { ids: null, part: [], ms: null, wait: null, sure: null, empty: false });
  for (const id of ["labels", "margin", "regions", "embedding"]) wipe(id);
}

/** Labels anew, and the layers that show them; the last question wins. */
export async function refresh() {
  if (!picture.ready) return;
  asked?.abort();
  const mine = (asked = new AbortController());
  busy(true);
  try {
    const answer = await fetchAnswer(url("labels"), mine.signal);
    const blob = answer.status === 204 ? null : await answer.blob();
    const bytes = blob && (await decode(blob, picture.paint.width, picture.paint.height));
    if (mine.signal.aborted) return;
    take(answer, bytes);
    await extras(mine.signal);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    troubled(error);
  } finally {
    if (mine === asked) busy(false);
  }
}

let trouble = "";

/** Says what keeps the server from spreading, once. */
function troubled({ message, status }) {
  if (status && message !== trouble) toast(`No labels: ${message}`, { kind: "error" });
  trouble = message;
}

function take(answer, bytes) {
  trouble = "";
  spread.empty = !bytes;
  spread.ids = bytes ? firstChannel(bytes) : null;
  spread.part = bytes ? fractions(spread.ids) : [];
  spread.ms = number(answer.headers.get("X-Ms"));
  spread.sure = number(answer.headers.get("X-Sure"));
  if (bytes) drawLabels(spread.ids);
  else wipe("labels");
  spread.wait = penUp ? performance.now() - penUp : null;
  penUp = 0;
  byId("view").dataset.labels = `${picture.name}@${answer.headers.get("X-Version") ?? picture.version}`;
  tell("labels");
}

const number = (text) => (text === null || text === "" ? null : Number(text));

const LAYERS = {
  margin: async (blob) => drawMargin(await decode(blob, picture.paint.width, picture.paint.height)),
  regions: async (blob) => drawRegions(await decode(blob, picture.paint.width, picture.paint.height)),
  embedding: drawEmbedding,
};

/** The layers beside the labels, where they are switched on. */
async function extras(signal) {
  const wanted = Object.keys(LAYERS).filter((name) => kept.layers[name].on);
  await Promise.all(wanted.map(async (name) => {
    const answer = await fetchAnswer(url(name), signal).catch(() => null);
    if (signal.aborted) return;
    if (!answer || answer.status === 204) wipe(name);
    else await LAYERS[name](await answer.blob());
  }));
}

/** One layer that was switched on just now. */
export async function showLayer(name) {
  if (!LAYERS[name] || !picture.ready || !asked) return;
  const mine = asked;
  busy(true);
  await extras(mine.signal);
  if (mine === asked) busy(false);
}

let late = 0;

/** A thin line of progress, only where an answer takes long enough to be noticed. */
function busy(on) {
  clearTimeout(late);
  byId("view").setAttribute("aria-busy", String(on));
  if (on) late = setTimeout(() => { byId("busy").hidden = false; }, 250);
  else byId("busy").hidden = true;
}

/** The class that labels a point of the image, or null. */
export function labelledAt([x, y]) {
  const { paint, scale } = picture;
  const [column, row] = [Math.floor(x * scale), Math.floor(y * scale)];
  if (!spread.ids || column < 0 || row < 0 || column >= paint.width || row >= paint.height) return null;
  const id = spread.ids[row * paint.width + column];
  return state.classes.find((one) => one.id === id) ?? null;
}

hear("confirmed", ({ edits, versions = {}, others = [] }) => {
  if (versions[picture.name] !== undefined) picture.version = versions[picture.name];
  if (!kept.own || edits.some((edit) => edit.image === picture.name)) {
    if (!others.includes(picture.name) && standing().count === 0) refresh();
  }
});
