"""Growing tracklets embed as the model embeds them whole, and keep no more than they need."""

import functools

import keras
import numpy as np
import pytest
from model_samples import CASES, SIZE, make

import kreid
from kreid.layers import FrameAverage, SpatialAverage
from kreid.models import SYSTEMS, OnlineTracklet, OnlineTracklets, TrackletModel

pytestmark = pytest.mark.usefixtures("eagerly")

LONGEST = 20
# Noise of changing brightness, so that each frame changes the embedding.
BRIGHTNESS = np.random.default_rng(1).uniform(0.05, 1, (LONGEST, 1, 1, 1))
FRAMES = (np.random.default_rng(0).integers(0, 256, (LONGEST, *SIZE, 3)) * BRIGHTNESS).astype(np.uint8)


@pytest.fixture(scope="module")
def untrained(eagerly):
    """Function: system -> a model that tests only read."""
    return functools.cache(make)


def whole(model, frames=FRAMES):
    """The model's embeddings of the first 1, 2, ... frames; by one call, which `frames_at_once` allows."""
    count = len(frames)
    batch = model.checked_batch(np.repeat(frames[None], count, axis=0), np.arange(1, count + 1))
    return model.embed_batch(batch, frames_at_once=count * count)


def assert_close(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    largest = np.abs(expected).max(axis=-1)
    assert (np.abs(found - expected).max(axis=-1) <= tolerance * largest).all()


def check_growing(model, tolerance=2e-5, frames=FRAMES):
    tracklet = OnlineTracklet(model, max_frames=len(frames), settle_frames=1)
    found = []
    for frame in frames:
        tracklet.add(frame)
        found.append(tracklet.embedding())
    expected = whole(model, frames)
    assert_close(np.array(found), expected, tolerance)
    steps = np.abs(np.diff(expected, axis=0)).max(axis=1) / np.abs(expected).max()
    assert np.median(steps) > 4e-4, "a frame too few would be seen"
    return tracklet


@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system(system, untrained):
    # More frames than any of these models selects, and a clip that is not whole.
    check_growing(untrained(system), frames=FRAMES[:7])


@pytest.mark.slow
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_every_system_up_to_twenty_frames(system, untrained):
    check_growing(untrained(system))


VARIANTS = [
    ("baseline", {"pooling": "agreement"}),
    ("baseline", {"pooling": "majority"}),
    ("baseline", {"embedding_dim": None, "num_stripes": 2, "embedding_from": "bnneck", "test_selection": "evenly"}),
    ("gltr", {"test_selection": "adjacent"}),
    ("gltr", {"pyramid": "none", "self_attention": False}),
    ("mg_rafa", {"references": "temporal_mean", "reference_grid": None, "test_selection": "all", "test_frames": None}),
    ("mg_rafa", {"attention": "convolutional_block", "references": "temporal_mean", "reference_grid": None}),
    ("rtf", {"fusion": "late", "attention": "average"}),
    ("rtf", {"fusion": "early", "attention": "intra_inter_euclidean", "test_selection": "chunk_firsts"}),
    ("rtf", {"fusion": "feature_average"}),
    ("sta", {"test_selection": "adjacent"}),
    ("sta", {"attention": "average", "test_selection": "all", "test_frames": None}),
    ("tacan", {"clip_length": 4}),
    ("tacan", {"clip_length": 4, "frame_attention": "average", "clip_attention": "average", "embedding_dim": None}),
    ("tacan", {"clip_length": 4, "test_selection": "evenly", "test_frames": 6}),
    ("tacan", {"clip_length": 3, "test_selection": "chunk_firsts", "test_frames": 7}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("system", "settings"), VARIANTS)
def test_every_choice_of_frames_and_parts(system, settings):
    if settings.get("test_selection", "all") != "all":
        settings = {"test_frames": 5, **settings}
    check_growing(make(system, **settings))


@pytest.mark.slow
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_in_half_precision(system):
    # The maps are kept as the backbone gives them: rounding is that of bfloat16 in the layers that follow.
    check_growing(make(system, dtype="mixed_bfloat16"), tolerance=2e-2)


class Plain(TrackletModel):
    """The mean over space and real frames, of maps."""

    def aggregate(self, maps, mask):
        return FrameAverage()(SpatialAverage()(maps), mask=mask)


class Mixed(TrackletModel):
    """A backbone that mixes frames: it sees the difference to the first one."""

    def encode(self, frames, mask):
        maps = self.backbone(frames - frames[:, :1])
        return FrameAverage()(SpatialAverage()(maps), mask=mask)


@pytest.fixture(scope="module")
def small_backbone(eagerly):
    return kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8)


@pytest.mark.parametrize(("strategy", "count"), [("evenly", 3), ("chunk_firsts", 5), ("adjacent", 4)])
def test_frames_are_kept_as_long_as_a_choice_may_need_them(strategy, count, small_backbone):
    model = Plain(small_backbone, 3, test_selection=strategy, test_frames=count)
    tracklets = OnlineTracklets(model, max_frames=16, settle_frames=2)
    for length in range(1, 17):
        tracklets.add({"a": FRAMES[length - 1]})
        needed = {p for later in range(max(1, length - 2), 17) for p in model.selection.positions(later).tolist()}
        kept = set(tracklets._tracks["a"].frames)
        assert kept == {position for position in needed if position < length}
    assert len(kept) <= 3 * count
    with pytest.raises(ValueError, match=r"every n-th frame.*Received: 17 frames, max_frames=16, tracklet 'a'"):
        tracklets.add({"a": FRAMES[0]})
    assert_close(tracklets.embeddings()["a"], whole(model, FRAMES[:16])[-1])


def test_clips_are_kept_as_vectors(untrained):
    model = untrained("tacan")
    tracklet = OnlineTracklet(model, settle_frames=3)
    sizes = []
    for frame in FRAMES[:9]:
        tracklet.add(frame)
        sizes.append(tracklet.nbytes)
    # The maps of the last frames, and a vector for each clip of two: no frame's maps stay.
    assert sizes[-1] - sizes[-3] == 4 * model.part_encoder.output_shape[-1]
    # More frames at once than a call of the backbone takes, whose last one begins a clip.
    many = np.resize(FRAMES, (141, *SIZE, 3))
    other = OnlineTracklet(model, settle_frames=3)
    other.add(many[0])
    other.add(many[1:])
    assert_close(other.embedding(), model.embed(many[None])[0])
    # Views would keep what all frames of a call gave.
    (track,) = other._tracklets._tracks.values()
    kept = [array for arrays in track.frames.values() for array in arrays] + list(track.clips.values())
    assert len(kept) > 70
    assert all(array.base is None for array in kept)


@pytest.mark.parametrize("system", ["sta", "tacan"])
def test_drift_and_settling(system, untrained):
    model, frames = untrained(system), FRAMES[:8]
    expected = whole(model, frames).astype(np.float64)
    tracklet = OnlineTracklet(model, max_frames=9, settle_frames=3)
    for length, frame in enumerate(frames, 1):
        tracklet.add(frame)
        drift = tracklet.drift()
        if length <= 3:
            assert drift == np.inf
            assert not tracklet.settled(1e9)
            continue
        now, before = expected[length - 1], expected[length - 4]
        distance = np.linalg.norm(now - before)
        assert model.metric == "euclidean"
        np.testing.assert_allclose(drift, distance, atol=5e-5 * np.linalg.norm(now))
    assert tracklet.settled(1.01 * drift + 1e-12)
    assert not tracklet.settled(0.99 * drift + 1e-15)


def test_drift_by_the_metric_of_the_model():
    model = make("baseline", metric="cosine", normalize=False)
    tracklet = OnlineTracklet(model, settle_frames=1)
    tracklet.add(FRAMES[:2])
    before, now = whole(model, FRAMES[:2]).astype(np.float64)
    cosine = before @ now / np.linalg.norm(before) / np.linalg.norm(now)
    np.testing.assert_allclose(tracklet.drift(), 1 - cosine, atol=1e-6)


def test_several_tracklets_together(untrained):
    model = untrained("sta")
    tracklets = OnlineTracklets(model, max_frames=LONGEST)
    tracklets.add({7: FRAMES[0], "b": FRAMES[5:7]})
    tracklets.add({7: FRAMES[1:12], (1, 2): FRAMES[12]})
    expected = {7: FRAMES[:12], "b": FRAMES[5:7], (1, 2): FRAMES[12:13]}
    found = tracklets.embeddings()
    assert list(tracklets) == list(found) == list(expected)
    for track, frames in expected.items():
        assert tracklets.num_frames(track) == len(frames)
        assert_close(found[track], model.embed(frames[None])[0])
        np.testing.assert_array_equal(tracklets.embeddings([track])[track].shape, (24,))
    drift = tracklets.drift()
    assert drift[7] > 0
    assert drift["b"] == drift[(1, 2)] == np.inf
    assert tracklets.settled(2 * drift[7]) == {7: True, "b": False, (1, 2): False}
    tracklets.remove(7)
    assert 7 not in tracklets
    assert len(tracklets) == 2
    for call in (tracklets.remove, lambda track: tracklets.embeddings([track]), lambda track: tracklets.drift([track])):
        with pytest.raises(ValueError, match=r"Add a frame first\. Received: a tracklet of 0 frames, tracklet 7"):
            call(7)
    tracklets.add({7: FRAMES[3]})
    assert_close(tracklets.embeddings()[7], model.embed(FRAMES[None, 3:4])[0])
    tracklets.add({})
    assert OnlineTracklets(model).embeddings() == OnlineTracklets(model).drift() == {}


def test_the_caller_may_reuse_arrays(small_backbone):
    chosen = {"test_selection": "evenly", "test_frames": 3}
    for model in (Mixed(small_backbone, 3), Plain(small_backbone, 3), Mixed(small_backbone, 3, **chosen)):
        tracklet = OnlineTracklet(model, max_frames=9, settle_frames=2)
        buffer = np.empty_like(FRAMES[0])
        for frame in FRAMES[:7]:
            buffer[:] = frame
            tracklet.add(buffer)
        buffer[:] = 0
        tracklet.embedding()[:] = np.nan
        assert_close(tracklet.embedding(), model.embed(FRAMES[None, :7])[0])


def test_a_system_of_vectors_with_an_aggregation_on_top(small_backbone):
    class Doubled(SYSTEMS["gltr"]):
        def aggregate(self, maps, mask):
            vector, attention = super().aggregate(maps, mask)
            return keras.ops.concatenate([vector, keras.ops.max(vector, axis=-1, keepdims=True)], axis=-1), attention

    model = Doubled(small_backbone, 6, **CASES["gltr"])
    tracklet = OnlineTracklet(model)
    tracklet.add(FRAMES[:3])
    assert_close(tracklet.embedding(), model.embed(FRAMES[None, :3])[0])


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (None, r"could not be read.*shape \(\) and dtype object, tracklet 'b'"),
        ([FRAMES[0], FRAMES[0, :9]], "could not be read"),
        (np.zeros((0, 0, 3), "uint8"), r"A frame is \(64, 32, 3\).*shape \(0, 0, 3\)"),
        (FRAMES[:0], r"shape \(0, 64, 32, 3\)"),
        (FRAMES[0, :, :, :1], r"shape \(64, 32, 1\)"),
        (FRAMES[None, :2], r"shape \(1, 2, 64, 32, 3\)"),
        (FRAMES[0] / np.float32(255), "uint8 RGB.*dtype float32"),
        (np.resize(FRAMES, (6, *SIZE, 3)), "Received: 6 frames, max_frames=5"),
    ],
)
def test_a_wrong_frame_adds_nothing(frames, complaint, untrained):
    tracklets = OnlineTracklets(untrained("baseline"), max_frames=5, settle_frames=2)
    tracklets.add({"a": FRAMES[0]})
    with pytest.raises(ValueError, match=complaint):
        tracklets.add({"a": FRAMES[1], "b": frames})
    assert (list(tracklets), tracklets.num_frames("a"), tracklets.num_frames("b")) == (["a"], 1, 0)


def test_wrong_arguments(untrained):
    model = untrained("baseline")
    for wrong in ({"max_frames": 0}, {"max_frames": 2.5}, {"settle_frames": True}, {"settle_frames": -1}):
        with pytest.raises(ValueError, match=f"Received: {next(iter(wrong))}="):
            OnlineTracklet(model, **wrong)
    with pytest.raises(ValueError, match="settle_frames=8, max_frames=8"):
        OnlineTracklet(model, max_frames=8)
    with pytest.raises(ValueError, match=r"model of kreid\.models.*model='model\.keras'"):
        OnlineTracklet("model.keras")
    tracklet = OnlineTracklet(model)
    for call in (tracklet.embedding, tracklet.drift, lambda: tracklet.settled(0.1)):
        with pytest.raises(ValueError, match=r"Add a frame first\. Received: a tracklet of 0 frames$"):
            call()
    tracklet.add(FRAMES[0])
    for tolerance in (0, -1.0, float("nan"), "small", True):
        with pytest.raises(ValueError, match="Received: tolerance="):
            tracklet.settled(tolerance)
    with pytest.raises(ValueError, match=r"by tracklet.*frames=ndarray"):
        OnlineTracklets(model).add(FRAMES)


@pytest.mark.slow
def test_on_jax(on_jax, tmp_path):
    np.save(tmp_path / "frames.npy", FRAMES)
    on_jax(
        """
import numpy as np, kreid
frames = np.load(sys.argv[1])
backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
for model in (kreid.models.GLTR(backbone, 3), kreid.models.STA(backbone, 3), kreid.models.TACAN(backbone, 3)):
    tracklet = kreid.models.OnlineTracklet(model)
    for start in (0, 1, 3, 10):
        tracklet.add(frames[start : {0: 1, 1: 3, 3: 10, 10: 11}[start]])
    expected = model.embed(frames[None, :11])[0]
    np.testing.assert_allclose(tracklet.embedding(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())
""",
        tmp_path / "frames.npy",
    )
