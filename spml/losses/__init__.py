"""Losses of the field, one file each."""
