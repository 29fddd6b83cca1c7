"""Backbones made from functional Keras networks: the same maps, another last stride, branches, files, refusals."""

import keras
import numpy as np
import pytest
from backbone_samples import randomised, through
from network_samples import BLOCKS, CONVOLUTIONS, SIZE, convolutions, transformer

from kreid.backbones import KerasBackbone, from_keras
from kreid.models import RTF, Baseline
from kreid.training import start_from

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(0)
FRAMES = RNG.normal(size=(2, 3, *SIZE, 3)).astype("float32")
IMAGES = FRAMES.reshape(6, *SIZE, 3)
MOBILENET = ("block_2_add", "block_5_add", "block_12_add", "block_13_project_BN")


def maps_of(network, end, images=IMAGES):
    """The output of one layer, by Keras alone."""
    return keras.Model(network.input, network.get_layer(end).output)(images).numpy()


@pytest.fixture(scope="module")
def network():
    return randomised(convolutions())


@pytest.fixture(scope="module")
def mobilenet():
    network = keras.applications.MobileNetV2((*SIZE, 3), alpha=0.35, include_top=False, weights=None)
    return randomised(network)


def test_maps_are_the_networks(network):
    before = network.get_weights()
    backbone = from_keras(network, CONVOLUTIONS, preprocessing="tf")
    expected = maps_of(network, "relu4")
    assert backbone.image_size == SIZE
    assert (*backbone.output_size, backbone.channels) == expected.shape[1:]
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(backbone(FRAMES).numpy().reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
    second = backbone.stages[1](backbone.stages[0](FRAMES)).numpy()
    np.testing.assert_allclose(second.reshape(6, 16, 8, 8), maps_of(network, "relu2"), rtol=1e-5, atol=1e-6)
    # Without the classifier; a copy, so that training it leaves the network as it is.
    assert len(backbone.weights) == len(network.weights) - 2
    backbone(FRAMES, training=True)
    for mine, weight in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, weight)


def test_a_network_of_keras_applications(mobilenet):
    backbone = from_keras(mobilenet, (*MOBILENET[:3], "out_relu"))
    assert backbone.preprocessing == "tf"
    expected = mobilenet(IMAGES).numpy()
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_last_stride_1_of_padded_convolutions(mobilenet):
    # Keras pads below and on the right before a stride of 2, so its maps are those of stride 1 at 1, 3, 5, ...
    backbone = from_keras(mobilenet, MOBILENET, last_stride=1)
    expected = maps_of(mobilenet, MOBILENET[-1])
    assert backbone.output_size == (4, 2)
    np.testing.assert_allclose(backbone(IMAGES)[:, 1::2, 1::2], expected, rtol=1e-4, atol=1e-4)


def test_last_stride_1_of_a_block_and_its_shortcut(network):
    backbone = from_keras(network, CONVOLUTIONS, last_stride=1, preprocessing="tf")
    assert backbone.output_size == (8, 4)
    layers, third = backbone.named_layers(), maps_of(network, "relu3")
    kernel, shortcut = layers["conv4"].kernel.numpy(), layers["shortcut"].kernel.numpy()
    padded = np.pad(third, [(0, 0), (1, 1), (1, 1), (0, 0)])
    sums = sum(padded[:, i : i + 8, j : j + 4] @ kernel[i, j] for i in range(3) for j in range(3))
    gamma, beta, mean, variance = (weight.numpy() for weight in layers["bn4"].weights)
    normalised = (sums - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    expected = np.maximum(normalised + third @ shortcut[0, 0] + layers["shortcut"].bias.numpy(), 0)
    np.testing.assert_allclose(backbone(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_last_stride_1_of_unpadded_convolutions_and_poolings():
    frames = keras.Input((64, 32, 3))
    x = frames
    for stage in range(1, 4):
        x = keras.layers.Conv2D(8, 3, 2, "same", name=f"conv{stage}")(x)
    ways = [keras.layers.Conv2D(8, 3, 2, "valid")(x), keras.layers.MaxPooling2D(3, 2)(x)]
    network = keras.Model(frames, keras.layers.Concatenate(name="both")(ways))
    stages = ("conv1", "conv2", "conv3", "both")
    assert from_keras(network, stages, preprocessing="tf").output_size == (3, 1)
    backbone = from_keras(network, stages, last_stride=1, preprocessing="tf")
    assert backbone.output_size == (8, 4)
    third = maps_of(network, "conv3")
    padded = np.pad(third, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    pooled = np.max([padded[:, i : i + 8, j : j + 4] for i in range(3) for j in range(3)], axis=0)
    np.testing.assert_allclose(backbone(IMAGES)[..., 8:], pooled, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zeros", [False, True])
def test_last_stride_1_of_a_sequence_as_convnexts(zeros):
    frames = x = keras.Input((*SIZE, 3))
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(4, 3, 2, "same", name=f"conv{number}")(x)
    padding = [keras.layers.ZeroPadding2D(((0, 1), (0, 1)))] if zeros else []
    block = keras.Sequential(
        [*padding, keras.layers.Conv2D(4, 3 if zeros else 2, 2), keras.layers.ReLU()], name="block"
    )
    network = keras.Model(frames, block(x))
    backbone = from_keras(network, ("conv1", "conv2", "conv3", "block"), last_stride=1, preprocessing="tf")
    assert backbone.output_size == (8, 4)
    # Windows that began at 0, 2, 4, ... are centred on 1, 3, 5, ... where they have 3 pixels.
    first = 1 if zeros else 0
    np.testing.assert_allclose(backbone(IMAGES)[:, first::2, first::2], maps_of(network, "block"), rtol=1e-5, atol=1e-6)
    assert network.get_layer("block").layers[-2].strides == (2, 2)


def test_tokens_become_maps():
    network = transformer()
    backbone = from_keras(network, BLOCKS, preprocessing="torch")
    assert (*backbone.output_size, backbone.channels) == (4, 2, 8)
    for count in (2, 4):
        x = FRAMES
        for stage in backbone.stages[:count]:
            x = stage(x)
        expected = maps_of(network, BLOCKS[count - 1]).reshape(2, 3, 4, 2, 8)
        np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-5)


def test_a_class_token_is_carried_and_left_out_at_the_end():
    network = transformer(class_token=True)
    backbone = from_keras(network, BLOCKS, preprocessing="torch")
    first = backbone.stages[0](FRAMES)
    assert first.shape == (2, 3, 1, 9, 8)
    expected = maps_of(network, "block4")[:, 1:].reshape(2, 3, 4, 2, 8)
    np.testing.assert_allclose(backbone(FRAMES), expected, rtol=1e-4, atol=1e-5)


def test_branches_share_weights_and_have_statistics_of_their_own(network):
    plain = from_keras(network, CONVOLUTIONS, preprocessing="tf")
    assert plain.with_branches(()) is plain
    backbone = plain.with_branches((1, 3))
    assert backbone.branches == (1, 3)
    assert len(backbone.trainable_weights) == len(plain.trainable_weights)
    # Two statistics for each batch normalisation that a branch passes: three after stage 1, one after stage 3.
    assert len(backbone.branch_statistics()) == 2 * (3 + 1)
    first = backbone.stages[0](IMAGES)
    np.testing.assert_allclose(through(backbone, first, 1, branch=1), plain(IMAGES), rtol=1e-5, atol=1e-6)
    frames_mean = backbone.named_layers()["bn2"].moving_mean.numpy()
    backbone.stages[1](first, training=True, branch=1)
    np.testing.assert_array_equal(backbone.named_layers()["bn2"].moving_mean, frames_mean)
    mean, _ = backbone.branch_statistics()[:2]
    # The mean of the convolution's maps, by half, as the momentum is 0.5.
    convolved = maps_of(network, "conv2")
    np.testing.assert_allclose(mean, (frames_mean + convolved.mean(axis=(0, 1, 2))) / 2, rtol=1e-3, atol=1e-5)
    backbone.copy_statistics()
    np.testing.assert_array_equal(mean, frames_mean)
    with pytest.raises(ValueError, match=r"branches \(0, 1\); .*branch=2"):
        backbone.stages[1](first, branch=2)


def test_config_and_weights_make_a_twin(network):
    backbone = from_keras(network, CONVOLUTIONS, 1, "caffe", branches=(2,), passport={"weights": "mine"})
    backbone.trainable = False
    twin = KerasBackbone.from_config(backbone.get_config())
    twin.set_weights(backbone.get_weights())
    assert (twin.preprocessing, twin.passport, twin.trainable) == ("caffe", {"weights": "mine"}, False)
    assert [weight.path for weight in twin.weights] == [weight.path for weight in backbone.weights]
    np.testing.assert_array_equal(twin(FRAMES), backbone(FRAMES))


def test_weights_are_named_by_backbone_and_stage(network):
    backbone = from_keras(network, CONVOLUTIONS, preprocessing="tf", branches=(1,), name="net")
    assert backbone.path == "net"
    for number, stage in enumerate(backbone.stages, 1):
        assert stage.path == f"net/stage{number}"
        assert {weight.path.rpartition("/")[0] for weight in stage.weights} >= {f"net/stage{number}/conv{number}"}
        assert all(weight.path.startswith(f"{stage.path}/") for weight in stage.weights)
    assert len({weight.path for weight in backbone.weights}) == len(backbone.weights)


def test_a_system_starts_from_another_systems_network(network, tmp_path):
    source = Baseline(from_keras(network, CONVOLUTIONS, preprocessing="tf"), num_identities=3)
    source.save(tmp_path / "model.keras")
    target = RTF(from_keras(convolutions(), CONVOLUTIONS, preprocessing="tf"), 3, attention="average")
    start_from(target, tmp_path / "model.keras")
    backbone = target.backbone
    np.testing.assert_allclose(backbone(IMAGES), maps_of(network, "relu4"), rtol=1e-5, atol=1e-6)
    first = backbone.stages[0](IMAGES)
    np.testing.assert_array_equal(through(backbone, first, 1, branch=1), through(backbone, first, 1))


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("mobilenet_0.50_224", "tf"),
        ("resnet50", "caffe"),
        ("resnet50v2", "tf"),
        ("vgg16", "caffe"),
        ("densenet121", "torch"),
        ("NASNet", "tf"),
    ],
)
def test_the_pixels_of_keras_applications(name, pixels):
    assert from_keras(convolutions(name), CONVOLUTIONS).preprocessing == pixels


def test_a_network_that_scales_pixels_itself_gets_them_as_they_are():
    frames = keras.Input((*SIZE, 3))
    network = keras.Model(frames, convolutions()(keras.layers.Rescaling(1 / 255)(frames)))
    stages = tuple(f"s{n}" for n in range(1, 5))
    x = network.layers[1].output
    for name in stages:
        x = keras.layers.Conv2D(8, 3, 2, "same", name=name)(x)
    assert from_keras(keras.Model(frames, x), stages).preprocessing == "none"


def around():
    """A network whose fourth stage reads the second past the third."""
    network = convolutions()
    second = network.get_layer("relu2").output
    past = keras.layers.Conv2D(8, 1, 4, name="past")(second)
    return keras.Model(network.inputs, keras.layers.Add(name="sum")([network.get_layer("relu4").output, past]))


def with_a_sequence_inside(functional=False):
    frames = keras.Input((*SIZE, 3))
    x = convolutions()
    x = keras.Model(x.inputs, x.get_layer("relu3").output)(frames)
    for number in (1, 2, 3):
        x = keras.layers.Conv2D(8, 1, name=f"plain{number}")(x)
    block = keras.Sequential([keras.layers.Conv2D(8, 3, 2, "same"), keras.layers.BatchNormalization()], name="block")
    if functional:
        maps = keras.Input(x.shape[1:])
        block = keras.Model(maps, keras.layers.Conv2D(8, 3, 2, "same")(maps), name="block")
    return keras.Model(frames, block(x))


def with_a_model_inside():
    return with_a_sequence_inside(functional=True)


INSIDE = ("plain1", "plain2", "plain3", "block")


@pytest.mark.parametrize(
    ("made", "arguments", "complaint"),
    [
        (convolutions, {"stages": ("relu1", "relu2", "relu3")}, "Name the four layers"),
        (convolutions, {"stages": (*CONVOLUTIONS[:3], "relu5")}, "Did you mean 'relu4'.*Received: stages with 'relu5'"),
        (convolutions, {"stages": ("relu2", "relu1", "relu3", "relu4")}, "Stage 2 must read the end of the stage"),
        (around, {"stages": (*CONVOLUTIONS[:3], "sum")}, "Stage 4 must read .* stage 4 reads relu2$"),
        (convolutions, {"stages": (*CONVOLUTIONS[:3], "dense")}, r"ends in maps .* 'dense\w*' of output shape \(3,\)"),
        (convolutions, {"last_stride": 3}, "must be 1 or 2. Received: last_stride=3"),
        (convolutions, {"preprocessing": "pillow"}, "preprocessing='pillow'"),
        (convolutions, {"preprocessing": None}, "not known; give preprocessing=.*Received: .*'small'"),
        (convolutions, {"branches": (4,)}, r"branches=\(4,\)"),
        (transformer, {"stages": BLOCKS, "last_stride": 1}, "no convolution or pooling there.*give last_stride=2"),
        (with_a_model_inside, {"stages": INSIDE, "last_stride": 1}, "outside of models inside it.*last_stride=2"),
        (with_a_sequence_inside, {"stages": INSIDE, "branches": (3,)}, "has no separate statistics for branches"),
        (lambda: keras.layers.Dense(3), {}, "made from a functional model"),
        (lambda: keras.Sequential([keras.layers.Flatten()]), {}, "made from a functional model"),
    ],
)
def test_refusals(made, arguments, complaint):
    model = made()
    if arguments.get("stages", ("",))[-1] == "dense":
        arguments = {"stages": (*CONVOLUTIONS[:3], model.layers[-1].name)}
    with pytest.raises(ValueError, match=complaint):
        from_keras(model, **{"stages": CONVOLUTIONS, "preprocessing": "tf", **arguments})


def test_frames_of_unknown_size_are_refused():
    frames = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match=r"fixed size.*Received: input shape \(None, None, 3\)"):
        from_keras(keras.Model(frames, keras.layers.ReLU()(frames)), CONVOLUTIONS)
