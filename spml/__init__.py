"""SPML: weakly supervised semantic segmentation by pixel-to-segment contrastive learning (Ke, Hwang, Yu, ICLR 2021).

The names in PUBLIC and MODULES are imported on first use, so that `import spml` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see
    from spml.config import load_config as load_config
    from spml.data.oversegment import oversegment as oversegment
    from spml.data.samples import Sample as Sample
    from spml.engine.run import train as train
    from spml.evaluation import evaluate_folder as evaluate  # noqa: F401
    from spml.inference.loading import load as load
    from spml.inference.model import Model as Model
    from spml.inference.prediction import Prediction as Prediction
    from spml.pipelines.compare import compare as compare

__version__ = "0.1.0"

PUBLIC = {  # name: where it is, and what it is called there
    "load": ("spml.inference.loading", "load"),
    "Model": ("spml.inference.model", "Model"),
    "Prediction": ("spml.inference.prediction", "Prediction"),
    "Spreader": ("spml.inference.spread", "Spreader"),
    "train": ("spml.engine.run", "train"),
    "Sample": ("spml.data.samples", "Sample"),
    "oversegment": ("spml.data.oversegment", "oversegment"),
    "evaluate": ("spml.evaluation", "evaluate_folder"),
    "compare": ("spml.pipelines.compare", "compare"),
    "load_config": ("spml.config", "load_config"),
}
MODULES = ("config", "data", "evaluation", "grouping", "losses", "models", "propagate", "pseudo", "tasks")


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return importlib.import_module(f"spml.{name}")
    if name not in PUBLIC:
        raise AttributeError(f"module 'spml' has no attribute {name!r}")
    module, attribute = PUBLIC[name]
    found = getattr(importlib.import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC, *MODULES])
