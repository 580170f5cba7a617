"""Settings of an experiment, read strictly."""

from spml.config.load import ConfigError, load_config, save_config

__all__ = ["ConfigError", "load_config", "save_config"]
