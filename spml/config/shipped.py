"""The configs that come with the project: `configs/` of a checkout, or `spml/configs` of an installed package."""

from pathlib import Path

from spml.config.check import did_you_mean
from spml.config.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")  # the second only beside a checkout's package


def find_shipped(name: str) -> Path | None:
    """The file of a shipped config's name, `msrc_point` or `voc12/point.yaml`; None where there is none."""
    plain = name.removesuffix(".yaml")
    return next((folder / f"{plain}.yaml" for folder in _folders() if plain in _names(folder)), None)


def shipped_config(name: str) -> Path:
    """The file of a shipped config, by its name with or without `.yaml`.

    Raises:
        ConfigError: no such config; it names the nearest.
    """
    path = find_shipped(name)
    if path is None:
        names = shipped_names()
        hint = did_you_mean(name.removesuffix(".yaml"), names, 0.5)
        raise ConfigError(f"config: expected one of {', '.join(names)}, got {name!r}{hint}")
    return path


def shipped_names() -> tuple[str, ...]:
    """The names of all shipped configs, `voc12/point` among them."""
    return tuple(sorted({name for folder in _folders() for name in _names(folder)}))


def _folders() -> list[Path]:
    return [folder for folder in FOLDERS if (folder / "base.yaml").is_file()]


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")}
