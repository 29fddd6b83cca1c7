"""Exports load and answer alike in other versions of TensorFlow, each in an environment made for the test."""

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig

import numpy as np
import pytest
import tensorflow as tf
from serving_samples import IMAGE_SIZE, encode, random_tracklet

import kreid
from kreid.serving import export_model, read_card

pytestmark = pytest.mark.slow

VERSIONS = ["2.19", "2.20"]

# Runs in the other environment, which has TensorFlow and no kreid. Answers every signature of every export.
PROGRAM = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

exports, inputs, outputs = sys.argv[1:]
sent, answers = dict(np.load(inputs, allow_pickle=True)), {"tensorflow": tf.__version__}
for system in sorted(os.listdir(exports)):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        folder = os.path.join(exports, system, "1")
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], folder).signature_def
        for name in sorted(signatures):
            if name.startswith("__"):
                continue
            signature = signatures[name]
            feeds = {}
            for alias, info in signature.inputs.items():
                key = f"{system}/{alias}" if f"{system}/{alias}" in sent else alias
                feeds[info.name] = sent[key]
            fetches = {alias: info.name for alias, info in signature.outputs.items()}
            for alias, value in session.run(fetches, feeds).items():
                answers[f"{system} {name} {alias}"] = value
np.savez(outputs, **answers)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Function: Python interpreter -> the answers of TensorFlow there to one request per signature and system."""
    folder = tmp_path_factory.mktemp("exports")
    rng, inputs = np.random.default_rng(0), {}
    for system, kind in kreid.models.SYSTEMS.items():
        backbone = kreid.backbones.build("resnet_tiny", image_size=IMAGE_SIZE, last_stride=1)
        # Its granularities need maps that can be halved.
        small = {"num_granularities": 2} if system == "mg_rafa" else {}
        model = kind(backbone, 4, **small)
        calibration = {"offset": 4.0, "scale": 1.0, "prior": 0.5}
        verification = {"metric": model.metric, "threshold": 1.0, "calibration": calibration}
        signatures = read_card(export_model(model, folder / system, warmup=False, verification=verification))[
            "signatures"
        ]
        assert "same_person" in signatures
        for name in ("first", "second"):
            inputs[f"{system}/{name}"] = rng.normal(size=(3, model.embedding_dim)).astype(np.float32)
        if "aggregate" in signatures:
            size = int(signatures["aggregate"]["inputs"]["vectors"].rstrip("]").rpartition(",")[2])
            inputs[f"{system}/vectors"] = rng.normal(size=(3, 4, size)).astype(np.float32)
    tracklets = [random_tracklet(seed, 4) for seed in range(3)]
    images = np.array([[encode(frame) for frame in tracklet] for tracklet in tracklets], object)
    images[1, 1] = images[1, 1][:200]
    inputs |= {"frames": np.stack(tracklets), "images": images, "rows": np.zeros(2, np.int32)}
    np.savez(folder.parent / "inputs.npz", lengths=np.array([4, 3, 1], np.int32), **inputs)

    def run(python):
        outputs = folder.parent / "outputs.npz"
        command = [python, "-c", PROGRAM, folder, folder.parent / "inputs.npz", outputs]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return dict(np.load(outputs, allow_pickle=True))

    return run


@pytest.fixture(params=VERSIONS)
def other_tensorflow(request, tmp_path):
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    package = "tensorflow-cpu" if sysconfig.get_platform() == "linux-x86_64" else "tensorflow"
    pip = [folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", f"{package}=={request.param}.*"]
    installed = subprocess.run(list(map(str, pip)), capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"TensorFlow {request.param} cannot be installed here: {installed.stderr.strip()[-300:]}")
    yield request.param, folder / "bin" / "python"
    shutil.rmtree(folder)  # more than a gigabyte


def test_answers_equal_those_of_this_tensorflow(answers, other_tensorflow):
    version, python = other_tensorflow
    here, there = answers(sys.executable), answers(python)
    assert str(here.pop("tensorflow")) == tf.__version__ == importlib.metadata.version("tensorflow")
    assert str(there.pop("tensorflow")).startswith(version)
    assert set(here) == set(there)
    for system in kreid.models.SYSTEMS:
        assert {f"{system} embed_jpeg valid_frames", f"{system} describe card"} <= set(here)
        assert here[f"{system} embed_jpeg valid_frames"].tolist() == [4, 2, 1]
    assert {name.split()[0] for name in here if "aggregate embedding" in name} == {"baseline", "gltr", "tacan"}
    for name, expected in here.items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(there[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(there[name], expected, err_msg=name)
