"""Cuts against LAPACK's eigenvectors in float64; which frames are kept; short and equal frames; gradients."""

import keras
import numpy as np
import pytest
from pooling_samples import SHARED, majority_weights, padded, tracklet, unit_vectors

from kreid.layers import MajorityPooling
from kreid.layers.majority_pooling import leading_eigenvector
from kreid.testing._common import gradient_function

MEAN = np.full(16, SHARED)


def majority(**kwargs):
    layer = MajorityPooling(**kwargs)
    layer.set_mean(MEAN)
    return layer


def test_signs_of_the_eigenvector_are_lapacks():
    tracklets = [
        tracklet(large, small, noise=0.6, seed=seed)[0] for seed in range(4) for large, small in ((5, 3), (9, 2))
    ]
    frames, mask = padded([unit_vectors(one, MEAN) for one in tracklets])
    found = np.asarray(leading_eigenvector(frames @ frames.transpose(0, 2, 1), mask.astype("float32")))
    for row, length in enumerate(mask.sum(axis=1)):
        units = frames[row, :length].astype("float64")
        centred = units - units.mean(axis=0)
        values, vectors = np.linalg.eigh(centred @ centred.T)
        assert values[-2] < 0.9 * values[-1]  # separated
        vector = vectors[:, -1]
        scaled = found[row, :length] / np.linalg.norm(found[row])
        np.testing.assert_allclose(scaled * np.sign(scaled @ vector), vector, atol=1e-4)
        assert not found[row, length:].any()


@pytest.mark.parametrize("weighting", ["similarity", "equal"])
@pytest.mark.parametrize("noise", [0.3, 1.2])
def test_weights_and_mean_of_the_kept_frames(noise, weighting):
    counts = [(5, 3), (6,), (2, 6), (4, 4), (2, 1), (1, 1), (1,), (40, 24)]
    tracklets = [tracklet(*count, noise=noise, seed=7)[0] for count in counts]
    frames, mask = padded(tracklets, value=np.nan)
    pooled, weights = majority(threshold=0.3, weighting=weighting)(frames, mask=mask, return_attention=True)
    cut = 0
    for row, one in enumerate(tracklets):
        expected = majority_weights(one, MEAN, 0.3, weighting)
        np.testing.assert_allclose(weights[row, : len(one)], expected, rtol=1e-4, atol=1e-6)
        assert not weights[row, len(one) :].numpy().any()
        np.testing.assert_allclose(pooled[row], expected @ one, rtol=1e-5)
        cut += (expected == 0).any()
    assert 2 <= cut < len(counts)


def test_the_larger_person_is_kept_in_any_order():
    frames, labels = tracklet(5, 3)
    order = np.random.default_rng(0).permutation(8)
    pooled, weights = majority()(frames[None], return_attention=True)
    np.testing.assert_array_equal(weights.numpy()[0] > 0, labels == 0)
    np.testing.assert_allclose(weights.numpy().sum(), 1.0, rtol=1e-5)
    again, shuffled = majority()(frames[None, order], return_attention=True)
    np.testing.assert_allclose(shuffled, weights.numpy()[:, order], rtol=1e-4)
    np.testing.assert_allclose(again, pooled, rtol=1e-5)


def test_of_equal_sides_the_more_alike_one_is_kept():
    first, second = tracklet(4, 4, noise=0.0)[0][[0, 4]]
    noise = 0.3 * np.random.default_rng(0).normal(size=(4, 16)).astype("float32")
    for alike, other in ((first, second), (second, first)):
        frames = np.concatenate([np.repeat(alike[None], 4, axis=0), other + noise])
        _, weights = majority(weighting="equal")(frames[None], return_attention=True)
        np.testing.assert_allclose(weights[0], [0.25] * 4 + [0] * 4, rtol=1e-6)
    # Neither side is more alike.
    frames = np.repeat([first, second], 4, axis=0)
    _, weights = majority()(frames[None], return_attention=True)
    np.testing.assert_allclose(weights[0], 1 / 8, rtol=1e-4)


def test_single_frames_of_further_persons_get_little_weight():
    frames, labels = tracklet(5, 1, 1, 1, noise=0.5)
    _, weights = majority()(frames[None], return_attention=True)
    assert weights.numpy()[0, labels > 0].sum() < 0.02
    # A frame that equals the mean is like no other, but alone it is all there is.
    frames[0] = MEAN
    _, weights = majority()(frames[None], return_attention=True)
    assert weights.numpy()[0, 0] == 0
    _, weights = majority()(frames[None, :1], return_attention=True)
    assert weights.numpy().tolist() == [[1.0]]


def test_one_two_equal_and_no_frames_are_averaged():
    frames = tracklet(4, 4)[0]
    for kept in ([0], [0, 4], [2, 2, 2, 2]):
        _, weights = majority(threshold=0.01)(frames[None, kept], return_attention=True)
        np.testing.assert_allclose(weights[0], 1 / len(kept), rtol=1e-4)
    pooled, weights = majority()(
        np.full((1, 3, 16), np.nan, "float32"), mask=np.zeros((1, 3), bool), return_attention=True
    )
    assert not pooled.numpy().any()
    assert not weights.numpy().any()


def test_gradients_pass_through_the_kept_frames_alone():
    frames, labels = tracklet(5, 3)
    direction = np.random.default_rng(0).normal(size=16).astype("float32")
    layer = majority()
    _, gradient, _ = gradient_function(lambda x: keras.ops.sum(layer(x) * direction, axis=-1))(frames[None])
    expected = majority_weights(frames, MEAN, 0.25)[:, None] * direction
    assert not expected[labels == 1].any()
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_cuts_alike(policy):
    frames, _ = tracklet(5, 3)
    pooled, weights = majority(dtype=policy)(
        frames[None].astype(policy[6:]) if policy == "mixed_float16" else frames[None], return_attention=True
    )
    assert pooled.dtype == policy[6:]
    np.testing.assert_allclose(weights, majority()(frames[None], return_attention=True)[1], rtol=0.02, atol=1e-6)


def test_mean_survives_saving(tmp_path):
    frames, _ = tracklet(5, 3)
    inputs = keras.Input((None, 16))
    layer = MajorityPooling(threshold=0.2)
    model = keras.Model(inputs, layer(inputs))
    layer.set_mean(MEAN)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(frames[None]), model(frames[None]))
    assert loaded.layers[-1].threshold == 0.2


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: MajorityPooling(threshold=-0.1), r"from 0 to 2. Received: threshold=-0.1"),
        (lambda: MajorityPooling(threshold=True), "Received: threshold=True"),
        (lambda: MajorityPooling(weighting="soft"), "similarity, equal. Received: weighting='soft'"),
        (lambda: MajorityPooling()(np.zeros((2, 3))), r"\(batch, frames, C\).*\(2, 3\)"),
    ],
)
def test_refusals(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
