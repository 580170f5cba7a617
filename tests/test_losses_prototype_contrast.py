"""Pixel-to-prototype contrast against plain loops, by hand, at its edges, by gradcheck, and over two processes."""

import math
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from spml.engine import distributed
from spml.grouping.memory import ALONE
from spml.losses import prototype_contrast as ppc

MINING = (None, "released", "paper")
VOID = 255


def problem(seed=0, batch=3, classes=4, channels=5, height=4, width=6):
    """Features and maps of two views, tags, pixels inside; float64. The last image is padded, the last class absent."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        return torch.randn(batch, count, height, width, generator=generator, dtype=torch.float64)

    tag = torch.rand(batch, classes, generator=generator) < 0.6
    tag[:, 0], tag[:, -1] = True, False
    inside = torch.ones(batch, height, width, dtype=torch.bool)
    inside[-1, :, width - 2 :] = False
    return [draw(channels).relu() for _ in range(2)], [draw(classes) for _ in range(2)], tag, inside


def views(features, maps, tag, inside, threshold=0.2, exchange=ALONE):
    return [ppc.View.of(f, m, tag, inside, threshold, exchange) for f, m in zip(features, maps, strict=True)]


# The reference: nested lists and Python's floats.


def pixels_by_loops(feature, maps, tag, inside, threshold):
    """Feature, weights and label of each pixel."""
    rows = []
    for f, x, has, there in zip(feature.tolist(), maps.tolist(), tag.tolist(), inside.tolist(), strict=True):
        normal = []
        for plane, present in zip(x, has, strict=True):
            values = [max(0.0, v) for row in plane for v in row]
            own = [v for v, here in zip(values, (v for row in there for v in row), strict=True) if here]
            low, high = min(own), max(own)
            scaled = [max(0.0, (v - low - 1e-5) / (high - low + 1e-5)) for v in values]
            normal.append(scaled if present else [0.0] * len(values))
        for i, is_inside in enumerate(v for row in there for v in row):
            own = [plane[i] if is_inside else 0.0 for plane in normal]
            best = max(own)
            label = own.index(best)
            if threshold is None:
                label = VOID if best <= 0 or not is_inside else label
            else:
                label = VOID if not is_inside else 0 if best <= threshold else label + 1
                own = [1 - best if label == 0 else 0.0, *own]
            rows.append(([v for plane in f for row in plane for v in row][i :: len(values)], own, label))
    return rows


def unit(vector):
    length = math.sqrt(sum(v * v for v in vector))
    return [v / length if length else 0.0 for v in vector]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def prototypes_by_loops(rows, top):
    found = []
    for k in range(len(rows[0][1])):
        ranked = sorted((weight[k] for _, weight, _ in rows), reverse=True)
        last = ranked[:top][-1]
        total = [0.0] * len(rows[0][0])
        for feature, weight, _ in rows:
            if weight[k] >= last - 1e-5:
                total = [t + weight[k] * f for t, f in zip(total, feature, strict=True)]
        found.append(unit(total))
    return found


def contrast_by_loops(feature, label, prototypes, temperature, mining):
    """The loss of a pixel; None where it does not count."""
    if label == VOID or not any(prototypes[label]):
        return None
    existing = [k for k, p in enumerate(prototypes) if any(p)]
    score = {k: math.exp(dot(feature, prototypes[k]) / temperature) for k in existing}
    if mining == "released":
        ranked = sorted(existing, key=lambda k: -score[k])
        skipped = max(1, round(3 * len(existing) / 21))
        chosen = ranked[skipped : math.ceil(13 * len(existing) / 21)]
    else:
        chosen = sorted((k for k in existing if k != label), key=lambda k: -score[k])
    if mining == "paper":
        similar = chosen[: math.ceil(3 * len(chosen) / 5)]
        chosen = similar[len(similar) // 2 :]
    return -math.log(score[label] / (score[label] + sum(score[k] for k in chosen)))


def sampled_by_loops(similarity, label, order):
    share, classes = [0.0] * len(label), sorted({one for one in label if one != VOID})
    for one in classes:
        pixels = [i for i, own in enumerate(label) if own == one]
        half = len(pixels) // 2
        by_chance = sorted(pixels, key=lambda i: order[i])[:half]
        least = sorted(pixels, key=lambda i: similarity[i])[: int(len(pixels) * 6 // 10)]
        for i in [*by_chance, *least[len(least) - half :]]:
            share[i] += 1 / (2 * half) / len(classes)
    return share


def terms_by_loops(features, maps, tag, inside, threshold, orders, temperature, mining):
    rows = [pixels_by_loops(f, m, tag, inside, threshold) for f, m in zip(features, maps, strict=True)]
    both = [prototypes_by_loops(one, 32) for one in rows]
    terms = {"cross_prototype": 0.0, "cross_cam": 0.0, "intra_view": 0.0}
    for own, other in ((0, 1), (1, 0)):
        unit_rows = [unit(feature) for feature, _, _ in rows[own]]
        for name, labels, prototypes in (("cross_prototype", own, other), ("cross_cam", other, own)):
            losses = [
                contrast_by_loops(f, label, both[prototypes], temperature, None)
                for f, (_, _, label) in zip(unit_rows, rows[labels], strict=True)
            ]
            counted = [one for one in losses if one is not None]
            terms[name] += sum(counted) / max(1, len(counted)) / 2
        labels = [label for _, _, label in rows[own]]
        losses = [
            contrast_by_loops(f, y, both[own], temperature, mining) for f, y in zip(unit_rows, labels, strict=True)
        ]
        labels = [VOID if loss is None else label for loss, label in zip(losses, labels, strict=True)]
        similarity = [0.0 if y == VOID else dot(f, both[own][y]) for f, y in zip(unit_rows, labels, strict=True)]
        share = sampled_by_loops(similarity, labels, orders[own])
        terms["intra_view"] += sum(s * loss for s, loss in zip(share, losses, strict=True) if s) / 2
    return terms


@pytest.mark.parametrize("mining", MINING[1:])
@pytest.mark.parametrize(("classes", "threshold"), [(4, 0.2), (1, 0.2), (20, 0.5), (4, None)])
def test_terms_equal_loops(classes, threshold, mining):
    features, maps, tag, inside = problem(classes=classes)
    found = ppc.prototype_contrast(
        *views(features, maps, tag, inside, threshold), torch.Generator().manual_seed(3), mining=mining
    )
    generator = torch.Generator().manual_seed(3)
    orders = [torch.rand(inside.numel(), generator=generator).tolist() for _ in range(2)]
    expected = terms_by_loops(features, maps, tag, inside, threshold, orders, 0.1, mining)
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("top", (1, 3, 32, 1000))
def test_prototypes_equal_loops(top):
    features, maps, tag, inside = problem()
    weight, label = ppc.weights_and_labels(maps[0], tag, inside, 0.2)
    rows = pixels_by_loops(features[0], maps[0], tag, inside, 0.2)
    torch.testing.assert_close(weight, weight.new_tensor([one for _, one, _ in rows]))
    assert label.tolist() == [one for _, _, one in rows] and {0, 1, VOID} <= {*label.tolist()}
    found = ppc.prototypes(features[0].permute(0, 2, 3, 1).flatten(0, 2), weight, top=top)
    torch.testing.assert_close(found, found.new_tensor(prototypes_by_loops(rows, top)))
    assert not found[-1].any()  # the class that no image has


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("count", (1, 2, 3, 4, 7, 21, 80))
def test_contrast_equals_loops(mining, count):
    """Among prototypes of 1 to 80 classes, one void pixel, and one class without a prototype."""
    generator = torch.Generator().manual_seed(count)
    prototype = torch.nn.functional.normalize(torch.rand(count + 1, 6, generator=generator).double(), dim=1)
    prototype[count] = 0
    feature = torch.nn.functional.normalize(torch.rand(40, 6, generator=generator).double(), dim=1)
    label = torch.randint(count, (40,), generator=generator)
    label[3], label[7] = VOID, count
    loss, counts = ppc.contrast(feature, label, prototype, 0.1, mining)
    assert not counts[3] and not counts[7] and counts.sum() == 38
    for i in range(40):
        expected = contrast_by_loops(feature[i].tolist(), int(label[i]), prototype.tolist(), 0.1, mining)
        assert loss[i].item() == pytest.approx(expected or 0.0, rel=1e-9, abs=1e-12)


def test_numbers_of_negatives():
    """As released with 21 prototypes: ranks 4 to 13, the own one among them. The paper: ranks 7 to 12 of 20 others."""
    similarity = torch.arange(21.0).flip(0)[None]  # the class is the rank, less one
    there, others = torch.ones(21, dtype=torch.bool), torch.ones(1, 21, dtype=torch.bool)
    others[0, 5] = False
    assert ppc.mined(similarity, there, others, "released").tolist() == [[20.0 - rank for rank in range(3, 13)]]
    assert ppc.mined(similarity, there, others, "paper").tolist() == [[13.0, 12.0, 11.0, 10.0, 9.0, 8.0]]
    with pytest.raises(ValueError, match="expected released or paper, got 'both'"):
        ppc.mined(similarity, there, others, "both")


@pytest.mark.parametrize("length", (1, 2, 3, 5, 9, 20, 100))
def test_sampled_equals_loops(length):
    generator = torch.Generator().manual_seed(length)
    similarity, order = (torch.rand(length, generator=generator).double() for _ in range(2))
    label = torch.randint(3, (length,), generator=generator)
    label[label == 2] = VOID
    found = ppc.sampled(similarity, label, order)
    assert found.tolist() == pytest.approx(sampled_by_loops(similarity.tolist(), label.tolist(), order.tolist()))


def test_sampled_by_hand():
    """Ten pixels of one class, the least similar first. By chance 5: those of the smallest numbers, the last five.

    By hardness: of the 6 least similar, pixels 0 to 5, all but the first: 1 to 5. Each of the 10 chosen counts 1/10,
    and pixel 5, chosen twice, 2/10. A second class of one pixel adds nothing and halves the rest.
    """
    similarity, order = torch.arange(10) / 10, torch.arange(10).flip(0) / 10
    expected = torch.tensor([0, 1, 1, 1, 1, 2, 1, 1, 1, 1]) / 10
    torch.testing.assert_close(ppc.sampled(similarity, torch.zeros(10, dtype=torch.long), order), expected)
    more = [torch.cat([x, torch.zeros(1)]) for x in (similarity, order)]
    found = ppc.sampled(more[0], torch.tensor([0] * 10 + [4]), more[1])
    torch.testing.assert_close(found, torch.cat([expected / 2, torch.zeros(1)]))


def by_hand(pixels):
    """`pixels` of the background and as many of one class: features (1, 0) and (0, 2), in both views."""
    feature = torch.tensor([[1.0] * pixels + [0.0] * pixels, [0.0] * pixels + [2.0] * pixels]).view(1, 2, 1, -1)
    maps = torch.tensor([0.0] * pixels + [4.0] * pixels).view(1, 1, 1, -1)
    return [feature] * 2, [maps] * 2, torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, 2 * pixels, dtype=torch.bool)


def test_terms_by_hand():
    """A map of 0 and 4: background and class, each of weight 1 where the other is 0, so prototypes (1, 0) and (0, 1).

    Every pixel has similarity 1 to its own prototype and 0 to the other one. At temperature 1 each loses
    -ln(e / (e + 1)) = ln(1 + 1/e) = 0.3133: so do both cross terms. Intra-view, two classes of two pixels: one by
    chance and one by hardness, which lose the same; of 2 prototypes the released way leaves out the most similar one,
    and keeps the other: 0.3133, too. With one pixel a class, intra-view adds 0 for each: 0.
    """
    expected = math.log(1 + math.exp(-1))
    assert expected == pytest.approx(0.31326, abs=1e-5)
    for mining in MINING[1:]:
        two = ppc.prototype_contrast(*views(*by_hand(2)), temperature=1.0, mining=mining)
        assert [value.item() for value in two.values()] == pytest.approx([expected] * 3, rel=1e-4)
        one = ppc.prototype_contrast(*views(*by_hand(1)), temperature=1.0, mining=mining)
        assert [value.item() for value in one.values()] == pytest.approx([expected, expected, 0], rel=1e-4)


@pytest.mark.parametrize("mining", MINING)
def test_gradcheck(mining):
    features, maps, tag, inside = problem(batch=2, height=2, width=3)
    one = views(features, maps, tag, inside)[0]
    raw = torch.randn(one.feature.shape, dtype=torch.float64).requires_grad_()

    def loss(x):
        return ppc.contrast(torch.nn.functional.normalize(x, dim=1), one.label, one.prototype, 0.5, mining)[0]

    assert torch.autograd.gradcheck(loss, raw)


@pytest.mark.parametrize("mining", MINING[1:])
def test_gradients_reach_features_alone(mining):
    features, maps, tag, inside = problem()
    leaves = [x.requires_grad_() for x in (*features, *maps)]
    terms = ppc.prototype_contrast(*views(features, maps, tag, inside), mining=mining)
    gradients = torch.autograd.grad(sum(terms.values()), leaves, allow_unused=True)
    assert gradients[2] is None and gradients[3] is None
    outside = ~inside[:, None].expand_as(features[0])
    for gradient in gradients[:2]:
        assert gradient.isfinite().all() and gradient.any() and not gradient[outside].any()


@pytest.mark.parametrize("mining", MINING[1:])
@pytest.mark.parametrize(
    "case", ("all void", "background alone", "no background, no tag", "features of zero", "one pixel")
)
def test_nothing_to_contrast_costs_nothing(case, mining):
    features, maps, tag, inside = problem()
    threshold = 0.2
    if case == "all void":
        inside[:] = False
    elif case == "background alone":
        tag[:] = False
    elif case == "no background, no tag":
        tag[:], threshold = False, None
    elif case == "features of zero":
        features = [torch.zeros_like(x) for x in features]
    else:
        features, maps = ([x[:1, :, :1, :1] for x in both] for both in (features, maps))
        tag, inside = tag[:1], inside[:1, :1, :1]
    features = [x.clone().requires_grad_() for x in features]
    first, second = views(features, maps, tag, inside, threshold)
    if case == "background alone":
        assert {*first.label.tolist()} == {0, VOID} and first.prototype[0].any() and not first.prototype[1:].any()
    terms = ppc.prototype_contrast(first, second, mining=mining)
    gradients = torch.autograd.grad(sum(terms.values()), features)
    assert all(value == 0 for value in terms.values())
    assert all(gradient.isfinite().all() and not gradient.any() for gradient in gradients)


def test_a_class_that_no_image_has_changes_nothing():
    features, maps, tag, inside = problem()
    with_it = ppc.prototype_contrast(*views(features, maps, tag, inside), torch.Generator().manual_seed(1))
    without = [x[:, :-1] for x in maps]
    found = ppc.prototype_contrast(*views(features, without, tag[:, :-1], inside), torch.Generator().manual_seed(1))
    for name, value in with_it.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-12)


def test_the_random_half_is_that_of_the_generator():
    both = views(*problem())
    terms = [ppc.prototype_contrast(*both, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert terms[0] == terms[1] and terms[0]["intra_view"] != terms[2]["intra_view"]
    assert terms[0]["cross_cam"] == terms[2]["cross_cam"]


def share_of(rows, exchange):
    """Prototypes, terms and the gradient of the first view's features, of some images of a batch of four."""
    features, maps, tag, inside = problem(batch=4)
    features = [x[rows].clone().requires_grad_() for x in features]
    both = views(features, [x[rows] for x in maps], tag[rows], inside[rows], exchange=exchange)
    terms = ppc.prototype_contrast(*both, torch.Generator().manual_seed(2), exchange=exchange)
    (gradient,) = torch.autograd.grad(sum(terms.values()), features[:1])
    return [one.prototype for one in both], {name: value.detach() for name, value in terms.items()}, gradient


def process(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(share_of([2 * rank, 2 * rank + 1], distributed.exchange()), Path(folder) / f"{rank}.pth")
    distributed.stop()


def test_two_processes_are_one(tmp_path):
    """Equal prototypes everywhere; the shares of the terms and their gradients sum to those of the whole batch."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    multiprocessing.spawn(process, (port, str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    expected, terms, gradient = share_of([0, 1, 2, 3], ALONE)
    for theirs, _, _ in found:
        for ours, one in zip(expected, theirs, strict=True):
            torch.testing.assert_close(one, ours)
    for name, value in terms.items():
        torch.testing.assert_close(found[0][1][name] + found[1][1][name], value)
    torch.testing.assert_close(torch.cat([one[2] for one in found]), gradient)


@pytest.mark.gpu
@pytest.mark.parametrize("mining", MINING[1:])
def test_on_cuda(mining):
    features, maps, tag, inside = problem()
    expected = ppc.prototype_contrast(
        *views(features, maps, tag, inside), torch.Generator().manual_seed(0), mining=mining
    )
    features, maps = ([x.cuda() for x in both] for both in (features, maps))
    both = views(features, maps, tag.cuda(), inside.cuda())
    found = ppc.prototype_contrast(*both, torch.Generator().manual_seed(0), mining=mining)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-6)
