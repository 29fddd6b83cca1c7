import dataclasses

import keras
import numpy as np
import pytest
from identity_samples import COLOURS, LIMITS, crop_of, write_camera, write_truth

import kreid
from kreid.identities.__main__ import main
from kreid.passport import Passport


@pytest.fixture(scope="session")
def model():
    """A random network; its threshold is half the smallest distance between two colours."""
    keras.utils.set_random_seed(0)
    made = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8), 5)
    frames = np.stack([crop_of(colour, 1, 64, 32)[None] for colour in COLOURS])
    vectors = made.embed(frames, np.ones(len(COLOURS), "int32"))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    threshold = float(distances[distances > 0].min() / 2)
    calibration = {"scale": 6 / threshold, "offset": 9.0, "prior": 0.5}
    made.passport = Passport(verification={"metric": made.metric, "threshold": threshold, "calibration": calibration})
    return made


@pytest.fixture(scope="session")
def cameras(tmp_path_factory):
    """Arguments of the command: the videos and tracks of both cameras."""
    folder = tmp_path_factory.mktemp("cameras")
    arguments = []
    for camera in ("hall", "door"):
        images, tracks = write_camera(folder, camera)
        arguments += ["--video", str(images), "--tracks", str(tracks)]
    return arguments


@pytest.fixture(scope="session")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    return [argument for camera in ("hall", "door") for argument in ("--truth", str(write_truth(folder, camera)))]


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def identities(saved, cameras, truth, tmp_path_factory):
    """The folder that the command wrote."""
    out = tmp_path_factory.mktemp("identities") / "new" / "out"
    assert main([str(saved), *cameras, *truth, *LIMITS, "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture
def without_threshold(model, tmp_path):
    """A file of the same model without a threshold."""
    before = model.passport
    model.passport = dataclasses.replace(before, verification=None)
    model.save(tmp_path / "plain.keras")
    model.passport = before
    return tmp_path / "plain.keras"
