"""The studio's page in a real browser, driven as a user drives it: by mouse, fingers and keys at coordinates."""

import io
import json
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import spml
from spml.config import load_config
from spml.data.scenes import make_scene
from spml.data.shapes import make_shapes
from spml.inference.features import Extractor, FeatureCache
from spml.inference.model import Model
from spml.models import build_embedding_model

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
try:
    import uvicorn
    from playwright.sync_api import Browser, Page, expect, sync_playwright

    from spml.app.events import Hub
    from spml.app.labels import write_label
    from spml.app.server import STATIC, build_app
    from spml.app.state import Class
    from spml.app.strokes import paint, read_stroke
    from spml.app.studio import Studio

    MISSING = "" if CHROMIUM else "no chromium"
except ImportError as error:
    MISSING = str(error)
if MISSING:
    pytest.skip(f"the studio's page needs playwright and chromium: {MISSING}", allow_module_level=True)

pytestmark = pytest.mark.browser
CPU = torch.device("cpu")
NAMES = ("background", "thing")
ODD = "sub folder/ä #1 50%.png"  # what an address must not trip over
RED, BLUE = (214, 60, 50), (40, 80, 200)


class Colours(torch.nn.Module):
    """Mean colours at stride 4: features whose labels are known beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [torch.nn.functional.avg_pool2d(image, 4) * self.scale]


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, :64], image[:, 64:] = left, right
    return Image.fromarray(image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two colours, one scene of the built-in data, one with an odd name, one that is none."""
    made = tmp_path / "my photos"
    (made / "sub folder").mkdir(parents=True)
    halves(RED, BLUE).save(made / "a.png")
    halves(BLUE, RED).save(made / "b.png")
    Image.fromarray(make_scene(np.random.default_rng([0, 0, 1])).image).save(made / "scene.png")
    halves((224, 70, 60), (30, 70, 190)).save(made / ODD)
    (made / "broken.jpg").write_bytes(b"no image")
    return made


@pytest.fixture
def serve(tiny_config_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Starts a studio of a folder in a thread; gives its address. All end with the test."""
    real, config = spml.Spreader, load_config(tiny_config_file)
    ends: list[Callable[[], None]] = []

    def by_colour(source: Any, cache: Any = None) -> Any:
        made = real(Model(config, build_embedding_model(config), None, CPU), "cpu", classes=())
        made.features = FeatureCache(Extractor(Colours(), (0.5,) * 3, (0.5,) * 3, CPU, 128))
        return made

    def start(folder: Path, classes: tuple[str, ...] = NAMES) -> str:
        hub = Hub()
        studio = Studio(folder, "package:colours", classes, hub.publish)
        server = uvicorn.Server(uvicorn.Config(build_app(studio, hub), port=0, log_level="error"))
        server.config.timeout_graceful_shutdown = 1
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()

        def end() -> None:
            server.should_exit = True
            thread.join(10)
            studio.close()

        ends.append(end)
        assert until(lambda: server.started)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"

    monkeypatch.setattr(spml, "Spreader", by_colour)
    yield start
    for end in ends:
        end()


def until(true: Callable[[], Any], seconds: float = 15) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Desk:
    """A page with an image open, in the user's hands; `problems` are errors that the browser told of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.problems: list[str] = []
        page.set_default_timeout(15_000)
        page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def open(self, name: str = "a.png") -> "Desk":
        self.page.goto(self.url)
        self.page.wait_for_selector("html[data-ready=yes]")
        self.go(name)
        return self

    def go(self, name: str) -> None:
        self.page.locator(f'.thumb[title="{name}"]').click()
        self.page.wait_for_selector(f'#view[data-image="{name}"]')
        self.rest()

    def rest(self) -> None:
        """Waits for all strokes to be saved and the labels to be there."""
        self.page.wait_for_selector("#status-saved[data-state=saved]")
        self.page.wait_for_selector("#view[aria-busy=false]")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the image -> of the window."""
        left, top, width, height = self.frame()
        across, down = self.page.evaluate("[photo.naturalWidth, photo.naturalHeight]")
        return left + x * width / across, top + y * height / down

    def frame(self) -> tuple[float, float, float, float]:
        box = self.page.locator("#photo").bounding_box()
        assert box is not None
        return box["x"], box["y"], box["width"], box["height"]

    def drag(self, *points: tuple[float, float], lift: bool = True) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=4)
        if lift:
            mouse.up()

    def keys(self, *names: str) -> None:
        for name in names:
            self.page.keyboard.press(name)

    def pixel(self, layer: str, x: int, y: int) -> tuple[int, ...]:
        """(r, g, b, alpha) of a canvas."""
        read = "([id, x, y]) => [...document.getElementById(id).getContext('2d').getImageData(x, y, 1, 1).data]"
        return tuple(self.page.evaluate(read, [layer, x, y]))

    def get(self, path: str) -> Any:
        return self.page.evaluate("path => fetch(path).then(answer => answer.json())", path)

    def strokes(self, name: str = "a.png") -> list[dict[str, Any]]:
        return self.get(f"/api/images/{name}/strokes")["strokes"]

    def colour(self, place: int) -> tuple[int, ...]:
        """Of a class."""
        text = self.get("/api/state")["classes"][place]["color"]
        return tuple(bytes.fromhex(text[1:]))

    def says(self, text: str) -> None:
        expect(self.page.locator("#toasts")).to_contain_text(text)


@pytest.fixture
def desk(chromium: Browser, serve: Callable[..., str], folder: Path) -> Iterator[Desk]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    made = Desk(context.new_page(), serve(folder)).open()
    yield made
    context.close()


def near(seen: tuple[int, ...], wanted: tuple[int, ...], by: int = 3) -> bool:
    """Canvases hold colours multiplied by alpha: a little is lost."""
    return all(abs(a - b) <= by for a, b in zip(seen[:3], wanted, strict=True))


def draw_halves(desk: Desk) -> None:
    """The left half is background, the right one a thing."""
    desk.keys("1")
    desk.drag((20, 20), (30, 70))
    desk.keys("2")
    desk.drag((100, 20), (90, 70))
    desk.rest()


def test_three_strokes_label_the_image_and_undo_takes_them_back(desk: Desk) -> None:
    assert desk.pixel("labels", 10, 10)[3] == 0
    desk.keys("b", "2")
    desk.drag((100, 20), (90, 70))
    assert desk.pixel("strokes", 100, 20) == (*desk.colour(1), 255)  # at once, not when the server answers
    desk.keys("1")
    desk.drag((20, 20), (30, 70))
    desk.drag((50, 10), (50, 12))
    desk.rest()
    assert near(desk.pixel("labels", 120, 90), desk.colour(1), 60)  # where no stroke was
    assert near(desk.pixel("labels", 5, 90), desk.colour(0), 60)
    assert desk.pixel("labels", 5, 90)[3] > 0
    kinds = [(one["kind"], one["class"]) for one in desk.strokes()]
    keys = [one["key"] for one in desk.get("/api/state")["classes"]]
    assert kinds == [("brush", keys[1]), ("brush", keys[0]), ("brush", keys[0])]
    expect(desk.page.locator("#status-strokes")).to_have_text("3 strokes")
    expect(desk.page.locator('.thumb[title="a.png"] .badge')).to_have_text("3")
    expect(desk.page.locator('.thumb[title="a.png"] .thumb-sure')).to_be_visible()
    expect(desk.page.locator("#status-ms")).to_contain_text("ms")
    expect(desk.page.locator("[data-class]").nth(1).locator(".class-part")).to_contain_text("%")
    for _ in range(3):
        desk.keys("Control+z")
    assert until(lambda: not desk.strokes())
    assert until(lambda: desk.pixel("strokes", 100, 20)[3] == 0 and desk.pixel("labels", 120, 90)[3] == 0)
    desk.keys("Control+Shift+z")
    assert until(lambda: desk.pixel("strokes", 100, 20)[3] == 255)
    assert not desk.problems


def test_the_next_image_is_labelled_already(desk: Desk) -> None:
    draw_halves(desk)
    desk.go("b.png")
    assert near(desk.pixel("labels", 10, 10), desk.colour(1), 60)  # the red half lies on the other side
    assert near(desk.pixel("labels", 110, 10), desk.colour(0), 60)
    desk.keys("o")  # this image only: it has no strokes
    assert until(lambda: desk.pixel("labels", 10, 10)[3] == 0)
    desk.keys("o")
    desk.go(ODD)
    assert desk.pixel("labels", 10, 10)[3] > 0
    desk.go("scene.png")
    assert not desk.problems


def test_the_built_in_data(chromium: Browser, serve: Callable[..., str], tmp_path: Path) -> None:
    """As bashscripts/studio.sh opens it: a stroke of each of three classes, where the drawn scene has them."""
    make_shapes(tmp_path, 2, 1)
    names = tuple((tmp_path / "classes.txt").read_text().split())
    mask = np.array(Image.open(tmp_path / "mask" / "train_00000.png"))
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    desk = Desk(context.new_page(), serve(tmp_path / "image", names)).open("train_00000.png")
    expect(desk.page.locator("[data-class]")).to_have_count(len(names))
    desk.keys("b", *["["] * 12)
    found = [index for index in np.unique(mask) if index < len(names)][:3]
    for index in found:
        rows, columns = np.nonzero(ndimage.binary_erosion(mask == index, iterations=3))
        x, y = columns[len(columns) // 2] + 0.5, rows[len(rows) // 2] + 0.5
        desk.keys(str(index + 1))
        desk.drag((x, y), (x + 1, y))
        desk.rest()
        assert near(desk.pixel("labels", int(x), int(y)), desk.colour(index), 60), names[index]
    assert len(found) == 3 and len(desk.strokes("train_00000.png")) == 3
    desk.go("train_00001.png")
    assert desk.pixel("labels", 5, 5)[3] > 0
    assert not desk.problems
    context.close()


def test_labels_of_a_model_follow_strokes(desk: Desk, folder: Path) -> None:
    """A run that took every pixel for background, and an image that it has not seen."""
    known = desk.get("/api/state")["classes"]
    classes = [Class(one["key"], one["name"], one["color"], one["locked"]) for one in known]
    run = folder / "runs" / "1"
    write_label(run / "predictions" / "a.png", np.zeros((96, 128), np.uint8), classes)
    (run / "margins").mkdir()
    Image.fromarray(np.full((96, 128), 128, np.uint8)).save(run / "margins" / "a.png")
    (run / "sure.json").write_text('{"a.png": 0.5}')
    (run / "job.json").write_text("{}")
    desk.keys("q")
    assert until(lambda: near(desk.pixel("labels", 120, 90), desk.colour(0), 60))
    desk.keys("2")
    desk.drag((100, 20), (90, 70))
    desk.rest()
    assert near(desk.pixel("labels", 120, 90), desk.colour(1), 60)
    assert near(desk.pixel("labels", 5, 90), desk.colour(0), 60)
    desk.go("b.png")
    expect(desk.page.locator("#source-hint")).to_be_visible()
    assert desk.pixel("labels", 5, 90)[3] == 0
    desk.go("a.png")
    desk.keys("a", "q")
    expect(desk.page.locator("#source [data-from=accepted]")).to_have_attribute("aria-checked", "true")
    desk.drag((110, 20), (110, 70))  # who draws wants to see what follows
    expect(desk.page.locator("#source [data-from=spread]")).to_have_attribute("aria-checked", "true")
    assert not desk.problems


def test_shapes(desk: Desk) -> None:
    desk.keys("2", "r")
    desk.drag((100, 80), (70, 10))
    desk.keys("p")
    desk.page.mouse.click(*desk.at(40.5, 40.5))
    desk.keys("g", "1")
    for corner in ((10, 60), (40, 60), (40, 90), (10, 90)):
        desk.page.mouse.click(*desk.at(*corner))
    desk.keys("Enter", "e")
    desk.drag((25, 60), (25, 90))
    desk.keys("l", "[", "[", "[", "[", "[", "[", "[", "[", "[", "[")
    desk.drag((5.5, 5.5), (50.5, 5.5))
    desk.rest()
    strokes = desk.strokes()
    assert [one["kind"] for one in strokes] == ["box", "point", "polygon", "erase", "line"]
    assert np.allclose(strokes[0]["points"], [[100, 80], [70, 10]], atol=0.5)
    assert len(strokes[2]["points"]) == 4
    assert desk.pixel("strokes", 15, 75)[3] == 255
    assert desk.pixel("strokes", 25, 75)[3] == 0  # rubbed out
    assert strokes[4]["width"] == 1
    assert [desk.pixel("strokes", 20, y)[3] for y in (4, 5, 6)] == [0, 255, 0]
    desk.page.mouse.move(*desk.at(70, 45))
    desk.keys("Delete")  # the box under the pointer
    desk.rest()
    assert [one["kind"] for one in desk.strokes()] == ["point", "polygon", "erase", "line"]
    desk.page.mouse.move(*desk.at(15, 60))
    desk.keys("2", "i")  # the class under the pointer
    expect(desk.page.locator("[data-class]").first).to_have_class("class active")
    assert not desk.problems


def test_strokes_cover_the_same_pixels_on_the_page_as_on_the_server(desk: Desk) -> None:
    rng = np.random.default_rng(0)
    size = (60, 80)
    strokes = []
    for number in range(60):
        kind = ("brush", "line", "point", "polygon", "erase")[number % 5]
        count = {"line": 2, "point": 1, "polygon": 5}.get(kind, 4)
        points = (rng.random((count, 2)) * [100, 80] - 10).round(2).tolist()
        width = (1, 2, 3.5, 9)[number % 4]
        key = None if kind == "erase" else "ab"[number % 2]
        filled = kind == "polygon" and number % 10 < 5
        strokes.append(
            {"id": str(number), "kind": kind, "class": key, "width": width, "points": points, "filled": filled}
        )
        if number % 6 == 5:
            seen = desk.page.evaluate(
                """async ([strokes, height, width]) => {
                  const { Paint } = await import("/static/raster.js");
                  const paint = new Paint(width, height);
                  for (const one of strokes) paint.stroke(one, one.class ? "ab".indexOf(one.class) + 1 : 0, 1);
                  return [...paint.map];
                }""",
                [strokes, *size],
            )
            label = paint([read_stroke(one) for one in strokes], {"a": 1, "b": 2}, size)
            assert np.array_equal(np.array(seen).reshape(size), np.where(label == 254, 0, label)), kind
            strokes.clear()


def test_keyboard_alone(desk: Desk) -> None:
    page = desk.page
    page.evaluate("document.activeElement.blur()")  # as a page that was just opened
    desk.keys("?")
    expect(page.locator("dialog")).to_contain_text("Pen down, pen up")
    desk.keys("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    desk.keys("c")
    page.keyboard.type("sky")
    desk.keys("Enter", "Escape")
    expect(page.locator("[data-class]")).to_have_count(3)
    desk.keys("3", "b", "ArrowLeft", "Enter", "ArrowUp", "ArrowUp", "ArrowLeft", "Enter")
    desk.rest()
    (stroke,) = desk.strokes()
    assert (stroke["kind"], len(stroke["points"])) == ("brush", 4)
    assert stroke["class"] == desk.get("/api/state")["classes"][2]["key"]
    assert near(desk.pixel("labels", 5, 5), desk.colour(2), 60)
    desk.keys("t")
    assert until(lambda: desk.get("/api/images/a.png/strokes")["tags"] == [stroke["class"]])
    desk.keys("a")
    desk.says("Accepted")
    desk.keys("PageDown")
    page.wait_for_selector('#view[data-image="b.png"]')
    desk.keys("PageUp", "Alt+2")
    page.wait_for_selector('#view[data-image="a.png"]')
    expect(page.locator("#layer-labels")).to_have_attribute("aria-pressed", "false")
    expect(page.locator("#accept")).to_have_attribute("aria-pressed", "true")  # it was accepted, and still is
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    desk.keys("d")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    desk.keys("m")
    expect(page.locator("#train-start")).to_be_visible()
    desk.keys("F2")  # the list of classes comes back
    page.keyboard.type("blue sky")
    desk.keys("Enter")
    expect(page.locator("[data-class]").nth(2)).to_contain_text("blue sky")
    desk.keys("Control+z")
    desk.says("Undone")
    assert not desk.problems


def test_everything_has_a_name_and_a_place_in_the_order_of_tabs(desk: Desk) -> None:
    nameless = """[...document.querySelectorAll("button, input, select, a, [role]")].filter(node =>
      !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.textContent.trim()
        || node.labels?.length)).map(node => node.outerHTML)"""
    assert desk.page.evaluate(nameless) == []
    desk.keys("Tab")
    for _ in range(4):
        desk.keys("Tab")
    ring = desk.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert ring == "solid"


def test_a_reload_in_the_middle_of_a_stroke_loses_nothing(desk: Desk) -> None:
    desk.keys("2")
    desk.drag((100, 20), (90, 50), (90, 70), lift=False)
    desk.page.reload()
    desk.page.wait_for_selector('#view[data-image="a.png"]')
    desk.rest()
    (stroke,) = desk.strokes()
    assert np.allclose(stroke["points"][-1], (90, 70), atol=0.5)
    assert desk.pixel("strokes", 90, 60)[3] == 255
    assert desk.pixel("labels", 100, 80)[3] > 0


def test_a_polygon_waits_for_its_last_corner_over_a_reload(desk: Desk) -> None:
    desk.keys("2", "g")
    for corner in ((70, 10), (110, 10)):
        desk.page.mouse.click(*desk.at(*corner))
    desk.page.reload()
    desk.page.wait_for_selector('#view[data-image="a.png"]')
    desk.page.mouse.click(*desk.at(90, 80))
    desk.keys("Enter")
    desk.rest()
    (stroke,) = desk.strokes()
    assert np.allclose(stroke["points"], [(70, 10), (110, 10), (90, 80)], atol=0.6)
    assert desk.pixel("strokes", 90, 40)[3] == 255


def test_strokes_wait_for_a_server_that_does_not_answer(desk: Desk) -> None:
    page = desk.page
    page.route("**/api/edits", lambda route: route.abort())
    desk.keys("2")
    desk.drag((100, 20), (90, 70))
    desk.drag((110, 20), (115, 70))
    desk.drag((70, 20), (70, 70))
    expect(page.locator("#status-saved")).to_contain_text("Offline: 3 edits kept here")
    desk.keys("Control+z")
    expect(page.locator("#status-saved")).to_contain_text("2 edits")
    assert desk.pixel("strokes", 70, 40)[3] == 0
    page.reload()
    page.wait_for_selector('#view[data-image="a.png"]')
    assert until(lambda: desk.pixel("strokes", 95, 45)[3] == 255)
    assert desk.strokes() == []
    page.unroute("**/api/edits")
    desk.rest()
    assert len(desk.strokes()) == 2
    assert desk.pixel("labels", 100, 80)[3] > 0
    assert page.evaluate("Object.keys(localStorage).filter(name => name.includes('unsent'))") == []


def test_a_refused_edit_holds_up_nothing(desk: Desk) -> None:
    desk.page.evaluate(
        """import("/static/queue.js").then(queue => {
          const stroke = {id: "x", kind: "point", class: "?", width: 1, points: [[1, 1]]};
          queue.push({op: "stroke", image: "gone.png", stroke});
        })"""
    )
    desk.says("Not taken")
    desk.keys("2")
    desk.drag((100, 20), (90, 70))
    desk.rest()
    assert len(desk.strokes()) == 1


def test_two_tabs_keep_the_strokes_of_both(desk: Desk) -> None:
    other = Desk(desk.page.context.new_page(), desk.url).open()
    other.keys("2")
    other.drag((100, 20), (90, 70))
    other.rest()
    desk.says("Another tab drew on this image")
    assert until(lambda: desk.pixel("strokes", 100, 20)[3] == 255)
    desk.keys("1")
    desk.drag((20, 20), (30, 70))
    desk.rest()
    assert until(lambda: other.pixel("strokes", 20, 20)[3] == 255)
    assert len(desk.strokes()) == 2
    assert until(lambda: near(other.pixel("labels", 5, 90), other.colour(0), 60))


@pytest.mark.parametrize("turn", ["another tab", "back and forth"])
def test_an_answer_that_comes_late_takes_no_stroke_away(desk: Desk, turn: str) -> None:
    """The strokes that the server sends can be older than one that was drawn while they were on their way."""
    page, held, edits = desk.page, [], []

    def hold(route: Any) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    def arrived(what: list[Any]) -> bool:
        return until(lambda: page.wait_for_timeout(20) or what)

    desk.keys("2")
    if turn == "another tab":
        other = Desk(page.context.new_page(), desk.url).open()
        page.route("**/a.png/strokes", hold)
        other.drag((20, 20), (30, 70))
        assert arrived(held)
        desk.drag((100, 20), (90, 70))
    else:
        page.route("**/api/edits", lambda route: edits.append(route))
        desk.drag((100, 20), (90, 70))
        assert arrived(edits)
        page.locator('.thumb[title="b.png"]').click()
        page.wait_for_selector('#view[data-image="b.png"]')
        page.route("**/a.png/strokes", hold)
        page.locator('.thumb[title="a.png"]').click()
        assert arrived(held)
        edits[0].continue_()
    page.wait_for_selector("#status-saved[data-state=saved]")
    route, answer = held[0]
    route.fulfill(response=answer)
    page.wait_for_timeout(200)
    desk.rest()
    assert desk.pixel("strokes", 100, 20)[3] == 255
    assert not desk.problems


def test_classes(desk: Desk) -> None:
    page = desk.page
    draw_halves(desk)
    thing = page.locator("[data-class]").nth(1)
    thing.locator("input[type=color]").evaluate(
        "node => { node.value = '#11ee22'; node.dispatchEvent(new Event('change')); }"
    )
    assert until(lambda: near(desk.pixel("labels", 120, 90), (17, 238, 34), 4))
    assert near(desk.pixel("strokes", 100, 20), (17, 238, 34))
    thing.locator(".class-name").dblclick()
    page.keyboard.type("stone")
    desk.keys("Enter")
    desk.rest()
    assert [one["name"] for one in desk.get("/api/state")["classes"]] == ["background", "stone"]
    thing.hover()
    thing.locator(".act-lock").click()
    desk.rest()
    desk.drag((100, 40), (110, 40))
    desk.says("“stone” is locked")
    assert len(desk.strokes()) == 2
    desk.keys("k")
    desk.rest()
    thing.hover()
    thing.locator(".act-delete").click()
    expect(page.locator("dialog")).to_contain_text("1 stroke on 1 image will go with it")
    page.locator("dialog .danger").click()
    expect(page.locator("[data-class]")).to_have_count(1)
    desk.rest()
    assert len(desk.strokes()) == 1
    desk.keys("Control+z")
    expect(page.locator("[data-class]")).to_have_count(2)
    assert until(lambda: desk.pixel("strokes", 100, 20)[3] == 255)
    assert not desk.problems


def test_view(desk: Desk) -> None:
    page = desk.page
    left, top, width, height = desk.frame()
    page.mouse.move(left, top)
    page.mouse.wheel(0, -120)
    assert until(lambda: desk.frame()[2] > 1.1 * width)
    assert desk.frame()[0] == pytest.approx(left, abs=1)  # what lay under the pointer lies there still
    page.mouse.move(left + 50, top + 50)
    page.mouse.down(button="middle")
    page.mouse.move(left + 90, top + 70)
    page.mouse.up(button="middle")
    assert desk.frame()[:2] == pytest.approx((left + 40, top + 20), abs=1)
    page.keyboard.down("Space")
    page.mouse.down()
    page.mouse.move(left + 50, top + 50)
    page.mouse.up()
    page.keyboard.up("Space")
    assert desk.frame()[:2] == pytest.approx((left, top), abs=1)
    assert desk.strokes() == []
    desk.keys("z")
    assert desk.frame() == pytest.approx((left, top, width, height), abs=1)
    for layer in ("margin", "regions", "embedding"):
        assert desk.pixel(layer, 20, 20)[3] == 0
    draw_halves(desk)
    desk.keys("Alt+5", "Alt+6")
    assert until(lambda: desk.pixel("embedding", 20, 20)[3] == 255)
    assert until(lambda: any(desk.pixel("margin", x, 60)[3] > 0 for x in range(40, 90, 2)))  # unsure between the halves
    slider = page.locator('[data-layer="embedding"] input')
    slider.focus()
    desk.keys("Home", "ArrowRight")
    assert page.evaluate("getComputedStyle(document.getElementById('embedding')).opacity") == "0.01"
    page.evaluate("import('/static/state.js').then(({ tell }) => tell('features', { done: 1, total: 4 }))")
    expect(page.locator("#status-features")).to_have_text("features 1 of 4")
    # a broken image is listed as such, and stops nothing
    page.locator('.thumb[title="broken.jpg"]').click()
    expect(page.locator("#notice")).to_contain_text("broken.jpg")
    desk.go("a.png")
    expect(page.locator("#notice")).to_be_hidden()


def test_fingers_and_stylus(desk: Desk) -> None:
    page = desk.page
    tool = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        tool.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    left, top, width, _ = desk.frame()
    one, other = desk.at(50, 48), desk.at(78, 48)
    touch("touchStart", one)
    touch("touchStart", one, other)
    for step in range(1, 6):
        touch("touchMove", (one[0] - 20 * step, one[1]), (other[0] + 20 * step, other[1]))
    touch("touchEnd")
    assert desk.frame()[2] > 1.2 * width
    assert desk.strokes() == []  # what the first finger began is no stroke
    desk.keys("z", "2")
    touch("touchStart", desk.at(100, 20))
    for y in (30, 50, 70):
        touch("touchMove", desk.at(100, y))
    touch("touchEnd")
    desk.rest()
    (stroke,) = desk.strokes()
    assert np.allclose([stroke["points"][0], stroke["points"][-1]], [(100, 20), (100, 70)], atol=0.6)
    for tool_of_the_page in ("b", "g"):
        desk.keys(tool_of_the_page)
        stylus(desk, 32, (95, 30), (105, 30), (115, 30))  # its other end
    stylus(desk, 1, (60, 10), (60, 40), (70, 40), (60, 10))  # around, by hand: a polygon
    desk.rest()
    assert [one["kind"] for one in desk.strokes()] == ["brush", "erase", "erase", "polygon"]
    assert desk.pixel("strokes", 100, 30)[3] == 0
    before = desk.frame()
    touch("touchStart", desk.at(20, 20))
    touch("touchMove", desk.at(40, 40))  # once a stylus was seen, a finger only moves
    touch("touchEnd")
    assert desk.frame()[0] > before[0] and len(desk.strokes()) == 4


def stylus(desk: Desk, buttons: int, *points: tuple[float, float]) -> None:
    """A pen's way over the canvas; `buttons` 1: its tip, 32: its eraser."""
    desk.page.evaluate(
        """([places, buttons]) => {
          const hud = document.getElementById("hud");
          hud.setPointerCapture = () => {};
          places.forEach(([clientX, clientY], place) => {
            const name = place === 0 ? "pointerdown" : "pointermove";
            const button = place === 0 ? (buttons === 32 ? 5 : 0) : -1;
            const more = { bubbles: true, cancelable: true, pointerId: 7, pointerType: "pen" };
            hud.dispatchEvent(new PointerEvent(name, { ...more, clientX, clientY, button, buttons }));
          });
          hud.dispatchEvent(new PointerEvent("pointerup", { bubbles: true, pointerId: 7, pointerType: "pen" }));
        }""",
        [[desk.at(*point) for point in points], buttons],
    )


def test_thousands_of_images_cost_no_more_than_a_few(desk: Desk) -> None:
    def images(route: Any) -> None:
        start = int(route.request.url.split("start=")[1].split("&")[0])
        rows = [
            {
                "name": f"{number}.png",
                "width": 9,
                "height": 9,
                "strokes": 0,
                "tags": [],
                "labels": "none",
                "sure": None,
                "error": "x",
            }
            for number in range(start, start + 100)
        ]
        route.fulfill(json={"total": 5000, "images": rows})

    page = desk.page
    page.route("**/api/images?*", images)
    page.select_option("#order", "sure")
    expect(page.locator("#strip-foot")).to_have_text("5,000 images")
    page.locator("#strip").evaluate("node => { node.scrollTop = 134 * 3000; }")
    page.wait_for_selector('.thumb[title="3000.png"]')
    assert page.locator(".thumb").count() < 40


def test_what_to_label_next(desk: Desk) -> None:
    draw_halves(desk)
    desk.page.select_option("#order", "unlabelled")
    expect(desk.page.locator('.thumb[aria-selected="true"]')).to_have_attribute("title", "a.png")
    desk.keys("Escape", "n")
    desk.says("Next: ")
    assert desk.page.locator("#view").get_attribute("data-image") != "a.png"


def test_out_and_in_again(desk: Desk, tmp_path: Path) -> None:
    page = desk.page
    draw_halves(desk)
    desk.keys("x")
    with page.expect_download() as started:
        page.locator("#export-labelme").click()
    path = tmp_path / "strokes.zip"
    started.value.save_as(path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        names = [name for name in archive.namelist() if name.endswith("a.json")]
        assert len(json.loads(archive.read(names[0]))["shapes"]) == 2
    desk.keys("Escape", "Control+z")
    assert until(lambda: len(desk.strokes()) == 1)
    desk.keys("Control+z")
    assert until(lambda: desk.strokes() == [])
    page.locator("#import-file").set_input_files(path)
    desk.says("is taken in")
    assert until(lambda: len(desk.strokes()) == 2)
    assert until(lambda: desk.pixel("strokes", 100, 20)[3] == 255)


def test_every_key_stands_in_the_docs() -> None:
    root = Path(__file__).resolve().parents[1]
    table = re.findall(r'\["[^"]+", "([^"]+)", ["`]([^"`]+)["`], ', (STATIC / "keys.js").read_text(encoding="utf-8"))
    rows = (root / "docs" / "studio.md").read_text(encoding="utf-8")
    assert len(table) > 35
    for keys, _ in table:
        assert f"`{keys.replace('Mod', 'Ctrl')}`" in rows, keys


def test_every_module_is_asked_for_at_once() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    named = {name for name in re.findall(r'/static/(\w+\.js)"', page)}
    assert named == {path.name for path in STATIC.glob("*.js")}
    assert "style=" not in page and "onclick=" not in page  # the content-security policy would drop them


@pytest.mark.slow
def test_a_tiny_training_to_its_end(desk: Desk) -> None:
    page = desk.page
    draw_halves(desk)
    desk.keys("m")
    page.fill("#set-steps", "4")
    page.select_option("#set-size", "small")
    page.select_option("#set-start", "scratch")
    page.uncheck("#set-crf")
    page.click("#train-start")
    expect(page.locator("#train-stop")).to_be_visible()
    desk.go("b.png")  # drawing goes on meanwhile
    desk.drag((20, 20), (30, 70))
    desk.rest()
    page.reload()
    page.wait_for_selector('#view[data-image="b.png"]')
    desk.keys("m")
    expect(page.locator("#train-stop, #train-show")).to_be_visible()
    expect(page.locator("#train-show")).to_be_visible(timeout=240_000)
    assert page.locator("#train-curve polyline").count() > 0
    page.click("#train-show")
    assert until(lambda: desk.pixel("labels", 60, 40)[3] > 0)
    expect(page.locator("#source [data-from=prediction]")).to_have_attribute("aria-checked", "true")
