"""Training in one process of its own, which goes on while strokes are drawn and when the server starts anew."""

from collections.abc import Callable
from typing import Any

from spml.app.files import Files
from spml.app.images import Images
from spml.app.spreading import Labels
from spml.app.store import Store


class Training:
    def __init__(self, images: Images, store: Store, files: Files, publish: Callable[[str, dict[str, Any]], None]) -> None:
        self.images, self.store, self.files, self.publish = images, store, files, publish

    def start(self) -> None: ...
    def close(self) -> None: ...

    def state(self) -> dict[str, Any]:
        return {"state": "idle", "step": 0, "steps": 0, "seconds_left": None, "history": [], "message": "", "pictures": []}

    def sure(self) -> dict[str, float]:
        return {}

    def has_prediction(self, name: str) -> bool:
        return False

    def prediction(self, name: str, size: tuple[int, int]) -> Labels | None:
        return None
