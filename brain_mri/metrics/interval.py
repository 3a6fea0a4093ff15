"""A figure with its interval, and the way to write it."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Interval(TypedDict):
    """A figure of the JSON records; without ends if there was nothing to resample."""

    value: float
    low: NotRequired[float]
    high: NotRequired[float]


def show(figure: Interval, spec: str = ".4f", unit: str = "") -> str:
    """`value (low to high)`: `0.9876 (0.9811 to 0.9920)`, or with the format `.2%` `98.76% (98.11 to 99.20)`."""
    ends = [f"{figure[end]:{spec}}".rstrip("%") for end in ("low", "high") if end in figure]
    return f"{figure['value']:{spec}}{unit}" + (f" ({' to '.join(ends)})" if ends else "")
