"""Keras's own files: outputs equal to keras.applications', ImageNet's weights from the cache, and what is refused."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from backbone_samples import randomised

import kreid
from kreid.backbones import build, load_checkpoint, read_tensors

pytestmark = pytest.mark.usefixtures("eagerly")

SIZE = (64, 32)
IMAGES = np.random.default_rng(0).normal(size=(2, *SIZE, 3)).astype("float32")
IMAGENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5"


def applications(size=SIZE):
    return randomised(keras.applications.MobileNetV2((*size, 3), alpha=0.5, weights=None, classes=7))


@pytest.fixture(scope="module")
def published():
    return applications()


@pytest.fixture(scope="module")
def files(published, tmp_path_factory):
    """The network, with its classifier, in each of Keras's formats; by name."""
    folder = tmp_path_factory.mktemp("files")
    files = {name: folder / name for name in ("model.keras", "model.h5", "model.weights.h5", "old.h5")}
    for name in list(files)[:2]:
        published.save(files[name])
    published.save_weights(files["model.weights.h5"])
    old_weights(published, folder / "with_top.h5").replace(files["old.h5"])
    return files


def old_weights(model, path):
    """Write Keras 2's file of weights alone, the form of the published files."""
    whole = path.with_name(f"whole_{path.name}")
    model.save(whole)
    with h5py.File(whole) as source, h5py.File(path, "w") as target:
        for name, group in source["model_weights"].items():
            source.copy(group, target, name)
        for name, value in source["model_weights"].attrs.items():
            target.attrs[name] = value
    return path


def features(model, images):
    return keras.Model(model.input, model.get_layer("out_relu").output)(images).numpy()


def test_every_format_gives_the_outputs_of_keras_applications(published, files):
    expected = features(published, IMAGES)
    for path in files.values():
        backbone = build("mobilenet_v2_keras", SIZE, width=16)
        conversion = load_checkpoint(backbone, path)
        assert conversion.layout == "keras.applications"
        assert conversion.left_out == ("predictions/bias", "predictions/kernel")
        assert conversion.placed == len(published.weights) - 2
        if path.name == "model.keras":
            np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-4, atol=1e-5 * expected.max())
            weights = backbone.get_weights()
        for one, other in zip(backbone.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)
    assert backbone.preprocessing == "tf"


def test_a_network_inside_a_model(published, files, tmp_path):
    inner = keras.Model(published.input, published.get_layer("out_relu").output, name="inner")
    model = keras.Sequential([inner, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, name="fc")])
    model.save(tmp_path / "inside.h5")
    backbone, twin = (build("mobilenet_v2_keras", SIZE, width=16) for _ in range(2))
    conversion = load_checkpoint(backbone, tmp_path / "inside.h5")
    assert conversion.left_out == ("fc/bias", "fc/kernel")
    load_checkpoint(twin, files["model.keras"])
    for one, other in zip(backbone.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(conversion.matched) == conversion.placed == len(inner.weights)
    paths = {weight.path for weight in backbone.weights}
    assert set(conversion.matched.values()) == paths
    assert conversion.matched["block_1_expand_BN/gamma"].endswith("features_2_expand_bn/gamma")


def test_odd_sizes_are_padded_as_by_keras(tmp_path):
    size = (67, 35)
    published = applications(size)
    published.save(tmp_path / "odd.keras")
    backbone = build("mobilenet_v2_keras", size, width=16, weights=tmp_path / "odd.keras")
    images = np.random.default_rng(1).normal(size=(1, *size, 3)).astype("float32")
    expected = features(published, images)
    np.testing.assert_allclose(backbone(images), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_imagenet_from_the_cache(published, tmp_path, monkeypatch):
    # What KERAS_HOME sets when Keras is imported.
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    old_weights(
        keras.Model(published.input, published.get_layer("out_relu").output), tmp_path / "models" / IMAGENET_FILE
    )
    backbone = build("mobilenet_v2_keras", SIZE, width=16, weights="imagenet", branches=(1,))
    expected = features(published, IMAGES)
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert backbone.passport["weights"] == "imagenet"


@pytest.mark.parametrize("width", [8, 40])
def test_imagenet_at_a_width_that_keras_lacks(width):
    with pytest.raises(ValueError, match=rf"resnet50_v1, inception_v3, mobilenet_v2_keras at .*width={width}"):
        build("mobilenet_v2_keras", SIZE, width=width, weights="imagenet")


def test_own_weights_are_told_apart(tmp_path):
    narrow = randomised(build("mobilenet_v2_keras", SIZE, width=8))
    narrow.save_pretrained(tmp_path / "own.weights.h5")
    twin = build("mobilenet_v2_keras", SIZE, width=8, weights=tmp_path / "own.weights.h5")
    np.testing.assert_array_equal(twin(IMAGES), narrow(IMAGES))
    with pytest.raises(ValueError, match=r"another architecture, width or branches .*own\.weights\.h5"):
        build("mobilenet_v2_keras", SIZE, width=16, weights=tmp_path / "own.weights.h5")
    narrow.named_layers()["features_3_expand_bn"].gamma.assign(np.full(48, np.nan))
    narrow.save_pretrained(tmp_path / "own.weights.h5")
    with pytest.raises(ValueError, match=r"1 weights, such as .*features_3_expand_bn/gamma, have values that are NaN"):
        build("mobilenet_v2_keras", SIZE, width=8, weights=tmp_path / "own.weights.h5")


def test_another_architecture_or_width(files):
    with pytest.raises(ValueError, match=r"another width or kernel size; .*Conv1/kernel \(3, 3, 3, 16\) instead of"):
        build("mobilenet_v2_keras", SIZE, width=8, weights=files["model.h5"])
    with pytest.raises(ValueError, match=r"different networks: .*Conv1/kernel.*conv1_bn/beta.*keras\.applications's"):
        build("resnet50_v1", SIZE, width=8, weights=files["model.weights.h5"])
    with pytest.raises(ValueError, match="different networks"):
        build("mobilenet_v2", SIZE, width=16, weights=files["model.keras"])


def test_a_network_with_nan(published, tmp_path):
    model = keras.models.clone_model(published)
    model.get_layer("Conv1").kernel.assign(np.full((3, 3, 3, 16), np.inf))
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(ValueError, match=r"1 tensors \(Conv1/kernel\) have values that are NaN or infinite"):
        build("mobilenet_v2_keras", SIZE, width=16, weights=tmp_path / "nan.weights.h5")


def test_a_model_of_kreid_is_no_image_network(tmp_path):
    kreid.models.Baseline(build("resnet_tiny", SIZE, width=8), 2).save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"start from a model by init=FILE.*of 'kreid>Baseline'"):
        build("resnet50", SIZE, width=8, weights=tmp_path / "model.keras")


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps({}))
        file.writestr("model.weights.h5", bytes(50_000_000))


def declared(path):
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "Conv1"
        group.create_dataset("0", shape=(10**7, 10**7), chunks=(100, 100), dtype="float32")


def elsewhere(path):
    (path.parent / "secret").write_bytes(bytes(16))
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "Conv1"
        group.create_dataset("0", (4,), "float32", external=[(str(path.parent / "secret"), 0, 16)])


def without_weights(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "[]")


@pytest.mark.parametrize(
    ("name", "write", "complaint"),
    [
        ("bomb.keras", bomb, r"unpacks to 50000002 bytes.*of \d+ bytes"),
        ("declared.h5", declared, r"not in it \(400000000000000 bytes are declared\)"),
        ("elsewhere.h5", elsewhere, "arrays of this file are not in it"),
        ("empty.keras", lambda path: path.write_bytes(b""), "no readable file of Keras"),
        ("text.h5", lambda path: path.write_text("no weights"), "no readable file of Keras"),
        ("config.keras", without_weights, "no readable file of Keras"),
        ("other.h5", lambda path: h5py.File(path, "w").close(), "different networks: 0 tensors in the file"),
        ("weights.npz", lambda path: path.write_bytes(b""), r"read from files named \*\.safetensors, "),
    ],
)
def test_files_that_are_refused(name, write, complaint, tmp_path):
    path = tmp_path / name
    write(path)
    with pytest.raises(ValueError, match=f"{complaint}.*Received: .*{name}" if "bomb" not in name else complaint):
        build("mobilenet_v2_keras", SIZE, width=16, weights=path)


def test_a_truncated_file(files, tmp_path):
    for name in ("model.keras", "model.h5"):
        content = files[name].read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="no readable file of Keras"):
            read_tensors(tmp_path / name)
