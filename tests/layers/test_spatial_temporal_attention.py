"""STA's attention against equations 1 to 7 and algorithm 1, written from the paper in float64."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kreid.layers import SpatialTemporalAttention

RNG = np.random.default_rng(3)


def attention_maps(f):
    """Equation 1 for frames (N, H, W, D): the squared sum through the channels, over its sum over the map."""
    frames, height, width, _ = f.shape
    g = np.zeros((frames, height, width))
    for n in range(frames):
        energy = np.array([[abs(sum(v * v for v in f[n, h, w])) for w in range(width)] for h in range(height)])
        g[n] = energy / energy.sum()
    return g


def stripe_scores(g, stripes):
    """Equations 2 to 4: (N, K)."""
    frames, height, _ = g.shape
    part = height // stripes
    s = np.array([[np.abs(g[n, k * part : (k + 1) * part]).sum() for k in range(stripes)] for n in range(frames)])
    return s / np.abs(s).sum(axis=0)


def fuse(f, scores):
    """Algorithm 1: F1 and F2, (H, W, D) each."""
    frames, height, width, channels = f.shape
    stripes = scores.shape[1]
    part = height // stripes
    first, second = np.zeros((2, height, width, channels))
    for k in range(stripes):
        rows = slice(k * part, (k + 1) * part)
        first[rows] = f[np.argmax(scores[:, k]), rows]
        for n in range(frames):
            second[rows] += f[n, rows] * scores[n, k]
    return first, second


@pytest.mark.parametrize("stripes", [2, 4, 8])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_equations(stripes, frames):
    maps = RNG.random((3, frames, 8, 4, 6), dtype="float32") * RNG.random((3, frames, 8, 1, 1), dtype="float32")
    fused, attention = SpatialTemporalAttention(stripes)(maps, return_attention=True)
    alone = SpatialTemporalAttention(stripes, fusion=False)(maps)
    for b in range(3):
        f = maps[b].astype("float64")
        g = attention_maps(f)
        scores = stripe_scores(g, stripes)
        first, second = fuse(f, scores)
        np.testing.assert_allclose(attention["maps"][b], g, rtol=1e-5)
        np.testing.assert_allclose(attention["stripes"][b], scores, rtol=1e-5)
        np.testing.assert_allclose(fused[b, ..., :6], first, rtol=1e-6)
        np.testing.assert_allclose(fused[b, ..., 6:], second, rtol=1e-5)
        np.testing.assert_allclose(alone[b], second, rtol=1e-5)


def test_one_stripe_is_the_mean():
    # Each map sums to 1, so all frames score the same: F2 is the mean, and F1 whole frames.
    maps = RNG.random((1, 3, 4, 2, 6), dtype="float32")
    fused = SpatialTemporalAttention(1)(maps)[0].numpy()
    np.testing.assert_allclose(fused[..., 6:], maps[0].astype("float64").mean(axis=0), rtol=1e-5)
    assert any(np.array_equal(fused[..., :6], frame) for frame in maps[0])


def test_masked_frames_count_for_nothing():
    maps = RNG.random((1, 5, 4, 2, 3), dtype="float32")
    maps[0, 3:] *= 100
    scores = SpatialTemporalAttention(2)(maps, mask=np.array([[True] * 3 + [False] * 2]), return_attention=True)[1]
    expected = stripe_scores(attention_maps(maps[0, :3].astype("float64")), 2)
    np.testing.assert_allclose(scores["stripes"][0, :3], expected, rtol=1e-5)
    assert not scores["stripes"][0, 3:].numpy().any()


def test_frame_order_does_not_matter():
    maps = RNG.random((2, 6, 4, 2, 3), dtype="float32")
    layer = SpatialTemporalAttention(2)
    np.testing.assert_allclose(layer(maps), layer(maps[:, [3, 0, 5, 1, 4, 2]]), rtol=1e-5)


def regularisation(maps, mask=None, **kwargs):
    layer = SpatialTemporalAttention(2, **kwargs)
    layer(maps, mask=mask, training=True)
    return [float(loss) for loss in layer.losses]


def pair_norms(maps):
    """Equation 6 for all pairs of frames."""
    g = attention_maps(maps.astype("float64"))
    return [np.sqrt(((g[i] - g[j]) ** 2).sum()) for i, j in itertools.combinations(range(len(g)), 2)]


def test_regularisation_of_two_frames():
    maps = RNG.random((4, 2, 4, 2, 3), dtype="float32")
    expected = 0.7 * np.mean([pair_norms(tracklet) for tracklet in maps])
    np.testing.assert_allclose(regularisation(maps, regularization=0.7), [expected], rtol=1e-5)


def test_regularisation_draws_pairs_of_different_real_frames():
    maps = RNG.random((1, 6, 4, 2, 3), dtype="float32")
    mask = np.array([[True, True, True, True, False, False]])
    norms = np.array(pair_norms(maps[0, :4]))
    layer = SpatialTemporalAttention(2, regularization=1.0, seed=1)
    drawn = []
    for _ in range(60):
        layer(maps, mask=mask, training=True)
        drawn.append(float(layer.losses[-1]))
    nearest = np.abs(np.array(drawn)[:, None] - norms).argmin(axis=1)
    np.testing.assert_allclose(drawn, norms[nearest], rtol=1e-5)
    assert set(nearest) == set(range(6)), "each of the six pairs is drawn in 60 steps"


def test_regularisation_leaves_out_tracklets_with_one_frame():
    maps = RNG.random((2, 2, 4, 2, 3), dtype="float32")
    mask = np.array([[True, True], [True, False]])
    expected = 0.1 * pair_norms(maps[0])[0]
    np.testing.assert_allclose(regularisation(maps, mask), [expected], rtol=1e-5)
    assert regularisation(maps[1:], mask[1:]) == [0.0]


def test_regularisation_is_for_training_and_can_be_off():
    maps = RNG.random((1, 2, 4, 2, 3), dtype="float32")
    assert regularisation(maps, regularization=0.0) == []
    layer = SpatialTemporalAttention(2)
    layer(maps)
    assert layer.losses == []


def test_repeated_frames_have_finite_gradients():
    maps = tf.Variable(np.repeat(RNG.random((2, 1, 4, 2, 3), dtype="float32"), 3, axis=1))
    layer = SpatialTemporalAttention(2)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(layer(maps, training=True)) + layer.losses[0]
    assert float(layer.losses[0]) == 0.0
    assert np.isfinite(tape.gradient(value, maps)).all()


def test_half_precision_features_do_not_overflow():
    maps = np.full((1, 2, 4, 2, 8), 300.0, "float16")
    fused, attention = SpatialTemporalAttention(2, dtype="mixed_float16")(maps, return_attention=True)
    np.testing.assert_allclose(attention["stripes"], 0.5)
    np.testing.assert_allclose(fused, 300.0)


def test_refusals():
    with pytest.raises(ValueError, match=r"divisible.*num_stripes=3"):
        SpatialTemporalAttention(3)(np.zeros((1, 2, 4, 2, 3), "float32"))
    with pytest.raises(ValueError, match=r"positive integer.*num_stripes=0"):
        SpatialTemporalAttention(0)
    with pytest.raises(ValueError, match=r"negative.*regularization=-1"):
        SpatialTemporalAttention(regularization=-1)
    with pytest.raises(ValueError, match=r"\(batch, frames, h, w, C\).*\(1, 2, 3\)"):
        SpatialTemporalAttention(1)(np.zeros((1, 2, 3), "float32"))


def test_it_has_no_weights():
    layer = SpatialTemporalAttention(2)
    layer(keras.Input((None, 4, 2, 3)))
    assert layer.trainable_variables == []
