"""Tracklets to embed: whole or selected, in batches of a limited size, without their damaged frames."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from pipeline_samples import SIZE, sources

from kreid.data.evaluation_pipeline import EvaluationPipeline


@pytest.fixture
def uneven(make_tracklets):
    """Nine tracklets of 1 to 7 frames."""
    lengths = [3, 7, 1, 4, 4, 2, 7, 5, 1]
    return [
        type(tracklet)(tracklet.id, tracklet.person, tracklet.camera, tracklet.frames[:length])
        for tracklet, length in zip(make_tracklets(persons=3, tracklets=3, frames=7), lengths, strict=True)
    ]


def times_of(pipeline):
    """Return row -> times of its frames; check the padding and that frames are of their tracklet."""
    times_by_row = {}
    for inputs, rows in pipeline.dataset():
        frames, lengths = inputs["frames"].numpy(), inputs["lengths"].numpy()
        assert frames.dtype == np.uint8
        assert lengths.dtype == np.int32
        assert frames.shape[1] == lengths.max()
        for clip, length, row in zip(frames, lengths, rows.numpy().tolist(), strict=True):
            assert (clip[length:] == 0).all()
            person, tracklet, time = sources(clip[:length])
            assert set(zip(person.tolist(), tracklet.tolist(), strict=True)) == {(row // 3, row % 3)}
            assert row not in times_by_row
            times_by_row[row] = time.tolist()
    return times_by_row


class TestEvaluation:
    def test_every_tracklet_comes_once_and_whole(self, uneven):
        pipeline = EvaluationPipeline(uneven, SIZE, batch_frames=14)
        assert times_of(pipeline) == {row: list(range(len(tracklet))) for row, tracklet in enumerate(uneven)}
        assert pipeline.damage.counts == {}

    @pytest.mark.parametrize("batch_frames", [1, 6, 14, 1_000])
    def test_batches_stay_within_the_frames_allowed(self, uneven, batch_frames):
        pipeline = EvaluationPipeline(uneven, SIZE, batch_frames=batch_frames)
        shapes = [inputs["frames"].shape for inputs, _ in pipeline.dataset()]
        assert len(shapes) == pipeline.num_batches
        assert all(shape[0] * shape[1] <= batch_frames or shape[0] == 1 for shape in shapes)
        assert [shape[1] for shape in shapes] == sorted((shape[1] for shape in shapes), reverse=True)
        assert sum(shape[0] for shape in shapes) == 9
        if batch_frames == 1_000:
            assert len(shapes) == 1

    def test_static_shapes_know_all_but_batch_and_length(self, uneven):
        inputs, rows = EvaluationPipeline(uneven, SIZE).dataset().element_spec
        assert inputs["frames"].shape.as_list() == [None, None, *SIZE, 3]
        assert inputs["lengths"].shape.as_list() == rows.shape.as_list() == [None]
        assert rows.dtype == inputs["lengths"].dtype == tf.int32

    def test_only_selected_frames_are_read(self, uneven):
        # The last frame is missing but not selected, so it is not noticed.
        for tracklet in uneven:
            if len(tracklet) > 2:
                Path(tracklet.frames[-1]).unlink()
        pipeline = EvaluationPipeline(uneven, SIZE, select=lambda length: np.arange(min(length, 2)))
        assert times_of(pipeline) == {row: [0, 1][: len(tracklet)] for row, tracklet in enumerate(uneven)}
        assert pipeline.damage.counts == {}

    def test_a_damaged_frame_is_left_out_and_the_rest_move_up(self, uneven, truncate):
        truncate(uneven[1].frames[0])
        Path(uneven[3].frames[3]).write_bytes(b"")
        pipeline = EvaluationPipeline(uneven, SIZE, batch_frames=14, max_damaged=0.5)
        times_by_row = times_of(pipeline)
        assert times_by_row.pop(1) == [1, 2, 3, 4, 5, 6]
        assert times_by_row.pop(3) == [0, 1, 2]
        assert all(times == list(range(len(uneven[row]))) for row, times in times_by_row.items())
        assert pipeline.damage.counts == {uneven[1].frames[0]: 1, uneven[3].frames[3]: 1}

    def test_a_tracklet_with_damage_among_the_selected_frames_is_read_whole(self, uneven, truncate):
        truncate(uneven[1].frames[1])
        truncate(uneven[1].frames[5])
        pipeline = EvaluationPipeline(
            uneven, SIZE, select=lambda length: np.arange(min(length, 2)), max_damaged=0.5, batch_frames=6
        )
        times_by_row = times_of(pipeline)
        assert times_by_row.pop(1) == [0, 2, 3, 4, 6]
        assert all(times == [0, 1][: len(times)] for times in times_by_row.values())
        assert len(times_by_row) == 8
        assert pipeline.damage.counts == {uneven[1].frames[1]: 1, uneven[1].frames[5]: 1}

    @pytest.mark.parametrize("batch_frames", [1, 1_000])
    def test_a_tracklet_without_readable_frames_is_left_out_and_named(self, uneven, batch_frames):
        for row in (2, 5):
            for path in uneven[row].frames:
                Path(path).write_bytes(b"not an image")
        pipeline = EvaluationPipeline(uneven, SIZE, batch_frames=batch_frames, max_damaged=0.5)
        assert sorted(times_of(pipeline)) == [0, 1, 3, 4, 6, 7, 8]
        assert sorted(pipeline.damage.tracklets) == sorted([uneven[2].id, uneven[5].id])

    def test_all_unreadable_gives_no_batch(self, uneven):
        for tracklet in uneven:
            for path in tracklet.frames:
                Path(path).unlink()
        pipeline = EvaluationPipeline(uneven, SIZE, max_damaged=1.0)
        assert list(pipeline.dataset()) == []
        assert len(pipeline.damage.tracklets) == 9

    def test_too_much_damage_stops_the_pass(self, uneven, truncate):
        for path in uneven[1].frames[:2]:
            truncate(path)
        # 2 of 34 frames.
        times_of(EvaluationPipeline(uneven, SIZE, max_damaged=2 / 34))
        with pytest.raises(tf.errors.InvalidArgumentError, match="2 of 34 frames cannot be read"):
            times_of(EvaluationPipeline(uneven, SIZE, max_damaged=1.9 / 34))

    @pytest.mark.parametrize("positions", [[], [0, 7], [-1], [[0]]])
    def test_positions_are_checked(self, uneven, positions):
        with pytest.raises(ValueError, match=r"`select` must give positions.*Received: select\("):
            EvaluationPipeline(uneven, SIZE, select=lambda length: np.array(positions, int))

    def test_settings_are_checked(self, uneven):
        with pytest.raises(ValueError, match="Received: batch_frames=0"):
            EvaluationPipeline(uneven, SIZE, batch_frames=0)
        with pytest.raises(ValueError, match="at least one tracklet"):
            EvaluationPipeline([], SIZE)
        hollow = type(uneven[0])("hollow", 1, 1, ())
        with pytest.raises(ValueError, match=r"leave out the 1 empty ones\. Received: id='hollow'"):
            EvaluationPipeline([hollow], SIZE)
