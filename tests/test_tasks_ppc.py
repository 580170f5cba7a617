"""The task ppc: its terms, what it learns, resuming, its maps, and mistakes."""

import pytest
import torch

from spml.cli.main import main
from spml.config import ConfigError, load_config
from spml.data.pickled import read_cam_file
from spml.engine.optimizer import build_optimizer
from spml.engine.run import build_task, train
from spml.errors import UserError
from spml.models import load_cam_model
from spml.tasks.ppc import PpcTask

CONTRASTS = ("cross_prototype", "cross_cam", "intra_view")
BESIDE = {"cam": ("classification",), "seam": ("classification", "min_pool", "equivariance", "cross_refinement")}
both_networks = pytest.mark.parametrize("cams", ("cam", "seam"))


def config_of(config_file, *overrides):
    own = ["train.task=ppc", "ppc.second_view_scale=0.5", "train.batch_size=4", "train.warmup_iteration=0"]
    return load_config(config_file, [*own, *overrides])


def batch_of(size=32):
    generator = torch.Generator().manual_seed(5)
    tag = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.bool)
    inside = torch.ones(4, size, size, dtype=torch.bool)
    inside[3, :, 20:] = False
    return {"image": torch.randn(4, 3, size, size, generator=generator), "semantic_tag": tag, "inside": inside}


@both_networks
def test_terms_and_weights(tiny_config_file, cams):
    task = build_task(config_of(tiny_config_file, f"ppc.cams={cams}", "ppc.weight=0.25"))
    losses = task(batch_of())
    assert tuple(losses) == (*BESIDE[cams], *CONTRASTS) == tuple(task.weights)
    assert [task.weights[name] for name in CONTRASTS] == [0.25] * 3
    assert all(task.weights[name] == 1 for name in BESIDE[cams])
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in task.parameters())
    assert task.projection(torch.randn(1, task.projection[0].in_channels, 2, 2)).shape == (1, 128, 2, 2)


@both_networks
def test_both_views_have_the_grid_and_padding_is_void(tiny_config_file, cams, monkeypatch):
    seen = []
    view = PpcTask.view
    monkeypatch.setattr(PpcTask, "view", lambda *words: seen.append(view(*words)) or seen[-1])
    build_task(config_of(tiny_config_file, f"ppc.cams={cams}"))(batch_of())
    for one in seen:
        assert one.feature.shape == (4 * 256, 128) and one.prototype.shape == (4, 128)
        assert one.feature.requires_grad and not one.prototype.requires_grad
        label = one.label.view(4, 16, 16)
        assert (label[3, :, 10:] == 255).all() and (label[3, :, :10] != 255).all() and (label[:3] != 255).all()
        assert set(label[2].unique().tolist()) == {0}  # the background's tag alone
        assert set(label[0].unique().tolist()) <= {0, 1}


@both_networks
def test_steps_lower_every_contrast(tiny_config_file, cams):
    """On one batch; sampled pixels differ from step to step, so the mean of a few counts."""
    torch.manual_seed(0)
    task = build_task(config_of(tiny_config_file, f"ppc.cams={cams}", "ppc.weight=1"))
    optimizer = build_optimizer(task, 0.9)
    history = []
    for _ in range(25):
        losses = task(batch_of())
        history.append([losses[name].item() for name in CONTRASTS])
        optimizer.zero_grad()
        torch.stack([task.weights[name] * value for name, value in losses.items()]).sum().backward()
        optimizer.set_rate(0.003)
        optimizer.step()
    steps = torch.tensor(history)
    assert (steps[-5:].mean(0) < 0.8 * steps[:5].mean(0)).all(), steps


@pytest.mark.parametrize("overrides", (["ppc.cams=seam"], ["ppc.cams=cam", "ppc.mining=paper"]))
def test_resuming_repeats_the_random_pixels(tiny_config_file, tmp_path, overrides):
    steps = ["train.max_iteration=3", "train.snapshot_step=1"]
    config = config_of(tiny_config_file, *overrides, *steps)
    whole = train(config, tmp_path, device="cpu")
    expected = torch.load(tmp_path / "model-2.pth", weights_only=True)
    for step in (1, 2):
        for end in (".pth", ".state.pth"):
            (tmp_path / f"model-{step}{end}").unlink()
    assert train(config, tmp_path, device="cpu", resume=True).history == whole.history[1:]
    found = torch.load(tmp_path / "model-2.pth", weights_only=True)
    for part in ("cam_model", "projection_model"):
        assert expected[part] and all(torch.equal(found[part][key], value) for key, value in expected[part].items())
    assert len({record["intra_view"] for record in whole.history}) == 3


def test_the_seed_draws_the_pixels(tiny_config_file):
    found = []
    for seed in (0, 0, 1):
        config = config_of(tiny_config_file, f"train.seed={seed}")
        torch.manual_seed(0)
        found.append(build_task(config).eval()(batch_of()))
    assert found[0] == found[1] and found[0]["cross_cam"] == found[2]["cross_cam"]
    assert found[0]["intra_view"] != found[2]["intra_view"]


@pytest.mark.parametrize("cams", ("seam", pytest.param("cam", marks=pytest.mark.slow)))
def test_its_snapshot_makes_maps(tiny_config_file, tiny_data, tmp_path, cams):
    words = ["--config", str(tiny_config_file), "--device", "cpu", "--snapshot_dir", str(tmp_path / "network")]
    own = ["train.task=ppc", f"ppc.cams={cams}", "ppc.second_view_scale=0.5", "train.max_iteration=2"]
    assert not main(["train", *words, *own, "train.warmup_iteration=0"])
    out = tmp_path / "cams"
    assert not main(["cam", *words, "--save_dir", str(out), "--data_list", str(tiny_data / "val.txt"), *own])
    assert sorted(path.stem for path in (out / "cam").glob("*.npy")) == [str(i) for i in range(8)]
    for path in (out / "cam").glob("*.npy"):
        (cam,) = read_cam_file(path).values()
        assert cam.shape == (40, 48) and 0 <= cam.min() and cam.max() <= 1
    assert (out / "list_tag.txt").is_file()
    config = load_config(tmp_path / "network" / "config.yaml")
    model = load_cam_model(config, tmp_path / "network" / "model-1.pth")
    assert (model.pixel_correlation is not None) == (cams == "seam")


@pytest.mark.slow
def test_the_tag_pipeline_takes_it_as_its_network_of_cams(tiny_config_file, tiny_data, tmp_path, capsys):
    path = tmp_path / "maps.yaml"
    path.write_text(
        f'base: "{tiny_config_file}"\nlosses: none\ntrain: {{task: ppc, max_iteration: 2, warmup_iteration: 0}}\n'
        "ppc: {second_view_scale: 0.5}\n"
    )
    words = ["run", "tag", "--config", str(tiny_config_file), "--cam_config", str(path), "--data_dir", str(tiny_data)]
    words += ["--snapshots", str(tmp_path / "run"), "--device", "cpu", "--only", "train_cam", "cam"]
    assert not main(words)
    capsys.readouterr()
    assert (tmp_path / "run" / "cam_network" / "model-1.pth").is_file()
    assert len(list((tmp_path / "run" / "cams" / "tag_label").glob("*.png"))) == 8


@pytest.mark.parametrize("background, count", (("0", 4), ("2", 4), ("none", 4)))
def test_any_background_and_none(tiny_config_file, background, count):
    task = build_task(config_of(tiny_config_file, f"dataset.background={background}")).eval()
    losses = task(batch_of())
    assert all(torch.isfinite(value) for value in losses.values()) and len(task.pictures(batch_of())) == 2
    view = task.view(
        task.run(batch_of()["image"], task.object_tag(batch_of())),
        task.object_tag(batch_of()),
        torch.ones(4, 16, 16, dtype=torch.bool),
    )
    assert len(view.prototype) == count


def test_bf16(tiny_config_file):
    config = config_of(tiny_config_file, "train.amp=bf16")
    torch.manual_seed(0)
    losses = build_task(config)(batch_of())
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize(
    "override, message",
    [
        ("ppc.cams=spml", "ppc.cams: expected one of seam, cam, got 'spml'"),
        ("ppc.mining=hard", "ppc.mining: expected one of released, paper, got 'hard'"),
        ("ppc.temperature=0", "ppc.temperature: expected a number > 0"),
        ("ppc.background=1", "ppc.background: expected a number >= 0 and < 1"),
        ("ppc.minning=paper", "ppc.minning: unknown key.*did you mean ppc.mining"),
    ],
)
def test_mistakes_in_the_config_are_one_line(tiny_config_file, override, message):
    with pytest.raises(ConfigError, match=message):
        config_of(tiny_config_file, override)


def test_a_batch_without_variance_is_one_line(tiny_config_file):
    with pytest.raises(UserError, match="train.batch_size: expected at least 2"):
        build_task(config_of(tiny_config_file, "train.batch_size=1", "ppc.second_view_scale=0.2"))


def test_it_starts_from_the_maps_of_another_task(tiny_config_file, tmp_path):
    steps = ["train.max_iteration=1", "train.warmup_iteration=0", "seam.second_view_scale=0.5"]
    run = train(load_config(tiny_config_file, ["train.task=seam", *steps]), tmp_path, device="cpu")
    task = build_task(config_of(tiny_config_file, f"network.pretrained={run.snapshot}"))
    state = torch.load(run.snapshot, weights_only=True)["cam_model"]
    assert all(torch.equal(task.cam_model.state_dict()[key], value) for key, value in state.items())
