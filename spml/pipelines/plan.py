"""The stages of the five pipelines, from tags, boxes, scribbles, points or masks to a segmenter and its figures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spml.classes import KNOWN_CLASSES
from spml.config import load_config
from spml.pipelines.settings import Settings
from spml.pipelines.stage import Stage, Step

SCALES = ("--scales", "0.5,0.75,1,1.25,1.5", "--flip", "--crf")
RELEASED_VIEWS = {"tag": SCALES, "box": ("--crf",)}  # of the last evaluation; the others' is softmax at one scale
MEMORY_VIEWS = ("--scales", "0.5,1,1.5")  # of memories that label training images
SUPERVISED = ("train.task=segmentation", "losses=none", "losses.cross_entropy.weight=1")
WALKED = {"affinity": "CAM + AffinityNet", "irn": "CAM + IRN"}  # rows of figures
CLASSIFIER_BATCH, CLASSIFIER_STEPS = 16, 4000


@dataclass(frozen=True)
class Place:
    """The places of a round's input and output files."""

    folder: Path
    labels: str | None  # the list that it trains on; None: the config's
    title: str = ""  # before the names of its rows of figures

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


def plan(settings: Settings) -> list[Stage]:
    """All stages, in their order. Repeated kinds of stages get numbers: train, train2, ..

    Raises:
        UserError: settings that cannot be used.
    """
    named: Counter[str] = Counter()
    stages = []
    for stage in Pipeline(settings).stages():
        named[stage.name] += 1
        count = named[stage.name]
        stages.append(Stage(stage.name if count == 1 else f"{stage.name}{count}", stage.help, stage.steps))
    return stages


class Pipeline:
    """Writes the command lines of a pipeline."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.regions = self.folder / "oversegment" if settings.lacks_regions() else None
        self.weak = self._weak_labels()  # the list of weak labels, if it is not the config's

    def stages(self) -> Iterator[Stage]:
        """Each with the name of its kind."""
        settings, labels = self.settings, self.weak
        if settings.pairs:
            yield self.lists()
        if self.regions is not None:
            yield self.oversegment(self.regions)
        if settings.makes_cams:
            yield self.train_cam()
            yield self.make_cams()
        if settings.affinity is not None:
            yield from self.affinity(self.folder / settings.affinity)
            labels = (
                labels if settings.two_rounds_of_labels else str(self.folder / settings.affinity / "pseudo/list.txt")
            )
        if settings.spreads:
            if settings.annotation == "tag":
                yield self.seeds()
            yield self.spread()
            labels = str(self.folder / "spread" / "list.txt")
        place = Place(self.folder, labels)
        for number in range(1, settings.rounds + 1):
            yield from self.round(place, number)
            made = "pseudo2" if number == 1 and settings.two_rounds_of_labels else "pseudo"
            title = f"training {number + 1}: "
            place = Place(self.folder / f"round{number + 1}", str(place / made / "list.txt"), title)

    def round(self, place: Place, number: int) -> Iterator[Stage]:
        """One training, the labels that it makes of the training images, and its result."""
        settings, last = self.settings, place / "stage1"
        yield self.train(place)
        if settings.test_list and settings.annotation != "mask":
            yield self.retrieval(place)
        if number == 1 and settings.two_rounds_of_labels:
            yield from self.rounds_of_tags(place)
            last = place / "stage2"
        elif settings.annotation != "mask" and (settings.loaded.pipeline.classifier or number < settings.rounds):
            yield self.pseudo(place)
            if settings.loaded.pipeline.classifier:
                yield self.train_classifier(place / "stage2", place / "stage1", place / "pseudo")
                last = place / "stage2"
        yield self.evaluate(place, last) if settings.test_list else self.predict(place, last)

    def _weak_labels(self) -> str | None:
        if self.settings.makes_cams:
            return str(self.folder / "cams" / f"list_{self.settings.annotation}.txt")
        if self.regions is not None:
            return str(self.regions / "list.txt")
        return self.settings.training_list if self.settings.own is not None else None

    # stages

    def lists(self) -> Stage:
        settings, folder = self.settings, self.folder / "lists"
        words = (
            "prepare",
            "pairs",
            "--data_dir",
            settings.root,
            "--kind",
            settings.annotation,
            "--save_dir",
            str(folder),
            "--overwrite",
        )
        step = Step(words, (), (folder / "train.txt", folder / "all.txt"), shared=False)
        return Stage("lists", "lists of the images and labels in the data folder", (step,))

    def seeds(self) -> Stage:
        """The surest pixels of CAMs, from which labels spread."""
        cams, listed, folder = self._cams(), self._listed(self.weak)[0], self.folder / "seeds"
        words = ["--cam_dir", str(cams), "--data_list", listed, "--save_dir", str(folder), *self.settings.words]
        step = self._network("confident", words, (cams, listed), (folder / "semantic_gray", folder / "list.txt"))
        return Stage("seeds", "the surest pixels of the activation maps", (step,))

    def spread(self) -> Stage:
        folder, labels = self.folder / "spread", self.weak
        more: tuple[str, ...] = self.settings.words
        if self.settings.annotation == "tag":  # 255 in the seeds is no void: it stands where the CAMs are not sure
            labels, more = str(self.folder / "seeds" / "list.txt"), ("--crf", *more, "dataset.unlabelled_index=255")
        words = ["--source", "spread", "--save_dir", str(folder), *self._list(labels), *more]
        outputs = (folder / "semantic_gray", folder / "list.txt")
        steps = [self._network("pseudo-label", words, self._listed(labels), outputs)]
        steps += self._quality("labels", f"spread={folder / 'semantic_gray'}")
        return Stage("spread", "the weak labels, spread over their images by frozen features", tuple(steps))

    def oversegment(self, folder: Path) -> Stage:
        settings = self.settings
        words = ["--data_dir", settings.root, "--data_list", settings.training_list, "--save_dir", str(folder)]
        outputs = [folder]
        if not settings.makes_cams:
            words += ["--list_out", str(folder / "list.txt")]
            outputs.append(folder / "list.txt")
        step = Step(("oversegment", *words), (Path(settings.training_list),), tuple(outputs), shared=False)
        return Stage("oversegment", "regions of the training images, for image similarity", (step,))

    def train_cam(self) -> Stage:
        settings, network = self.settings, self.folder / "cam_network"
        words = ["--snapshot_dir", str(network), "--resume", *settings.words, *settings.cam]
        step = self._network("train", words, (settings.training_list,), (network,), settings.cam_config_file)
        return Stage("train_cam", "a classification network, from tags", (step,))

    def make_cams(self) -> Stage:
        settings, network, folder = self.settings, self.folder / "cam_network", self.folder / "cams"
        words = ["--snapshot_dir", str(network), "--save_dir", str(folder)]
        regions = settings.instance_dir or self.regions
        boxes = settings.boxes if settings.annotation == "box" else None
        given = {"boxes": boxes, "instance_dir": regions, "gt_list": settings.gt_list}
        for name, value in given.items():
            words += [f"--{name}", str(value)] if value else []
        labels = folder / f"{settings.annotation}_label"
        outputs = (folder / "cam", labels, Path(str(self.weak)))
        inputs = (network, *([self.regions] if self.regions else []))
        words += [*settings.words, *settings.cam]
        step = self._network("cam", words, inputs, outputs, settings.cam_config_file)
        quality = self._quality("labels", f"CAM={labels}")
        return Stage("cam", "its class activation maps, and labels of them", (step, *quality))

    def affinity(self, folder: Path) -> Iterator[Stage]:
        """Confident areas of CAMs, a network of affinities that learns from them, and the labels of its walk.

        A network without weights to start from begins with the backbone that learned the tags.
        """
        settings, kind, config = self.settings, str(self.settings.affinity), self.settings.affinity_config_file
        cams, listed = self._cams(), self._listed(self.weak)[0]
        areas, network, labels = folder / "confident", folder / "network", folder / "pseudo"
        given = ["--cam_dir", str(cams), "--data_list", listed]
        words = [*given, "--save_dir", str(areas), *settings.words]
        made = (areas / "semantic_gray", areas / "list.txt")
        step = self._network("confident", words, (cams, listed), made, config)
        yield Stage("confident", "where the activation maps are sure, and of what", (step,))
        tagged = self.folder / "cam_network"
        fresh = settings.makes_cams and not load_config(config, settings.overrides).network.pretrained
        words = ["--snapshot_dir", str(network), "--data_list", str(made[1]), "--resume", *settings.words]
        words += [f"network.pretrained={tagged}"] if fresh else []
        step = self._network("train", words, (made[1], *([tagged] if fresh else [])), (network,), config)
        yield Stage(f"train_{kind}", "which near pixels are of one class, from the confident areas", (step,))
        words = ["--snapshot_dir", str(network), "--save_dir", str(labels), "--source", kind, *given]
        made = (labels / "semantic_gray", labels / "list.txt")
        step = self._network("pseudo-label", [*words, *settings.words], (network, cams, listed), made, config)
        quality = self._quality("labels", f"{WALKED[kind]}={labels / 'semantic_gray'}")
        yield Stage(kind, "labels of the activation maps after a walk over near pixels", (step, *quality))

    def train(self, place: Place) -> Stage:
        settings, network = self.settings, place / "stage1"
        recipe: tuple[str, ...] = ()
        if settings.annotation == "mask" and settings.loaded.train.task != "segmentation":
            recipe = SUPERVISED
        words = ["--snapshot_dir", str(network), "--resume", *self._list(place.labels), *recipe, *settings.words]
        step = self._network("train", words, self._listed(place.labels), (network,))
        what = "embedding and classifier on full masks" if recipe else "the embedding under the relations"
        return Stage("train", f"{what}{' anew, on pseudo labels' if place.title else ''}", (step,))

    def retrieval(self, place: Place) -> Stage:
        """Retrieval on test images from a memory of weak labels; the release filled this memory from full masks."""
        memory, folder = place / "memory", place / "retrieval"
        views = ["--kmeans_num_clusters", self.settings.kmeans_grid, "--semantic_memory_dir", str(memory)]
        steps = [self._memory(place, memory, place.labels), self._predict(folder, place / "stage1", views, (memory,))]
        steps.append(self._evaluate(folder, "mIoU.json"))
        steps += self._quality("results", f"{place.title}test images: retrieval={folder / 'mIoU.json'}")
        return Stage("retrieval", "what retrieval from the weak labels makes of the test images", tuple(steps))

    def pseudo(self, place: Place) -> Stage:
        source, folder = "points" if self.settings.densepose else "softmax", place / "pseudo"
        steps = [self._pseudo(folder, place / "stage1", ["--source", source])]
        steps += self._quality("labels", f"{place.title}pseudo labels={folder / 'semantic_gray'}")
        return Stage("pseudo", "labels of the training images by what was learned", tuple(steps))

    def rounds_of_tags(self, place: Place) -> Iterator[Stage]:
        """Two rounds of pseudo labels.

        First, a random walk under the embedding refines the CAMs, or --affinity has done so; these labels fill a
        memory, and retrieval from it labels the training images. A classifier learns these labels. In the second round
        its own labels, after one step of a walk, replace those of the CAMs.
        """
        cams, steps = self._cams(), []
        walk, first, again = place / "pseudo_cam", place / "stage2_round1", place / "pseudo_softmax"
        if self.settings.affinity is not None:
            walk = self.folder / self.settings.affinity / "pseudo"
        else:
            source = ["--source", "cam", "--cam_dir", str(cams)]
            differs = self.settings.cam_alpha != self.settings.loaded.test.cam_alpha
            source += [f"test.cam_alpha={self.settings.cam_alpha:g}"] if differs else []
            steps = [self._pseudo(walk, place / "stage1", source, (cams,))]
            steps += self._quality("labels", f"CAM + walk={walk / 'semantic_gray'}")
        yield Stage("pseudo", "round 1: from CAMs", (*steps, *self._retrieved(place, "pseudo", walk, "round 1")))
        yield self.train_classifier(first, place / "stage1", place / "pseudo")
        steps = [self._pseudo(again, first, ["--source", "softmax", "--walk_steps", "1"])]
        steps += self._quality("labels", f"classifier of round 1={again / 'semantic_gray'}")
        yield Stage("pseudo", "round 2: from it", (*steps, *self._retrieved(place, "pseudo2", again, "round 2")))
        yield self.train_classifier(place / "stage2", place / "stage1", place / "pseudo2")

    def _retrieved(self, place: Place, name: str, labels: Path, row: str) -> list[Step]:
        """Pseudo labels `name` by retrieval from a memory that other pseudo labels fill."""
        memory, folder = place / f"memory_{name}", place / name
        words = ["--source", "retrieval", "--semantic_memory_dir", str(memory)]
        steps = [self._memory(place, memory, str(labels / "list.txt"), MEMORY_VIEWS)]
        steps.append(self._pseudo(folder, place / "stage1", words, (memory,)))
        return [*steps, *self._quality("labels", f"{row}={folder / 'semantic_gray'}")]

    def train_classifier(self, network: Path, embedding: Path, labels: Path) -> Stage:
        """Train on pseudo labels; the release's scripts for scribbles and points use the weak labels by mistake."""
        settings, listed = self.settings, labels / "list.txt"
        batch = -(-CLASSIFIER_BATCH // settings.gpus)
        recipe = (f"train.batch_size={batch}", f"train.max_iteration={CLASSIFIER_STEPS}")
        words = ["--snapshot_dir", str(network), "--data_list", str(listed), "--resume", *recipe]
        words += [*settings.words, *settings.classifier, f"network.pretrained={embedding}"]
        step = self._network("classifier", words, (listed, embedding), (network,))
        return Stage("classifier", "the softmax classifier on the frozen embedding, from pseudo labels", (step,))

    def evaluate(self, place: Place, network: Path) -> Stage:
        settings, folder, views = self.settings, place / "evaluation", list(SCALES)
        if settings.released_evaluation:
            folder, views = place / "evaluation_released", list(RELEASED_VIEWS.get(settings.annotation, ()))
        steps = [self._predict(folder, network, ["--predictor", "softmax", *views])]
        steps.append(self._evaluate(folder, "mIoU_by_instance.json", "--by_instance"))
        expect = () if settings.expect is None else ("--expect", f"{settings.expect:g}")
        steps.append(self._evaluate(folder, "mIoU.json", *expect))
        steps += self._quality("results", f"{place.title}test images: classifier={folder / 'mIoU.json'}")
        return Stage("evaluate", "mIoU of the classifier on the test images", tuple(steps))

    def predict(self, place: Place, network: Path) -> Stage:
        """Label all images, where no test images have masks."""
        listed = self.settings.all_images
        views = ["--data_list", listed, "--predictor", "softmax", *SCALES]
        step = self._predict(place / "predictions", network, views, (Path(listed),))
        return Stage("predict", "labels of all images", (step,))

    # steps

    def _network(
        self,
        command: str,
        words: list[str],
        inputs: tuple[str | Path, ...],
        outputs: tuple[Path, ...],
        config: str | None = None,
    ) -> Step:
        """A command with a network; `words` end in overrides."""
        settings = self.settings
        own = ["--config", config or settings.config]
        own += ["--data_dir", settings.data_dir] if settings.data_dir else []
        own += ["--device", settings.device] if settings.device != "auto" else []
        return Step((command, *own, *words), tuple(map(Path, inputs)), outputs)

    def _cams(self) -> Path:
        """The CAMs of the training images."""
        return Path(self.settings.cam_dir or self.folder / "cams" / "cam")

    def _list(self, labels: str | None) -> list[str]:
        return ["--data_list", labels] if labels else []

    def _listed(self, labels: str | None) -> tuple[str, ...]:
        return (labels or self.settings.training_list,)

    def _memory(self, place: Place, folder: Path, labels: str | None, views: tuple[str, ...] = ()) -> Step:
        network, settings = place / "stage1", self.settings
        words = ["--snapshot_dir", str(network), "--save_dir", str(folder)]
        words += ["--kmeans_num_clusters", settings.kmeans_grid, *self._list(labels), *views, *settings.words]
        return self._network("memory", words, (network, *self._listed(labels)), (folder,))

    def _predict(self, folder: Path, network: Path, views: list[str], inputs: tuple[Path, ...] = ()) -> Step:
        words = ["--save_dir", str(folder), "--snapshot_dir", str(network), *views, *self.settings.words]
        return self._network("predict", words, (network, *inputs), (folder / "semantic_gray",))

    def _pseudo(self, folder: Path, network: Path, source: list[str], inputs: tuple[Path, ...] = ()) -> Step:
        """Make pseudo labels of the images in the list of weak labels, which gives their classes."""
        words = ["--save_dir", str(folder), "--snapshot_dir", str(network)]
        words += ["--kmeans_num_clusters", self.settings.kmeans_grid, *self._list(self.weak), *source]
        outputs = (folder / "semantic_gray", folder / "list.txt")
        inputs = (network, *map(Path, self._listed(self.weak)), *inputs)
        return self._network("pseudo-label", [*words, *self.settings.words], inputs, outputs)

    def _evaluate(self, folder: Path, name: str, *options: str) -> Step:
        data, predicted, result = self.settings.loaded.dataset, folder / "semantic_gray", folder / name
        listed = self.settings.test_list
        words = ["evaluate", "--pred_dir", str(predicted), *self._masks(listed), "--json", str(result)]
        words += ["--dataset", data.dataset] if data.dataset in KNOWN_CLASSES and not data.classes else []
        inputs = (predicted, Path(listed))
        return Step((*words, *options), inputs, (result,), shared=False, verdict="--expect" in options)

    def _quality(self, kind: str, row: str) -> list[Step]:
        """A row of the table of labels against masks, if the user has masks."""
        if not self.settings.gt_list:
            return []
        words = ["quality", "--json", str(self.folder / "quality.json"), *self._masks(self.settings.gt_list)]
        row_of = Path(row.partition("=")[2])
        inputs = (row_of, Path(self.settings.gt_list))
        return [Step((*words, f"--{kind}", row), inputs, (self.folder / "quality.json",), shared=False)]

    def _masks(self, listed: str) -> list[str]:
        data = self.settings.loaded.dataset
        names = ["--classes", data.classes] if data.classes else []
        return ["--data_dir", self.settings.root, "--data_list", listed, "--num_classes", str(data.num_classes), *names]
