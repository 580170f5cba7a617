"""Command lines: options in, one call of the project, one line for a mistake."""
