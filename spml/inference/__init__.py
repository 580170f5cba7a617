"""Networks on whole images: views, predictors, memories, and the files that they write."""
