"""Equal weights in place of attention: average pooling of the same features, for every system."""

import keras
import numpy as np
import pytest
from model_samples import FRAMES, make

import kreid
from kreid.models import SYSTEMS, Attention, TrackletModel, register_system, with_uniform_attention
from kreid.models.attention import time_weights

LENGTHS = np.array([5, 3, 1])
# Frames of noise have nearly the same features: here each is brighter than the one before it.
BATCH = (FRAMES[:3] * np.linspace(0.1, 1, 5)[:, None, None, None]).astype("uint8")


def with_random_weights(model):
    """Attentions start from equal weights; here none is equal."""
    rng = np.random.default_rng(3)
    in_backbone = {id(weight) for weight in model.backbone.weights}
    for weight in model.weights:
        if id(weight) not in in_backbone and weight.dtype == "float32" and "moving_variance" not in weight.path:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    return model


def mean_maps(model):
    """The mean over each tracklet's frames and positions of the backbone's maps, float64."""
    maps = keras.ops.convert_to_numpy(model.backbone(model.preprocessing(BATCH))).astype("float64")
    return np.stack([row[:length].mean(axis=(0, 1, 2)) for row, length in zip(maps, LENGTHS, strict=True)])


def dense(layer, vectors):
    kernel, *bias = (keras.ops.convert_to_numpy(weight).astype("float64") for weight in layer.weights)
    return vectors @ kernel + (bias[0] if bias else 0.0)


def of_length_1(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def gltr_vectors(model):
    """Equation 7 with M = 1/T: every frame gets W times the mean of the values."""
    frames = dense(model.features, mean_maps(model))
    attention = model.self_attention
    return frames + dense(attention.restore, dense(attention.values, frames))


CASES = {
    "baseline": (dict(pooling="agreement"), lambda model: of_length_1(dense(model.dense, mean_maps(model)))),
    "sta": (
        dict(fusion=True, bnneck=False, test_frames=5),
        lambda model: dense(model.dense, np.concatenate([mean_maps(model)] * 2, axis=1)),
    ),
    "rtf": (dict(fusion="late"), lambda model: dense(model.dense, mean_maps(model))),
    "tacan": ({}, lambda model: of_length_1(dense(model.over_clips.transform, mean_maps(model)))),
    "mg_rafa": ({}, mean_maps),
    "gltr": (dict(pyramid="none", num_branches=1), gltr_vectors),
}


@pytest.mark.parametrize("system", CASES)
def test_a_system_becomes_average_pooling(system):
    settings, expected = CASES[system]
    model = with_random_weights(make(system, **settings))
    before = model.embed(BATCH, LENGTHS)
    uniform = with_uniform_attention(model)
    scale = np.abs(expected(model)).max()
    np.testing.assert_allclose(uniform.embed(BATCH, LENGTHS) / scale, expected(model) / scale, atol=2e-5)
    # One frame has all the weight anyway; the model itself keeps its attention.
    np.testing.assert_array_equal(model.embed(BATCH, LENGTHS), before)
    assert np.abs(before[:2] - expected(model)[:2]).max() > 1e-3 * scale


class OwnGate(TrackletModel):
    """Frames weighted by a gate, as in the guide, or by a product that kreid does not know."""

    @property
    def attentions(self):
        return {"frames": Attention(("frame",), "Weight of each frame")}

    def __init__(self, backbone, num_identities, *, by_kreid=True, **kwargs):
        super().__init__(backbone, num_identities, **kwargs)
        self.by_kreid = by_kreid
        self.spatial_average = kreid.layers.SpatialAverage()
        self.gate = keras.layers.Dense(1, activation="sigmoid")
        self.frame_average = kreid.layers.FrameAverage()

    def aggregate(self, maps, mask):
        vectors = self.spatial_average(maps)
        weights = self.gate(vectors)[..., 0]
        if self.by_kreid:
            vector, weights = self.frame_average(vectors, weights, mask=mask, return_attention=True)
            return vector, {"frames": weights}
        weights = weights * keras.ops.cast(mask, "float32")
        return keras.ops.sum(vectors * weights[..., None], axis=1), {"frames": weights}


class OwnSilent(OwnGate):
    @property
    def attentions(self):
        return {}

    def aggregate(self, maps, mask):
        return super().aggregate(maps, mask)[0]


@pytest.fixture
def own_systems(monkeypatch):
    """Both are systems for the time of a test: others look at all there are."""
    for name, cls in (("uniform_own_gate", OwnGate), ("uniform_own_silent", OwnSilent)):
        monkeypatch.setitem(SYSTEMS, name, cls)
        register_system(name)(cls)


@pytest.mark.usefixtures("own_systems")
def test_an_own_system_takes_part_by_the_layers_of_kreid():
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    model = with_random_weights(OwnGate(backbone, 6))
    uniform = with_uniform_attention(model)
    np.testing.assert_allclose(uniform.embed(BATCH, LENGTHS), mean_maps(model), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="OwnGate's attention 'frames' cannot be replaced"):
        with_uniform_attention(with_random_weights(OwnGate(backbone, 6, by_kreid=False)))
    with pytest.raises(ValueError, match="OwnSilent declares no attention weights over frames"):
        with_uniform_attention(OwnSilent(backbone, 6))


@pytest.mark.parametrize(
    ("values", "axes", "length", "expected"),
    [
        ([0.5, 0.25, 9.0], ("frame",), 2, [0.5, 0.25]),
        ([[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]], ("frame", "stripe"), 2, [3.0, 7.0]),
        ([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0], [9.0, 9.0, 9.0]], ("frame", "frame"), 2, [3.0, 7.0]),
        ([0.7, 0.8, 9.0], ("clip",), 4, [0.7, 0.8]),
        ([[0.25, 0.75], [1.0, 0.0], [9.0, 9.0]], ("clip", "clip_frame"), 3, [0.5, 1.5, 1.0]),
        ([[1.0, 2.0], [3.0, 4.0]], ("stage", "frame"), 1, [4.0]),
        ([1.0, 2.0], ("stage",), 1, None),
    ],
)
def test_time_weights_are_sums_over_other_axes(values, axes, length, expected):
    weights = time_weights(values, axes, length, clip_frames=2)
    assert (weights if weights is None else weights.tolist()) == expected
