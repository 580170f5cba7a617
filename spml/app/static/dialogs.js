// Questions and lists over the page: the browser's own <dialog>, which keeps the focus and closes on Escape.

import { drawIcons, make } from "./dom.js";

/** Opens a dialog with these children; resolves to the value that it was closed with ("" on Escape). */
export function dialog(title, children, { wide = false, actions = [] } = {}) {
  return new Promise((resolve) => {
    const box = make("dialog", { class: wide ? "wide" : "", "aria-label": title });
    const close = (value) => box.close(value);
    const cross = make("button", {
      class: "tool small", type: "button", "data-icon": "close", "aria-label": "Close", on: { click: () => close("") },
    });
    const head = make("header", {}, make("h2", { text: title }), cross);
    const buttons = actions.map(({ text, value, kind = "" }) =>
      make("button", { class: `button ${kind}`, type: "button", text, on: { click: () => close(value) } }));
    box.append(head, make("div", { class: "dialog-body" }, ...children));
    if (buttons.length) box.append(make("footer", {}, ...buttons));
    box.addEventListener("click", (event) => { if (event.target === box) close(""); });
    box.addEventListener("close", () => { resolve(box.returnValue); box.remove(); });
    drawIcons(box);
    document.body.append(box);
    box.showModal();
    box.querySelector("footer .button:last-child, .dialog-body a, .dialog-body button")?.focus();
  });
}

export const isOpen = () => document.querySelector("dialog[open]") !== null;

export async function confirm(title, text, action, kind = "primary") {
  const answer = await dialog(title, [make("p", { text })], {
    actions: [{ text: "Cancel", value: "" }, { text: action, value: "yes", kind }],
  });
  return answer === "yes";
}
