"""Translates keys of released and older files.

The release has four relations. Flat keys in `train:` give the loss type, concentration and weight of each. Such keys
still work in files and as overrides. They start from the released scribble recipe, because such files omit the settings
that they share with it.
"""

from typing import TYPE_CHECKING, Any

from spml.config.kinds import Kind, choice, number, optional
from spml.config.settings import Key

if TYPE_CHECKING:
    from spml.config.losses import Change, Losses

RELATIONS = {  # short name in flat keys: name of the loss
    "sem_ann": "semantic_annotation",
    "sem_occ": "semantic_cooccurrence",
    "img_sim": "image_similarity",
    "feat_aff": "feature_affinity",
}
RECIPE: dict[str, dict[str, float]] = {  # VOC scribbles; the last is off
    "semantic_annotation": {"weight": 1.0, "concentration": 6.0},
    "semantic_cooccurrence": {"weight": 0.5, "concentration": 12.0},
    "image_similarity": {"weight": 0.1, "concentration": 16.0},
    "feature_affinity": {"weight": 0.0, "concentration": 0.0, "threshold": 0.95},
}
_PARTS: dict[str, Kind] = {
    "loss_types": choice("segsort", "none", aliases={None: "none"}),
    "concentration": number(low=0, below=500),
    "loss_weight": number(low=0),
}
FLAT_KEYS = {
    f"train.{short}_{part}": Key(None, kind, f"now losses.{loss}")
    for short, loss in RELATIONS.items()
    for part, kind in _PARTS.items()
}
FLAT_KEYS |= {
    "train.cross_entropy_weight": Key(None, optional(number(low=0)), "now losses.cross_entropy.weight"),
    "train.feat_aff_threshold": Key(0.95, number(low=-1, below=1), "now losses.feature_affinity.threshold"),
    "train.lent_cross_entropy_weight": Key(0.0, number(low=0), "now losses.propagated_cross_entropy.weight"),
}
RENAMED = {"train.second_view_scale": "seam.second_view_scale"}

# Placeholders that the release's scripts left in files: data paths in all of them (they came as options), and settings
# of stage-1 losses in stage-2 files. A placeholder means that the key is not set.
UNFILLED = {
    "dataset.data_dir": "DATA_ROOT",
    "dataset.train_data_list": "TRAIN_DATA_LIST",
    "dataset.test_data_list": "TEST_DATA_LIST",
}
STAGE2_UNFILLED = {
    f"{section}.{name}": name.upper()
    for section, name in (
        ("network", "use_syncbn"),
        ("train", "memory_bank_size"),
        *(("train", f"{short}_{part}") for short in RELATIONS for part in _PARTS),
    )
}


def filled(flat: dict[str, Any]) -> dict[str, Any]:
    """The settings of a file, `section.key` -> value, without placeholders of the release."""
    stage2 = flat.get("network.prediction_types") == "softmax_classifier"
    unfilled = {**UNFILLED, **(STAGE2_UNFILLED if stage2 else {})}
    settings = {name: value for name, value in flat.items() if name not in unfilled or value != unfilled[name]}
    older = any(name in FLAT_KEYS or name in RENAMED for name in settings)
    if older and flat.get("network.prediction_types") in ("cam", "seam") and flat.get("test.scales") in ([1], [1.0]):
        del settings["test.scales"]  # the default of that time, for which CAMs took their own four scales
    return settings


def start(losses: "Losses") -> None:
    """Switch on the released recipe."""
    for loss, settings in RECIPE.items():
        if settings["weight"]:
            losses.settings[loss] |= settings
            losses.on.add(loss)
        else:
            losses.silent.add(loss)
    losses.on.add("cross_entropy")
    losses.follows = True


def apply(losses: "Losses", change: "Change") -> None:
    """Apply a change of a flat key."""
    name, value = change.key.partition(".")[2], change.value
    if name == "cross_entropy_weight":
        losses.on.add("cross_entropy")
        losses.follows = value is None
        if value is not None:
            losses.put("cross_entropy", "weight", change)
    elif name == "lent_cross_entropy_weight":
        losses.put("propagated_cross_entropy", "weight", change)
        threshold = losses.settings["feature_affinity"].get("threshold", RECIPE["feature_affinity"]["threshold"])
        losses.settings["propagated_cross_entropy"].setdefault("threshold", threshold)
        (losses.on.add if value else losses.on.discard)("propagated_cross_entropy")
    elif name == "feat_aff_threshold":
        losses.put("feature_affinity", "threshold", change)
        losses.put("propagated_cross_entropy", "threshold", change)
    else:
        short = next(short for short in RELATIONS if name.startswith(f"{short}_"))
        _relation(losses, RELATIONS[short], name.removeprefix(f"{short}_"), change)


def _relation(losses: "Losses", loss: str, part: str, change: "Change") -> None:
    if part == "concentration":
        losses.put(loss, "concentration", change)
    elif part == "loss_weight":
        losses.put(loss, "weight", change)
        if change.value and loss not in losses.silent:
            losses.on.add(loss)
    elif change.value == "none":
        losses.on.discard(loss)
        losses.silent.add(loss)
    else:
        losses.settings[loss] = {**RECIPE[loss], **losses.settings[loss]}
        losses.on.add(loss)
        losses.silent.discard(loss)
