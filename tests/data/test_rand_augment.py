"""The operations of RandAugment against plain NumPy, and their draws."""

import math

import numpy as np
import pytest
import tensorflow as tf

from kreid.data.rand_augment import OPERATIONS, draw_operations, rand_augment

HEIGHT, WIDTH = 12, 8


def clip():
    """Frames with many values, but not all from 0 to 255, so that contrast can grow."""
    return np.random.default_rng(0).integers(30, 200, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)


def grey(values):
    return values @ np.array([0.299, 0.587, 0.114])


def blended(base, frames, factor):
    return np.clip(base + factor * (frames - base), 0, 255)


def smooth(frames):
    values = frames.astype(float)
    for row in range(1, HEIGHT - 1):
        for column in range(1, WIDTH - 1):
            around = frames[:, row - 1 : row + 2, column - 1 : column + 2].sum(axis=(1, 2), dtype=float)
            values[:, row, column] = (around + 4.0 * frames[:, row, column]) / 13
    return values


def auto_contrast(frames):
    low, high = frames.min(axis=(0, 1, 2)).astype(float), frames.max(axis=(0, 1, 2)).astype(float)
    return (frames - low) * 255 / (high - low)


def equalize(frames):
    """A value becomes the share of the pixels below it, in the steps of PIL's equalisation."""
    result = np.zeros_like(frames)
    for channel in range(3):
        values = frames[..., channel]
        step = (values.size - (values == values.max()).sum()) // 255
        for value in np.unique(values):
            result[..., channel][values == value] = min(255, ((values < value).sum() + step // 2) // step)
    return result


def moved(frames, source):
    """Reads each pixel where `source(x, y)` says, from the centre, between pixels linearly, black outside."""
    result = np.zeros(frames.shape)
    centre_x, centre_y = (WIDTH - 1) / 2, (HEIGHT - 1) / 2
    for row in range(HEIGHT):
        for column in range(WIDTH):
            x, y = source(column - centre_x, row - centre_y)
            x, y = x + centre_x, y + centre_y
            left, top = math.floor(x), math.floor(y)
            for near_y, near_x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= near_y < HEIGHT and 0 <= near_x < WIDTH:
                    weight = (1 - abs(x - near_x)) * (1 - abs(y - near_y))
                    result[:, row, column] += weight * frames[:, near_y, near_x]
    return result


def expected(name, frames, sign, share):
    angle, factor = sign * share * math.radians(30), 1 + sign * share * 0.9
    mean = grey(frames.astype(float)).mean()
    return {
        "identity": lambda: frames,
        "auto_contrast": lambda: auto_contrast(frames),
        "equalize": lambda: equalize(frames),
        "rotate": lambda: moved(
            frames,
            lambda x, y: (math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y),
        ),
        "solarize": lambda: np.where(frames >= 256 * (1 - share), 255 - frames, frames),
        "colour": lambda: blended(grey(frames)[..., None], frames, factor),
        "posterize": lambda: frames // 2 ** round(4 * share) * 2 ** round(4 * share),
        "contrast": lambda: blended(mean, frames, factor),
        "brightness": lambda: np.clip(frames * factor, 0, 255),
        "sharpness": lambda: blended(smooth(frames), frames, factor),
        "shear_x": lambda: moved(frames, lambda x, y: (x + 0.3 * sign * share * y, y)),
        "shear_y": lambda: moved(frames, lambda x, y: (x, y + 0.3 * sign * share * x)),
        "translate_x": lambda: moved(frames, lambda x, y: (x + 0.45 * sign * share * WIDTH, y)),
        "translate_y": lambda: moved(frames, lambda x, y: (x, y + 0.45 * sign * share * HEIGHT)),
    }[name]()


@pytest.fixture(scope="module")
def apply():
    """One graph for all operations, as the pipeline has it."""

    def run(frames, numbers, magnitude):
        key = (len(numbers), magnitude)
        if key not in graphs:
            graphs[key] = tf.function(lambda frames, numbers: rand_augment(frames, numbers, magnitude))
        return graphs[key](tf.constant(frames), tf.constant(numbers, tf.int32)).numpy()

    graphs = {}
    return run


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_every_operation(name, sign, apply):
    row = list(OPERATIONS).index(name)
    found = apply(clip(), [row, sign], 21.0)
    wanted = expected(name, clip(), sign, 0.7)
    # In float32 a value may fall to the other side of a half.
    assert np.abs(found - wanted).max() < 0.5 + 2e-3
    assert (found != clip()).any() == (name != "identity")


def test_operations_follow_each_other(apply):
    names = list(OPERATIONS)
    first, second = names.index("solarize"), names.index("posterize")
    found = apply(clip(), [first, 1, second, -1], 21.0)
    np.testing.assert_array_equal(found, expected("posterize", expected("solarize", clip(), 1, 0.7), -1, 0.7))


def test_a_clip_of_one_value_stays(apply):
    plain = np.full((3, HEIGHT, WIDTH, 3), 77, "uint8")
    for name in ("auto_contrast", "equalize", "contrast", "colour", "sharpness"):
        np.testing.assert_array_equal(apply(plain, [list(OPERATIONS).index(name), 1], 21.0), plain)


def test_draws():
    drawn = draw_operations(5_000, 2, np.random.default_rng(0)).reshape(-1, 2)
    rows = np.bincount(drawn[:, 0], minlength=14)
    assert len(rows) == len(OPERATIONS) == 14
    assert abs(rows / len(drawn) - 1 / 14).max() < 0.01
    assert set(drawn[:, 1].tolist()) == {-1, 1}
    assert abs(drawn[:, 1].mean()) < 0.05
