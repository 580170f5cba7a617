"""bashscripts/setup.sh with a stand-in for Python that writes down what it is asked to do and installs nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAND_IN = """#!/usr/bin/env bash
echo "$*" >> "$CALLS"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pyvenv.cfg" ;;
  "-m pip "*" $REFUSE"*) echo "pip refused"; exit 1 ;;
  "-m pip "*) echo "  Downloading big.whl (120.5 MB)"; echo "  Downloading small.whl (12 kB)" ;;
  "-c import pydensecrf.densecrf") exit 1 ;;
esac
"""


@pytest.fixture
def project(tmp_path):
    """A copy of what the set-up reads, in a folder with a space."""
    root = tmp_path / "the project"
    (root / "bashscripts").mkdir(parents=True)
    for name in ("bashscripts/setup.sh", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, root / name)
    python = tmp_path / "stand in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return root


def set_up(project, *arguments, refuse="nothing", **variables):
    """Status, error output, and the pip and venv calls of one run from another folder."""
    calls = project.parent / "calls"
    calls.write_text("")
    fixed = {"PYTHON": str(project.parent / "stand in"), "CALLS": str(calls), "REFUSE": refuse, "SPML_VENV": ".venv"}
    done = subprocess.run(
        ["bash", project / "bashscripts/setup.sh", *arguments],
        env={"PATH": os.environ["PATH"], **fixed, **variables},
        cwd=project.parent,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr, [line for line in calls.read_text().splitlines() if line.startswith("-m ")]


def test_makes_once_and_reuses(project):
    status, errors, calls = set_up(project)
    assert status == 0 and "Downloading big.whl (120.5 MB)" in errors and "small" not in errors
    assert calls[0] == f"-m venv {project / '.venv'}" and calls[1].endswith("-r requirements.txt -e .")
    assert calls[-1].endswith("pydensecrf2")
    assert set_up(project) == (0, "", [])
    status, _, calls = set_up(project, "dev")
    assert status == 0 and calls[0].endswith("-e .[dev]")
    assert set_up(project, "dev") == set_up(project) == (0, "", [])
    (project / "requirements.txt").write_text("numpy\n")
    status, _, calls = set_up(project)
    assert status == 0 and not any("venv" in call for call in calls) and "-r requirements.txt" in calls[0]


def test_starts_again_after_a_failed_install(project):
    status, errors, _ = set_up(project, refuse="-r requirements.txt")
    assert status == 1 and "pip refused" in errors and "call again" in errors
    status, errors, calls = set_up(project)
    assert status == 0 and "making it again" in errors and calls[0].startswith("-m venv")


def test_goes_on_without_the_crf(project):
    status, errors, _ = set_up(project, refuse="--no-build-isolation")
    assert status == 0 and "no pydensecrf2: it needs a C++ compiler" in errors
    assert set_up(project) == (0, "", [])


def test_never_replaces_a_folder_that_is_no_environment(project):
    (project / "mine").mkdir()
    (project / "mine/file").touch()
    status, errors, calls = set_up(project, SPML_VENV="mine")
    assert status == 1 and "is no virtual environment" in errors and not calls
    assert (project / "mine/file").exists()


def test_says_which_python_it_needs(project):
    status, errors, calls = set_up(project, PYTHON="no-such-python")
    assert status == 1 and "expected 3.10 to 3.13" in errors and "tried no-such-python" in errors and not calls


def test_the_studios_script_explains_itself_before_it_installs_anything(tmp_path):
    """Every option of `spml studio` has a line."""
    from spml.cli.commands.studio import add_arguments
    from spml.cli.parser import Parser

    parser = Parser()
    add_arguments(parser)
    words = ["bash", str(ROOT / "bashscripts" / "studio.sh"), "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for option in [name for action in parser._actions for name in action.option_strings if name.startswith("--")]:
        assert option == "--help" or f"  {option} " in done.stdout, option
