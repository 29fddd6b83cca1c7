"""Frames cut into clips, with padding."""

import keras
import numpy as np
import pytest
from keras import ops

from kreid.layers import FramesToClips

RNG = np.random.default_rng(13)


@pytest.mark.parametrize("clip_length", [1, 3, 4, 7])
@pytest.mark.parametrize("frames", [1, 3, 4, 8, 9])
def test_frames_to_clips(frames, clip_length):
    maps = RNG.normal(size=(3, frames, 2, 2)).astype("float32")
    mask = np.arange(frames) < np.array([frames, frames // 2, 0])[:, None]
    clips, real = (ops.convert_to_numpy(x) for x in FramesToClips(clip_length)(maps, mask=mask))
    assert clips.shape == (3, -(-frames // clip_length), clip_length, 2, 2)
    for b in range(3):
        for c, i in np.ndindex(*clips.shape[1:3]):
            t = c * clip_length + i
            there = t < frames and mask[b, t]
            assert real[b, c, i] == there
            np.testing.assert_array_equal(clips[b, c, i], maps[b, t] if there else np.zeros((2, 2)))


def test_frames_to_clips_keeps_the_type_and_knows_its_shape():
    pixels = RNG.integers(0, 256, (2, 5, 4, 3)).astype("uint8")
    clips, real = FramesToClips(2, dtype="mixed_float16")(pixels)
    assert (clips.dtype, real.dtype) == ("uint8", "bool")
    for frames, expected in ((None, None), (5, 3)):
        clips, real = FramesToClips(2)(keras.KerasTensor((None, frames, 4, 3), "uint8"))
        assert (clips.shape, clips.dtype) == ((None, expected, 2, 4, 3), "uint8")
        assert (real.shape, real.dtype) == ((None, expected, 2), "bool")


@pytest.mark.parametrize(
    ("make", "shape", "complaint"),
    [
        (lambda: FramesToClips(0), None, "clip_length=0"),
        (lambda: FramesToClips(2.5), None, r"clip_length=2\.5"),
        (lambda: FramesToClips(), (2,), r"\(batch, frames, \.\.\.\).*\(2,\)"),
    ],
)
def test_refusals(make, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        make().build(shape)
