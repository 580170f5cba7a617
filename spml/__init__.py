"""SPML: weakly supervised semantic segmentation by pixel-to-segment contrastive learning (Ke, Hwang, Yu, ICLR 2021).

The names in PUBLIC and MODULES are imported on first use, so that `import spml` takes no time.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

PUBLIC = {  # name: where it is, and what it is called there
    "load": ("spml.inference.model", "load"),
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
