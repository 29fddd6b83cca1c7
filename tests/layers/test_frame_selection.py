"""Selected frames by each strategy, also in a graph."""

import numpy as np
import pytest

from kreid.layers import FrameSelection

RNG = np.random.default_rng(11)


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


def test_adjacent_frames_are_the_middle_ones_in_a_graph():
    import keras

    frames, lengths = keras.Input((None, 1)), keras.Input((), dtype="int32")
    model = keras.Model([frames, lengths], FrameSelection("adjacent", 4)(frames, lengths))
    selected, selected_lengths = model([np.arange(9.0, dtype="float32")[None, :, None], np.array([9])])
    assert selected[0, :, 0].numpy().tolist() == [2, 3, 4, 5]
    assert selected_lengths.numpy().tolist() == [4]
