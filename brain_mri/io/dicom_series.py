"""DICOM files sorted into series and volumes by their headers; pixels are decoded when one is chosen. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from brain_mri.errors import ImageError, NotMRIError
from brain_mri.io.dicom import Shot, Volume
from brain_mri.io.dicom_header import Header, agent_of, may_be_slice, names_of, read_header
from brain_mri.io.dicom_parsing import count_frames, parse_with_pixels
from brain_mri.io.entries import Choice, Entry, Loaded
from brain_mri.io.frames import Frame, frames_of, number
from brain_mri.io.groups import Group, grouped, window_of
from brain_mri.io.images import several
from brain_mri.io.planes import NORMALS, Grid, cut, is_thick
from brain_mri.io.sequences import T1, described, has_agent, sequence_by_times, sequence_of, words_of
from brain_mri.io.slices import PLANES
from brain_mri.io.untrusted import MAX_DICOM_BYTES, check_size, parsing, read_all
from brain_mri.io.windowing import Bytes

if TYPE_CHECKING:
    from pydicom import Dataset

_UNEVEN = 0.1  # of the distance between slices: less even ones are not cut anew
_LEAST_CUT = 8  # slices

Opener = Callable[[], "Dataset"]


def middle_slice(file: BinaryIO, label: str, single: bool) -> Bytes:
    """Read the (lower) middle slice of a DICOM file: uint8 of shape (rows, columns) or (rows, columns, 3).

    Raises:
        ImageError: no pixel data, no MR of a head by its header, damaged, beyond the limits, compressed in a way that
            no plugin decodes, or, where a `single` slice is asked for, of several slices.
    """
    dataset, _ = parse_with_pixels(read_all(file, MAX_DICOM_BYTES, label), label)
    files = DicomFiles()
    files.add(dataset, True, label, lambda: dataset)
    middle, count = files.middle(label)
    if single and count > 1:
        raise several(label, f"{count} slices")
    return middle


@dataclass
class _Series:
    """What the headers of a series' files say."""

    order: tuple[float, int]
    names: str
    agent: str
    told: str
    sequence: str | None
    headers: list[Header] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)


class DicomFiles:
    """The DICOM files of an upload.

    Attributes:
        files: of those with pixels that may be MR of a head, the name in errors and a function that parses it whole.
        foreign: what the others are by their headers, and how many.
        passed_over: how many have no picture: reports, raw data, indexes.
        lost: how many may be slices of a head, but have no pixels that can be read, such as those that are cut off.
    """

    def __init__(self) -> None:
        self.files: list[tuple[str, Opener]] = []
        self.foreign: Counter[str] = Counter()
        self.passed_over = self.lost = 0
        self._series: dict[str, _Series] = {}
        self._left_out: Counter[str] = Counter()

    def add(self, dataset: Dataset, has_pixels: bool, label: str, opened: Opener) -> None:
        """Add a file by its header.

        Raises:
            ImageError: its elements are damaged, or claim more than the limits allow.
        """
        count = count_frames(dataset, label) if has_pixels else 0
        if not count:
            is_lost = may_be_slice(dataset, label)
            self.lost += is_lost
            self.passed_over += not is_lost
            return
        header = read_header(dataset, label)
        if header.foreign is not None:
            self.foreign[header.foreign] += 1
            return
        with parsing(label, "DICOM file"):
            series = self._series_of(dataset)
            series.headers.append(header)
            series.frames += frames_of(dataset, len(self.files), count)
        self.files.append((label, opened))

    def _series_of(self, dataset: Dataset) -> _Series:
        key = str(dataset.get("SeriesInstanceUID", ""))
        if key not in self._series:
            place = number(dataset.get("SeriesNumber"))
            names = names_of(dataset)
            self._series[key] = _Series(
                order=(float("inf") if place is None else place, len(self._series)),
                names=names,
                agent=agent_of(dataset),
                told=described(_description(dataset)),
                sequence=sequence_of(names) or _measured(dataset),
            )
        return self._series[key]

    def entries(self, choice: Choice, label: str) -> list[Entry]:
        """The volumes of all series, by the numbers of the series; none where none may be judged, see `problem`."""
        entries: list[Entry] = []
        self._left_out = Counter()
        for series in sorted(self._series.values(), key=lambda series: series.order):
            groups, left_out = grouped(series.frames)
            self._left_out += left_out
            entries += [self._entry(series, group, choice, label) for group in groups]
        return entries

    def problem(self, label: str) -> ImageError | None:
        """Why there are no entries, where there are pictures; call after `entries`."""
        if self._left_out:
            told = _told(self._left_out)
            return ImageError(
                f"{label}: holds no magnitude picture of a slice, which alone are judged, but only: {told}; "
                "give those.",
                "no_scan",
            )
        if self.foreign:
            counted = _told(self.foreign, " in {n} file{s}")
            return NotMRIError(f"{label}: holds {counted}, but no MR of a head by the headers; give that.")
        return None

    def notes(self) -> list[str]:
        """What was left out, a sentence each without its full stop; call after `entries`."""
        notes = []
        if self._left_out:
            notes.append(f"left out, since only magnitude pictures are judged: {_told(self._left_out)}")
        if self.foreign:
            notes.append(
                f"left out, since by the headers it is no MR of a head: {_told(self.foreign, ' in {n} file{s}')}"
            )
        if self.passed_over:
            several = "s" if self.passed_over > 1 else ""
            notes.append(
                f"passed over: {self.passed_over} DICOM file{several} without a picture (a report, raw data, an index)"
            )
        return notes

    def _entry(self, series: _Series, group: Group, choice: Choice, label: str) -> Entry:
        agent = has_agent(series.names, series.agent)
        frames, notes, lost = _repeat(group, agent and series.sequence == T1)
        if frames[0].tile is not None:
            notes = ["the slices are cut from a Siemens mosaic, in the order of its tiles", *notes]
        notes = [*(note for header in series.headers for note in header.notes), *notes]
        description = ", ".join([one for one in (series.told, *group.told) if one])
        return Entry(
            description=description,
            sequence=series.sequence,
            agent=agent,
            plane=group.plane,
            slices=len(frames),
            load=lambda: self._load(frames, group.plane, notes, choice, label),
            lost=lost,
        )

    def _load(self, frames: Sequence[Frame], plane: str, notes: list[str], choice: Choice, label: str) -> Loaded:
        for frame in frames:
            check_size(*frame.size, label, len(frames))
        pixels = _without_empty(frames, self._decoded(frames))
        return _planes(frames, pixels, plane, notes, choice, label)

    def _decoded(self, frames: Sequence[Frame]) -> list[Bytes]:
        """The frames in their order; each file is opened once, whatever that order is."""
        stored = sorted(range(len(frames)), key=lambda i: (frames[i].file, frames[i].frame))
        shots: list[Shot] = [(frames[i].file, frames[i].frame, frames[i].tile) for i in stored]
        decoded = Volume(self.files, shots, window_of(frames)).slices()
        return [grey for _, grey in sorted(zip(stored, decoded, strict=True), key=lambda pair: pair[0])]

    def middle(self, label: str) -> tuple[Bytes, int]:
        """The (lower) middle slice of the largest volume, and how many slices there are in all.

        Raises:
            ImageError: as `entries`, or it can't be decoded.
        """
        if not self.entries(Choice(), label) and (problem := self.problem(label)):
            raise problem
        groups = [group for series in self._series.values() for group in grouped(series.frames)[0]]
        frames = max(groups, key=lambda group: len(group.frames)).frames
        middle = frames[(len(frames) - 1) // 2]
        count = sum(len(repeat) for group in groups for repeat in group.repeats)
        return self._decoded([middle])[0], count


def _told(counts: Counter[str], form: str = " ({n})") -> str:
    """`{"phase": 3}` as "phase (3)", the most frequent first."""
    return ", ".join(what + form.format(n=n, s="s" if n > 1 else "") for what, n in counts.most_common())


def _description(dataset: Dataset) -> str:
    return words_of(str(dataset.get("SeriesDescription") or dataset.get("ProtocolName") or "")[:256])


def _measured(dataset: Dataset) -> str | None:
    """The sequence by its times."""
    found = {}
    for frame in dataset.get("SharedFunctionalGroupsSequence") or []:
        for sequence, keyword in (
            ("MRTimingAndRelatedParametersSequence", "RepetitionTime"),
            ("MREchoSequence", "EffectiveEchoTime"),
        ):
            for item in (frame.get(sequence) or [])[:1]:
                found[keyword] = number(item.get(keyword))
    echo = found.get("EffectiveEchoTime")
    repetition = found.get("RepetitionTime")
    return sequence_by_times(
        words_of(str(dataset.get("ScanningSequence") or "")).split(),
        str(dataset.get("SequenceName") or ""),
        number(dataset.get("RepetitionTime")) if repetition is None else repetition,
        number(dataset.get("EchoTime")) if echo is None else echo,
        number(dataset.get("InversionTime")),
    )


def _repeat(group: Group, last: bool) -> tuple[tuple[Frame, ...], list[str], int]:
    """The repeat that is judged: the first whole one; the last where a contrast agent comes in the course of them.

    Returns:
        Its frames, what to say of it, and how many slices the incomplete repeats have: these are lost.
    """
    count = len(group.repeats)
    if count == 1:
        return group.frames, [], 0
    whole = [repeat for repeat in group.repeats if len(repeat) == len(group.frames)]
    lost = sum(map(len, group.repeats)) - len(whole) * len(group.frames)
    which = "last, when the contrast agent is there," if last else "first"
    notes = [f"of {count} repeats the {which if len(whole) > 1 else 'only whole one'} is read"]
    if lost:
        several = "slices at places that are" if lost > 1 else "slice at a place that is"
        notes.append(f"not read: {lost} {several} taken, of incomplete repeats")
    return whole[-1 if last else 0], notes, lost


def _without_empty(frames: Sequence[Frame], pixels: list[Bytes]) -> list[Bytes]:
    """Leave out the empty tiles at the end of a mosaic whose number of slices is not told."""
    if not all(frame.tile is not None and frame.tile.may_be_empty for frame in frames):
        return pixels
    while len(pixels) > 1 and np.ptp(pixels[-1]) == 0:
        pixels = pixels[:-1]
    return pixels


def _planes(
    frames: Sequence[Frame], pixels: list[Bytes], acquired: str, notes: list[str], choice: Choice, label: str
) -> Loaded:
    """The slices as they were acquired, and in other planes where voxels are nearly cubes or the user asks for them."""
    if choice.plane in ("auto", acquired) and (len(pixels) < _LEAST_CUT or choice.plane == acquired):
        return Loaded(pixels, (), notes)
    grid = _grid(frames, pixels)
    if grid is None:
        if choice.plane in PLANES and choice.plane != acquired:
            raise ImageError(f"{label}: its slices can't be cut in another plane; leave out --plane.", "variant")
        return Loaded(pixels, (), notes)
    if choice.plane == "auto" and is_thick(grid.spacing):
        return Loaded(pixels, (), notes)
    found = cut(grid, choice.plane, label)
    shown: list[Bytes] = []
    for plane, part in _by_plane(found.planes, found.pixels, grid):
        shown += pixels if plane == acquired else part  # the acquired ones as they came
    return Loaded(shown, found.names, [*notes, *found.notes])


def _by_plane(planes: Sequence[str], pixels: list[Bytes], grid: Grid) -> list[tuple[str, list[Bytes]]]:
    volume, _ = grid.anatomical()
    parts, start = [], 0
    for plane in planes:
        end = start + volume.shape[NORMALS[plane]]
        parts.append((plane, pixels[start:end]))
        start = end
    return parts


def _grid(frames: Sequence[Frame], pixels: list[Bytes]) -> Grid | None:
    """The volume that evenly spaced grey slices make; None of any others."""
    from brain_mri.io.nifti import anatomy

    first = frames[0]
    positions = [frame.position for frame in frames if frame.position is not None]
    same = {(frame.spacing, frame.size) for frame in frames}
    shapes = {grey.shape for grey in pixels}
    if first.axes is None or first.spacing is None or len(positions) < max(len(frames), 2):
        return None
    if len(same) > 1 or len(shapes) > 1 or pixels[0].ndim != 2 or len(pixels) != len(frames):
        return None
    gaps = np.diff(positions)
    gap = float(np.median(gaps))
    if gap <= 0 or np.ptp(gaps) > _UNEVEN * gap:
        return None
    columns, rows = np.array(first.axes[:3]), np.array(first.axes[3:])
    affine: Any = np.eye(4)
    affine[:3, :3] = np.stack([np.cross(columns, rows), rows, columns], axis=1)
    affine[:2] *= -1  # DICOM counts to the left and the back
    return Grid(np.stack(pixels), anatomy(affine), (gap, *first.spacing))
