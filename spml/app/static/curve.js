// The loss over the steps, as a small drawing: the raw line faint, a running mean over it.

import { svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [260, 120, 30, 16, 6];
const MOST = 400; // points drawn

/** Running mean with a memory of about `reach` points. */
export function smooth(values, reach) {
  const part = 1 / Math.max(1, reach);
  let [mean, weight] = [0, 0];
  return values.map((value) => {
    mean += part * (value - mean);
    weight += part * (1 - weight);
    return mean / weight;
  });
}

const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(2));

export function drawCurve(box, history, steps) {
  const good = history.filter(([, value]) => Number.isFinite(value));
  box.hidden = good.length < 2;
  if (box.hidden) return box.replaceChildren();
  const thin = Math.ceil(good.length / MOST);
  const points = good.filter((_, place) => place % thin === 0 || place === good.length - 1);
  const values = points.map(([, value]) => value);
  const low = Math.min(...values);
  const high = Math.max(...values, low + 1e-9);
  const last = Math.max(steps ?? 0, points.at(-1)[0], 1);
  const at = (step, value) => [
    LEFT + ((WIDTH - LEFT - 4) * step) / last,
    TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low)),
  ].map((place) => place.toFixed(1)).join(",");
  const soft = smooth(values, values.length / 12);
  const words = (x, y, value, anchor) => {
    const node = svg("text", { x, y, "text-anchor": anchor });
    node.textContent = value;
    return node;
  };
  const said = `Loss: from ${short(soft[0])} to ${short(soft.at(-1))}`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said },
    svg("path", { class: "axis", d: `M${LEFT},${TOP}V${HEIGHT - BOTTOM}H${WIDTH - 4}` }),
    svg("polyline", { class: "raw", points: points.map(([step, value]) => at(step, value)).join(" ") }),
    svg("polyline", { class: "soft", points: points.map(([step], place) => at(step, soft[place])).join(" ") }),
    words(LEFT - 4, TOP + 8, short(high), "end"), words(LEFT - 4, HEIGHT - BOTTOM, short(low), "end"),
    words(LEFT, HEIGHT - 3, "0", "start"), words(WIDTH - 4, HEIGHT - 3, `${last} steps`, "end"),
    words(WIDTH - 6, TOP + 8, "loss", "end"));
  box.replaceChildren(drawing);
}
