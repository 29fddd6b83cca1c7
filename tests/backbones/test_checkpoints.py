"""Other projects' checkpoints: outputs equal to the original networks', and nothing is loaded in part."""

import json
import pathlib

import keras
import numpy as np
import pytest
from reference_weights import IMAGE_SIZE, drawn, image
from safetensors.numpy import save_file

import kreid
from kreid.backbones import build, checkpoints, load_checkpoint

pytestmark = pytest.mark.usefixtures("eagerly")

REFERENCES = sorted(pathlib.Path(__file__).with_name("references").glob("*.json"))
WIDTHS = {"mobilenet_v2": 16}
RNG = np.random.default_rng(0)


def reference(name):
    return json.loads((pathlib.Path(__file__).with_name("references") / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def tensors():
    """The weights of a MobileNetV2 half as wide, by torchvision's names, its classifier included."""
    return drawn(reference("mobilenet_v2_torchvision")["shapes"])


@pytest.fixture(scope="module")
def backbone():
    return build("mobilenet_v2", IMAGE_SIZE, width=16, branches=(1,))


@pytest.fixture
def saved(tmp_path):
    def save(tensors):
        save_file(tensors, tmp_path / "file.safetensors")
        return tmp_path / "file.safetensors"

    return save


@pytest.mark.parametrize("file", REFERENCES, ids=lambda file: file.stem)
def test_outputs_are_the_original_networks(file, saved):
    record = json.loads(file.read_text())
    architecture, _, project = file.stem.rpartition("_")
    backbone = build(architecture, IMAGE_SIZE, width=WIDTHS.get(architecture))
    conversion = load_checkpoint(backbone, saved(drawn(record["shapes"])))
    assert conversion.layout == project
    assert conversion.placed + len(conversion.left_out) == len(record["shapes"])
    maps = keras.ops.convert_to_numpy(backbone(image()))[0]
    assert list(maps.shape[:2]) == record["map"]
    np.testing.assert_allclose(maps.mean(axis=(0, 1))[:16], record["means"], rtol=1e-4, atol=1e-5 * maps.max())
    np.testing.assert_allclose([maps.mean(), maps.std()], [record["mean"], record["deviation"]], rtol=1e-4)


def test_resnet34_has_the_names_of_resnet18():
    shapes = reference("resnet18_torchvision")["shapes"]
    layers = build("resnet34", IMAGE_SIZE, width=8).named_layers()
    assert layers.keys() > build("resnet18", IMAGE_SIZE, width=8).named_layers().keys()
    assert "layer4.1.conv2.weight" in shapes
    # 3, 4, 6 and 3 blocks of two convolutions, three projections and the stem.
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in layers.values()) == 2 * 16 + 3 + 1


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.backbone.", "module.base."])
def test_names_before_the_networks_own(prefix, tensors, backbone, saved):
    conversion = load_checkpoint(backbone, saved({f"{prefix}{name}": values for name, values in tensors.items()}))
    assert conversion.left_out == (f"{prefix}classifier.1.bias", f"{prefix}classifier.1.weight")
    kernel = backbone.named_layers()["features_0_conv"].kernel
    np.testing.assert_array_equal(kernel, tensors["features.0.0.weight"].transpose(2, 3, 1, 0))


def test_counters_and_input_constants_have_no_place(tensors, backbone, saved):
    more = {"features.0.1.num_batches_tracked": np.array(7), "pixel_mean": np.zeros((1, 3, 1, 1), "float32")}
    assert load_checkpoint(backbone, saved({**tensors, **more})).placed == len(tensors) - 2


def test_branches_start_from_the_statistics_of_the_file(tensors, backbone, saved):
    load_checkpoint(backbone, saved(tensors))
    bn = backbone.named_layers()["features_4_expand_bn"]
    (mean, _), (branch_mean, _) = bn.statistics
    np.testing.assert_array_equal(branch_mean, tensors["features.4.conv.0.1.running_mean"])
    np.testing.assert_array_equal(mean, branch_mean)


def without(tensors, name):
    return {other: values for other, values in tensors.items() if other != name}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda t: without(t, "features.3.conv.2.weight"),
            r"0 tensors in the file have no place .* 1 tensors \(features\.3\.conv\.2\.weight\) of the backbone",
        ),
        (
            lambda t: {**t, "features.19.weight": np.zeros(2, "float32"), "temporal.bias": np.zeros(2, "float32")},
            r"2 tensors \(features\.19\.weight, temporal\.bias\) in the file have no place .*mobilenet_v2$",
        ),
        (
            lambda t: {**t, "features.0.0.weight": np.zeros((24, 3, 3, 3), "float32")},
            r"another width or kernel size; .*features\.0\.0\.weight \(24, 3, 3, 3\) instead of \(16, 3, 3, 3\)",
        ),
        (
            lambda t: {**t, "features.0.0.weight": np.zeros(16, "float32")},
            r"features\.0\.0\.weight \(16,\) instead of \(16, 3, 3, 3\)",
        ),
        (
            lambda t: {**t, "features.0.1.bias": np.full(16, np.nan, "float32")},
            r"1 tensors \(features\.0\.1\.bias\) have values that are NaN or infinite",
        ),
        (
            lambda t: {**t, **{f"backbone.{name}": values for name, values in t.items()}},
            r"more than one network; .*Received: tensors (backbone\.)?features\.\S+ and (backbone\.)?features\.",
        ),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(change, complaint, tensors, backbone, saved):
    before = backbone.get_weights()
    with pytest.raises(ValueError, match=complaint):
        load_checkpoint(backbone, saved(change(tensors)))
    for one, other in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_further_tensors_are_left_out_by_name(tensors, backbone, saved):
    path = saved({**tensors, "temporal.bias": np.zeros(2, "float32")})
    assert "temporal.bias" in load_checkpoint(backbone, path, skip=["temporal.*"]).left_out


def test_another_architecture_is_named_on_both_sides(tensors, saved):
    with pytest.raises(ValueError, match=r"\(features\.0\.0\.weight, .*\) in the file .*layer1\.0\.conv1\.weight"):
        load_checkpoint(build("resnet18", IMAGE_SIZE, width=8), saved(tensors))
    with pytest.raises(ValueError, match=r"are known for resnet18, .*Received: architecture='alexnet'"):
        load_checkpoint(build("alexnet", (64, 64), width=8), saved(tensors))


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_files(content, backbone, tmp_path):
    (tmp_path / "file.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"Received: weights='.*file\.safetensors'"):
        load_checkpoint(backbone, tmp_path / "file.safetensors")


def test_a_model_remembers_where_its_weights_come_from(tensors, saved, tmp_path):
    path = saved(tensors)
    backbone = build("mobilenet_v2", IMAGE_SIZE, width=16, weights=path)
    assert backbone.passport["weights"] == "file.safetensors"
    assert backbone.passport["layout"] == "torchvision"
    assert len(backbone.passport["sha256"]) == 64
    model = kreid.models.Baseline(backbone, num_identities=3)
    model.save(tmp_path / "model.keras")
    assert kreid.load_model(tmp_path / "model.keras").backbone.passport == backbone.passport
    assert build("mobilenet_v2", IMAGE_SIZE, width=16).passport is None


def test_weights_trained_on_other_pixels(tensors, saved, tmp_path):
    backbone = build("mobilenet_v2", IMAGE_SIZE, width=16, weights=saved(tensors), preprocessing="tf", licence="MIT")
    assert (backbone.passport["preprocessing"], backbone.passport["licence"]) == ("tf", "MIT")
    assert kreid.models.Baseline(backbone, num_identities=3).preprocessing.mode == "tf"
    assert type(backbone).from_config(backbone.get_config()).preprocessing == "tf"
    backbone.save_pretrained(tmp_path / "own.weights.h5")
    # The file says so, and is not contradicted.
    own = {"name": "mobilenet_v2", "image_size": IMAGE_SIZE, "width": 16, "weights": tmp_path / "own.weights.h5"}
    assert build(**own).preprocessing == build(**own, preprocessing="tf").preprocessing == "tf"
    assert build(**own).passport == backbone.passport
    assert build(**own, licence="CC0").passport == {**backbone.passport, "licence": "CC0"}
    with pytest.raises(ValueError, match=r"pixels scaled by 'tf'; .*preprocessing='caffe'"):
        build(**own, preprocessing="caffe")
    with pytest.raises(ValueError, match=r"one of the ways torch, caffe, tf, none\. Received: preprocessing='rgb'"):
        build("resnet_tiny", IMAGE_SIZE, preprocessing="rgb")


def pooled_from_first(maps):
    """Maxima of 3x3 pixels from every second one on; a window that begins inside may end beyond the edge."""
    height, width = maps.shape[1:3]
    rows, columns = (range(0, max(size - 1, 1), 2) for size in (height, width))
    return np.stack([np.stack([maps[:, y : y + 3, x : x + 3].max((1, 2)) for x in columns], 1) for y in rows], axis=1)


def of_fast_reid(backbone):
    """The weights of a backbone as a checkpoint of fast-reid's whole model."""
    layout = checkpoints.LAYOUTS["resnet18"]["fast-reid"]
    tensors = {"heads.bottleneck.0.weight": np.ones(4, "float32"), "pixel_mean": np.zeros((1, 3, 1, 1), "float32")}
    for name, layer in backbone.named_layers().items():
        for tensor, place in checkpoints._places(layer, layout(name)).items():
            values = np.asarray(place.variable)
            values = values if place.axes is None else values.transpose(np.argsort(place.axes))
            tensors[f"backbone.{tensor}"] = np.ascontiguousarray(values)
    return tensors


# Stems of 32x16 and of 33x17 pixels.
@pytest.mark.parametrize("size", [(64, 32), (66, 34)])
def test_a_stem_of_fast_reid_pools_from_the_first_pixel(size, saved, tmp_path):
    keras.utils.set_random_seed(4)
    source = build("resnet18", size, width=8)
    path = saved(of_fast_reid(source))
    backbone = build("resnet18", size, width=8, weights=path)
    assert backbone.passport["layout"] == "fast-reid"
    frames = RNG.normal(size=(2, *size, 3)).astype("float32")
    x = pooled_from_first(np.asarray(source.stages[0].stem(frames)))
    for stage in source.stages:
        for block in stage.blocks:
            x = block(x)
    np.testing.assert_allclose(backbone(frames), x, rtol=1e-5, atol=1e-5)
    assert (*backbone.output_size, backbone.channels) == tuple(x.shape[1:])
    assert difference(backbone(frames), source(frames)) > 1e-3

    # Kept by files of weights and by models.
    backbone.save_pretrained(tmp_path / "own.weights.h5")
    own = build("resnet18", size, width=8, weights=tmp_path / "own.weights.h5")
    twin = type(backbone).from_config(backbone.get_config())
    twin.build((None, *size, 3))
    twin.set_weights(backbone.get_weights())
    for other in (own, twin):
        np.testing.assert_array_equal(other(frames), backbone(frames))

    # The layout can be named: of an old model, and of the backbone alone.
    load_checkpoint(backbone, path, layout="torchvision")
    np.testing.assert_array_equal(backbone(frames), source(frames))
    with pytest.raises(ValueError, match=r"layouts of resnet18 are torchvision, fast-reid\. Received: layout='timm'"):
        load_checkpoint(backbone, path, layout="timm")


def difference(one, other):
    return np.abs(np.asarray(one)[:, :2, :1] - np.asarray(other)[:, :2, :1]).max()
