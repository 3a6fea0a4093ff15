from __future__ import annotations

import pytest

from brain_mri.utils.progress import each, show_bars, steps


def test_items_come_in_order_with_a_bar_of_their_phase(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(each("abc", "Guard")) == ["a", "b", "c"]
    assert "Guard: 100%" in (said := capsys.readouterr().err) and "3/3" in said


def test_a_phase_that_takes_longer_than_planned_ends_at_its_true_length(capsys: pytest.CaptureFixture[str]) -> None:
    with steps("Exporting", 2) as step:
        for _ in range(4):
            step()
    assert "Exporting: 100%" in (said := capsys.readouterr().err) and "4/4" in said


def test_bars_can_be_switched_off(capsys: pytest.CaptureFixture[str]) -> None:
    show_bars(False)
    try:
        assert list(each(iter([1, 2]), "Guard", 2)) == [1, 2]
        with steps("Exporting", 1) as step:
            step()
    finally:
        show_bars(True)
    assert capsys.readouterr().err == ""
