// The studio's page: starts every part, then opens the image that was open last.

import { startActions } from "./actions.js";
import { get } from "./api.js";
import { startClasses } from "./classes.js";
import { byId, drawIcons, plural, toast } from "./dom.js";
import { startEvents } from "./events.js";
import { startFiles } from "./files.js";
import { startKeys } from "./keys.js";
import { startLayers } from "./layers.js";
import { startPen } from "./pen.js";
import { startPointer } from "./pointer.js";
import { open, picture } from "./picture.js";
import { adopt } from "./queue.js";
import { forget, refresh } from "./spread.js";
import { hear, state, takeState, tell } from "./state.js";
import { startStatus } from "./status.js";
import { firstName, startStrip } from "./strip.js";
import { startTrain } from "./train.js";
import { startView } from "./view.js";

function rememberPlace() {
  hear("opening", (name) => {
    history.replaceState(null, "", `#${encodeURIComponent(name)}`);
    document.title = `${name.split("/").at(-1)} · spml studio`;
    forget();
  });
  hear("image", () => {
    byId("view").dataset.image = picture.ready ? picture.name : "";
    if (picture.ready) refresh();
  });
}

async function begin() {
  drawIcons();
  startView();
  startPen();
  startPointer();
  startActions();
  startClasses();
  startLayers();
  startStatus();
  startKeys();
  startFiles();
  rememberPlace();
  try {
    takeState(await get("/api/state"));
  } catch (error) {
    byId("notice").hidden = false;
    byId("notice").textContent = `${error.message}. Is "spml studio" running?`;
    return;
  }
  byId("folder").textContent = state.folder;
  byId("folder").title = state.path;
  startStrip();
  startTrain();
  startEvents();
  if (state.source_error) toast(state.source_error, { kind: "error" });
  for (const note of (state.notes ?? []).slice(0, 3)) toast(note, { seconds: 8 });
  if (state.features) tell("features", state.features);
  const count = adopt();
  if (count) toast(`${plural(count, "edit")} of last time sent again.`, { kind: "good" });
  const first = decodeURIComponent(location.hash.slice(1)) || (await firstName());
  await firstName();
  await open(first);
  document.documentElement.dataset.ready = "yes";
}

begin();
