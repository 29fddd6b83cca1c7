"""A system of your own, written in 40 lines outside of kreid: trained, saved, exported, served and explained."""

import importlib
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.data import Tracklet
from kreid.models import SYSTEMS, Attention, TrackletModel, register_system, system_class

SIZE = (64, 32)
SOURCE = '''
"""Gated pooling: each frame's weight comes from its own vector."""

import keras
from keras import ops

from kreid.layers import FrameAverage, SpatialAverage
from kreid.models import Attention, TrackletModel, register_system


@register_system("gated")
class Gated(TrackletModel):
    """Frames weighted by a gate, then one Dense layer."""

    part_frames = 1
    attentions = {
        "frames": Attention(("frame",), "Weight of each frame"),
        "where": Attention(("frame", "height", "width"), "Energy within each frame"),
    }

    def __init__(self, backbone, num_identities, *, embedding_dim=16, slope=1.0, **kwargs):
        super().__init__(backbone, num_identities, metric="cosine", **kwargs)
        self.embedding_dim = embedding_dim
        self.slope = slope
        self.spatial_average = SpatialAverage(dtype=self.dtype_policy)
        self.gate = keras.layers.Dense(1, dtype=self.dtype_policy)
        self.frame_average = FrameAverage(dtype=self.dtype_policy)
        self.dense = keras.layers.Dense(self.embedding_dim, dtype=self.dtype_policy)

    def encode_parts(self, maps, mask):
        energy = ops.sum(ops.square(ops.cast(maps, "float32")), axis=-1)
        return self.spatial_average(maps), mask, {"where": energy}

    def aggregate_parts(self, vectors, mask):
        weights = ops.sigmoid(self.slope * ops.cast(self.gate(vectors)[..., 0], "float32"))
        vector, weights = self.frame_average(vectors, weights, mask=mask, return_attention=True)
        return self.dense(vector), {"frames": weights}
'''


def backbone():
    return kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8)


@pytest.fixture
def forget():
    """Own systems are forgotten after a test."""
    before = dict(SYSTEMS)
    yield
    for name in SYSTEMS.keys() - before.keys():
        del SYSTEMS[name]


@pytest.mark.slow
def test_written_outside_trained_served_and_reported(tmp_path, monkeypatch, forget):
    (tmp_path / "gated_system.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("gated_system")
    assert len(SOURCE.strip().splitlines()) <= 40
    keras.utils.set_random_seed(0)
    model = system_class("gated")(backbone(), 2, embedding_dim=6, slope=2.0)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, 5, *SIZE, 3), dtype="uint8")
    lengths, labels = np.array([5, 3, 4, 5], "int32"), np.array([0, 0, 1, 1], "int32")

    # Trained by plain compile and fit
    losses = {"logits": kreid.losses.SmoothedIdentity(), "features": kreid.losses.BatchHardTriplet()}
    model.compile(keras.optimizers.Adam(1e-3), loss=losses)
    before = model.gate.kernel.numpy()
    targets = dict.fromkeys(model.loss_targets, labels)
    history = model.fit({"frames": frames, "lengths": lengths}, targets, epochs=6, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    assert np.abs(model.gate.kernel.numpy() - before).max() > 1e-4

    # Saved and loaded, with the arguments that were given
    expected = model.embed(frames, lengths)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.embed(frames, lengths), expected)
    assert (loaded.embedding_dim, loaded.slope, loaded.metric) == (6, 2.0, "cosine")
    chunked = loaded.embed_batch(loaded.checked_batch(frames, lengths), frames_at_once=8)
    np.testing.assert_allclose(chunked, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())

    # Exported and served
    export = kreid.serving.export_model(loaded, tmp_path / "served", warmup=False)
    kreid.testing.check_export(loaded, export)
    with (
        kreid.serving.EmbeddingServer(tmp_path / "served", port=0) as server,
        kreid.serving.EmbeddingClient(server.target) as client,
    ):
        answer = client.embed_frames([row[:length] for row, length in zip(frames, lengths, strict=True)])
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())

    # Explained and drawn by the axes that it declares
    for number, frame in enumerate(frames[0, :3]):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    tracklet = Tracklet("a", 1, 0, tuple(str(tmp_path / f"{number}.png") for number in range(3)))
    explained = kreid.report.explain_tracklet(loaded, tracklet)
    assert explained.attention["where"].shape == (3, 2, 1)
    alone = loaded.explainer.predict_on_batch({"frames": frames[:1, :3], "lengths": np.array([3], "int32")})
    np.testing.assert_allclose(explained.attention["frames"], alone["frames"][0], rtol=1e-4)
    from kreid.report.attention_strips import attention_strips

    page = attention_strips(explained)
    assert "Weight of each frame" in page
    assert "Energy within each frame" in page
    sys.modules.pop("gated_system")


class Plain(TrackletModel):
    """The mean over space and real frames."""

    def aggregate(self, maps, mask):
        return kreid.layers.FrameAverage()(kreid.layers.SpatialAverage()(maps), mask=mask)


def test_a_graph_alone_makes_a_system():
    model = Plain(backbone(), 3)
    assert model.attentions == {}
    assert model.embed(np.zeros((1, 2, *SIZE, 3), "uint8")).shape == (1, model.embedding_dim) == (1, 64)
    assert set(model.output) == {"logits", "features"}


def test_not_registered_is_told_before_a_file_is_written(tmp_path):
    with pytest.raises(ValueError, match=r'decorate the class with @kreid.models.register_system\("plain"\)'):
        Plain(backbone(), 3).save(tmp_path / "plain.keras")
    with pytest.raises(ValueError, match=r"there are baseline, .*register_system.*system='plain'"):
        system_class("plain")


def test_constructor_without_the_base():
    class Forgetful(Plain):
        def __init__(self, backbone, num_identities):
            pass

    with pytest.raises(ValueError, match=r"Forgetful.__init__ must call super\(\).__init__\(backbone, num_identities"):
        Forgetful(backbone(), 3)


def test_layers_before_the_base_work_too():
    class Late(Plain):
        def __init__(self, backbone, num_identities):
            self.dense = keras.layers.Dense(5)
            super().__init__(backbone, num_identities, bnneck=False)

        def aggregate(self, maps, mask):
            return self.dense(super().aggregate(maps, mask))

    model = Late(backbone(), 3)
    assert model.embedding_dim == 5
    assert model.bnneck is None
    assert any(weight is model.dense.kernel for weight in model.trainable_weights)


def test_no_graph():
    class Empty(TrackletModel):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must implement aggregate\(maps, mask\)"):
        Empty(backbone(), 3)


@pytest.mark.parametrize(
    ("declared", "returned", "complaint"),
    [
        ({}, "dict", r"does not declare.*'frames': Attention\(\('frame',\).*attentions=\{\}"),
        ({"frames": Attention(("frame",), "")}, "nothing", "declares an attention that its graph does not return"),
        ({"frames": Attention(("frame", "stripe"), "")}, "dict", "must name each axis.*axes=.*stripe"),
        ({"frames": Attention(("time",), "")}, "dict", "must name each axis.*from frame, clip.*time"),
        ({"frames": Attention(("frame",), "")}, "tensor", "must return a vector, or a vector and a dict"),
    ],
)
def test_attentions_that_are_not_as_declared(declared, returned, complaint):
    class Weighted(TrackletModel):
        attentions = declared

        def aggregate(self, maps, mask):
            vectors = kreid.layers.SpatialAverage()(maps)
            vector, weights = kreid.layers.FrameAverage()(vectors, mask=mask, return_attention=True)
            return {"dict": (vector, {"frames": weights}), "nothing": vector, "tensor": (vector, weights)}[returned]

    with pytest.raises(ValueError, match=complaint):
        Weighted(backbone(), 3)


def test_names_of_systems(forget):
    with pytest.raises(ValueError, match="name='My System'"):
        register_system("My System")
    with pytest.raises(ValueError, match=r"kreid.models.sta.STA; choose another.*name='sta'"):
        register_system("sta")(Plain)
    with pytest.raises(TypeError, match=r"subclass of .*TrackletModel"):
        register_system("dense")(keras.layers.Dense)
    assert register_system("sta")(kreid.models.STA) is kreid.models.STA

    def again():
        @register_system("again")
        class Again(Plain):
            pass

        return Again

    first, second = again(), again()
    assert SYSTEMS["again"] is second is not first, "a notebook's cell runs twice"
    twin = second.from_config(second(backbone(), 3).get_config())
    assert type(twin) is second


def test_a_constructor_may_fix_arguments_of_the_base(forget):
    @register_system("fixed")
    class Fixed(Plain):
        def __init__(self, backbone, num_identities):
            super().__init__(backbone, num_identities, test_selection="evenly", test_frames=2)

    model = Fixed(backbone(), 3)
    assert set(model.get_config()) == {"backbone", "num_identities", "passport"}
    assert Fixed.from_config(model.get_config()).test_frames == 2

    @register_system("half_fixed")
    class HalfFixed(Plain):
        def __init__(self, backbone, num_identities, **kwargs):
            super().__init__(backbone, num_identities, metric="euclidean", **kwargs)

    model = HalfFixed(backbone(), 3, normalize=True)
    twin = HalfFixed.from_config(model.get_config())
    assert (twin.metric, twin.normalize) == ("euclidean", True)
