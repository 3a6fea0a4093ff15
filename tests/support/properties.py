"""How the property tests try their examples."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings


def tried(examples: int) -> Any:
    """So many examples, the same in each run, whatever the machine's speed."""
    return settings(
        derandomize=True, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
