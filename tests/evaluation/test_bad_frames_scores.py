"""Scores with bad frames: model, average and oracle, against NumPy in float64."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kreid
from kreid.data.bad_frames import draw_bad_frames
from kreid.data.spoil import spoil
from kreid.data.tracklet import JUNK, ReidDataset, Tracklet
from kreid.evaluation import (
    BadFramesResult,
    BadFramesScores,
    centred_frames,
    evaluate_bad_frames,
    evaluate_test,
    switch_scores,
)
from kreid.gallery.bad_frames import ModelLines, VectorLines, readable_tracklets
from kreid.models import with_uniform_attention

pytestmark = pytest.mark.usefixtures("eagerly")
SIZE = (64, 32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four persons in two cameras, tracklets of 8 frames and one of 5, and junk."""
    folder, tracklets = tmp_path_factory.mktemp("frames"), []
    for person, camera in [(JUNK, 1), *((person, camera) for person in (1, 2, 3, 4) for camera in (1, 2))]:
        name, frames = f"p{person}_c{camera}", []
        for time in range(5 if name == "p4_c2" else 8):
            rng = np.random.default_rng((person + 1, camera, time))
            shade = np.random.default_rng(person + 1).integers(20, 230, (1, 1, 3))
            pixels = np.clip(shade + rng.integers(-60, 60, (*SIZE, 3)), 0, 255).astype(np.uint8)
            frames.append(str(folder / f"{name}_{time}.png"))
            Image.fromarray(pixels).save(frames[-1])
        tracklets.append(Tracklet(name, person, camera, tuple(frames)))
    return ReidDataset("own", (), tuple(tracklets), (1, 3, 5, 7))


def backbone():
    return kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8, last_stride=1)


@pytest.fixture(scope="module")
def pooled():
    """Frames weighted by agreement; the embedding is the weighted mean itself."""
    model = kreid.models.Baseline(
        backbone(), 4, embedding_from="pooled", metric="euclidean", pooling="agreement", bnneck=False
    )
    return model


def pixels(drawn):
    frames = np.stack([np.asarray(Image.open(path)) for path in drawn.tracklet.frames])
    return spoil(tf.constant(frames), tf.constant(drawn.faults)).numpy()


def frame_vectors(model, frames):
    """Each frame's mean features, float64."""
    maps = keras.ops.convert_to_numpy(model.backbone(model.preprocessing(frames[None])))[0]
    return maps.astype("float64").mean(axis=(1, 2))


@pytest.mark.parametrize("kind", ["other_persons", "half_out"])
def test_average_and_oracle_are_means_of_frame_vectors(pooled, dataset, kind):
    tracklets = list(dataset.test[1:])
    embedder = VectorLines(pooled, with_uniform_attention(pooled), tracklets)
    embedder.embed(draw_bad_frames(tracklets, kind, 3 / 8, seed=4))
    drawn = draw_bad_frames(tracklets, kind, 2 / 8, seed=4)
    lines = embedder.embed(drawn)
    for row, one in enumerate(drawn):
        frames = pixels(one)
        vectors = frame_vectors(pooled, frames)
        np.testing.assert_allclose(lines.average[row], vectors.mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(lines.oracle[row], vectors[~one.bad].mean(axis=0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(lines.model[row], pooled.embed(frames[None])[0], rtol=1e-4, atol=1e-6)
    assert np.abs(lines.average - lines.oracle).max() > 1e-3 * np.abs(lines.oracle).max()


def test_each_image_goes_through_the_backbone_once(pooled, dataset):
    tracklets = list(dataset.test[1:])
    embedder = VectorLines(pooled, None, tracklets)
    seen = []
    encoded = embedder._encoded
    embedder._encoded = lambda paths, faults: seen.append(len(paths)) or encoded(paths, faults)
    for kind in ("another_person", "dark"):
        for count in (3, 2, 1):
            embedder.embed(draw_bad_frames(tracklets, kind, count / 8))
    # Seven tracklets of 8 frames have three dark ones, and that of 5 frames has two.
    assert seen == [7 * 3 + 2]


def test_other_models_embed_the_frames_of_the_draw(dataset):
    model = kreid.models.STA(backbone(), 4, embedding_dim=8, num_stripes=2, test_frames=4)
    uniform = with_uniform_attention(model)
    tracklets = list(dataset.test[1:])
    drawn = draw_bad_frames(tracklets, "covered", 3 / 8)
    lines = ModelLines(model, uniform, tracklets).embed(drawn)
    for row, one in enumerate(drawn):
        frames = pixels(one)
        for line, own, given in (
            ("model", model, frames),
            ("average", uniform, frames),
            ("oracle", uniform, frames[~one.bad]),
        ):
            np.testing.assert_allclose(getattr(lines, line)[row], own.embed(given[None])[0], rtol=1e-4, atol=1e-5)


def test_scores_are_those_of_the_lines(pooled, dataset):
    result = evaluate_bad_frames(
        pooled, dataset, kinds=["dark", "another_person"], counts=(3, 1), seed=2, progress=False
    )
    assert [(one.kind, one.bad) for one in result.scores] == [
        ("none", 0),
        ("dark", 1),
        ("dark", 3),
        ("another_person", 1),
        ("another_person", 3),
    ]
    tracklets = list(dataset.test[1:])
    persons, cameras = ([getattr(one, name) for one in tracklets] for name in ("person", "camera"))
    drawn = draw_bad_frames(tracklets, "another_person", 3 / 8, seed=2)
    vectors = [frame_vectors(pooled, pixels(one)) for one in drawn]
    means = {
        "average": [values.mean(axis=0) for values in vectors],
        "oracle": [values[~one.bad].mean(axis=0) for values, one in zip(vectors, drawn, strict=True)],
    }
    for line, embeddings in means.items():
        expected = evaluate_test(np.stack(embeddings), persons, cameras, [0, 2, 4, 6], "euclidean")
        for protocol, scores in getattr(result.scores[-1], line).items():
            assert scores.map == pytest.approx(expected[protocol].map)
    clean = result.scores[0]
    assert clean.average["mars"].map == clean.oracle["mars"].map
    assert json.loads(json.dumps(result.numbers()))["scores"][4]["kind"] == "another_person"
    assert result.switches.numbers() == switches_of(pooled, tracklets, 3 / 8, seed=2).numbers()
    assert result.switches.tracklets == 8
    assert result.table().endswith(result.switches.text())
    most = [one.model["mars"].map for one in result.scores if one.bad == 3]
    assert result.mean_map() == pytest.approx(np.mean(most))
    assert f"Mean mAP with 3 of 8 bad frames, protocol mars: model {100 * result.mean_map():.1f}" in result.table()


def switches_of(model, tracklets, share, seed):
    """The scores of drawn switches, by the embeddings of single frames."""
    vectors = [
        np.concatenate([model.embed(np.asarray(Image.open(path))[None, None]) for path in one.frames])
        for one in tracklets
    ]
    return switch_scores(centred_frames(vectors), tracklets, share=share, seed=seed)


@pytest.mark.slow
def test_switches_are_counted_where_they_are_drawn(pooled, dataset):
    model = kreid.models.STA(backbone(), 4, embedding_dim=8, num_stripes=2, test_frames=4)
    tracklets = list(dataset.test[1:])
    alone = np.asarray(Image.open(tracklets[3].frames[2]))
    for lines, own in ((ModelLines(model, None, tracklets), model), (VectorLines(pooled, None, tracklets), pooled)):
        vectors = lines.frame_embeddings()
        np.testing.assert_allclose(vectors[3][2], own.embed(alone[None, None])[0], rtol=1e-4, atol=1e-5)
        assert [len(one) for one in vectors] == [len(one) for one in tracklets]
    without = evaluate_bad_frames(pooled, dataset, kinds=["other_persons"], counts=(1,), progress=False)
    assert without.switches is without.numbers()["switches"] is None
    single = evaluate_bad_frames(pooled, dataset, kinds=["another_person"], counts=(1,), progress=False)
    assert single.switches is None, "one frame is no side of a cut"


def test_the_gap_closed_is_blank_for_a_small_gap():
    def scores(model, average, oracle):
        results = [
            {"mars": kreid.evaluation.RetrievalResult({1: value}, value, 0.0, 1, 1)}
            for value in (model, average, oracle)
        ]
        return BadFramesScores("dark", 3, *results)

    assert scores(0.55, 0.5, 0.6).gap_closed() == pytest.approx(0.5)
    assert scores(0.45, 0.5, 0.6).gap_closed() == pytest.approx(-0.5)
    assert scores(0.55, 0.5, 0.504).gap_closed() is None
    alone = scores(0.55, 0.5, 0.6)._replace(average={}, oracle={})
    assert alone.gap_closed() is None
    table = BadFramesResult((alone,), 0, "No average.").table()
    assert table.splitlines()[1].split() == ["dark", "3", "55.0", "55.0"]
    assert table.endswith("protocol mars: model 55.0.\nNo average.")


def test_long_tracklets_are_thinned_and_damaged_frames_left_out(dataset, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    first, second = dataset.test[1:3]
    damaged = Tracklet("damaged", 1, 1, (str(broken), *first.frames[1:]))
    lost = Tracklet("lost", 1, 1, (str(broken),))
    kept, rows = readable_tracklets([damaged, lost, second], 8, max_damaged=1.0)
    assert [one.frames for one in kept] == [first.frames[1:], second.frames]
    assert rows == [0, 2]
    kept, _ = readable_tracklets([second], 4)
    assert kept[0].frames == tuple(second.frames[place] for place in (1, 3, 5, 7))
    with pytest.raises(ValueError, match="damaged"):
        readable_tracklets([damaged, lost, second], 8)


@pytest.mark.parametrize("counts", [(), (0,), (8,), (-1, 2), (1.5,)])
def test_counts_are_checked(pooled, dataset, counts):
    with pytest.raises(ValueError, match="numbers from 1 to 7"):
        evaluate_bad_frames(pooled, dataset, counts=counts)
    with pytest.raises(ValueError, match="kinds"):
        evaluate_bad_frames(pooled, dataset, kinds=["darc"])
