"""A model's records as card, plots and tables. No torch."""
