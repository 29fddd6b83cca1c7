import json
import os

import numpy as np
import pytest
from runtime_samples import CASES, make, skip_without

import kreid
from kreid.models import Passport, fingerprint
from kreid.runtimes import FORMATS, comparison, export
from kreid.runtimes.writers import WRITERS

FORMS = [form for form in FORMATS if form != "keras"]


@pytest.fixture(scope="module")
def model():
    # Clips of 4 are the hardest of a short graph: their number follows from T.
    model = make("tacan", image_size=(32, 32))
    model.passport = Passport(trained_on={"data": "mine"}, verification={"metric": "euclidean", "threshold": 0.5})
    return model


@pytest.fixture(scope="module")
def opened(model, tmp_path_factory):
    skip_without("onnx")
    return kreid.load_export(export(model, tmp_path_factory.mktemp("onnx"), "onnx"))


pytestmark = pytest.mark.usefixtures("eagerly")


def tracklets(generator, count, total, size=(32, 32)):
    return generator.integers(0, 256, (count, total, *size, 3)).astype("uint8")


@pytest.mark.parametrize("total", [1, 2, 5, 8, 11])
def test_onnx_embeds_as_the_model(model, opened, total):
    frames = tracklets(np.random.default_rng(total), 2, total)
    lengths = np.array([total, max(1, total - 3)])
    np.testing.assert_allclose(opened.embed(frames, lengths), model.embed(frames, lengths), rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(opened):
    generator = np.random.default_rng(0)
    frames = tracklets(generator, 2, 7)
    padded = np.concatenate([frames, tracklets(generator, 2, 6)], axis=1)
    np.testing.assert_allclose(opened.embed(padded, np.array([7, 7])), opened.embed(frames), rtol=1e-4, atol=1e-5)


def test_the_runtime_alone_embeds_and_clips_lengths(model, opened):
    import onnxruntime

    session = onnxruntime.InferenceSession(opened.path)
    inputs = {put.name: (put.type, put.shape[2:]) for put in session.get_inputs()}
    assert inputs == {"frames": ("tensor(uint8)", [32, 32, 3]), "lengths": ("tensor(int32)", [])}
    frames = tracklets(np.random.default_rng(0), 2, 3)
    (embeddings,) = session.run(["embedding"], {"frames": frames, "lengths": np.array([2, 99], "int32")})
    np.testing.assert_allclose(embeddings, model.embed(frames, np.array([2, 3])), rtol=1e-4, atol=1e-5)


def test_the_card_goes_with_the_file(model, opened):
    card = json.loads((opened.path.parent / "kreid.json").read_text())
    assert card == opened.card
    assert (card["format"], card["precision"], card["system"]) == ("onnx", "float32", "TACAN")
    assert (card["metric"], card["image_size"], card["embedding_dim"]) == ("euclidean", [32, 32], 24)
    assert card["verification"] == {"metric": "euclidean", "threshold": 0.5}
    assert 0 < card["largest_difference"] < 1e-4
    assert opened.fingerprint == fingerprint(model) == opened.passport.fingerprint == fingerprint(opened)
    assert opened.passport.trained_on == {"data": "mine"}


def test_a_wrong_file_is_not_kept(model, tmp_path, monkeypatch):
    # The writer writes another model: its file is whole, and only the comparison can tell.
    wrong = make("tacan", image_size=(32, 32), frame_attention="average")
    write = kreid.runtimes.writers.WRITERS["keras"]
    monkeypatch.setitem(
        kreid.runtimes.writers.WRITERS, "keras", lambda model, file, precision: write(wrong, file, precision)
    )
    with pytest.raises(
        ValueError, match=r"differ from the model's by .* 1e-04 is the most .*Received: 1 tracklets of 1 f"
    ):
        export(model, tmp_path, "keras")
    assert os.listdir(tmp_path) == []


def test_an_existing_version_is_not_overwritten(model, opened):
    before = opened.path.read_bytes()
    with pytest.raises(ValueError, match=r"exists and is not overwritten; the next free one is 2.*version=1"):
        export(model, opened.path.parents[1], "onnx", version=1)
    assert os.listdir(opened.path.parents[1]) == ["1"] and opened.path.read_bytes() == before


@pytest.mark.slow
def test_keep_removes_older_versions_of_the_format(model, tmp_path):
    for _ in range(3):
        path = export(model, tmp_path, "keras", keep=2)
    assert sorted(os.listdir(tmp_path)) == ["2", "3"]
    assert sorted(os.listdir(path)) == ["kreid.json", "model.keras"]


def test_bad_arguments(model, tmp_path):
    with pytest.raises(ValueError, match=r"formats are keras, onnx.*Received: format='coreml'"):
        export(model, tmp_path, "coreml")
    with pytest.raises(ValueError, match=r"openvino format has the precisions .*Received: precision='int8'"):
        export(model, tmp_path, "openvino", precision="int8")
    with pytest.raises(ValueError, match=r"model's metric, euclidean.*Received: verification"):
        export(model, tmp_path, "keras", verification={"metric": "cosine", "threshold": 1})
    assert os.listdir(tmp_path) == []


def test_missing_packages_are_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'kreid\[openvino\]'. Received: .*openvino"):
        export(model, tmp_path, "openvino")
    assert os.listdir(tmp_path) == []


def test_a_fault_of_the_conversion_is_not_taken_for_rounding(model, tmp_path, monkeypatch):
    write = WRITERS["keras"]

    def write_other_weights(model, path, precision):
        weights = model.embedder.get_weights()
        model.embedder.set_weights([1.01 * weight for weight in weights])
        try:
            write(model, path, precision)
        finally:
            model.embedder.set_weights(weights)

    monkeypatch.setitem(WRITERS, "keras", write_other_weights)
    with pytest.raises(ValueError, match=r"differ from the model's by .*, and 1e-04 is the most at float32"):
        export(model, tmp_path, "keras", precision="int8")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_every_system_in_every_runtime(case, form, tmp_path):
    skip_without(form)
    # `export` compares: what it returns embeds as the model at every size of `comparison.SIZES`.
    opened = kreid.load_export(export(make(case), tmp_path, form))
    assert opened.card["largest_difference"] < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), [(f, p) for f in FORMATS for p in FORMATS[f].precisions[1:]])
def test_smaller_precisions(form, precision, tmp_path):
    skip_without(form)
    model = make("sta", backbone="resnet18")
    paths = {name: export(model, tmp_path / name, form, precision=name) for name in ("float32", precision)}
    sizes = {name: sum(file.stat().st_size for file in path.iterdir()) for name, path in paths.items()}
    if form != "keras":  # Of which only Dense layers are quantised.
        assert sizes[precision] < {"float16": 0.55, "int8": 0.35}[precision] * sizes["float32"]
    opened = {name: kreid.load_export(path) for name, path in paths.items()}
    assert opened[precision].fingerprint != opened["float32"].fingerprint
    # Of one person's frames and of another's the nearer stay nearer.
    frames, lengths = next(batch for batch in comparison.batches(model.image_size) if batch[0].shape[0] == 3)
    exact, rounded = (opened[name].embed(frames, lengths) for name in ("float32", precision))
    distances = np.linalg.norm(exact[:, None] - rounded, axis=-1)
    assert distances.argmin(axis=1).tolist() == [0, 1, 2]


@pytest.mark.slow
def test_half_precision_models_are_exported_in_float32(tmp_path):
    skip_without("onnx")
    model = make("gltr", dtype="mixed_bfloat16")
    opened = kreid.load_export(export(model, tmp_path, "onnx"))
    assert opened.fingerprint != fingerprint(model)
    assert opened.card["largest_difference"] < 2e-5
