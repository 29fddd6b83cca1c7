import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kreid.plots import attention_parts, draw_bars, draw_heat, draw_matrix, first_component, heat, heat_limits


def test_heat_rises_in_lightness():
    lightness = heat(np.linspace(0, 1, 50)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()


def test_heat_is_where_the_map_is_largest():
    maps = np.zeros((3, 4, 2))
    maps[1, 3, 0] = 1
    picture = np.asarray(draw_heat(np.full((3, 64, 32, 3), 128, "uint8"), maps, tile=(64, 32)))
    light = picture.astype(int).sum(axis=-1)
    rows, columns = np.nonzero(light == light.max())
    assert (rows >= 56).all()
    assert ((columns >= 32) & (columns < 40)).all()


def test_stripes_are_bands_without_blending():
    stripes = np.zeros((3, 4))
    stripes[1, 3] = 1
    picture = np.asarray(draw_heat(np.full((3, 64, 32, 3), 128, "uint8"), stripes, ("frame", "stripe"), tile=(64, 32)))
    light = picture.astype(int).sum(axis=-1)
    brightest = np.argwhere(light == light.max())
    assert brightest.min(axis=0).tolist() == [48, 32]
    assert brightest.max(axis=0).tolist() == [63, 63]
    assert len(brightest) == 16 * 32


@pytest.mark.parametrize(
    ("maps", "axes", "complaint"),
    [
        (np.zeros((3, 4, 2)), ("frame", "height", "width"), r"each of the 2 frames.*shape \(3, 4, 2\)"),
        (np.zeros((2, 4)), ("frame", "height", "width"), r"one map \(height, width\).*shape \(2, 4\)"),
        (np.zeros((2, 4)), ("frame", "channel"), r"Received: axes=\('frame', 'channel'\)"),
    ],
)
def test_heat_needs_a_map_for_each_frame(maps, axes, complaint):
    with pytest.raises(ValueError, match=complaint):
        draw_heat(np.zeros((2, 8, 4, 3), "uint8"), maps, axes)


def test_a_matrix_has_a_field_for_each_pair():
    picture = np.asarray(draw_matrix([[0.0, 1.0, 0.5]], size=30))
    assert picture.shape == (10, 30, 3)
    np.testing.assert_array_equal(picture[5, [5, 15, 25]], heat([0.0, 1.0, 0.5]))


def test_columns_are_the_frames_of_frames_by_channels():
    matrix = np.zeros((2, 600))
    matrix[1] = 1
    picture = np.asarray(draw_matrix(matrix, ("frame", "channel"), size=200))
    assert picture.shape == (200, 200, 3)
    np.testing.assert_array_equal(picture[:, :100], np.broadcast_to(heat(0.0), (200, 100, 3)))
    np.testing.assert_array_equal(picture[:, 100:], np.broadcast_to(heat(1.0), (200, 100, 3)))


def test_a_longer_matrix_is_averaged():
    matrix = np.zeros((400, 400))
    matrix[::2] = 1
    picture = np.asarray(draw_matrix(matrix, size=200))
    assert picture.shape == (200, 200, 3)
    np.testing.assert_array_equal(picture, np.broadcast_to(heat(0.5), (200, 200, 3)))
    assert draw_matrix(np.zeros((400, 100)), ("height", "width"), size=200).size == (50, 200)


def test_parts_keep_the_values_and_their_places():
    values = np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6)
    parts = attention_parts(values, ("stage", "head", "frame", "height", "width"))
    assert [name for name, _, _ in parts[:2]] == ["stage 1, head 1", "stage 1, head 2"]
    np.testing.assert_array_equal(parts[4][1], values[1, 1])
    [(name, frames, axes)] = attention_parts(np.arange(6).reshape(2, 3), ("clip", "clip_frame"))
    assert (name, frames.tolist(), axes) == ("", [0, 1, 2, 3, 4, 5], ("frame",))
    with pytest.raises(ValueError, match=r"every axis.*axes=\('frame',\), values of shape \(2, 3\)"):
        attention_parts(np.zeros((2, 3)), ("frame",))


def bars(text):
    return [float(bar.get("width")) for bar in ElementTree.fromstring(text).iter("rect")]


def test_bars_of_clips_are_as_wide_as_their_frames():
    text = draw_bars([0.3, 0.3, 0.4], ("clip",), description="d", num_frames=9, clip_frames=4, size=(90, 50))
    np.testing.assert_allclose(bars(text), [38, 38, 8])
    # Padding has no bar, within clips and after them.
    assert len(bars(draw_bars(np.ones((3, 4)), ("clip", "clip_frame"), description="d", num_frames=9))) == 9
    assert len(bars(draw_bars(np.ones(5), ("clip",), description="d", num_frames=9, clip_frames=4))) == 3
    with pytest.raises(ValueError, match=r"one axis\. Received: axes=\('frame', 'frame'\)"):
        draw_bars(np.eye(3), ("frame", "frame"), description="d")


def test_limits_of_weights_over_frames_include_twice_their_mean():
    nearly_equal = np.array([[0.26, 0.24], [0.24, 0.26], [0.25, 0.25], [0.25, 0.25]])
    assert heat_limits(nearly_equal, ("frame", "stripe")) == (0.125, 0.5)
    assert heat_limits([[0.0], [1.0], [0.0]], ("frame", "stripe")) == (0.0, 1.0)
    assert heat_limits([[2.0], [5.0]], ("frame", "stripe")) == (2.0, 5.0)


def test_the_first_component_is_the_direction_of_most_variance():
    rng = np.random.default_rng(0)
    direction = np.array([0.6, 0.0, 0.8])
    along = np.array([0.0, 0.0, 0.0, 5.0, 0.0, -1.0])
    mean = np.array([2.0, 2.0, 1.0])
    features = mean + along[:, None] * direction + 1e-4 * rng.normal(size=(6, 3))
    expected = (along - along.mean()) / np.linalg.norm(features.mean(axis=0))
    np.testing.assert_allclose(first_component(features), expected, atol=1e-3)
    # Features of another scale, and of the opposite sign, are equal.
    np.testing.assert_allclose(first_component(-7 * features), first_component(features), atol=1e-12)
    assert not first_component(np.ones((4, 3))).any()
    assert first_component(np.zeros((1, 3))).tolist() == [0.0]
