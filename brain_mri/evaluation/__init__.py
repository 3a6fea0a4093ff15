"""A model folder and images become results.json, predictions and plots."""
