"""Networks on whole images: views, predictors, memories, what is written."""
