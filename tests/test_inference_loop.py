"""The loop over a list: what it refuses, skips and goes on with; several processes; runs that are killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml import records
from spml.config import save_config
from spml.data.lists import read_list
from spml.data.samples import DataError, Sample
from spml.errors import UserError
from spml.inference.loop import Job, go_through
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.models import build_classifier, build_embedding_model, save_checkpoint
from spml.propagate import DenseCRF
from spml.pseudo.label import build_source, choose_recipe, label_list

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def snapshots(tiny_config, tmp_path):
    """Two files of different weights."""
    paths = tmp_path / "model-3.pth", tmp_path / "model-4.pth"
    for path in paths:
        save_checkpoint(path, build_embedding_model(tiny_config), build_classifier(tiny_config))
    return paths


@pytest.fixture
def samples(tiny_config):
    return read_list(tiny_config.dataset.train_data_list, tiny_config.dataset.data_dir)


def softmax(config, snapshot, **plan):
    return build_predictor(config, "softmax", snapshot, replace(ViewPlan.from_config(config), **plan), CPU)


def test_predictions_of_other_weights_settings_or_images_stop_the_run(tiny_config, snapshots, samples, tmp_path):
    out, first = tmp_path / "out", softmax(tiny_config, snapshots[0])
    predict_list(tiny_config, samples[:2], first, out)
    (out / "semantic_gray" / "1.png").unlink()
    again = softmax(tiny_config, snapshots[0])
    assert "1 images predicted, 1 were there" in predict_list(tiny_config, samples[:2], again, out)
    assert records.read(out / "semantic_gray").complete and records.read(out / "semantic_gray").notes["images"] == 2
    second = softmax(tiny_config, snapshots[1])
    words = r"semantic_gray/record.json: other predictions are here \(weights.predictor.model has changed"
    with pytest.raises(UserError, match=words + ".*--overwrite"):
        predict_list(tiny_config, samples[:2], second, out)
    with pytest.raises(UserError, match=r"\(settings.predictor.plan.flip false, now true\)"):
        predict_list(tiny_config, samples[:2], softmax(tiny_config, snapshots[0], flip=True), out)
    with pytest.raises(UserError, match=r"\(settings.crf null, now {.kind.: .DenseCRF"):
        predict_list(tiny_config, samples[:2], first, out, crf=DenseCRF())
    with pytest.raises(UserError, match=r"\(contents.list has changed\)"):
        predict_list(tiny_config, samples[:3], first, out)
    assert "3 images predicted" in predict_list(tiny_config, samples[:3], second, out, overwrite=True)
    assert "0 images predicted" in predict_list(tiny_config, samples[:3], second, out)
    assert "3 images predicted" in predict_list(tiny_config, samples[:3], second, out, overwrite=True)


def test_one_folder_may_hold_a_memory_and_labels(tiny_config, snapshots, samples, tmp_path):
    """As the release's scripts have it; but predictions and pseudo labels are the same files."""
    predictor = softmax(tiny_config, snapshots[0])
    segmenter = Segmenter.from_config(tiny_config, predictor.model, predictor.plan, CPU)
    fill_memory(tiny_config, samples[:2], segmenter, tmp_path / "out")
    predict_list(tiny_config, samples[:2], predictor, tmp_path / "out")
    assert "(2 were there already)" in fill_memory(tiny_config, samples[:2], segmenter, tmp_path / "out")
    plan = choose_recipe("softmax", walk_steps=0).plan(tiny_config)
    source = build_source(tiny_config, "softmax", snapshots[0], plan, CPU, samples, walk_steps=0)
    with pytest.raises(UserError, match="this folder holds predictions: expected another one for pseudo labels"):
        label_list(tiny_config, samples[:2], source, tmp_path / "out", overwrite=True)


def test_contents_count_and_not_where_they_lie(tiny_config, snapshots, samples, tmp_path):
    """The same list with another image is another list; a copied list is the same, in any order."""
    predictor = softmax(tiny_config, snapshots[0])
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for sample in samples[:2]:
            (tmp_path / name / sample.image.name).write_bytes(sample.image.read_bytes())
    (tmp_path / "list.txt").write_text("0.png\n1.png\n")
    (tmp_path / "copy.txt").write_text("1.png\n0.png\n")

    def predict(name, folder):
        return predict_list(tiny_config, read_list(tmp_path / name, tmp_path / folder), predictor, tmp_path / "out")

    predict("list.txt", "one")
    assert "0 images predicted, 2 were there" in predict("copy.txt", "two")
    pixels = np.array(Image.open(tmp_path / "one" / "0.png"))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(tmp_path / "one" / "0.png")
    with pytest.raises(UserError, match="contents.list"):
        predict("list.txt", "one")


def test_the_weak_labels_of_pseudo_labels_count(tiny_config, snapshots, samples, tmp_path):
    def label(some, snapshot=snapshots[0], walk_steps=0):
        plan = choose_recipe("softmax", walk_steps=0).plan(tiny_config)
        source = build_source(tiny_config, "softmax", snapshot, plan, CPU, some, walk_steps=walk_steps)
        return label_list(tiny_config, some, source, tmp_path / "out", walk_steps=walk_steps)

    label(samples[:2])
    assert "0 images labelled" in label(samples[:2])
    with pytest.raises(UserError, match="weights.source.views.model"):
        label(samples[:2], snapshots[1])
    with pytest.raises(UserError, match="settings.walk_steps 0, now 2"):
        label(samples[:2], walk_steps=2)
    weak = np.array(Image.open(samples[1].label))
    weak[5, 5] = 3
    Image.fromarray(weak).save(tmp_path / "weak.png")
    with pytest.raises(UserError, match="contents.list"):
        label([samples[0], replace(samples[1], label=tmp_path / "weak.png")])
    without = [replace(sample, regions=None) for sample in samples[:2]]  # softmax never reads them
    assert "0 images labelled" in label(without)


def test_arrays_need_no_files(tiny_config, snapshots, tmp_path):
    some = [Sample(np.full((20, 30, 3), value, np.uint8), name=name) for name, value in (("a", 9), ("b", 200))]
    predict_list(tiny_config, some, softmax(tiny_config, snapshots[0]), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "semantic_gray").glob("*.png")) == ["a.png", "b.png"]


def job(folder, done, fail=(), **more):
    """Writes an empty file for each image."""

    def work(read, refiner):
        if read.name in fail:
            raise KeyboardInterrupt
        (folder / f"{read.name}.txt").touch()
        done.append(read.name)
        return "even" if int(read.name) % 2 == 0 else None

    return Job("files", {}, lambda name: f"{name}.txt", ("*.txt",), work, **more)


def test_an_interrupted_loop_goes_on(tiny_config, samples, tmp_path):
    done = []
    with pytest.raises(KeyboardInterrupt):
        go_through(tiny_config, samples, job(tmp_path, done, fail="3"), tmp_path)
    assert done == ["0", "1", "2"] and not records.read(tmp_path).complete
    ends = []
    found = go_through(tiny_config, samples, job(tmp_path, done, finish=lambda d: ends.append(d) or {"a": 1}), tmp_path)
    assert done == [str(number) for number in range(8)]
    assert (found.images, found.new, found.words) == (8, 5, Counter(even=2)) and ends[0].new == 5
    assert records.read(tmp_path).complete and records.read(tmp_path).notes["a"] == 1
    (tmp_path / "4.txt").unlink()
    with pytest.raises(KeyboardInterrupt):
        go_through(tiny_config, samples, job(tmp_path, done, fail="4"), tmp_path)
    assert not records.read(tmp_path).complete  # what was complete is not so any more
    go_through(tiny_config, samples, job(tmp_path, done), tmp_path, overwrite=True)
    assert done[8:] == [str(number) for number in range(8)]


def test_overwriting_never_takes_old_files_for_new_ones(tiny_config, samples, tmp_path):
    """Files of no record stay until they are to be made again."""
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text("old")
    (tmp_path / "of nobody.txt").touch()
    done = []
    with pytest.raises(KeyboardInterrupt):
        go_through(tiny_config, samples, job(tmp_path, done, fail="2"), tmp_path, overwrite=True)
    go_through(tiny_config, samples, job(tmp_path, done), tmp_path)
    assert all(not (tmp_path / f"{number}.txt").read_text() for number in range(8))
    assert (tmp_path / "of nobody.txt").exists()


def test_mistakes_come_before_the_record(tiny_config, samples, tmp_path):
    missing = replace(samples[0], image=tmp_path / "none.png", name="none")
    for wrong in ([samples[0], replace(samples[0], line=2)], [missing]):
        with pytest.raises(DataError):
            go_through(tiny_config, wrong, job(tmp_path / "out", []), tmp_path / "out")

    def check():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        go_through(tiny_config, samples, job(tmp_path / "out", [], check=check), tmp_path / "out")
    assert not (tmp_path / "out").exists()


# A program that predicts, fills a memory, makes CAMs and pseudo labels with each source, as any number of processes.
PROGRAM = """
import sys
from pathlib import Path
import torch
from spml.cli.exits import run
from spml.config import load_config
from spml.data.lists import read_list
from spml.inference.cams import cam_list, cam_plan, present_classes
from spml.inference.memory import fill_memory
from spml.inference.predictors import build_predictor, load_models, predict_list
from spml.inference.segmenter import Segmenter
from spml.inference.views import ViewPlan
from spml.models.cam import build_cam_model
from spml.processes import say, shared_work
from spml.propagate import DenseCRF
from spml.pseudo.label import build_source, choose_recipe, label_list

def main():
    torch.set_num_threads(1)
    folder, out, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].split(",")
    config = load_config(folder / "config.yaml")
    snapshot = folder / "model-3.pth"
    samples = read_list(config.dataset.train_data_list, config.dataset.data_dir)
    plan = ViewPlan.from_config(config)
    with shared_work(torch.device("cpu")) as device:
        if "memory" in what:
            model, _ = load_models(config, snapshot, device, with_classifier=False)
            say(fill_memory(config, samples, Segmenter.from_config(config, model, plan, device), out / "memory"))
        if "predict" in what:
            for kind, crf in (("retrieval", None), ("softmax", DenseCRF(iterations=2, backend="torch"))):
                predictor = build_predictor(config, kind, snapshot, plan, device, out / "memory")
                say(predict_list(config, samples, predictor, out / kind, crf=crf, crf_workers=1))
        if "cam" in what:
            torch.manual_seed(0)
            cam = load_config(folder / "config.yaml", ["network.prediction_types=cam"])
            present = present_classes(config.dataset, samples, "abcd")
            model = build_cam_model(cam).eval()
            say(cam_list(cam, samples, present, model, cam_plan(cam, [1.0]), device, out / "cams"))
        if "pseudo" in what:
            for kind in ("cam", "softmax", "retrieval", "points"):
                folders = {"cam_dir": out / "cams" / "cam", "memory_dir": out / "memory"}
                recipe = choose_recipe(kind, scales=[1.0], walk_steps=2)
                source = build_source(
                    config, kind, snapshot, recipe.plan(config), device, samples, walk_steps=2, **folders
                )
                say(label_list(config, samples, source, out / f"labels_{kind}", walk_steps=2))


if __name__ == "__main__":
    run(main)
"""


@pytest.fixture
def program(tiny_config, snapshots, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    save_config(tiny_config, tmp_path / "config.yaml")
    return [str(tmp_path / "program.py"), str(tmp_path)]


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def contents(folder: Path) -> dict[str, bytes]:
    """All files by their place, but for what tells the run from another."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "list.txt"
    }


@pytest.mark.slow
def test_two_processes_give_what_one_gives(program, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    every = "memory,predict,cam,pseudo"
    two = subprocess.run(
        [*command, *program, str(tmp_path / "two"), every], env=environment(), capture_output=True, text=True
    )
    assert two.returncode == 0, two.stderr
    one = subprocess.run(
        [sys.executable, *program, str(tmp_path / "one"), every], env=environment(), capture_output=True, text=True
    )
    assert one.returncode == 0, one.stderr
    assert two.stdout.count("8 images predicted, 0 were there") == 2
    assert two.stdout.count("images labelled") == 4 == one.stdout.count("8 images labelled")
    found, expected = contents(tmp_path / "two"), contents(tmp_path / "one")
    assert found.keys() == expected.keys() and len(found) > 8 * 15
    assert [name for name in found if found[name] != expected[name]] == []
    again = subprocess.run(
        [*command, *program, str(tmp_path / "one"), "memory,predict"], env=environment(), capture_output=True, text=True
    )
    assert again.stdout.count("0 images predicted, 8 were there") == 2, again.stderr


@pytest.mark.slow
def test_a_mistake_of_one_process_is_one_line(program, tiny_config, tmp_path):
    data, bad = Path(tiny_config.dataset.data_dir), tmp_path / "bad.txt"
    (tmp_path / "damaged.png").write_bytes((data / "image" / "0.png").read_bytes()[:3000])
    lines = (data / "train.txt").read_text().splitlines()
    cells = lines[0].split("\t" if "\t" in lines[0] else " ")
    bad.write_text("\n".join([*lines, "\t".join([str(tmp_path / "damaged.png"), *cells[1:]])]) + "\n")
    tiny_config.dataset.train_data_list = str(bad)
    save_config(tiny_config, tmp_path / "config.yaml")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, *program, str(tmp_path / "out"), "memory"], env=environment(), capture_output=True, text=True
    )
    assert done.returncode and done.stderr.count("error: ") == 1, done.stderr
    assert "bad.txt line 9: cannot read image" in done.stderr and 'program.py", line' not in done.stderr
    assert not records.read(tmp_path / "out" / "memory" / "semantic_prototype").complete


@pytest.mark.slow
def test_runs_that_are_killed_go_on(program, tmp_path):
    """Ten times at any moment, one process or two, with a CRF beside them; nothing of it shows in the end."""
    rng = np.random.default_rng(0)
    every = "memory,predict,cam,pseudo"
    alone = [sys.executable]
    shared = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    subprocess.run(
        [*alone, *program, str(tmp_path / "whole"), every], env=environment(), capture_output=True, check=True
    )
    for number in range(10):
        process = subprocess.Popen(
            [*(shared if number % 5 == 4 else alone), *program, str(tmp_path / "killed"), every],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(float(rng.uniform(3, 15)))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(
        [*alone, *program, str(tmp_path / "killed"), every], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found, expected = contents(tmp_path / "killed"), contents(tmp_path / "whole")
    assert found.keys() == expected.keys()  # and so no temporary file
    assert [name for name in found if found[name] != expected[name]] == []
