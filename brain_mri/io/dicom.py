"""Reading DICOM: stored values, windowed to 8-bit grey as a reader would see them. No torch.

pydicom is imported inside the functions, so that reading a JPEG costs none of its time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from brain_mri.io.dicom_parsing import MODALITY_TAGS, VIEW_TAGS
from brain_mri.io.frames import GROUP_TAGS
from brain_mri.io.mosaic import Tile
from brain_mri.io.untrusted import parsing
from brain_mri.io.windowing import Array, Bytes, in_blocks, percentile_window, sampled

if TYPE_CHECKING:
    from pydicom import Dataset

View = Callable[[Array], Array]  # from true values to 0..255
Shot = tuple[int, int, Tile | None]  # a file, a frame in it, and a part of that

_FRAMES_LOOKED_AT = 16  # for a window, if none is stored
# pydicom would take GDCM first, which ends the whole process on some broken files. It is left what nobody else reads:
# lossless JPEG and JPEG-LS.
_BASELINE, _EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_DECODERS = {_BASELINE: ("pillow",), _EXTENDED: ("pylibjpeg", "pillow")}
_DECODERS |= dict.fromkeys(_JPEG2000, ("pylibjpeg", "pillow"))


class Volume:
    """The slices of one or several DICOM files that are shown in one window.

    Attributes:
        files: for each file, its name in errors, and a function that parses it; one file at a time is in memory.
        order: for each slice, its file, its frame in it, and which part of that, None for all.
        window: centre, width and function; None for the 1st to the 99th percentile. A lookup table that is stored for
            the middle slice comes before it.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Callable[[], Dataset]]],
        order: Sequence[Shot],
        window: tuple[float, float, str] | None = None,
    ) -> None:
        self.files, self.order, self.window = files, order, window

    def slices(self) -> list[Bytes]:
        """Decode all slices, uint8 of shape (rows, columns), or (rows, columns, 3) in colour."""
        view = self._lookup_view() or (_window_view(*self.window) if self.window else self._percentile_view())
        return list(self._each(self.order, lambda stored, frame, dataset: _shown(stored, frame, dataset, view)))

    def _each(self, order: Sequence[Shot], use: Callable[[Array, int, Dataset], Array]) -> Iterator[Array]:
        """Decode slices and yield the result of `use` for each, from its stored values, its frame and its file."""
        for file, shots in groupby(order, key=lambda shot: shot[0]):
            label, opened = self.files[file]
            with parsing(label, "DICOM file"):
                dataset = opened()
                wanted = [(frame, [tile for _, _, tile in same]) for frame, same in groupby(shots, key=lambda s: s[1])]
                stored = _stored(dataset, [frame for frame, _ in wanted])
                for (frame, tiles), values in zip(wanted, stored, strict=True):
                    for tile in tiles:
                        yield use(values if tile is None else tile.of(values), frame, dataset)

    def _lookup_view(self) -> View | None:
        file, frame, _ = self.order[(len(self.order) - 1) // 2]
        label, opened = self.files[file]
        with parsing(label, "DICOM file"):
            rules = _rules(opened(), frame)
            return _lookup_view(rules) if rules.get("VOILUTSequence") else None

    def _percentile_view(self) -> View:
        places = sorted({round(i) for i in np.linspace(0, len(self.order) - 1, _FRAMES_LOOKED_AT)})
        low, high = percentile_window(self._each([self.order[place] for place in places], _some_values))
        scale = 255.0 / (high - low) if high > low else 0.0
        return lambda values: (np.asarray(values, np.float64) - low) * scale


def _some_values(stored: Array, frame: int, dataset: Dataset) -> Array:
    """At most a quarter of a million true values of a slice, none if it is in colour."""
    from pydicom.pixels.processing import apply_modality_lut

    step = max(1, round(math.sqrt(stored.size / 2**18)))
    if stored.ndim == 3:
        return np.zeros(0)
    return sampled(apply_modality_lut(stored[::step, ::step], _rules(dataset, frame)))


def _stored(dataset: Dataset, frames: list[int]) -> Iterator[Array]:
    """Decode frames one by one: shape (rows, columns), or (rows, columns, 3) in RGB."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import iter_pixels

    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    for array in iter_pixels(dataset, indices=frames, decoding_plugin=_decoder(dataset)):
        yield apply_color_lut(array, dataset) if palette else array


def _decoder(dataset: Dataset) -> str:
    """The plugin of pydicom that decodes a file; empty for pydicom's own choice."""
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    wanted = _DECODERS.get(str(syntax), ())
    return next((one for one in wanted if one in get_decoder(syntax).available_plugins), "")


def _shown(stored: Array, frame: int, dataset: Dataset, view: View) -> Bytes:
    if stored.ndim == 3:
        return _eight_bit(stored, dataset)
    from pydicom.pixels.processing import apply_modality_lut

    rules = _rules(dataset, frame)
    grey = in_blocks(stored, lambda block: view(apply_modality_lut(block, rules)))
    return np.invert(grey) if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def _eight_bit(colours: Array, dataset: Dataset) -> Bytes:
    """Shift RGB values of more bits to 8; the entries of a palette use all bits of their type."""
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = colours.dtype.itemsize * 8 if palette else int(dataset.BitsStored)
    return np.asarray(colours >> max(0, bits - 8), np.uint8)


def _rules(dataset: Dataset, frame: int) -> Dataset:
    """The elements that turn the stored values of a frame into grey."""
    from pydicom import Dataset

    rules = Dataset()
    sources = [dataset]
    for groups, index in zip(GROUP_TAGS, (0, frame), strict=True):
        for group in (dataset.get(groups) or [])[index : index + 1]:
            for sequence in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
                sources += (group.get(sequence) or [])[:1]
    for source in sources:
        for keyword in (*MODALITY_TAGS, *VIEW_TAGS):
            if keyword in source:
                rules[keyword] = source[keyword]
    rules.file_meta = dataset.file_meta
    return rules


def _window_view(centre: float, width: float, function: str) -> View:
    """A window as a function from true values to 0..255."""
    from pydicom import Dataset
    from pydicom.pixels.processing import apply_windowing

    view = Dataset()  # of an 8-bit picture, so that pydicom's output runs from 0 to 255
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 8, 0
    view.WindowCenter, view.WindowWidth = f"{centre:.10g}", f"{width:.10g}"  # at most 16 characters
    view.VOILUTFunction = function
    return lambda values: apply_windowing(values, view)


def _lookup_view(rules: Dataset) -> View:
    from pydicom.pixels.processing import apply_voi

    entries, first, bits = (int(value) for value in rules.VOILUTSequence[0].LUTDescriptor)
    last = first + (entries or 2**16) - 1
    return lambda values: (
        apply_voi(np.clip(np.rint(values), first, last).astype(np.int64), rules) * (255 / (2**bits - 1))
    )
