"""`python -m spml` is the command `spml`."""

from spml.cli.main import entry

entry()
