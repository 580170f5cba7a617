"""The settings of a pipeline, and their checks before any work."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from spml.config import load_config
from spml.data.lists import read_list
from spml.data.pairs import TAGS, OwnLists, find_lists, find_pairs
from spml.errors import UserError

ANNOTATIONS = ("tag", "box", "scribble", "point", "mask")
AFFINITIES = ("affinity", "irn")  # tasks whose affinities of near pixels carry CAMs on
SPREAD = ("tag", "box", "scribble", "point")  # what pipeline.spread spreads; masks leave nothing to spread
OWN_DATA, OWN_CAMS = "own_data", "own_data_cam"  # the configs of a user who names none
GRID, DENSEPOSE_GRID = (12, 12), (24, 24)  # of k-means outside training, as released


@dataclass(frozen=True)
class Settings:
    """A pipeline, as the options of `spml run` describe it.

    Args:
        annotation: one of ANNOTATIONS.
        config: a file, or a shipped config's name.
        overrides: `key=value` for every command with a network.
        data_dir: the folder that paths in lists are relative to; None: dataset.data_dir. Where the config names no
            lists, its own are taken, or made of its images and labels: see `spml.data.pairs`.
        snapshots: gets everything; None: snapshots/<name of the config>.
        grid: of k-means outside training; None: pipeline.grid, or the released one.
        classifier, cam: overrides for the training of the classifier, or for the CAM network and its maps, alone.
        cam_config: of the CAM network; None: `config` with `cam` for the annotation in its name.
        affinity: one of AFFINITIES, for tags: its labels of CAMs replace those of the walk by SPML's embedding.
        affinity_config: its config; None: `config` with the task's name for `tag` in its name.
        cam_dir: existing CAMs; None: the pipeline makes them from tags.
        boxes: boxes.json or a folder of VOC's XML, for box labels from CAMs that the pipeline makes.
        instance_dir: over-segmentations, if the CAM network's list names none.
        gt_list: masks of the training images, to compare each stage's labels with: a diagnostic.
        expect: mean IoU in per cent that the last evaluation must reach.
        rounds: number of trainings; each after the first starts anew from the pseudo labels of the previous one.

    Raises:
        UserError: settings that contradict each other; a config or lists that cannot be used.
    """

    annotation: str
    config: str = OWN_DATA
    overrides: tuple[str, ...] = ()
    data_dir: str | None = None
    snapshots: str | None = None
    grid: tuple[int, int] | None = None
    gpus: int = 1
    device: str = "auto"
    classifier: tuple[str, ...] = ()
    cam: tuple[str, ...] = ()
    cam_config: str | None = None
    affinity: str | None = None
    affinity_config: str | None = None
    cam_dir: str | None = None
    boxes: str | None = None
    instance_dir: str | None = None
    gt_list: str | None = None
    expect: float | None = None
    released_evaluation: bool = False
    rounds: int = 1

    def __post_init__(self) -> None:
        if self.annotation not in ANNOTATIONS:
            raise UserError(f"annotation: expected one of {', '.join(ANNOTATIONS)}, got {self.annotation!r}")
        if self.affinity is not None and (self.annotation != "tag" or self.affinity not in AFFINITIES):
            raise UserError(
                f"--affinity: expected {' or '.join(AFFINITIES)}, for tags, got {self.affinity!r} for {self.annotation}"
            )
        if self.annotation == "mask" and self.rounds > 1:
            raise UserError("--rounds: expected 1 for masks, which leave nothing to label")
        if self.config == OWN_DATA and not self.data_dir:
            raise UserError("expected --data_dir, the folder of your images and labels, or --config, an experiment")
        if self.makes_cams and self.annotation == "box" and not self.boxes:
            raise UserError("--boxes: expected boxes.json or a folder of VOC's XML, got nothing")
        if self.expect is not None and not 0 <= self.expect <= 100:
            raise UserError(f"--expect: expected 0 to 100 per cent, got {self.expect}")
        self._refuse_what_has_no_use()

    def _refuse_what_has_no_use(self) -> None:
        used = {
            "cam": self.makes_cams,
            "cam_config": self.makes_cams,
            "cam_dir": self.annotation in ("tag", "box"),
            "boxes": self.annotation == "box",
            "instance_dir": self.makes_cams or bool(self.cam_dir),  # the scripts of tags and boxes always give it
            "affinity_config": self.affinity is not None,
            "classifier": self.annotation != "mask" and self.loaded.pipeline.classifier,
        }
        for name, useful in used.items():
            if getattr(self, name) and not useful:
                raise UserError(f"--{name}: no stage of this pipeline (from {self.annotation}, {self.config}) uses it")

    @cached_property
    def loaded(self) -> Any:
        """The config."""
        return load_config(self.config, self.overrides)

    @property
    def name(self) -> str:
        """The name of the config, with its folder inside `configs`: `voc12_tag`; for own data, of the folder."""
        if self.config == OWN_DATA:
            return f"{Path(str(self.data_dir)).resolve().name}_{self.annotation}"
        path = Path(self.config).with_suffix("")
        parts = path.parts[-1:] if path.is_absolute() else [part for part in path.parts if part not in ("..", ".")]
        return "_".join(parts[1:] if len(parts) > 1 and parts[0] == "configs" else parts)

    @property
    def folder(self) -> Path:
        """The folder of all results."""
        return Path(self.snapshots or Path("snapshots") / self.name)

    @property
    def root(self) -> str:
        """The folder that paths in lists are relative to."""
        return self.data_dir or self.loaded.dataset.data_dir

    @property
    def makes_cams(self) -> bool:
        return not self.cam_dir and (self.annotation == "tag" or (self.annotation == "box" and not self.spreads))

    @property
    def two_rounds_of_labels(self) -> bool:
        """Whether tags go the release's way: pseudo labels and a classifier, twice, after the first training."""
        return self.annotation == "tag" and self.loaded.pipeline.classifier

    @property
    def spreads(self) -> bool:
        """Whether the weak labels, or the surest pixels of tags' CAMs, spread before the training."""
        return self.loaded.pipeline.spread and self.annotation in SPREAD and self.affinity is None

    @cached_property
    def own(self) -> OwnLists | None:
        """The lists that the data folder has itself; None where the config names a list."""
        return None if self._configured else find_lists(self.root, self.annotation)

    @cached_property
    def _configured(self) -> str:
        """The training list of the config, or of the CAM network's if the pipeline makes CAMs."""
        if self.makes_cams:
            return load_config(self.cam_config_file, self.overrides).dataset.train_data_list
        return self.loaded.dataset.train_data_list

    @property
    def pairs(self) -> bool:
        """Whether the pipeline makes lists of the images and labels of the data folder."""
        return self.own is not None and self.own.train is None

    @property
    def words(self) -> tuple[str, ...]:
        """`key=value` for every command with a network: the overrides, and lists that the config does not name."""
        if self.own is None:
            return self.overrides
        return (
            *self.tags,
            *self.overrides,
            f"dataset.train_data_list={self.training_list}",
            f"dataset.test_data_list={self.test_list}",
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """For own data with tags: class 0 is what no tag names, and the file of tags if the folder has one."""
        if self.own is None or self.annotation != "tag":
            return ()
        path = Path(self.root) / TAGS
        return ("dataset.background=0", *([f"dataset.tags={path}"] if path.is_file() or self.pairs else []))

    @cached_property
    def cam_config_file(self) -> str:
        """The config of the CAM network."""
        otherwise = ", or --cam_dir with CAMs that are there"
        return self.cam_config or self._beside("cam", "--cam_config", "a CAM network", otherwise)

    @cached_property
    def cam_alpha(self) -> float:
        """The exponent of the background that suits the CAMs of the pipeline."""
        return float((self._loaded_cam if self.makes_cams else self.loaded).test.cam_alpha)

    @property
    def doubt(self) -> str:
        """A sentence on settings that work, but hardly together; "" where there is none."""
        if self.affinity is None or not self.makes_cams or self._loaded_cam.train.task == "cam":
            return ""
        return (
            f"--affinity: the alphas of its confident areas are made for plain CAMs, and {self.cam_config_file} makes "
            f'those of {self._loaded_cam.train.task}; for plain ones add --cam "train.task=cam test.cam_alpha=6"'
        )

    @cached_property
    def _loaded_cam(self) -> Any:
        """The config of the CAM network, as `spml cam` gets it."""
        return load_config(self.cam_config_file, [*self.overrides, *self.cam])

    @cached_property
    def affinity_config_file(self) -> str:
        """The config of the affinity network. Raises UserError for one of another task."""
        task = str(self.affinity)
        path = self.affinity_config or self._beside(task, "--affinity_config", f"the task {task}")
        found = load_config(path, self.overrides).train.task
        if found != task:
            raise UserError(f"--affinity_config {path}: expected a config whose train.task is {task}, got {found}")
        return path

    def _beside(self, name: str, option: str, what: str, otherwise: str = "") -> str:
        """The path of `config` with `name` for the annotation. Raises UserError if the annotation is not in it."""
        if self.config == OWN_DATA and name == "cam":
            return OWN_CAMS
        stem = self.config.removesuffix(".yaml")
        if not stem.endswith(self.annotation):
            raise UserError(
                f"{option}: expected the config of {what}, as --config does not end in "
                f"{self.annotation}.yaml{otherwise}"
            )
        return stem.removesuffix(self.annotation) + name + self.config[len(stem) :]

    @property
    def densepose(self) -> bool:
        return self.loaded.dataset.dataset == "Densepose"

    @property
    def kmeans_grid(self) -> str:
        """H,W."""
        return ",".join(
            map(str, self.grid or self.loaded.pipeline.grid or (DENSEPOSE_GRID if self.densepose else GRID))
        )

    @property
    def training_list(self) -> str:
        """The list of the weak labels that the user gives."""
        if self.own is None:
            return self._configured
        return str(self.own.train or self.folder / "lists" / "train.txt")

    @property
    def test_list(self) -> str:
        """The list of test images with masks; "" where there is none."""
        configured = self.loaded.dataset.test_data_list
        return configured or (str(self.own.test) if self.own is not None and self.own.test else "")

    @property
    def all_images(self) -> str:
        """The list of all images, for the prediction where there are no test images."""
        return str(self.folder / "lists" / "all.txt") if self.pairs else self.training_list

    def lacks_regions(self) -> bool:
        """Whether image similarity is on without over-segmentations, so that the pipeline must make them."""
        listed = Path(self.training_list)
        if self.annotation == "mask" or self.instance_dir or "image_similarity" not in self.loaded.losses:
            return False
        if self.pairs:
            return True
        return listed.is_file() and all(sample.regions is None for sample in read_list(listed, self.root))

    def check_lists(self) -> None:
        """Raise UserError for a missing list that no stage makes, and for what a later stage would refuse."""
        if self.expect is not None and not self.test_list:
            raise UserError(f"--expect: expected a list of test images with masks, {self.root}/val.txt, got none")
        if self.makes_cams:
            load_config(self.cam_config_file, [*self.overrides, *self.cam])
        load_config(self.config, [*self.overrides, *self.classifier])
        if self.pairs:
            find_pairs(self.root, self.annotation)
        if self.tags and not any(word.startswith("dataset.background=") for word in self.overrides):
            first = (self.loaded.dataset.class_names or ["background"])[0]
            if first.lower() != "background":
                raise UserError(
                    f"{self.loaded.dataset.classes}: expected `background` as the first class, because tags say "
                    f"nothing of the pixels around objects, got {first!r}; or dataset.background=0 if it means that"
                )
        given = [] if self.pairs else [self.training_list]
        for path in [*given, *([self.test_list] if self.test_list else [])]:
            if not Path(path).is_file():
                raise UserError(
                    f"no data list {path}, which {self.config} names; `spml prepare lists` makes the released ones"
                )
        if self.gt_list and not Path(self.gt_list).is_file():
            raise UserError(f"--gt_list: no data list {self.gt_list}")
