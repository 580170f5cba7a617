"""The images of the built-in data set: drawn scenes of textured, shaded, overlapping objects with exact masks.

Two kinds of scene hold different classes (`SCENES`; one class is in both), so that images which share a tag also share
a surrounding. Outline and texture tell a class. All classes draw their colours from one distribution, but an object
differs in colour from its ground and its neighbours, so that an over-segmentation can follow its border.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

CLASSES = ("background", "hut", "bush", "ball", "boat", "fish")
SCENES = {"land": ("hut", "bush", "ball"), "water": ("ball", "boat", "fish")}
SIZE = 112  # pixels, both sides
SUPERSAMPLING = 4

Array = np.ndarray


@dataclass(frozen=True)
class Scene:
    """One drawn image with its exact labels."""

    kind: str  # a key of SCENES
    image: Array  # (H, W, 3) uint8
    mask: Array  # (H, W) uint8, index into CLASSES
    instance: Array  # (H, W) uint8, 0 = background, 1.. = objects from the farthest to the nearest


@dataclass(frozen=True)
class Pose:
    """Where an object stands: image coordinates to object coordinates and back."""

    x: float
    y: float
    radius: float
    angle: float

    def to_image(self, outline: Array) -> Array:
        """Corners in units of the radius, (V, 2) as x, y, to pixels."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return outline @ np.array([[cos, sin], [-sin, cos]]) * self.radius + (self.x, self.y)

    def to_object(self) -> tuple[Array, Array]:
        """Object coordinates u (right) and v (down) of every pixel, in pixels: two (H, W) arrays."""
        y, x = np.mgrid[:SIZE, :SIZE] + 0.5
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return (x - self.x) * cos + (y - self.y) * sin, (y - self.y) * cos - (x - self.x) * sin


def _circle(radius: float | Array, first: float = 0.0, last: float = 2 * np.pi, corners: int = 48) -> Array:
    angle = np.linspace(first, last, corners)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _hut(rng: np.random.Generator) -> Array:
    eaves, wall = rng.uniform(-0.3, 0.1), rng.uniform(0.65, 0.8)
    half = [(0, -1), (0.95, eaves), (wall, eaves), (wall, 0.85)]
    return np.array(half + [(-x, y) for x, y in reversed(half)])


def _bush(rng: np.random.Generator) -> Array:
    angle = np.linspace(0, 2 * np.pi, 48)
    lumps = np.abs(np.sin(angle * rng.integers(5, 8) / 2 + rng.uniform(0, np.pi)))
    return _circle(0.72 + 0.25 * lumps) * (1, rng.uniform(0.75, 0.95))


def _ball(rng: np.random.Generator) -> Array:
    return _circle(rng.uniform(0.75, 0.85))


def _boat(rng: np.random.Generator) -> Array:
    deck, mast = rng.uniform(0.1, 0.3), rng.uniform(-0.2, 0.2)
    return np.array(
        [(-1, deck), (mast - 0.6, deck), (mast, -1), (mast + 0.65, deck), (1, deck), (0.7, 0.85), (-0.7, 0.85)]
    )


def _fish(rng: np.random.Generator) -> Array:
    body = _circle(1.0, -np.pi + 0.45, np.pi - 0.45) * (0.7, rng.uniform(0.45, 0.6)) + (0.3, 0)
    return np.concatenate([body, [(-1, 0.5), (-0.8, 0), (-1, -0.5)]]) * (rng.choice([-1, 1]), 1)


def _noise(rng: np.random.Generator, sigma: float | tuple[float, float]) -> Array:
    """Smooth noise of mean 0 and deviation 1, (H, W)."""
    noise = gaussian_filter(rng.standard_normal((SIZE, SIZE)), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def _bands(position: Array, period: float, phase: float) -> Array:
    """Stripes between -1 and 1 with soft edges."""
    return np.tanh(2.5 * np.sin(2 * np.pi * position / period + phase))


def _texture(name: str, u: Array, v: Array, rng: np.random.Generator) -> Array:
    """The pattern of a class in -1..1, (H, W): planks across a hut, speckles, nothing, planks up a boat, scales."""
    period, phase = rng.uniform(5.5, 8), rng.uniform(0, 2 * np.pi)
    if name == "hut":
        return _bands(v, period, phase)
    if name == "bush":
        return np.tanh(2.5 * _noise(rng, 1.3))
    if name == "ball":
        return np.zeros_like(u)
    if name == "boat":
        return _bands(u, period, phase)
    return _bands(u + v, 1.3 * period, phase) * _bands(u - v, 1.3 * period, phase)


OUTLINES: dict[str, Callable[[np.random.Generator], Array]] = {
    "hut": _hut,
    "bush": _bush,
    "ball": _ball,
    "boat": _boat,
    "fish": _fish,
}


def _colour(rng: np.random.Generator, avoid: list[Array]) -> Array:
    """A colour of any hue, (3,) in 0..1, that stays clear of those in `avoid`."""
    best, best_distance = np.zeros(3), -1.0
    for _ in range(50):
        colour = _from_hsv(rng.uniform(0, 1), rng.uniform(0.15, 0.8), rng.uniform(0.35, 0.95))
        distance = min((float(np.linalg.norm(colour - other)) for other in avoid), default=1.0)
        if distance > 0.4:
            return colour
        if distance > best_distance:
            best, best_distance = colour, distance
    return best


def _from_hsv(hue: float, saturation: float, value: float) -> Array:
    ramp = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation + saturation * ramp)


def _ground(kind: str, rng: np.random.Generator) -> tuple[Array, Array]:
    """The ground of a scene, (H, W, 3) in 0..1, and its mean colour: blades and patches on land, waves on water."""
    y = np.mgrid[:SIZE, :SIZE][0] / SIZE
    if kind == "land":
        colour = _from_hsv(rng.uniform(0.02, 0.45), rng.uniform(0.15, 0.6), rng.uniform(0.4, 0.85))
        pattern = 0.045 * _noise(rng, (2.2, 0.7)) + 0.05 * _noise(rng, 7)
    else:
        colour = _from_hsv(rng.uniform(0.42, 0.72), rng.uniform(0.15, 0.6), rng.uniform(0.4, 0.85))
        waves = np.sin(2 * np.pi * SIZE * y / rng.uniform(7, 11) + 1.2 * _noise(rng, (5, 9)))
        pattern = 0.06 * waves + 0.035 * _noise(rng, 8)
    light = 1 + pattern + rng.uniform(0.05, 0.3) * (0.5 - y)  # paler towards the horizon
    return colour * light[..., None], colour


def _coverage(outline: Array) -> Array:
    """How much of each pixel a polygon of pixel coordinates (V, 2) covers, (H, W) in 0..1."""
    canvas = Image.new("L", (SIZE * SUPERSAMPLING,) * 2)
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in (outline * SUPERSAMPLING).tolist()], fill=255)
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float64) / 255


def _shade(name: str, colour: Array, pose: Pose, rng: np.random.Generator) -> Array:
    """The surface of an object as if it filled the image, (H, W, 3): pattern times light from the upper left."""
    u, v = pose.to_object()
    contrast = rng.uniform(0.1, 0.17)
    pattern = 1 + contrast * _texture(name, u, v, rng)
    if name != "ball":
        light = 1 - 0.22 * np.clip((0.5 * u + 0.8 * v) / pose.radius, -1, 1)
        return colour * (pattern * light)[..., None]
    u, v = u / (0.85 * pose.radius), v / (0.85 * pose.radius)
    normal = np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
    light = 0.72 + 0.42 * np.clip(0.7 * normal - 0.4 * u - 0.6 * v, -0.3, 1)
    gloss = 0.35 * np.exp(-((u + 0.35) ** 2 + (v + 0.4) ** 2) / 0.03)
    return colour * light[..., None] + gloss[..., None]


def _place(name: str, bottom: float, instance: Array, areas: list[int], rng: np.random.Generator) -> tuple[Pose, Array]:
    """A pose and its coverage that leave at least 60 % of every earlier object in sight, or an empty coverage."""
    for _ in range(30):
        radius = rng.uniform(16, 30)
        pose = Pose(rng.uniform(8, SIZE - 8), bottom - 0.8 * radius, radius, rng.uniform(-0.3, 0.3))
        coverage = _coverage(pose.to_image(OUTLINES[name](rng)))
        covered = coverage >= 0.5
        left = [np.count_nonzero((instance == i + 1) & ~covered) >= 0.6 * area for i, area in enumerate(areas)]
        if np.count_nonzero(covered) >= 300 and all(left):
            return pose, coverage
    return pose, np.zeros_like(coverage)


def make_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene: 2 to 5 objects (fewer where there is no room) of its kind's classes, the farther ones first.

    `mask` and `instance` hold an object where it covers at least half of the pixel; the image is blended by coverage.
    """
    kind = str(rng.choice(list(SCENES)))
    names = rng.choice(SCENES[kind], size=rng.integers(1, 4), replace=False)
    image, ground = _ground(kind, rng)
    mask, instance = np.zeros((2, SIZE, SIZE), dtype=np.uint8)
    colours, areas = [ground], list[int]()
    for bottom in np.sort(rng.uniform(30, SIZE + 5, size=rng.integers(2, 6))):
        name = str(rng.choice(names))
        pose, coverage = _place(name, bottom, instance, areas, rng)
        covered = coverage >= 0.5
        if not covered.any():
            continue
        colours.append(_colour(rng, avoid=colours))
        shadow = gaussian_filter(np.roll(coverage, (3, 2), axis=(0, 1)), 2)
        image = image * (1 - 0.3 * shadow[..., None])
        image += coverage[..., None] * (_shade(name, colours[-1], pose, rng) - image)
        areas.append(int(np.count_nonzero(covered)))
        mask[covered] = CLASSES.index(name)
        instance[covered] = len(areas)
    image = image * rng.uniform(0.85, 1.1) + rng.normal(0, 0.015, image.shape)
    return Scene(kind, (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask, instance)
