"""Hostile requests to the studio's server: no 500, no file outside of the folder, no hang."""

import io
import json
import random
import socket
import struct
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from _served import Served
from PIL import Image

PATIENCE = 20.0  # seconds for an answer
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "get", "A" * 300, "")
PLACES = (
    *("/", "/api/state", "/api/images", "/api/edits", "/api/undo", "/api/redo", "/api/train", "/api/train/stop"),
    *("/api/import", "/api/export", "/api/events", "/api/next", "/api/classes/x/uses", "/static/main.js"),
    *("/api/images/a.png/photo", "/api/images/a.png/labels", "/api/images/a.png/accept", "/api/images/bomb.png/photo"),
    *("/api/images/bomb.png/thumb", "/api/images/half.png/labels", "/api/images/../../secret.txt/photo"),
    *("/static/../../app/server.py", "/static/..%2f..%2fserver.py", "/api/images/%2e%2e%2fsecret.png/photo"),
    *("/api/images/..%5csecret.png/photo", "/api/images/%00/photo", "/api/images//etc/passwd/photo"),
    *("/api/images/way/secret.png/photo", "/api/images/link.png/photo", "/api/train/pictures/..%2f..%2fx"),
    *("//evil", "/%", "/%ff%fe", "*", "http://evil.example/", "/" + "a" * 20_000, "/api/images?start=-1"),
    *("/api/images?count=999999999999", "/api/images?order=%00", "/api/images/a.png/labels?version=99e9&from=x"),
)
HEADERS = (
    *("Host: evil.example", "Host: ", "Host: 127.0.0.1\r\nHost: evil", "Origin: http://evil.example", "Origin: null"),
    *("Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 5\r\nContent-Length: 6"),
    *(
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Range: bytes=0-,0-,0-",
        "If-None-Match: " + '"x",' * 900,
    ),
    *("Cookie: " + "a=b; " * 2_000, "X-Studio: 2", "Sec-Fetch-Site: cross-site", "Expect: 100-continue"),
    *("Content-Type: text/plain", "Accept-Encoding: " + "gzip," * 1000, "X: " + "y" * 70_000, "Upgrade: websocket"),
    *("bad header", ": x", "X-\x00: 1", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA=="),
)


def prepare(folder: Path) -> Path:
    """A folder with good and bad images, links out of it, and a secret beside it."""
    photos = folder / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    Image.fromarray(pixels).save(folder / "secret.png")
    (folder / "secret.txt").write_text("SECRET")
    whole = (photos / "a.png").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "bomb.png").write_bytes(_bomb())
    (photos / "link.png").symlink_to(folder / "secret.png")
    (photos / "way").symlink_to(folder)
    return photos


def _bomb() -> bytes:
    """A PNG of 30,000 x 30,000 grey pixels in a few kilobytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def body(draw: random.Random) -> bytes:
    """Something that is no good request."""
    values: list[Any] = [None, True, -1, 1e308, 2**80, "x" * 300, "\0", "../../secret.txt", [], {}, [[]], "a.png"]
    kinds = ["stroke", "remove", "tags", "class_add", "class_edit", "class_delete", "replace", "x"]
    point = [draw.choice([0, 1e4, -1e5, 1e300, "1", None]) for _ in range(2)]
    line = {"id": draw.choice(values), "kind": draw.choice(["brush", "box", "polygon", "erase", 3]), "width": 900}
    line |= {"class": draw.choice(values), "points": [point] * draw.choice([0, 1, 2, 5, 30_000])}
    edit = {"op": draw.choice(kinds), "image": draw.choice([*values, "a.png", "a.png"]), "stroke": line}
    edit |= {name: draw.choice(values) for name in ("key", "name", "color", "tags", "id", "base", "locked")}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../escaped.txt", "out")
        archive.writestr(f"{tempfile.gettempdir()}/escaped.txt", "out")
        archive.writestr("bomb.json", b"[" * 20_000_000)
    return draw.choice(
        [
            json.dumps({"client": draw.choice(["x", *values]), "edits": [edit] * draw.choice([1, 3])}).encode(),
            json.dumps(draw.choice(values)).encode(),
            json.dumps({"steps": draw.choice(values), "config": draw.choice([["train.x=1"], *values])}).encode(),
            b"[" * 200_000,
            b'{"a":' * 100_000,
            b"\xff\xfe\x00",
            b"",
            b"{" + b" " * 3_000_000,
            packed.getvalue(),
            packed.getvalue()[:200],
            draw.randbytes(5_000),
            b"<!DOCTYPE a [<!ENTITY b 'bb'><!ENTITY c '&b;&b;'>]><annotations>&c;</annotations>",
        ]
    )


def request(draw: random.Random, port: int) -> bytes:
    """The bytes of one."""
    method, place = draw.choice(METHODS[:4] * 3 + METHODS), draw.choice(PLACES)
    content = body(draw) if method not in ("GET", "HEAD") else b""
    lines = [f"{method} {place} {draw.choice(['HTTP/1.1'] * 9 + ['HTTP/9.9', ''])}"]
    headers = [f"Host: 127.0.0.1:{port}", "X-Studio: 1", "Content-Type: application/json"]
    headers.append(f"Content-Length: {len(content) if draw.random() < 0.9 else draw.randrange(10**7)}")
    if draw.random() < 0.5:
        headers[draw.randrange(len(headers)) if draw.random() < 0.5 else len(headers) :] = [draw.choice(HEADERS)]
    text = "\r\n".join([*lines, *headers, "Connection: close", "", ""])
    cut = text[: draw.randrange(len(text))] if draw.random() < 0.05 else text  # some stop in the middle
    return cut.encode("latin-1", "replace") + content


def send(port: int, content: bytes) -> tuple[int | None, bytes]:
    """Status and answer; None where the server closed without one. Raises TimeoutError where it hangs.

    A request that does not say where it ends gets its end from us after two seconds.
    """
    found, end = b"", time.monotonic() + PATIENCE
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        try:
            line.sendall(content)
            while time.monotonic() < end:
                try:
                    part = line.recv(65536)
                except TimeoutError:
                    if found:
                        break  # an answer that goes on, such as events
                    line.shutdown(socket.SHUT_WR)
                    continue
                if not part:
                    break
                found += part
                if len(found) > 1 << 20 or b"text/event-stream" in found:
                    break
            else:
                raise TimeoutError(content[:80])
        except (ConnectionError, BrokenPipeError):
            pass  # refused in the middle
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
    words = found.split(b" ", 2)
    return (int(words[1]) if len(words) > 1 and words[1].isdigit() else None), found


def attack(count: int, seed: int, folder: Path, source: str) -> dict[str, Any]:
    """Send `count` requests; what came back, and what must not have happened."""
    photos, draw = prepare(folder), random.Random(seed)
    outside = _outside(folder, photos)
    statuses: Counter[str] = Counter()
    faults: list[str] = []
    slowest = 0.0
    with Served(photos, "--classes", "background,cow", "--source", source) as served:
        port = int(served.address.rsplit(":", 1)[1])
        for number in range(count):
            content, start = request(draw, port), time.monotonic()
            try:
                status, answer = send(port, content)
            except TimeoutError:
                faults.append(f"request {number}: no answer in {PATIENCE:.0f} s: {content[:100]!r}")
                continue
            slowest = max(slowest, time.monotonic() - start)
            statuses[str(status)] += 1
            if status is not None and status >= 500 and status != 501:
                faults.append(f"request {number}: {status} for {content[:100]!r}: {answer[-200:]!r}")
            if b"SECRET" in answer or b"root:" in answer:
                faults.append(f"request {number}: a file outside came back for {content[:100]!r}")
        if served.get("/api/state").status_code != 200:
            faults.append("the server does not answer any more")
        memory = served.memory()[1]
        if "Traceback" in served.said():
            faults.append(f"a traceback: {served.said()[-600:]}")
    faults += [f"outside: {name}" for name in _outside(folder, photos) ^ outside]
    told = ", ".join(f"{status} {number}" for status, number in sorted(statuses.items()))
    return {
        "requests": count,
        "answers": told,
        "slowest": f"{slowest:.1f} s",
        "memory": f"{memory:.0f} MB",
        "faults": faults,
    }


def _outside(folder: Path, photos: Path) -> set[str]:
    """Files beside the folder, but the server's log."""
    found = {str(path) for path in folder.rglob("*") if not path.is_relative_to(photos) and path.name != "server.log"}
    return found | {str(path) for path in Path(tempfile.gettempdir()).glob("escaped*")}
