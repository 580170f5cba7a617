"""SPML: weakly supervised semantic segmentation by pixel-to-segment contrastive learning (Ke, Hwang, Yu, ICLR 2021)."""

__version__ = "0.1.0"
