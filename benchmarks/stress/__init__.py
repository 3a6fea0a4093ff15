"""Kills, fuzzing and load: what holds when much goes wrong at once."""
