"""What the release does with an image at test time, written anew to be slow and obvious: one image, one view at a time.

`test_release_agreement.py` compares the command lines with it. Of `spml` it takes nothing but the networks' layers.
Images are (H, W, 3) float32, normalised; maps are (C, H, W) float32; labels (H, W).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

MEANS, STDS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
MANY_SCALES = (0.5, 0.75, 1, 1.25, 1.5)


def read_image(path: Path) -> np.ndarray:
    return (
        np.asarray(Image.open(path).convert("RGB")).astype(np.float32) / 255 - MEANS.astype(np.float32)
    ) / STDS.astype(np.float32)


def longest_side(image: np.ndarray, length: int) -> np.ndarray:
    ratio = min(length / image.shape[0], length / image.shape[1])
    return cv2.resize(image, (int(ratio * image.shape[1]), int(ratio * image.shape[0])))


def views(image: np.ndarray, scales: tuple[float, ...], flip: bool) -> list[tuple[np.ndarray, bool]]:
    found = []
    for scale in scales:
        view = cv2.resize(image, (int(scale * image.shape[1]), int(scale * image.shape[0])))
        found += [(view[:, ::-1], True), (view, False)] if flip else [(view, False)]
    return found


def bilinear(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return F.interpolate(torch.from_numpy(maps.copy())[None], size, mode="bilinear", align_corners=False)[0].numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    power = np.exp(logits - logits.max(0))
    return power / power.sum(0)


def unit_columns(maps: np.ndarray) -> np.ndarray:
    return maps / np.sqrt((maps.astype(np.float64) ** 2).sum(0)).astype(np.float32)


def crf(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """The label of each pixel after ten rounds."""
    from pydensecrf.densecrf import DenseCRF2D

    pixels = (image * STDS).astype(np.float32)
    pixels = ((pixels + MEANS).astype(np.float32) * 255).astype(np.uint8)
    classes, height, width = probability.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(-np.log(np.clip(probability, 1e-5, 1)).astype(np.float32).reshape(classes, -1).copy())
    field.addPairwiseGaussian(sxy=1, compat=3)
    field.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(pixels), compat=4)
    return np.array(field.inference(10)).argmax(0).reshape(height, width)


def walk(views_of_embedding: list[np.ndarray], score: np.ndarray, squarings: int) -> np.ndarray:
    """Scores (K, h, w) times the step matrix, squared `squarings` times: 2^squarings steps."""
    affinity = np.zeros(())
    for embedding in views_of_embedding:
        unit = unit_columns(embedding).reshape(len(embedding), -1).astype(np.float64)
        affinity = affinity + np.exp(5 * (unit.T @ unit) - 5) / len(views_of_embedding)
    step = affinity**20
    step = step / step.sum(0)
    for _ in range(squarings):
        step = step @ step
    return (score.reshape(len(score), -1) @ step).reshape(score.shape).astype(np.float32)


def full_size(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resized = [cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in maps]
    return np.stack(resized)


def nearest_labels(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(label.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)


def present(label: np.ndarray, classes: int) -> np.ndarray:
    return np.array([(label == one).any() for one in range(classes)])


def by_maximum(score: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return np.stack([one / one.max() if here else one * 0 for one, here in zip(score, classes, strict=True)])


@dataclass
class Released:
    """The procedures, with the weights and the sizes of one experiment."""

    model: Any
    classifier: Any
    num_classes: int
    image_size: int
    crop: tuple[int, int]
    stride: tuple[int, int]
    grid: tuple[int, int]

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) -> (1, D, H, W): stride 8, twice as large, then as large as the image."""
        with torch.no_grad():
            small = self.model.head([self.model.backbone(pixels)])
            small = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
            return F.interpolate(small, pixels.shape[-2:], mode="bilinear", align_corners=False)

    def unit(self, pixels: torch.Tensor) -> np.ndarray:
        return unit_columns(self.embed(pixels)[0].numpy())

    def logits(self, pixels: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return self.classifier.semantic_classifier(torch.from_numpy(self.unit(pixels))[None])[0].numpy()

    def padded(self, image: np.ndarray) -> torch.Tensor:
        height, width = max(image.shape[0], self.crop[0]), max(image.shape[1], self.crop[1])
        canvas = np.zeros((height, width, 3), np.float32)
        canvas[: image.shape[0], : image.shape[1]] = image
        return torch.from_numpy(canvas.transpose(2, 0, 1).copy())[None]

    def slide(self, image: np.ndarray, what: Any) -> np.ndarray:
        """The average over crops, with the padding."""
        pixels = self.padded(image)
        total, count = None, np.zeros(pixels.shape[-2:], np.float32)
        for bottom in self.ends(pixels.shape[-2], 0):
            for right in self.ends(pixels.shape[-1], 1):
                part = (slice(bottom - self.crop[0], bottom), slice(right - self.crop[1], right))
                values = what(pixels[:, :, part[0], part[1]])
                total = np.zeros((len(values), *count.shape), np.float32) if total is None else total
                total[:, part[0], part[1]] += values
                count[part] += 1
        return total / count

    def ends(self, length: int, axis: int) -> list[int]:
        free = length - self.crop[axis]
        gaps = math.ceil(free / self.stride[axis])
        return [self.crop[axis] + int(i * (free / max(gaps, 1))) for i in range(gaps)] + [length]

    def segments(self, embedding: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which segment each pixel inside belongs to, (n,), and the segments' prototypes, (S, D)."""
        depth, height, width = embedding.shape
        y, x = torch.linspace(0, 1, height).numpy() - 0.5, torch.linspace(0, 1, width).numpy() - 0.5
        unit = unit_columns(embedding)
        place = np.stack([np.repeat(y[:, None], width, 1), np.repeat(x[None], height, 0)])
        feature = unit_columns(np.concatenate([unit, place]))[:, inside].T  # (n, D + 2)
        row = torch.linspace(0, self.grid[0] - 1, height).round().numpy()
        column = torch.linspace(0, self.grid[1] - 1, width).round().numpy()
        cluster = (row[:, None] + (row.max() + 1) * column[None])[inside].astype(int)
        for _ in range(10):
            means = np.zeros((self.grid[0] * self.grid[1], depth + 2), np.float32)
            for one in np.unique(cluster):
                mean = feature[cluster == one].sum(0)
                means[one] = mean / np.linalg.norm(mean)
            cluster = (feature @ means.T).argmax(1)
        names, index = np.unique(cluster, return_inverse=True)
        unit = unit[:, inside].T
        sums = [unit[index == one].sum(0) for one in range(len(names))]
        return index, np.stack([one / np.linalg.norm(one) for one in sums])

    def prototypes(self, image: np.ndarray, label: np.ndarray, scales: tuple[float, ...] | None = None) -> Any:
        """The labelled prototypes of an image; without scales, at image_size."""
        held: list[Any] = [np.zeros((0, self.model_depth), np.float32)], [np.zeros(0, int)]
        for view, _ in views(image, scales, False) if scales else [(self.single(image), False)]:
            embedding = self.slide(view, self.unit)
            inside = np.zeros(embedding.shape[1:], bool)
            inside[: view.shape[0], : view.shape[1]] = True
            index, prototype = self.segments(embedding, inside)
            small = nearest_labels(label, view.shape[:2]).flatten()
            name = np.array([np.bincount(small[index == one]).argmax() for one in range(len(prototype))])
            held[0].append(prototype[name != 255])
            held[1].append(name[name != 255])
        return np.concatenate(held[0]), np.concatenate(held[1])

    @property
    def model_depth(self) -> int:
        return self.classifier.semantic_classifier[0].in_channels

    def single(self, image: np.ndarray) -> np.ndarray:
        return longest_side(image, self.image_size) if self.image_size > 0 else image

    def neighbours(self, prototype: np.ndarray, memory: Any) -> np.ndarray:
        """(S, K): how many of the 20 most similar prototypes of the memory have each label."""
        counts = []
        for one in prototype:
            order = np.argsort(-(memory[0] @ one), kind="stable")[:20]
            counts.append(np.bincount(memory[1][order], minlength=self.num_classes))
        return np.stack(counts)

    def softmax_single(self, image: np.ndarray, refine: bool = False) -> np.ndarray:
        """With a CRF the release adds up the logits of crops that overlap: here are none that do."""
        view = self.single(image)
        logits = self.slide(view, self.logits)[:, : view.shape[0], : view.shape[1]]
        label = crf(view, softmax(logits)) if refine else logits.argmax(0)
        return nearest_labels(label, image.shape[:2])

    def retrieval_single(self, image: np.ndarray, memory: Any, refine: bool = False) -> np.ndarray:
        view = self.single(image)
        embedding = self.slide(view, self.unit)
        inside = np.zeros(embedding.shape[1:], bool)
        inside[: view.shape[0], : view.shape[1]] = True
        index, prototype = self.segments(embedding, inside)
        share = (self.neighbours(prototype, memory) / 20)[index].reshape(*view.shape[:2], -1).transpose(2, 0, 1)
        return nearest_labels(crf(view, share) if refine else share.argmax(0), image.shape[:2])

    def softmax_scales(self, image: np.ndarray) -> np.ndarray:
        found = []
        for view, flipped in views(image, MANY_SCALES, True):
            logits = self.slide(view, self.logits)[:, : view.shape[0], : view.shape[1]]
            probability = softmax(bilinear(logits, image.shape[:2]))
            found.append(probability[..., ::-1] if flipped else probability)
        return np.mean(found, 0)

    def retrieval_scales(self, image: np.ndarray, memory: Any, scales: tuple[float, ...] = MANY_SCALES) -> np.ndarray:
        found = []
        for view, flipped in views(image, scales, True):
            embedding = self.slide(view, self.unit)[:, : view.shape[0], : view.shape[1]]
            index, prototype = self.segments(embedding, np.ones(view.shape[:2], bool))
            share = (self.neighbours(prototype, memory) / 20)[index].reshape(*view.shape[:2], -1)
            share = full_size(share.transpose(2, 0, 1).astype(np.float32), image.shape[:2])
            found.append(share[..., ::-1] if flipped else share)
        return np.mean(found, 0)

    def retrieval_labels(self, image: np.ndarray, memory: Any, label: np.ndarray) -> np.ndarray:
        share = self.retrieval_scales(image, memory, (0.5, 1, 1.5, 2))
        for one, here in enumerate(present(label, self.num_classes)):
            share[one] /= max(share[one].max(), 0.15) if here else 1
        return crf(image, share)

    def whole(self, image: np.ndarray, scales: tuple[float, ...], flip: bool) -> tuple[list, list]:
        """Embeddings and logits of whole views at 1/8 of the image, mirrored back."""
        size = (image.shape[0] // 8, image.shape[1] // 8)
        embeddings, logits = [], []
        for view, flipped in views(image, scales, flip):
            pixels = self.padded(view)
            for held, maps in ((embeddings, self.embed(pixels)[0].numpy()), (logits, self.logits(pixels))):
                maps = maps[:, : view.shape[0], : view.shape[1]]
                held.append(bilinear(maps[..., ::-1] if flipped else maps, size))
        return embeddings, logits

    def cam_walk(self, image: np.ndarray, cams: dict[int, np.ndarray]) -> np.ndarray:
        score = np.zeros((self.num_classes, *image.shape[:2]), np.float32)
        for name, cam in cams.items():
            score[name + 1] = cam
        score[0] = (1 - score[1:].max(0)) ** 6
        small = F.interpolate(torch.from_numpy(score)[None], scale_factor=1 / 8, mode="bilinear", align_corners=False)
        embeddings, _ = self.whole(image, (1,), True)
        return crf(image, full_size(walk(embeddings, small[0].numpy(), 6), image.shape[:2]))

    def softmax_walk(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
        embeddings, logits = self.whole(image, (1,), True)
        score = np.mean([softmax(one) for one in logits], 0)
        score = by_maximum(score, present(label, self.num_classes))
        return crf(image, full_size(walk(embeddings, score, 6), image.shape[:2]))

    def softmax_one_step(self, image: np.ndarray, label: np.ndarray) -> np.ndarray:
        """The release's labels "without" a walk: it squares the step matrix no time, and still takes that one step."""
        embeddings, logits = self.whole(image, (0.75, 1), True)
        score = by_maximum(softmax(np.mean(logits, 0)), present(label, self.num_classes))
        return full_size(walk(embeddings, score, 0), image.shape[:2]).argmax(0)

    def point_walk(self, image: np.ndarray, label: np.ndarray, region: np.ndarray) -> np.ndarray:
        half = (image.shape[0] // 2, image.shape[1] // 2)
        pixels = self.padded(image)
        maps = bilinear(self.embed(pixels)[0].numpy(), (pixels.shape[-2] // 2, pixels.shape[-1] // 2))
        maps = maps[:, : half[0], : half[1]]
        small = [
            F.interpolate(torch.from_numpy(one)[None, None].float(), half)[0, 0].numpy() for one in (label, region)
        ]
        cluster = self.segments(maps, np.ones(half, bool))[0]
        own = small[0].flatten().astype(int)
        keys = np.stack([cluster, np.where(own == 255, self.num_classes, own), small[1].flatten().astype(int)])
        names, index = np.unique(keys, axis=1, return_inverse=True)
        index, unit = index.reshape(-1), unit_columns(maps).reshape(len(maps), -1).T
        sums = np.stack([unit[index == one].sum(0) for one in range(names.shape[1])])
        labelled = names[1] < self.num_classes
        nearest = (unit @ (sums / np.linalg.norm(sums, axis=1, keepdims=True))[labelled].T).argmax(1)
        votes = np.eye(self.num_classes)[names[1][labelled][nearest]]  # (n, K)
        share = np.stack([votes[index == one].mean(0) for one in range(names.shape[1])])[index]
        eighth = (image.shape[0] // 8, image.shape[1] // 8)
        score = bilinear(share.T.reshape(-1, *half).astype(np.float32), eighth)
        score = walk([bilinear(maps, eighth)], by_maximum(score, present(label, self.num_classes)), 6)
        found = crf(image, full_size(score, image.shape[:2]))
        return np.where(label == 255, 255, found)
