"""Pixels of bad frames, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from kreid.data.bad_frames import FAULT_WIDTH, KINDS, PARTS
from kreid.data.spoil import spoil

HEIGHT, WIDTH = 20, 10


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)


def fault(kind, *numbers):
    row = [KINDS.index(kind) + 1, *numbers]
    return row + [0] * (FAULT_WIDTH - len(row))


def spoiled(frames, *faults, kinds=KINDS):
    return spoil(tf.constant(frames), tf.constant(faults, tf.int32), kinds).numpy()


def share(value):
    return round(value * PARTS)


GOOD = [0] * FAULT_WIDTH


def test_good_and_switched_frames_stay(frames):
    faults = [GOOD, fault("another_person", 4, 7), fault("other_persons", 1, 2)]
    np.testing.assert_array_equal(spoiled(frames, *faults), frames)


@pytest.mark.parametrize("stripe", [0, 2])
def test_an_object_covers_its_rectangle(frames, stripe):
    first, second = (10, 20, 30), (250, 0, 99)
    packed = [red * 65536 + green * 256 + blue for red, green, blue in (first, second)]
    row = fault("covered", share(0.2), share(0.1), share(0.7), share(0.8), *packed, share(stripe / HEIGHT))
    expected = frames.copy()
    for y in range(4, 18):
        expected[1, y, 1:9] = second if stripe and (y - 4) // stripe % 2 else first
    np.testing.assert_array_equal(spoiled(frames, GOOD, row, GOOD), expected)


@pytest.mark.parametrize(("down", "across"), [(1, 2), (3, 0)])
def test_blur_is_the_rounded_mean_inside_the_frame(frames, down, across):
    row = fault("blurred", share(down / HEIGHT), share(across / WIDTH))
    expected = frames.copy()
    for y in range(HEIGHT):
        for x in range(WIDTH):
            window = frames[2, max(0, y - down) : y + down + 1, max(0, x - across) : x + across + 1].astype("float64")
            expected[2, y, x] = np.floor(window.mean(axis=(0, 1)) + 0.5)
    np.testing.assert_array_equal(spoiled(frames, GOOD, GOOD, row), expected)


def test_half_out_moves_the_picture_and_repeats_its_edge(frames):
    faults = [fault("half_out", 0, share(0.5)), fault("half_out", share(-0.4), 0), GOOD]
    expected = frames.copy()
    expected[0, :, 5:] = frames[0, :, :5]
    expected[0, :, :5] = frames[0, :, :1]
    expected[1, :12] = frames[1, 8:]
    expected[1, 12:] = frames[1, -1:]
    np.testing.assert_array_equal(spoiled(frames, *faults), expected)


def test_dark_multiplies(frames):
    expected = frames.copy()
    expected[0] = np.floor(frames[0].astype("float64") * share(0.1) / PARTS + 0.5)
    np.testing.assert_array_equal(spoiled(frames, fault("dark", share(0.1)), GOOD, GOOD), expected)


def test_each_frame_has_its_own_fault_and_other_kinds_are_left_out(frames):
    faults = [fault("dark", share(0.1)), fault("half_out", 0, share(0.5)), fault("dark", share(0.2))]
    together = spoiled(frames, *faults)
    for number, row in enumerate(faults):
        np.testing.assert_array_equal(together[number], spoiled(frames[number : number + 1], row)[0])
    dark = spoiled(frames, *faults, kinds=["dark", "other_persons"])
    np.testing.assert_array_equal(dark[[0, 2]], together[[0, 2]])
    np.testing.assert_array_equal(dark[1], frames[1])
