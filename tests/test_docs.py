"""The pages of docs/ run: their code, their commands, and the methods that they add."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spml import losses
from spml.cli.commands import compare
from spml.cli.parser import Parser
from spml.config import load_config
from spml.inference.model import Model
from spml.inference.runtimes import RUNTIMES
from spml.models import HEADS, build_classifier, build_embedding_model
from spml.models.cam import CAM_TASKS
from spml.pipelines.methods import METHODS, read_methods

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[tuple[dict[str, str], str]]:
    """The code of a page in a language, each with the words behind it, `key=value` or a key alone."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        if match[1] == language:
            words = dict(word.partition("=")[::2] for word in match[2].split())
            found.append((words, match[3]))
    return found


def run(words: list[str], folder: Path, package: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_python_page(tmp_path: Path) -> None:
    code = "\n".join(text for _, text in blocks("python.md", "python"))
    (tmp_path / "page.py").write_text(code)
    printed = run(["page.py"], tmp_path, ROOT)
    assert "model-3.pth" in printed and "(48, 64)" in printed and "image_similarity" in printed
    assert (tmp_path / "overlay.png").is_file()


@pytest.mark.slow
def test_the_page_on_deployment(tmp_path: Path) -> None:
    """Its programs run without the project, and label as the model does."""
    for package in ("onnx", "onnxruntime", "safetensors", "timm"):
        pytest.importorskip(package)
    words = ["network.backbone_types=timm:tf_efficientnet_lite0", "network.embedding_dim=8", "dataset.num_classes=4"]
    config = load_config(None, [*words, "test.crop_size=[0,0]", "test.image_size=0"])
    model = Model(config, build_embedding_model(config), build_classifier(config), torch.device("cpu"))
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    expected = model.predict(pixels).label
    given = {"by_onnx.py": "m.onnx", "by_torch.py": "m.safetensors", "back.py": "m.onnx"}
    for name in set(given.values()):
        model.export(tmp_path / name)
    (tmp_path / "none" / "spml").mkdir(parents=True)
    (tmp_path / "none" / "spml" / "__init__.py").write_text("raise ImportError('without the project')")
    programs = {words["file"]: text for words, text in blocks("deploy.md", "python")}
    assert programs.keys() == given.keys()
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        package = ROOT if name == "back.py" else tmp_path / "none"
        run([name, given[name], "photo.png", "labels.png"], tmp_path, package)
        assert (np.array(Image.open(tmp_path / "labels.png")) == expected).mean() > 0.999, name
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert [name for name in RUNTIMES if f"| `{name}` |" not in page] == []


def add_line(package: Path, words: dict[str, str], line: str) -> None:
    """Put a line at the end of a table: the first of the file, or the one that `after` names."""
    path = package / words["line"]
    text = path.read_text(encoding="utf-8")
    start = text.index(f"{words.get('after', 'TABLE' if 'TABLE: ' in text else 'SOURCES')}: ")
    end = text.index("    },\n", start)
    path.write_text(text[:end] + line + text[end:], encoding="utf-8")


def test_added_methods(tmp_path: Path, tiny_config_file: Path) -> None:
    """Four methods from the page's own text, in a copy of the package: one file and one line each."""
    package, work = tmp_path / "package", tmp_path / "work"
    shutil.copytree(ROOT / "spml", package / "spml", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", package / "configs")
    work.mkdir()
    files = lines = 0
    for words, text in blocks("add-a-method.md", "python"):
        if "file" in words:
            assert not (package / words["file"]).exists()
            (package / words["file"]).write_text(text, encoding="utf-8")
            files += 1
        else:
            assert text.count("\n") == 1
            add_line(package, words, text)
            lines += 1
    assert files == lines == 4
    (work / "tiny.yaml").write_text(tiny_config_file.read_text())
    commands = [line for _, text in blocks("add-a-method.md", "bash") for line in text.splitlines()]
    program = (
        "import shlex, sys\nfrom spml.cli.main import main\n"
        "for line in sys.argv[1:]:\n"
        "    words = shlex.split(line)\n"
        "    assert words[0] == 'spml'\n"
        "    assert not main(words[1:]), line\n"
    )
    run(["-c", program, *commands], work, package)
    assert (work / "focal" / "model-3.pth").is_file() and (work / "pseudo" / "list.txt").is_file()
    assert len(list((work / "predicted" / "semantic_gray").glob("*.png"))) == 8


def test_the_page_on_comparing_names_every_method_and_option(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"`{name}`" not in text] == []
    parser = Parser("spml compare")
    compare.add_arguments(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z_]+", text)) <= known
    for _, content in blocks("compare.md", "yaml"):
        (tmp_path / "own.yaml").write_text(content)
        for method in read_methods(tmp_path / "own.yaml").values():
            for setting in method.grid:
                method.configure("quickstart", ["dataset.classes=null"], setting)


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or ((ROOT / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs" / "methods").glob("*.md")))
def test_a_page_of_a_method_says_all(page: str, tmp_path: Path) -> None:
    """A text first, a formula, a config that loads, a source, figures, and where we differ."""
    text = (ROOT / "docs" / "methods" / page).read_text(encoding="utf-8")
    first = text.split("\n\n")[1]
    assert 4 <= len(re.findall(r"[.](?=\s|$)", first)) <= 6, "about five sentences"
    assert re.search(r"^    \S.*=", text, re.MULTILINE), "a formula, indented by four"
    for part in ("Source", "Figures", "Where we differ"):
        assert text.count(f"**{part}.**") == 1, part
    for _, example in blocks(f"methods/{page}", "yaml"):
        (tmp_path / "example.yaml").write_text(example)
        load_config(tmp_path / "example.yaml")


def test_every_method_has_a_page() -> None:
    """Losses that need no segments, tasks of maps, and decoders; SPML's own relations have docs/training.md."""
    names = {name for name, loss in losses.TABLE.items() if "segments" not in loss.inputs} | {*CAM_TASKS}
    assert names <= {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")}
    text = (ROOT / "docs" / "methods" / "decoders.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in HEADS)


def test_the_readme_is_one_page_whose_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 6000
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("http") or (ROOT / target).exists(), target
