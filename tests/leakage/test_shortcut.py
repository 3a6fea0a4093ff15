from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from brain_mri.data.file_features import FEATURES, features_of
from brain_mri.data.image_folder import scan_folder
from brain_mri.errors import DataError
from brain_mri.io.images import read_image
from brain_mri.leakage.shortcut import shortcut_accuracy


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def trivial_features(content: bytes) -> np.ndarray:
    return features_of(read_image(content), content)


def feature(content: bytes, name: str) -> float:
    return float(trivial_features(content)[FEATURES.index(name)])


def noise(seed: int, size: tuple[int, int] = (40, 30), mode: str = "L") -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_features_equal_their_definitions_on_a_picture_worked_out_by_hand() -> None:
    pixels = np.zeros((30, 60), np.uint8)
    pixels[:, 30:] = 100
    found = dict(zip(FEATURES, trivial_features(encode(Image.fromarray(pixels), "PNG")), strict=True))
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    expected = {
        "log width": np.log(60), "log height": np.log(30), "log aspect": np.log(2), "border mean": border.mean(),
        "border deviation": border.std(), "mean": 50, "contrast": 50, "entropy": 1, "black share": 0.5,
        "saturation": 0, "grey mode": 1, "jpeg": 0, "log jpeg quantisation": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) - set(expected) == {"log bytes per pixel"}


def test_saturation_is_the_mean_spread_of_the_colour_channels() -> None:
    image = noise(0, mode="RGB")
    spread = np.ptp(np.asarray(image).astype(int), axis=2).mean()
    assert feature(encode(image, "PNG"), "saturation") == pytest.approx(spread)


def test_stronger_compression_shows_in_quantisation_and_bytes() -> None:
    fine, coarse = (encode(noise(0), "JPEG", quality=q) for q in (95, 30))
    assert feature(coarse, "log jpeg quantisation") > feature(fine, "log jpeg quantisation") > 0
    assert feature(coarse, "log bytes per pixel") < feature(fine, "log bytes per pixel")


def test_a_label_that_follows_the_picture_size_is_given_away() -> None:
    features = np.stack([trivial_features(encode(noise(i, (40 + 20 * (i % 2), 40)), "PNG")) for i in range(40)])
    labels = ["wide" if i % 2 else "square" for i in range(40)]
    result = shortcut_accuracy(features[:20], labels[:20], features[20:], labels[20:])
    assert result["accuracy"] == result["balanced_accuracy"] == 1.0
    assert result["recall"] == {"square": 1.0, "wide": 1.0}
    assert result["chance"] == 0.5
    assert {"log width", "log aspect"} <= set(result["top_features"]["wide"])
    assert result["top_features"]["wide"]["log width"] > 0 > result["top_features"]["square"]["log width"]


def test_labels_that_follow_nothing_are_predicted_at_chance() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(900, len(FEATURES))), rng.choice(["a", "b", "c"], 900).tolist()
    result = shortcut_accuracy(features[:600], labels[:600], features[600:], labels[600:])
    assert result["accuracy"] == pytest.approx(1 / 3, abs=0.09)
    assert (result["n_train"], result["n_test"]) == (600, 300)


def test_one_class_alone_is_a_data_error() -> None:
    features = np.zeros((3, len(FEATURES)))
    with pytest.raises(DataError, match="two classes"):
        shortcut_accuracy(features, ["a"] * 3, features, ["a"] * 3)


@pytest.mark.slow
def test_the_source_alone_names_the_healthy_images_of_the_kaggle_set(real_data: Path) -> None:
    images = scan_folder(real_data / "brain-tumor-mri").images[::4]
    features = np.stack([trivial_features(image.path.read_bytes()) for image in images])
    train = np.array([image.split == "train" for image in images])
    labels = np.array([image.label for image in images])
    result = shortcut_accuracy(features[train], labels[train].tolist(), features[~train], labels[~train].tolist())
    assert result["recall"]["no_tumor"] > 0.95
    assert 0.65 < result["accuracy"] < 0.85
