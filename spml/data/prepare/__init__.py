"""Preparation of PASCAL VOC 2012 and DensePose: the files that one downloads, as the files that training reads."""
