"""Server-sent events: what any thread publishes reaches every open page."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

KEEP_ALIVE = 15.0  # seconds after which an open connection gets a comment
WAITING = 1_000  # events that a page may lag behind; then it is cut off and connects anew
MAX_PAGES = 64


class Hub:
    """The open pages. `bind` it to the server's event loop; `publish` works in any thread."""

    def __init__(self) -> None:
        self.pages: set[asyncio.Queue[str | None]] = set()
        self.last: dict[str, str] = {}  # the last event of a name that new pages get at once
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def bind(self) -> None:
        """Called in the event loop."""
        self._loop, self._closed = asyncio.get_running_loop(), False

    def publish(self, name: str, content: dict[str, Any]) -> None:
        """Send an event to all pages."""
        text = f"event: {name}\ndata: {json.dumps(content)}\n\n"
        if name in ("features", "train"):
            self.last[name] = text
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, text)

    def close(self) -> None:
        """End all connections. Called in the event loop."""
        self._closed = True
        for page in self.pages:
            page.put_nowait(None)

    def _send(self, text: str) -> None:
        for page in list(self.pages):
            if page.qsize() >= WAITING:
                self.pages.discard(page)
                page.put_nowait(None)
            else:
                page.put_nowait(text)

    async def listen(self) -> AsyncIterator[str]:
        """The events of one page, from the last ones on."""
        page: asyncio.Queue[str | None] = asyncio.Queue()
        if len(self.pages) >= MAX_PAGES:
            return
        self.pages.add(page)
        try:
            yield "retry: 1000\n\n" + "".join(self.last.values())
            while not self._closed:
                try:
                    text = await asyncio.wait_for(page.get(), KEEP_ALIVE)
                except asyncio.TimeoutError:
                    text = ": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            self.pages.discard(page)
