"""Sorting the frames of a DICOM series into volumes: what is judged together, and what is left out. No torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from brain_mri.io.frames import ATTRIBUTES, LINEAR, MAGNITUDE, Frame
from brain_mri.io.planes import plane_of

_LEAST_IN_PLACE = 0.01  # mm: positions that differ by less are one
_SAME_DIRECTION = 0.03  # of unit vectors
_REPEAT = "repeat"
_TOLD = ATTRIBUTES.index(_REPEAT) + 1  # attributes that are never told by mistake


@dataclass(frozen=True)
class Group:
    """Magnitude frames of one kind, one at each position and in order of it.

    Attributes:
        frames: of each repeat; the first is as long as any.
        told: what tells the group from others of its series, such as "echo 2 of 3"; empty where there is one.
    """

    repeats: tuple[tuple[Frame, ...], ...]
    told: tuple[str, ...]

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The first of the repeats."""
        return self.repeats[0]

    @property
    def plane(self) -> str:
        """The plane of the slices, or the empty string."""
        axes = self.frames[0].axes
        return "" if axes is None else plane_of(np.cross(axes[:3], axes[3:]))


def grouped(frames: Sequence[Frame]) -> tuple[list[Group], Counter[str]]:
    """The groups of a series, and how many frames of which kind were left out, since they are no magnitude pictures."""
    left_out = Counter(frame.kind for frame in frames if frame.kind != MAGNITUDE)
    alike: dict[Any, list[Frame]] = defaultdict(list)
    directions: list[tuple[float, ...]] = []
    for frame in frames:
        if frame.kind == MAGNITUDE:
            alike[_direction(frame, directions), frame.size].append(frame)
    groups = []
    for same in alike.values():
        parts: list[tuple[list[Frame], tuple[str, ...]]] = [(_placed(same), ())]
        for i, what in enumerate(ATTRIBUTES):
            if what != _REPEAT:
                parts = [part for frames, told in parts for part in _told_apart(frames, told, i, what)]
        groups += [Group(_repeats(frames), told) for frames, told in parts]
    return groups, left_out


def _direction(frame: Frame, directions: list[tuple[float, ...]]) -> int:
    """The number of a frame's direction among those seen; nearly equal ones are one."""
    if frame.axes is None:
        return -1
    for i, known in enumerate(directions):
        if max(abs(a - b) for a, b in zip(frame.axes, known, strict=True)) < _SAME_DIRECTION:
            return i
    directions.append(frame.axes)
    return len(directions) - 1


def _placed(frames: list[Frame]) -> list[Frame]:
    """Frames without their positions where all lie at one place and nothing else tells them apart: it is wrong then."""
    places = _places(frames)
    if places is None or len(places) > 1 or len({frame.apart[:_TOLD] for frame in frames}) > 1:
        return frames
    return [replace(frame, position=None) for frame in frames]


def _told_apart(
    frames: list[Frame], told: tuple[str, ...], attribute: int, what: str
) -> list[tuple[list[Frame], tuple[str, ...]]]:
    parts = _split(frames, attribute)
    if len(parts) == 1:
        return [(frames, told)]
    return [(part, (*told, f"{what} {i} of {len(parts)}")) for i, part in enumerate(parts, 1)]


def _split(frames: list[Frame], attribute: int) -> list[list[Frame]]:
    """Frames apart by an attribute, if several lie at one place and it tells them apart."""
    places = _places(frames)
    by_value: dict[Any, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_value[frame.apart[attribute]].append(frame)
    parts = list(by_value.values())
    if len(parts) == 1:
        return parts
    if places is None:  # nothing says where they are: parts of one size are taken for volumes
        whole = len(parts) < len(frames) and len({len(part) for part in parts}) == 1
    else:
        whole = len(places) < len(frames) and max(len(_places(part) or ()) for part in parts) == len(places)
    if not whole:
        return [frames]
    return [by_value[value] for value in sorted(by_value, key=lambda value: (value is not None, _ordered(value)))]


def _ordered(value: Any) -> tuple[Any, ...]:
    """A sort key for values of which some may be missing."""
    if isinstance(value, tuple):
        return tuple(part for one in value for part in _ordered(one))
    return ("", -1.0 if value is None else float(value)) if not isinstance(value, str) else (value, 0.0)


def _places(frames: Sequence[Frame]) -> set[int] | None:
    """The positions, rounded; None where some have none."""
    if any(frame.position is None for frame in frames):
        return None
    return {round((frame.position or 0.0) / _LEAST_IN_PLACE) for frame in frames}


def _repeats(frames: list[Frame]) -> tuple[tuple[Frame, ...], ...]:
    """Frames apart by their repeat, each in order, in the order of time where that is told."""
    parts = [frames]
    for i, what in enumerate(ATTRIBUTES):
        if what == _REPEAT:
            parts = [part for frames in parts for part in _split(frames, i)]
    repeats = [one for part in parts for one in _by_occurrence(in_order(part))]
    return tuple(sorted(repeats, key=len, reverse=True))  # stable: of whole ones the first stays the first


def _by_occurrence(frames: list[Frame]) -> list[tuple[Frame, ...]]:
    """Frames of which several lie at one place: the first of each place, the second of each, and so on."""
    if _places(frames) is None:
        return [tuple(frames)]
    seen: dict[float, count[int]] = defaultdict(count)
    repeats: dict[int, list[Frame]] = defaultdict(list)
    for frame in frames:
        repeats[next(seen[round((frame.position or 0.0) / _LEAST_IN_PLACE)])].append(frame)
    return [tuple(repeats[k]) for k in sorted(repeats)]


def in_order(frames: list[Frame]) -> list[Frame]:
    """Sort by position where all have one, else by number where all have one; equal ones stay in order of name."""
    if all(frame.position is not None for frame in frames):
        return sorted(frames, key=lambda f: (round((f.position or 0.0) / _LEAST_IN_PLACE), f.number or 0))
    if all(frame.number is not None for frame in frames):
        return sorted(frames, key=lambda f: (f.number or 0, f.frame))
    return frames


def window_of(frames: Sequence[Frame]) -> tuple[float, float, str] | None:
    """One window for frames that are judged together: theirs, and where these differ, the middle one of their edges.

    Returns:
        Centre, width and function; None where no frame has a usable window.
    """
    windows = {frame.window for frame in frames if frame.window is not None}
    if len(windows) <= 1:
        return next(iter(windows), None)
    told = [frame.window for frame in frames if frame.window is not None]
    low = float(np.median([centre - width / 2 for centre, width, _ in told]))
    high = float(np.median([centre + width / 2 for centre, width, _ in told]))
    functions = {function for *_, function in told}
    return ((low + high) / 2, max(1.0, high - low), functions.pop() if len(functions) == 1 else LINEAR)
