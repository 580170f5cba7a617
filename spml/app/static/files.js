// Files in and out: one dialog with both, and files dropped on the page.

import { fetchAnswer, sendFile } from "./api.js";
import { dialog } from "./dialogs.js";
import { byId, make, plural, toast } from "./dom.js";
import { tell } from "./state.js";

const FORMATS = [
  ["folder", "This folder", "strokes, labels, classes and lists, as spml reads them"],
  ["labelme", "labelme", "one JSON for each image"],
  ["cvat", "CVAT", "XML for images 1.1"],
  ["coco", "COCO", "instances"],
  ["coco_panoptic", "COCO panoptic", "one PNG for each image"],
  ["voc", "Pascal VOC", "masks with a palette"],
  ["yolo", "YOLO", "polygons, one text for each image"],
  ["cityscapes", "Cityscapes", "grey masks and a table of names"],
];

const FORMATS_IN = "labelme, CVAT, COCO, VOC, YOLO or a zip of them; the format is recognised. "
  + "Files may be dropped anywhere on the page.";

/** Says what came in; what did not come along needs more than a line. */
function report(name, { strokes, images, labels, problems, notes }) {
  const counts = [strokes ? plural(strokes, "stroke") : "", labels ? plural(labels, "mask") : ""].filter(Boolean);
  const what = `${counts.join(" and ") || "annotations"} on ${plural(images ?? 0, "image")}. Undo takes it out again.`;
  const rest = [...(notes ?? []), ...(problems ?? [])];
  if (!rest.length) return toast(`${name} is taken in: ${what}`, { kind: "good" });
  const lines = rest.map((line) => make("li", { text: line }));
  dialog(`${name} is taken in`, [make("p", { text: what }), make("ul", { class: "notes" }, ...lines)]);
}

async function bring(files) {
  for (const file of files) {
    toast(`Reading ${file.name}`, { seconds: 3 });
    try {
      const answer = await sendFile(`/api/import?format=auto&name=${encodeURIComponent(file.name)}`, file);
      report(file.name, answer);
      tell("brought");
    } catch (error) {
      toast(`${file.name}: ${error.message}`, { kind: "error" });
    }
  }
}

async function takeOut(format, name) {
  const images = byId("export-images").checked ? 1 : 0;
  toast(`Writing ${name}`, { seconds: 3 });
  try {
    const answer = await fetchAnswer(`/api/export?format=${format}&images=${images}`);
    const told = /filename="?([^";]+)/.exec(answer.headers.get("Content-Disposition") ?? "");
    const url = URL.createObjectURL(await answer.blob());
    make("a", { href: url, download: told?.[1] ?? `${format}.zip` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    toast(`Not exported: ${error.message}`, { kind: "error" });
  }
}

const picker = make("input", {
  type: "file", multiple: true, class: "hidden", id: "import-file", "aria-label": "Files to import", tabindex: "-1",
});

export function openFiles() {
  const links = FORMATS.map(([format, name, what]) =>
    make("button",
      { class: "format", type: "button", id: `export-${format}`, on: { click: () => takeOut(format, name) } },
      make("b", { text: name }), make("span", { text: what })));
  const choose = make("button", {
    class: "button", type: "button", id: "import", text: "Choose files", on: { click: () => picker.click() },
  });
  return dialog("Import and export", [
    make("h3", { text: "Import" }),
    make("p", { class: "help", text: FORMATS_IN }),
    choose,
    make("h3", { text: "Export as a zip" }),
    make("div", { class: "formats" }, ...links),
    make("label", { class: "tick" },
      make("input", { type: "checkbox", id: "export-images" }),
      "With the photographs, where the format has them beside"),
  ], { wide: true });
}

export function startFiles() {
  document.body.append(picker);
  picker.addEventListener("change", () => {
    document.querySelector("dialog[open]")?.close("");
    bring([...picker.files]);
    picker.value = "";
  });
  byId("files").addEventListener("click", openFiles);
  window.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files.length) bring([...event.dataTransfer.files]);
  });
}
