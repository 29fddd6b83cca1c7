"""The kinds of preprocessing against plain NumPy."""

import numpy as np
import pytest

from kreid.layers import FramePreprocessing

RNG = np.random.default_rng(11)


def test_preprocessing():
    frames = RNG.integers(0, 256, (2, 3, 4, 4, 3)).astype("uint8")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(FramePreprocessing("torch")(frames), (frames / 255.0 - mean) / deviation, atol=1e-5)
    bgr = frames[..., ::-1].astype("float64") - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(FramePreprocessing("caffe")(frames), bgr, atol=1e-4)
    np.testing.assert_allclose(FramePreprocessing("tf")(frames), frames.astype("float64") / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(FramePreprocessing("none")(frames), frames.astype("float32"))
    with pytest.raises(ValueError, match="mode='pillow'"):
        FramePreprocessing("pillow")
    with pytest.raises(ValueError, match=r"3 channels.*4\)"):
        FramePreprocessing()(np.zeros((1, 4, 4, 4), "uint8"))
