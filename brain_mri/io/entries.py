"""The series of a file or folder, and the rule that takes one of them. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from brain_mri.errors import ImageError
from brain_mri.io.sequences import LOCALIZER, has_agent, is_mask, rank, sequence_of, words_of
from brain_mri.io.slices import Series, SliceImages, Slices
from brain_mri.io.windowing import Bytes

_FEW = 3  # slices: fewer are taken only where nothing else is there


@dataclass(frozen=True)
class Choice:
    """What the user chose to have read.

    Attributes:
        series: the number of a `Series`; None for the rule of `chosen`.
        plane: one of `slices.PLANE_CHOICES`.
    """

    series: int | None = None
    plane: str = "auto"


@dataclass(frozen=True)
class Loaded:
    """The slices of an entry, their names where numbers won't do, and what to say of them."""

    pixels: Sequence[Bytes]
    names: Sequence[str] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """A series, volume or set of pictures that can be read.

    Attributes:
        description: see `Series`, as are `sequence`, `plane` and `slices` (0: not known before it is read).
        agent: whether a contrast agent is told of.
        load: reads it.
        lost: how many of its slices are not read, since another lies at their place.
    """

    description: str
    sequence: str | None
    agent: bool
    plane: str
    slices: int
    load: Callable[[], Loaded] = field(repr=False)
    lost: int = 0

    def listed(self, number: int, chosen: bool) -> Series:
        """How it is listed."""
        sequence = ", ".join([self.sequence or "sequence not known"] * bool(self.sequence or self.agent))
        sequence += ", contrast-enhanced" if self.agent else ""
        return Series(number, self.description, sequence, self.plane, self.slices, chosen)


def named_entry(name: str, plane: str, slices: int, load: Callable[[], Loaded]) -> Entry:
    """The entry of a volume that only its file's name tells of."""
    words = words_of(name.split(".")[0])
    return Entry(name, sequence_of(words), has_agent(words), plane, slices, load)


def _preference(entry: Entry) -> tuple[bool, bool, int, int]:
    """A sort key: contrast-enhanced T1 comes first, then what is nearest to it, then the most slices.

    Localizers come last, and before them what has only a slice or two, such as a picture of a report.
    """
    few = 0 < entry.slices < _FEW
    return entry.sequence == LOCALIZER, few, rank(entry.sequence, entry.agent), -entry.slices


def chosen(entries: Sequence[Entry], choice: Choice, label: str) -> int:
    """The place of the entry that is read: the user's choice, else the first by `_preference`.

    Raises:
        ImageError: there is none of that number.
    """
    if choice.series is None:
        return min(range(len(entries)), key=lambda i: (_preference(entries[i]), i))
    if 1 <= choice.series <= len(entries):
        return choice.series - 1
    listed = "; ".join(str(entry.listed(i, False)) for i, entry in enumerate(entries, 1))
    raise ImageError(f"{label}: has no series {choice.series}; choose one of these: {listed}.", "no_series")


def read_chosen(
    entries: Sequence[Entry],
    choice: Choice,
    kind: str,
    label: str,
    base: str,
    notes: Iterable[str] = (),
    lost: int = 0,
) -> Slices:
    """Read one of the entries.

    Args:
        entries: at least one.
        choice: of the user.
        kind: see `Slices`.
        label: what the file or folder is called in errors.
        base: what it is called as a slice, if there is one only.
        notes: what was left out.
        lost: how many files may be slices, but could not be read.

    Raises:
        ImageError: no such series, or what reading it raises.
    """
    taken = chosen(entries, choice, label)
    loaded = entries[taken].load()
    if not loaded.pixels:
        raise ImageError(f"{label}: holds no slice that can be judged; give a scan.", "no_scan")
    listed = [entry.listed(i, i == taken + 1) for i, entry in enumerate(entries, 1)]
    listed[taken] = replace(listed[taken], slices=len(loaded.pixels))
    said = list(loaded.notes)
    if len(listed) > 1:
        others = "; ".join(str(one) for one in listed if not one.chosen)
        said.append(f"of {len(listed)} series this one is read: {listed[taken]}. Not read: {others}")
    said += notes
    return slices_of(loaded, kind, base, said, listed if len(listed) > 1 else (), lost + entries[taken].lost)


def slices_of(
    loaded: Loaded,
    kind: str,
    base: str,
    notes: Iterable[str] = (),
    series: Sequence[Series] = (),
    lost: int = 0,
) -> Slices:
    """Name the slices of a volume by number, a single slice by its file."""
    count = len(loaded.pixels)
    numbered = [f"slice {i} of {count}" for i in range(1, count + 1)] if count > 1 else [base]
    names = tuple(loaded.names or numbered)
    said, is_volume = tuple(dict.fromkeys(notes)), count > 1 or lost > 0
    return Slices(SliceImages(loaded.pixels), names, is_volume, kind, said, tuple(series), lost)


def without_masks(entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Leave out volumes that are named as segmentations are, unless there is nothing else; and what to say of it."""
    kept = [entry for entry in entries if not is_mask(words_of(entry.description.split(".")[0]))]
    if not kept or len(kept) == len(entries):
        return list(entries), []
    names = ", ".join(entry.description for entry in entries if entry not in kept)
    return kept, [f"left out, since by its name it is a segmentation or a mask: {names}"]
