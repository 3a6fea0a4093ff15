"""Synthetic heads for tests and the quickstart. No torch."""
