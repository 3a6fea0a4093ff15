"""A run of train.py: the trainer, its parts, and the steps after the training."""
