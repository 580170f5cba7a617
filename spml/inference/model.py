"""`spml.Model`: a trained model that labels images from Python."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from spml import records
from spml.classes import class_names
from spml.config import save_config
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.pickled import write_memory_file
from spml.data.samples import Sample, named, read_image
from spml.data.scenes import make_scene
from spml.errors import UserError
from spml.files import write_atomically
from spml.inference.export import SUFFIXES, export_onnx, export_safetensors
from spml.inference.loop import image_settings
from spml.inference.memory import (
    KIND,
    MADE,
    PROTOTYPES,
    check_memory,
    memory_things,
    no_prototype,
    of_full_masks,
    read_memory,
    sample_prototypes,
)
from spml.inference.prediction import Prediction
from spml.inference.predictors import (
    PREDICTORS,
    Predictor,
    SoftmaxPredictor,
    predict_image,
    retrieval_of,
)
from spml.inference.runtimes import AUTO, check_runtime, for_inference, networks_for_inference
from spml.inference.segmenter import Segmenter
from spml.inference.shares import hash_samples
from spml.inference.views import MAX_PIXELS, ViewPlan, resize_image, resize_label, to_pixels
from spml.models import save_checkpoint
from spml.models.checkpoint import list_snapshots
from spml.models.layers import resize
from spml.propagate import DenseCRF

Picture = str | Path | Image.Image | np.ndarray
MEMORY = "memory"  # the folder beside a snapshot


@dataclass(frozen=True)
class _Memory:
    """All prototypes of a memory, on the CPU, and what they depend on."""

    prototype: Tensor  # (P, D) float32
    label: Tensor  # (P,) int64
    record: records.Record | None
    full_masks: bool


class Model:
    """A network with what it needs to label images. `spml.load` and `spml.train(..).model()` return one.

    Attributes:
        config: the result of `load_config`.
        classes: the names of the classes.
        device: where it computes.
        embedding, classifier: the networks, in eval mode; classifier is None in snapshots without one.
    """

    def __init__(
        self,
        config: Any,
        embedding: nn.Module,
        classifier: nn.Module | None,
        device: torch.device,
        runtime: str = AUTO,
    ) -> None:
        check_runtime(runtime, device)
        self.config, self.device = config, device
        self.embedding = for_inference(embedding, device)
        self.classifier = None if classifier is None else for_inference(classifier, device)
        self.runtime = runtime
        self.classes: tuple[str, ...] = tuple(config.dataset.class_names or ()) or class_names(
            int(config.dataset.num_classes)
        )
        self.name = "model-0.pth"
        self.memory_dir: Path | None = None  # read when it is first needed
        self._memory: _Memory | None = None

    def predict(
        self,
        image: Picture | Iterable[Picture],
        *,
        predictor: str | None = None,
        scales: Sequence[float] | None = None,
        flip: bool | None = None,
        crf: bool | DenseCRF = False,
    ) -> Any:
        """Label an image as the command line does. For many images, return an iterator over the predictions.

        Args:
            image: a path, a PIL image, or (H, W, 3) uint8; or an iterable of them.
            predictor: "softmax", the classifier, or "retrieval" from a memory; None: softmax where there is a
                classifier, else retrieval.
            scales: of the image, averaged; None: test.scales of the config.
            flip: average with the mirror image; None: test.flip.
            crf: a dense CRF to refine by; True takes the released settings.

        Returns:
            A `Prediction`, or an iterator of them.

        Raises:
            UserError: an image that cannot be read, no classifier, no memory, or one of another network.
        """
        if not isinstance(crf, bool | DenseCRF):
            raise UserError(f"crf: expected True, False or a DenseCRF, got {crf!r}")
        if flip not in (None, True, False):
            raise UserError(f"flip: expected True, False or None, got {flip!r}")
        if not isinstance(image, str | Path | Iterable | Image.Image):
            raise UserError(f"image: expected a path, a PIL image or (H, W, 3) uint8, got {type(image).__name__}")
        refiner = (DenseCRF(device=self.device) if crf else None) if isinstance(crf, bool) else crf
        refiner = None if refiner is None else refiner.with_backend()
        plan = self._plan(predictor or self._default_predictor(), scales, flip, refiner)
        chosen = self._predictor(predictor or self._default_predictor(), plan)
        if isinstance(image, (str, Path, Image.Image)) or (isinstance(image, np.ndarray) and image.ndim != 4):
            return self._predict(image, chosen, refiner)
        return (self._predict(one, chosen, refiner) for one in image)

    @torch.no_grad()
    def embed(self, image: Picture) -> np.ndarray:
        """The embedding of an image: (h, w, D) float32, unit length, at stride 4 of the single scale of the config.

        With test.image_size it first resizes the image to that longest side, as `predict` does.
        """
        view = self._single_view(self._read(image))
        raw = self._networks[0](view[None].to(self.device))[0]  # (D, h, w)
        return F.normalize(raw.float(), dim=0).permute(1, 2, 0).cpu().numpy()

    def remember(self, samples: Iterable[Sample]) -> int:
        """Fill the memory of retrieval from the weak labels of samples, and drop the memory of before.

        Args:
            samples: with labels: class ids, 254 unlabelled, 255 void.

        Returns:
            The number of labelled prototypes.

        Raises:
            UserError: a sample without label, files that cannot be read, or no segment that takes any label.
        """
        samples = [replace(sample, regions=None) for sample in named(samples)]
        if not samples:
            raise UserError("samples: expected at least one, got none")
        segmenter = self._segmenter(self._plan("retrieval", None, None, None))
        num_classes = int(self.config.dataset.num_classes)
        found = [sample_prototypes(self._read_sample(sample), segmenter, num_classes)[:2] for sample in samples]
        if not sum(len(label) for _, label in found):
            raise UserError(no_prototype(len(samples), "the samples", num_classes))
        prototype = torch.from_numpy(np.concatenate([one for one, _ in found]))
        label = torch.from_numpy(np.concatenate([one for _, one in found]))
        things = {**memory_things(segmenter), **image_settings(self.config)}
        record = records.record_of(KIND, things, {"list": hash_samples(samples)}, prototypes=len(label))
        self._memory = _Memory(prototype, label, record, False)
        return len(label)

    def save(self, folder: str | Path) -> Path:
        """Write the networks in the released format, `config.yaml`, `classes.txt` and the memory; `load` reads it.

        Returns:
            The snapshot's path.

        Raises:
            UserError: a folder with other snapshots, or one that cannot be written.
        """
        folder = Path(folder)
        others = [path.name for _, path in list_snapshots(folder) if path.name != self.name]
        if others:
            raise UserError(f"{folder}: holds the snapshot {others[0]} already: expected another folder")
        names = "".join(f"{name}\n" for name in self.classes)
        write_atomically(folder / "classes.txt", lambda file: file.write(names.encode()))
        config = copy.deepcopy(self.config)
        config.dataset.update(classes="classes.txt", class_names=list(self.classes))
        save_config(config, folder / "config.yaml")
        memory = self._load_memory() if self._memory is not None or self.memory_dir is not None else None
        if memory is not None:
            self._save_memory(memory, folder / MEMORY)
        save_checkpoint(folder / self.name, self.embedding, self.classifier)  # last: a snapshot means that all is there
        return folder / self.name

    @cached_property
    def _networks(self) -> tuple[nn.Module, nn.Module | None]:
        """The networks as the runtime computes them, made when they are first needed."""
        return networks_for_inference(self.embedding, self.classifier, self.device, self.runtime)

    def export(self, path: str | Path, images: Sequence[Picture] = ()) -> str:
        """Write the model as one file for use without this project; docs/deploy.md shows how. The memory stays behind.

        Args:
            path: `.onnx`, a graph for images of any size with the outputs scores and embedding; or `.safetensors`,
                the weights, and the settings as its metadata. `load` reads both.
            images: on which an ONNX graph must give what PyTorch gives, to 1e-4 of the largest value (or of 1); left
                out: images of the built-in data.

        Returns:
            One line: what was written, and for ONNX the largest difference.

        Raises:
            UserError: another suffix, a missing package, or a network that has no ONNX form for any size.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise UserError(f"{path}: expected a file name that ends in {' or '.join(SUFFIXES)}")
        given = (path, self.config, self.classes, self.embedding, self.classifier)
        if path.suffix == ".safetensors":
            return export_safetensors(*given)
        images = images or [make_scene(np.random.default_rng(seed)).image for seed in range(2)]
        return export_onnx(*given, [self._single_view(self._read(image)) for image in images])

    def _default_predictor(self) -> str:
        if self.classifier is not None:
            return "softmax"
        if self._memory is None and self.memory_dir is None:
            raise UserError(
                "this model has no classifier and no memory: fill one by remember(samples) or name one in load(memory=)"
            )
        return "retrieval"

    def _plan(
        self, predictor: str, scales: Sequence[float] | None, flip: bool | None, crf: DenseCRF | None
    ) -> ViewPlan:
        bound = MAX_PIXELS.get(predictor, 0)
        plan = ViewPlan.from_config(self.config, min(bound, MAX_PIXELS["CRF"]) if crf else bound)
        try:
            chosen = plan.scales if scales is None else tuple(float(scale) for scale in scales)
        except (TypeError, ValueError):
            chosen = ()
        if not chosen or not all(0 < scale < float("inf") for scale in chosen):
            raise UserError(f"scales: expected a list of numbers above 0, got {scales!r}")
        return replace(plan, scales=chosen, flip=plan.flip if flip is None else flip)

    def _segmenter(self, plan: ViewPlan) -> Segmenter:
        return Segmenter.from_config(self.config, self._networks[0], plan, self.device)

    def _predictor(self, kind: str, plan: ViewPlan) -> Predictor:
        if kind not in PREDICTORS:
            raise UserError(f"predictor: expected one of {', '.join(PREDICTORS)}, got {kind!r}")
        if kind == "retrieval":
            memory = self._load_memory()
            return retrieval_of(self.config, self._segmenter(plan), memory.prototype, memory.label)
        if self.classifier is None:
            raise UserError("predictor softmax: this model has no classifier")
        model, classifier = self._networks
        assert classifier is not None
        return SoftmaxPredictor(model, classifier, plan, self.device)

    def _load_memory(self) -> _Memory:
        if self._memory is not None:
            return self._memory
        if self.memory_dir is None:
            raise UserError(
                "predictor retrieval: expected a memory: fill one by remember(samples) or name one in load(memory=)"
            )
        dataset, network = self.config.dataset, self.config.network
        record = check_memory(self.memory_dir, self.config, self._segmenter(ViewPlan.from_config(self.config)))
        held = read_memory(self.memory_dir, int(dataset.num_classes), int(network.embedding_dim))
        self._memory = _Memory(*held, record, of_full_masks(self.memory_dir))
        return self._memory

    def _save_memory(self, memory: _Memory, folder: Path) -> None:
        """Write the memory as one file, and its record if it has one; the release's has none."""
        folder = folder / PROTOTYPES
        if memory.record is not None:
            records.start(folder, memory.record, made=MADE, overwrite=True)
        write_memory_file(folder / "memory.npy", memory.prototype.numpy(), memory.label.numpy())
        if memory.record is not None:
            records.finish(folder)

    def _read(self, image: Picture) -> EvaluationSample:
        return self._read_sample(Sample(read_image(image) if isinstance(image, Image.Image) else image))

    def _read_sample(self, sample: Sample) -> EvaluationSample:
        network = self.config.network
        return read_sample(sample, network.pixel_means, network.pixel_stds, self.config.dataset.unlabelled_index)

    def _single_view(self, read: EvaluationSample) -> Tensor:
        plan = self._plan("retrieval", [1.0], False, None)
        return resize_image(read.image, plan.output_size(read.pixels.shape[:2]))

    def _predict(self, image: Picture, predictor: Predictor, crf: DenseCRF | None) -> Prediction:
        read = self._read(image)
        size = read.pixels.shape[:2]
        probability, clusters = predict_image(read.image, predictor)  # (K, h, w)
        working = (probability.shape[1], probability.shape[2])
        label = probability.argmax(0)
        if crf is not None:
            network = self.config.network
            pixels = to_pixels(resize_image(read.image, working), network.pixel_means, network.pixel_stds)
            probability = torch.from_numpy(crf(pixels, probability.float()))
            label = probability.argmax(0)
        probability = probability.float().cpu()
        return Prediction(
            resize_label(label.cpu().numpy().astype(np.uint8), size),
            lambda: resize(probability[None], size)[0].numpy(),
            partial(self._segments, read) if clusters is None else _at_size(clusters, size),
            self.classes,
            read.pixels,
            background=self.config.dataset.background,
        )

    def _segments(self, read: EvaluationSample) -> np.ndarray:
        """(H, W) int32: the k-means segments of the single view."""
        segmenter = self._segmenter(self._plan("retrieval", [1.0], False, None))
        index, _ = segmenter(self._single_view(read)[None], keep_padding=True)
        return _at_size(index[0], read.pixels.shape[:2])


def _at_size(clusters: Tensor, size: tuple[int, int]) -> np.ndarray:
    return resize_label(clusters.cpu().numpy().astype(np.uint16), size).astype(np.int32)
