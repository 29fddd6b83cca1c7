"""Weights that a model takes from a saved one."""

import dataclasses
import hashlib

import keras
import numpy as np
import pytest

import kreid
from kreid import training
from kreid.models import SYSTEMS, Baseline

pytestmark = pytest.mark.usefixtures("eagerly")


def build(system, width=None, **kwargs):
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1, width=width)
    return SYSTEMS[system](backbone, 5, embedding_dim=128, **kwargs)


class TestStarting:
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, tmp_path_factory):
        """A saved baseline whose weights are all drawn anew."""
        model = build("baseline")
        rng = np.random.default_rng(0)
        for weight in model.weights:
            weight.assign(rng.random(weight.shape))
        path = tmp_path_factory.mktemp("start") / "model.keras"
        model.save(path)
        return path

    @pytest.mark.parametrize("layers", ["backbone", "matching"])
    def test_what_is_copied(self, source, layers):
        model, saved = build("sta", bnneck=True), keras.models.load_model(source, compile=False)
        theirs = {weight.path: weight.numpy() for weight in saved.weights}
        before = {weight.path: weight.numpy() for weight in model.weights}
        fresh = training.start_from(model, source, layers)
        shared = ["bnneck/gamma", "bnneck/moving_mean", "bnneck/moving_variance", "logits/kernel"]
        own = [] if layers == "matching" else ["dense/kernel", "dense/bias", *shared]
        assert set(own) <= set(fresh)
        if layers == "matching":
            # STA's Dense layer reads two maps' means, and starts with that of their mean.
            theirs["dense/kernel"] = np.concatenate([theirs["dense/kernel"] / 2] * 2)
        for weight in model.weights:
            expected = before if weight.path in fresh else theirs
            np.testing.assert_array_equal(weight.numpy(), expected[weight.path], err_msg=weight.path)
        assert all(weight.path not in fresh for weight in model.backbone.weights)

    def test_frames_are_scaled_as_the_saved_backbone_expects(self, tmp_path):
        frames = np.random.default_rng(1).integers(0, 256, (1, 2, 64, 32, 3)).astype("uint8")
        saved = Baseline(kreid.backbones.build("resnet_tiny", (64, 32), preprocessing="caffe"), 5)
        saved.save(tmp_path / "caffe.keras")
        model = Baseline(kreid.backbones.build("resnet_tiny", (64, 32)), 5)
        assert np.abs(model.embed(frames) - saved.embed(frames)).max() > 0.1
        training.start_from(model, tmp_path / "caffe.keras")
        np.testing.assert_array_equal(model.embed(frames), saved.embed(frames))
        model.save(tmp_path / "started.keras")
        loaded = kreid.load_model(tmp_path / "started.keras")
        np.testing.assert_array_equal(loaded.embed(frames), saved.embed(frames))

    def test_a_system_that_fuses_two_maps_starts_with_the_vector_of_one(self, tmp_path):
        model, saved = build("sta", bnneck=True), build("baseline")
        saved.classifier.kernel.assign(np.random.default_rng(0).random((128, 5)))
        saved.save(tmp_path / "model.keras")
        training.start_from(model, tmp_path / "model.keras")
        frame = np.random.default_rng(1).integers(0, 256, (1, 1, 64, 32, 3)).astype("uint8")
        # Of a single frame both maps of STA are the frame's.
        batch = {"frames": frame, "lengths": np.array([1])}
        for output in ("features", "logits"):
            np.testing.assert_allclose(model(batch)[output], saved(batch)[output], rtol=1e-4)

    @pytest.mark.parametrize("system", ["rtf", "tacan", "gltr"])
    def test_the_embedding_layer_starts_whatever_a_system_calls_it(self, source, system):
        settings = {"gltr": {"feature_dim": 128}}.get(system, {"embedding_dim": 128})
        backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
        model, saved = SYSTEMS[system](backbone, 5, bnneck=True, **settings), kreid.load_model(source)
        fresh = training.start_from(model, source)
        np.testing.assert_array_equal(model.embedding_layer.kernel, saved.dense.kernel)
        np.testing.assert_array_equal(model.embedding_layer.bias, saved.dense.bias)
        times = model.classifier.kernel.shape[0] // 128
        assert times == {"gltr": 3}.get(system, 1)
        np.testing.assert_allclose(
            model.classifier.kernel, np.concatenate([saved.classifier.kernel.numpy() / times] * times), rtol=1e-6
        )
        for statistic in ("gamma", "moving_mean", "moving_variance"):
            expected = np.concatenate([getattr(saved.bnneck, statistic).numpy()] * times)
            np.testing.assert_array_equal(getattr(model.bnneck, statistic), expected, err_msg=statistic)
        assert not [path for path in fresh if path.startswith(("dense", "features", "bnneck", "logits"))]

    def test_a_kernel_that_fits_no_number_of_vectors_is_new(self, source):
        model = SYSTEMS["baseline"](
            kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1), 5, embedding_dim=192
        )
        assert set(training.start_from(model, source)) >= {"dense/kernel", "logits/kernel", "bnneck/gamma"}

    def test_a_head_after_a_new_embedding_layer_is_new(self, source):
        # Twice the length divides, and is not two vectors.
        model = SYSTEMS["baseline"](
            kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1), 5, embedding_dim=256
        )
        fresh = training.start_from(model, source)
        heads = {"bnneck/gamma", "bnneck/moving_mean", "bnneck/moving_variance", "logits/kernel"}
        assert set(fresh) == {"dense/kernel", "dense/bias", *heads}

    def test_an_own_system_whose_dense_is_no_dense_layer(self, source):
        class TwoLayers(kreid.models.Baseline):
            def __init__(self, backbone, num_identities):
                super().__init__(backbone, num_identities)
                self.dense = keras.Sequential(
                    [keras.layers.Dense(8, name="one"), keras.layers.Dense(128, name="two")], name="dense"
                )

        model = TwoLayers(kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1), 5)
        assert model.embedding_layer is None
        fresh = training.start_from(model, source)
        layers = {f"{layer}/{weight}" for layer in ("one", "two") for weight in ("kernel", "bias")}
        assert {"/".join(path.split("/")[-2:]) for path in fresh} == layers

    def test_every_branch_starts_from_the_frames_statistics(self, source):
        model = build("rtf")
        training.start_from(model, source)
        for layer in model.backbone.named_layers().values():
            for mean, variance in getattr(layer, "statistics", []):
                np.testing.assert_array_equal(mean, layer.moving_mean)
                np.testing.assert_array_equal(variance, layer.moving_variance)
        assert len(model.backbone.named_layers()["conv5_block1_1_bn"].statistics) == 4

    def test_branches_are_kept_between_models_that_have_them(self, tmp_path):
        first, second = build("rtf"), build("rtf")
        for weight in first.weights:
            weight.assign(np.random.default_rng(1).random(weight.shape))
        first.save(tmp_path / "model.keras")
        assert training.start_from(second, tmp_path / "model.keras") == []
        for mine, theirs in zip(second.weights, first.weights, strict=True):
            np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)

    def test_refusals(self, source, tmp_path):
        with pytest.raises(ValueError, match=r"There is no model file at this path.*gone"):
            training.start_from(build("sta"), tmp_path / "gone.keras")
        with pytest.raises(ValueError, match=r"backbone to start from is another one.*Received: init="):
            training.start_from(build("sta", width=24), source)
        inputs = keras.Input((2,))
        keras.Model(inputs, keras.layers.Dense(1)(inputs)).save(tmp_path / "other.keras")
        with pytest.raises(ValueError, match=r"holds a Functional, not a model of kreid"):
            training.start_from(build("sta"), tmp_path / "other.keras")
        broken = build("baseline")
        broken.classifier.kernel.assign(np.full((128, 5), np.nan))
        broken.save(tmp_path / "nan.keras")
        with pytest.raises(ValueError, match=r"1 weights .*logits/kernel, have values that are NaN.*nan\.keras"):
            training.start_from(build("sta"), tmp_path / "nan.keras")

    def test_the_passport_names_every_model_before(self, tmp_path):
        first, second, third = build("baseline"), build("sta"), build("baseline")
        first.backbone.passport = {"weights": "imagenet"}
        first.passport = dataclasses.replace(first.passport, trained_on={"data": "images"})
        first.save(tmp_path / "first.keras")
        training.start_from(second, tmp_path / "first.keras")
        second.passport = dataclasses.replace(second.passport, trained_on={"data": "mars"})
        second.save(tmp_path / "second.keras")
        training.start_from(third, tmp_path / "second.keras")
        assert third.passport.starting_weights == {"weights": "imagenet"}
        assert third.passport.trained_on is None
        origin = third.passport.started_from
        assert (origin["file"], origin["trained_on"]) == ("second.keras", {"data": "mars"})
        assert origin["sha256"] == hashlib.sha256((tmp_path / "second.keras").read_bytes()).hexdigest()
        assert origin["started_from"]["trained_on"] == {"data": "images"}
        assert origin["started_from"]["started_from"] is None
