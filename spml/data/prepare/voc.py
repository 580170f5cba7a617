"""The lists of PASCAL VOC 2012 with the released names, from the folders of a data root.

train+ is VOC's training set and SBD's images, less VOC's validation set: 10,582 images.
"""

from spml.data.prepare.layout import Column, DataRoot, ListPlan

IMAGE_SETS = "VOC2012/ImageSets/Segmentation"
IMAGE = Column(("VOC2012/JPEGImages",), ".jpg")
SBD_MASK = Column(("sbd/dataset/clsimg",))
MASK = Column(("VOC2012/segcls", *SBD_MASK.folders))  # VOC's mask goes before SBD's
OVERSEGMENTATION = Column(("VOC2012/hed",))
CAM = Column(("VOC2012/cam/seam",), ".npy")  # which the tag pipeline spreads
WEAK = {  # list: folder of labels, experiment
    "scribble_train+_d3_hed": ("VOC2012/scribble/dilate_3", "scribble"),
    "scribble_train+_d3_0.3_hed": ("VOC2012/scribble/dilate_3_0.3", "scribble_0.3"),
    "scribble_train+_d3_0.5_hed": ("VOC2012/scribble/dilate_3_0.5", "scribble_0.5"),
    "scribble_train+_d3_0.8_hed": ("VOC2012/scribble/dilate_3_0.8", "scribble_0.8"),
    "scribble_train+_d6_0.0_hed": ("VOC2012/scribble/dilate_6_0.0", "point"),
    "seam_train+_a6_th0.2_hed": ("VOC2012/cam/seam_a6_th0.2", "tag"),
    "seambox_train+_a6_th0.5_hed": ("VOC2012/cam/seambox_a6_th0.5", "box"),
}
EXPERIMENTS = ("tag", "box", "scribble", "point")  # of the pipelines; the others: "mask", shortened scribbles, "test"


def plan_lists(root: DataRoot) -> list[ListPlan]:
    """The lists of a VOC data root and the samples that each should have.

    Without SBD's masks train+ is not known. Lists of full masks then have VOC's training set, and lists of weak labels
    every image that has such a label and stands in neither VOC's validation nor its test set, which is the same train+
    where the labels are complete.

    Raises: DataError where VOC's image sets `train.txt` and `val.txt` cannot be read.
    """
    train, val = (root.names(IMAGE_SETS, f"{split}.txt") for split in ("train", "val"))
    has_test = (root.path / IMAGE_SETS / "test.txt").is_file()
    test = root.names(IMAGE_SETS, "test.txt") if has_test else []
    sbd = root.stems(SBD_MASK)
    train_plus = _sorted({*train, *sbd} - set(val))
    plans = [
        ListPlan("train", tuple(train), (IMAGE, MASK), ("mask",)),
        ListPlan("train+", train_plus, (IMAGE, MASK), ("mask",)),
        ListPlan("trainval", _sorted({*train, *val}), (IMAGE, MASK), ("mask",)),
        ListPlan("val", tuple(val), (IMAGE, MASK), ("mask",)),
        ListPlan("test", tuple(test), (IMAGE,), ("test",)),
        ListPlan("panoptic_train+_hed", train_plus, (IMAGE, MASK, OVERSEGMENTATION), ("mask",)),
        ListPlan("panoptic_val", tuple(val), (IMAGE, MASK), (*EXPERIMENTS, "mask")),
    ]
    for name, (folder, experiment) in WEAK.items():
        label = Column((folder,))
        labelled = _sorted(root.stems(label) - {*val, *test})
        samples = train_plus if sbd else labelled or train_plus
        beside = (CAM,) if experiment == "tag" else ()
        plans.append(ListPlan(name, samples, (IMAGE, label, OVERSEGMENTATION), (experiment,), beside))
    return plans


def _sorted(names: set[str] | frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(names))
