"""Who may ask: this machine's own browser, or who has the token. Everything is checked before any work."""

import hmac
import json
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from spml.errors import UserError

LOCAL = ("127.0.0.1", "localhost", "::1")
COOKIE = "spml_studio"
MAX_BODY = 8_000_000  # bytes of a request
MAX_IMPORT = 256_000_000
MAX_URL = 8_000
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class Refused(UserError):
    """A request that is not answered. `status`: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def check_address(host: str, token: str | None) -> None:
    """Raise UserError for an address that others reach, without a token."""
    if host not in LOCAL and not token:
        raise UserError(f"--host {host}: others reach this address: expected --token, a secret word, beside it")
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isalnum()):
        raise UserError("--token: expected at least 8 letters and digits")


class Guard:
    """An ASGI application around another that lets only good requests through, and adds headers to all answers.

    Args:
        app: the application.
        host: the address that the server listens on.
        token: a secret word that every request needs; None: none.
    """

    def __init__(self, app: Any, host: str = "127.0.0.1", token: str | None = None) -> None:
        self.app, self.host, self.token = app, host, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no other way in
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = _headers(scope["headers"])
        started = False

        async def answer(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        try:
            self._check(scope, headers)
            if self.token is not None and self._asks_for_cookie(scope):
                await _send(answer, 303, b"", [(b"location", b"/"), (b"set-cookie", self._cookie())])
                return
            await self.app(scope, _limited(receive, _limit(scope)), answer)
        except Refused as error:
            if started:
                raise
            content = json.dumps({"error": str(error)}).encode()
            closing = [(b"connection", b"close")] if error.status == 413 else []
            await _send(answer, error.status, content, [(b"content-type", b"application/json"), *closing])

    def _check(self, scope: Any, headers: dict[str, list[str]]) -> None:
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_URL:
            raise Refused(414, f"expected an address of at most {MAX_URL} characters")
        hosts, origins = headers.get("host", []), headers.get("origin", [])
        if len(hosts) != 1 or not self._is_host(hosts[0]):
            raise Refused(403, "Host: expected the address of this server")
        if origins and (len(origins) > 1 or urlsplit_or_none(origins[0]) != hosts[0].lower()):
            raise Refused(403, "Origin: expected the address of this server")
        if headers.get("sec-fetch-site", ["none"])[0] not in ("same-origin", "none") and not _is_entry(scope):
            raise Refused(403, "Sec-Fetch-Site: expected a request of this page")
        if scope["method"] not in ("GET", "HEAD") and headers.get("x-studio") != ["1"]:
            raise Refused(403, "X-Studio: expected the header, as the page sends it")
        if self.token is not None and not self._has_token(scope, headers):
            raise Refused(403, "expected the token: open the address that `spml studio` printed")
        length = headers.get("content-length", ["0"])
        if len(length) != 1 or not (length[0].isascii() and length[0].isdigit()) or len(length[0]) > 15:
            raise Refused(400, "Content-Length: expected a number")
        if int(length[0]) > _limit(scope):
            raise Refused(413, f"expected at most {_limit(scope)} bytes, got {length[0]}")

    def _is_host(self, text: str) -> bool:
        """Whether a Host header names this server; a name that an attacker lets point here does not."""
        try:
            parts = urlsplit(f"//{text}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if parts.path or parts.query or parts.username is not None or port == 0:
            return False
        anywhere = self.token is not None and self.host in ("0.0.0.0", "::", "")
        return name in LOCAL or name == self.host.lower() or (anywhere and bool(name))

    def _has_token(self, scope: Any, headers: dict[str, list[str]]) -> bool:
        assert self.token is not None
        if self._asks_for_cookie(scope):
            return True
        try:
            cookie = SimpleCookie("; ".join(headers.get("cookie", []))).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.token.encode())

    def _asks_for_cookie(self, scope: Any) -> bool:
        """Whether this is the address that `spml studio` prints, with the right token."""
        given = _query(scope).get("token", [""])[0]
        right = hmac.compare_digest(given.encode(), str(self.token).encode())
        return right and scope["path"] == "/" and scope["method"] == "GET"

    def _cookie(self) -> bytes:
        return f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()


def urlsplit_or_none(origin: str) -> str | None:
    """`host:port` of an origin such as http://127.0.0.1:8000."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    return parts.netloc.lower() if parts.scheme in ("http", "https") else None


def _is_entry(scope: Any) -> bool:
    """The page itself may be opened from a link."""
    return scope["path"] == "/" and scope["method"] in ("GET", "HEAD")


def _headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in raw:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _query(scope: Any) -> dict[str, list[str]]:
    try:
        return parse_qs(scope["query_string"].decode("ascii"), max_num_fields=50)
    except (UnicodeDecodeError, ValueError):
        return {}


def _limit(scope: Any) -> int:
    return MAX_IMPORT if scope["path"] == "/api/import" else MAX_BODY


def _limited(receive: Any, limit: int) -> Any:
    """`receive`, which ends a body that is longer than it said."""
    seen = 0

    async def counted() -> Any:
        """The next message, if the body is still within the limit."""
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise Refused(413, f"expected at most {limit} bytes")
        return message

    return counted


async def _send(send: Any, status: int, content: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(content)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
