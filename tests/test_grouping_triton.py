"""The fused kernels against the dense formula: on the CPU in Triton's interpreter, on CUDA as compiled."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from spml.errors import UserError
from spml.grouping import Relation, pixel_to_segment_loss

triton = pytest.importorskip("triton")
INTERPRETER = os.environ.get("TRITON_INTERPRET") == "1"  # counts only where it is set before triton is imported
interpreted = pytest.mark.skipif(not INTERPRETER, reason="run by test_kernels_in_the_interpreter")


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """The interpreter takes programs one by one: two are enough to cut a walk into parts."""
    if INTERPRETER:
        monkeypatch.setattr("spml.grouping.contrast_triton.PROGRAMS", 4)


def problem(pixels, prototypes, groups, channels, device="cpu"):
    """Random unit rows and a relation with positives, negatives and segments out of scope; sorted groups."""
    generator = torch.Generator().manual_seed(pixels)
    pixel = F.normalize(torch.randn(pixels, channels, generator=generator), dim=1)
    prototype = F.normalize(torch.randn(prototypes, channels, generator=generator), dim=1)
    own = torch.randint(prototypes, (pixels,), generator=generator)
    kind = torch.randint(3, (groups, prototypes), generator=generator)
    group = torch.arange(pixels) * groups // pixels
    relation = Relation(group.to(device), (kind == 0).to(device), (kind == 1).to(device))
    return pixel.to(device), prototype.to(device), own.to(device), relation


def compare(pixel, prototype, own, relation, k, *, exclude_own=True, reduction="mean", tolerance=1e-5):
    """Value and gradients, relative to the largest of each, which is where the dense formula's own rounding stands."""
    results = []
    for backend in ("triton", "dense"):
        z, p = pixel.clone().requires_grad_(), prototype.clone().requires_grad_()
        loss = pixel_to_segment_loss(
            z, p, own, relation, k, exclude_own=exclude_own, reduction=reduction, backend=backend
        )
        (loss * torch.linspace(1, 2, loss.numel(), device=loss.device).reshape(loss.shape)).sum().backward()
        assert loss.dtype == torch.float32 and z.grad.dtype == pixel.dtype
        results.append((loss.detach(), z.grad.float(), p.grad.float()))
    for ours, dense, within in zip(*results, (1e-5, tolerance, tolerance), strict=True):
        assert float((ours - dense).abs().max()) <= within * max(float(dense.abs().max()), 1e-6)


@interpreted
def test_prototypes_that_are_constants_get_no_gradient():
    pixel, prototype, own, relation = problem(50, 20, 3, 8)
    results = []
    for backend in ("triton", "dense"):
        p = prototype.clone().requires_grad_()
        pixel_to_segment_loss(pixel, p, own, relation, 6.0, backend=backend, learned=5).backward()
        results.append(p.grad)
    assert not results[0][5:].any()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-6)


@interpreted
@pytest.mark.parametrize("exclude_own", (True, False))
@pytest.mark.parametrize(
    ("groups", "channels", "prototypes", "pixels"), [(1, 3, 20, 7), (5, 64, 150, 200), (40, 100, 70, 129)]
)
def test_equals_dense(groups, channels, prototypes, pixels, exclude_own):
    compare(*problem(pixels, prototypes, groups, channels), 12.0, exclude_own=exclude_own)


@interpreted
def test_per_pixel_losses_are_weighted_by_a_second_sweep():
    compare(*problem(90, 40, 3, 8), 6.0, reduction="none")


@interpreted
def test_groups_that_see_only_their_image():
    """Tiles outside every scope are skipped, and the own segment is met though it may be outside."""
    pixel, prototype, own, relation = problem(150, 400, 4, 16)
    image = torch.arange(400) // 100 == torch.arange(4)[:, None]
    compare(pixel, prototype, own, Relation(relation.group, relation.positive & image, relation.negative & image), 16.0)


@interpreted
def test_bfloat16_keeps_the_value_and_rounds_gradients():
    pixel, prototype, own, relation = problem(150, 70, 5, 64)
    compare(pixel.bfloat16(), prototype.bfloat16(), own, relation, 8.0, tolerance=1e-2)


@interpreted
@pytest.mark.parametrize("table", ("positive", "negative"))
def test_empty_tables(table):
    pixel, prototype, own, relation = problem(60, 30, 2, 8)
    tables = {"positive": relation.positive, "negative": relation.negative}
    tables[table] = torch.zeros_like(tables[table])
    compare(pixel, prototype, own, Relation(relation.group, **tables), 6.0)


@interpreted
def test_largest_concentration_of_the_kernels():
    pixel, prototype, own, relation = problem(40, 30, 2, 4)
    compare(pixel, prototype, own, relation, 64.0, tolerance=1e-4)  # 64 x float32's rounding of a product


@interpreted
@pytest.mark.parametrize("k", (50.0, 64.0))
def test_opposing_vectors_stay_finite(k):
    """The quotient of the sums is about 40 e^(2k), beyond float32; see test_grouping_contrast.py."""
    pixel = F.normalize(torch.tensor([1.0, 0.0]) + 0.01 * torch.randn(6, 2), dim=1)
    prototype = F.normalize(torch.tensor([1.0, 0.0]) + 0.01 * torch.randn(40, 2), dim=1)
    prototype[1] = torch.tensor([-1.0, 0.0])
    positive = (torch.arange(40) < 2)[None]
    relation = Relation(torch.zeros(6, dtype=torch.long), positive, ~positive)
    compare(pixel, prototype, torch.zeros(6, dtype=torch.long), relation, k, tolerance=1e-4)


@interpreted
def test_what_the_kernels_do_not_cover_goes_the_chunked_way():
    for channels, k, dtype in ((200, 6.0, torch.float32), (4, 100.0, torch.float32), (4, 6.0, torch.float64)):
        pixel, prototype, own, relation = problem(20, 10, 2, channels)
        inputs = pixel.to(dtype), prototype.to(dtype), own, relation, k
        ours, chunked = (pixel_to_segment_loss(*inputs, backend=backend) for backend in ("triton", "chunked"))
        assert torch.equal(ours, chunked)


@pytest.mark.skipif(INTERPRETER, reason="the interpreter itself")
def test_kernels_in_the_interpreter():
    """This file once more in a process of its own, as the interpreter is chosen when triton is imported."""
    command = [sys.executable, "-m", "pytest", "-x", __file__, "-p", "no:cacheprovider"]
    run = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout, run.stdout[-400:]


@pytest.mark.skipif(INTERPRETER, reason="the interpreter takes tensors of the CPU")
def test_cpu_tensors_without_the_interpreter():
    with pytest.raises(UserError, match="backend triton: expected tensors on a CUDA device, got cpu"):
        pixel_to_segment_loss(*problem(4, 3, 1, 2), 6.0, backend="triton")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_released_size_on_cuda(dtype):
    """65,536 pixels x 11,400 prototypes x 64: equal to the chunked sweep, and under 200 MB beyond the inputs."""
    pixel, prototype, own, relation = problem(65536, 11400, 4, 64, "cuda")
    results = []
    for backend in ("triton", "chunked"):
        z, p = pixel.to(dtype).requires_grad_(), prototype.to(dtype).requires_grad_()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        loss = pixel_to_segment_loss(z, p, own, relation, 12.0, backend=backend)
        loss.backward()
        if backend == "triton":
            assert torch.cuda.max_memory_allocated() - before < 200 << 20
        results.append((loss.detach(), z.grad.float(), p.grad.float()))
    for ours, chunked, within in zip(*results, (1e-5, *[1e-4 if dtype == torch.float32 else 1e-2] * 2), strict=True):
        assert float((ours - chunked).abs().max()) <= within * float(chunked.abs().max())
