"""Several steps in a row, and methods side by side."""
