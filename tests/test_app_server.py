"""Every address of the studio, through Starlette's client: what it answers, and whom it refuses."""

import io
import json
import random
import threading
import time
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from spml.app.events import Hub
from spml.app.guard import check_address
from spml.app.labels import write_label
from spml.app.server import build_app
from spml.app.state import Class
from spml.app.studio import Studio
from spml.config import load_config
from spml.errors import UserError
from spml.inference.model import Model
from spml.models import build_embedding_model

SIZE = (48, 64)


@pytest.fixture(scope="module")
def source() -> Model:
    """A tiny network with random weights: its features still tell two colours apart."""
    torch.manual_seed(0)
    config = load_config(
        None, ["network.backbone_types=panoptic_deeplab_tiny", "network.embedding_dim=8", "dataset.num_classes=2"]
    )
    return Model(config, build_embedding_model(config), None, torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, the left half red, the right half blue, a little noise; and one that is none."""
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "deep/c.png"):
        pixels = np.full((*SIZE, 3), (200, 40, 40), np.int64)
        pixels[:, 32:] = (40, 40, 200)
        pixels += rng.integers(-20, 20, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"no image")
    return root


class Page:
    """A page of the studio, and what it sends."""

    def __init__(self, client: TestClient, name: str = "page") -> None:
        self.client, self.name = client, name

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def post(self, path: str, content: Any = None, **more: Any) -> Any:
        return self.client.post(path, json={"client": self.name} if content is None else content, **more)

    def edit(self, *edits: dict, **more: Any) -> Any:
        return self.post("/api/edits", {"client": self.name, "edits": list(edits), **more})

    def draw(self, key: str, x: float, image: str = "a.png", **more: Any) -> Any:
        one = {"id": uuid.uuid4().hex, "kind": "line", "class": key, "width": 4, "points": [[x, 4], [x, 44]]}
        return self.edit({"op": "stroke", "image": image, "stroke": {**one, "filled": False}, **more})


@contextmanager
def served(folder: Path, source: Model) -> Iterator[Page]:
    """A server's life, and a page of it."""
    hub = Hub()
    studio = Studio(folder, source, ["red", "blue"], hub.publish)
    with TestClient(build_app(studio, hub), base_url="http://127.0.0.1:8008", headers={"X-Studio": "1"}) as client:
        yield Page(client)


@pytest.fixture
def page(folder: Path, source: Model) -> Iterator[Page]:
    with served(folder, source) as found:
        yield found


@pytest.fixture
def keys(page: Page) -> dict[str, str]:
    return {one["name"]: one["key"] for one in page.get("/api/state").json()["classes"]}


def pixels(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)))


# what the page does


def test_three_strokes_label_the_image_and_the_next(page: Page, keys: dict[str, str]) -> None:
    assert page.get("/api/images/a.png/labels").status_code == 204
    page.draw(keys["red"], 10)
    answer = page.draw(keys["blue"], 50).json()
    label = page.get("/api/images/a.png/labels", params={"version": answer["versions"]["a.png"]})
    assert label.headers["X-Version"] == str(answer["seq"]) and 0 < float(label.headers["X-Sure"]) <= 1
    found = pixels(label)
    assert found.shape == SIZE and (found[:, :24] == 0).mean() > 0.9 and (found[:, 40:] == 1).mean() > 0.9
    other = pixels(page.get("/api/images/deep/c.png/labels"))
    assert (other[:, :24] == 0).mean() > 0.9 and (other[:, 40:] == 1).mean() > 0.9
    assert page.get("/api/images/deep/c.png/labels?others=0").status_code == 204
    refined = pixels(page.get("/api/images/a.png/labels?crf=1"))
    assert (refined[:, :30] == 0).all() and (refined[:, 34:] == 1).all()
    margin = pixels(page.get("/api/images/a.png/margin"))
    assert margin.shape == SIZE and margin[20, 10] == 255
    assert page.get("/api/next").json()["name"] in ("b.png", "deep/c.png")


def test_labels_are_sent_once(page: Page, keys: dict[str, str]) -> None:
    page.draw(keys["red"], 10)
    first = page.get("/api/images/a.png/labels")
    again = page.get("/api/images/a.png/labels", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 and not again.content
    page.draw(keys["blue"], 50)
    other = page.get("/api/images/a.png/labels", headers={"If-None-Match": first.headers["ETag"]})
    assert other.status_code == 200 and other.headers["ETag"] != first.headers["ETag"]


def test_a_request_for_an_older_version_gives_up(page: Page, keys: dict[str, str]) -> None:
    first = page.draw(keys["red"], 10).json()
    page.draw(keys["blue"], 50)
    answer = page.get("/api/images/a.png/labels", params={"version": first["seq"]})
    assert answer.status_code == 409 and "version" in answer.json()["error"]


def test_a_box_keeps_its_class_inside(page: Page, keys: dict[str, str]) -> None:
    page.draw(keys["red"], 10)
    box = {"id": "box", "kind": "box", "class": keys["blue"], "width": 1, "points": [[40, 8], [60, 30]]}
    page.edit({"op": "stroke", "image": "a.png", "stroke": box})
    found = pixels(page.get("/api/images/a.png/labels"))
    outside = np.ones(SIZE, bool)
    outside[8:30, 40:60] = False
    assert (found[outside] == 0).all() and (found[14:24, 46:54] == 1).all()


def test_accepted_labels_and_a_locked_class(page: Page, keys: dict[str, str], folder: Path) -> None:
    page.draw(keys["red"], 10)
    page.draw(keys["blue"], 50)
    first = pixels(page.get("/api/images/a.png/labels"))
    assert page.post("/api/images/a.png/accept", {"others": True, "crf": False}).status_code == 200
    rows = {row["name"]: row for row in page.get("/api/images").json()["images"]}
    assert rows["a.png"]["labels"] == "accepted" and rows["b.png"]["labels"] == "none"
    assert (np.array(Image.open(folder / "labels" / "a.png")) == first).all()
    assert (pixels(page.get("/api/images/a.png/labels?from=accepted")) == first).all()
    page.edit({"op": "class_edit", "key": keys["blue"], "locked": True})
    page.draw(keys["red"], 58)
    kept = pixels(page.get("/api/images/a.png/labels"))
    assert (kept[:, 36:55] == first[:, 36:55]).all() and (kept[10:40, 57:59] == 0).all()
    assert page.client.delete("/api/images/a.png/accept").status_code == 200
    assert not (folder / "labels" / "a.png").exists()
    assert page.get("/api/images/a.png/labels?from=accepted").status_code == 204


def test_strokes_correct_what_the_model_says(page: Page, keys: dict[str, str], folder: Path) -> None:
    """A finished run that took all of every image for blue."""
    run, known = folder / "runs" / "1", page.get("/api/state").json()["classes"]
    classes = [Class(one["key"], one["name"], one["color"], one["locked"]) for one in known]
    for stem in ("a", "b"):
        write_label(run / "predictions" / f"{stem}.png", np.ones(SIZE, np.uint8), classes)
        (run / "margins").mkdir(exist_ok=True)
        Image.fromarray(np.full(SIZE, 200, np.uint8)).save(run / "margins" / f"{stem}.png")
    (run / "sure.json").write_text(json.dumps({"a.png": 0.8, "b.png": 0.7}))
    (run / "job.json").write_text("{}")
    model = "/api/images/a.png/labels?from=prediction"
    assert (pixels(page.get(model)) == 1).all()
    page.draw(keys["blue"], 50)
    page.draw(keys["red"], 10)
    page.draw(keys["red"], 10, "b.png")
    found = pixels(page.get(model))
    assert (found[:, :24] == 0).mean() > 0.9 and (found[:, 40:] == 1).mean() > 0.9
    assert page.post("/api/images/a.png/accept", {"from": "prediction"}).status_code == 200
    assert (pixels(page.get("/api/images/a.png/labels?from=accepted")) == found).mean() > 0.98
    page.post("/api/undo")
    page.post("/api/undo")
    assert (pixels(page.get(model))[:, 40:] == 1).all()
    rows = {row["name"]: row for row in page.get("/api/images?order=sure").json()["images"]}
    assert rows["b.png"]["labels"] == "predicted" and rows["b.png"]["sure"] == 0.7
    assert page.get("/api/images/deep/c.png/labels?from=prediction").status_code == 204


def test_a_bad_edit_is_named_by_its_place(page: Page, keys: dict[str, str]) -> None:
    good = {"op": "tags", "image": "a.png", "tags": [keys["red"]]}
    answer = page.edit(good, {**good, "image": "nothing.png"}, good)
    assert answer.status_code == 400 and answer.json()["index"] == 1
    assert page.get("/api/images/a.png/strokes").json()["tags"] == []


def test_a_copy_of_an_image_gets_its_labels(page: Page, keys: dict[str, str], folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    page.draw(keys["red"], 10)
    page.draw(keys["blue"], 50)
    time.sleep(2.1)  # the folder is listed anew after two seconds
    assert page.get("/api/images?find=copy.png").json()["index"] == 3
    found = pixels(page.get("/api/images/copy.png/labels"))
    assert (found == pixels(page.get("/api/images/a.png/labels"))).all()


def test_undo_redo_and_classes(page: Page, keys: dict[str, str]) -> None:
    page.draw(keys["red"], 10)
    assert page.get(f"/api/classes/{keys['red']}/uses").json() == {"strokes": 1, "images": 1}
    deleted = page.edit({"op": "class_delete", "key": keys["red"]}).json()
    assert deleted["classes"] and deleted["changed"] == ["a.png"]
    assert page.get("/api/images/a.png/strokes").json()["strokes"] == []
    undone = page.post("/api/undo").json()
    assert undone["what"] == "class red deleted" and undone["changed"] == ["a.png"] and undone["redo"] == 1
    strokes = page.get("/api/images/a.png/strokes").json()
    assert (strokes["width"], strokes["height"], len(strokes["strokes"])) == (64, 48, 1)
    assert page.post("/api/redo").json()["classes"]
    assert page.post("/api/redo").status_code == 400


def test_two_pages(page: Page, keys: dict[str, str]) -> None:
    other = Page(page.client, "other")
    first = page.draw(keys["red"], 10, base=0).json()
    second = other.draw(keys["blue"], 50, base=0).json()
    assert first["others"] == [] and second["others"] == ["a.png"]
    assert len(page.get("/api/images/a.png/strokes").json()["strokes"]) == 2


def test_two_pages_at_the_same_time_lose_nothing(page: Page, keys: dict[str, str]) -> None:
    def work(name: str) -> None:
        for number in range(10):
            assert Page(page.client, name).draw(keys["red"], 5 + number).status_code == 200

    threads = [threading.Thread(target=work, args=(f"page {number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(page.get("/api/images/a.png/strokes").json()["strokes"]) == 30


def test_a_new_server_knows_everything(folder: Path, source: Model) -> None:
    with served(folder, source) as page:
        keys = {one["name"]: one["key"] for one in page.get("/api/state").json()["classes"]}
        page.draw(keys["red"], 10)
        page.draw(keys["blue"], 50)
        found = pixels(page.get("/api/images/a.png/labels"))
        with pytest.raises(UserError, match="another studio has this folder open"):
            Studio(folder, source)
    with served(folder, source) as page:
        assert (pixels(page.get("/api/images/a.png/labels")) == found).all()
        assert page.get("/api/state").json()["undo"] == 2
        assert page.post("/api/undo").json()["undo"] == 1


def test_pictures_and_layers(page: Page, folder: Path) -> None:
    photo = page.get("/api/images/a.png/photo")
    assert photo.headers["X-Scale"] == "1" and photo.headers["Content-Type"] == "image/png"
    assert (pixels(photo) == np.array(Image.open(folder / "a.png"))).all()
    again = page.get("/api/images/a.png/photo", headers={"If-None-Match": photo.headers["ETag"]})
    assert again.status_code == 304
    assert pixels(page.get("/api/images/deep/c.png/thumb")).shape == (*SIZE, 3)
    assert pixels(page.get("/api/images/a.png/embedding")).shape == (*SIZE, 3)


def test_regions(page: Page) -> None:
    pytest.importorskip("skimage")
    found = pixels(page.get("/api/images/a.png/regions"))
    number = found[..., 0] + 256 * found[..., 1].astype(int)
    assert number.shape == SIZE and number[24, 5] != number[24, 60]


def test_the_list_and_its_orders(page: Page, keys: dict[str, str]) -> None:
    listed = page.get("/api/images").json()
    assert [one["name"] for one in listed["images"]] == ["a.png", "b.png", "broken.jpg", "deep/c.png"]
    assert listed["images"][2]["error"].startswith("cannot read image broken.jpg")
    assert (listed["images"][0]["width"], listed["images"][0]["height"]) == (64, 48)
    page.edit({"op": "tags", "image": "a.png", "tags": [keys["red"]]})
    assert page.get("/api/images?start=0&count=1").json()["images"][0]["tags"] == [keys["red"]]
    page.draw(keys["red"], 10)
    page.get("/api/images/b.png/labels")
    assert page.get("/api/images?order=sure").json()["images"][0]["name"] == "b.png"
    assert page.get("/api/images?order=unlabelled").json()["images"][-1]["name"] == "a.png"
    assert page.get("/api/images?start=90").json()["images"] == []
    assert page.get("/api/images/broken.jpg/photo").status_code == 400
    assert page.get("/api/images/nothing.jpg/photo").status_code == 404


def test_features_come_ahead_of_the_user(page: Page) -> None:
    end = time.monotonic() + 30
    while page.get("/api/state").json()["features"] != {"done": 4, "total": 4}:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_folder_goes_out_as_a_zip(page: Page, keys: dict[str, str], folder: Path) -> None:
    page.draw(keys["red"], 10)
    answer = page.get("/api/export?format=folder")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="photos-folder.zip"'
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert not list((folder / ".studio").glob("*.zip"))
    assert {"strokes/a.json", "weak/a.png", "lists/scribble.txt", "classes.txt"} <= set(names)
    assert page.get("/api/export?format=word").status_code == 400


def test_training_that_cannot_begin(page: Page, keys: dict[str, str]) -> None:
    assert page.get("/api/train").json()["state"] == "idle"
    page.draw(keys["red"], 10)
    for content, message in (
        ({}, "strokes of at least 2 classes"),
        ({"steps": 0}, "steps"),
        ({"minutes": -1}, "minutes"),
        ({"size": "huge"}, "size"),
        ({"size": ["small"]}, "size"),
        ({"config": ["dataset.data_dir=/"]}, "config"),
        ({"config": ["train.base_rl=1"]}, "base_rl"),
        ({"speed": 1}, "speed"),
        ({"resume": True}, "nothing to go on"),
    ):
        answer = page.post("/api/train", content)
        assert answer.status_code == 400 and message in answer.json()["error"], answer.text
    assert page.get("/api/train").json()["state"] == "idle"
    assert page.post("/api/train/stop").json()["state"] == "idle"


def test_events_reach_every_page() -> None:
    import asyncio

    async def listen() -> list[str]:
        hub = Hub()
        hub.bind()
        hub.publish("features", {"done": 1})
        await asyncio.sleep(0)  # sent before there is a page
        pages = [hub.listen(), hub.listen()]
        found = [await anext(one) for one in pages]
        threading.Thread(target=hub.publish, args=("changed", {"seq": 3})).start()
        found += [await anext(one) for one in pages]
        hub.close()
        assert [text async for text in pages[0]] == [] and hub.pages != set()
        return found

    found = asyncio.run(listen())
    assert all("event: features" in text for text in found[:2])
    assert found[2:] == ['event: changed\ndata: {"seq": 3}\n\n'] * 2


# whom it refuses


def test_headers_of_every_answer(page: Page) -> None:
    for path in ("/api/state", "/api/images/nothing/photo", "/nowhere", "/static/nothing.js"):
        headers = page.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "evil@127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:x"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:8008"}, 200),
        ({"Host": "[::1]:8008"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:9"}, 403),
        ({"Origin": "http://127.0.0.1:8008"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_pages_are_refused(page: Page, headers: dict[str, str], status: int) -> None:
    answer = page.get("/api/state", headers=headers)
    assert answer.status_code == status
    if status != 200:
        assert list(answer.json()) == ["error"]


def test_posts_need_the_header_and_json(page: Page) -> None:
    assert page.post("/api/undo", headers={"X-Studio": ""}).status_code == 403
    assert page.client.delete("/api/images/a.png/accept", headers={"X-Studio": "0"}).status_code == 403
    form = page.client.post("/api/undo", content=b"client=x", headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    assert page.client.post("/api/undo", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    large = page.client.post("/api/edits", content=b" " * 9_000_000, headers={"Content-Type": "application/json"})
    assert large.status_code == 413
    assert page.get(f"/api/images?order={'x' * 9000}").status_code == 414


def test_a_body_without_length_is_cut_off(page: Page) -> None:
    def stream() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 1_000_000

    answer = page.client.post("/api/edits", content=stream(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.png", "..%2fsecret.png", "%2e%2e/secret.png", "deep/../../secret.png", "/etc/passwd", "a.png%00"),
        *("..\\secret.png", "C:/secret.png", ".studio/journal", "a.png/", "%ff", "deep", "", "strokes/a.json"),
    ],
)
def test_nothing_outside_of_the_folder(page: Page, folder: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(folder.parent / "secret.png")
    for what in ("photo", "thumb", "strokes", "labels", "regions", "embedding"):
        answer = page.get(f"/api/images/{name}/{what}")
        assert answer.status_code in (307, 404), (what, answer.status_code)


def test_static_files_stay_in_their_folder(page: Page) -> None:
    for name in ("../server.py", "..%2fserver.py", "%2e%2e/server.py", "/etc/passwd", "....//server.py"):
        assert page.get(f"/static/{name}").status_code == 404


def test_another_address_needs_the_token(folder: Path, source: Model) -> None:
    with pytest.raises(UserError, match="expected --token"):
        check_address("0.0.0.0", None)
    with pytest.raises(UserError, match="at least 8"):
        check_address("0.0.0.0", "short")
    check_address("127.0.0.1", None)
    token, hub = "longenough1", Hub()
    app = build_app(Studio(folder, source), hub, "0.0.0.0", token)
    with TestClient(
        app, base_url="http://my.machine:8008", headers={"X-Studio": "1"}, follow_redirects=False
    ) as client:
        assert client.get("/api/state").status_code == 403
        assert client.get("/?token=wrongtoken").status_code == 403
        assert client.get(f"/api/state?token={token}").status_code == 403  # in the page's address alone
        entry = client.get(f"/?token={token}")
        assert entry.status_code == 303 and entry.headers["Location"] == "/"
        assert "HttpOnly" in entry.headers["Set-Cookie"] and "SameSite=Strict" in entry.headers["Set-Cookie"]
        assert client.get("/api/state").status_code == 200
        assert client.get("/api/state", headers={"Cookie": "spml_studio=x"}).status_code == 403


def test_hostile_requests_get_no_500(page: Page, keys: dict[str, str]) -> None:
    """A sample of what benchmarks/studio.py --hostile sends."""
    draw = random.Random(0)
    values = [None, True, -1, 1e308, "x" * 200, "\0", [], {}, [[]], {"op": "stroke"}, "a.png", keys["red"], 2**70]
    ops = ["stroke", "remove", "tags", "class_add", "class_edit", "class_delete", "replace", "nothing"]
    paths = ["/api/edits", "/api/undo", "/api/redo", "/api/train/stop", "/api/images/a.png/accept", "/api/train"]
    fields = ["op", "image", "stroke", "id", "key", "name", "color", "tags", "base", "locked"]
    for _ in range(150):
        edit = {name: draw.choice(values) for name in draw.sample(fields, 4)} | {"op": draw.choice(ops)}
        content = {"client": draw.choice(["x", *values]), "edits": [edit], "seq": draw.choice(values)}
        answer = page.post(draw.choice(paths), content)
        assert answer.status_code < 500, (content, answer.text)
        query = {name: str(draw.choice(values)) for name in ("start", "count", "order", "others", "version", "from")}
        answer = page.get(draw.choice(["/api/images", "/api/images/a.png/labels", "/api/export"]), params=query)
        assert answer.status_code < 500, (query, answer.text)
    for body in (b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"null", b"NaN", b'{"client": NaN}', b'"' + b"x" * 99):
        answer = page.client.post("/api/edits", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, body[:20]
    assert json.loads(page.get("/api/state").text)["seq"] >= 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "expected a folder of images"),
        ([".", "--host", "0.0.0.0"], "expected --token"),
        ([".", "--host", "0.0.0.0", "--token", "a b"], "letters and digits"),
        ([".", "--port", "70000"], "--port: expected 0 to 65535"),
        ([".", "--classes", "cow,c\tow"], "printable"),
    ],
)
def test_the_command_says_what_is_wrong(
    folder: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spml.cli.main import main

    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=message):
        main(["studio", "--no-browser", *words])
