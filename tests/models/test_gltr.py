"""GLTR: every row of Table 2 and figure 6, the frozen image network, phases, repetition, the mask M of figure 3."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import kreid
from kreid import training
from kreid.losses import SmoothedIdentity
from kreid.models import GLTR
from kreid.serving import export_model

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(37)
SIZE = (32, 32)
FRAMES = RNG.integers(0, 256, (4, 9, *SIZE, 3)).astype("uint8")
LENGTHS = np.array([9, 1, 5, 0], "int32")

# Table 2 and figure 6; N=3 of the dilated pyramid is Table 2's DTP.
ROWS = {
    "baseline": {"pyramid": "none", "self_attention": False},
    "TSA": {"pyramid": "none"},
    "GLTR": {},
    **{
        f"{pyramid}_{branches}": {"pyramid": pyramid, "num_branches": branches, "self_attention": False}
        for pyramid in ("dilated", "undilated", "pooling")
        for branches in (1, 2, 3, 4)
    },
}


@pytest.fixture(scope="module")
def backbone():
    """One image network, frozen, for all models that leave it alone."""
    keras.utils.set_random_seed(0)
    made = kreid.backbones.build("resnet_tiny", SIZE)
    made.trainable = False
    return made


def make(backbone, row="GLTR", **kwargs):
    return GLTR(backbone, 6, **{"feature_dim": 8, **ROWS[row], **kwargs})


def own(**kwargs):
    """A model with a separate image network."""
    return make(kreid.backbones.build("resnet_tiny", SIZE), **kwargs)


def moved(model):
    """Moves all outside the image network from its start, where the self-attention adds nothing."""
    rng = np.random.default_rng(3)
    inside = {id(weight) for weight in model.backbone.weights}
    for weight in model.weights:
        if id(weight) not in inside:
            shift = rng.uniform(0, 0.3, weight.shape) if "variance" in weight.path else rng.normal(0, 0.2, weight.shape)
            weight.assign_add(shift.astype("float32"))
    return model


def branches_of(row):
    return 1 if ROWS[row].get("pyramid") == "none" else ROWS[row].get("num_branches", 3)


def train(model, steps=2):
    if not model.compiled:
        # Two steps: what is before W moves once W has left 0. Its gradient is tiny at first; Adam's steps are not.
        optimizer = keras.optimizers.Adam(1e-3)
        model.compile(optimizer, loss={"logits": SmoothedIdentity()}, run_eagerly=True)
    batch = {"frames": FRAMES, "lengths": np.full(4, 9, "int32")}
    labels = {"logits": np.array([0, 1, 2, 3], "int32")}
    return [model.train_on_batch(batch, labels) for _ in range(steps)]


def embedded(model, frames=FRAMES, lengths=LENGTHS):
    """As `embed`, without making a graph first."""
    return ops.convert_to_numpy(model.embedder({"frames": frames, "lengths": lengths}, training=False))


@pytest.mark.parametrize("row", ROWS)
def test_every_row_trains_ignores_padding_and_is_saved(row, backbone, tmp_path):
    model = make(backbone, row)
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    assert np.isfinite(train(model)).all()
    for weight in model.trainable_weights:
        assert not np.array_equal(before[weight.path], ops.convert_to_numpy(weight)), weight.path
    moved(model)
    embeddings = embedded(model)
    assert embeddings.shape == (4, model.embedding_dim) == (4, 8 * branches_of(row))
    assert np.isfinite(embeddings).all()
    other = FRAMES.copy()
    for b, length in enumerate(LENGTHS):
        other[b, length:] = 255
    np.testing.assert_array_equal(embedded(model, other), embeddings)
    for b, length in enumerate(LENGTHS[:3]):
        alone = embedded(model, FRAMES[b : b + 1, :length], LENGTHS[b : b + 1])[0]
        np.testing.assert_allclose(alone, embeddings[b], rtol=1e-3, atol=1e-4 * np.abs(embeddings).max())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert loaded.get_config().items() >= ROWS[row].items()
    np.testing.assert_array_equal(embedded(loaded), embeddings)


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"attention_normalization": "softmax"}, "mixed_bfloat16"),
        ({"pyramid": "pooling", "attention_normalization": "none"}, "mixed_float16"),
    ],
)
def test_mixed_precision(settings, policy):
    keras.config.set_dtype_policy(policy)
    try:
        half = own(**settings)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(train(half)).all()
    full = own(**settings)
    full.set_weights(half.get_weights())
    expected = embedded(full)
    np.testing.assert_allclose(embedded(half), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("row", ["baseline", "GLTR"])
def test_the_embedding_is_the_mean_of_what_the_layers_make_of_the_features(row, backbone):
    model = moved(make(backbone, row))
    embeddings = embedded(model)
    kernel, bias = (w.astype("float64") for w in model.features.get_weights())
    for b, length in enumerate(LENGTHS[:3]):
        maps = ops.convert_to_numpy(backbone(model.preprocessing(FRAMES[b : b + 1, :length]))).astype("float64")
        vectors = maps.mean(axis=(2, 3)) @ kernel + bias
        if row == "GLTR":
            vectors = ops.convert_to_numpy(model.self_attention(model.pyramid(vectors.astype("float32"))))
        np.testing.assert_allclose(embeddings[b], vectors[0].mean(axis=0), rtol=1e-3, atol=1e-4)


def test_a_frozen_image_network_stays_as_it_is(tmp_path):
    model = own(freeze_backbone=True)
    assert {weight.path.split("/")[0] for weight in model.trainable_weights} == {"pyramid", "self_attention", "logits"}
    image_network = [*model.backbone.weights, *model.features.weights]
    before = [ops.convert_to_numpy(weight) for weight in image_network]
    prepared = model.preprocessing(FRAMES)
    expected = ops.convert_to_numpy(model.backbone(prepared, training=False))
    train(model)
    for weight, old in zip(image_network, before, strict=True):
        np.testing.assert_array_equal(weight, old, err_msg=weight.path)
    np.testing.assert_array_equal(model.backbone(prepared, training=True), expected)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]
    free = own()
    assert {w.path for w in free.features.weights} <= {w.path for w in free.trainable_weights}


def test_the_second_phase_starts_from_the_image_model(tmp_path):
    image_model = moved(own(row="baseline"))
    image_model.save(tmp_path / "image.keras")
    model = own(freeze_backbone=True)
    fresh = training.start_from(model, tmp_path / "image.keras")
    assert {path.split("/")[0] for path in fresh} == {"pyramid", "self_attention"}
    # The classifier reads the three branches, and starts as that of their mean.
    kernel = image_model.classifier.kernel.numpy()
    np.testing.assert_allclose(model.classifier.kernel, np.concatenate([kernel] * 3) / 3, rtol=1e-6)
    for mine, theirs in zip(model.features.weights, image_model.features.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("pyramid", ["dilated", "none"])
@pytest.mark.parametrize("normalization", ["mean", "softmax"])
def test_a_repeated_tracklet_embeds_nearly_the_same(pyramid, normalization, backbone):
    model = moved(make(backbone, pyramid=pyramid, attention_normalization=normalization))
    frames = RNG.integers(0, 256, (1, 60, *SIZE, 3)).astype("uint8")
    once = embedded(model, frames, np.array([60], "int32"))
    often = embedded(model, np.tile(frames, (1, 4, 1, 1, 1)), np.array([240], "int32"))
    # Convolutions see other neighbours at the seams than at the ends.
    tolerance = 1e-3 if pyramid == "none" else 0.1
    np.testing.assert_allclose(often, once, atol=tolerance * np.abs(once).max())


def test_without_normalisation_the_length_decides(backbone):
    # How large the relations of random embeddings are is chance.
    keras.utils.set_random_seed(1)
    model = moved(make(backbone, "TSA", attention_normalization="none"))
    once, often = (
        embedded(model, np.tile(FRAMES[:1], (1, times, 1, 1, 1)), np.array([9 * times], "int32")) for times in (1, 12)
    )
    assert np.abs(often - once).max() > 0.1 * np.abs(once).max()


def test_1000_frames(backbone):
    model = moved(make(backbone))
    frames = np.resize(FRAMES[0], (1, 1000, *SIZE, 3))
    assert np.isfinite(model.embed(frames)).all()


def test_shorter_test_sequences_are_the_middle_frames_in_the_export_too(in_graphs, backbone, tmp_path):
    # Figure 4(d).
    config = training.load_config("gltr", settings=["test_selection=adjacent", "test_frames=4", "also_test_frames=[2]"])
    chosen = {name: config.model[name] for name in ("test_selection", "test_frames")}
    model = moved(make(backbone, **chosen))
    export_model(model, tmp_path, warmup=False)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["embed_padded"]
    exported = served(frames=tf.constant(FRAMES), lengths=tf.constant(LENGTHS))["embedding"]
    embedded = model.embedder.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    whole = model.with_selection("all")
    for b, length in enumerate(LENGTHS[:3]):
        positions = {9: [2, 3, 4, 5], 5: [0, 1, 2, 3], 1: [0]}[int(length)]
        assert model.selection.positions(length).tolist() == positions
        expected = whole.embed(FRAMES[b : b + 1, positions])[0]
        for found in (exported[b], embedded[b]):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    [fewer] = config.also_test_frames
    again = model.with_selection(model.test_selection, fewer)
    np.testing.assert_allclose(
        again.embed(FRAMES[:1]), whole.embed(FRAMES[:1, 3:5]), rtol=1e-4, atol=1e-5 * np.abs(embedded).max()
    )


def test_the_explainer_gives_the_mask(backbone):
    model = moved(make(backbone))
    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    features = {"features", "pyramid_features", "attended_features"}
    assert set(explained) == {"embedding", "frames", "self_attention", *features}
    relations = explained["self_attention"]
    assert relations.shape == (4, 9, 9)
    for b, length in enumerate(LENGTHS):
        assert not relations[b, length:].any()
        assert not relations[b, :, length:].any()
        np.testing.assert_allclose(explained["frames"][b, :length], 1 / max(length, 1), rtol=1e-6)
        # F, F' and F'' of figure 3, and equation 4.
        if length:
            real = {name: explained[name][b, None, :length] for name in features}
            pooled = model.backbone(model.preprocessing(FRAMES[b, None, :length])).numpy().mean(axis=(2, 3))
            np.testing.assert_allclose(real["features"], model.features(pooled), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(real["pyramid_features"], model.pyramid(real["features"]), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(real["attended_features"][0].mean(axis=0), explained["embedding"][b], rtol=1e-4)
    # m of equation 8: what each frame counts in all.
    assert np.ptp(relations[0].sum(axis=1)) > 0
    plain = make(backbone, "dilated_3").explainer.output
    assert set(plain) == {"embedding", "frames", "features", "pyramid_features"}
