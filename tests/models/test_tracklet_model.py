"""Every system: embeddings, padding, saving, training by plain compile and fit, precision."""

import functools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from model_samples import CASES, FRAMES, LENGTHS, SIZE, batch, compiled, make

import kreid
from kreid.losses import BatchHardTriplet, SmoothedIdentity, WeightedSum
from kreid.models import STA, SYSTEMS, fingerprint
from kreid.models.halves import Kept, halves_of
from kreid.models.tracklet_model import check_backend
from kreid.passport import Passport

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(params=sorted(SYSTEMS))
def system(request):
    return request.param


@pytest.fixture(scope="module")
def untrained(eagerly):
    """Function: system -> a model that tests only read."""
    return functools.cache(make)


def test_every_system_has_a_case():
    assert sorted(CASES) == sorted(SYSTEMS)


def test_padding_changes_nothing(system, untrained):
    model = untrained(system)
    embeddings = model.embed(FRAMES, LENGTHS)
    other = FRAMES.copy()
    for row, length in enumerate(LENGTHS):
        other[row, length:] = 200
    np.testing.assert_array_equal(model.embed(other, LENGTHS), embeddings)
    assert np.isfinite(embeddings).all()
    assert embeddings.dtype == np.float32
    assert embeddings.shape == (4, model.embedding_dim) == (4, 128 if system == "mg_rafa" else 24)
    for row, length in enumerate(LENGTHS[:3]):
        alone = model.embed(FRAMES[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], embeddings[row], rtol=1e-3, atol=1e-4 * np.abs(embeddings).max())


@pytest.mark.parametrize("system", ["baseline", "gltr", "tacan"])
def test_long_tracklets_in_chunks_embed_as_in_one_call(system, untrained):
    model = untrained(system)
    # Of 15 frames each: a tracklet that ends within a chunk, at the end of one, and before all.
    batch = model.checked_batch(np.tile(FRAMES, (1, 3, 1, 1, 1)), np.array([15, 4, 9, 0]))
    expected = model.embed_batch(batch, frames_at_once=60)
    found = model.embed_batch(batch, frames_at_once=17)
    assert np.abs(expected[0]).max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_saved_and_loaded(system, tmp_path):
    model = compiled(make(system))
    model.fit(*batch(model.loss_targets), epochs=1, verbose=0)
    before = model.embed(FRAMES, LENGTHS)
    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    layers = [layer.name for layer in model.layers]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is SYSTEMS[system]
    assert (loaded.metric, loaded.image_size) == (model.metric, SIZE)
    assert [layer.name for layer in model.layers] == layers, "the embedder is not tracked as a layer"
    np.testing.assert_array_equal(loaded.embed(FRAMES, LENGTHS), before)
    again = loaded.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    assert again.keys() == explained.keys()
    np.testing.assert_array_equal(again["embedding"], before)
    loaded.fit(*batch(loaded.loss_targets), epochs=1, verbose=0)


def test_config_names_every_argument(system, untrained):
    import inspect

    model = untrained(system)
    parameters = {
        name
        for cls in (kreid.models.TrackletModel, type(model))
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    config = model.get_config()
    # Earlier files have no test_mirrored: their fingerprints stay.
    assert set(config) == parameters - {"self", "test_mirrored"} | {"passport"}
    assert model.with_mirrored().get_config()["test_mirrored"] is True
    assert {key: config[key] for key in CASES[system]} == CASES[system]


@pytest.mark.usefixtures("in_graphs")
def test_training_lowers_the_loss_and_moves_every_weight(system):
    keras.utils.set_random_seed(0)
    model = compiled(make(system))
    # Where the triplet loss starts small, the identity loss alone must fall as far.
    model.optimizer.learning_rate = 2e-3
    start = [weight.numpy() for weight in model.trainable_variables]
    losses = model.fit(*batch(model.loss_targets), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    for before, weight in zip(start, model.trainable_variables, strict=True):
        assert not np.array_equal(before, weight.numpy()), weight.path


# Without losses on the granularities, MG-RAFA's classifiers of them stay as they are.
@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables:UserWarning")
@pytest.mark.parametrize("system", ["baseline", "mg_rafa"])
def test_several_losses_on_one_output(system):
    model = make(system)
    both = WeightedSum([BatchHardTriplet(0.3), BatchHardTriplet("soft")], [1.0, 0.5])
    model.compile("sgd", loss={"logits": SmoothedIdentity(), "features": both}, jit_compile=False)
    logged = model.fit(*batch(), epochs=1, verbose=0).history
    assert np.isfinite(logged["features_loss"]).all()


# GLTR, RTF and TACAN train under mixed_bfloat16 in the files of their rows; the baseline has no part that they lack.
@pytest.mark.parametrize(
    ("system", "policy"),
    [(system, "mixed_float16") for system in SYSTEMS]
    + [
        ("mg_rafa", "mixed_bfloat16"),
        ("sta", "mixed_bfloat16"),
        pytest.param("baseline", "mixed_bfloat16", marks=pytest.mark.slow),
    ],
)
def test_mixed_precision(system, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(make(system))
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(model.fit(*batch(model.loss_targets), epochs=2, verbose=0).history["loss"]).all()
    assert all(output.dtype == "float32" for output in model.outputs)
    embeddings = model.embed(FRAMES, LENGTHS)
    assert embeddings.dtype == np.float32
    assert np.isfinite(embeddings).all()
    model.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    np.testing.assert_array_equal(loaded.embed(FRAMES, LENGTHS), embeddings)


def test_the_models_own_policy_scales_the_loss(system):
    model = compiled(make(system, dtype="mixed_float16"))
    assert type(model.optimizer).__name__ == "LossScaleOptimizer"
    assert model.backbone.dtype_policy.name == "float32", "the backbone keeps the policy it was built with"
    assert np.isfinite(model.fit(*batch(model.loss_targets), epochs=1, verbose=0).history["loss"]).all()


def test_another_selection_of_the_same_weights():
    model = make("sta", test_frames=2)
    other = model.with_selection("all")
    assert (other.test_selection, other.test_frames) == ("all", None)
    chosen = FRAMES[:1, model.selection.positions(5)]
    np.testing.assert_array_equal(other.embed(chosen), model.embed(FRAMES[:1]))
    assert np.abs(other.embed(FRAMES[:1]) - model.embed(FRAMES[:1])).max() > 0


class TestMirrored:
    def test_vectors_are_the_means_of_a_frame_and_its_mirror_image(self):
        model = make("baseline", embedding_from="pooled", pooling="average", normalize=False)
        mirrored = model.with_mirrored()
        expected = (model.embed(FRAMES) + model.embed(FRAMES[:, :, :, ::-1])) / 2
        np.testing.assert_allclose(mirrored.embed(FRAMES), expected, rtol=1e-5, atol=1e-6)
        assert (mirrored.test_mirrored, mirrored.with_mirrored(False).test_mirrored) == (True, False)
        batch = {"frames": FRAMES, "lengths": np.full(len(FRAMES), 5)}
        np.testing.assert_array_equal(mirrored(batch)["features"], model(batch)["features"], err_msg="training")

    def test_maps_are_the_means_of_both_mirrored_back(self, system):
        model = make(system)
        mirrored = model.with_mirrored()
        frames, lengths = (values.numpy() for values in model.selection(FRAMES, np.array([5, 4, 3, 1])))
        maps, others = (
            keras.tree.map_structure(lambda x: x.numpy(), model.frame_maps(model.preprocessing(images)))
            for images in (frames, frames[:, :, :, ::-1])
        )
        mean = keras.tree.map_structure(lambda one, other: (one + other[:, :, :, ::-1]) / 2, maps, others)
        vector, _ = model._with_attention(model.aggregate(mean, model.to_mask(frames, lengths)))
        expected = model.scaled(model.final_embedding(vector))
        embeddings = mirrored.embed(FRAMES, [5, 4, 3, 1])
        np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)
        assert np.abs(embeddings - model.embed(FRAMES, [5, 4, 3, 1])).max() > 1e-4
        by_chunks = mirrored.embed_batch(mirrored.checked_batch(FRAMES, [5, 4, 3, 1]), frames_at_once=8)
        np.testing.assert_allclose(by_chunks, embeddings, rtol=1e-4, atol=1e-5)
        halves = halves_of(mirrored)
        if halves.clip_length is None and mirrored.test_selection == "all":
            kept = Kept([[array[row] for array in halves.encode(FRAMES[0])] for row in range(5)])
            np.testing.assert_allclose(halves.embed([kept])[0], embeddings[0], rtol=1e-4, atol=1e-5)

    def test_files_and_fingerprints(self, tmp_path):
        model = make("baseline")
        model.passport = Passport(scores={"standard": {"mAP": 0.5}}, verification={"threshold": 0.4})
        mirrored = model.with_mirrored()
        assert "test_mirrored" not in model.get_config(), "fingerprints of earlier files stay"
        assert fingerprint(mirrored) != fingerprint(model) == fingerprint(mirrored.with_mirrored(False))
        mirrored.save(tmp_path / "model.keras")
        loaded = kreid.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded.embed(FRAMES), mirrored.embed(FRAMES))
        pooled = loaded.with_pooling("agreement", mean=np.zeros(128))
        np.testing.assert_array_equal(pooled.test_maps(FRAMES), mirrored.test_maps(FRAMES))
        assert (mirrored.passport.scores, mirrored.passport.verification) == (None, None)

    def test_a_system_that_mirrors_by_default(self, tmp_path):
        @kreid.models.register_system("mirrors")
        class Mirrors(kreid.models.Baseline):
            def __init__(self, backbone, num_identities, *, test_mirrored=True, **kwargs):
                super().__init__(backbone, num_identities, test_mirrored=test_mirrored, **kwargs)

        try:
            model = Mirrors(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), 5)
            plain = model.with_mirrored(False)
            assert (model.test_mirrored, plain.test_mirrored) == (True, False)
            plain.save(tmp_path / "plain.keras")
            assert kreid.load_model(tmp_path / "plain.keras").test_mirrored is False
        finally:
            del SYSTEMS["mirrors"]

    def test_a_constructor_that_takes_no_such_argument(self):
        class Closed(kreid.models.Baseline):
            def __init__(self, backbone, num_identities):
                super().__init__(backbone, num_identities)

        model = Closed(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), 5)
        with pytest.raises(ValueError, match=r"Closed.__init__ takes no test_mirrored.*Received: mirrored=True"):
            model.with_mirrored()

    def test_a_backbone_that_mixes_frames_is_refused(self):
        class MixingFrames(kreid.models.Baseline):
            def encode(self, frames, mask):
                return self.aggregate(self.frame_maps(frames), mask)

        with pytest.raises(ValueError, match=r"MixingFrames has an `encode` of its own.*test_mirrored=True"):
            MixingFrames(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), 5, test_mirrored=True)


@pytest.mark.parametrize(
    ("frames", "lengths", "complaint"),
    [
        (FRAMES[0], None, r"\(tracklets, frames, 64, 32, 3\).*\(5, 64, 32, 3\)"),
        (FRAMES[:, :0], None, "at least one frame"),
        (FRAMES[:, :, :32], None, "resize them first"),
        (FRAMES / 255.0, None, "uint8.*float64"),
        (FRAMES, [5, 5], "each of the 4 tracklets"),
        (FRAMES, [5.0] * 4, "one integer"),
        (FRAMES, [5, 6, 1, 1], r"between 0 and 5.*\[5, 6, 1, 1\]"),
        (FRAMES, [5, -1, 1, 1], r"between 0 and 5"),
    ],
)
def test_embed_refuses(frames, lengths, complaint, untrained):
    with pytest.raises(ValueError, match=complaint):
        untrained("baseline").embed(frames, lengths)


@pytest.mark.parametrize(
    ("system", "arguments", "complaint"),
    [
        ("sta", {"num_stripes": 3}, "divisible.*num_stripes=3"),
        ("sta", {"embedding_dim": 0}, "embedding_dim=0"),
        ("sta", {"attention": "max"}, "attention='max'"),
        ("sta", {"metric": "l1"}, "metric='l1'"),
        ("rtf", {"fusion": "middle"}, "early, late.*fusion='middle'"),
        ("rtf", {"semantic": "max"}, "semantic='max'"),
        ("rtf", {"attention": "inter"}, "attention='inter'"),
        ("rtf", {"stages": [0, 4]}, r"stages=\[0, 4\]"),
        ("rtf", {"stages": [2, 2]}, r"stages=\[2, 2\]"),
        ("rtf", {"stages": []}, r"stages=\[\]"),
        ("rtf", {"stages": ["a"]}, r"stages=\['a'\]"),
        ("rtf", {"stages": 3}, "stages=3"),
        ("rtf", {"embedding_dim": 0}, "embedding_dim=0"),
        ("rtf", {"relation_dim": 0}, "relation_dim=0"),
        ("gltr", {"pyramid": "wide"}, "dilated, undilated, pooling, none.*pyramid='wide'"),
        ("gltr", {"num_branches": 0}, "num_branches=0"),
        ("gltr", {"feature_dim": 0}, "feature_dim=0"),
        ("gltr", {"attention_normalization": "sum"}, "normalize='sum'"),
        ("gltr", {"reduction": 0}, "reduction=0"),
        ("mg_rafa", {"attention": "none"}, "reference_aided, average, .*attention='none'"),
        ("mg_rafa", {"attention": "average"}, r"has no references.*reference_grid=\[2, 1, 2\]"),
        ("mg_rafa", {"num_frames": 4}, r"made for 4 frames.*test_frames=5"),
        ("mg_rafa", {"test_selection": "all", "test_frames": None}, r"made for 6 frames.*test_selection='all'"),
        ("mg_rafa", {"num_granularities": 0}, "num_granularities=0"),
        ("mg_rafa", {"num_splits": 4}, "leave num_splits out.*num_splits=4, num_granularities=2"),
        ("mg_rafa", {"num_splits": "four"}, "num_splits='four'"),
        ("mg_rafa", {"num_granularities": 4}, "take at most 2 granularities.*num_groups=4"),
        ("tacan", {"clip_length": 0}, "clip_length=0"),
        ("tacan", {"frame_attention": "linear"}, "frame_attention='linear'"),
        ("tacan", {"clip_attention": "temporal"}, "weighting='temporal'"),
        ("tacan", {"embedding_dim": 0}, "embedding_dim=0"),
        ("baseline", {"embedding_from": "logits"}, "embedding_from='logits'"),
        ("baseline", {"embedding_dim": 0}, "embedding_dim=0"),
    ],
)
def test_models_refuse(system, arguments, complaint, untrained):
    with pytest.raises(ValueError, match=complaint):
        SYSTEMS[system](untrained("baseline").backbone, 6, **{**CASES[system], **arguments})


def test_too_few_identities(untrained):
    with pytest.raises(ValueError, match="num_identities=1"):
        STA(untrained("baseline").backbone, 1)


def test_pytorch_is_refused_in_one_sentence():
    for backend in ("tensorflow", "jax"):
        check_backend(backend)
    with pytest.raises(ValueError, match=r"KERAS_BACKEND=tensorflow or .* Received: KERAS_BACKEND='torch'"):
        check_backend("torch")


def test_a_model_is_refused_on_pytorch():
    pytest.importorskip("torch")
    code = "import kreid; kreid.models.Baseline(kreid.backbones.build('resnet_tiny', image_size=(64, 32)), 5)"
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "Received: KERAS_BACKEND='torch'" in ran.stderr.splitlines()[-1]
