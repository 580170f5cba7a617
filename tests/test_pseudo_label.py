"""Pseudo labels: every source on tiny data, against plain computations, and by the script."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from spml.config import load_config, save_config
from spml.data.dataset import EvaluationSample, read_sample
from spml.data.lists import read_list
from spml.data.pickled import write_cam_file, write_memory_file
from spml.errors import UserError
from spml.grouping import segment_by_kmeans
from spml.inference.predictors import predict_image
from spml.models import build_classifier, build_embedding_model
from spml.models.affinity import build_affinity_model, build_irn_model
from spml.models.checkpoint import save_parts
from spml.pseudo import SOURCES
from spml.pseudo.base import Labeller
from spml.pseudo.label import build_source, choose_recipe, label_list, pseudo_probability
from spml.pseudo.points import segment_shares

SCRIPT = Path(__file__).resolve().parents[1] / "pyscripts" / "inference" / "pseudo_label.py"
CPU = torch.device("cpu")
AFFINITIES = ("affinity", "irn")  # sources with a task of their own
OF_CAMS = ("cam", *AFFINITIES)
CROP = (56, 64)  # larger than the images, 40 x 48, so that they are padded


@pytest.fixture(scope="module")
def config(tiny_config_file):
    return load_config(tiny_config_file, ["test.crop_size=[56,64]", "test.stride=[56,64]", "test.image_size=32"])


@pytest.fixture(scope="module")
def models(config):
    torch.manual_seed(3)
    return build_embedding_model(config).eval(), build_classifier(config).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config, models):
    """A snapshot, CAM files and a memory."""
    folder, rng = tmp_path_factory.mktemp("pseudo"), np.random.default_rng(0)
    save_config(config, folder / "own.yaml")
    parts = {"embedding_model": models[0], "prediction_model": models[1]}
    parts |= {"affinity_model": build_affinity_model(config), "irn_model": build_irn_model(config)}
    save_parts(folder / "model-3.pth", parts)
    for number in range(8):
        cams = {kind: rng.random((40, 48), dtype=np.float32) for kind in (number % 3, (number + 1) % 3)}
        write_cam_file(folder / "cam" / f"{number}.npy", cams)
    prototype = rng.normal(size=(60, 8))
    write_memory_file(
        folder / "memory" / "semantic_prototype" / "0.npy",
        prototype / np.linalg.norm(prototype, axis=1, keepdims=True),
        rng.integers(0, 4, 60),
    )
    return folder


def samples_of(config):
    return read_list(config.dataset.train_data_list, config.dataset.data_dir)


def source_of(kind, config, folder, **chosen):
    recipe = choose_recipe(kind, **chosen)
    if kind in AFFINITIES:
        config = load_config(folder / "own.yaml", [f"train.task={kind}"])
    dirs = {"cam_dir": folder / "cam", "memory_dir": folder / "memory"}
    dirs = {name: path for name, path in dirs.items() if name in SOURCES[kind].needs}
    source = build_source(
        config,
        kind,
        folder / "model-3.pth",
        recipe.plan(config),
        CPU,
        samples_of(config),
        walk_steps=recipe.walk_steps,
        **dirs,
    )
    return source, recipe.walk_steps


def first_image(config):
    return read_sample(samples_of(config)[1], config.network.pixel_means, config.network.pixel_stds)


@torch.no_grad()
def seen(image, mirrored, models):
    """Embedding and logits of a view, padded, cut and mirrored back."""
    view = image.flip(-1) if mirrored else image
    padded = torch.zeros(1, 3, max(CROP[0], view.shape[1]), max(CROP[1], view.shape[2]))
    padded[0, :, : view.shape[1], : view.shape[2]] = view
    embedding = models[0](padded, padded.shape[-2:])
    maps = [m[..., : view.shape[1], : view.shape[2]] for m in (embedding, models[1](embedding))]
    return [m.flip(-1) if mirrored else m for m in maps]


def to(maps, size):
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def walked(score, embeddings, steps):
    """The scores times the power of the whole step matrix, in float64."""
    affinity = torch.zeros(())
    for embedding in embeddings:
        unit = F.normalize(embedding.double().flatten(1), dim=0)
        affinity = affinity + (5 * (unit.T @ unit) - 5).exp() / len(embeddings)
    step = affinity**20
    step = step / step.sum(0, keepdim=True)
    spread = score.double().flatten(1) @ torch.linalg.matrix_power(step, steps)
    return spread.reshape(score.shape).float()


def test_cam_walk(config, models, folder):
    source, steps = source_of("cam", config, folder)
    read = first_image(config)
    assert (steps, source.plan.flip, source.plan.scales) == (64, True, (1.0,))
    cams = np.load(folder / "cam" / "1.npy", allow_pickle=True).item()
    score = np.zeros((4, 40, 48), np.float32)
    for kind, cam in cams.items():
        score[kind + 1] = cam
    score[0] = (1 - score[1:].max(0)) ** 6
    small = F.interpolate(torch.from_numpy(score)[None], scale_factor=1 / 8, mode="bilinear")[0]
    embeddings = [to(seen(read.image, mirrored, models)[0], (5, 6))[0] for mirrored in (False, True)]
    expected = to(walked(small, embeddings, 64)[None], (40, 48))[0]
    torch.testing.assert_close(pseudo_probability(source, read, steps), expected, rtol=1e-3, atol=1e-4)
    assert (expected[list({1, 2, 3} - {kind + 1 for kind in cams})] == 0).all()  # no CAM, no score
    unwalked, _ = source_of("cam", config, folder, walk_steps=0)
    assert unwalked.views is None
    torch.testing.assert_close(pseudo_probability(unwalked, read, 0), to(small[None], (40, 48))[0])


@pytest.mark.parametrize("walk_steps", [None, 1, 0])
def test_softmax(config, models, folder, walk_steps):
    source, steps = source_of("softmax", config, folder, walk_steps=walk_steps)
    read, scores, embeddings = first_image(config), [], []
    read.semantic[read.semantic == 2] = 254  # the classifier may find it, but nobody annotated it
    assert (steps, source.plan.scales) == ((64, (1.0,)) if walk_steps is None else (walk_steps, (0.75, 1.0)))
    for scale in source.plan.scales:
        view = to(read.image[None], (int(40 * scale), int(48 * scale)))[0]
        for mirrored in (False, True):
            embedding, logits = (to(maps, (5, 6))[0] for maps in seen(view, mirrored, models))
            scores.append(logits.softmax(0) if steps > 1 else logits)
            embeddings.append(embedding)
    mean = torch.stack(scores).mean(0)
    mean = mean if steps > 1 else mean.softmax(0)
    expected = torch.stack([mean[k] / mean[k].max() * (read.semantic == k).any() for k in range(4)])
    if steps:
        expected = walked(expected, embeddings, steps)
    expected = to(expected[None], (40, 48))[0]
    got = pseudo_probability(source, read, steps)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert (got[2] == 0).all() and got[0].max() > 0


def test_retrieval(config, folder):
    source, steps = source_of("retrieval", config, folder)
    assert (steps, source.plan.scales, source.plan.flip) == (0, (0.5, 1.0, 1.5, 2.0), True)
    read = first_image(config)
    share, _ = predict_image(read.image, source.predictor)  # tested against loops elsewhere
    expected = share.clone()
    for kind in range(4):
        if (read.semantic == kind).any():
            expected[kind] /= max(float(share[kind].max()), 0.15)
    got = pseudo_probability(source, read, 0)
    torch.testing.assert_close(got, expected)
    assert got.shape == (4, 40, 48)
    walking, steps = source_of("retrieval", config, folder, walk_steps=5, scales=[1], flip=False)
    assert pseudo_probability(walking, read, steps).shape == (4, 40, 48)


def test_points(config, models, folder):
    source, steps = source_of("points", config, folder)
    assert (steps, source.plan.flip) == (64, False)
    read = first_image(config)
    embedding, _ = seen(read.image, False, models)
    padded = torch.zeros(1, 8, *CROP)
    padded[..., :40, :48] = embedding
    half = to(padded, (CROP[0] // 2, CROP[1] // 2))[..., :20, :24]  # the padding of zeros shows at no cut here
    label = read.semantic[::2, ::2].clone()
    label[label == 255] = 4
    segments = segment_by_kmeans(half, label[None], read.instance[None, ::2, ::2], num_clusters=(3, 3))
    share = torch.zeros(len(segments.prototype), 4)
    for pixel, own in zip(segments.embedding, segments.index.tolist(), strict=True):
        similarity = segments.prototype @ pixel
        similarity[segments.prototype_semantic_label >= 4] = -9
        share[own, segments.prototype_semantic_label[similarity.argmax()]] += 1
    share /= share.sum(1, keepdim=True)
    torch.testing.assert_close(segment_shares(segments, 4), share)
    small = to(share[segments.index].T.reshape(1, 4, 20, 24), (5, 6))[0]
    small = torch.stack([one / one.max() if one.max() > 0 else one for one in small])
    expected = to(walked(small, [to(half, (5, 6))[0]], 64)[None], (40, 48))[0]
    torch.testing.assert_close(pseudo_probability(source, read, steps), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("size", [(1, 1), (3, 61), (57, 9)])
def test_any_size(config, folder, kind, size, tmp_path):
    write_cam_file(tmp_path / "x.npy", {1: np.ones(size, np.float32)})
    label = torch.ones(size, dtype=torch.long)
    read = EvaluationSample("x", torch.randn(3, *size), np.zeros((*size, 3), np.uint8), label, None)
    source, _ = source_of(kind, config, folder, **({} if kind == "spread" else {"scales": [0.5, 1]}))
    if kind in OF_CAMS:
        source = replace(source, cam_dir=tmp_path)
    score = pseudo_probability(source, read, 3)
    assert score.shape == (4, *size) and score.isfinite().all()
    if kind not in ("retrieval", "irn"):  # untrained edges make their own background
        assert (score.argmax(0) == (2 if kind in OF_CAMS else 1)).all()


def test_the_background_of_cams_is_that_of_the_config(tiny_config_file, folder, tmp_path):
    """(1 - .5)^alpha: .0156 with the released 6, .758 with .4, so that the object loses."""
    write_cam_file(tmp_path / "x.npy", {1: np.full((8, 8), 0.5, np.float32)})
    read = EvaluationSample("x", torch.randn(3, 8, 8), np.zeros((8, 8, 3), np.uint8), torch.ones(8, 8).long(), None)
    for alpha in (6, 0.4):
        source, _ = source_of("cam", load_config(tiny_config_file, [f"test.cam_alpha={alpha}"]), folder, walk_steps=0)
        score = replace(source, cam_dir=tmp_path)(read).score
        torch.testing.assert_close(score[:3, 0, 0], torch.tensor([0.5**alpha, 0, 0.5]))


class Ignorant(Labeller):
    """A source that knows nothing."""

    keeps_void = True

    def __call__(self, read):
        return None


def test_nothing_known_is_unlabelled_and_void_stays(config, folder, tmp_path):
    void = np.full((40, 48), 254, np.uint8)
    void[:5] = 255
    Image.fromarray(void).save(tmp_path / "label.png")
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(tmp_path / "x.png")
    (tmp_path / "l.txt").write_text("x.png label.png\n")
    own = load_config(None, [f"dataset.data_dir={tmp_path}", "dataset.num_classes=4"])
    samples = read_list(tmp_path / "l.txt", tmp_path)
    read = read_sample(samples[0], [0, 0, 0], [1, 1, 1])
    for kind in ("softmax", "points"):
        assert source_of(kind, config, folder)[0](read) is None
    void[10] = 1  # a list without any class is an error before
    Image.fromarray(void).save(tmp_path / "label.png")
    ignorant = Ignorant(choose_recipe("points").plan(own))
    done = label_list(own, samples, ignorant, tmp_path / "out")
    assert "1 images labelled; 1 without a pixel of any class are unlabelled" in done
    expected = np.full((40, 48), 254, np.uint8)
    expected[:5] = 255
    np.testing.assert_array_equal(labels_in(tmp_path / "out")["x"], expected)
    assert (tmp_path / "out" / "list.txt").read_text() == "x.png out/semantic_gray/x.png\n"
    label_list(own, samples, ignorant, tmp_path / "my out")
    assert (tmp_path / "my out" / "list.txt").read_text() == "x.png\tmy out/semantic_gray/x.png\n"
    (tmp_path / "l.txt").write_text("x.png\n")
    with pytest.raises(UserError, match="line 1: no semantic label: this source needs"):
        label_list(own, read_list(tmp_path / "l.txt", tmp_path), ignorant, tmp_path / "new")


def labels_in(folder):
    return {path.stem: np.array(Image.open(path)) for path in sorted((folder / "semantic_gray").glob("*.png"))}


def some_of(tiny_data, tmp_path, number):
    """A list of the first images."""
    lines = (tiny_data / "train.txt").read_text().splitlines(keepends=True)
    (tmp_path / "some.txt").write_text("".join(lines[:number]))
    return tmp_path / "some.txt"


def script(tiny_config_file, folder, *words):
    common = ["--cfg_path", tiny_config_file, "--snapshot_dir", folder, "--device", "cpu", *words]
    main = runpy.run_path(str(SCRIPT))["main"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["pseudo_label.py", *map(str, common)])
        main()


def folders_of(kind, folder):
    """The folders that a source reads."""
    found = ["--cam_dir", folder / "cam"] if kind in OF_CAMS else []
    return [*found, "--semantic_memory_dir", folder / "memory"] if kind == "retrieval" else found


@pytest.mark.parametrize("kind", SOURCES)
def test_what_a_source_has_no_use_for_is_refused(tiny_config_file, folder, kind, tmp_path):
    words = ["--source", kind, "--save_dir", tmp_path, *folders_of(kind, folder)]
    words += [f"train.task={kind}"] if kind in AFFINITIES else []
    useless = [["--cam_dir", folder / "cam"]] if kind not in OF_CAMS else []
    useless += [["--semantic_memory_dir", folder / "memory"]] if kind != "retrieval" else []
    useless += [["--runtime", "bf16"]] if kind in ("spread", *AFFINITIES) else []
    useless += [["--scales", "1"], ["--flip"], ["--walk_steps", "2"]] if kind == "spread" else []
    for option in useless:
        with pytest.raises(UserError, match=f"{option[0]} has no effect on --source {kind}"):
            script(tiny_config_file, folder, *words, *option)
    assert not (tmp_path / "record.json").exists()


@pytest.mark.parametrize("kind", SOURCES)
def test_script_writes_what_the_next_stage_reads(tiny_config_file, tiny_data, folder, kind, tmp_path, capsys):
    words = ["--source", kind, "--no-crf", "--save_dir", tmp_path, *folders_of(kind, folder)]
    words += [] if kind == "spread" else ["--walk_steps", 0 if kind == "softmax" else 3]
    words += ["--data_list", some_of(tiny_data, tmp_path, 4)]
    words += [f"train.task={kind}"] if kind in AFFINITIES else []
    script(tiny_config_file, folder, *words)
    assert "4 images labelled, 0 were there already" in capsys.readouterr().out
    labels, colours = labels_in(tmp_path), sorted((tmp_path / "semantic_color").glob("*.png"))
    assert len(labels) == len(colours) == 4 and Image.open(colours[0]).mode == "RGB"
    before_list = read_list(tmp_path / "some.txt", tiny_data)
    for sample, before in zip(read_list(tmp_path / "list.txt", tiny_data), before_list, strict=True):
        assert sample.image.samefile(before.image) and sample.regions.samefile(before.regions)
        weak, label = np.array(Image.open(before.label)), np.array(Image.open(sample.label))
        assert label.shape == (40, 48)
        allowed = {0, 1, 2, 3} if kind in (*OF_CAMS, "retrieval") else set(np.unique(weak)) - {254}
        assert set(np.unique(label)) <= allowed
        if kind in ("points", "spread"):
            np.testing.assert_array_equal(label == 255, weak == 255)
    (tmp_path / "semantic_gray" / "1.png").unlink()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "semantic_gray" / "2.png")
    script(tiny_config_file, folder, *words)
    assert "1 images labelled, 3 were there already" in capsys.readouterr().out
    assert labels_in(tmp_path)["2"].shape == (2, 2)
    script(tiny_config_file, folder, *words, "--overwrite")
    assert all(np.array_equal(label, labels[name]) for name, label in labels_in(tmp_path).items())


def test_the_crf_keeps_void(tiny_config_file, tiny_data, folder, tmp_path, inline_refiner):
    words = ["--source", "points", "--save_dir", tmp_path / "out", "--data_list", some_of(tiny_data, tmp_path, 2)]
    script(tiny_config_file, folder, *words)
    refined = labels_in(tmp_path / "out")
    for name, label in refined.items():
        weak = np.array(Image.open(tiny_data / "weak" / f"{name}.png"))
        np.testing.assert_array_equal(label == 255, weak == 255)
        assert 254 not in label
    with pytest.raises(UserError, match="other pseudo labels are here .settings.crf"):
        script(tiny_config_file, folder, *words, "--no-crf")
    script(tiny_config_file, folder, *words, "--no-crf", "--overwrite")
    assert any((label != refined[name]).any() for name, label in labels_in(tmp_path / "out").items())


def test_errors(tiny_config_file, config, folder, tmp_path):
    words = ["--save_dir", tmp_path / "out", "--no-crf"]
    with pytest.raises(UserError, match="needs --cam_dir"):
        script(tiny_config_file, folder, "--source", "cam", *words)
    write_cam_file(tmp_path / "cam" / "0.npy", {0: np.zeros((40, 48))})
    with pytest.raises(UserError, match=r"train.txt line 2: no CAM file .*1.npy \(7 of the 8 images"):
        script(tiny_config_file, folder, "--source", "cam", "--cam_dir", tmp_path / "cam", *words)
    with pytest.raises(UserError, match="needs --semantic_memory_dir"):
        script(tiny_config_file, folder, "--source", "retrieval", *words)
    with pytest.raises(UserError, match="--walk_steps: expected a whole number >= 0"):
        script(tiny_config_file, folder, "--source", "points", "--walk_steps", -1, *words)
    known = "cam, softmax, retrieval, points, spread, affinity, irn"
    with pytest.raises(UserError, match=f"--source: expected one of {known}, got 'magic'"):
        choose_recipe("magic")
    source, _ = source_of("cam", config, folder, walk_steps=0)
    for cams, words in (
        ({0: np.zeros((3, 3))}, r"expected a CAM of \(40, 48\)"),
        ({3: np.zeros((40, 48))}, "expected foreground class indexes 0 to 2"),
    ):
        write_cam_file(tmp_path / "bad" / "1.npy", cams)
        with pytest.raises(UserError, match=f"bad.1.npy: {words}"):
            replace(source, cam_dir=tmp_path / "bad")(first_image(config))
