import numpy as np
import pytest
import tensorflow as tf

from kreid.data.augment import Augmentation
from kreid.data.colour import jitter
from kreid.data.rand_augment import rand_augment

SIZE = (16, 12)


def frames(count=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


def expected(clip, numbers, padding):
    """One pixel at a time, frame by frame."""
    result = np.zeros_like(clip)
    for time, frame in enumerate(clip):
        flip, crop_top, crop_left, top, left, tall, wide = numbers[time if len(numbers) > 1 else 0]
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                if top <= row < top + tall and left <= column < left + wide:
                    result[time, row, column] = (124, 116, 104)
                    continue
                source_row, source_column = row + crop_top - padding, column + crop_left - padding
                if 0 <= source_row < SIZE[0] and 0 <= source_column < SIZE[1]:
                    if flip:
                        source_column = SIZE[1] - 1 - source_column
                    result[time, row, column] = frame[source_row, source_column]
    return result


@pytest.mark.parametrize(
    "settings",
    [
        dict(flip=0.5, crop_padding=3, erase=0.5),
        dict(flip=1.0, crop_padding=0),
        dict(flip=0.0, crop_padding=4),
        dict(flip=0.0, crop_padding=0, erase=1.0),
        dict(flip=0.0, crop_padding=0),
    ],
)
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("flip_per_frame", [False, True])
@pytest.mark.parametrize("per_frame", [False, True])
def test_every_frame_gets_its_treatment(settings, graph, per_frame, flip_per_frame):
    augmentation = Augmentation(**settings, per_frame=per_frame, flip_per_frame=flip_per_frame)
    apply = tf.function(augmentation.apply) if graph else augmentation.apply
    drawn = augmentation.draw(12, 3, SIZE, np.random.default_rng(1))
    assert drawn.shape == (12, 3 if per_frame or flip_per_frame else 1, 7)
    flips_alike, crops_alike = (drawn[..., :1] == drawn[:, :1, :1]).all(), (drawn[..., 1:] == drawn[:, :1, 1:]).all()
    assert flips_alike == (not flip_per_frame or settings["flip"] in (0, 1))
    assert crops_alike == (not per_frame)
    for seed, numbers in enumerate(drawn):
        clip = frames(seed=seed)
        result = apply(tf.constant(clip), tf.constant(numbers)).numpy()
        np.testing.assert_array_equal(result, expected(clip, numbers, settings["crop_padding"]))


def test_shares_and_ranges_of_the_numbers():
    numbers = Augmentation(flip=0.25, crop_padding=3, erase=0.5).draw(4_000, 1, (128, 64), np.random.default_rng(0))
    assert numbers.dtype == np.int32
    flip, crop_top, crop_left, top, left, tall, wide = numbers[:, 0].T
    assert abs(flip.mean() - 0.25) < 0.04
    assert set(crop_top.tolist()) == set(crop_left.tolist()) == set(range(7))
    erased = tall > 0
    assert abs(erased.mean() - 0.5) < 0.04
    np.testing.assert_array_equal(erased, wide > 0)
    assert ((top >= 0) & (top + tall <= 128) & (left >= 0) & (left + wide <= 64)).all()
    area = (tall * wide)[erased] / (128 * 64)
    aspect = tall[erased] / wide[erased]
    # Whole pixels move the smallest rectangles a little.
    assert 0.017 < area.min() < 0.03
    assert 0.38 < area.max() < 0.42
    assert 0.27 < aspect.min() < 0.4
    assert 2.8 < aspect.max() < 3.6


def test_the_share_of_flipped_frames_and_clips():
    rng = np.random.default_rng(0)
    frames = Augmentation(flip=0.25, flip_per_frame=True).draw(4_000, 8, SIZE, rng)[..., 0]
    assert abs(frames.mean() - 0.25) < 0.02
    assert abs((frames.any(axis=1) & ~frames.all(axis=1)).mean() - (1 - 0.75**8 - 0.25**8)) < 0.02
    clips = Augmentation(flip=0.25, per_frame=True).draw(4_000, 8, SIZE, rng)[..., 0]
    assert abs(clips.mean() - 0.25) < 0.03
    assert (clips == clips[:, :1]).all()


def test_numbers_depend_only_on_the_generator():
    augmentation = Augmentation(erase=0.5)
    one, same, other = (augmentation.draw(50, 4, SIZE, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(flip=1.5), "Received: flip=1.5"),
        (dict(erase=-0.1), "Received: erase=-0.1"),
        (dict(crop_padding=-1), "Received: crop_padding=-1"),
        (dict(crop_padding=2.5), "Received: crop_padding=2.5"),
        (dict(brightness=-0.1), "Received: brightness=-0.1"),
        (dict(contrast=float("inf")), "Received: contrast=inf"),
        (dict(saturation=float("nan")), "Received: saturation=nan"),
        (dict(hue=0.6), "from 0 to 0.5. Received: hue=0.6"),
        (dict(rand_augment=-1), "Received: rand_augment=-1"),
        (dict(rand_augment_magnitude=31), "Received: rand_augment_magnitude=31"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


COLOURS = dict(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1, rand_augment=2, rand_augment_magnitude=12.0)


def test_colours_draw_after_all_else():
    plain = Augmentation(erase=0.5, per_frame=True)
    coloured = Augmentation(erase=0.5, per_frame=True, **COLOURS)
    before = plain.draw(20, 3, SIZE, np.random.default_rng(2))
    drawn = coloured.draw(20, 3, SIZE, np.random.default_rng(2))
    assert (plain.width, coloured.width) == (7, 15)
    np.testing.assert_array_equal(drawn[..., :7], before)
    # Alike for all frames, also where crops are not.
    np.testing.assert_array_equal(drawn[..., 7:], np.broadcast_to(drawn[:, :1, 7:], (20, 3, 8)))
    assert Augmentation(hue=0.1).width == 11
    assert Augmentation(rand_augment=1).width == 9


@pytest.mark.parametrize("per_frame", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_colours_change_between_crop_and_erasing(per_frame):
    settings = dict(crop_padding=3, per_frame=per_frame)
    augmentation = Augmentation(flip=0.5, erase=1.0, **settings, **COLOURS)
    apply = tf.function(augmentation.apply)
    # In a graph too: an operation at a time rounds otherwise.
    colour = tf.function(lambda clip, own: rand_augment(jitter(clip, own[:4], COLOURS), own[4:], 12.0))
    for seed, numbers in enumerate(augmentation.draw(4, 3, SIZE, np.random.default_rng(1))):
        clip = frames(seed=seed)
        unerased = numbers[:, :7] * np.array([1, 1, 1, 0, 0, 0, 0])
        cropped = expected(clip, unerased, 3)
        coloured = colour(tf.constant(cropped), tf.constant(numbers[0, 7:])).numpy()
        centred = numbers[:, :7] * np.array([0, 0, 0, 1, 1, 1, 1]) + np.array([0, 3, 3, 0, 0, 0, 0])
        result = apply(tf.constant(clip), tf.constant(numbers)).numpy()
        np.testing.assert_array_equal(result, expected(coloured, centred, 3))


def test_without_colours_they_are_not_in_the_graph():
    shape = tf.TensorSpec((3, *SIZE, 3), tf.uint8)

    def operations(augmentation):
        numbers = tf.TensorSpec((1, augmentation.width), tf.int32)
        graph = tf.function(augmentation.apply).get_concrete_function(shape, numbers).graph
        return {operation.type for operation in graph.get_operations()}

    assert not operations(Augmentation(erase=0.5)) & {"Case", "StatelessCase", "AdjustHue", "ClipByValue"}
    assert {"AdjustHue"} <= operations(Augmentation(brightness=0.1, hue=0.1))
