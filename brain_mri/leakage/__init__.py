"""The audit: what a data set gives away. No torch."""
