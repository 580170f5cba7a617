// Files in and out: one dialog with both, and files dropped on the page.

import { fetchAnswer, sendFile } from "./api.js";
import { dialog } from "./dialogs.js";
import { byId, make, plural, toast } from "./dom.js";
import { tell } from "./state.js";

const FORMATS = [
  ["folder", "This folder", "strokes, labels, classes and lists, as spml reads them"],
  ["labelme", "labelme", "one JSON for each image"],
  ["cvat", "CVAT", "XML for images 1.1"],
  ["coco", "COCO", "instances and panoptic"],
  ["voc", "Pascal VOC", "masks with a palette"],
  ["yolo", "YOLO", "polygons, one text for each image"],
  ["cityscapes", "Cityscapes", "grey masks and a table of names"],
];

const FORMATS_IN = "labelme, CVAT, COCO, VOC, YOLO or a zip of them; the format is recognised. "
  + "Files may be dropped anywhere on the page.";

async function bring(files) {
  for (const file of files) {
    toast(`Reading ${file.name}`, { seconds: 3 });
    try {
      const answer = await sendFile(`/api/import?format=auto&name=${encodeURIComponent(file.name)}`, file);
      const problems = answer.problems ?? [];
      for (const problem of problems.slice(0, 3)) toast(problem, { kind: "error" });
      const rest = problems.length ? `, but for ${plural(problems.length, "problem")}` : "";
      const what = `${plural(answer.strokes ?? 0, "stroke")} on ${plural(answer.images ?? 0, "image")}`;
      const kind = problems.length ? "info" : "good";
      toast(`${file.name} is taken in: ${what}${rest}. Undo takes it out again.`, { kind });
      tell("brought");
    } catch (error) {
      toast(`${file.name}: ${error.message}`, { kind: "error" });
    }
  }
}

async function takeOut(format, name) {
  toast(`Writing ${name}`, { seconds: 3 });
  try {
    const answer = await fetchAnswer(`/api/export?format=${format}`);
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
