"""Tables of entries that a name selects. A line names the file of an entry, which is imported on first use."""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Table(MutableMapping[str, Entry], Generic[Entry]):
    """Name -> entry, in the order of the lines.

    A notebook can add an entry of its own as in a dict: `TABLE["mine"] = entry`.

    Args:
        package: the package of the files, such as "spml.losses".
        where: name -> "file:attribute".
    """

    def __init__(self, package: str, where: Mapping[str, str]) -> None:
        self._package, self._where = package, dict(where)
        self._found: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        if name not in self._found:
            module, _, attribute = self._where[name].partition(":")
            self._found[name] = getattr(importlib.import_module(f"{self._package}.{module}"), attribute)
        return self._found[name]

    def __setitem__(self, name: str, entry: Entry) -> None:
        self._where.setdefault(name, "")
        self._found[name] = entry

    def __delitem__(self, name: str) -> None:
        del self._where[name]
        self._found.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where
