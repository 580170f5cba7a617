"""The page before training, on street scenes of eleven classes: what it counts, and what it says of each mistake."""

import numpy as np
import pytest
from PIL import Image

from spml.data.lists import read_list
from spml.data.samples import DataError, Sample
from spml.data.survey import survey

STREET = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
LOSSES = {"semantic_annotation": 1.0, "image_similarity": 3.0}


def street(number: int) -> np.ndarray:
    """A mask (60, 80): sky above, road below, four of the other classes between; every image has both."""
    rng = np.random.default_rng(number)
    mask = np.zeros((60, 80), np.uint8)
    mask[40:] = 3
    others = np.setdiff1d(np.arange(11), (0, 3))
    for column, kind in zip(range(0, 80, 20), np.roll(others, 4 * number)[:4], strict=True):
        top = int(rng.integers(10, 30))
        mask[top:40, column : column + 20] = kind
    return mask


def scribbled(mask: np.ndarray, unlabelled: int = 254) -> np.ndarray:
    """Rows and columns of 2 pixels in the middle of every piece."""
    label = np.full(mask.shape, unlabelled, np.uint8)
    for rows in (slice(4, 6), slice(34, 36), slice(50, 52)):
        label[rows] = mask[rows]
    return label


def regions_of(mask: np.ndarray) -> np.ndarray:
    return mask + 11 * (np.arange(mask.shape[1]) > 40)


@pytest.fixture
def scenes():
    """Makes a list of 20 samples from what `change` makes of each mask."""

    def make(change=scribbled, regions=regions_of, count=20):
        samples = []
        for number in range(count):
            mask = street(number)
            image = np.zeros((*mask.shape, 3), np.uint8)
            samples.append(Sample(image, change(mask), None if regions is None else regions(mask), name=str(number)))
        return samples

    return make


def codes(found):
    return [warning.code for warning in found.warnings]


def only(found, code):
    """The message of the single warning, which has this code and stands on the page."""
    assert codes(found) == [code]
    assert f"warning [{code}]: {found.warnings[0].message}\n" in found.page()
    assert "\n" not in found.warnings[0].message
    return found.warnings[0].message


def test_counts_of_good_scribbles(scenes):
    found = survey(scenes(), 11, STREET, background=None, losses=LOSSES)
    assert found.warnings == [] and found.notes == []
    assert (found.images, found.read) == (20, 20)
    assert found.labelled == pytest.approx(0.1) and found.unlabelled == pytest.approx(0.9) and found.void == 0
    assert found.pixels.sum() == 20 * 6 * 80 and found.seen[[0, 3]].tolist() == [20, 20]
    assert found.regions == (11,) * 20 or 5 < np.mean(found.regions) < 12
    page = found.page("about 3 hours")
    for line in (
        "images        20",
        "labelled      10.0 % of the pixels",
        "background    none",
        "time          about 3 h",
    ):
        assert line in page
    assert "losses        semantic_annotation x 1, image_similarity x 3" in page
    assert "  3 road" in page and page.count("\n") < 30


def test_counts_by_loops(scenes):
    samples = scenes()
    samples[3].label[:10] = 255
    found = survey(samples, 11, STREET, background=None)
    for kind in range(11):
        assert found.pixels[kind] == sum(int((sample.label == kind).sum()) for sample in samples)
        assert found.seen[kind] == sum((sample.label == kind).any() for sample in samples)
    total = sum(sample.label.size for sample in samples)
    assert found.void == pytest.approx(sum((sample.label == 255).sum() for sample in samples) / total)
    assert found.labelled + found.unlabelled + found.void == pytest.approx(1)
    assert found.tags.tolist() == [[(s.label == kind).any() for kind in range(11)] for s in samples]


def test_unlabelled_painted_0(scenes):
    found = survey(scenes(lambda mask: scribbled(mask + 1, 0)), 12, ("background", *STREET), losses=LOSSES)
    message = only(found, "unlabelled_is_0")
    assert message.startswith("90.0 % of the labelled pixels are class 0 (background) and nearly none is unlabelled")
    assert "Paint them 254, or set dataset.unlabelled_index=0" in message
    mended = survey(scenes(lambda mask: scribbled(mask + 1, 0)), 12, ("background", *STREET), unlabelled_index=0)
    assert codes(mended) == ["never_occurs"] and mended.labelled == pytest.approx(0.1)


def test_unlabelled_painted_255(scenes):
    painted = scenes(lambda mask: scribbled(mask, 255))
    message = only(survey(painted, 11, STREET, losses=LOSSES, background=None), "unlabelled_is_void")
    assert message.startswith("90.0 % of the pixels are void (255), which training leaves out altogether")
    assert survey(painted, 11, STREET, background=None, unlabelled_index=255).warnings == []


def test_image_similarity_without_regions(scenes):
    for regions, why in ((None, "the list has no third column"), (np.zeros_like, "every image is one region")):
        found = survey(scenes(regions=regions), 11, STREET, losses=LOSSES, background=None)
        message = only(found, "no_regions")
        assert message.startswith(f"image_similarity (weight 3) cannot act, {why}: make over-segmentations with")
        assert (
            survey(scenes(regions=regions), 11, STREET, losses={"semantic_annotation": 1}, background=None).warnings
            == []
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scribbled, "all images share sky, road"),
        (lambda mask: scribbled(np.where(mask == 3, 3, 0)), "all images have the same tags (sky, road)"),
        (lambda mask: np.full_like(mask, 254), "no image has a tag"),
    ],
)
def test_cooccurrence_without_contrast(scenes, change, message):
    found = survey(scenes(change), 11, STREET, losses={"semantic_cooccurrence": 0.5}, background=None)
    assert f"semantic_cooccurrence (weight 0.5) cannot act: {message}" in [
        warning.message for warning in found.warnings
    ]


def test_cooccurrence_between_images_that_share_classes_in_turn():
    label = [np.full((4, 4), 254, np.uint8) for _ in range(3)]
    for one, (first, second) in zip(label, ((0, 1), (1, 2), (2, 0)), strict=True):
        one[0], one[1] = first, second
    samples = [Sample(np.zeros((4, 4, 3), np.uint8), one, name=str(i)) for i, one in enumerate(label)]
    losses = {"semantic_cooccurrence": 1.0}
    found = survey(samples, 3, losses=losses, background=None)
    assert only(found, "no_contrast").endswith("cannot act: any two images share a class")
    assert survey(samples, 3, losses=losses, background=0).warnings == []  # without 0 the first and the last differ


def test_full_masks(scenes):
    masks = scenes(lambda mask: mask)
    message = only(survey(masks, 11, STREET, losses=LOSSES, background=None), "full_masks")
    assert message.startswith("100.0 % of the pixels outside void have a class: these look like full masks")
    borders = scenes(lambda mask: np.where(np.arange(80) % 5 == 0, 255, mask).astype(np.uint8))
    assert "full_masks" in codes(survey(borders, 11, STREET, background=None))
    assert survey(masks, 11, STREET, losses=LOSSES, background=None, weak=False).warnings == []


def test_labels_from_1_with_names_from_0(scenes):
    message = only(survey(scenes(lambda mask: scribbled(mask + 1)), 11, STREET, background=None), "names_shifted")
    assert message.startswith(
        "labels hold 1 to 11 and no 0, but 11 classes are numbered 0 to 10: names are shifted by one"
    )
    assert "add a name for 0 at the top of dataset.classes (number 1 reads as 'building' now)" in message


def test_labels_with_a_background_and_names_without(scenes):
    def change(mask):
        label = scribbled(mask + 1)
        label[20:22] = 0
        return label

    message = only(survey(scenes(change), 11, STREET, background=None), "names_shifted")
    assert message.startswith("labels hold 0 to 11, one class more than there are names (11)")
    assert "is a name missing at the top of dataset.classes? (0 reads as 'sky' now)" in message


def test_names_with_a_background_and_labels_without(scenes):
    message = only(survey(scenes(), 12, ("background", *STREET)), "names_shifted")
    assert message.startswith("every class occurs but the last, 11 (bicyclist): is there a name too many at the top")


def test_the_released_value_for_unlabelled_is_no_class(scenes):
    """num_classes in most pixels, or, in labels of boxes, in every image."""
    assert survey(scenes(lambda mask: scribbled(mask, 11)), 11, STREET, background=None).warnings == []
    boxes = scenes(lambda mask: np.where(np.arange(80) % 10 < 3, 11, mask).astype(np.uint8))
    assert survey(boxes, 11, STREET, background=None).warnings == []


def test_values_beyond_the_classes(scenes):
    message = only(survey(scenes(), 8, STREET[:8], background=None), "values_beyond")
    assert message == "labels hold 8, 9, 10, which 8 classes make unlabelled: is dataset.num_classes right?"


def test_masks_that_were_compressed_once(scenes):
    def change(mask):
        noise = np.random.default_rng(int(mask.sum())).integers(0, 90, mask.shape)
        return np.where(noise > 30, mask + noise, scribbled(mask)).astype(np.uint8)

    message = only(survey(scenes(change), 11, STREET, background=None), "values_beyond")
    assert "values beyond the 11 classes" in message and "were these masks once saved as JPEG" in message


def test_jpeg_masks_swapped_columns_and_commas_are_errors(tmp_path):
    mask = street(0)
    Image.fromarray(mask).save(tmp_path / "mask.jpg")
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / "image.png")
    for line, message in (
        ("image.png mask.jpg", "line 1: label .*mask.jpg is a JPEG, whose compression changes class numbers"),
        ("image.png,mask.jpg", "line 1: columns are separated by white space, not by commas"),
    ):
        (tmp_path / "list.txt").write_text(line + "\n")
        with pytest.raises(DataError, match=message):
            survey(read_list(tmp_path / "list.txt", tmp_path), 11, STREET)


def test_classes_that_never_occur(scenes):
    rare = scenes(lambda mask: scribbled(np.where((mask == 6) | (mask == 8), 5, mask)))
    message = only(survey(rare, 11, STREET, background=None), "never_occurs")
    assert message == "no image has a label of 6 (sign), 8 (car): 2 of 11 classes never occur"
    assert survey(rare, 11, STREET, background=None, most=10).warnings == []  # half were read: they may occur elsewhere


def test_one_class_and_none(scenes):
    found = survey(scenes(lambda mask: np.where(scribbled(mask) == 3, 3, 254).astype(np.uint8)), 11, STREET)
    assert "all labelled pixels are 3 (road): nothing is learned from a single class" in found.page()
    found = survey(scenes(lambda mask: np.full_like(mask, 254)), 11, STREET)
    assert codes(found) == ["nothing_labelled"]
    assert found.warnings[0].message == "none of the 20 labels that were read has a pixel of a class: they hold 254"


def test_duplicate_lines(tmp_path):
    for name in "ab":
        Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(scribbled(street(ord(name)))).save(tmp_path / f"{name}_label.png")
    (tmp_path / "list.txt").write_text("a.png a_label.png\nb.png b_label.png\na.png a_label.png\n")
    found = survey(read_list(tmp_path / "list.txt", tmp_path), 11, STREET, background=None)
    duplicate = next(warning for warning in found.warnings if warning.code == "duplicates")
    assert duplicate.message == "1 lines stand twice, such as line 3 (line 1 too): their images count double"


def test_class_0_with_a_name_is_a_note(scenes):
    found = survey(scenes(), 11, STREET)
    assert found.warnings == [] and [note.code for note in found.notes] == ["ordinary_0"]
    assert "note: class 0 (sky) counts as background, which is no tag and no object" in found.page()
    assert "background    0 (sky)" in found.page()


def test_tags_without_labels():
    samples = [Sample(np.zeros((4, 4, 3), np.uint8), name=name) for name in "ab"]
    tags = {"a": np.array([False, True, False]), "b": np.array([False, True, True])}
    found = survey(samples, 3, ("background", "cow", "cat"), tags=tags, losses={"semantic_cooccurrence": 1})
    assert not found.has_labels and np.isnan(found.labelled) and found.seen.tolist() == [0, 2, 1]
    assert only(found, "no_contrast").endswith("all images share cow")
    page = found.page()
    assert "labelled    " not in page and "1 cow" in page
    tags["b"] = np.array([False, False, True])
    assert (
        survey(samples, 3, ("background", "cow", "cat"), tags=tags, losses={"semantic_cooccurrence": 1}).warnings == []
    )
    tags["b"] = tags["a"]
    assert (
        only(survey(samples, 3, tags=tags), "never_occurs")
        == "no image has a label of 2 (class 2): 1 of 3 classes never occur"
    )


def test_a_page_of_many_classes_stays_one():
    label = np.arange(250, dtype=np.uint8).reshape(10, 25)
    found = survey([Sample(np.zeros((10, 25, 3), np.uint8), label)], 250, weak=False, background=None)
    assert found.page().count("\n") < 60 and "and 210 classes with fewer pixels" in found.page()


def test_samples_are_read_evenly(scenes):
    found = survey(scenes(count=9), 11, STREET, most=4)
    assert (found.images, found.read) == (9, 3)
    assert "images        9 (the labels of 3 were read)" in found.page()
