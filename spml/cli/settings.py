"""Turns the options of a command with a network into its config, device, views and CRF."""

import argparse
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict

from spml.cli import options
from spml.cli.parser import Parser
from spml.config import load_config
from spml.device import resolve_device
from spml.errors import UserError
from spml.inference.runtimes import RUNTIMES
from spml.inference.views import MAX_PIXELS, ViewPlan
from spml.propagate import DenseCRF
from spml.propagate.crf import BACKENDS

KEYS = {"label_divisor": "network.label_divisor", "scales": "test.scales", "flip": "test.flip"}  # by their options


def add_views(parser: Parser) -> None:
    """The options of test-time views, with what bounds them."""
    bounds = ", ".join(f"{pixels} for {name}" for name, pixels in MAX_PIXELS.items())
    options.add(parser, "scales", "flip")
    options.add(parser, "max_pixels", help=f"{options.OPTIONS['max_pixels']['help']}; left out: {bounds}")


def add_crf(parser: Parser) -> None:
    """The options of the dense CRF, with the backends that there are."""
    options.add(parser, "crf", *options.CRF, "crf_workers")
    options.add(parser, "crf_backend", choices=BACKENDS)


def add_runtime(parser: Parser) -> None:
    """What computes the network, with what there is."""
    told = "; ".join(f"{name}: {help}" for name, help in RUNTIMES.items())
    options.add(parser, "runtime", choices=tuple(RUNTIMES), help=f"{options.OPTIONS['runtime']['help']}; {told}")


def read_config(args: argparse.Namespace, recipe: tuple[str, ...] = ()) -> tuple[EasyDict, torch.device]:
    """The config that a command line describes, and the device.

    Args:
        args: of `options.add_network`. Options with a key of their own (data_dir, tags, kmeans_num_clusters,
            label_divisor, scales, flip) override the config; the command itself handles `--data_list`. It looks for
            `dataset.tags` as given, then in the data folder.
        recipe: overrides of the command; those of the user come after them.

    Raises:
        UserError: a config or device that cannot be used.
    """
    own = [f"{key}={getattr(args, option)}" for option, key in KEYS.items() if getattr(args, option, None) is not None]
    config = load_config(args.config, [*recipe, *args.overrides, *own])
    if getattr(args, "kmeans_num_clusters", None) is not None:
        config.network.kmeans_num_clusters = args.kmeans_num_clusters  # the training crop does not bound it
    data = config.dataset
    data.data_dir = data.data_dir if args.data_dir is None else args.data_dir
    data.tags = getattr(args, "tags", None) or data.tags
    beside_data = Path(data.data_dir).expanduser() / data.tags
    if not Path(data.tags).exists() and beside_data.exists():
        data.tags = str(beside_data)  # VOC's annotations lie there
    return config, resolve_device(getattr(args, "device", "auto"))


def views_of(args: argparse.Namespace, config: EasyDict, predictor: str = "retrieval") -> ViewPlan:
    """The views that the options and the config describe, bounded as `retrieval` or `softmax` and a CRF need."""
    bound = min(MAX_PIXELS[predictor], MAX_PIXELS["CRF"]) if getattr(args, "crf", False) else MAX_PIXELS[predictor]
    return ViewPlan.from_config(config, bound if args.max_pixels is None else args.max_pixels)


def crf_of(args: argparse.Namespace, device: torch.device | None = None) -> DenseCRF | None:
    """The CRF on `device` that the options describe; None without `--crf`, which its settings need."""
    if not args.crf:
        for option in options.CRF:
            if getattr(args, option) != options.OPTIONS[option]["default"]:
                raise UserError(f"--{option} is for the CRF, which this run is without: expected --crf")
        return None
    return DenseCRF(
        iterations=args.crf_iter_max,
        pos_w=args.crf_pos_w,
        pos_xy_std=args.crf_pos_xy_std,
        bi_w=args.crf_bi_w,
        bi_xy_std=args.crf_bi_xy_std,
        bi_rgb_std=args.crf_bi_rgb_std,
        backend=args.crf_backend,
        device=device,
    )


def data_of(config: Any, args: argparse.Namespace, use: str) -> str:
    """The list that `--data_list` names, else the config's of `use`, "train" or "test"."""
    return args.data_list or config.dataset[f"{use}_data_list"]
