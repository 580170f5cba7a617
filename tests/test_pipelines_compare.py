"""Methods beside each other on tiny data: the plan, the choice on dev, the result, what is kept, what goes on."""

import json
import math
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml.cli.main import main
from spml.config import load_config
from spml.data.lists import read_list
from spml.engine.run import train
from spml.errors import UserError
from spml.pipelines import compared_run, spread_labels
from spml.pipelines.compare import compare, compare_runs, plan_runs
from spml.pipelines.compared_run import ComparedRun
from spml.pipelines.comparison import CHOICE_SEED, DEV, FIT, Comparison
from spml.pipelines.curve import read_curve
from spml.pipelines.methods import DEFAULT, find_methods, read_methods
from spml.pipelines.result import failures, summary
from spml.pipelines.side_by_side import run_jobs

CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=1"]


@pytest.fixture(scope="module")
def compared(tiny_config_file, tmp_path_factory):
    """A whole comparison: its folder and result."""
    folder = tmp_path_factory.mktemp("compare")
    return folder, compare(tiny_config_file, folder, [3], overrides=SHORT, device="cpu")


def part_of(run):
    """What a table of figures has them under."""
    return run.row, run.setting, (run.fold or "dev") if run.tried else run.seed


def counts(kind, softmax, retrieval, pixels=10000):
    """A confusion matrix with that mIoU: one class, whose other pixels are no class."""
    right = round(pixels * (softmax if kind == "softmax" else retrieval) / 100)
    return np.array([[right, 0, 0, 0, pixels - right], *[[0] * 5] * 3])


def fake(figures):
    """A run that takes its figures, (classifier, retrieval) by row, setting and part, from a table."""

    def run(self: ComparedRun, device, guard=nullcontext):
        softmax, retrieval = figures[part_of(self)][:2]
        both = {"mean_iou": softmax, "retrieval_mean_iou": retrieval}
        kept = {compared_run.PREDICTORS[self.tried]: 0} if self.tried else both
        return {name: both[name] for name in kept} | {"iou": {}, "training_seconds": 2.0, "seconds": 3.0}

    return run


@pytest.fixture
def faked(monkeypatch):
    """Replaces training and the report: the figures of runs come from a table."""

    def use(figures):
        monkeypatch.setattr(ComparedRun, "run", fake(figures))
        monkeypatch.setattr("spml.pipelines.compare.write_report", lambda *args, **kwargs: None)
        monkeypatch.setattr(ComparedRun, "counts", lambda self, kind: counts(kind, *figures[part_of(self)]))

    return use


def test_plan_crosses_seeds_and_methods(tiny_config_file, tmp_path):
    runs = plan_runs(tiny_config_file, tmp_path, [0, 5], SHORT)
    assert [(run.method, run.seed) for run in runs] == [(method, seed) for seed in (0, 5) for method in DEFAULT]
    assert len({run.folder for run in runs}) == 4 and not list(tmp_path.iterdir())
    for run in runs:
        assert run.config.train.seed == run.seed and run.snapshot == run.folder / "model-1.pth"
    spml, baseline = runs[0].config, runs[1].config
    assert (spml.train.task, baseline.train.task) == ("spml", "segmentation")
    assert list(baseline.losses) == ["cross_entropy"] and baseline.losses.cross_entropy.weight == 1
    assert len(spml.losses) == 4
    for section in ("dataset", "network", "test"):
        assert spml[section] == baseline[section]
    assert {name for name in spml.train if spml.train[name] != baseline.train[name]} == {"task"}  # same data and steps
    with pytest.raises(UserError, match="--methods: unknown method 'sml'; did you mean 'spml'"):
        plan_runs(tiny_config_file, tmp_path, [0], methods=["sml"])


def test_rows_of_annotations_and_full_masks(tiny_config_file, tiny_data, tmp_path):
    lists = {"point": f"{tiny_data}/train.txt", "scribble": f"{tiny_data}/train.txt"}
    methods = find_methods(["full_masks", "spml", "spread_then_ce"])
    plan = Comparison(tiny_config_file, tmp_path, methods, annotations=lists, masks=f"{tiny_data}/val.txt", tries=2)
    keys = [row.key for row in plan.rows]
    assert keys == ["point/spml", "point/spread_then_ce", "scribble/spml", "scribble/spread_then_ce", "full_masks"]
    trained = [plan.run(row, 0).config.dataset.train_data_list for row in plan.rows]
    spread = f"{tmp_path}/point/spread/whole/list.txt"
    assert trained[:2] == [lists["point"], spread] and trained[4] == f"{tiny_data}/val.txt"
    assert [plan.run(row, 0).full_masks for row in plan.rows] == [False] * 4 + [True]
    assert [job.data_list.parent.name for job in plan.spread_labels(plan.rows[1])] == ["whole", "fit"]
    tried = plan.run_on_dev(plan.rows[1], 1)
    assert tried.config.dataset.train_data_list == f"{tmp_path}/point/spread/fit/list.txt"
    assert tried.config.train.seed == CHOICE_SEED and tried.read_outs == ("softmax",)


def test_fit_and_dev_share_no_image_and_dev_has_masks(tiny_config_file, tiny_data, tmp_path):
    for masks, folder in ((None, "weak"), (f"{tiny_data}/val.txt", "mask")):
        plan = Comparison(tiny_config_file, tmp_path / folder, find_methods(["spml"]), masks=masks, tries=2)
        run = plan.run_on_dev(plan.rows[0], 0)
        fit, dev = ({sample.name for sample in run.samples(use)} for use in ("train", "test"))
        assert not fit & dev and len(fit | dev) == 8 and len(dev) == 2
        assert {Path(sample.label).parent.name for sample in run.samples("test")} == {folder}
        assert {Path(sample.label).parent.name for sample in run.samples("train")} == {"weak"}
        assert read_list(plan.part(plan.rows[0], FIT), tiny_data) and read_list(plan.part(plan.rows[0], DEV), tiny_data)


def test_masks_of_names_with_spaces_and_of_lists_with_a_slash(tiny_config_file, tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    lines = [line.split() for line in (data / "train.txt").read_text().splitlines()]
    for image, *_ in lines:
        (data / image).rename(data / image.replace("image/", "image/my "))
    named = [[image.replace("image/", "image/my "), *rest] for image, *rest in lines]
    (data / "train.txt").write_text("".join("\t".join(line) + "\n" for line in named))
    masks = [[f"/{line[0]}", f"/{line[1].replace('weak', 'mask')}"] for line in named]
    (data / "masks.txt").write_text("".join("\t".join(line) + "\n" for line in masks))
    words = [f"dataset.data_dir={data}", f"dataset.train_data_list={data}/train.txt"]
    given = {"overrides": words, "masks": f"{data}/masks.txt", "tries": 2}
    plan = Comparison(tiny_config_file, tmp_path / "out", find_methods(["spml"]), **given)
    samples = read_list(plan.part(plan.rows[0], DEV), data)
    assert [(sample.image.name, sample.label.parent.name) for sample in samples] == [
        ("my 0.png", "mask"),
        ("my 6.png", "mask"),
    ]


def test_spread_labels_are_made_once_and_belong_to_their_list(tiny_config_file, tiny_data, tmp_path, monkeypatch):
    """Without the features, which take seconds: what is kept, and what another annotation says."""
    made = []

    def label(config, samples, labeller, folder, walk_steps):
        made.append(folder)
        (folder / "list.txt").write_text("x")
        return "done"

    monkeypatch.setattr(spread_labels, "build_source", lambda *args, **kwargs: None)
    monkeypatch.setattr(spread_labels, "label_list", label)
    (tmp_path / "a.txt").write_text((tiny_data / "train.txt").read_text())

    def job():
        lists = {"a": str(tmp_path / "a.txt")}
        plan = Comparison(tiny_config_file, tmp_path / "out", find_methods(["spread_then_ce"]), annotations=lists)
        return plan.spread_labels(plan.rows[0])[0]

    assert run_jobs([job()], CPU) == [{}] == run_jobs([job()], CPU) and made == [tmp_path / "out/a/spread/whole"]
    (tmp_path / "a.txt").write_text((tiny_data / "val.txt").read_text())
    with pytest.raises(UserError, match="other spread labels of a comparison are here .*contents.list"):
        run_jobs([job()], CPU)


def test_settings_that_cannot_be_used(tiny_config_file, tiny_data, tmp_path):
    def plan(methods=("spml",), **given):
        return Comparison(tiny_config_file, tmp_path, find_methods(methods), **given)

    with pytest.raises(UserError, match="--masks: expected the list of full masks that full_masks"):
        plan(["full_masks"])
    for name in ("a/b", "", "spml", "lists"):
        with pytest.raises(UserError, match="--annotation: expected a name of letters"):
            plan(annotations={name: "x"})
    with pytest.raises(UserError, match="--predictor: expected one of softmax, retrieval"):
        plan(predictor="crf")
    (tmp_path / "few.txt").write_text((tiny_data / "val.txt").read_text().split("\n", 1)[1])
    with pytest.raises(UserError, match="--annotation point: cannot read .*nowhere.txt"):
        plan(annotations={"point": str(tmp_path / "nowhere.txt")}).check_lists()
    with pytest.raises(UserError, match="--masks: cannot read"):
        plan(masks=str(tmp_path / "nowhere.txt")).check_lists()
    with pytest.raises(
        UserError, match="dataset.test_data_list: expected the list that the result is measured on, got n"
    ):
        plan(overrides=["dataset.test_data_list="]).check_lists()
    with pytest.raises(UserError, match="--folds: expected at most 8, the images of .*train.txt, got 9"):
        plan(tries=2, folds=9).check_lists()
    few = plan(masks=str(tmp_path / "few.txt"), tries=2)
    with pytest.raises(UserError, match="expected a line for each training image, found none for .*image/0.png"):
        few.part(few.rows[0], DEV)


def test_dev_chooses_and_the_first_of_equals_wins(tiny_config_file, tmp_path, faked):
    spml, baseline = (("spml", n) for n in (0, 1)), (("partial_cross_entropy", n) for n in (0, 1))
    figures = dict(zip([(*key, "dev") for key in spml], [(50.0, 40.0), (60.0, 30.0)], strict=True))
    figures |= dict(zip([(*key, "dev") for key in baseline], [(45.0, 10.0), (45.0, 10.0)], strict=True))
    figures |= {("spml", n, seed): (70.0 + n, 80.0 + n) for n in (0, 1) for seed in (0, 1)}
    figures |= {("partial_cross_entropy", n, seed): (20.0 + n, 30.0) for n in (0, 1) for seed in (0, 1)}
    faked(figures)
    result = compare(tiny_config_file, tmp_path / "a", [0, 1], overrides=SHORT, device="cpu", tries=2)
    assert result["spml"]["mean_iou"] == 71.0 and result["spml"]["setting"] == ["losses.image_similarity.weight*=0.3"]
    assert result["partial_cross_entropy"]["mean_iou"] == 20.0 and result["partial_cross_entropy"]["setting"] == []
    assert [one["dev_mean_iou"] for one in result["spml"]["tried"]] == [50.0, 60.0]
    by = compare(tiny_config_file, tmp_path / "b", [0], overrides=SHORT, device="cpu", tries=2, predictor="retrieval")
    assert by["spml"]["setting"] == [] and by["spml"]["mean_iou"] == 70.0  # retrieval preferred the first one


def test_folds_choose_by_all_their_pixels(tiny_config_file, tmp_path, faked):
    """Setting 0: 90 % of 100 pixels and 50 % of 300 are 60 % of all; setting 1: 65 and 61 are 62, the better one."""
    figures = {("spml", 0, "fold0"): (90.0, 0, 100), ("spml", 0, "fold1"): (50.0, 0, 300)}
    figures |= {("spml", 1, "fold0"): (65.0, 0, 100), ("spml", 1, "fold1"): (61.0, 0, 300)}
    faked(figures | {("spml", n, 0): (70.0 + n, 80.0) for n in (0, 1)})
    result = compare(tiny_config_file, tmp_path, [0], ["spml"], SHORT, "cpu", tries=2, folds=2)
    assert [one["dev_mean_iou"] for one in result["spml"]["tried"]] == [60.0, 62.0]
    assert result["spml"]["mean_iou"] == 71.0


def test_a_setting_with_a_failed_fold_does_not_count(tiny_config_file, tmp_path, faked, monkeypatch):
    faked({("spml", n, part): (50.0 + n, 0) for n in (0, 1) for part in ("fold0", "fold1", 0)})
    works = ComparedRun.run

    def run(self, *args):
        if (self.setting, self.fold) == (1, "fold1"):
            raise UserError("a loss that is not finite")
        return works(self, *args)

    monkeypatch.setattr(ComparedRun, "run", run)
    result = compare(tiny_config_file, tmp_path, [0], ["spml"], SHORT, "cpu", tries=2, folds=2)["spml"]
    assert result["setting"] == [] and result["mean_iou"] == 50.0
    assert result["failed"] == ["spml, setting 1 on fold1: a loss that is not finite"]


def test_folds_cover_the_list_and_share_nothing(tiny_config_file, tiny_data, tmp_path):
    methods = find_methods(["spread_then_ce"])
    plan = Comparison(tiny_config_file, tmp_path, methods, masks=f"{tiny_data}/val.txt", tries=2, folds=3)
    row, judged = plan.rows[0], []
    for fold in range(3):
        run = plan.run_on_dev(row, 1, fold)
        fit = {sample.name for sample in read_list(plan.part(row, FIT, fold), tiny_data)}
        dev = {sample.name for sample in run.samples("test")}
        assert not fit & dev and len(fit | dev) == 8
        assert run.config.dataset.train_data_list == f"{tmp_path}/spread/fit/fold{fold}/list.txt"
        assert run.folder == tmp_path / f"spread_then_ce/try1/fold{fold}"
        judged += dev
    assert len(judged) == len(set(judged)) == 8
    assert [job.folder.name for job in plan.spread_labels(row)] == ["whole", "fold0", "fold1", "fold2"]
    for folds, tries in ((2, 1), (0, 2)):
        with pytest.raises(UserError, match=f"--folds: expected 1, or more with --tries of 2 or more, got {folds}"):
            Comparison(tiny_config_file, tmp_path, methods, tries=tries, folds=folds)


def test_every_method_gets_the_same_number_of_tries(tiny_config_file, tmp_path, monkeypatch):
    monkeypatch.setattr(ComparedRun, "run", lambda *args: pytest.fail("a run began"))
    with pytest.raises(UserError, match="--tries: every method gets the same number"):
        compare(tiny_config_file, tmp_path, overrides=SHORT, device="cpu", tries=9)


def test_result_and_what_stays_behind(compared):
    folder, result = compared
    assert result.keys() == {*DEFAULT, "seconds"}
    for method in DEFAULT:
        found = result[method]
        assert found.keys() == {"setting", "training_seconds", "mean_iou", "retrieval_mean_iou"}  # one seed: no spread
        assert 0 <= found["mean_iou"] <= 100 and 0 <= found["retrieval_mean_iou"] <= 100
        run = folder / method / "seed3"
        assert {"model-1.pth", "model-1.state.pth", "config.yaml", "record.json", "memory", "curve.json"} <= {
            path.name for path in run.iterdir()
        }
        for predictor in ("softmax", "retrieval"):
            assert len(list((run / predictor / "semantic_gray").glob("*.png"))) == 8
        outcome = json.loads((run / "figures" / "outcome.json").read_text())
        assert outcome["mean_iou"] == found["mean_iou"] and len(outcome["iou"]["softmax"]) == 4
        curve = read_curve(run)
        assert [point["step"] for point in curve] == [0, 1] and {"total", "cross_entropy", "seconds"} <= set(curve[0])
        assert found["training_seconds"] == round(curve[-1]["seconds"], 1)
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["seconds"] > 0 and json.loads(json.dumps(result)) == result
    assert (folder / "report.html").is_file() and "| spml |" in (folder / "report.md").read_text()


def test_a_finished_comparison_is_read_not_repeated(compared, tiny_config_file, monkeypatch):
    folder, result = compared
    monkeypatch.setattr(compared_run, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    assert compare(tiny_config_file, folder, [3], overrides=SHORT, device="cpu") == result


@pytest.mark.parametrize(("override", "named"), [("train.base_lr=0.5", "base_lr"), ("test.neighbours=3", "neighbours")])
def test_another_config_in_the_folder_is_one_line(compared, tiny_config_file, override, named):
    with pytest.raises(
        UserError, match=f"(other figures of a comparison are|has begun) here .*{named}.*: .*or another --save_dir"
    ):
        compare(tiny_config_file, compared[0], [3], overrides=[*SHORT, override], device="cpu")


def test_a_training_that_was_interrupted_under_other_settings_stops_all(tiny_config_file, tmp_path, monkeypatch):
    """Before any run starts: its figures are not there yet, only its snapshot."""
    words = ["train.max_iteration=9", "train.warmup_iteration=1"]
    (first, _) = plan_runs(tiny_config_file, tmp_path, [0], words)
    train(load_config(tiny_config_file, [*words, "train.snapshot_step=1"]), first.folder, stop=stopped(), device="cpu")
    assert not (first.folder / "figures").exists()
    monkeypatch.setattr(ComparedRun, "run", lambda *args: pytest.fail("a run began"))
    with pytest.raises(
        UserError, match="spml/seed0/record.json: a training with other settings has begun here .*9, now 2"
    ):
        compare(tiny_config_file, tmp_path, [0], overrides=SHORT, device="cpu")


def stopped():
    event = threading.Event()
    event.set()
    return event


def test_a_list_that_changed_in_between_is_noticed(tiny_config_file, tiny_data, tmp_path):
    (tmp_path / "list.txt").write_text((tiny_data / "train.txt").read_text())
    (run,) = plan_runs(tiny_config_file, tmp_path, [0], [f"dataset.train_data_list={tmp_path}/list.txt"], ["spml"])
    assert run.finished() is None
    (run.result / "outcome.json").write_text("{}")
    assert run.finished() is None
    (tmp_path / "list.txt").write_text((tiny_data / "val.txt").read_text())
    with pytest.raises(UserError, match="other figures of a comparison are here .*contents.train"):
        compare_runs([run], CPU)


def test_a_test_list_without_any_class_is_one_line(tiny_config_file, tiny_data, tmp_path):
    Image.fromarray(np.full((40, 48), 255, np.uint8)).save(tmp_path / "void.png")
    (tmp_path / "list.txt").write_text(f"image/0.png {tmp_path}/void.png\n")
    runs = plan_runs(tiny_config_file, tmp_path, [0], [*SHORT, f"dataset.test_data_list={tmp_path}/list.txt"], ["spml"])
    with pytest.raises(UserError, match="spml, seed 0: .*list.txt: expected labels with pixels of a class"):
        compare_runs(runs, CPU)


def test_seeds_are_averaged_with_their_spread(compared, tiny_config_file, faked, tmp_path):
    figures = {("spml", 0, 0): (10.0, 20.0), ("spml", 0, 1): (30.0, 24.0)}
    faked(figures | {("partial_cross_entropy", 0, seed): (1.0, 2.0) for seed in (0, 1)})
    result = compare_runs(plan_runs(tiny_config_file, tmp_path, [0, 1], SHORT), CPU)
    spml = result["spml"]
    assert (spml["mean_iou"], spml["retrieval_mean_iou"], result["seconds"]) == (20.0, 22.0, 12.0)
    assert spml["mean_iou_std"] == round(math.sqrt(200), 2) and spml["mean_iou_seeds"] == [10.0, 30.0]
    assert "20.0 +- 14.1" in summary(result) and "partial_cross_entropy" in summary(result)
    assert "+-" not in summary(compared[1])


def test_an_interrupted_training_ends_the_comparison_and_goes_on(tiny_config_file, tmp_path):
    stop = threading.Event()
    stop.set()
    runs = plan_runs(tiny_config_file, tmp_path, [0], SHORT, ["spml"])
    with pytest.raises(KeyboardInterrupt):
        compare_runs(runs, CPU, lambda: nullcontext(stop))
    assert not list(tmp_path.rglob("outcome.json")) and (tmp_path / "spml/seed0/model-0.pth").is_file()
    assert 0 <= compare_runs(runs, CPU)["spml"]["mean_iou"] <= 100
    assert [point["step"] for point in read_curve(tmp_path / "spml/seed0")] == [0, 1]


@pytest.fixture(scope="module")
def side_by_side(tiny_config_file, tmp_path_factory):
    """A method and one that diverges, in two processes: the folder, and the result."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "own.yaml").write_text("bad: {overrides: [train.base_lr=1.0e+30], help: a < b & c}\n")
    given = {"processes": 2, "methods_file": folder / "own.yaml"}
    return folder, compare(tiny_config_file, folder / "out", [3], ["spml", "bad"], SHORT, "cpu", **given)


def test_processes_give_the_same_figures(compared, side_by_side):
    for figure in ("mean_iou", "retrieval_mean_iou"):
        assert side_by_side[1]["spml"][figure] == compared[1]["spml"][figure]


def test_a_failing_run_is_one_line_and_the_others_go_on(side_by_side):
    folder, result = side_by_side
    assert "the loss is not finite" in result["bad"]["failed"][0] and "mean_iou" not in result["bad"]
    assert failures(result) == result["bad"]["failed"] and "\n" not in failures(result)[0]
    assert "failed" in summary(result)
    assert (folder / "out/spml/seed3/log.txt").read_text()
    page = (folder / "out/report.html").read_text()
    assert "the loss is not finite" in page and "a &lt; b &amp; c" in page


def test_the_command_fails_where_a_run_does(side_by_side, tiny_config_file, capsys):
    folder, _ = side_by_side
    words = ["compare", "--config", str(tiny_config_file), "--save_dir", str(folder / "out"), "--device", "cpu"]
    own = ["--seeds", "3", "--methods_file", str(folder / "own.yaml"), "--methods"]
    assert main([*words, *own, "spml,bad", *SHORT]) == 1
    told = capsys.readouterr()
    assert "failed: bad, seed 3: the loss is not finite" in told.err and "report.html" in told.out
    assert main([*words, *own, "spml", *SHORT]) == 0


def test_a_dry_run_lists_the_settings_and_trains_nothing(tiny_config_file, tmp_path, capsys):
    words = ["compare", "--config", str(tiny_config_file), "--save_dir", str(tmp_path / "out"), "--dry", *SHORT]
    assert main([*words, "--tries", "2", "--seeds", "0,1"]) == 0 and not (tmp_path / "out").exists()
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "spml: default | image_similarity.weight*=0.3"
    assert told[2] == "4 runs on dev, and 4 runs of the result (seeds 0, 1)" and len(told) == 3


def test_a_method_that_changes_the_steps_is_refused_before_any_run(tiny_config_file, tmp_path):
    (tmp_path / "own.yaml").write_text("mine: {overrides: [train.max_iteration=9]}\n")
    assert read_methods(tmp_path / "own.yaml")
    with pytest.raises(UserError, match="method mine, setting 0: train.max_iteration=9: expected 2"):
        compare(tiny_config_file, tmp_path, methods=["mine"], overrides=SHORT, methods_file=tmp_path / "own.yaml")
