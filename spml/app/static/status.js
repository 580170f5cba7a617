// The line at the foot: which image, where the pen is, strokes, how long the last spread took, how sure, what is saved.

import { byId, percent, plural } from "./dom.js";
import { picture } from "./picture.js";
import { pointerState } from "./pointer.js";
import { standing } from "./queue.js";
import { spread } from "./spread.js";
import { hear, state } from "./state.js";
import { magnified } from "./view.js";

const put = (id, text) => { byId(id).textContent = text; };

function image() {
  const size = picture.ready ? `   ${picture.width} × ${picture.height}` : "";
  put("status-image", picture.name ? picture.name + size : "");
  put("status-strokes", picture.ready ? plural(picture.strokes.length, "stroke") : "");
}

function labels() {
  put("status-ms", spread.ids && spread.ms !== null ? `spread in ${Math.round(spread.ms)} ms` : "");
  byId("status-ms").title = spread.wait ? `${Math.round(spread.wait)} ms from pen up to the new picture` : "";
  if (spread.wait) byId("status-ms").dataset.wait = spread.wait.toFixed(1);
  put("status-sure", spread.sure !== null && spread.ids ? `${percent(spread.sure)} sure` : "");
}

function saved() {
  const { state: how, count } = standing();
  const words = {
    saved: "Saved",
    sending: "Saving",
    offline: `Offline: ${plural(count, "edit")} kept here, sent when the server is back`,
  };
  const gone = state.away && how === "saved";
  byId("status-saved").dataset.state = gone ? "offline" : how;
  byId("status-saved").querySelector("b").textContent = gone ? "The server does not answer" : words[how];
}

function place() {
  put("zoom-text", `${Math.round(100 * magnified() * devicePixelRatio)} %`);
}

function pointer() {
  const [x, y] = pointerState.point ?? [-1, -1];
  const inside = picture.ready && x >= 0 && y >= 0 && x < picture.width && y < picture.height;
  put("status-place", inside ? `${Math.floor(x)}, ${Math.floor(y)}` : "");
}

function features({ done, total }) {
  const box = byId("status-features");
  box.hidden = !total || done >= total;
  box.textContent = `features ${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  box.style.setProperty("--part", total ? done / total : 0);
}

/** A large word in the middle of the canvas, where there is no picture to see. */
function notice() {
  const box = byId("notice");
  const empty = state.total === 0 ? "This folder has no images. Put some in and reload." : "";
  const named = picture.error?.includes(picture.name) ? "" : `${picture.name}: `;
  const why = picture.error ? named + picture.error : empty;
  box.hidden = !why;
  box.textContent = why;
  byId("stage").hidden = Boolean(why);
}

export function startStatus() {
  hear("image strokes", image);
  hear("opening", image);
  hear("labels image", labels);
  hear("queue confirmed state", saved);
  hear("view", place);
  hear("image state total", notice);
  hear("features", features);
  byId("view").addEventListener("pointermove", pointer, { passive: true });
}
