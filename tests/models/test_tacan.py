"""TACAN: every row of Table 1, the aggregation in float64, clips of any number, the weights of figures 4 and 6."""

import keras
import numpy as np
import pytest
from keras import ops

import kreid
from kreid.losses import BatchHardTriplet, MinMax, SmoothedIdentity, WeightedSum
from kreid.models import TACAN

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(17)
SIZE = (64, 32)
FRAMES = RNG.integers(0, 256, (4, 7, *SIZE, 3)).astype("uint8")
LENGTHS = np.array([7, 1, 5, 0])
SOFTMAX, TRIPLET = SmoothedIdentity(0.0), BatchHardTriplet(0.3, "squared_euclidean")
ALL = {"logits": SOFTMAX, "features": WeightedSum([TRIPLET, MinMax()])}

# The rows of Table 1 in their order, and the weightings that are not in the paper.
ROWS = {
    "softmax": ("average", "average", None, {"logits": SOFTMAX}),
    "triplet": ("average", "average", None, {"logits": SOFTMAX, "features": TRIPLET}),
    "TA": ("temporal", "average", None, {"logits": SOFTMAX, "features": TRIPLET}),
    "CA": ("temporal", "sigmoid", 12, {"logits": SOFTMAX, "features": TRIPLET}),
    "min_max": ("temporal", "sigmoid", 12, ALL),
    "SENet": ("temporal", "sigmoid", 12, ALL),
    "linear": ("temporal", "linear", 12, ALL),
    "average_embedded": ("temporal", "average", 12, ALL),
    "softmax_weights": ("average", "softmax", 12, ALL),
}


def make(row="min_max", **kwargs):
    frame_attention, clip_attention, embedding_dim, _ = ROWS[row]
    name, width = ("se_resnet50", 16) if row == "SENet" else ("resnet_tiny", None)
    settings = dict(
        clip_length=3,
        frame_attention=frame_attention,
        clip_attention=clip_attention,
        embedding_dim=embedding_dim,
        hidden_dim=5,
    )
    return TACAN(kreid.backbones.build(name, SIZE, 1, width=width), 6, **{**settings, **kwargs})


def moved(model):
    """Moves the attentions' weights from their start, where all clips have the same weight."""
    rng = np.random.default_rng(3)
    for layer in (model.within_clips, model.over_clips):
        layer.set_weights([w + rng.normal(scale=0.3, size=w.shape) for w in layer.get_weights()])
    return model


def batch(frames=6):
    labels = np.array([0, 0, 1, 1], "int32")
    return {"frames": FRAMES[:, :frames], "lengths": np.full(4, frames, "int32")}, labels


def train(model, row, **kwargs):
    losses = ROWS[row][3]
    inputs, labels = batch(**kwargs)
    if not model.compiled:
        model.compile(keras.optimizers.SGD(3e-3, momentum=0.9), loss=losses, jit_compile=False)
    return model.train_on_batch(inputs, dict.fromkeys(losses, labels), return_dict=True)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_trains_ignores_padding_and_is_saved(row, tmp_path):
    model = make(row)
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    for _ in range(2):
        assert all(np.isfinite(value) for value in train(model, row).values())
    for weight in model.trainable_weights:
        assert not np.array_equal(before[weight.path], ops.convert_to_numpy(weight)), weight.path
    moved(model)
    embeddings = model.embed(FRAMES, LENGTHS)
    assert np.isfinite(embeddings).all()
    other = FRAMES.copy()
    for b, length in enumerate(LENGTHS):
        other[b, length:] = 255
    np.testing.assert_array_equal(model.embed(other, LENGTHS), embeddings)
    for b, length in enumerate(LENGTHS[:3]):
        alone = model.embed(FRAMES[b : b + 1, :length])[0]
        np.testing.assert_allclose(alone, embeddings[b], rtol=1e-3, atol=1e-4 * np.abs(embeddings).max())
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").embed(FRAMES, LENGTHS), embeddings)


@pytest.mark.parametrize(("row", "policy"), [("min_max", "mixed_float16"), ("softmax_weights", "mixed_bfloat16")])
def test_mixed_precision(row, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = make(row)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(value) for value in train(model, row).values())
    half = moved(model)
    full = make(row)
    full.set_weights(half.get_weights())
    expected = full.embed(FRAMES, LENGTHS)
    np.testing.assert_allclose(half.embed(FRAMES, LENGTHS), expected, atol=0.05 * np.abs(expected).max())


@pytest.mark.parametrize("row", [row for row in ROWS if row not in ("triplet", "min_max", "SENet")])
def test_aggregation_in_float64(row):
    frame_attention, clip_attention, embedding_dim, _ = ROWS[row]
    model = moved(make(row))
    prepared = model.preprocessing(FRAMES)
    maps = ops.convert_to_numpy(model.backbone(prepared)).astype("float64")
    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    transform, offset = np.eye(maps.shape[-1]), 0.0
    if embedding_dim is not None:
        transform, offset = (w.astype("float64") for w in model.over_clips.transform.get_weights())
    assert model.embedding_dim == transform.shape[1]
    for b, length in enumerate(LENGTHS[:3]):
        embedded, weights, counts = [], [], []
        for c, start in enumerate(range(0, length, 3)):
            clip = maps[b, start : min(start + 3, length)]
            a = np.full(len(clip), 1 / len(clip))
            if frame_attention == "temporal":
                kernel, bias = (w.astype("float64") for w in model.within_clips.spatial.get_weights())
                filters = model.within_clips.temporal.get_weights()[0].astype("float64")
                hidden = np.zeros((len(clip) + 2, 5))
                hidden[1:-1] = np.maximum(clip.reshape(len(clip), -1) @ kernel + bias, 0)
                scores = np.array([(filters[:, :, 0] * hidden[t : t + 3]).sum() for t in range(len(clip))])
                a = np.exp(scores - scores.max())
                a /= a.sum()
            np.testing.assert_allclose(explained["frames"][b, c, : len(clip)], a, rtol=1e-3, atol=1e-5)
            vector = sum(w * frame.mean(axis=(0, 1)) for w, frame in zip(a, clip, strict=True))
            embedded.append(vector @ transform + offset)
            counts.append(len(clip))
            weights.append(1.0)
            if clip_attention != "average":
                kernel, *bias = (w.astype("float64") for w in model.over_clips.weigh.get_weights())
                weights[-1] = vector @ kernel[:, 0] + (bias[0][0] if bias else 0.0)
        w, n = np.array(weights), np.array(counts)
        if clip_attention == "sigmoid":
            w = 1 / (1 + np.exp(-w))
        f = (n * w) @ np.array(embedded) / n.sum()
        if clip_attention == "softmax":
            w = n * np.exp(w) / (n * np.exp(w)).sum()
            f = w @ np.array(embedded)
        f /= np.sqrt((f**2).sum())
        np.testing.assert_allclose(explained["embedding"][b], f, rtol=1e-3, atol=1e-4 * np.abs(f).max())
        np.testing.assert_allclose(explained["clips"][b, : len(w)], w, rtol=1e-3)
        assert not explained["clips"][b, len(w) :].any()


@pytest.mark.parametrize("clip_attention", ["average", "linear", "sigmoid", "softmax"])
def test_1_to_50_clips_of_equal_content_embed_equally(clip_attention):
    model = moved(make(clip_attention=clip_attention))
    one = model.embed(FRAMES[:1, :3])
    for clips in (2, 9, 50):
        many = model.embed(np.tile(FRAMES[:1, :3], (1, clips, 1, 1, 1)))
        np.testing.assert_allclose(many, one, rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_a_left_over_frame_counts_as_one_frame():
    # Without attentions and embedding layer the embedding is the mean of all frames, whatever their clips.
    model = make("softmax", clip_length=4, normalize=False)
    pooled = ops.convert_to_numpy(model.backbone(model.preprocessing(FRAMES))).astype("float64").mean(axis=(2, 3))
    for length in (4, 5, 7):
        expected = pooled[0, :length].mean(axis=0)
        np.testing.assert_allclose(model.embed(FRAMES[:1, :length])[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("row", ["softmax", "min_max", "softmax_weights"])
def test_chunks_embed_as_the_whole(row):
    model = moved(make(row, clip_length=2))
    batch = {"frames": FRAMES, "lengths": LENGTHS.astype("int32")}
    whole = model.embedder.predict_on_batch(batch)
    for frames_at_once in (1, 16):
        chunked = model.embed_batch(batch, frames_at_once)
        np.testing.assert_allclose(chunked, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_one_clip_for_training_as_the_paper_has_it():
    model = make()
    assert all(np.isfinite(value) for value in train(model, "min_max", frames=3).values())


def test_a_tracklets_clips_are_adjacent_frames_in_training_too():
    model = moved(make())
    inputs, _ = batch(frames=6)
    shown = model(inputs, training=False)["features"]
    np.testing.assert_allclose(shown, model.embed(FRAMES[:, :6]), rtol=1e-4, atol=1e-5)


def test_clip_weights_name_their_frames():
    model = moved(make())
    found = model.clip_weights(FRAMES, LENGTHS)
    assert [[clip[:2] for clip in clips] for clips in found] == [
        [(0, 2), (3, 5), (6, 6)],
        [(0, 0)],
        [(0, 2), (3, 4)],
        [],
    ]
    expected = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})["clips"]
    for clips, row in zip(found, expected, strict=True):
        assert [weight for *_, weight in clips] == row[: len(clips)].tolist()
    assert len({round(weight, 4) for clips in found for *_, weight in clips}) > 3
    evenly = make(test_selection="evenly", test_frames=4)
    assert [clip[:2] for clip in evenly.clip_weights(FRAMES[:1])[0]] == [(0, 4), (6, 6)]
    with pytest.raises(ValueError, match="resize them first"):
        model.clip_weights(FRAMES[:, :, :8])
