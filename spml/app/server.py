"""The web server of the studio: what each address answers."""

import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from spml.app.answers import answer, bug, flag, has, is_on, number, png, refusal, told
from spml.app.events import Hub
from spml.app.exchange import export_archive, import_file
from spml.app.guard import Guard, Refused
from spml.app.images import PHOTO_SIDE, THUMB_SIDE
from spml.app.strokes import short
from spml.app.studio import Studio
from spml.errors import UserError
from spml.records import hash_array, hash_json

STATIC = Path(__file__).resolve().parent / "static"
MAX_COUNT = 2_000  # images in one answer


def build_app(studio: Studio, hub: Hub, host: str = "127.0.0.1", token: str | None = None) -> Guard:
    """The application of a studio; it starts the studio's work, and ends it."""

    @asynccontextmanager
    async def life(app: Starlette) -> Any:
        """Start the work of the studio with the server, and end it with it."""
        hub.bind()
        await run_in_threadpool(studio.start)
        hub.publish("features", studio.spreading.progress)
        hub.publish("train", studio.training.state())
        yield
        hub.close()
        await run_in_threadpool(studio.close)

    pages = Pages(studio, hub)
    app = Starlette(routes=pages.routes(), lifespan=life, exception_handlers={Exception: bug, HTTPException: refusal})
    return Guard(app, host, token)


class _Static(StaticFiles):
    """The page's own files, asked for again each time, so that an update is seen."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        found = super().file_response(*args, **kwargs)
        found.headers["Cache-Control"] = "no-cache"
        return found


class Pages:
    """The addresses, each a method; those without `async` run in a thread."""

    def __init__(self, studio: Studio, hub: Hub) -> None:
        self.studio, self.hub = studio, hub

    def routes(self) -> list[Route | Mount]:
        """The table of addresses."""
        image = "/api/images/{name:path}"
        table: dict[str, tuple[str, Callable[..., Any]]] = {
            "/": ("GET", self.index),
            "/api/state": ("GET", self.state),
            "/api/images": ("GET", self.images),
            f"{image}/photo": ("GET", self.photo),
            f"{image}/thumb": ("GET", self.thumb),
            f"{image}/strokes": ("GET", self.strokes),
            f"{image}/labels": ("GET", self.labels),
            f"{image}/margin": ("GET", self.margin),
            f"{image}/regions": ("GET", self.regions),
            f"{image}/embedding": ("GET", self.embedding),
            "/api/classes/{key}/uses": ("GET", self.uses),
            "/api/next": ("GET", self.next),
            "/api/export": ("GET", self.export),
            "/api/train/pictures/{name}": ("GET", self.picture),
        }
        routes: list[Route | Mount] = [Route(path, answer(call), methods=[way]) for path, (way, call) in table.items()]
        posts = {
            "/api/edits": self.edits,
            "/api/undo": self.undo,
            "/api/redo": self.redo,
            "/api/train/stop": self.stop,
        }
        routes += [Route(path, answer(call, body=True), methods=["POST"]) for path, call in posts.items()]
        routes.append(Route(f"{image}/accept", answer(self.accept, body=True), methods=["POST"]))
        routes.append(Route(f"{image}/accept", answer(self.take_back), methods=["DELETE"]))
        routes.append(Route("/api/train", answer(self.train, body=True), methods=["POST"]))
        routes.append(Route("/api/train", answer(self.training), methods=["GET"]))
        routes.append(Route("/api/import", self.take_in, methods=["POST"]))
        routes.append(Route("/api/events", self.events, methods=["GET"]))
        routes.append(Mount("/static", _Static(directory=STATIC, check_dir=False)))
        return routes

    def index(self, request: Request) -> Response:
        """The page."""
        path = STATIC / "index.html"
        if not path.is_file():
            raise Refused(404, "the page is not installed")
        return Response(path.read_bytes(), media_type="text/html", headers={"Cache-Control": "no-cache"})

    def state(self, request: Request) -> Any:
        """The overview of the folder: classes, counts, what is going on."""
        return self.studio.overview()

    def images(self, request: Request) -> Any:
        """A part of the list of images, in an order: `start`, `count`, `order`, `find`."""
        start, count = number(request, "start", 0, 10**9), number(request, "count", 200, MAX_COUNT)
        order = request.query_params.get("order", "name")
        if order not in ("name", "sure", "unlabelled"):
            raise UserError(f"order: expected name, sure or unlabelled, got {short(order)}")
        return self.studio.listing(start, count, order, request.query_params.get("find"))

    # one image

    def photo(self, request: Request) -> Response:
        """The photograph, at the size at which it is drawn on."""
        return self._picture(request, PHOTO_SIDE)

    def thumb(self, request: Request) -> Response:
        """The photograph, small."""
        return self._picture(request, THUMB_SIDE)

    def _picture(self, request: Request, side: int) -> Response:
        images, name = self.studio.images, request.path_params["name"]
        entry = images.entry(name)
        tag = hash_json([entry.name, entry.stamp, side])
        headers = {"Cache-Control": "private, max-age=0, must-revalidate", "ETag": f'"{tag}"'}
        headers["X-Scale"] = f"{images.photo_size(name)[1] / images.size(name)[1]:.9g}"
        if has(request, tag):
            return Response(status_code=304, headers=headers)
        content, kind = images.picture(name, side, self.studio.home / "pictures")
        return Response(content, media_type=kind, headers=headers)

    def strokes(self, request: Request) -> Any:
        """The strokes and tags of an image, its version, and its size."""
        name = request.path_params["name"]
        with self.studio.store.lock:
            drawing, version = self.studio.store.state.drawing(name), self.studio.store.version(name)
        height, width = self.studio.images.size(name)
        strokes = [stroke.as_json() for stroke in drawing.strokes]
        known = {"version": version, "labels": self.studio.labelled(name), "width": width, "height": height}
        return {**known, "strokes": strokes, "tags": list(drawing.tags)}

    def labels(self, request: Request) -> Response:
        return self._layer(request, lambda found: found.label)

    def margin(self, request: Request) -> Response:
        return self._layer(request, lambda found: np.rint(255 * found.margin.clip(0, 1)).astype(np.uint8))

    def _layer(self, request: Request, layer: Callable[[Any], np.ndarray]) -> Response:
        start, name = time.perf_counter(), request.path_params["name"]
        version = number(request, "version", 0, 1 << 60) if "version" in request.query_params else None
        now = self.studio.store.version(name)
        source = request.query_params.get("from", "spread")
        found = self.studio.labels(name, source, flag(request, "others", True), flag(request, "crf", False), version)
        headers = {"Cache-Control": "private, no-cache", "X-Version": str(now)}
        if found is None:
            return Response(status_code=204, headers=headers)
        pixels = layer(found)
        tag = hash_array(pixels)
        headers |= {"ETag": f'"{tag}"', "X-Sure": f"{found.sure:.4f}"}
        content = b"" if has(request, tag) else png(pixels)
        headers["X-Ms"] = f"{1000 * (time.perf_counter() - start):.0f}"
        if not content:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/png", headers=headers)

    def regions(self, request: Request) -> Response:
        label = self.studio.regions(request.path_params["name"]).astype(np.int64)
        return Response(
            png(np.stack([label % 256, label // 256, 0 * label], -1).astype(np.uint8)), media_type="image/png"
        )

    def embedding(self, request: Request) -> Response:
        return Response(png(self.studio.spreading.embedding(request.path_params["name"])), media_type="image/png")

    def accept(self, request: Request, content: Any) -> Any:
        name = request.path_params["name"]
        self.studio.images.entry(name)
        source = content.get("from", "spread")
        self.studio.accept(name, source, is_on(content, "others", True), is_on(content, "crf", False))
        return {"labels": "accepted"}

    def take_back(self, request: Request) -> Any:
        self.studio.take_back(request.path_params["name"])
        return {"labels": "none"}

    # edits

    def edits(self, request: Request, content: Any) -> Any:
        change = self.studio.edit(content.get("client"), content.get("edits"), content.get("seq"))
        return self.studio.change_of(change)

    def undo(self, request: Request, content: Any) -> Any:
        return self.studio.change_of(self.studio.undo(content.get("client")))

    def redo(self, request: Request, content: Any) -> Any:
        return self.studio.change_of(self.studio.redo(content.get("client")))

    def uses(self, request: Request) -> Any:
        strokes, images = self.studio.store.state.uses(request.path_params["key"])
        return {"strokes": strokes, "images": images}

    def next(self, request: Request) -> Any:
        return self.studio.suggest()

    # training

    def train(self, request: Request, content: Any) -> Any:
        return self.studio.training.begin(content)

    def training(self, request: Request) -> Any:
        return self.studio.training.state()

    def stop(self, request: Request, content: Any) -> Any:
        return self.studio.training.stop()

    def picture(self, request: Request) -> Response:
        """A picture of the training, as PNG."""
        content = self.studio.training.picture(request.path_params["name"])
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    # in and out

    async def take_in(self, request: Request) -> Response:
        """Import a file that the page sends."""
        form, name = request.query_params.get("format", "auto"), request.query_params.get("name", "")
        try:
            content = await request.body()
            return JSONResponse(await run_in_threadpool(import_file, self.studio, content, form, name))
        except UserError as error:
            return told(error)
        except ClientDisconnect:
            return Response(status_code=400)

    def export(self, request: Request) -> Response:
        """The labels of the folder, as a zip in a format."""
        form = request.query_params.get("format", "folder")
        path = export_archive(self.studio, form, flag(request, "images", False))
        name = f"{self.studio.images.folder.name}-{form}.zip".encode("ascii", "replace").decode().replace('"', "_")
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return FileResponse(path, media_type="application/zip", headers=headers, background=BackgroundTask(path.unlink))

    async def events(self, request: Request) -> Response:
        """Server-sent events."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self.hub.listen(), media_type="text/event-stream", headers=headers)
