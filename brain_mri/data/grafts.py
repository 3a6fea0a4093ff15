"""Composited training slices, so that a picture's source does not give its class away.

In the public sets healthy slices and slices with a tumour come from different sources. A network that recognises the
source is right at home and wrong elsewhere. Grafts put every class, and the seam of a graft in every class, into every
source:

- `tumor`: a tumour, cut by its box, in a healthy slice; takes the tumour's class and box;
- `tissue`: tissue of another healthy head in a healthy slice, at the place of some tumour; stays healthy;
- `removal`: the tumour of a slice covered by the same region of the most similar slice whose own tumour lies elsewhere;
  becomes healthy;
- `lesion`: a painted lesion (`lesions`), every other one in a healthy slice, else in a slice whose tumour was covered;
  takes the class glioma.

They are only trained on: donors and hosts are training images, and no graft is ever in a validation or test split, in a
calibration or in the fit of the guard. What a tumour does outside of its region (oedema, a shifted midline) stays in a
`removal` and is missing in a `tumor`. A glioma's oedema reaches far, so gliomas are not removed where other tumours
are known: what is left of one would be called healthy.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, concatenate_datasets

from brain_mri.data.compositing import Box, Grey, Slice, composite, overlap
from brain_mri.data.duplicates import SIDE
from brain_mri.data.lesions import paint
from brain_mri.data.prepare import MappedThumbnails
from brain_mri.data.transforms import pack, unpack
from brain_mri.labels import canonical_label

logger = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]

COLUMNS = ("pixels", "label", "box", "file_name")
_BETWEEN = "//"  # stands in no file name
_PREFIX = f"graft{_BETWEEN}"
_SHARES = {"tumor": 1.0, "tissue": 0.25, "removal": 1.0}  # of what is asked for as grafts
_CANDIDATES = 400  # donors drawn for a host, of which the most similar that fits is taken
_TRIED = 12  # of them
_ALIKE = 0.65  # see `_looks`; what is less alike is mostly of another plane
_MOST_USES = 3  # of one donor, times the uses that are due to it if all are used alike
_HOSTS = 3  # tried for each graft that is wanted
_CACHE_VERSION = 3  # raise it when the same arguments give other grafts
_READ_AT_ONCE = 1000
NO_BOX: Box = (float("nan"),) * 4

_Graft = tuple[int, Grey, int, Box]  # donor, pixels, label, box


def with_grafts(
    train: Dataset,
    label_names: Sequence[str],
    clusters: Ints,
    share: float,
    size: int,
    seed: int,
    lesions: float = 0.0,
) -> Dataset:
    """The training rows and, after them, their grafts; of both only `COLUMNS`.

    Args:
        train: prepared rows, nothing that is held out among them.
        label_names: of the classes; the healthy one is that which means `no_tumor`.
        clusters: a number for each row, the same for near-duplicates: one cluster is one host as likely as another.
        share: `tumor` and `removal` grafts, each as a share of the training rows; `tissue` a quarter of it.
        size: height and width of the pixels.
        seed: the same rows and the same seed give the same grafts.
        lesions: painted ones, as a share of the training rows.
    """
    rows = train.select_columns(list(COLUMNS))
    healthy = next((i for i, name in enumerate(label_names) if canonical_label(name) == "no_tumor"), -1)
    if healthy not in train["label"][:]:
        return _without(rows, f"no class without a tumour ({', '.join(label_names)})")
    if not _boxed(train).any():
        return _without(rows, "no boxes of tumours (boxes.csv)")
    spreading = [i for i, name in enumerate(label_names) if canonical_label(name) == "glioma"]
    if lesions and not spreading:
        logger.warning("no painted lesions: the training images have no class glioma (%s)", ", ".join(label_names))
        lesions = 0.0
    wanted = {kind: round(share * part * len(train)) for kind, part in _SHARES.items()}
    wanted["lesion"] = round(lesions * len(train))
    making = _grafts(_Pool(train, healthy, spreading, clusters, size), wanted, seed)
    first = next(making, None)
    if first is None:
        return _without(rows, "no two slices that are enough alike")
    key = f"{train._fingerprint} {healthy} {list(clusters)} {wanted} {size} {seed} {_CACHE_VERSION}"
    fingerprint = hashlib.sha256(key.encode()).hexdigest()[:32]
    grafts = Dataset.from_generator(lambda: chain([first], making), features=rows.features, fingerprint=fingerprint)
    made = Counter(graft_of(name)[0] for name in grafts["file_name"][:])
    counts = ", ".join(f"{made[kind]:,} {kind} of {n:,}" for kind, n in wanted.items() if n)
    logger.info("grafts, only trained on: %s", counts)
    return concatenate_datasets([rows, grafts])


def _without(rows: Dataset, missing: str) -> Dataset:
    logger.warning("no grafts and no painted lesions: the training images have %s", missing)
    return rows


def is_graft(file_name: str) -> bool:
    """Whether a row of `with_grafts` is a composite."""
    return file_name.startswith(_PREFIX)


def graft_of(file_name: str) -> tuple[str, str, str]:
    """The kind of a composite and the file names of its host and its donor, from its own name."""
    _, kind, host, donor, _ = file_name.split(_BETWEEN)
    return kind, host, donor


def _boxed(rows: Dataset) -> npt.NDArray[np.bool_]:
    return ~np.isnan(np.asarray(rows["box"][:], np.float64).reshape(-1, 4)[:, 0])


def _grafts(pool: _Pool, wanted: dict[str, int], seed: int) -> Iterator[dict[str, Any]]:
    for kind, n in wanted.items():
        yield from pool.grafts(kind, n, np.random.default_rng([seed, *kind.encode()]))


def _looks(rows: Dataset) -> npt.NDArray[np.float32]:
    """What a slice looks like, unit vectors (n, d): their product is the mean of two correlations of thumbnails.

    One is of their brightness; the other, of their edges, does not depend on the kind of contrast.
    """
    thumbnails = MappedThumbnails(rows)
    parts = []
    for start in range(0, len(rows), _READ_AT_ONCE):
        part = thumbnails[start : start + _READ_AT_ONCE].astype(np.float32)
        edges = np.hypot(*np.gradient(part, axis=(1, 2)))
        parts.append(np.hstack([_halved(part), _halved(edges)]) / math.sqrt(2))
    return np.concatenate(parts)


def _halved(thumbnails: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    small = thumbnails.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4)).reshape(len(thumbnails), -1)
    small -= small.mean(axis=1, keepdims=True)
    units: npt.NDArray[np.float32] = small / np.linalg.norm(small, axis=1, keepdims=True).clip(1e-6)
    return units


class _Pool:
    """The training images as hosts and donors."""

    def __init__(self, rows: Dataset, healthy: int, spreading: list[int], clusters: Ints, size: int) -> None:
        self._pixels, self._size, self.healthy = rows.select_columns("pixels"), size, healthy
        self.labels = np.asarray(rows["label"][:])
        self.clusters = clusters
        self.names = rows["file_name"][:]
        self.boxes: list[Box] = [tuple(box) for box in rows["box"][:]]
        self.well = np.flatnonzero(self.labels == healthy)
        self.ill = np.flatnonzero(_boxed(rows) & (self.labels != healthy))
        confined = self.ill[~np.isin(self.labels[self.ill], spreading)]
        self.spreading = spreading
        self.pools = {"tumor": self.ill, "tissue": self.well, "removal": confined if len(confined) else self.ill}
        self._looks = _looks(rows)
        self.slice = lru_cache(maxsize=1000)(self._slice)

    def _slice(self, index: int) -> Slice | None:
        pixels = unpack(self._pixels[index]["pixels"], self._size)
        return Slice.of(pixels[0] if (pixels == pixels[0]).all() else pixels.mean(axis=0).round().astype(np.uint8))

    def grafts(self, kind: str, wanted: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Rows of a kind, as many as wanted or as fit."""
        if kind == "lesion":
            yield from self._lesions(wanted, rng)
            return
        pool = self.pools[kind]
        uses = np.zeros(len(self.labels), np.int64)
        most = math.ceil(_MOST_USES * wanted / len(pool))
        of_class = np.zeros(self.labels.max() + 1, np.int64)
        quota = math.ceil(wanted / len(np.unique(self.labels[pool]))) if kind == "tumor" else wanted
        for host in islice(self._hosts(kind, rng), _HOSTS * wanted):
            if of_class.sum() == wanted:
                return
            donors = pool[(uses[pool] < most) & (self.clusters[pool] != self.clusters[host])]
            if kind == "tumor":
                donors = donors[of_class[self.labels[donors]] < quota]
            found = self._graft(kind, host, donors, rng)
            if found is None:
                continue
            row = self._row(kind, host, found, int(of_class.sum()))
            uses[found[0]] += 1
            of_class[row["label"]] += 1
            yield row

    def _lesions(self, wanted: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
        """Rows with a painted lesion, in a healthy host and in one whose tumour was covered by turns."""
        well, covered, made = self._hosts("lesion", rng), self._hosts("removal", rng), 0
        for turn in range(_HOSTS * wanted):
            if made == wanted:
                return
            host = next(covered if turn % 2 else well)
            donor, target = host, self.slice(host)
            if turn % 2:
                donors = self.pools["removal"]
                found = self._graft("removal", host, donors[self.clusters[donors] != self.clusters[host]], rng)
                donor, target = (found[0], Slice.of(found[1])) if found else (host, None)
            painted = paint(target, rng) if target else None
            if painted is not None:
                yield self._row("lesion", host, (donor, painted[0], self.spreading[0], painted[1]), made)
                made += 1

    def _row(self, kind: str, host: int, graft: _Graft, number: int) -> dict[str, Any]:
        donor, pixels, label, box = graft
        name = _PREFIX + _BETWEEN.join((kind, self.names[host], self.names[donor], str(number)))
        packed = pack(np.broadcast_to(pixels, (3, *pixels.shape)))
        return {"pixels": packed, "label": label, "box": list(box), "file_name": name}

    def _hosts(self, kind: str, rng: np.random.Generator) -> Iterator[int]:
        """Hosts in random order, again and again: slices with a box, or one slice of each healthy cluster."""
        while True:
            if kind == "removal":
                yield from rng.permutation(self.pools[kind]).tolist()
            else:
                shuffled = rng.permutation(self.well)
                _, first = np.unique(self.clusters[shuffled], return_index=True)
                yield from shuffled[rng.permutation(first)].tolist()

    def _graft(self, kind: str, host: int, donors: Ints, rng: np.random.Generator) -> _Graft | None:
        """The host with a region of the most similar donor that fits; None if none does."""
        target = self.slice(host)
        somewhere = self._some_tumor(target, rng) if target and kind == "tissue" else None
        for donor in self._similar(host, donors, rng):
            source = self.slice(donor)
            if target is None or source is None:
                continue
            own = source.carried(self.boxes[donor], target)  # where the donor's tumour would lie, if it has one
            box = {"tumor": own, "tissue": somewhere, "removal": self.boxes[host]}[kind]
            if box is None or (kind == "removal" and overlap(own, box)):
                continue
            pixels = composite(target, source, box)
            if pixels is not None:
                return (
                    (donor, pixels, int(self.labels[donor]), own)
                    if kind == "tumor"
                    else (donor, pixels, self.healthy, NO_BOX)
                )
        return None

    def _some_tumor(self, target: Slice, rng: np.random.Generator) -> Box | None:
        """Where the tumour of a slice drawn at random would lie in the target."""
        index = int(rng.choice(self.ill))
        source = self.slice(index)
        return source.carried(self.boxes[index], target) if source else None

    def _similar(self, host: int, donors: Ints, rng: np.random.Generator) -> list[int]:
        """Of some of the donors, drawn at random, those that look like the host, the most similar first."""
        drawn = rng.choice(donors, min(_CANDIDATES, len(donors)), replace=False)
        alike = self._looks[drawn] @ self._looks[host]
        order = np.argsort(-alike, kind="stable")[:_TRIED]
        most_similar: list[int] = drawn[order[alike[order] >= _ALIKE]].tolist()
        return most_similar
