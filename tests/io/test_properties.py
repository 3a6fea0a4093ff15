"""What holds for any input, tried on many by hypothesis; the same ones each time, so that a run is not luck."""

from __future__ import annotations

import io
from collections import defaultdict
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from support.properties import tried
from torch import nn

from brain_mri.data.splits import hold_out, merge_groups
from brain_mri.errors import DataError, ImageError
from brain_mri.inference.overlay import draw_overlay, enlarge, evidence_region
from brain_mri.io.images import read_image
from brain_mri.labels import LABELS, align_labels, canonical_label
from brain_mri.models.evidence import evidence_maps

# labels

_WORDS = {
    "glioma": "glioma",
    "meningioma": "meningioma",
    "pituitary": "pituitary",
    "no": "no_tumor",
    "healthy": "no_tumor",
    "normal": "no_tumor",
}


@st.composite
def spelled(draw: st.DrawFn, word: str) -> str:
    """A class name as folders write it: with or without "tumour", in any case, anything but letters in between."""
    letters = word + draw(st.sampled_from(["", "tumor", "tumour", "tumors", "tumours"]))
    gaps = st.text(alphabet=" _-.0123456789()\t", max_size=2)
    cased = [draw(st.sampled_from([str.lower, str.upper]))(letter) for letter in letters]
    return draw(gaps) + "".join(letter + draw(gaps) for letter in cased)


@tried(60)
@given(st.data(), st.sampled_from(sorted(_WORDS)))
def test_a_label_is_understood_in_any_spelling(data: st.DataObject, word: str) -> None:
    assert canonical_label(data.draw(spelled(word))) == _WORDS[word]


@tried(30)
@given(st.lists(st.one_of(st.text(max_size=12), *(spelled(word) for word in _WORDS)), min_size=1, max_size=6))
def test_class_names_become_labels_or_stay_and_do_so_once(names: list[str]) -> None:
    try:
        mapping = align_labels(names)
    except DataError:
        meanings = [canonical_label(name) for name in set(names)]
        assert len(set(meanings)) < len(meanings) and None not in meanings
        return
    labels = list(mapping.values())
    assert set(mapping) == set(names) and len(set(labels)) == len(labels)
    if all(label in LABELS for label in labels):
        assert labels == [label for label in LABELS if label in labels]
    else:
        assert all(name == label for name, label in mapping.items())
    assert align_labels(labels) == {label: label for label in labels}


# splits


@st.composite
def patients_and_twins(draw: st.DrawFn) -> tuple[list[int], list[str | None], list[tuple[int, int]]]:
    """Labels, patients and links of near-duplicates of up to 60 images."""
    n = draw(st.integers(4, 60))
    labels = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    patients = draw(st.lists(st.one_of(st.none(), st.sampled_from("ABCDEFGHIJKL")), min_size=n, max_size=n))
    links = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=8))
    return labels, patients, links


def _joined(patients: list[str | None], links: list[tuple[int, int]]) -> list[set[int]]:
    """For each image, all that it is joined with, walked from image to image."""
    beside = defaultdict(set)
    for a, b in links:
        beside[a].add(b)
        beside[b].add(a)
    sets = []
    for start in range(len(patients)):
        seen, waiting = {start}, [start]
        while waiting:
            image = waiting.pop()
            same = {i for i, p in enumerate(patients) if p is not None and p == patients[image]}
            waiting += (new := (same | beside[image]) - seen)
            seen |= new
        sets.append(seen)
    return sets


@tried(40)
@given(patients_and_twins(), st.sampled_from([0.1, 0.15, 0.2, 0.5]), st.integers(0, 9))
def test_no_patient_and_no_cluster_of_twins_is_ever_on_both_sides(
    drawn: tuple[list[int], list[str | None], list[tuple[int, int]]], fraction: float, seed: int
) -> None:
    labels, patients, links = drawn
    groups = merge_groups(patients, [a for a, _ in links], [b for _, b in links])
    joined = _joined(patients, links)
    assert all({i for i in range(len(groups)) if groups[i] == groups[image]} == joined[image] for image in joined[0])
    try:
        kept, held = (set(side.tolist()) for side in hold_out(labels, groups, fraction, seed))
    except DataError as refused:
        fewest = min(len({groups[i] for i, label in enumerate(labels) if label == one}) for one in set(labels))
        assert ("needed to hold one out" in str(refused)) == (fewest < 2)
        return
    assert kept | held == set(range(len(labels))) and not kept & held
    assert all(joined[image] <= held for image in held)
    for side in (kept, held):
        assert {labels[image] for image in side} == set(labels)


@tried(12)
@given(st.data(), st.sampled_from([0.1, 0.15, 0.2, 0.25, 0.5]), st.integers(1, 3), st.integers(0, 9))
def test_each_class_is_held_out_by_its_share_as_exactly_as_its_groups_are_small(
    data: st.DataObject, fraction: float, largest: int, seed: int
) -> None:
    """A split of m / d holds out m of d folds, and folds of one class differ by its largest group at most.

    So single images and 1 / d (a tenth, a fifth, a half) are within one image of the share; in general, where no group
    has two classes and each class has d groups, it is less than m times the largest group.
    """
    sizes = [
        (label, size)
        for label in range(3)
        for size in data.draw(st.lists(st.integers(1, largest), min_size=20, max_size=30))
    ]
    groups = np.repeat(np.arange(len(sizes)), [size for _, size in sizes])
    labels = np.repeat([label for label, _ in sizes], [size for _, size in sizes])
    share = Fraction(fraction).limit_denominator(20)
    held = hold_out(labels, groups, fraction, seed)[1]
    for label in range(3):
        expected = float(share * int((labels == label).sum()))
        assert abs((labels[held] == label).sum() - expected) < share.numerator * largest


# evidence and its drawing

_MAPS = arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-50, 50, width=16))


@tried(30)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 5))
def test_evidence_adds_up_to_the_logits(seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    head, features = nn.Linear(7, 4), torch.randn(2, 7, height, width)
    logits = head(features.mean(dim=(2, 3)))
    torch.testing.assert_close(evidence_maps(features, head).mean(dim=(2, 3)) + head.bias, logits, rtol=1e-4, atol=1e-5)


@tried(30)
@given(_MAPS, st.integers(1, 60), st.integers(1, 60))
def test_an_enlarged_map_stays_in_bounds_and_turns_with_its_slice(
    evidence: np.ndarray, width: int, height: int
) -> None:
    enlarged = enlarge(evidence, width, height)
    assert enlarged.shape == (height, width)
    assert enlarged.min() >= evidence.min() - 1e-3 and enlarged.max() <= evidence.max() + 1e-3
    np.testing.assert_allclose(enlarge(evidence[:, ::-1], width, height), enlarged[:, ::-1], atol=1e-3)
    np.testing.assert_allclose(enlarge(evidence.T, height, width), enlarged.T, atol=1e-3)
    region = evidence_region(enlarged)
    assert not region[enlarged <= 0].any() and region.any() == (enlarged.max() > 0)


@tried(30)
@given(_MAPS, st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK"]), st.integers(3, 60), st.integers(3, 60))
def test_any_map_is_drawn_over_any_slice(evidence: np.ndarray, mode: str, width: int, height: int) -> None:
    slice_ = Image.new(mode, (width, height), 1)
    drawn = draw_overlay(slice_, evidence)
    assert drawn.mode == "RGB" and drawn.size == slice_.size
    if evidence.max() <= 0:
        assert drawn.tobytes() == slice_.convert("RGB").tobytes(), "evidence against a class is not drawn"


# image reading

_SAVED = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"],
    "JPEG": ["L", "RGB", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "GIF": ["1", "L", "P"],
}
_DEEP = {"I;16": np.uint16, "I": np.int32, "F": np.float32}


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Image.Image, str]:
    """Noise in any mode that Pillow can save, and the format to save it in."""
    kind, mode = draw(st.sampled_from([(kind, mode) for kind, modes in _SAVED.items() for mode in modes]))
    height, width = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    if mode in _DEEP:
        values = rng.integers(0, 2**16, (height, width)).astype(_DEEP[mode])
        return Image.fromarray(values), kind
    bands = len(Image.new(mode, (1, 1)).getbands())
    content = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    if mode in ("1", "P"):
        return Image.fromarray(content[..., 0]).convert(mode), kind
    return Image.frombytes(mode, (width, height), content.tobytes()), kind


@tried(80)
@given(pictures())
def test_whatever_pillow_saves_is_read_back_as_rgb_of_its_size(drawn: tuple[Image.Image, str]) -> None:
    picture, kind = drawn
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    read = read_image(buffer.getvalue())
    assert read.mode == "RGB" and read.size == picture.size and not read.info
    if picture.mode in ("1", "L", "RGB") and kind in ("PNG", "TIFF", "BMP"):
        assert read.tobytes() == picture.convert("RGB").tobytes(), "and pixel for pixel where nothing is lost"


_MAGIC = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"GIF89a",
    b"BM",
    b"II*\0\x08\0\0\0",
    b"MM\0*",
    b"RIFF____WEBP",
]
_MAGIC += [b"PK\x03\x04", b"\x1f\x8b\x08", bytes(128) + b"DICM", b"\\\x01\0\0"]


@tried(150)
@given(st.sampled_from(_MAGIC), st.binary(max_size=400))
def test_random_bytes_are_a_picture_or_one_sentence(magic: bytes, content: bytes) -> None:
    try:
        picture = read_image(magic + content)
    except ImageError as error:
        assert str(error).isprintable() and str(error).endswith(".")
    else:
        assert picture.mode == "RGB"
