"""How the server reads a request and words an answer: JSON in, JSON or a picture out, every mistake one line."""

import json
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from spml.app.guard import Refused
from spml.app.images import Missing
from spml.app.spreading import Outdated
from spml.app.state import BadEdit
from spml.app.strokes import short
from spml.errors import UserError


def answer(call: Callable[..., Any], body: bool = False) -> Callable[..., Any]:
    """An endpoint that runs `call` in a thread and turns mistakes into one line of JSON.

    Args:
        body: the request brings a JSON object, the second argument.
    """

    async def endpoint(request: Request) -> Response:
        """Answer a request by `call`, in a thread."""
        try:
            arguments = [await _json(request)] if body else []
            found = await run_in_threadpool(call, request, *arguments)
        except UserError as error:
            return told(error)
        except ClientDisconnect:
            return Response(status_code=400)
        return found if isinstance(found, Response) else JSONResponse(found, headers={"Cache-Control": "no-store"})

    return endpoint


def told(error: UserError) -> Response:
    """One line of JSON, and the status that fits."""
    status = {Missing: 404, Outdated: 409}.get(type(error), 400)
    place = {"index": error.index} if isinstance(error, BadEdit) else {}
    return JSONResponse({"error": str(error), **place}, error.status if isinstance(error, Refused) else status)


async def _json(request: Request) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, f"Content-Type: expected application/json, got {short(kind)}")
    content = await request.body()
    try:
        found = json.loads(content or b"{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise UserError(f"expected a JSON object, got {short(found)}")
    return found


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number")


def png(pixels: np.ndarray) -> bytes:
    """A PNG of (h, w) or (h, w, 3) uint8 RGB, quickly made."""
    pixels = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    done, content = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done
    return content.tobytes()


def has(request: Request, tag: str) -> bool:
    """Whether the browser holds this already."""
    return f'"{tag}"' in request.headers.get("if-none-match", "")


def number(request: Request, name: str, default: int, most: int) -> int:
    """A whole number of the address. Raises UserError."""
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise UserError(f"{name}: expected a whole number up to {most}, got {short(text)}")
    return int(text)


def flag(request: Request, name: str, default: bool) -> bool:
    """A 0 or 1 of the address. Raises UserError."""
    text = request.query_params.get(name, str(int(default)))
    if text not in ("0", "1"):
        raise UserError(f"{name}: expected 0 or 1, got {short(text)}")
    return text == "1"


def is_on(content: dict[str, Any], name: str, default: bool) -> bool:
    """A truth of a JSON object. Raises UserError."""
    value = content.get(name, default)
    if value not in (True, False):
        raise UserError(f"{name}: expected true or false, got {short(value)}")
    return bool(value)


def refusal(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: an unknown address, a method."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, headers=error.headers)


def bug(request: Request, error: Exception) -> Response:
    """What should not happen; the log has the traceback."""
    return JSONResponse({"error": f"a mistake of the studio: {type(error).__name__}"}, 500)
