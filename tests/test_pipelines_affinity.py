"""The tag pipeline with AffinityNet or IRN in place of the walk by the embedding: its commands, and a tiny run."""

import json
import shlex
from pathlib import Path

import pytest

from spml.cli.main import main
from spml.config import load_config
from spml.data.lists import read_list
from spml.data.samples import read_label
from spml.data.shapes import make_shapes
from spml.errors import UserError
from spml.pipelines.plan import plan
from spml.pipelines.settings import AFFINITIES, Settings

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["network.embedding_dim=8", "train.batch_size=2", "train.crop_size=[48,48]", "test.crop_size=[56,56]"]
SMALL += ["test.stride=[56,56]", "test.image_size=56", "train.image_size=56", "num_threads=0", "train.max_iteration=2"]


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """A folder of configs for tags, CAMs and both tasks."""
    base = "dataset: {num_classes: 6, train_data_list: train.txt, test_data_list: val.txt}\n"
    (tmp_path / "mine_tag.yaml").write_text(base)
    (tmp_path / "mine_cam.yaml").write_text(f"{base}network: {{prediction_types: cam}}\n")
    for task in AFFINITIES:
        (tmp_path / f"mine_{task}.yaml").write_text(f"{base}train: {{task: {task}}}\n")
    return tmp_path


def dry(capsys: pytest.CaptureFixture, *words: object) -> list[list[str]]:
    assert main(["run", *map(str, words), "--dry"]) == 0
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line]
    return [line[1:] if line[0] == "spml" else line for line in printed if line[0] != "=="]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("task", AFFINITIES)
def test_commands(task: str, configs: Path, capsys: pytest.CaptureFixture) -> None:
    own = ["--config", configs / "mine_tag.yaml", "--snapshots", "out", "--data_dir", "data", "train.seed=1"]
    plain, commands = dry(capsys, "tag", *own), dry(capsys, "tag", *own, "--affinity", task)
    assert [c[0] for c in commands[:6]] == ["train", "cam", "confident", "train", "pseudo-label", "train"]
    confident, train, walk = commands[2:5]
    for command in (confident, train, walk):
        assert option(command, "--config") == str(configs / f"mine_{task}.yaml") and "train.seed=1" in command
        assert option(command, "--data_dir") == "data"
    for command in (confident, walk):
        assert option(command, "--cam_dir") == "out/cams/cam"
        assert option(command, "--data_list") == "out/cams/list_tag.txt"
    assert option(confident, "--save_dir") == f"out/{task}/confident"
    assert option(train, "--data_list") == f"out/{task}/confident/list.txt" and "--resume" in train
    assert train[-1] == "network.pretrained=out/cam_network"
    assert option(train, "--snapshot_dir") == option(walk, "--snapshot_dir") == f"out/{task}/network"
    assert option(walk, "--source") == task and option(walk, "--save_dir") == f"out/{task}/pseudo"
    rest = [c for c in commands[5:] if c[0] != "memory"]
    before = [c for c in plain[2:] if c[0] != "memory" and "cam" not in c]  # without the walk by the embedding
    assert rest == before
    memories = [option(c, "--data_list") for c in commands if c[0] == "memory"]
    assert memories[1] == f"out/{task}/pseudo/list.txt" and len(memories) == 3


def test_maps_that_the_alphas_are_not_made_for(configs: Path) -> None:
    given = {"annotation": "tag", "config": str(configs / "mine_tag.yaml"), "affinity": "affinity"}
    assert Settings(**given).doubt == ""
    (configs / "mine_cam.yaml").write_text((configs / "mine_tag.yaml").read_text() + "train: {task: seam}\n")
    assert "mine_cam.yaml makes those of seam; for plain ones add --cam" in Settings(**given).doubt
    assert Settings(**given, cam=("train.task=cam",)).doubt == Settings(**given, cam_dir="cams").doubt == ""
    assert Settings(**{**given, "affinity": None}).doubt == ""


@pytest.mark.parametrize("task", AFFINITIES)
def test_everything_read_was_made_before(task: str, configs: Path) -> None:
    more = [{}, {"cam_dir": "given", "rounds": 2}]
    for given in more:
        settings = Settings("tag", str(configs / "mine_tag.yaml"), affinity=task, gt_list="masks.txt", **given)
        stages = plan(settings)
        names = [stage.name for stage in stages]
        at = 0 if given else 2
        assert names[at : at + 4] == ["confident", f"train_{task}", task, "train"]
        made: set[Path] = set()
        users = {Path(settings.loaded.dataset[f"{kind}_data_list"]) for kind in ("train", "test")}
        users |= {Path("masks.txt"), Path("given"), Path(settings.training_list)}
        for stage in stages:
            assert stage.help
            for step in stage.steps:
                assert set(step.inputs) <= made | users, (stage.name, set(step.inputs) - made - users)
                made |= set(step.outputs)


def test_weights_to_start_from(configs: Path, capsys: pytest.CaptureFixture) -> None:
    """The backbone that learned the tags, unless the config has weights or there is no such backbone."""
    own = ["tag", "--config", configs / "mine_tag.yaml", "--affinity", "irn", "--only", "train_irn"]
    (train,) = dry(capsys, *own, "--snapshots", "out")
    assert train[-1] == "network.pretrained=out/cam_network"
    (train,) = dry(capsys, *own, "--cam_dir", "cams")
    assert not [word for word in train if word.startswith("network.pretrained")]
    with (configs / "mine_irn.yaml").open("a") as file:
        file.write("network: {pretrained: weights.pth}\n")
    (train,) = dry(capsys, *own)
    assert not [word for word in train if word.startswith("network.pretrained")]
    (configs / "other.yaml").write_text((configs / "mine_affinity.yaml").read_text())
    other = ["--affinity", "affinity", "--affinity_config", configs / "other.yaml"]
    (walk,) = dry(capsys, *own[:3], *other, "--only", "affinity")
    assert option(walk, "--config") == str(configs / "other.yaml")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["scribble", "--affinity", "irn"], "--affinity: expected affinity or irn, for tags, got 'irn' for scribble"),
        (["tag", "--affinity", "irn", "--affinity_config", "{}/mine_affinity.yaml"], "train.task is irn, got affinity"),
        (["tag", "--affinity", "affinity", "--affinity_config", "{}/gone.yaml"], "gone.yaml"),
    ],
)
def test_mistakes(words: list[str], expected: str, configs: Path) -> None:
    own = ["--config", str(configs / "mine_tag.yaml"), "--dry"]
    with pytest.raises(UserError, match=expected) as caught:
        main(["run", *[word.format(configs) for word in words], *own])
    assert "\n" not in str(caught.value)
    (configs / "other.yaml").write_text("dataset: {num_classes: 6}\n")
    with pytest.raises(UserError, match="--affinity_config: expected the config of the task irn, as --config does not"):
        plan(Settings("tag", str(configs / "other.yaml"), affinity="irn", cam_dir="cams"))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four training images and a test image of the built-in data."""
    folder = tmp_path_factory.mktemp("shapes")
    make_shapes(folder, 4, 1)
    return folder


@pytest.mark.parametrize("task", ["affinity", pytest.param("irn", marks=pytest.mark.slow)])
def test_a_tiny_run(shapes: Path, tmp_path: Path, inline_refiner: None, task: str, capsys) -> None:
    data = {"tags": "tags.txt", "classes": "classes.txt", "train_data_list": "train.txt", "test_data_list": "val.txt"}
    own = ["--snapshots", tmp_path, "--grid", "3,3", "--gt_list", shapes / "train_mask.txt", "--device", "cpu"]
    own += ["--config", "quickstart_tag", "--data_dir", shapes, "--affinity", task]
    own += ["--only", "train_cam", "cam", "confident", f"train_{task}", task, "train", "pseudo"]
    words = ["run", "tag", *map(str, own), *SMALL, *(f"dataset.{key}={shapes / name}" for key, name in data.items())]
    assert main(words) == 0
    for made in ("confident", "pseudo"):
        listed = read_list(tmp_path / task / made / "list.txt", shapes, columns=3)
        assert len(listed) == 4 and set(read_label(listed[0].label).ravel()) <= {*range(6), 255}
    assert "the backbone of its cam_model" in capsys.readouterr().out
    config = load_config(tmp_path / task / "network/config.yaml")
    assert config.train.task == task and (tmp_path / task / "network/model-1.pth").is_file()
    rows = list(json.loads((tmp_path / "quality.json").read_text()))
    assert rows == ["CAM", {"affinity": "CAM + AffinityNet", "irn": "CAM + IRN"}[task], "round 1"]
    assert main(words) == 0  # everything is there
    assert capsys.readouterr().out.count("nothing to do") == 3
