"""Clustering and segments against loops, and the empty cases."""

import math

import pytest
import torch

from spml.grouping import kmeans, segment_by_kmeans
from spml.grouping.kmeans import grid_labels, location_features


def loop_kmeans(feature, start, num_clusters, iterations):
    """Spherical k-means on one image's unit vectors, by lists: mean direction, then the largest dot product."""
    label = list(start)
    for _ in range(iterations):
        directions = []
        for cluster in range(num_clusters):
            members = [f for f, c in zip(feature, label, strict=True) if c == cluster]
            total = [sum(column) for column in zip(*members, strict=True)]
            length = math.sqrt(sum(t * t for t in total)) if total else 0.0
            directions.append([t / length for t in total] if length else [0.0] * len(feature[0]))
        label = [
            max(range(num_clusters), key=lambda c: sum(a * b for a, b in zip(f, directions[c], strict=True)))
            for f in feature
        ]
    return label


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length for v in vector]


def test_equals_loops():
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(2, 4, 6, 7, generator=generator, dtype=torch.float64)
    semantic = torch.randint(3, (2, 6, 7), generator=generator)
    semantic[torch.rand(2, 6, 7, generator=generator) < 0.2] = 255
    instance = torch.randint(4, (2, 6, 7), generator=generator)
    segments = segment_by_kmeans(embedding, semantic, instance, num_clusters=(2, 3), iterations=4)
    keys = []
    for b in range(2):
        feature, start, labels = [], [], []
        for y in range(6):
            for x in range(7):
                if semantic[b, y, x] == 255:
                    continue
                place = [y / 5 - 0.5, x / 6 - 0.5]
                feature.append(unit(unit(embedding[b, :, y, x].tolist()) + place))
                start.append(round(y / 5) * 3 + round(2 * x / 6))
                labels.append((int(semantic[b, y, x]), int(instance[b, y, x])))
        keys += [(b, c, *label) for c, label in zip(loop_kmeans(feature, start, 6, 4), labels, strict=True)]
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    assert segments.index.tolist() == [ranks[key] for key in keys]
    for rank, key in enumerate(sorted(set(keys))):
        found = segments.prototype_batch_index[rank], segments.prototype_semantic_label[rank]
        assert (*map(int, found), int(segments.prototype_instance_label[rank])) == (key[0], *key[2:])
        total = segments.embedding[segments.index == rank].sum(dim=0)
        torch.testing.assert_close(segments.prototype[rank], total / total.norm())


def test_prototypes_carry_gradient_through_the_normalisation():
    embedding = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def prototype(x):
        return segment_by_kmeans(x, num_clusters=(1, 1), iterations=1).prototype

    assert torch.autograd.gradcheck(prototype, (embedding,))


@pytest.mark.parametrize("wide", (False, True))
def test_rows_and_their_gradient_are_those_of_two_normalisations(wide):
    """Beside F.normalize of the joined rows, with an embedding of zeros among them."""
    generator = torch.Generator().manual_seed(6)
    embedding = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    embedding[1, :, 2, 2] = 0
    location = torch.rand(2, 4, 5, 5 if wide else 2, generator=generator, dtype=torch.float64) - 0.4
    weight = torch.randn(40, 6 + location.shape[-1], generator=generator, dtype=torch.float64)
    results = []
    for ours in (True, False):
        raw = embedding.clone().requires_grad_()
        if ours:
            segments = segment_by_kmeans(raw, num_clusters=(2, 2), location=location)
            found = segments.embedding, segments.embedding_with_location
        else:
            unit = torch.nn.functional.normalize(raw.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
            joined = torch.cat([0.1 * unit if wide else unit, location.flatten(0, 2)], dim=1)
            found = unit, torch.nn.functional.normalize(joined, dim=1)
        (torch.cat(found, dim=1) * weight).sum().backward()
        results.append((*found, raw.grad * embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)))  # 1e12 at the zeros
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_all_ignored():
    segments = segment_by_kmeans(torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 255))
    assert segments.embedding.shape == (0, 3)
    assert segments.prototype.shape == (0, 3)
    assert len(segments.index) == 0


def test_one_pixel():
    segments = segment_by_kmeans(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), num_clusters=(12, 12))
    torch.testing.assert_close(segments.prototype, torch.tensor([[0.6, 0.8]]))
    assert segments.index.tolist() == [0]


def test_images_do_not_meet():
    """A batch clusters each image as if it were alone."""
    embedding = torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(1))
    joined = segment_by_kmeans(embedding, num_clusters=(3, 3))
    before = 0
    for b in range(3):
        alone = segment_by_kmeans(embedding[b : b + 1], num_clusters=(3, 3))
        assert torch.equal(joined.index[joined.batch_index == b] - before, alone.index)
        before += len(alone.prototype)


@pytest.mark.parametrize("chunk", (10, 1 << 19))
def test_kmeans_of_the_gpu_is_that_of_the_cpu(monkeypatch, chunk):
    """Both ways on the CPU, with ignored pixels and with clusters that are empty from the start."""
    monkeypatch.setattr(kmeans, "CHUNK_ELEMENTS", chunk)
    generator = torch.Generator().manual_seed(4)
    feature = torch.nn.functional.normalize(torch.randn(3, 50, 4, generator=generator, dtype=torch.float64), dim=-1)
    label = torch.randint(5, (3, 50), generator=generator)
    valid = torch.rand(3, 50, generator=generator) < 0.8
    valid[1] = True
    start = label.clone()
    ours = kmeans.spherical_kmeans(feature, label, valid, 7, 3)
    batched = kmeans._cluster_batch(feature, label, valid, 7, 3)
    assert torch.equal(ours[valid], batched[valid])
    assert torch.equal(label, start)


def test_wide_location_is_densepose():
    """Clusters come from the first two values; "with location" is 0.1 embedding joined by all of them."""
    embedding = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(2))
    colour = torch.rand(1, 6, 6, 3, generator=torch.Generator().manual_seed(3))
    location = torch.cat([location_features(6, 6)[None], colour], dim=-1)
    plain = segment_by_kmeans(embedding, num_clusters=(3, 3))
    wide = segment_by_kmeans(embedding, num_clusters=(3, 3), location=location)
    assert torch.equal(plain.index, wide.index)
    joined = torch.cat([0.1 * wide.embedding, location.flatten(0, 2)], dim=1)
    torch.testing.assert_close(wide.embedding_with_location, joined / joined.norm(dim=1, keepdim=True))


def test_grid_of_a_side():
    assert grid_labels(1, 7, (1, 3)).tolist() == [[0, 0, 1, 1, 1, 2, 2]]


@pytest.mark.parametrize("name", ("semantic_label", "instance_label"))
def test_label_of_another_size(name):
    with pytest.raises(ValueError, match=rf"{name}: expected shape \(1, 4, 4\), got \(1, 4, 5\)"):
        segment_by_kmeans(torch.randn(1, 2, 4, 4), **{name: torch.zeros(1, 4, 5)})
