"""The loss against loops over pixels and segments, closed forms, gradcheck and the empty cases."""

import math

import pytest
import torch
import torch.nn.functional as F

import spml.grouping.contrast_chunked as contrast_chunked
from spml.grouping import Relation, pixel_to_segment_loss

BACKENDS = ("dense", "chunked")


def problem(pixels=60, prototypes=14, groups=5, channels=6, seed=0, dtype=torch.float64):
    """Random pixels and prototypes, a relation with positives, negatives and segments out of scope."""
    generator = torch.Generator().manual_seed(seed)
    pixel = F.normalize(torch.randn(pixels, channels, generator=generator, dtype=dtype), dim=1)
    prototype = F.normalize(torch.randn(prototypes, channels, generator=generator, dtype=dtype), dim=1)
    own = torch.randint(prototypes, (pixels,), generator=generator)
    kind = torch.randint(3, (groups, prototypes), generator=generator)
    relation = Relation(torch.randint(groups, (pixels,), generator=generator), kind == 0, kind == 1)
    return pixel, prototype, own, relation


def loop_loss(pixel, prototype, own, relation, k, exclude_own):
    """RELEASED section 4 word by word, a pixel and a segment at a time, in Python's own floats."""
    losses = []
    for z, o, g in zip(pixel.tolist(), own.tolist(), relation.group.tolist(), strict=True):
        e = [math.exp(k * sum(a * b for a, b in zip(z, p, strict=True))) for p in prototype.tolist()]
        others = [e[s] for s in range(len(e)) if relation.positive[g, s] and s != o]
        numerator = math.fsum(others) if others and exclude_own else e[o]
        negative = math.fsum(e[s] for s in range(len(e)) if relation.negative[g, s])
        losses.append(-math.log(numerator / (numerator + negative)))
    return losses


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exclude_own", (True, False))
@pytest.mark.parametrize("groups", (1, 5, 40))
def test_equals_loops(backend, exclude_own, groups):
    inputs = problem(groups=groups)
    loss = pixel_to_segment_loss(*inputs, 8.0, exclude_own=exclude_own, reduction="none", backend=backend)
    assert loss.tolist() == pytest.approx(loop_loss(*inputs, 8.0, exclude_own), rel=1e-9)


@pytest.mark.parametrize("alone", (0, 100, 1 << 20))
@pytest.mark.parametrize("elements", (1, 64, 1 << 20))
@pytest.mark.parametrize("groups", (1, 5, 40))
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_chunked_equals_dense_with_gradients(monkeypatch, elements, groups, reduction, alone):
    monkeypatch.setattr(contrast_chunked, "CHUNK_ELEMENTS", elements)
    monkeypatch.setattr(contrast_chunked, "ALONE", alone)
    pixel, prototype, own, relation = problem(pixels=200, prototypes=30, groups=groups)
    weight = torch.linspace(0.5, 2, 200, dtype=pixel.dtype)
    results = []
    for backend in BACKENDS:
        z, p = pixel.clone().requires_grad_(), prototype.clone().requires_grad_()
        loss = pixel_to_segment_loss(z, p, own, relation, 12.0, reduction=reduction, backend=backend, weight=weight)
        (loss * torch.linspace(1, 3, loss.numel(), dtype=loss.dtype).reshape(loss.shape)).sum().backward()
        results.append((loss.detach(), z.grad, p.grad))
    for ours, reference in zip(*results[::-1], strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ("sum", "none"))
@pytest.mark.parametrize("learned", (0, 12, 30))
def test_prototypes_that_are_constants_get_no_gradient(monkeypatch, backend, reduction, learned):
    """The first `learned` get theirs as if all did; the loss and the pixels' gradient do not change."""
    for alone in (0, 1 << 20):
        monkeypatch.setattr(contrast_chunked, "ALONE", alone)
        pixel, prototype, own, relation = problem(pixels=200, prototypes=30)
        results = []
        for count in (None, learned):
            z, p = pixel.clone().requires_grad_(), prototype.clone().requires_grad_()
            loss = pixel_to_segment_loss(
                z, p, own, relation, 12.0, reduction=reduction, backend=backend, learned=count
            ).sum()
            loss.backward()
            results.append((loss.detach(), z.grad, p.grad))
        every, ours = results
        torch.testing.assert_close(ours[:2], every[:2])
        torch.testing.assert_close(ours[2][:learned], every[2][:learned])
        assert not ours[2][learned:].any()


@pytest.mark.parametrize("alone", (0, 1 << 20))
@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_that_meet_nothing_have_no_loss(monkeypatch, backend, alone):
    monkeypatch.setattr(contrast_chunked, "ALONE", alone)
    pixel, prototype, own, relation = problem(groups=3)
    relation.positive[1:], relation.negative[1:] = False, False
    z = pixel.clone().requires_grad_()
    loss = pixel_to_segment_loss(z, prototype, own, relation, 6.0, reduction="none", backend=backend)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx(loop_loss(pixel, prototype, own, relation, 6.0, True), rel=1e-9)
    assert not z.grad[relation.group > 0].any()


def test_sorted_groups_are_read_in_place():
    """Pixels that stand by image are not sorted again; the others give the same sums in another order."""
    pixel, prototype, own, relation = problem(pixels=200, prototypes=30, groups=3)
    order = relation.group.argsort(stable=True)
    assert contrast_chunked._runs(relation.group[order], relation.positive | relation.negative)[0] is None
    by_group = Relation(relation.group[order], relation.positive, relation.negative)
    shuffled = pixel_to_segment_loss(pixel, prototype, own, relation, 9.0, reduction="none")
    stands = pixel_to_segment_loss(pixel[order], prototype, own[order], by_group, 9.0, reduction="none")
    torch.testing.assert_close(stands, shuffled[order])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("exclude_own", (True, False))
@pytest.mark.parametrize("reduction", ("mean", "none"))
def test_gradcheck(backend, exclude_own, reduction):
    pixel, prototype, own, relation = problem(pixels=12, prototypes=7, channels=3)

    def loss(z, p):
        return pixel_to_segment_loss(
            z, p, own, relation, 5.0, exclude_own=exclude_own, reduction=reduction, backend=backend
        )

    assert torch.autograd.gradcheck(loss, (pixel.requires_grad_(), prototype.requires_grad_()))


@pytest.mark.parametrize("backend", BACKENDS)
def test_closed_forms(backend):
    """Two orthogonal segments: the own one is no positive of itself unless it is alone."""
    axes = torch.eye(2)
    same = Relation(torch.zeros(1, dtype=torch.long), torch.tensor([[True, False]]), torch.tensor([[False, True]]))
    k = 3.0
    alone = pixel_to_segment_loss(axes[:1], axes, torch.tensor([0]), same, k, backend=backend)
    assert alone.item() == pytest.approx(math.log1p(math.exp(-k)))
    three = torch.stack([axes[0], axes[1], axes[1]])  # own, another positive far away, a negative as far
    relation = Relation(same.group, torch.tensor([[True, True, False]]), torch.tensor([[False, False, True]]))
    pushed = pixel_to_segment_loss(axes[:1], three, torch.tensor([0]), relation, k, backend=backend)
    assert pushed.item() == pytest.approx(math.log(2))
    own_mode = pixel_to_segment_loss(
        axes[:1], three, torch.tensor([0]), relation, k, exclude_own=False, backend=backend
    )
    assert own_mode.item() == pytest.approx(math.log1p(math.exp(-k)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_negative_to_everything_itself_included(backend):
    """An image without tags: the numerator is the own segment, which stands among the negatives as well."""
    pixel, prototype, own, relation = problem()
    relation = Relation(relation.group, torch.zeros_like(relation.positive), torch.ones_like(relation.negative))
    loss = pixel_to_segment_loss(pixel, prototype, own, relation, 6.0, reduction="none", backend=backend)
    assert loss.tolist() == pytest.approx(loop_loss(pixel, prototype, own, relation, 6.0, True), rel=1e-9)
    assert (loss > math.log(2) - 1e-9).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_no_negative_is_no_loss_and_low_precision_is_raised(backend, dtype):
    pixel, prototype, own, relation = problem()
    relation = Relation(relation.group, relation.positive, torch.zeros_like(relation.negative))
    z = pixel.to(dtype).requires_grad_()
    loss = pixel_to_segment_loss(z, prototype.to(dtype), own, relation, 6.0, backend=backend)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert z.grad.dtype == dtype
    assert z.grad.float().abs().max() < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_no_pixel(backend, reduction):
    pixel, prototype, own, relation = problem()
    nobody = Relation(relation.group[:0], relation.positive, relation.negative)
    z, p = pixel[:0].clone().requires_grad_(), prototype.clone().requires_grad_()
    loss = pixel_to_segment_loss(z, p, own[:0], nobody, 6.0, reduction=reduction, backend=backend)
    assert loss.sum().item() == 0
    assert loss.shape == ((0,) if reduction == "none" else ())
    loss.sum().backward()
    assert z.grad.shape == z.shape


def test_own_segment_dominates():
    """E_o is e^32 times the rest: the positives left must not drown in its rounding (float32 against float64)."""
    axis = torch.tensor([[1.0, 0.0]])
    prototype = F.normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.01], [-1.0, -0.02]]), dim=1)
    relation = Relation(
        torch.zeros(1, dtype=torch.long), torch.tensor([[True, True, False]]), torch.tensor([[False, False, True]])
    )
    exact = pixel_to_segment_loss(axis.double(), prototype.double(), torch.tensor([0]), relation, 16.0, backend="dense")
    for backend in BACKENDS:
        ours = pixel_to_segment_loss(axis, prototype, torch.tensor([0]), relation, 16.0, backend=backend)
        assert ours.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize("concentration", (65.0, 300.0))
def test_high_concentration_stays_finite(concentration):
    pixel, prototype, own, relation = problem(dtype=torch.float32)
    z = pixel.clone().requires_grad_()
    loss = pixel_to_segment_loss(z, prototype, own, relation, concentration, backend="chunked")
    loss.backward()
    dense = pixel_to_segment_loss(pixel.double(), prototype.double(), own, relation, concentration, backend="dense")
    assert loss.item() == pytest.approx(dense.item(), rel=1e-5)
    assert torch.isfinite(z.grad).all()


def opposed(k, prototypes=1000, pixels=5):
    """Pixels on the side of every negative, their only positive opposite: the quotient of the sums is P e^(2k)."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.tensor([[1.0, 0.0, 0.0]])
    pixel = F.normalize(axis + 0.01 * torch.randn(pixels, 3, generator=generator), dim=1)
    prototype = F.normalize(axis + 0.01 * torch.randn(prototypes, 3, generator=generator), dim=1)
    prototype[1] = -axis
    positive = torch.zeros(1, prototypes, dtype=torch.bool)
    positive[:, :2] = True  # the own segment and the one opposite
    relation = Relation(torch.zeros(pixels, dtype=torch.long), positive, ~positive)
    return pixel, prototype, torch.zeros(pixels, dtype=torch.long), relation


@pytest.mark.parametrize("reduction", ("mean", "none"))
@pytest.mark.parametrize("k", (41.0, 50.0, 64.0))
def test_opposing_vectors_stay_finite(k, reduction):
    """k (c_neg - c_pos) + ln P goes far beyond 88.7, where the quotient of the sums leaves float32."""
    results = []
    for dtype, backend in ((torch.float32, "chunked"), (torch.float64, "dense")):
        pixel, prototype, own, relation = opposed(k)
        z, p = pixel.to(dtype).requires_grad_(), prototype.to(dtype).requires_grad_()
        loss = pixel_to_segment_loss(z, p, own, relation, k, reduction=reduction, backend=backend)
        loss.sum().backward()
        results.append([value.double() for value in (loss.detach(), z.grad, p.grad)])
    assert results[1][0].max() > 88
    for ours, exact in zip(*results, strict=True):
        assert torch.isfinite(ours).all()
        assert float((ours - exact).abs().max()) <= 2e-5 * float(exact.abs().max())


def test_small_losses_keep_their_digits():
    """A difference of two logarithms near 16 would leave none of a loss of 1e-8."""
    axis = torch.tensor([[1.0, 0.0]])
    prototype = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-0.1, 1 - 0.1**2]])
    prototype[2] /= prototype[2].norm()
    relation = Relation(
        torch.zeros(1, dtype=torch.long), torch.tensor([[True, True, False]]), torch.tensor([[False, False, True]])
    )
    exact = math.log1p(math.exp(16 * (float(prototype[2, 0].double()) - 1)))
    ours = pixel_to_segment_loss(axis, prototype, torch.tensor([0]), relation, 16.0, backend="chunked")
    assert 1e-8 < exact < 1e-7 and ours.item() == pytest.approx(exact, rel=1e-5)


def test_keeps_no_pixel_by_prototype_matrix():
    """What the graph holds between forward and backward is linear in pixels and prototypes."""
    pixel, prototype, own, relation = problem(pixels=400, prototypes=300, groups=2, dtype=torch.float32)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        pixel_to_segment_loss(pixel.requires_grad_(), prototype.requires_grad_(), own, relation, 6.0, backend="chunked")
    assert sum(sizes) <= 2 * (pixel.numel() + prototype.numel())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "fast"}, "backend: expected .* got 'fast'"),
        ({"reduction": "median"}, "reduction: expected .* got 'median'"),
        ({"concentration": 0.0}, "concentration: expected a positive number, got 0.0"),
        ({"own": torch.zeros(3, dtype=torch.long)}, r"own: expected shape \(60,\), got \(3,\)"),
        ({"prototype": torch.zeros(14, 7, dtype=torch.float64)}, r"expected pixel \(N, C\) and prototype \(P, C\)"),
    ],
)
def test_errors(change, message):
    pixel, prototype, own, relation = problem()
    arguments = {"pixel": pixel, "prototype": prototype, "own": own, "relation": relation, "concentration": 6.0}
    with pytest.raises(ValueError, match=message):
        pixel_to_segment_loss(**{**arguments, **change})
