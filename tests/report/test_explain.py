"""Attentions of single tracklets, their padding cut by the axes that the model declares."""

import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.data import Tracklet
from kreid.report import explain, explain_tracklet
from kreid.report.explain import without_padding

VALUES = np.arange(24.0)


@pytest.mark.parametrize(
    ("shape", "axes", "expected", "expected_axes"),
    [
        ((4,), ("frame",), [0, 1, 2], ("frame",)),
        ((4, 4), ("frame", "frame"), [[0, 1, 2], [4, 5, 6], [8, 9, 10]], ("frame", "frame")),
        ((2,), ("stage",), [0, 1], ("stage",)),
        ((2, 4), ("stage", "frame"), [[0, 1, 2], [4, 5, 6]], ("stage", "frame")),
        ((4, 1, 2), ("frame", "height", "width"), [[[0, 1]], [[2, 3]], [[4, 5]]], ("frame", "height", "width")),
        ((3,), ("clip",), [0, 1], ("clip",)),
        ((3, 2), ("clip", "clip_frame"), [0, 1, 2], ("frame",)),
        ((3, 2, 2), ("clip", "clip_frame", "channel"), [[0, 1], [2, 3], [4, 5]], ("frame", "channel")),
        ((2, 3, 2), ("stage", "clip", "clip_frame"), [[0, 1, 2], [6, 7, 8]], ("stage", "frame")),
    ],
)
def test_padding_is_cut_by_axes(shape, axes, expected, expected_axes):
    values = VALUES[: np.prod(shape)].reshape(shape)
    cut, cut_axes = without_padding(values, axes, length=3, clip_frames=2)
    np.testing.assert_array_equal(cut, expected)
    assert cut_axes == expected_axes


def test_axes_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"part_frames.*axes="):
        without_padding(VALUES, ("clip",), 3)
    with pytest.raises(ValueError, match="must follow 'clip'"):
        without_padding(VALUES[:4].reshape(2, 2), ("frame", "clip_frame"), 2, 2)


@pytest.mark.usefixtures("eagerly")
def test_a_tracklet_explained(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (64, 32, 3), dtype="uint8")).save(tmp_path / f"{number}.png")
    tracklet = Tracklet("a", 1, 0, [str(tmp_path / f"{n}.png") for n in range(5)])
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    model = kreid.models.TACAN(backbone, num_identities=2, embedding_dim=4, clip_length=2)
    explained = explain_tracklet(model, tracklet)
    assert explained.frames.shape == (5, 64, 32, 3)
    assert explained.axes == {"clips": ("clip",), "frames": ("frame",)}
    assert explained.labels["clips"] == "Weight of each clip"
    assert explained.clip_frames == 2
    assert {name: values.shape for name, values in explained.attention.items()} == {"clips": (3,), "frames": (5,)}
    np.testing.assert_allclose(explained.attention["frames"], [0.5, 0.5, 0.5, 0.5, 1.0], rtol=1e-6)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    ("make", "settings"),
    [(kreid.models.TACAN, {"clip_length": 4}), (kreid.models.GLTR, {}), (kreid.models.Baseline, {})],
)
def test_a_long_tracklet_is_explained_part_by_part(tmp_path, monkeypatch, make, settings):
    rng = np.random.default_rng(0)
    for number in range(13):
        Image.fromarray(rng.integers(0, 256, (64, 32, 3), dtype="uint8")).save(tmp_path / f"{number}.png")
    tracklet = Tracklet("a", 1, 0, [str(tmp_path / f"{n}.png") for n in range(13)])
    model = make(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), num_identities=2, **settings)
    whole = explain_tracklet(model, tracklet)
    monkeypatch.setattr(explain, "_FRAMES_AT_ONCE", 5)
    by_parts = explain_tracklet(model, tracklet)
    assert by_parts.axes == whole.axes
    for name, values in whole.attention.items():
        assert by_parts.attention[name].shape == values.shape
        np.testing.assert_allclose(by_parts.attention[name], values, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(by_parts.frames, whole.frames)
