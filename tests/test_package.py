"""The package: what `import spml` takes, and a wheel that works outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import spml

ROOT = Path(__file__).resolve().parents[1]
TINY = ["train.max_iteration=2", "train.warmup_iteration=1", "train.batch_size=2", "num_threads=0"]


def test_import_is_quick_and_light():
    code = (
        "import sys, time\nstart = time.perf_counter()\nimport spml\nseconds = time.perf_counter() - start\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\nassert seconds < 0.1, seconds\n"
        "assert {'train', 'load', 'Sample', 'losses'} <= set(dir(spml))\n"
        "spml.load_config\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_names_of_the_public_api():
    assert spml.load_config is spml.config.load_config
    assert spml.evaluate is spml.evaluation.evaluate_folder
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        spml.trian  # noqa: B018


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as its wheel has it."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (wheel,) = (folder / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert {f"spml/{name}" for name in configs} | {"spml/py.typed"} <= names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "spml").rglob("*.py")}
    assert modules <= names
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile", "--target", str(folder / "site")]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_trains_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def spml_command(*words: object) -> str:
        line = [sys.executable, str(installed / "bin" / "spml"), *map(str, words)]
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    assert "pseudo-label" in spml_command("--help")
    spml_command("shapes", "--save_dir", "data", "--num_train", 4, "--num_val", 2)
    data = {"train_data_list": "train.txt", "test_data_list": "val.txt", "classes": "classes.txt"}
    own = [f"dataset.{key}=data/{name}" for key, name in data.items()]
    train = ["--config", "quickstart_scratch", "--data_dir", "data", "--snapshot_dir", "snapshots"]
    spml_command("train", *train, *own, *TINY)
    assert (tmp_path / "snapshots" / "model-1.pth").is_file()
    where = subprocess.run(
        [sys.executable, "-c", "import spml; print(spml.__file__)"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert Path(where.stdout.strip()).is_relative_to(installed)
