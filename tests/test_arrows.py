"""Imports run downwards only: a package imports nothing that stands above it or on its left."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "spml"
# From top to bottom; packages of one row may import each other from left to right only.
ORDER = (
    ("__main__",),
    ("cli", "app"),
    ("pipelines",),
    ("engine", "pseudo"),
    ("inference",),
    ("tasks",),
    ("losses",),
    ("models", "propagate", "grouping"),
    ("evaluation", "data", "visualize"),
    ("config",),
    ("ledger", "records", "processes", "progress", "device", "allocator", "tables"),
    ("members", "files"),
    ("classes",),
    ("errors",),
)
LEVEL = {name: (level, place) for level, row in enumerate(ORDER) for place, name in enumerate(row)}
TENSORS_ONLY = ("grouping", "propagate")  # they know neither configs nor data sets
FORBIDDEN = ("spml.data", "spml.config", "spml.evaluation")


def imports(path: Path) -> Iterator[str]:
    """Every `spml.x.y` that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "spml")
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def package_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else ""


def files() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert own in LEVEL, f"{own} stands in no row of ORDER"
    for module in imports(path):
        if not module.startswith("spml."):
            continue
        other = package_of(module)
        assert LEVEL[other] >= LEVEL[own], (
            f"{path.relative_to(ROOT)} imports {module}, which stands above it or on its left"
        )


def test_the_mathematics_knows_tensors_only() -> None:
    for path in files():
        if path.relative_to(ROOT).parts[0] in TENSORS_ONLY:
            assert not [module for module in imports(path) if module.startswith(FORBIDDEN)], path


def test_errors_import_nothing() -> None:
    assert not list(imports(ROOT / "errors.py"))


def test_argparse_and_signals_stay_in_the_command_line() -> None:
    allowed = {"argparse": {"cli"}, "signal": {"cli", "processes", "data"}}  # workers of the loader ignore Ctrl-C
    for path in files():
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for module in imports(path):
            assert own in allowed.get(module, {own}), f"{path.relative_to(ROOT)} imports {module}"
