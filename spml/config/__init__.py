"""Settings of an experiment, read strictly."""

from spml.config.errors import ConfigError
from spml.config.load import load_config, save_config
from spml.config.shipped import shipped_config

__all__ = ["ConfigError", "load_config", "save_config", "shipped_config"]
