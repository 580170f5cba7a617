"""The command `spml`: its table, and what happens before torch is imported."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spml.cli.main import COMMANDS, main
from spml.cli.options import OPTIONS
from spml.data.lists import read_list

ROOT = Path(__file__).resolve().parents[1]
# Nothing of these may be imported before a command is known to exist.
HEAVY = ("torch", "numpy", "cv2", "PIL", "scipy", "yaml", "easydict", "tqdm")


def test_the_design_names_these():
    """DESIGN.md's list, without what is not built yet: studio."""
    names = "train classifier cam memory predict pseudo-label evaluate annotate oversegment check import export run"
    for name in (*names.split(), "compare"):
        assert name in COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: spml {name} ") and "--traceback" in told
    module = importlib.import_module(f"spml.cli.commands.{COMMANDS[name].module}")
    assert " ".join(str(module.__doc__).split()[:6]) in " ".join(told.split())


def test_every_module_is_in_the_table():
    files = {path.stem for path in (ROOT / "spml/cli/commands").glob("*.py")} - {"__init__"}
    assert files == {command.module for command in COMMANDS.values()}


def test_every_option_is_taken_by_a_command(capsys):
    told = ""
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([*name.split(), "--help"])
        told += capsys.readouterr().out
    for name in OPTIONS:
        assert f"--{name}" in told, f"no command has --{name}"


def test_the_overview(capsys):
    for words in ([], ["--help"], ["-h"]):
        assert main(words) == 0
        told = capsys.readouterr().out
        assert all(f"  {name} " in told for name in COMMANDS)
        assert max(map(len, told.splitlines())) <= 120
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("spml ")


def test_unknown_commands_name_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'trian'; did you mean 'train'?\n"
    assert main(["prepare", "mask"]) == 2 and "did you mean 'prepare masks'?" in capsys.readouterr().err
    assert main(["prepare"]) == 2 and "prepare scribbles" in capsys.readouterr().out
    assert main(["prepare", "--help"]) == 0


def test_unknown_options_name_the_nearest_before_what_is_missing(capsys):
    for word, nearest in (("--snapshot-dir", "--snapshot_dir"), ("--cfgpath=x", "--cfg_path"), ("--resum", "--resume")):
        with pytest.raises(SystemExit) as ended:
            main(["train", word, "x"])
        assert ended.value.code == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert told.startswith(f"error: unknown option {word.partition('=')[0]}; did you mean {nearest}?")


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_help_imports_nothing_heavy():
    done = run(
        "import sys\nfrom spml.cli.main import main\nmain(['--help'])\n"
        f"print('imported', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert done.stdout.splitlines()[-1] == "imported []", done.stdout + done.stderr


@pytest.mark.slow
def test_help_is_quick():
    words = [sys.executable, "-m", "spml", "--help"]
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


@pytest.mark.parametrize("script", ["inference/inference.py", "train/train.py", "benchmark/quality.py"])
def test_ctrl_c_while_torch_is_imported(tmp_path: Path, script: str) -> None:
    for name in ("torch", "numpy"):
        (tmp_path / f"{name}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for words in ([str(ROOT / "pyscripts" / script)], ["-m", "spml", "predict"]):
        done = subprocess.run([sys.executable, *words, "--help"], env=environment, capture_output=True, text=True)
        assert done.returncode == 130 and done.stderr == "interrupted\n"


def test_folders_with_spaces_are_read_back(tiny_data: Path, tmp_path: Path):
    masks = ["--data_dir", str(tiny_data), "--data_list", str(tiny_data / "val.txt")]
    listed = tmp_path / "my list.txt"
    main(["oversegment", *masks, "--save_dir", str(tmp_path / "a b"), "--list_out", str(listed)])
    main(["annotate", *masks, "--kind", "point", "--save_dir", str(tmp_path / "c d"), "--num_classes", "4"])
    for path in (listed, tmp_path / "c d" / "val_point.txt"):
        samples = read_list(path, tiny_data)
        assert len(samples) == 8 and all(file.is_file() for sample in samples for file in sample.files)
