"""The stages of the pipelines: their command lines, what they read and make, and what bashscripts/ asks for."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from spml.cli.main import main
from spml.errors import UserError
from spml.pipelines.plan import plan
from spml.pipelines.settings import ANNOTATIONS, Settings
from spml.pipelines.stage import choose

ROOT = Path(__file__).resolve().parents[1]
RETRIEVAL = ["memory", "predict", "evaluate"]
EVALUATE = ["predict", "evaluate", "evaluate"]
SHORT = ["train", *RETRIEVAL, "pseudo-label", "classifier", *EVALUATE]
TAG_ROUND = ["pseudo-label", "memory", "pseudo-label", "classifier"]
PIPELINES = {  # config: annotation
    "configs/voc12/tag.yaml": "tag",
    "configs/voc12/box.yaml": "box",
    "configs/voc12/scribble.yaml": "scribble",
    "configs/voc12/point.yaml": "point",
    "configs/densepose/point.yaml": "point",
}
NO_SHARED = ("dataset.classes=",)  # of the configs on photographs, whose names lie outside of the repository


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def dry(capsys: pytest.CaptureFixture):
    """The command lines that `spml run .. --dry` prints, as words without `spml`."""

    def lines(annotation: str, *words: object, config: object = None) -> list[list[str]]:
        config = config or next(path for path, kind in PIPELINES.items() if kind == annotation)
        status = main(
            ["run", annotation, "--config", str(config), "--data_dir", "data root", "--dry", *map(str, words)]
        )
        assert status == 0
        printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line]
        return [line[1:] if line[0] == "spml" else line for line in printed if line[0] != "=="]

    return lines


BOXES = {"box": "b.json"}


def names(commands: list[list[str]]) -> list[str]:
    return [command[0] for command in commands]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("config", PIPELINES)
def test_commands(config: str, dry) -> None:
    annotation, name = PIPELINES[config], config.removeprefix("configs/").removesuffix(".yaml").replace("/", "_")
    cams = ["--cam_dir", "cams"] if annotation in ("tag", "box") else []
    commands = dry(annotation, "train.base_lr=0.1", *cams, config=config)
    expected = SHORT if annotation != "tag" else ["train", *RETRIEVAL, *TAG_ROUND, *TAG_ROUND, *EVALUATE]
    assert names(commands) == expected
    for command in commands:
        assert option(command, "--data_dir") == "data root"
        assert ("train.base_lr=0.1" in command) == (command[0] != "evaluate")
        if "--config" in command:
            assert option(command, "--config") == config
    folder = f"snapshots/{name}"
    last = {command[0]: command for command in commands}
    memory = commands[1]
    assert "--full_masks" not in memory and "--data_list" not in memory  # the config's list of weak labels
    labels = "pseudo2" if annotation == "tag" else "pseudo"
    classifier = last["classifier"]
    assert option(classifier, "--data_list") == f"{folder}/{labels}/list.txt"
    assert classifier[-1] == f"network.pretrained={folder}/stage1"  # after all overrides
    assert {"--resume", "train.batch_size=16", "train.max_iteration=4000"} <= set(classifier)
    predict = last["predict"]
    assert {"--crf", "--flip"} <= set(predict) and option(predict, "--scales") == "0.5,0.75,1,1.25,1.5"
    assert option(predict, "--snapshot_dir") == f"{folder}/stage2"
    assert option(last["evaluate"], "--pred_dir") == f"{folder}/evaluation/semantic_gray"
    assert option(last["evaluate"], "--num_classes") == ("15" if "densepose" in config else "21")
    source = "points" if "densepose" in config else "retrieval" if annotation == "tag" else "softmax"
    assert option(last["pseudo-label"], "--source") == source
    grid = "24,24" if "densepose" in config else "12,12"
    assert option(last["pseudo-label"], "--kmeans_num_clusters") == option(memory, "--kmeans_num_clusters") == grid


def test_rounds_of_tags(dry) -> None:
    commands = dry("tag", "--cam_dir", "cams")
    labels = [command for command in commands if command[0] == "pseudo-label"]
    assert [option(command, "--source") for command in labels] == ["cam", "retrieval", "softmax", "retrieval"]
    assert option(labels[0], "--cam_dir") == "cams" and option(labels[2], "--walk_steps") == "1"
    assert option(labels[2], "--snapshot_dir").endswith("stage2_round1")
    memories = [command for command in commands if command[0] == "memory"][1:]
    assert [Path(option(memory, "--data_list")).parent.name for memory in memories] == ["pseudo_cam", "pseudo_softmax"]
    assert all(option(memory, "--scales") == "0.5,1,1.5" and "--flip" not in memory for memory in memories)


def test_labels_of_cams_have_the_background_of_the_network_that_made_them(dry) -> None:
    """`test.cam_alpha` stands in the config of the CAM network; the walk's command has that of the segmenter."""

    def words(*own: str) -> list[str]:
        (command,) = [one for one in dry("tag", *own) if "--cam_dir" in one]
        return [word for word in command if "cam_alpha" in word]

    assert words() == []
    assert words("--cam", "test.cam_alpha=0.4") == ["test.cam_alpha=0.4"]
    assert words("test.cam_alpha=2") == ["test.cam_alpha=2"]


def test_tags_make_their_cams_first(dry) -> None:
    own = ["--cam", "train.seed=2", "--instance_dir", "hed", "--snapshots", "out"]
    commands = dry("tag", "train.seed=1", *own)
    assert names(commands) == ["train", "cam", "train", *RETRIEVAL, *TAG_ROUND, *TAG_ROUND, *EVALUATE]
    train, cam, stage1, memory = commands[:4]
    configs = [option(command, "--config") for command in commands[:3]]
    assert configs == ["configs/voc12/cam.yaml", "configs/voc12/cam.yaml", "configs/voc12/tag.yaml"]
    assert train[-2:] == ["train.seed=1", "train.seed=2"]
    assert cam[-2:] == train[-2:] and "--boxes" not in cam and "--gt_list" not in cam
    assert option(cam, "--snapshot_dir") == option(train, "--snapshot_dir") == "out/cam_network"
    assert option(cam, "--save_dir") == "out/cams" and option(cam, "--instance_dir") == "hed"
    labels = [command for command in commands if command[0] == "pseudo-label"]
    for command in (stage1, memory, *labels):
        assert option(command, "--data_list") == "out/cams/list_tag.txt"
    assert option(labels[0], "--cam_dir") == "out/cams/cam"


def test_boxes_make_their_cams_first(dry, tmp_path: Path) -> None:
    commands = dry("box", "--boxes", "b.json", "--only", "cam", "train")
    assert names(commands) == ["cam", "train"] and option(commands[0], "--boxes") == "b.json"
    assert option(commands[1], "--data_list") == "snapshots/voc12_box/cams/list_box.txt"
    (given,) = dry("box", "--only", "train", "--cam_dir", "cams")
    assert "--data_list" not in given  # the config's list, of labels that are there
    mine = [tmp_path / "mine_cam.yaml", tmp_path / "mine_tag.yaml"]
    for path in mine:
        path.write_text("dataset:\n  num_classes: 6\n")
    own = dry("tag", "--only", "train_cam", "train", config=mine[1])
    assert [option(command, "--config") for command in own] == [str(path) for path in mine]
    assert option(own[1], "--data_list") == "snapshots/mine_tag/cams/list_tag.txt"
    by_name = dry("tag", "--only", "train_cam", config="voc12/tag")
    assert option(by_name[0], "--config") == "voc12/cam"


def test_settings(dry) -> None:
    box = ["--boxes", "b.json", "--cam_dir", "cams"]
    several = dry("box", "--gpus", 4, *box)
    assert {command[0] for command in several} == {"torchrun", "evaluate"}  # all but evaluations share their work
    assert several[0][1:5] == ["--standalone", "--nproc_per_node=4", "-m", "spml"] and several[0][5] == "train"
    chosen = [*box, "--only", "evaluate", "train", "--released_evaluation", "--expect", 73.5]
    commands = dry("box", *chosen)
    assert names(commands) == ["train", *EVALUATE]  # in the pipeline's own order
    assert "--crf" in commands[1] and "--scales" not in commands[1] and "--flip" not in commands[1]
    assert option(commands[1], "--save_dir") == "snapshots/voc12_box/evaluation_released"
    assert option(commands[-1], "--expect") == "73.5" and "--expect" not in commands[-2]
    plain = dry("point", "--only", "evaluate", "--released_evaluation", "--snapshots", "out")[0]
    assert not {"--crf", "--scales", "--flip"} & set(plain) and option(plain, "--snapshot_dir") == "out/stage2"
    own = ["--classifier", "train.batch_size=8 train.seed=1", "--gpus", 3, "--device", "cpu"]
    (classifier,) = dry("point", "--only", "classifier", "train.batch_size=2", *own)
    assert [word for word in classifier if "batch_size" in word] == [f"train.batch_size={size}" for size in (6, 2, 8)]
    assert "train.seed=1" in classifier and option(classifier, "--device") == "cpu"


def test_full_masks(dry) -> None:
    config = "configs/voc12/scribble.yaml"
    commands = dry("mask", "losses.cross_entropy.weight=2", config=config)
    assert names(commands) == ["train", *EVALUATE]
    recipe = ["train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1"]
    assert commands[0][-4:] == [*recipe, "losses.cross_entropy.weight=2"]
    assert option(commands[1], "--snapshot_dir") == option(commands[0], "--snapshot_dir")
    own = dry("mask", "train.task=segmentation", "losses=none", "losses.cross_entropy.weight=2", config=config)
    assert "losses.cross_entropy.weight=1" not in own[0]  # the user's own losses


def test_a_second_training_on_pseudo_labels(dry) -> None:
    short = [stage.name for stage in plan(Settings("point", "voc12/point", rounds=3))]
    once = ["train", "retrieval", "pseudo", "classifier", "evaluate"]
    assert short == [*once, *(f"{name}2" for name in once), *(f"{name}3" for name in once)]
    tags = [stage.name for stage in plan(Settings("tag", "voc12/tag", cam_dir="cams", rounds=2))]
    assert tags[7:] == ["train2", "retrieval2", "pseudo3", "classifier3", "evaluate2"]
    commands = dry("point", "--rounds", 2, "--from", "train2", "--gt_list", "masks.txt")
    own = {command[0]: command for command in commands}  # the last of each
    assert option(own["train"], "--data_list") == "snapshots/voc12_point/pseudo/list.txt"
    assert option(own["memory"], "--data_list") == "snapshots/voc12_point/pseudo/list.txt"
    assert "--data_list" not in own["pseudo-label"]  # the weak labels say which classes an image has
    assert own["classifier"][-1] == "network.pretrained=snapshots/voc12_point/round2/stage1"
    rows = [command[-1].partition("=")[0] for command in commands if command[0] == "quality"]
    assert rows == [
        f"training 2: {row}" for row in ("test images: retrieval", "pseudo labels", "test images: classifier")
    ]


def test_regions_are_made_where_the_list_names_none(dry, tiny_data: Path, tiny_config_file: Path, tmp_path) -> None:
    lines = (tiny_data / "train.txt").read_text().splitlines()
    (tmp_path / "two.txt").write_text("".join(line.rsplit(" ", 1)[0] + "\n" for line in lines))
    own = ["--data_dir", tiny_data, "--snapshots", "out"]
    listed = f"dataset.train_data_list={tmp_path / 'two.txt'}"
    commands = dry("point", *own, listed, config=tiny_config_file)
    assert commands[0][0] == "oversegment" and option(commands[0], "--data_list") == str(tmp_path / "two.txt")
    for command in commands[1:]:
        if command[0] in ("train", "memory", "pseudo-label"):
            assert option(command, "--data_list") == "out/oversegment/list.txt"
    assert names(dry("point", *own, config=tiny_config_file)) == SHORT  # it has them
    without = dry("point", *own, listed, "losses.image_similarity=none", config=tiny_config_file)
    assert names(without) == SHORT  # nobody reads them
    cams = dry("tag", *own, listed, "--cam_config", tiny_config_file, config=tiny_config_file)
    assert names(cams)[:3] == ["oversegment", "train", "cam"]
    assert option(cams[2], "--instance_dir") == "out/oversegment" and "--list_out" not in cams[0]


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_everything_read_was_made_before(annotation: str, rounds: int) -> None:
    """What is no stage's output is the user's: a list, a config's file, CAMs or boxes."""
    made: set[Path] = set()
    config = next(path for path, kind in PIPELINES.items() if kind in (annotation, "scribble"))
    rounds = 1 if annotation == "mask" else rounds
    settings = Settings(annotation, config, rounds=rounds, gt_list="masks.txt", boxes=BOXES.get(annotation))
    users = {Path(settings.loaded.dataset[f"{kind}_data_list"]) for kind in ("train", "test")}
    users |= {Path("masks.txt"), Path(settings.training_list)}
    for stage in plan(settings):
        for step in stage.steps:
            assert set(step.inputs) <= made | users, (stage.name, set(step.inputs) - made - users)
            made |= set(step.outputs)
            words = set(step.words)
            for path in step.outputs:
                assert {str(path), str(path.parent)} & words, f"{path} stands nowhere in {step.words}"
    assert all(path.is_relative_to("snapshots") for path in made)


def test_stages_are_chosen_by_name() -> None:
    stages = plan(Settings("scribble", "voc12/scribble"))
    assert [stage.name for stage in choose(stages, "pseudo")] == ["pseudo", "classifier", "evaluate"]
    assert [stage.name for stage in choose(stages, None, ["evaluate", "train"])] == ["train", "evaluate"]
    assert [stage.name for stage in choose(stages, "pseudo", ["evaluate", "train"])] == ["evaluate"]
    with pytest.raises(ValueError, match="expected some of train retrieval .*, got evalute"):
        choose(stages, None, ["evalute"])
    assert all(stage.help for stage in stages)


def test_overrides_may_follow_the_stages(dry) -> None:
    (train,) = dry("scribble", "--only", "train", "train.base_lr=0.1")
    assert train[-1] == "train.base_lr=0.1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tag", "--config", "voc12/scribble"], "--cam_config: expected the config of a CAM network"),
        (["box", "--config", "msrc_box", *NO_SHARED], "--boxes: expected boxes.json"),
        (["mask", "--config", "voc12/scribble", "--rounds", "2"], "--rounds: expected 1 for masks"),
        (["scribble", "--config", "voc12/scribble", "--only", "evalute"], "got evalute"),
        (["scribble", "--config", "voc12/scribble", "train.base_rl=1"], "did you mean train.base_lr"),
        (["scribble", "--config", "nowhere.yaml"], "config nowhere.yaml"),
        (["scribble", "--config", "voc12/scribble", "dataset.train_data_list=no.txt"], "no data list no.txt"),
    ],
)
def test_mistakes(words: list[str], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        main(["run", *words, "--data_dir", "x"])
    assert "\n" not in str(caught.value)


# The scripts of bashscripts/, which hand their environment over.

SCRIPTS = {
    "voc12/train_spml_tag.sh": "tag",
    "voc12/train_spml_box.sh": "box",
    "voc12/train_spml_scribble.sh": "scribble",
    "voc12/train_spml_point.sh": "point",
    "densepose/train_spml_point.sh": "point",
}
SETTINGS = "STAGES DRY GPUS GRID CFG CAM_DIR CAM_CFG CAM BOXES INSTANCE_DIR GT_LIST SNAPSHOTS EXPECT CLASSIFIER ROUNDS"


def script(tmp_path: Path, name: str, *overrides: str, **settings: object) -> subprocess.CompletedProcess:
    """Run a script with an interpreter that prints its words, one a line."""
    python = tmp_path / "python"
    python.write_text("#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    left_out = {*SETTINGS.split(), "RELEASED_EVALUATION", "DATAROOT"}
    env = {key: value for key, value in os.environ.items() if key not in left_out}
    env |= {"SPML_PYTHON": str(python), **{key: str(value) for key, value in settings.items()}}
    words = ["bash", str(ROOT / "bashscripts" / name), *overrides]
    return subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_call_spml_run(name: str, tmp_path: Path) -> None:
    words = script(tmp_path, name, "train.seed=1", DATAROOT="data root").stdout.splitlines()
    config = f"configs/{name.split('/')[0]}/{SCRIPTS[name]}.yaml"
    given = ["-m", "spml", "run", SCRIPTS[name], "--config", config, "--data_dir", "data root"]
    assert words[: len(given)] == given and words[-1] == "train.seed=1" and (ROOT / config).is_file()
    extra = words[len(given) : -1]
    expected = {"tag": ["--instance_dir", "data root/VOC2012/hed"]}
    expected["box"] = ["--boxes", "data root/VOC2012/Annotations", *expected["tag"]]
    assert extra == expected.get(SCRIPTS[name], [])
    assert len((ROOT / "bashscripts" / name).read_text().splitlines()) <= 13


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_scripts_hand_their_settings_over(tmp_path: Path, capsys) -> None:
    settings = {name: f"the {name}" for name in ("SNAPSHOTS", "GT_LIST", "CAM_CFG", "CAM_DIR", "BOXES", "INSTANCE_DIR")}
    settings |= {"DATAROOT": "d", "GPUS": 4, "DRY": 1, "STAGES": "train evaluate", "CFG": "my.yaml", "GRID": "6,6"}
    settings |= {"CLASSIFIER": "a=1 b=2", "CAM": "c=3", "EXPECT": 76.1, "RELEASED_EVALUATION": 1, "ROUNDS": 2}
    words = script(tmp_path, "voc12/train_spml_tag.sh", "train.seed=1", **settings).stdout.splitlines()
    assert option(words, "--config") == "my.yaml" and option(words, "--cam_config") == "the CAM_CFG"
    for name in (
        "SNAPSHOTS",
        "GT_LIST",
        "CAM_DIR",
        "BOXES",
        "INSTANCE_DIR",
        "GPUS",
        "GRID",
        "CLASSIFIER",
        "CAM",
        "EXPECT",
    ):
        assert option(words, f"--{name.lower()}") == str(settings[name])
    assert option(words, "--rounds") == "2" and {"--dry", "--released_evaluation"} <= set(words)
    assert words[words.index("--only") + 1 :] == ["train", "evaluate", "train.seed=1"]
    words[words.index("my.yaml")] = "voc12/tag"
    words[words.index("the CAM_CFG")] = "voc12/cam"
    useless = {
        name: words.index(f"--{name}") for name in ("cam", "cam_config", "boxes")
    }  # with --cam_dir, and for tags
    for name, place in useless.items():
        with pytest.raises(UserError, match=rf"--{name}: no stage of this pipeline \(from tag, voc12/tag\) uses it"):
            main([*words[2:4], *words[place : place + 2], "--config", "voc12/tag", "--cam_dir", "c", "--dry"])
    left = [word for place, word in enumerate(words) if not {place, place - 1} & {*useless.values()}]
    assert main(left[2:]) == 0
    assert "== voc12_tag: train ==" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_scripts_need_a_data_root(tmp_path: Path) -> None:
    done = script(tmp_path, "voc12/train_spml_point.sh")
    assert done.returncode == 1 and done.stderr.startswith("error: DATAROOT is not set") and not done.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck")
def test_shellcheck() -> None:
    scripts = [str(path.relative_to(ROOT)) for path in (ROOT / "bashscripts").rglob("*.sh")]
    done = subprocess.run(["shellcheck", "-x", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def stages_of(*words: str, annotation: str, folder: Path, classes: str = "a\nb\n") -> list[str]:
    (folder / "classes.txt").write_text(classes)
    names = ["dataset.classes=" + str(folder / "classes.txt")]
    return [stage.name for stage in plan(Settings(annotation, data_dir=str(folder), overrides=(*names, *words)))]


def test_own_data_needs_no_config(tmp_path: Path) -> None:
    own = {"annotation": "scribble", "folder": tmp_path}
    assert stages_of(**own) == ["lists", "oversegment", "spread", "train", "predict"]
    assert stages_of("losses.image_similarity=none", **own) == ["lists", "spread", "train", "predict"]
    stage2 = ["lists", "oversegment", "train", "pseudo", "classifier", "predict"]
    assert stages_of("pipeline.spread=false", "pipeline.classifier=true", **own) == stage2
    assert stages_of(annotation="mask", folder=tmp_path) == ["lists", "train", "predict"]
    (tmp_path / "train.txt").write_text("a.png b.png c.png\n")
    (tmp_path / "val.txt").write_text("a.png b.png\n")
    assert stages_of(**own) == ["spread", "train", "retrieval", "evaluate"]


def test_box_labels_spread_without_cams(tmp_path: Path) -> None:
    assert stages_of(annotation="box", folder=tmp_path) == ["lists", "oversegment", "spread", "train", "predict"]


def test_own_data_from_tags(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    own = {"annotation": "tag", "folder": tmp_path}
    stages = ["lists", "oversegment", "train_cam", "cam", "seeds", "spread", "train", "predict"]
    assert stages_of(**own) == stages
    words = ["run", "tag", "--data_dir", str(tmp_path)]
    assert main([*words, "--dry", "--only", "train_cam"]) == 0
    printed = capsys.readouterr().out
    assert f"dataset.tags={tmp_path / 'tags.txt'}" in printed and "own_data_cam" in printed
    (tmp_path / "my cow.jpg").touch()
    (tmp_path / "tags.txt").write_text("other cow\n")
    with pytest.raises(UserError, match="tags.txt: no line names one of the 1 images"):
        main(words)
    (tmp_path / "tags.txt").write_text("my cow\ta\n")
    with pytest.raises(UserError, match="expected `background` as the first class, .* got 'a'"):
        main(words)


def test_own_data_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for words, message in (
        ([], "expected --data_dir, the folder of your images"),
        (["--data_dir", str(tmp_path)], f"--classes: expected a file of class names, one a line, or {tmp_path}"),
    ):
        with pytest.raises(UserError, match=message):
            main(["run", "scribble", *words])
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="no image"):
        main(["run", "scribble", "--data_dir", str(tmp_path)])
    assert main(["run", "scribble", "--data_dir", str(tmp_path), "--dry"]) == 0
    printed = capsys.readouterr().out
    assert f"dataset.classes={tmp_path / 'classes.txt'}" in printed
    assert f"snapshots/{tmp_path.name}_scribble/stage1" in printed


def test_tags_without_a_second_stage() -> None:
    """`pipeline.classifier: false`: the first training learns the labels of CAMs, or of the affinities, and ends it."""
    given = {"config": "msrc_lite0_tag", "cam_dir": "cams", "snapshots": "out"}
    plain = ("pipeline.spread=false", *NO_SHARED)
    once = plan(Settings("tag", overrides=plain, **given))
    assert [stage.name for stage in once] == ["train", "retrieval", "evaluate"]
    walked = plan(Settings("tag", affinity="irn", overrides=NO_SHARED, **given))
    assert [stage.name for stage in walked] == ["confident", "train_irn", "irn", "train", "retrieval", "evaluate"]
    (step,) = walked[3].steps
    assert option(list(step.words), "--data_list") == "out/irn/pseudo/list.txt"
    again = plan(Settings("tag", overrides=plain, rounds=2, **given))
    assert [stage.name for stage in again] == [
        "train",
        "retrieval",
        "pseudo",
        "evaluate",
        "train2",
        "retrieval2",
        "evaluate2",
    ]


def test_labels_spread_from_the_surest_pixels_of_cams() -> None:
    stages = plan(Settings("tag", config="msrc_lite0_tag", cam_dir="cams", snapshots="out", overrides=NO_SHARED))
    assert [stage.name for stage in stages] == ["seeds", "spread", "train", "retrieval", "evaluate"]
    seeds, spread, train = (list(stage.steps[0].words) for stage in stages[:3])
    assert option(seeds, "--cam_dir") == "cams" and option(seeds, "--save_dir") == "out/seeds"
    assert option(spread, "--data_list") == "out/seeds/list.txt" and "--crf" in spread
    assert option(train, "--data_list") == "out/spread/list.txt"
    assert spread[-1] == "dataset.unlabelled_index=255"  # what the seeds leave open is no void


def test_several_processes_remove_nothing() -> None:
    with pytest.raises(UserError, match="--overwrite: expected one process, got --gpus 2"):
        main(["run", "scribble", "--config", "msrc_scribble", "--gpus", "2", "--overwrite", "--dry"])


def test_over_segmentations_that_no_stage_would_read() -> None:
    for annotation in ("scribble", "point", "mask"):
        with pytest.raises(UserError, match="--instance_dir: no stage of this pipeline .from"):
            Settings(annotation, config="msrc_lite0_point", instance_dir="regions", overrides=NO_SHARED)


def test_stages_that_exclude_each_other(dry) -> None:
    with pytest.raises(UserError, match="--from, --only: expected a stage from evaluate on, got train, before it"):
        dry("scribble", "--from", "evaluate", "--only", "train")


def test_an_expected_figure_needs_masks(tmp_path: Path) -> None:
    for wrong in ("nan", "101"):
        with pytest.raises(UserError, match="--expect: expected 0 to 100 per cent"):
            main(["run", "scribble", "--config", "voc12/scribble", "--data_dir", "d", "--dry", "--expect", wrong])
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match="--expect: expected a list of test images with masks, .*val.txt, got none"):
        main(["run", "scribble", "--data_dir", str(tmp_path), "--expect", "50"])
