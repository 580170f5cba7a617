"""The command `spml`: a table of commands. Each is a module, imported when the user calls it."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import spml
from spml.cli.exits import run
from spml.cli.options import add_traceback
from spml.cli.parser import Parser

USAGE = "usage: spml <command> [options] [key=value ..]"
CLOSING = "`spml <command> --help` lists the options of a command."


class Command(NamedTuple):
    """The module of a command, and its line in `spml --help`."""

    module: str
    help: str


COMMANDS = {
    "run": Command("run", "a whole pipeline, from tags, boxes, scribbles, points or masks to a segmenter"),
    "train": Command("train", "train what train.task names"),
    "classifier": Command("classifier", "train the classifier on a frozen embedding"),
    "cam": Command("cam", "class activation maps of tagged images, and labels of them"),
    "confident": Command("confident", "confident areas of activation maps, for the tasks affinity and irn"),
    "memory": Command("memory", "fill a memory with labelled prototypes"),
    "predict": Command("predict", "label images by retrieval from a memory or by the classifier"),
    "pseudo-label": Command("pseudo_label", "label training images from what is known of them"),
    "evaluate": Command("evaluate", "mean IoU of predictions"),
    "compare": Command("compare", "methods beside each other, over seeds and annotations: a table and a report"),
    "quickstart": Command("quickstart", "built-in data, both methods, a table and a picture"),
    "quality": Command("quality", "mean IoU of the labels that a pipeline's stages made"),
    "annotate": Command("annotate", "weak annotations made from full masks"),
    "oversegment": Command("oversegment", "over-segmentations of images"),
    "check": Command("check", "what a data root lacks"),
    "shapes": Command("shapes", "the built-in data"),
    "split": Command("split", "a list to choose settings on, taken out of a training list"),
    "studio": Command("studio", "strokes in a browser, the folder labelled"),
    "import": Command("import_", "annotations of labelme, CVAT, COCO, VOC, YOLO, Cityscapes into a folder"),
    "export": Command("export", "a folder's strokes and labels in the format of another tool"),
    "export-model": Command("export_model", "a trained model as one file for use elsewhere: ONNX or safetensors"),
    "prepare lists": Command("prepare_lists", "data lists of VOC or DensePose"),
    "prepare pairs": Command("prepare_pairs", "data lists of your own folder"),
    "prepare shards": Command("prepare_shards", "images and labels of a list, packed into tars"),
    "prepare masks": Command("prepare_masks", "masks of VOC and SBD as grey PNGs"),
    "prepare boxes": Command("prepare_boxes", "boxes of VOC's XML files"),
    "prepare scribbles": Command("prepare_scribbles", "ScribbleSup's XML as label PNGs"),
    "prepare cam-labels": Command("prepare_cam_labels", "CAM files as labels"),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command that the first words (by default of this process) name, and return its exit status."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"spml {spml.__version__}")
        return 0
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return command(name, words[length:])
    return _unknown(words)


def command(name: str, words: Sequence[str] | None = None, prog: str | None = None, **fixed: object) -> int:
    """Run one command of COMMANDS.

    Args:
        words: the words after its name; None: the words of this process.
        prog: its name in the usage line; None: `spml <name>`.
        fixed: options that a script sets, if it is a special case of a command.
    """
    module = importlib.import_module(f"spml.cli.commands.{COMMANDS[name].module}")
    parser = Parser(prog or f"spml {name}", module.__doc__)
    module.add_arguments(parser)
    add_traceback(parser)
    parser.set_defaults(**fixed)
    return module.main(parser.read(sys.argv[1:] if words is None else words)) or 0


def overview() -> str:
    """What `spml --help` prints."""
    return "\n".join([str(spml.__doc__).splitlines()[0], "", USAGE, "", *_rows(COMMANDS), "", CLOSING])


def _rows(names: Iterable[str]) -> list[str]:
    width = max(map(len, COMMANDS))
    return [f"  {name:{width}}  {COMMANDS[name].help}" for name in names]


def _unknown(words: Sequence[str]) -> int:
    """What follows a word that is no command: the commands of its group, such as `prepare`, or the nearest one."""
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group and words[1:] in ([], ["-h"], ["--help"]):
        print("\n".join([USAGE, "", *_rows(group)]))
        return 0 if words[1:] else 2
    asked = " ".join(words[: 2 if group else 1])
    nearest = difflib.get_close_matches(asked, group or COMMANDS, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "`spml --help` lists them"
    print(f"error: unknown command {asked!r}; {hint}", file=sys.stderr)
    return 2


def entry() -> None:
    """The installed command, and `python -m spml`."""
    run(main)
