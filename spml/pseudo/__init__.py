"""Pseudo labels for training images, by source."""
