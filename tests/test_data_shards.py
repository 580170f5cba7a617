"""Samples in tars: the lines that name them, the same training and labels as from folders, and each mistake's line."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml import members
from spml.cli.main import main
from spml.config import load_config
from spml.data.dataset import build_training_loader
from spml.data.lists import check_samples, read_list
from spml.data.prepare.pack import pack_list
from spml.data.samples import DataError, Sample, image_size, read_label, read_sample_files
from spml.data.shards import expand
from spml.engine.run import train
from spml.errors import UserError
from spml.files import write_atomically
from spml.inference.loop import Job, go_through
from spml.inference.predictors import build_predictor, predict_list
from spml.inference.shares import hash_samples
from spml.inference.views import ViewPlan
from spml.models import build_classifier, build_embedding_model, save_checkpoint
from spml.pseudo.label import build_source, choose_recipe, label_list

CPU = torch.device("cpu")


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    """A tar by Python's own writer."""
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def png(value: int, shape: tuple[int, ...] = (4, 6)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full(shape, value, np.uint8)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def packed(tiny_data, tmp_path):
    """The training list of `tiny_data` in three shards."""
    pack_list(tiny_data, tiny_data / "train.txt", tmp_path / "packed", samples=3, num_workers=0)
    return tmp_path / "packed"


def test_a_packed_list_holds_the_same_samples(tiny_data, packed):
    assert (packed / "train.txt").read_text() == "train-{000000..000002}.tar\n"
    before, after = read_list(tiny_data / "train.txt", tiny_data, 3), read_list(packed / "train.txt", packed, 3)
    assert [sample.name for sample in after] == [sample.name for sample in before] == [str(i) for i in range(8)]
    assert after[4].image == packed / "train-000001.tar" / "4.png" and after[4].line == 1
    check_samples(after, 4)
    for one, other in zip(before, after, strict=True):
        for array, same in zip(read_sample_files(one), read_sample_files(other), strict=True):
            assert np.array_equal(array, same)
    assert image_size(after[0].image_path) == (40, 48)


def test_training_from_shards_gives_the_same_weights(tiny_config_file, packed, tmp_path):
    found = []
    for name, changes in (
        ("folders", []),
        ("shards", [f"dataset.data_dir={packed}", f"dataset.train_data_list={packed}/train.txt"]),
    ):
        config = load_config(tiny_config_file, changes)
        found.append(torch.load(train(config, tmp_path / name, device="cpu").snapshot, weights_only=True))
    one, other = (
        {f"{part}.{key}": value for part, state in content.items() for key, value in state.items()} for content in found
    )
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_workers_read_shards(tiny_config_file, packed):
    changes = [f"dataset.data_dir={packed}", f"dataset.train_data_list={packed}/train.txt", "num_threads=1"]
    config, alone = load_config(tiny_config_file, changes), load_config(tiny_config_file)
    for one, other in zip(build_training_loader(config), build_training_loader(alone), strict=True):
        assert one["name"] == other["name"] and torch.equal(one["image"], other["image"])
        assert torch.equal(one["semantic_label"], other["semantic_label"])


def test_predictions_and_pseudo_labels_from_shards_are_the_same(tiny_config, tiny_data, packed, tmp_path):
    save_checkpoint(tmp_path / "model-3.pth", build_embedding_model(tiny_config), build_classifier(tiny_config))
    outputs = []
    for name, folder in (("folders", tiny_data), ("shards", packed)):
        samples = read_list(folder / "train.txt", folder)
        tiny_config.dataset.data_dir = str(folder)
        plan = ViewPlan.from_config(tiny_config)
        predictor = build_predictor(tiny_config, "softmax", tmp_path / "model-3.pth", plan, CPU)
        predict_list(tiny_config, samples, predictor, tmp_path / name / "predicted")
        recipe = choose_recipe("softmax", scales=[1.0], walk_steps=2)
        source = build_source(
            tiny_config, "softmax", tmp_path / "model-3.pth", recipe.plan(tiny_config), CPU, samples, walk_steps=2
        )
        label_list(tiny_config, samples, source, tmp_path / name / "labels", walk_steps=2)
        files = sorted((tmp_path / name).rglob("*.png"))
        outputs.append({str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files})
    assert outputs[0] == outputs[1] and len(outputs[0]) == 8 * 4
    labelled = read_list(tmp_path / "shards" / "labels" / "list.txt", packed, 3)
    assert labelled[5].image == packed / "train-000001.tar" / "5.png"
    check_samples(labelled, 4)  # an image of a tar beside a label of a folder


def test_other_shards_of_the_same_samples_are_the_same_list(tiny_data, packed, tmp_path):
    pack_list(packed, packed / "train.txt", tmp_path / "again", samples=5, num_workers=0)  # out of tars, too
    hashes = {hash_samples(read_list(folder / "train.txt", folder)) for folder in (packed, tmp_path / "again")}
    assert len(hashes) == 1 and len(list((tmp_path / "again").glob("*.tar"))) == 2


def test_packing_goes_on_and_is_repeatable(tiny_data, packed, tmp_path):
    before = {path.name: path.read_bytes() for path in packed.glob("*.tar")}
    (packed / "train-000001.tar").unlink()
    times = (packed / "train-000000.tar").stat().st_mtime_ns
    pack_list(tiny_data, tiny_data / "train.txt", packed, samples=3, num_workers=0)
    assert {path.name: path.read_bytes() for path in packed.glob("*.tar")} == before
    assert (packed / "train-000000.tar").stat().st_mtime_ns == times
    label = tiny_data / (tiny_data / "train.txt").read_text().split()[1]
    changed = bytearray(label.read_bytes())
    changed[-20] ^= 1  # as many bytes
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / label.relative_to(tiny_data)).write_bytes(changed)
    with pytest.raises(UserError, match=f"train-000000.tar: holds another .*{label.name}: expected another folder, or"):
        pack_list(data, data / "train.txt", packed, samples=3, num_workers=0)
    (packed / "train-000002.tar").unlink()
    with pytest.raises(UserError, match="train-000000.tar: holds other samples: expected another folder, or"):
        pack_list(tiny_data, tiny_data / "train.txt", packed, samples=4, num_workers=0)
    with pytest.raises(UserError, match="train-000001.tar: expected 1 shards of 9 samples, got more: remove them"):
        pack_list(tiny_data, tiny_data / "train.txt", packed, samples=9, num_workers=0)
    lines = (tiny_data / "train.txt").read_text().replace("image/7.png", "image/none.png")
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(DataError, match="list.txt line 8: no file .*none.png"):
        pack_list(tiny_data, tmp_path / "list.txt", tmp_path / "new", num_workers=0)


def test_the_command(tiny_data, tmp_path, capsys):
    words = ["--data_dir", str(tiny_data), "--data_list", str(tiny_data / "val.txt"), "--save_dir", str(tmp_path)]
    assert main(["prepare", "shards", *words, "--num_workers", "1"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'val.txt'}\n"
    assert (tmp_path / "val.txt").read_text() == "val-000000.tar\n"


def test_ranges(tmp_path):
    assert expand("here", "a/{08..11}.tar") == ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]
    assert expand("here", "{0..1}/{1..2}.tar") == ["0/1.tar", "0/2.tar", "1/1.tar", "1/2.tar"]
    for bad in ("{a..b}.tar", "{3..1}.tar", "{1,2}.tar", "x}.tar"):
        with pytest.raises(DataError, match="^here: expected a range"):
            expand("here", bad)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b"", "a.png": b""}, "a.jpg and a.png are both the image of a; expected labels .* a.label.png"),
        ({"a.label.png": b""}, "no image beside a.label.png: expected a.jpg"),
        ({"a.jpg": b"", "a.regions.png": b""}, "x.tar/a has .regions.png and no .label.png"),
        (
            {"a.jpg": b"", "a.label.png": b"", "b.jpg": b""},
            "x.tar/b has image, but .*/a image label: expected the same",
        ),
        ({"a.json": b"{}", ".hidden": b""}, "x.tar holds no sample: expected x.jpg"),
    ],
)
def test_bad_shards(tmp_path, files, message):
    tar_of(tmp_path / "x.tar", files)
    (tmp_path / "list.txt").write_text("x.tar\n")
    with pytest.raises(DataError, match=f"^{tmp_path}/list.txt line 1: .*{message}") as caught:
        read_list(tmp_path / "list.txt", tmp_path)
    assert "\n" not in str(caught.value)


def test_tars_that_cannot_be_used(tmp_path):
    (tmp_path / "list.txt").write_text("x.tar\n")

    def message() -> str:
        with pytest.raises(UserError) as caught:
            samples = read_list(tmp_path / "list.txt", tmp_path)
            for sample in samples:
                read_sample_files(sample)
        return str(caught.value).replace(str(tmp_path), "")

    assert message() == "/list.txt line 1: no file /x.tar"
    (tmp_path / "x.tar").write_bytes(b"nothing of the kind" * 99)
    assert message().startswith("/x.tar: expected a whole, plain tar, got: ")
    with tarfile.open(tmp_path / "x.tar", "w:gz"):
        pass
    assert message() == "/x.tar: expected a whole, plain tar: it is compressed, unpack it"
    whole = tar_of(tmp_path / "x.tar", {f"{name}.png": os.urandom(3000) for name in "abc"}).read_bytes()
    for length in (512 + 3072, 512 + 3072 + 100, 2 * (512 + 3072) + 1000):  # after a member, in a header, in a member
        (tmp_path / "x.tar").write_bytes(whole[:length])
        assert message().startswith("/x.tar: expected a whole, plain tar, got: "), length
    damaged = bytearray(whole)
    damaged[512 + 3072 + 20] ^= 1  # a header's name, which its sum does not fit any more
    (tmp_path / "x.tar").write_bytes(damaged)
    assert "expected a whole, plain tar" in message()
    (tmp_path / "x.tar").write_bytes(whole)
    assert message().startswith("/list.txt line 1: cannot read image /x.tar/a.png: cannot identify")
    (tmp_path / "x.tar").unlink()
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.png"))
    assert message() == "/x.tar: two members are called a.png: expected each name once"


def test_lines_may_name_members(tmp_path):
    tar_of(tmp_path / "x.tar", {"./in/a.png": png(5, (4, 6, 3)), "b.png": png(1), "long/" + "n" * 150 + ".png": png(2)})
    (tmp_path / "list.txt").write_text("x.tar/in/a.png x.tar/b.png\n")
    image, label, _ = read_sample_files(read_list(tmp_path / "list.txt", tmp_path, 2)[0])
    assert (image == 5).all() and (label == 1).all()
    assert read_label(tmp_path / "x.tar" / "long" / ("n" * 150 + ".png"))[0, 0] == 2
    (tmp_path / "list.txt").write_text(f"x.tar/in/a.png x.tar/b.png\n{tmp_path}/x.tar/in/a.png x.tar/none.png\n")
    with pytest.raises(DataError, match=r"line 2: no file .*x.tar/none.png \(1 of the list's 4 files are missing\)"):
        check_samples(read_list(tmp_path / "list.txt", tmp_path, 2), 4)
    with pytest.raises(DataError, match="cannot read label .*none.png: no such file"):
        read_label(tmp_path / "x.tar" / "none.png")


def test_a_folder_may_be_called_tar(tmp_path):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "b.png").write_bytes(png(1))
    assert read_label(tmp_path / "x.tar" / "b.png")[0, 0] == 1


def test_a_tar_that_changes_is_read_as_it_is_now(tmp_path):
    tar_of(tmp_path / "x.tar", {"a.png": png(1), "b.png": png(2)})
    assert read_label(tmp_path / "x.tar" / "b.png")[0, 0] == 2
    assert (tmp_path / "x.tar.index").is_file()
    tar_of(tmp_path / "x.tar", {"c.png": png(3, (40, 60)), "b.png": png(4), "a.png": png(5)})  # of the same size
    assert read_label(tmp_path / "x.tar" / "b.png")[0, 0] == 4
    assert read_label(tmp_path / "x.tar" / "c.png")[0, 0] == 3
    (tmp_path / "x.tar.index").write_text("nonsense")
    members._index.cache_clear()
    assert members.names(tmp_path / "x.tar") == ["c.png", "b.png", "a.png"]


def test_webdataset_reads_our_shards_and_we_read_its(packed, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    shutil.copytree(packed, tmp_path / "its")
    found = list(webdataset.WebDataset(str(packed / "train-000000.tar"), shardshuffle=False))
    assert [item["__key__"] for item in found] == ["0", "1", "2"]
    assert read_label(np.array(Image.open(io.BytesIO(found[1]["label.png"])))).shape == (40, 48)
    with webdataset.TarWriter(str(tmp_path / "own.tar")) as writer:
        for item in found:
            writer.write({key: item[key] for key in ("__key__", "png", "label.png", "regions.png")})
    (tmp_path / "own.txt").write_text("own.tar\n")
    ours = read_list(packed / "train.txt", packed)[:3]
    for one, other in zip(ours, read_list(tmp_path / "own.txt", tmp_path, 3), strict=True):
        assert one.name == other.name and all(map(np.array_equal, read_sample_files(one), read_sample_files(other)))


def test_temporary_files_of_other_machines_stay_for_a_day(tmp_path):
    from spml.files import remove_stale

    other = tmp_path / ".a.png.1f.00000000-1.tmp"
    other.touch()
    assert remove_stale(tmp_path) == 0 and other.exists()
    os.utime(other, (0, 0))
    assert remove_stale(tmp_path) == 1

    def check(file):
        assert remove_stale(tmp_path) == 0  # its own, which it writes now
        file.write(b"x")

    write_atomically(tmp_path / "b", check)
    assert (tmp_path / "b").read_bytes() == b"x"


def test_jobs_take_samples_of_both_kinds(tiny_config, tiny_data, packed, tmp_path):
    both = [read_list(packed / "train.txt", packed)[0], read_list(tiny_data / "train.txt", tiny_data)[1]]
    seen = []
    array = Sample(np.zeros((8, 8, 3), np.uint8), name="array")
    job = Job("files", {}, lambda name: f"{name}.txt", ("*.txt",), lambda read, refiner: seen.append(read.name))
    go_through(tiny_config, [*both, array], job, tmp_path / "out")
    assert seen == ["0", "1", "array"]
