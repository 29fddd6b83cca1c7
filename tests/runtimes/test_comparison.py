import re
from pathlib import Path

import numpy as np
import pytest
from runtime_samples import make

from kreid.runtimes import ExportedModel
from kreid.runtimes.comparison import SIZES, batches, check_equal
from kreid.serving.card import card_of_model


@pytest.fixture(scope="module")
def model():
    return make("sta", image_size=(32, 32))


@pytest.fixture(scope="module")
def opened(model):
    card = {**card_of_model(model, None), "format": "onnx", "precision": "float32"}
    return lambda run: ExportedModel(run, card, Path("model.onnx"))


pytestmark = pytest.mark.usefixtures("eagerly")


def test_batches_have_the_sizes_and_differ_frame_by_frame():
    made = list(batches((32, 32)))
    assert [(frames.shape[:2]) for frames, _ in made] == list(SIZES)
    for frames, lengths in made:
        assert frames.dtype == "uint8" and lengths.max() == lengths[0] == frames.shape[1] and lengths.min() >= 1
        flat = frames.reshape(-1, 32 * 32 * 3).astype(int)
        assert len(np.unique(flat, axis=0)) == len(flat)


def test_the_largest_difference_is_returned(model, opened):
    def scaled(frames, lengths):
        embeddings = model.embed(frames, lengths)
        return embeddings * (1 + 5e-3 * (lengths == 6)[:, None])

    np.testing.assert_allclose(check_equal(opened(scaled), model, tolerance=1e-2), 5e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("run", "size"),
    [
        # Wrong where padding counts, where T is no multiple of 4, and where a value is NaN.
        (lambda embed: lambda frames, lengths: embed(frames), "3 tracklets"),
        (
            lambda embed: lambda frames, lengths: embed(frames[:, :-1] if frames.shape[1] % 4 == 2 else frames),
            "1 tracklets of 6",
        ),
        (lambda embed: lambda frames, lengths: embed(frames, lengths) * np.float32("nan"), "1 tracklets of 1"),
    ],
)
def test_another_embedding_is_an_error_with_its_size(model, opened, run, size):
    with pytest.raises(ValueError, match=rf"onnx file was not kept, .* differ .*Received: {size} .*lengths="):
        check_equal(opened(run(model.embed)), model, tolerance=1e-4)


@pytest.mark.parametrize(
    ("value", "message"), [(0, "all zero.*Received: model="), (np.nan, "not finite.*Received: 1 trac")]
)
def test_a_model_whose_embeddings_say_nothing_is_an_error(opened, value, message):
    class Constant:
        def embed(self, frames, lengths):
            return np.full((len(frames), 24), value, "float32")

    with pytest.raises(ValueError, match=rf"The model's own embeddings are {message}"):
        check_equal(opened(Constant().embed), Constant(), tolerance=1e-4)


def test_a_failing_runtime_is_an_error_with_its_reason(model, opened):
    def run(frames, lengths):
        raise RuntimeError("Reshape of node 7 fails\nlong story")

    message = "its runtime fails where the model does not (Reshape of node 7 fails). Received: 1 tracklets of 1 frames"
    with pytest.raises(ValueError, match=re.escape(message)):
        check_equal(opened(run), model, tolerance=1e-4)
