"""Changes of colour against one pixel at a time in plain Python, and their draws."""

import colorsys

import numpy as np
import pytest
import tensorflow as tf

from kreid.data.colour import draw_jitter, jitter

NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
ALL = {"brightness": 0.4, "contrast": 0.5, "saturation": 0.6, "hue": 0.2}


def clip(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)


def grey(values):
    return values @ np.array([0.299, 0.587, 0.114])


def expected(frames, numbers):
    brightness, contrast, saturation, turn = numbers / 65536
    values = np.clip(frames.astype(float) * brightness, 0, 255)
    mean = grey(np.rint(values)).mean()
    values = np.clip(mean + contrast * (values - mean), 0, 255)
    pixels = values.reshape(-1, 3)
    for pixel in pixels:
        own = grey(pixel)
        pixel[:] = np.clip(own + saturation * (pixel - own), 0, 255)
        hue, chroma, value = colorsys.rgb_to_hsv(*pixel)
        pixel[:] = colorsys.hsv_to_rgb((hue + turn) % 1.0, chroma, value)
    return pixels.reshape(frames.shape)


@pytest.mark.parametrize("numbers", [(1.3, 1.0, 1.0, 0.0), (0.7, 0.5, 1.5, 0.2), (1.4, 1.5, 0.4, -0.15), (1, 0, 1, 0)])
def test_all_frames_change_as_the_numbers_say(numbers):
    numbers = np.rint(np.array(numbers) * 65536).astype("int32")
    found = jitter(tf.constant(clip()), tf.constant(numbers), ALL).numpy()
    # In float32 a value may fall to the other side of a half.
    assert np.abs(found - expected(clip(), numbers)).max() < 0.5 + 1e-3


@pytest.mark.parametrize("name", list(NONE))
def test_what_is_off_changes_nothing(name):
    numbers = draw_jitter(1, {**NONE, name: 0.5}, np.random.default_rng(3))[0]
    neutral = np.array([65536, 65536, 65536, 0])
    assert (numbers != neutral).tolist() == [other == name for other in NONE]
    found = jitter(tf.constant(clip()), tf.constant(numbers), {**NONE, name: 0.5}).numpy()
    assert (found != clip()).mean() > 0.3
    assert np.abs(found - expected(clip(), numbers)).max() < 0.5 + 1e-3


def test_ranges_of_the_draws():
    ranges = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.1, "hue": 0.5}
    drawn = draw_jitter(4_000, ranges, np.random.default_rng(0)) / 65536
    for column, (low, high) in zip(drawn.T, [(0.6, 1.4), (0.0, 2.5), (0.9, 1.1), (-0.5, 0.5)], strict=True):
        assert low - 1e-5 < column.min() < low + 0.01
        assert high - 0.01 < column.max() < high + 1e-5
    # Factors below 0 are 0: a third of a range of 1.5.
    assert abs((drawn[:, 1] == 0).mean() - 1 / 6) < 0.03
