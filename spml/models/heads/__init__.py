"""Heads: feature maps to an embedding or to classes."""
