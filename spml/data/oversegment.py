"""Over-segmentations for the low-level image similarity: regions of even colour whose borders follow the image's edges.

The default is a hierarchy of watershed regions on an oriented boundary strength, after Arbelaez et al., "Contour
detection and hierarchical image segmentation" (PAMI 2011), section 4, with another linkage and without their learnt
detector; the other method is Felzenszwalb's. Both need the extra packages of `pip install -e .[oversegment]`.
"""

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from spml.data.samples import read_image
from spml.errors import UserError

Array = NDArray

METHODS = {"hierarchy": "higra", "felzenszwalb": "skimage.segmentation"}  # and the module that does the work
MAX_SEGMENTS = 255  # ids 0..254; 255 is padding
MAX_PIXELS = 1_000_000  # a larger image is segmented at this size
ORIENTATIONS = 8
SCALES = (1.0, 2.0)  # pixels, of the derivative filters
TEXTURE_SCALES = (1.0, 2.0)
SUPERPIXELS = 600  # regions from which on the strength of borders counts


def oversegment(
    image: str | Path | Array, method: str = "hierarchy", *, threshold: float = 1.2, max_segments: int = MAX_SEGMENTS
) -> Array:
    """Cut an image into regions.

    Args:
        image: a path, or RGB uint8 (H, W, 3), of any size from one pixel on; over a million pixels it is segmented at
            reduced size.
        method: `hierarchy` or `felzenszwalb`.
        threshold: > 0, higher = fewer regions; independent of the image's size. 1.2 gives about 70 regions in a photo.
        max_segments: in [1, 255]; where the threshold leaves more, the cut moves up until they fit.

    Returns: uint8 (H, W), ids 0..n-1 without a gap.
    Raises: UserError for another kind of image, or where the method's package is missing; ValueError for options out of
        range.
    """
    if not 1 <= max_segments <= MAX_SEGMENTS or not threshold > 0:
        raise ValueError(f"expected threshold > 0 and 1 <= max_segments <= 255, got {threshold} and {max_segments}")
    package, image = load_method(method), read_image(image)
    height, width = image.shape[:2]
    shrink = np.sqrt(MAX_PIXELS / (height * width))
    small = image
    if shrink < 1:
        size = (max(1, int(width * shrink)), max(1, int(height * shrink)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cut = _cut_hierarchy if method == "hierarchy" else _cut_felzenszwalb
    label = _numbered(cut(package, small, threshold, max_segments)).astype(np.uint8)
    return cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)


def load_method(method: str) -> ModuleType:
    """The module behind a method. Raises UserError where it is not installed."""
    if method not in METHODS:
        raise UserError(f"--method: expected one of {', '.join(METHODS)}, got {method!r}")
    try:
        return importlib.import_module(METHODS[method])
    except ImportError as error:
        package = METHODS[method].split(".")[0]
        raise UserError(f"--method {method} needs {package}: pip install -e .[oversegment] ({error})") from error


def boundary_strength(image: Array) -> tuple[Array, Array]:
    """How strongly colour and texture change at each pixel, and in which direction.

    Responses of elongated Gaussian derivatives in 8 orientations and 2 scales to L, a, b (mean square over scales, sum
    over channels), plus those to the local contrast at two scales.

    Args:
        image: RGB uint8 (H, W, 3).
    Returns:
        strength float32 (H, W), roughly the change of Lab colour over the edge; direction of the change float32 (H, W)
        in [0, pi), 0 = along a row, pi / 2 = along a column.
    """
    colour, texture = _channels(image)
    energy = np.zeros((ORIENTATIONS, *image.shape[:2]), np.float32)
    for channels, scales in ((colour, SCALES), (texture, (3.0,))):
        for scale in scales:
            for index in range(ORIENTATIONS):
                kernel = _derivative(scale, np.pi * index / ORIENTATIONS)
                response = cv2.filter2D(channels, -1, kernel, borderType=cv2.BORDER_REFLECT)
                weight = 1 / len(SCALES) if channels is colour else 0.5
                energy[index] += weight * np.square(response).sum(axis=2)
    direction = energy.argmax(axis=0) * np.float32(np.pi / ORIENTATIONS)
    return np.sqrt(energy.max(axis=0)), direction


def _channels(image: Array) -> tuple[Array, Array]:
    """Lab colour (H, W, 3) and local contrast (H, W, 2) of the lightness, float32."""
    colour = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    light = colour[..., 0]
    texture = []
    for scale in TEXTURE_SCALES:
        detail = cv2.GaussianBlur(light, (0, 0), scale) - cv2.GaussianBlur(light, (0, 0), 2 * scale)
        texture.append(3 * cv2.GaussianBlur(np.abs(detail), (0, 0), 2.0))
    return colour, np.stack(texture, axis=2)


def _derivative(scale: float, direction: float) -> Array:
    """First derivative of a Gaussian along `direction`, twice as long across; a unit step gives 1."""
    reach = int(np.ceil(6 * scale))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = x * np.cos(direction) + y * np.sin(direction)
    across = y * np.cos(direction) - x * np.sin(direction)
    kernel = along * np.exp(-0.5 * ((along / scale) ** 2 + (across / (2 * scale)) ** 2))
    return (2 * kernel / np.abs(kernel).sum()).astype(np.float32)


def _cut_hierarchy(hg: Any, image: Array, threshold: float, max_segments: int) -> Array:
    """Region of each pixel (H, W): oriented watershed, hierarchy of merges, horizontal cut."""
    shape = image.shape[:2]
    if max(shape) == 1:
        return np.zeros(shape, np.int64)  # no two pixels, no graph
    strength, direction = (value.ravel() for value in boundary_strength(image))
    graph = hg.get_4_adjacency_graph(shape)
    source, target = graph.edge_list()
    weight = (strength[source] + strength[target]) / 2
    turned = np.where(strength[source] >= strength[target], direction[source], direction[target])
    rag, _ = hg.oriented_watershed(graph, weight, shape, turned)
    features = np.concatenate(_channels(image), axis=2).reshape(-1, 5)
    # Ward's linkage, which is fast, makes the lowest levels, where borders are too short for their strength to tell.
    tree, altitude = hg.binary_partition_tree_ward_linkage(rag, *_means(hg, rag, features))
    superpixel = hg.labelisation_horizontal_cut_from_num_regions(tree, altitude, SUPERPIXELS)
    rag = hg.make_region_adjacency_graph_from_labelisation(graph, superpixel)
    if rag.num_edges() == 0:
        return superpixel
    linkage = _Linkage(hg, rag, weight, *_means(hg, rag, features))
    tree, altitude = hg.binary_partition_tree(rag, linkage, linkage.first_weights(*rag.edge_list()))
    explorer = hg.HorizontalCutExplorer(tree, hg.tree_monotonic_regression(tree, altitude, "max"))
    cut = explorer.horizontal_cut_from_altitude(threshold)
    if len(cut.nodes()) > max_segments:
        cut = explorer.horizontal_cut_from_num_regions(max_segments, at_least=False)
    return cut.labelisation_leaves(tree)


def _means(hg: Any, rag: Any, features: Array) -> tuple[Array, Array]:
    """Mean features (R, C) and number of pixels (R,) of a graph's regions, from `features` (N, C) of the pixels."""
    region = hg.rag_back_project_vertex_weights(rag, np.arange(rag.num_vertices())).ravel()
    area = np.bincount(region).astype(float)
    return np.stack([np.bincount(region, feature) for feature in features.T], axis=1) / area[:, None], area


def _numbered(label: Array) -> Array:
    """The same regions with ids 0..n-1 without a gap."""
    return np.unique(label, return_inverse=True)[1].reshape(label.shape)


class _Linkage:
    """Cost of merging regions: (mean strength of their border + half the distance of their means) * sqrt(ab / (a + b))
    with the means of colour and texture, and a, b the regions' parts of the image. Higra calls it at every merge.

    The last factor, as in Ward's method, makes small regions go first: averages alone keep specks, and open weak
    stretches in the border of a large object.
    """

    def __init__(self, hg: Any, rag: Any, weight: Array, mean: Array, area: Array) -> None:
        length = hg.rag_accumulate_on_edges(rag, hg.Accumulators.counter, edge_weights=weight)
        total = hg.rag_accumulate_on_edges(rag, hg.Accumulators.sum, edge_weights=weight)
        self.length, self.total = length.tolist(), total.tolist()  # of each border; lists are faster one by one
        self.mean, self.area = mean.tolist(), (area / area.sum()).tolist()

    def cost(self, edge: int, one: int, two: int) -> float:
        """Cost of merging regions `one` and `two`, which share the border `edge`."""
        distance = math.dist(self.mean[one], self.mean[two])
        a, b = self.area[one], self.area[two]
        return (self.total[edge] / self.length[edge] + distance / 2) * math.sqrt(a * b / (a + b))

    def first_weights(self, source: Array, target: Array) -> Array:
        """Costs (E,) of all borders of the initial graph."""
        ends = zip(source.tolist(), target.tolist(), strict=True)
        return np.array([self.cost(edge, one, two) for edge, (one, two) in enumerate(ends)])

    def __call__(self, graph: Any, fused: int, new: int, one: int, two: int, neighbours: list) -> None:
        a, b = self.area[one], self.area[two]
        pairs = zip(self.mean[one], self.mean[two], strict=True)
        self.mean.append([(a * x + b * y) / (a + b) for x, y in pairs])  # at index `new`: regions are numbered in order
        self.area.append(a + b)
        for neighbour in neighbours:
            edge = neighbour.new_edge_index()
            if neighbour.num_edges() > 1:
                first, second = neighbour.first_edge_index(), neighbour.second_edge_index()
                self.total[edge] = self.total[first] + self.total[second]
                self.length[edge] = self.length[first] + self.length[second]
            neighbour.set_new_edge_weight(self.cost(edge, new, neighbour.neighbour_vertex()))


def _cut_felzenszwalb(segmentation: Any, image: Array, threshold: float, max_segments: int) -> Array:
    """Region of each pixel (H, W); the scale grows until at most `max_segments` are left."""
    scale, smallest = 160 * threshold, max(1, image[..., 0].size // 800)
    while True:
        label = segmentation.felzenszwalb(image, scale=scale, sigma=0.8, min_size=smallest)
        if label.max() < max_segments:
            return label
        scale, smallest = 1.5 * scale, smallest + smallest // 4 + 1
