"""GLTR's dilated pyramid and its two rivals against equations 5 and 6, written from the paper in float64."""

import numpy as np
import pytest
from keras import ops
from temporal_samples import FRAMES, LENGTHS, MASK, normalised, randomised, sizes_of

from kreid.layers import DilatedTemporalPyramid, TemporalPyramidPooling, UndilatedTemporalPyramid

RNG = np.random.default_rng(31)
PYRAMIDS = {
    "dilated": DilatedTemporalPyramid,
    "undilated": UndilatedTemporalPyramid,
    "pooling": TemporalPyramidPooling,
}


def convolved(f, kernel, dilation=1):
    """Equation 5, centred, with zeros beyond the ends: frames (L, d), kernel (w, d, d)."""
    length, half = len(f), len(kernel) // 2
    out = np.zeros((length, kernel.shape[2]))
    for t in range(length):
        for i in range(len(kernel)):
            source = t + dilation * (i - half)
            if 0 <= source < length:
                out[t] += f[source] @ kernel[i]
    return out


def branch_before_norm(layer, number, f):
    """What a branch of each pyramid convolves out of the real frames (L, d), before normalisation."""
    kernel = np.asarray(layer.convolutions[number].get_weights()[0], "float64")
    if isinstance(layer, DilatedTemporalPyramid):
        assert kernel.shape[0] == 3
        return convolved(f, kernel, 2**number)
    if isinstance(layer, UndilatedTemporalPyramid):
        assert kernel.shape[0] == [3, 5, 9, 17][number]
        return convolved(f, kernel)
    size = 2**number
    windows = [f[start : start + size].mean(axis=0) for start in range(0, len(f), size)]
    return convolved(np.array(windows), kernel)


def spread_out(layer, number, values, length):
    return np.repeat(values, 2**number, axis=0)[:length] if isinstance(layer, TemporalPyramidPooling) else values


@pytest.mark.parametrize("num_branches", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", PYRAMIDS)
def test_pyramids(kind, num_branches):
    layer = randomised(PYRAMIDS[kind](num_branches))
    found = ops.convert_to_numpy(layer(FRAMES, mask=MASK))
    assert found.shape == (4, 11, 6 * num_branches)
    for row, length in enumerate(LENGTHS[:3]):
        f = FRAMES[row, :length].astype("float64")
        branches = [
            spread_out(layer, n, normalised(layer.normalizations[n], branch_before_norm(layer, n, f)), length)
            for n in range(num_branches)
        ]
        np.testing.assert_allclose(found[row, :length], np.concatenate(branches, axis=1), rtol=1e-4, atol=1e-5)
        assert not found[row, length:].any()


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("kind", ["dilated", "undilated"])
def test_branches_start_as_the_frames_themselves(kind, activation):
    layer = PYRAMIDS[kind](3, activation, scale=0.5)
    found = ops.convert_to_numpy(layer(FRAMES, mask=MASK))
    expected = 0.5 * np.where(MASK[..., None], FRAMES if activation == "linear" else np.maximum(FRAMES, 0), 0)
    # The moving variance starts at 1, and batch normalisation adds an epsilon of 1e-5 to it.
    np.testing.assert_allclose(found, np.tile(expected, 3), rtol=1e-5)


def test_one_branch_is_the_same_in_all_three():
    layers = [randomised(pyramid(1)) for pyramid in PYRAMIDS.values()]
    for layer in layers[1:]:
        layer.set_weights(layers[0].get_weights())
    found = [ops.convert_to_numpy(layer(FRAMES, mask=MASK)) for layer in layers]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_a_frame_sees_as_far_as_in_the_paper(kind):
    # ReLU may hide a change: all features of a frame may be below 0.
    layer = randomised(PYRAMIDS[kind](4, activation="linear"))
    frames = FRAMES[:1].repeat(4, axis=1)
    changed = frames.copy()
    changed[0, 20] += 3
    for number in range(4):
        outputs = [
            ops.convert_to_numpy(layer.branch(number, ops.convert_to_tensor(x), np.ones((1, 44), bool), False))
            for x in (frames, changed)
        ]
        touched = np.flatnonzero(np.abs(outputs[0] - outputs[1]).sum(axis=(0, 2)))
        if kind == "pooling":
            start = 20 // 2**number * 2**number
            expected = range(start - 2**number, start + 2 * 2**number)
        elif kind == "undilated":
            expected = range(20 - 2**number, 21 + 2**number)
        else:
            expected = [20 - 2**number, 20, 20 + 2**number]
        assert set(touched) == set(expected), number


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_padding_reaches_no_batch_statistics(kind):
    layer = randomised(PYRAMIDS[kind](3))
    before = [ops.convert_to_numpy(weight) for weight in layer.weights]
    frames = np.where(MASK[..., None], FRAMES, np.nan).astype("float32")
    found = ops.convert_to_numpy(layer(frames, mask=MASK, training=True))
    real = [FRAMES[row, :length].astype("float64") for row, length in enumerate(LENGTHS[:3])]
    for n, normalization in enumerate(layer.normalizations):
        rows = [branch_before_norm(layer, n, f) for f in real]
        every = np.concatenate(rows)
        statistics = every.mean(axis=0), every.var(axis=0)
        expected = spread_out(layer, n, normalised(normalization, rows[2], statistics), LENGTHS[2])
        np.testing.assert_allclose(found[2, : LENGTHS[2], 6 * n : 6 * n + 6], expected, rtol=1e-3, atol=1e-4)
    for weight, old in zip(layer.weights, before, strict=True):
        if "moving" in weight.path:
            assert np.isfinite(ops.convert_to_numpy(weight)).all()
            assert not np.array_equal(ops.convert_to_numpy(weight), old)
    for n, normalization in enumerate(layer.normalizations):
        every = np.concatenate([branch_before_norm(layer, n, f) for f in real])
        old = next(v for w, v in zip(layer.weights, before, strict=True) if w is normalization.moving_mean)
        np.testing.assert_allclose(
            normalization.moving_mean, 0.9 * old + 0.1 * every.mean(axis=0), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("kind", PYRAMIDS)
def test_pyramids_over_1000_frames(kind):
    layer = PYRAMIDS[kind](4)
    layer.build((1, 1000, 32))
    # The convolution of width 17 of the undilated one may be unrolled, not more.
    assert max(sizes_of(layer, (1, 1000, 32))) <= 1000 * 32 * 17
    assert np.isfinite(layer(RNG.random((1, 1000, 32), dtype="float32"))).all()


@pytest.mark.parametrize("pyramid", PYRAMIDS.values())
def test_convolutions_start_as_they_are_told(pyramid):
    same, random = pyramid(2), pyramid(2, kernel_initializer="glorot_uniform")
    for layer in (same, random):
        layer.build((None, None, 6))
    for convolution in same.convolutions:
        kernel = ops.convert_to_numpy(convolution.kernel)
        assert np.flatnonzero(kernel.any(axis=(1, 2))).tolist() == [len(kernel) // 2]
        np.testing.assert_array_equal(kernel[len(kernel) // 2], np.eye(6))
    for convolution in random.convolutions:
        kernel = ops.convert_to_numpy(convolution.kernel)
        limit = np.sqrt(6 / (6 * len(kernel) * 2))
        assert np.all(np.abs(kernel) <= limit) and np.abs(kernel).mean() > limit / 3


@pytest.mark.parametrize("pyramid", PYRAMIDS.values())
def test_pyramids_refuse(pyramid):
    with pytest.raises(ValueError, match="num_branches=0"):
        pyramid(0)
    for bad in (0, -1.0, float("nan"), "0.1"):
        with pytest.raises(ValueError, match=f"above zero. Received: scale={bad!r}"):
            pyramid(scale=bad)
    with pytest.raises(ValueError, match=r"\(batch, frames, C\).*\(2, 3\)"):
        pyramid()(np.zeros((2, 3)))
