"""Loads weights of timm's networks, from its download or a file, into an encoder, and checks every key."""

import importlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor

from spml.errors import UserError
from spml.models.backbones.timm import PREFIX, TimmEncoder, create, timm_package
from spml.models.checkpoint import CheckpointError, fit


def fill(encoder: TimmEncoder, state: dict[str, Tensor], where: str) -> int:
    """Copy the entries that an encoder needs out of those of a whole network. Returns their number.

    timm flattens some names when it takes the levels out of a network (`stages.0` becomes `stages_0`), so the function
    compares names without their dots.

    Raises:
        CheckpointError: entries that the encoder needs are missing or of another shape.
    """
    flat = {key.replace(".", "_"): value for key, value in state.items()}
    own = {key: key.removeprefix(f"{encoder.part}.").replace(".", "_") for key in encoder.state_dict()}
    found = {key: flat[short] for key, short in own.items() if short in flat}
    fit(where, encoder, found)
    encoder.load_state_dict(found, strict=False)  # counters of batch norms may be missing
    return len(found)


def check_keys(path: Path | str, name: str, found: dict[str, Tensor]) -> None:
    """Compare every key and shape with timm's whole network, including its classifier.

    Raises:
        CheckpointError: missing or unexpected keys, or other shapes; it names them.
    """
    with torch.device("meta"):
        whole = create(name)
    fit(path, whole, found)


def downloaded(name: str) -> dict[str, Tensor]:
    """The weights that timm has for a network, from its cache or the web.

    Raises:
        UserError: timm has no weights of this name, or cannot reach them.
    """
    timm = timm_package()
    weights = timm.get_pretrained_cfg(name)
    if weights is None or not weights.has_weights:
        raise UserError(f"network.pretrained: timm has no weights of {name}; timm.list_pretrained() names those it has")
    try:
        with offline_at_once():
            return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # of sockets, of the hub, of the file
        place = f"https://huggingface.co/{weights.hf_hub_id}" if weights.hf_hub_id else weights.url
        reason = re.split(r"\n|(?<=\.) ", str(error).strip())[0] or type(error).__name__
        raise UserError(
            f"network.pretrained: timm cannot get the weights of {name} ({reason}); where there is a way to the web, "
            f"fetch them from {place} and name the file as network.pretrained, or use package:efficientnet_lite0"
        ) from error


@contextmanager
def offline_at_once() -> Iterator[None]:
    """Use only the hub's cache if its name does not resolve and no proxy is set; its retries would take a minute."""
    try:
        hub: Any = importlib.import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    before = hub.HF_HUB_OFFLINE
    try:
        socket.getaddrinfo(urlparse(hub.ENDPOINT).hostname, 443)
    except OSError:
        hub.HF_HUB_OFFLINE = before or not any("proxy" in name.lower() for name in os.environ)
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE = before


def file_state(path: str | Path, name: str, content: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of a file of timm's weights, under the names that timm gives them today.

    Raises:
        CheckpointError: they do not fit the network.
    """
    state = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    weights = {"state_dict": dict(state), "file": None, "url": None, "hf_hub_id": None, "custom_load": False}
    try:
        timm = timm_package()
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=weights).state_dict()
    except Exception as error:  # timm's conversions of a stranger's keys may raise anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(f"{path}: does not fit {PREFIX}{name}: {reason}") from error
