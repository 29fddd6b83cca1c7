"""The fingerprint changes with whatever changes embeddings, and with nothing else.

`tests/models/test_models_on_jax.py` compares it with that of another process and backend.
"""

import json

import keras
import numpy as np
import pytest
from network_samples import CONVOLUTIONS, convolutions

import kreid
from kreid.backbones import build, from_keras
from kreid.models import GLTR, Baseline, Passport, fingerprint

pytestmark = pytest.mark.usefixtures("eagerly")


def small(cls=Baseline, identities=4, size=(64, 32), **kwargs):
    keras.utils.set_random_seed(3)
    return cls(build("resnet_tiny", size, width=8), identities, **kwargs)


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def original(model):
    return fingerprint(model)


def test_it_is_a_sha256(original):
    assert len(original) == 64 and set(original) <= set("0123456789abcdef")


def test_every_weight_of_the_embedder_counts(model, original):
    seen = {original}
    for weight in model.embedder.weights:
        before = keras.ops.convert_to_numpy(weight)
        changed = before.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9), dtype=changed.dtype)
        weight.assign(changed)
        seen.add(fingerprint(model))
        weight.assign(before)
    assert len(seen) == 1 + len(model.embedder.weights)
    assert fingerprint(model) == original


def test_two_weights_that_change_places_count(model, original):
    norm = model.bnneck
    mean, variance = (keras.ops.convert_to_numpy(w) for w in (norm.moving_mean, norm.moving_variance))
    norm.moving_mean.assign(variance)
    norm.moving_variance.assign(mean)
    assert fingerprint(model) != original
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)


@pytest.mark.parametrize(
    "settings",
    [
        {"metric": "euclidean"},
        {"normalize": True},
        {"pooling": "agreement"},
        {"pooling": "agreement", "agreement_temperature": 5.0},
        {"test_selection": "evenly", "test_frames": 4},
        {"test_selection": "evenly", "test_frames": 2},
        {"test_selection": "adjacent", "test_frames": 4},
        {"dtype": "mixed_bfloat16"},
        {"size": (64, 64)},
    ],
    ids=str,
)
def test_every_setting_counts(settings, original):
    assert fingerprint(small(**settings)) != original
    assert fingerprint(small(**settings)) == fingerprint(small(**settings))


@keras.saving.register_keras_serializable(package="kreid_tests")
class Renamed(Baseline):
    pass


def test_the_system_counts(original):
    assert fingerprint(small(Renamed)) != original
    assert fingerprint(small(GLTR, pyramid="none", self_attention=False)) != fingerprint(small(GLTR))


def test_what_changes_no_embedding_does_not_count(model, original, tmp_path):
    assert fingerprint(small(identities=9)) == original
    assert fingerprint(small(name="other")) == original
    frozen = small()
    frozen.backbone.trainable = False
    frozen.backbone.passport = {"weights": "file.pth"}
    frozen.passport = Passport(trained_on={"data": "mine"})
    assert fingerprint(frozen) == original
    frozen.save(tmp_path / "model.keras")
    assert fingerprint(kreid.load_model(tmp_path / "model.keras")) == original
    assert fingerprint(model.with_selection("all")) == original


def test_names_of_layers_do_not_count():
    def twin(name):
        keras.utils.set_random_seed(3)
        network = convolutions(name)
        return small(lambda backbone, identities: Baseline(from_keras(network, CONVOLUTIONS, 2, "tf"), identities))

    one, other = twin("one"), twin("two")
    # Keras numbers the layers that have no name through the process.
    assert json.dumps(one.get_config()) != json.dumps(other.get_config())
    other.set_weights(one.get_weights())
    assert fingerprint(one) == fingerprint(other)


def test_any_exportable_object_has_one(model):
    class Own:
        embedder, image_size, metric, embedding_dim = model.embedder, (64, 32), "cosine", model.embedding_dim

    assert len(fingerprint(Own())) == 64
    Own.metric = "euclidean"
    euclidean = fingerprint(Own())
    Own.metric = "cosine"
    assert fingerprint(Own()) != euclidean
