"""Data: lists, images and labels, augmentation, annotations from masks, over-segmentations, the built-in data set."""
