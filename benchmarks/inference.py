"""Inference with five scales, their mirror images and CRF beside the released order of things, by each runtime.

Plain: view by view, crop by crop, each alone, and the CRF in line; in a process of its own, as ours keeps its memory.
All processes have started before the clock does. `--runtimes` may also name `compile`: torch.compile with freezing,
which needs a compiler and minutes. `--user` measures `segmentation_models_pytorch` beside ours, on the same backbone
with DeepLabV3+. `--network` measures the network alone, in CPU seconds, which other work on the machine hardly changes.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from _measure import Cost, Row, Work, alternate, find_peak, parse, print_table
from crf import samples as make_images
from kmeans import plain_kmeans
from PIL import Image
from retrieval import plain_retrieve
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spml.cli.exits import run
from spml.config import load_config
from spml.data.dataset import read_sample
from spml.data.lists import read_list
from spml.data.pickled import write_memory_file
from spml.data.samples import Sample
from spml.grouping.segments import segment_prototypes
from spml.inference import loop, outputs, segmenter
from spml.inference import predictors as predict
from spml.inference.runtimes import Runtime, networks_for_inference
from spml.inference.views import ViewPlan, crop_ends, resize_image, to_pixels
from spml.models import build_classifier, build_embedding_model, load_checkpoint, save_checkpoint
from spml.propagate import DenseCRF, label_share

SIZE, PROTOTYPES = (375, 500), 20_000
COMPILE, SMP = "compile", "segmentation_models_pytorch"
USER = ("network.head=deeplab_v3plus", "network.output_stride=16", "network.joined_dim=256")  # as theirs


def prepare(folder: Path, backbone: str, images: int, quick: bool, more: Sequence[str] = ()) -> list[str]:
    """Images, a list, a snapshot of random weights and a memory; returns the overrides of the config."""
    size, crop = ((40, 60), 64) if quick else (SIZE, 512)
    overrides = [
        *("dataset.num_classes=21", f"dataset.data_dir={folder}", f"network.backbone_types={backbone}"),
        *("test.scales=[0.5,0.75,1.0,1.25,1.5]", "test.flip=true", "test.image_size=0"),
        *(f"test.crop_size=[{crop},{crop}]", f"test.stride=[{crop},{crop}]", "network.kmeans_num_clusters=[12,12]"),
        *more,
    ]
    config = load_config(None, overrides)
    save_checkpoint(folder / "model-0.pth", build_embedding_model(config), build_classifier(config))
    for number, (pixels, _) in enumerate(make_images(images, size)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "list.txt").write_text("".join(f"{number}.png\n" for number in range(images)))
    rows = F.normalize(torch.randn(500 if quick else PROTOTYPES, int(config.network.embedding_dim)), dim=1)
    write_memory_file(folder / "memory" / "a.npy", rows.numpy(), torch.randint(21, (len(rows),)).numpy())
    return overrides


class Plain:
    """The released order of things, in one process."""

    def __init__(self, folder: Path, overrides: Sequence[str], threads: int) -> None:
        torch.set_num_threads(threads)
        self.config, self.folder = load_config(None, overrides), folder
        self.model, self.classifier = build_embedding_model(self.config), build_classifier(self.config)
        load_checkpoint(folder / "model-0.pth", self.model, self.classifier)
        self.model.eval(), self.classifier.eval()
        self.memory, self.label = predict.read_memory(folder / "memory", 21, int(self.config.network.embedding_dim))

    @torch.no_grad()
    def __call__(self, kind: str) -> float:
        """Label every image; returns the seconds."""
        start = time.perf_counter()
        plan, network, crf = ViewPlan.from_config(self.config), self.config.network, DenseCRF()
        for sample in read_list(self.folder / "list.txt", self.folder):
            read = read_sample(sample, network.pixel_means, network.pixel_stds)
            size = read.pixels.shape[:2]
            total = torch.zeros(21, *size)
            for views in plan.views(read.image):
                for number, view in enumerate(views):
                    scores = self.softmax(view, plan) if kind == "softmax" else self.retrieval(view, plan)
                    scores = F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]
                    scores = scores.softmax(0) if kind == "softmax" else scores
                    total += scores.flip(-1) if number else scores
            pixels = to_pixels(read.image, network.pixel_means, network.pixel_stds)
            folder, probability = self.folder / f"plain_{kind}", (total / 10).numpy()
            outputs.refine_and_write(crf, outputs.Unrefined(folder, read.name, pixels, probability, size))
        return time.perf_counter() - start

    @staticmethod
    def slide(view: Tensor, plan: ViewPlan, apply: Callable[[Tensor], Tensor]) -> Tensor:
        (height, width), crop = view.shape[-2:], plan.crop_size
        view = F.pad(view, (0, max(0, crop[1] - width), 0, max(0, crop[0] - height)))
        total, count = torch.empty(0), torch.zeros(view.shape[-2:])
        for bottom in crop_ends(view.shape[-2], crop[0], plan.stride[0]):
            for end in crop_ends(view.shape[-1], crop[1], plan.stride[1]):
                place = (..., slice(bottom - crop[0], bottom), slice(end - crop[1], end))
                values = apply(view[None][place])[0]
                total = total if total.numel() else torch.zeros(len(values), *view.shape[-2:])
                total[place] += values
                count[place] += 1
        return (total / count)[:, :height, :width]

    def softmax(self, view: Tensor, plan: ViewPlan) -> Tensor:
        return self.slide(view, plan, lambda crop: self.classifier(self.model(crop, crop.shape[-2:])))

    def retrieval(self, view: Tensor, plan: ViewPlan) -> Tensor:
        embedding = self.slide(view, plan, lambda crop: F.normalize(self.model(crop, crop.shape[-2:]), dim=1))
        grid = tuple(self.config.network.kmeans_num_clusters)
        cluster = torch.unique(plain_kmeans(embedding[None], grid)[0], return_inverse=True)[1]
        rows = F.normalize(embedding.flatten(1).T, dim=1)
        prototype = segment_prototypes(rows, cluster, int(cluster.max()) + 1)
        share = label_share(plain_retrieve(prototype, self.memory, self.label, 20), 21)
        return share.T[:, cluster].unflatten(1, embedding.shape[-2:])


PLAIN: list[Plain] = []  # of the process that runs it


def start_plain(*arguments: Any) -> None:
    PLAIN.append(Plain(*arguments))


def run_plain(kind: str) -> float:
    return PLAIN[0](kind)


class Ours:
    """`predict_list` as the script calls it, with the CRF beside the network."""

    def __init__(
        self, folder: Path, overrides: Sequence[str], device: torch.device, runtime: str, refiner: outputs.Refiner
    ) -> None:
        self.config, self.folder, self.runtime, self.refiner = load_config(None, overrides), folder, runtime, refiner
        plan = ViewPlan.from_config(self.config)
        snapshot, memory = folder / "model-0.pth", folder / "memory"
        taken = "torch" if runtime == COMPILE else runtime
        softmax = predict.build_predictor(self.config, "softmax", snapshot, plan, device, runtime=taken)
        assert isinstance(softmax, predict.SoftmaxPredictor)
        if runtime == COMPILE:
            softmax = replace(softmax, model=compiled(softmax.model), classifier=compiled(softmax.classifier))
        held = predict.read_memory(memory, 21, int(self.config.network.embedding_dim))
        segments = segmenter.Segmenter.from_config(self.config, softmax.model, plan, device)
        retrieval = predict.retrieval_of(self.config, segments, *held)
        self.predictors: dict[str, Any] = {"softmax": softmax, "retrieval": retrieval}
        self.samples: list[Sample] = read_list(folder / "list.txt", folder)

    def place(self, kind: str) -> Path:
        """Where the labels go."""
        return self.folder / f"{self.runtime}_{kind}"

    @contextmanager
    def waiting_refiner(self, *_: Any) -> Iterator[outputs.Refiner]:
        """The one that has started; at the end all of its images are written."""
        yield self.refiner
        while self.refiner.waiting:
            self.refiner.waiting.popleft()[0].result()

    def __call__(self, kind: str) -> float:
        start = time.perf_counter()
        with mock.patch.object(loop, "open_refiner", self.waiting_refiner):
            predict.predict_list(
                *(self.config, self.samples, self.predictors[kind], self.place(kind)), crf=DenseCRF(), overwrite=True
            )
        return time.perf_counter() - start

    def products(self, kind: str) -> Work:
        """The products of the network for the first image, all views."""
        network = self.config.network
        image = read_sample(self.samples[0], network.pixel_means, network.pixel_stds).image
        taken = self.predictors[kind]
        if kind == "softmax":
            taken = replace(taken, model=trained(taken.model), classifier=trained(taken.classifier))
        else:
            taken = replace(taken, segmenter=replace(taken.segmenter, model=trained(taken.segmenter.model)))
        with FlopCounterMode(display=False) as counter:
            predict.predict_image(image, taken)
        return Work(flops=counter.get_total_flops())

    def parts(self, kind: str) -> dict[str, float]:
        """Seconds of each part for the first image, all in line."""
        spent: dict[str, float] = {}

        def timed(name: str, call: Callable) -> Callable:
            def wrapped(*arguments: Any, **options: Any) -> Any:
                start = time.perf_counter()
                try:
                    return call(*arguments, **options)
                finally:
                    spent[name] = spent.get(name, 0.0) + time.perf_counter() - start

            return wrapped

        predictor: Any = self.predictors[kind]
        networks = [predictor.model, predictor.classifier] if kind == "softmax" else [predictor.segmenter.model]
        network = self.config.network
        with ExitStack() as stack:
            for module in networks:
                stack.enter_context(mock.patch.object(module, "forward", timed("network", module.forward)))
            clustering = timed("k-means", segmenter.segment_by_kmeans)
            stack.enter_context(mock.patch.object(segmenter, "segment_by_kmeans", clustering))
            stack.enter_context(mock.patch.object(predict, "retrieve", timed("retrieval", predict.retrieve)))
            start = time.perf_counter()
            read = timed("reading", read_sample)(self.samples[0], network.pixel_means, network.pixel_stds)
            probability, _ = predict.predict_image(read.image, predictor)
            views = time.perf_counter() - start - sum(spent.values())
        working = (probability.shape[1], probability.shape[2])
        pixels = to_pixels(resize_image(read.image, working), network.pixel_means, network.pixel_stds)
        refined = timed("CRF", DenseCRF())(pixels, probability.cpu())
        timed("writing", outputs.write_labels)(self.folder / "parts", read.name, refined.argmax(0))
        return {**spent, "views, resizing, averaging": views}


def trained(network: torch.nn.Module) -> torch.nn.Module:
    """The network behind a runtime, whose operations the counter knows."""
    return network.network if isinstance(network, Runtime) else network


def compiled(network: torch.nn.Module) -> torch.nn.Module:
    """By torch.compile, its weights frozen into it."""
    from torch._inductor import config as inductor

    inductor.freezing = True
    return torch.compile(network, dynamic=False)


def installed(runtime: str, device: torch.device) -> bool:
    """Whether a runtime can be measured here; else it says why not."""
    packages = {"onnx": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}.get(runtime, ())
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        print(f"{runtime}: skipped, {' and '.join(missing)} not installed")
    elif device.type != "cpu" and runtime not in ("auto", "torch", COMPILE):
        print(f"{runtime}: skipped, it is for the CPU")
    else:
        return True
    return False


def by_runtimes(folder: Path, options: argparse.Namespace) -> None:
    """Each runtime beside the plain way, in turns."""
    overrides = prepare(folder, options.backbone, options.images, options.quick)
    start, rows = (folder, overrides, options.threads), []
    refiner = outputs.Refiner(DenseCRF(), 1)
    with refiner, ProcessPoolExecutor(1, get_context("spawn"), start_plain, start) as pool:
        for one in (refiner.pool, pool):
            one.submit(time.sleep, 0.1).result()
        names = [name for name in options.runtimes.split(",") if installed(name, options.device)]
        ours = [Ours(folder, overrides, options.device, name, refiner) for name in names]
        for kind in options.kinds.split(","):
            for one in ours if not options.quick else ():
                one(kind)  # packs weights and compiles
            times = [
                [*(one(kind) for one in ours), pool.submit(run_plain, kind).result()] for _ in range(options.repeat)
            ]
            costs = [Cost(statistics.median(series) / options.images) for series in zip(*times, strict=True)]
            work = ours[0].products(kind)
            for one, cost in zip(ours, costs[:-1], strict=True):
                equal = agreement(one.place(kind), folder / f"plain_{kind}")
                told = f"{kind} by {one.runtime}, {100 * equal:.3f} % of pixels the same"
                rows.append(Row(told, cost, costs[-1], 0.5, None, work))
                parts = one.parts(kind)
                shares = ", ".join(f"{p} {100 * spent / sum(parts.values()):.1f} %" for p, spent in parts.items())
                print(f"{kind} by {one.runtime}, one image in line, {sum(parts.values()):.2f} s: {shares}")
    title = f"inference, {options.backbone}, 10 views + CRF, {options.images} images; seconds an image"
    print_table(title, rows, find_peak(options.device, options.quick))


@torch.no_grad()
def network_alone(folder: Path, options: argparse.Namespace) -> None:
    """CPU seconds of each runtime for a crop and its mirror image, beside the plain way or a user's: crop by crop."""
    theirs = their_network(options.quick) if options.user else None
    if options.user and theirs is None:
        return
    backbone = user_backbone(options.quick) if options.user else options.backbone
    overrides = prepare(folder, backbone, 1, options.quick, USER if options.user else ())
    config = load_config(None, overrides)
    model, classifier = build_embedding_model(config).eval(), build_classifier(config).eval()
    size = tuple(config.test.crop_size)
    view = torch.randn(1, 3, *size)
    views = torch.cat([view, view.flip(-1)])

    def spent(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
        seconds = []
        for _ in range(options.repeat):
            start = time.process_time()
            scores = call()
            seconds.append(time.process_time() - start)
        return statistics.median(seconds), scores

    alone = theirs or (lambda crop: classifier(model(crop, size)))
    plain, expected = spent(lambda: torch.cat([alone(one[None]) for one in views]))
    rows = []
    for runtime in options.runtimes.split(","):
        if runtime != COMPILE and installed(runtime, options.device):
            network, scorer = networks_for_inference(model, classifier, options.device, runtime)
            scorer(network(views, size))  # packs the weights
            seconds, scores = spent(lambda one=network, other=scorer: other(one(views, size)))
            equal = float((scores.argmax(1) == expected.argmax(1)).float().mean())
            told = "" if theirs else f", {100 * equal:.4f} % of pixels the same"
            rows.append(Row(f"{runtime}{told}", Cost(seconds), Cost(plain)))
    what = f"{backbone}, DeepLabV3+; plain: {SMP}" if theirs else backbone
    print_table(f"the network alone, a crop and its mirror image, CPU seconds, {what}", rows)


def user_backbone(quick: bool) -> str:
    """What both have."""
    return "timm:resnet18" if quick else "timm:resnet101"


def their_network(quick: bool) -> Any:
    """The network of segmentation_models_pytorch with random weights; None, said in a line, where it is missing."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        print(f"{SMP}: skipped ({error})")
        return None
    name = user_backbone(quick).removeprefix("timm:")
    return smp.DeepLabV3Plus(name, encoder_weights=None, classes=21).eval()


def beside_a_user(folder: Path, options: argparse.Namespace) -> None:
    """Ours and segmentation_models_pytorch: ResNet-101 of stride 16, DeepLabV3+, the same views, no CRF."""
    theirs = their_network(options.quick)
    if theirs is None:
        return
    backbone = user_backbone(options.quick)
    config = load_config(None, prepare(folder, backbone, 1, options.quick, USER))
    plan, network = ViewPlan.from_config(config), config.network
    image = read_sample(read_list(folder / "list.txt", folder)[0], network.pixel_means, network.pixel_stds).image

    @torch.no_grad()
    def as_a_user() -> Tensor:
        total = torch.zeros(21, *image.shape[1:])
        for views in plan.views(image):
            for number, view in enumerate(views):
                scores = Plain.slide(view, plan, theirs)[None]
                scores = F.interpolate(scores, image.shape[1:], mode="bilinear")[0].softmax(0)
                total += scores.flip(-1) if number else scores
        return total

    rows = []
    for runtime in options.runtimes.split(","):
        if runtime != COMPILE and installed(runtime, options.device):
            given = (folder / "model-0.pth", plan, options.device)
            predictor = predict.build_predictor(config, "softmax", *given, runtime=runtime)
            costs = alternate(
                lambda one=predictor: predict.predict_image(image, one),
                as_a_user,
                options.device,
                options.repeat,
                False,
            )
            rows.append(Row(f"ours by {runtime}", *costs))
    print_table(f"prediction, {backbone}, DeepLabV3+, 10 views; plain: {SMP}", rows)


def main(arguments: Sequence[str] | None = None) -> None:
    def more(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--backbone", default="panoptic_deeplab_101", help="network.backbone_types")
        parser.add_argument("--images", default=2, type=int, help="images a run")
        parser.add_argument("--kinds", default="softmax,retrieval", help="predictors")
        parser.add_argument("--runtimes", default="folded,torch,onnx,openvino,bf16", help="by commas; and `compile`")
        parser.add_argument("--network", action="store_true", help="the network alone instead, in CPU seconds")
        parser.add_argument("--user", action="store_true", help="beside segmentation_models_pytorch instead")

    options = parse(__doc__ or "", arguments, more)
    with tempfile.TemporaryDirectory() as name:
        task = network_alone if options.network else beside_a_user if options.user else by_runtimes
        task(Path(name), options)


def agreement(ours: Path, plain: Path) -> float:
    """The share of pixels with the same label both ways."""
    equal, count = 0, 0
    for path in (ours / outputs.GREY).glob("*.png"):
        one, other = (np.array(Image.open(part / outputs.GREY / path.name)) for part in (ours, plain))
        equal, count = equal + int((one == other).sum()), count + one.size
    return equal / count


if __name__ == "__main__":
    run(main)
