"""Batches across requests: equal answers whoever the neighbours are, and errors that reach nobody else."""

import concurrent.futures
import functools
import threading
import time

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import encode, random_tracklet  # noqa: E402

from kreid.serving.batching import Batcher, _merged, _merged_length  # noqa: E402
from kreid.serving.loaded_model import LoadedModel  # noqa: E402
from kreid.serving.refusal import RequestRefused  # noqa: E402


@pytest.fixture(scope="module")
def loaded(base_path):
    loaded = LoadedModel(base_path / "3")
    yield loaded
    loaded.close()


class Gate:
    """A model whose runs wait until all requests of a test are in the queue, and that notes the rows of its runs."""

    def __init__(self, model):
        self._model = model
        self.frame_limit = model.frame_limit
        self.check, self.signatures = model.check, model.signatures
        self.open = threading.Event()
        self.rows = []

    def run(self, name, arrays, *arguments):
        self.open.wait()
        self.rows.append(len(arrays.get("images", arrays.get("frames"))))
        return self._model.run(name, arrays, *arguments)


def waiting(batcher):
    """Return the number of requests in each queue."""
    with batcher._lock:
        return [len(queue.waiting) for queues in batcher._queues.values() for queue in queues.values()]


def outcomes(model, requests, size=8):
    """Run all requests at once by a batcher; return the answer or error of each, and the rows of each run."""
    gate, batcher = Gate(model), Batcher(size, lambda number: None)

    def run(request):
        try:
            return batcher.run(gate, *request)
        except RequestRefused as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        futures = [pool.submit(run, request) for request in requests]
        # One request of each length waits at the gate; the others are in the queues.
        while sum(waiting(batcher)) < len(requests) - len(waiting(batcher)):
            time.sleep(0.001)
        gate.open.set()
        return [future.result() for future in futures], gate.rows


def padded_request(seed, lengths, frames, output_filter=(), seconds=None):
    clips = np.stack([random_tracklet(seed + row, frames) for row in range(len(lengths))])
    return "embed_padded", {"frames": clips, "lengths": np.array(lengths, np.int32)}, output_filter, seconds


def jpeg_request(seed, frames, damaged=()):
    images = [
        b"damaged" if place in damaged else encode(frame) for place, frame in enumerate(random_tracklet(seed, frames))
    ]
    return "embed_jpeg", {"images": np.array([images], object), "lengths": np.array([frames], np.int32)}, (), None


def check_equal(model, requests, answers):
    for request, answer in zip(requests, answers, strict=True):
        alone = model.run(*request)
        assert set(answer) == set(alone)
        for alias, value in alone.items():
            np.testing.assert_allclose(answer[alias], value, rtol=1e-5, atol=1e-5)


def test_merged_answers_are_those_of_each_request_alone(loaded):
    requests = [
        padded_request(0, [3], 3),
        padded_request(10, [4, 1], 4),
        padded_request(20, [0, 2, 3], 3),
        padded_request(30, [2], 3, output_filter=("embedding",)),
        padded_request(40, [4], 4, seconds=60.0),
    ]
    answers, rows = outcomes(loaded, requests)
    assert (len(rows), sum(rows)) == (2, 8)
    check_equal(loaded, requests, answers)


def test_rows_that_the_graph_refuses_are_not_merged(loaded):
    batcher = Batcher(8, lambda number: None)
    some, all_ = padded_request(0, [3, 99], 3), padded_request(0, [-1], 3)
    check_equal(loaded, [some], [batcher.run(loaded, *some)])
    for run in (loaded.run, functools.partial(batcher.run, loaded)):
        with pytest.raises(RequestRefused) as caught:
            run(*all_)
        assert caught.value.code == "INVALID_ARGUMENT"


def test_vectors_of_frames_are_not_merged(loaded):
    batcher = Batcher(8, lambda number: pytest.fail("a batch ran"))
    request = "encode_frames", *padded_request(0, [3], 3)[1:]
    check_equal(loaded, [request], [batcher.run(loaded, *request)])


def test_merged_images_keep_their_own_damage(loaded):
    requests = [jpeg_request(0, 3), jpeg_request(1, 4, damaged=[1]), jpeg_request(2, 4, damaged=[0, 1, 2, 3])]
    answers, rows = outcomes(loaded, requests)
    assert len(rows) == 2
    assert [answer["valid_frames"].tolist() for answer in answers] == [[3], [3], [0]]
    check_equal(loaded, requests[:2], answers[:2])


def test_without_lengths_only_equally_many_frames_are_merged(loaded):
    requests = [
        ("serving_default", {"frames": random_tracklet(seed, 2 + seed % 2)[None]}, (), None) for seed in range(6)
    ]
    answers, rows = outcomes(loaded, requests)
    assert sorted(rows) == [1, 1, 2, 2]
    check_equal(loaded, requests, answers)


def test_a_batch_keeps_to_its_size_and_to_the_frame_limit(loaded):
    small = [padded_request(seed, [2], 2) for seed in range(7)]
    _, rows = outcomes(loaded, small, size=3)
    assert rows == [1, 3, 3]
    long = [padded_request(seed, [400], 400) for seed in range(4)]
    answers, rows = outcomes(loaded, long)
    assert rows == [1, 2, 1]  # two rows of 512 frames are the limit of 1024
    check_equal(loaded, long[:1], answers[:1])


def with_arrays(frames, lengths):
    return "embed_padded", {"frames": frames, "lengths": np.array(lengths, np.int32)}, (), None


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (with_arrays(random_tracklet(0, 3)[None, :0], [1]), "INVALID_ARGUMENT"),
        (with_arrays(random_tracklet(0, 3)[None], [1, 2]), "INVALID_ARGUMENT"),
        (with_arrays(np.zeros((1, 3, 9, 9, 3), np.uint8), [1]), "INVALID_ARGUMENT"),
        (padded_request(0, [3], 3, output_filter=("x",)), "INVALID_ARGUMENT"),
        (padded_request(0, [3], 3, seconds=-1.0), "DEADLINE_EXCEEDED"),
        (padded_request(0, [3], 3, seconds=1e-9), "DEADLINE_EXCEEDED"),
        (("no such signature", {"frames": random_tracklet(0, 3)[None]}, (), None), "FAILED_PRECONDITION"),
    ],
)
def test_a_wrong_request_fails_alone(loaded, wrong, code):
    right = [padded_request(seed, [3], 3) for seed in range(2)]
    batcher = Batcher(8, lambda number: None)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(batcher.run, loaded, *request) for request in [right[0], wrong, right[1]]]
        check_equal(loaded, right, [futures[0].result(), futures[2].result()])
        assert futures[1].exception().code == code


def test_if_a_batch_fails_each_request_runs_alone(loaded):
    class Failing(Gate):
        def run(self, name, arrays, *arguments):
            outputs = super().run(name, arrays, *arguments)
            if len(arrays["frames"]) > 1:
                raise RequestRefused("RESOURCE_EXHAUSTED", "out of memory")
            return outputs

    failing, batcher = Failing(loaded), Batcher(8, lambda number: None)
    failing.open.set()
    requests = [padded_request(seed, [3], 3) for seed in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda request: batcher.run(failing, *request), requests))
    check_equal(loaded, requests, answers)


@pytest.mark.parametrize(
    ("arrays", "length"),
    [
        ({"frames": np.zeros((1, 5, 64, 32, 3), np.uint8), "lengths": np.zeros(1, np.int32)}, 8),
        ({"frames": np.zeros((1, 5, 64, 32, 3), np.uint8)}, 5),
        ({"images": np.zeros((2, 1), object), "lengths": np.zeros(2, np.int32)}, 1),
        ({"images": np.zeros((2, 513), object), "lengths": np.zeros(2, np.int32)}, None),
        ({"images": np.zeros((0, 4), object), "lengths": np.zeros(0, np.int32)}, None),
        ({"rows": np.zeros(1, np.int32)}, None),
        ({"frames": np.zeros(3)}, None),
        ({"frames": np.zeros((1, 2)), "images": np.zeros((1, 2))}, None),
        ({"frames": np.zeros((1, 2)), "lengths": np.zeros(1, np.int64)}, None),
        ({"frames": np.zeros((1, 2)), "lengths": np.full(1, 3, np.int32)}, None),
        ({"frames": np.zeros((1, 2)), "lengths": np.full(1, -1, np.int32)}, None),
        ({"frames": np.zeros((1, 2)), "threshold": np.zeros(1)}, None),
    ],
)
def test_lengths_of_batches(arrays, length):
    assert _merged_length(arrays, 1024) == length


def test_padding_is_outside_every_length():
    merged = _merged(
        [
            {"images": np.array([[b"a", b"b"]], object), "lengths": np.array([2], np.int32)},
            {"images": np.array([[b"c"] * 3] * 2, object), "lengths": np.array([0, 3], np.int32)},
        ],
        4,
    )
    assert merged["images"].tolist() == [[b"a", b"b", b"", b""], [b"c"] * 3 + [b""], [b"c"] * 3 + [b""]]
    assert merged["lengths"].tolist() == [2, 0, 3]
    assert merged["lengths"].dtype == np.int32
