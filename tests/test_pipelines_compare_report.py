"""The report of a comparison on tiny data: every part, no other file, odd names; and contextual retrieval."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from html_checks import Checker, outside

from spml.data.pickled import read_memory_file, write_memory_file
from spml.pipelines import contextual
from spml.pipelines.compare import compare, plan_runs
from spml.pipelines.compare_report import caption, write_report
from spml.pipelines.compare_sections import choice, markdown_table
from spml.pipelines.compared_run import ComparedRun
from spml.pipelines.comparison import Comparison
from spml.pipelines.contextual import NEAREST, contextual_retrieval, cut_out
from spml.pipelines.methods import described, find_methods
from spml.pipelines.result import Found

CPU = torch.device("cpu")
SHORT = ["train.max_iteration=2", "train.warmup_iteration=1"]
CLASSES = ["back & ground", "<script>alert(1)</script>", 'green "quoted"', "blue|é"]


@pytest.fixture(scope="module")
def reported(tiny_config_file, tiny_data, tmp_path_factory):
    """A comparison of two annotations with odd names of classes: its folder, its page, and its overrides."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    words = [*SHORT, f"dataset.classes={folder}/classes.txt", "train.validation_step=1"]
    lists = {"one": f"{tiny_data}/train.txt", "two": f"{tiny_data}/train.txt"}
    given = {"masks": f"{tiny_data}/val.txt", "command": "spml compare <x>"}
    methods = ["spml", "full_masks"]
    compare(tiny_config_file, folder / "out", [0], methods, words, "cpu", annotations=lists, **given)
    return folder / "out", (folder / "out/report.html").read_text(), words


def test_the_page_is_one_file_and_escapes_all_names(reported):
    folder, page, _ = reported
    checker = Checker(page)
    text = "".join(checker.text)
    assert outside(page) == [] and "script" not in checker.seen and (folder / "report.html").stat().st_size < 3e6
    assert all(name in text for name in CLASSES) and "spml compare <x>" in text


def test_the_page_has_every_part_of_every_row(reported):
    _, page, _ = reported
    for part in ("Result", "Settings", "Curves", "Classes", "Confusion", "Images", "Contextual retrieval"):
        assert re.search(rf'<section id="part\d"><h2>{part}</h2>', page), part
    for row in ("one/spml", "two/spml", "full_masks"):
        assert page.count(f">{row}") >= 8, row
        assert (
            len(re.findall(rf'alt="\d, labels of {row}"', page)) == 8 == len(re.findall(rf"{row}: \d+ % right", page))
        )
    assert page.count("<polyline") == 3 * 3  # cross-entropy, total, validation
    assert "one/spml, seed 0: the largest right" in page and "two/spml, seed 0: the largest right" in page
    assert "Nothing was chosen here" in page and "Command: spml compare" in page


def test_what_chose_is_said(tiny_config_file, tiny_data, tmp_path):
    def told(**given):
        plan = Comparison(tiny_config_file, tmp_path, find_methods(["spml"]), tries=2, **given)
        return choice(plan, [Found(row) for row in plan.rows])

    one, folds = told(), told(folds=4, masks=f"{tiny_data}/val.txt")
    assert "dev won. dev has 2 images, every sixth" in one and "from the other 6 with seed 1000" in one
    assert (
        "the classifier on all 8 training images won. Each image is in one of 4 folds and is judged by their" in folds
    )


def test_the_table_as_markdown(reported):
    folder, _, _ = reported
    text = (folder / "report.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 3 and all(line.count("|") == 7 for line in lines) and "| one/spml | " in lines[2]
    assert "on the 8 images of val.txt; seed 0; training lists: one: train.txt, two: train.txt; 2 steps" in text


def found(name, values, dev=None, setting=0):
    methods = find_methods([name])
    plan_row = Comparison("quickstart", "x", methods, masks="m").rows[0]
    outcomes = [
        {"mean_iou": value, "retrieval_mean_iou": 9.0, "training_seconds": 90.0, "training_memory_mb": 700}
        for value in values
    ]
    return Found(plan_row, setting=setting, outcomes=outcomes, dev=dev or {})


def test_the_best_is_bold_with_spread_and_time():
    rows = [found("spml", [50.0, 60.0]), found("partial_cross_entropy", [40.0, 41.0], setting=1)]
    rows += [found("full_masks", [70.0, 70.0]), found("entropy", [])]
    lines = markdown_table(rows).splitlines()
    assert lines[2] == "| spml | **55.0 +- 7.1 (50.0, 60.0)** | **9.0 +- 0.0 (9.0, 9.0)** | 1.5 | 700 | default |"
    assert lines[3].startswith("| partial_cross_entropy | 40.5 +- 0.7") and lines[3].endswith("| base_lr*=2 |")
    assert lines[4].startswith("| full_masks | 70.0 +- 0.0 (")  # stands outside
    assert lines[5] == "| entropy | failed | failed | - | - | default |"
    assert described(("losses.entropy.weight*=3", "train.base_lr=1")) == "entropy.weight*=3 base_lr=1"


def test_the_caption_says_what_chose(tiny_config_file, tiny_data, tmp_path):
    for masks, words in (
        (None, "judged by their annotated pixels alone"),
        (f"{tiny_data}/val.txt", "judged by their masks"),
    ):
        plan = Comparison(tiny_config_file, tmp_path, find_methods(["spml"]), (0, 1), masks=masks, tries=3)
        lines = caption(plan, [Found(plan.rows[0])], CPU, 4, "")
        assert "3 settings were tried for each method" in lines[1] and words in lines[1] and "2 images" in lines[1]
        assert "the trials learned from the other 6 with seed 1000" in lines[1]
        assert "seeds 0, 1" in lines[0] and "4 runs side by side" in lines[2] and len(lines) == 3


def test_a_report_without_any_run_still_has_the_failures(tiny_config_file, tmp_path):
    plan = Comparison(tiny_config_file, tmp_path, find_methods(["spml"]))
    write_report(plan, [Found(plan.rows[0], failed=["spml, seed 0: no <disk> left"])], CPU)
    page = (tmp_path / "report.html").read_text()
    Checker(page)
    assert "no &lt;disk&gt; left" in page and "failed: spml, seed 0: no <disk>" in (tmp_path / "report.md").read_text()


@pytest.fixture
def embedded(reported, tiny_config_file, tiny_data) -> ComparedRun:
    """The run whose memory contextual retrieval reads."""
    folder, _, words = reported
    (run,) = plan_runs(tiny_config_file, folder / "one", [0], words, ["spml"])
    return run


def test_queries_differ_and_their_neighbours_fall_in_similarity(embedded):
    queries = contextual_retrieval(embedded, CPU)
    assert queries and [query.right for query in queries] == sorted((q.right for q in queries), reverse=True)
    files = {path.stem: read_memory_file(path) for path in embedded.folder.glob("memory/semantic_prototype/*.npy")}
    assert len({(query.truth, query.right) for query in queries}) == len(queries)
    for query in queries:
        similar = [one.similarity for one in query.nearest]
        assert len(similar) == min(NEAREST, len(files)) and similar == sorted(similar, reverse=True)
        assert len({one.name for one in query.nearest}) == len(similar)
        for one in query.nearest:
            assert one.label in files[one.name][1] and -1 <= one.similarity <= 1.001
            assert one.picture.ndim == 3 and one.picture.shape[0] <= 150


def test_the_nearest_equal_those_of_a_plain_loop(embedded):
    memory = contextual._read_memory(embedded)
    generator = torch.Generator().manual_seed(0)
    memory = replace(
        memory, prototype=torch.nn.functional.normalize(torch.randn(memory.prototype.shape, generator=generator))
    )
    asked = memory.prototype[3]
    index = np.arange(4).repeat(12)[None].repeat(40, 0)
    sample = embedded.samples("test")[0]
    query = contextual._query(contextual._Candidate(sample, index, 2, 0.25, 1, 1, asked), memory)
    best = {}
    for row, (image, label) in enumerate(zip(memory.image, memory.label, strict=True)):
        similarity = sum(float(a) * float(b) for a, b in zip(memory.prototype[row], asked, strict=True))
        if similarity > best.get(image, (-2, 0))[0]:
            best[image] = similarity, label
    expected = sorted(((value, memory.samples[image].name, label) for image, (value, label) in best.items()))[::-1]
    assert [(one.name, one.label) for one in query.nearest] == [(name, label) for _, name, label in expected[:NEAREST]]
    assert query.nearest[0].similarity == pytest.approx(1, abs=1e-5)
    assert [one.similarity for one in query.nearest] == pytest.approx([value for value, _, _ in expected[:NEAREST]])


def test_a_memory_of_an_older_version_gives_none(embedded, tmp_path):
    for path in embedded.folder.glob("memory/semantic_prototype/*.npy"):
        write_memory_file(tmp_path / "memory/semantic_prototype" / path.name, *read_memory_file(path))
    older = ComparedRun(embedded.method, 0, embedded.config, tmp_path)
    assert contextual_retrieval(older, CPU) == []


def test_a_segment_is_cut_out_with_its_border():
    image = np.zeros((60, 80, 3), np.uint8)
    index = np.zeros((30, 40), int)  # half the size
    index[10:20, 4:14] = 7
    part = cut_out(image, index, 7, height=100)
    yellow = (part == (255, 230, 0)).all(2)
    rows, columns = np.flatnonzero(yellow.any(1)), np.flatnonzero(yellow.any(0))
    assert part.shape[0] == 100 and yellow.any() and not yellow[[0, -1]].any() and not yellow[:, [0, -1]].any()
    # 20 of 37 pixels high (a margin of 8 on each side and its rest), 20 of 36 wide, which the image's edge cuts
    assert (
        0.45 < (rows[-1] - rows[0]) / part.shape[0] < 0.65 and 0.45 < (columns[-1] - columns[0]) / part.shape[1] < 0.65
    )
    assert cut_out(image, np.repeat(index, 1, 0), 0).shape[0] <= 150  # nearly the whole image
