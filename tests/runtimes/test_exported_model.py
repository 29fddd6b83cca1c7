import json
import shutil

import numpy as np
import pytest
from PIL import Image
from runtime_samples import make

import kreid
from kreid.data import Tracklet
from kreid.gallery import embed_tracklets
from kreid.runtimes import export


@pytest.fixture(scope="module")
def model():
    return make("baseline", image_size=(32, 32))


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    base = tmp_path_factory.mktemp("keras")
    shutil.copytree(export(model, base, "keras", version=9), base / "10")
    return base


pytestmark = pytest.mark.usefixtures("eagerly")


def frames(count=2, total=3):
    return np.random.default_rng(0).integers(0, 256, (count, total, 32, 32, 3)).astype("uint8")


def test_the_highest_version_a_version_and_a_file_are_opened(base, model):
    expected = model.embed(frames())
    for path, version in ((base, "10"), (base / "9", "9"), (base / "9" / "model.keras", "9")):
        opened = kreid.load_export(path)
        assert opened.path == base / version / "model.keras"
        np.testing.assert_allclose(opened.embed(frames()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_saved_model_is_opened_too(model, tmp_path):
    kreid.serving.export_model(model, tmp_path, warmup=False)
    opened = kreid.load_export(tmp_path)
    assert (opened.format, opened.precision, opened.metric) == ("saved_model", "float32", "cosine")
    lengths = np.array([3, 1])
    np.testing.assert_allclose(opened.embed(frames(), lengths), model.embed(frames(), lengths), rtol=1e-4, atol=1e-5)


def test_batches_are_embedded_some_tracklets_at_a_time(base, model):
    opened = kreid.load_export(base)
    lengths = np.array([1, 4, 2, 3, 4])
    batch = {"frames": frames(5, 4), "lengths": lengths}
    np.testing.assert_allclose(
        opened.embed_batch(batch, frames_at_once=8), model.embed(frames(5, 4), lengths), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_it_embeds_tracklets_in_place_of_a_model(base, model, tmp_path):
    for number, frame in enumerate(frames(1, 3)[0]):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    tracklets = [Tracklet("whole", 1, 1, files), Tracklet("two", 1, 2, files[:2])]
    opened = embed_tracklets(kreid.load_export(base), tracklets, progress=False)
    expected = embed_tracklets(model, tracklets, progress=False)
    np.testing.assert_allclose(opened.embeddings, expected.embeddings, rtol=1e-4, atol=1e-5)
    assert (opened.model, opened.metric) == (expected.model, expected.metric)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros((1, 2, 32, 16, 3), "uint8"),), r"\(tracklets, frames, 32, 32, 3\).*Received: frames of shape"),
        ((np.zeros((1, 0, 32, 32, 3), "uint8"),), r"at least one of each.*Received: frames of shape"),
        ((np.zeros((1, 2, 32, 32, 3)),), r"must be uint8.*Received: frames of dtype float64"),
        ((frames(2), np.array([1.0, 2.0])), r"one integer for each of the 2.*Received: lengths of shape"),
        ((frames(2), np.array([1, 0])), r"between 1 and 3. Received: lengths=\[1, 0\]"),
        ((frames(2), np.array([1, 4])), r"between 1 and 3. Received: lengths=\[1, 4\]"),
    ],
)
def test_bad_inputs(base, arrays, message):
    with pytest.raises(ValueError, match=message):
        kreid.load_export(base).embed(*arrays)


def damaged(base, folder, **changes):
    shutil.copytree(base / "9", folder)
    card = json.loads((folder / "kreid.json").read_text())
    (folder / "kreid.json").write_text(json.dumps({**card, **changes}))
    return folder


def test_what_cannot_be_opened_is_named(base, tmp_path):
    with pytest.raises(ValueError, match=r"no exported model here.*kreid export wrote. Received: path="):
        kreid.load_export(tmp_path)
    with pytest.raises(ValueError, match=r"newer kreid; install that version.*of kreid 9.9.9, this is kreid"):
        kreid.load_export(damaged(base, tmp_path / "layout", layout=2, kreid="9.9.9"))
    with pytest.raises(ValueError, match=r"newer kreid.*of kreid 9.9.9"):
        kreid.load_export(damaged(base, tmp_path / "format", format="coreml", kreid="9.9.9"))
    folder = damaged(base, tmp_path / "lost")
    (folder / "model.keras").unlink()
    with pytest.raises(ValueError, match=r"file is missing; copy.*Received: path=.*model.keras"):
        kreid.load_export(folder)
    (folder / "kreid.json").write_text("{")
    with pytest.raises(ValueError, match=r"card of this export is damaged.*Received: folder="):
        kreid.load_export(folder)


def test_a_damaged_onnx_file_is_one_sentence(base, tmp_path):
    pytest.importorskip("onnxruntime", reason="opens ONNX files")
    folder = damaged(base, tmp_path / "onnx", format="onnx")
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"onnxruntime .* cannot open this file .*Received: path=.*model.onnx"):
        kreid.load_export(folder)
