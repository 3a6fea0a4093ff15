"""What is said of a model: card, plots, tables. No torch."""
