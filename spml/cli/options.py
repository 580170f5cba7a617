"""What the options of the scripts mean: released names, `key=value` at the end, the device, the snapshot."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from easydict import EasyDict

from spml.config import load_config
from spml.device import resolve_device
from spml.inference.views import MAX_PIXELS, ViewPlan
from spml.propagate import DenseCRF
from spml.propagate.crf import BACKENDS

KEYS = {"label_divisor": "network.label_divisor", "scales": "test.scales", "flip": "test.flip"}  # by their options


def _split(text: str, kind: Callable[[str], Any]) -> list[Any]:
    """The numbers between commas; none where one is no number."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        return []


def natural(text: str) -> int:
    """A whole number of at least 0; an argparse type."""
    values = _split(text, int)
    if len(values) != 1 or values[0] < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return values[0]


def number_list(text: str) -> list[float]:
    """`0.5,1,1.5` as numbers above zero; an argparse type."""
    values = _split(text, float)
    if not values or not all(0 < value < float("inf") for value in values):
        raise argparse.ArgumentTypeError(f"expected numbers above 0 separated by commas, got {text!r}")
    return values


def integer_pair(text: str) -> list[int]:
    """`H,W` as two whole numbers of at least 1; an argparse type."""
    values = _split(text, int)
    if len(values) != 2 or min(values) < 1:
        raise argparse.ArgumentTypeError(f"expected H,W, two whole numbers of at least 1, got {text!r}")
    return values


def seed_list(text: str) -> list[int]:
    """`0,1,2` as whole numbers of at least 0; an argparse type."""
    values = _split(text, int)
    if not values or min(values) < 0 or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"expected different whole numbers separated by commas, got {text!r}")
    return values


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every script with a network: `--cfg_path --snapshot_dir --data_dir --data_list --device`."""
    parser.add_argument("--cfg_path", required=True, help="YAML file of the experiment")
    parser.add_argument(
        "--snapshot_dir", required=True, help="folder of model-<i>.pth; to read: the newest, or one file"
    )
    parser.add_argument("--data_dir", default=None, help="folder that the list's paths start from (dataset.data_dir)")
    parser.add_argument(
        "--data_list", default=None, help="list of samples, in place of the one that the YAML file names"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:<i>, or auto: cuda where there is one")
    parser.epilog = "Any key of the YAML file can be overridden at the end: train.max_iteration=100 test.image_size=640"


def add_segment_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of k-means: `--kmeans_num_clusters --label_divisor`."""
    parser.add_argument(
        "--kmeans_num_clusters", type=integer_pair, default=None, metavar="H,W", help="network.kmeans_num_clusters"
    )
    parser.add_argument("--label_divisor", type=int, default=None, help="network.label_divisor")


def add_view_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of test-time views: `--scales --flip --max_pixels`."""
    parser.add_argument(
        "--scales", type=number_list, default=None, metavar="S,S,..", help="such as 0.5,0.75,1,1.25,1.5"
    )
    both = argparse.BooleanOptionalAction
    parser.add_argument("--flip", action=both, default=None, help="also the mirror image of each scale")
    parser.add_argument(
        "--max_pixels",
        type=natural,
        default=None,
        help="a view with more pixels is made smaller, which bounds the memory; 0: no bound; left out: "
        + ", ".join(f"{pixels} for {name}" for name, pixels in MAX_PIXELS.items()),
    )


def add_crf_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the dense CRF, with the released defaults, its backend and the number of its processes."""
    both = argparse.BooleanOptionalAction
    parser.add_argument("--crf", action=both, default=None, help="refine with a dense CRF")
    parser.add_argument("--crf_iter_max", type=natural, default=10, help="mean-field iterations")
    parser.add_argument("--crf_pos_xy_std", type=float, default=1, help="smoothness kernel, pixels")
    parser.add_argument("--crf_pos_w", type=float, default=3, help="weight of the smoothness kernel")
    parser.add_argument("--crf_bi_xy_std", type=float, default=67, help="appearance kernel, pixels")
    parser.add_argument("--crf_bi_w", type=float, default=4, help="weight of the appearance kernel")
    parser.add_argument("--crf_bi_rgb_std", type=float, default=3, help="appearance kernel, grey values")
    parser.add_argument("--crf_workers", type=natural, default=0, help="processes; 0: one fewer than the cores")
    parser.add_argument(
        "--crf_backend",
        choices=BACKENDS,
        default="auto",
        help="torch computes on --device; auto: pydensecrf on the CPU where it is installed, else torch",
    )


def views_of(args: argparse.Namespace, config: EasyDict, predictor: str = "retrieval") -> ViewPlan:
    """The views that add_view_arguments and the config describe, bounded as `retrieval` or `softmax` and a CRF need."""
    bound = min(MAX_PIXELS[predictor], MAX_PIXELS["CRF"]) if getattr(args, "crf", False) else MAX_PIXELS[predictor]
    return ViewPlan.from_config(config, bound if args.max_pixels is None else args.max_pixels)


def crf_of(args: argparse.Namespace, device: torch.device | None = None) -> DenseCRF | None:
    """The CRF on `device` that add_crf_arguments describes; None without `--crf`."""
    if not args.crf:
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


def parse_words(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line: the options, and the `key=value` overrides. Exits with 2 for any other word."""
    parser.allow_abbrev = False  # a misspelt option is a mistake, even where it begins like one that there is
    args, overrides = parser.parse_known_args(argv)
    for word in overrides:
        if word.startswith("-") or "=" not in word:
            parser.error(f"unknown argument {word!r}; overrides of the YAML file are written key=value")
    return args, overrides


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None = None
) -> tuple[argparse.Namespace, EasyDict, torch.device]:
    """Read the command line, the YAML file with the overrides at the end, and the device.

    Args:
        parser: holds add_common_arguments and what else the script takes.
        argv: the words of the command line; None: those of this process.

    Returns:
        (args, config, device). The options that have a key of their own (data_dir, kmeans_num_clusters, label_divisor,
        scales, flip) stand in the config already; `--data_list` is left to the script, which knows what it is for.
        `dataset.tags` is looked for as it is, then in the data folder.

    Raises:
        SystemExit: 2 for an unknown option or a word that is not key=value.
        UserError: for a config or device that cannot be used.
    """
    args, overrides = parse_words(parser, argv)
    own = [f"{key}={getattr(args, option)}" for option, key in KEYS.items() if getattr(args, option, None) is not None]
    config = load_config(args.cfg_path, [*overrides, *own])
    if getattr(args, "kmeans_num_clusters", None) is not None:
        config.network.kmeans_num_clusters = args.kmeans_num_clusters  # the training crop does not bound it
    if args.data_dir is not None:
        config.dataset.data_dir = args.data_dir
    beside_data = Path(config.dataset.data_dir).expanduser() / config.dataset.tags
    if not Path(config.dataset.tags).exists() and beside_data.exists():
        config.dataset.tags = str(beside_data)  # VOC's annotations lie there
    return args, config, resolve_device(args.device)


def parse_training(
    description: str, tags: bool = False, argv: list[str] | None = None
) -> tuple[argparse.Namespace, EasyDict, torch.device]:
    """`parse` for a training script: also `--resume`, and `--tags` with `tags`; `--data_list` is the training list.

    `description`: the script's docstring, of which the first line stands in `--help`.
    """
    parser = argparse.ArgumentParser(
        description=description.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_common_arguments(parser)
    if tags:
        parser.add_argument("--tags", default=None, help="file `name class ..` or folder of VOC XML (dataset.tags)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest snapshot of --snapshot_dir")
    args, config, device = parse(parser, argv)
    if args.data_list:
        config.dataset.train_data_list = args.data_list
    if tags and args.tags:
        config.dataset.tags = args.tags
    return args, config, device
