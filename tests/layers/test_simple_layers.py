"""Averages, preprocessing, selection and masks against plain NumPy."""

import numpy as np
import pytest

from kreid.layers import FrameAverage, FramePreprocessing, FrameSelection, LengthsToMask, SpatialAverage

RNG = np.random.default_rng(11)


def test_frame_average():
    maps = RNG.normal(size=(3, 5, 2, 2, 4)).astype("float32")
    lengths = [5, 2, 0]
    mask = np.arange(5) < np.array(lengths)[:, None]
    output, weights = FrameAverage()(maps, mask=mask, return_attention=True)
    for b, length in enumerate(lengths):
        expected = maps[b, :length].astype("float64").mean(axis=0) if length else np.zeros((2, 2, 4))
        np.testing.assert_allclose(output[b], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(weights[b].numpy().sum(), 1.0 if length else 0.0, rtol=1e-6)


def test_spatial_average():
    maps = RNG.normal(size=(2, 3, 4, 2, 5)).astype("float32")
    np.testing.assert_allclose(SpatialAverage()(maps), maps.astype("float64").mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(SpatialAverage()(maps[:, 0]), maps[:, 0].astype("float64").mean(axis=(1, 2)), rtol=1e-4)
    with pytest.raises(ValueError, match=r"\(batch, h, w, C\).*\(2, 3\)"):
        SpatialAverage()(maps[0, 0, :2, 0, :3])


def test_preprocessing():
    frames = RNG.integers(0, 256, (2, 3, 4, 4, 3)).astype("uint8")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(FramePreprocessing("torch")(frames), (frames / 255.0 - mean) / deviation, atol=1e-5)
    bgr = frames[..., ::-1].astype("float64") - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(FramePreprocessing("caffe")(frames), bgr, atol=1e-4)
    np.testing.assert_allclose(FramePreprocessing("tf")(frames), frames.astype("float64") / 127.5 - 1, atol=1e-6)
    with pytest.raises(ValueError, match="mode='pillow'"):
        FramePreprocessing("pillow")
    with pytest.raises(ValueError, match=r"3 channels.*4\)"):
        FramePreprocessing()(np.zeros((1, 4, 4, 4), "uint8"))


def expected_positions(strategy, length, count):
    """Positions as the layer's documentation defines them."""
    if length <= count:
        return list(range(length))
    if strategy == "adjacent":
        first = int(np.floor((length - count) / 2))
        return list(range(first, first + count))
    offset = {"evenly": 0.5, "chunk_firsts": 0.0}[strategy]
    return [int(np.floor((i + offset) * length / count + 1e-9)) for i in range(count)]


@pytest.mark.parametrize("strategy", ["evenly", "chunk_firsts", "adjacent"])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_selection(strategy, count):
    total = 11
    lengths = np.arange(total + 1)
    frames = np.tile(np.arange(total, dtype="float32"), (total + 1, 1))
    layer = FrameSelection(strategy, count)
    selected, selected_lengths = layer(frames, lengths)
    for row, length in enumerate(lengths):
        expected = expected_positions(strategy, int(length), count)
        assert selected_lengths[row] == len(expected)
        assert selected[row, : len(expected)].numpy().tolist() == expected
        assert layer.positions(int(length)).tolist() == expected
        # Choosing among the chosen changes nothing: a reader may read only those.
        assert layer.positions(len(expected)).tolist() == list(range(len(expected)))


def test_selection_of_all_keeps_the_tensor():
    frames = RNG.random((2, 3, 4)).astype("float32")
    selected, selected_lengths = FrameSelection()(frames, np.array([3, 9]))
    np.testing.assert_array_equal(selected, frames)
    assert selected_lengths.numpy().tolist() == [3, 3]


def test_selection_from_fewer_frames_than_asked_for():
    selected, selected_lengths = FrameSelection("evenly", 4)(np.array([[5.0, 7.0]]), np.array([2]))
    assert selected.shape == (1, 4)
    assert selected_lengths.numpy().tolist() == [2]
    assert selected[0, :2].numpy().tolist() == [5.0, 7.0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("some",), "strategy='some'"), (("all", 4), "num_frames=4"), (("evenly",), "num_frames=None")],
)
def test_selection_refuses(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        FrameSelection(*arguments)


def test_mask_clips_lengths():
    mask = LengthsToMask()(np.zeros((3, 2, 7)), np.array([-1, 1, 5])).numpy()
    assert mask.tolist() == [[False, False], [True, False], [True, True]]


@pytest.mark.parametrize("layer", [LengthsToMask(), FrameSelection("evenly", 2)])
@pytest.mark.parametrize("lengths", [[[2], [1], [3]], [2, 1], [2, 1, 3, 1]])
def test_lengths_are_one_per_tracklet(layer, lengths):
    shape = str(np.shape(lengths)).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"lengths must be \(batch,\).*lengths of shape {shape}"):
        layer(np.zeros((3, 4, 5), "float32"), np.array(lengths))


def test_adjacent_frames_are_the_middle_ones_in_a_graph():
    import keras

    frames, lengths = keras.Input((None, 1)), keras.Input((), dtype="int32")
    model = keras.Model([frames, lengths], FrameSelection("adjacent", 4)(frames, lengths))
    selected, selected_lengths = model([np.arange(9.0, dtype="float32")[None, :, None], np.array([9])])
    assert selected[0, :, 0].numpy().tolist() == [2, 3, 4, 5]
    assert selected_lengths.numpy().tolist() == [4]
