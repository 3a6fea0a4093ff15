"""Patient-wise cross-validation: folds, one run for each, and their summary."""
