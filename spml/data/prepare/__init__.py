"""Preparation of PASCAL VOC 2012 and DensePose: converts the downloaded files to the files that training reads."""
