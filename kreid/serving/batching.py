"""Requests that wait at the same time run as one batch."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kreid.serving.refusal import RequestRefused

if TYPE_CHECKING:
    from kreid.serving.loaded_model import LoadedModel

MAX_BATCH = 256
_ROW_OUTPUTS = {"embedding", "valid_frames"}


@dataclasses.dataclass
class _Waiting:
    """A request in a queue, and its answer once a batch has run."""

    arrays: Mapping[str, np.ndarray]
    deadline: float | None
    outputs: dict[str, np.ndarray] | None = None
    error: RequestRefused | None = None
    alone: bool = False  # its batch failed

    @property
    def done(self) -> bool:
        return self.alone or self.error is not None or self.outputs is not None


class _Queue:
    def __init__(self) -> None:
        self.waiting: collections.deque[_Waiting] = collections.deque()
        self.turn = threading.Lock()  # of the thread that runs a batch


class Batcher:
    """Merges requests of one signature that wait while the model is busy.

    No request waits for others: the first runs alone, and those that come meanwhile run together. Only requests that
    are right by themselves and have about as many frames are merged: lengths are padded to the next power of two, and
    with `lengths` the padding changes no answer. Requests without `lengths` are merged if they have equally many
    frames. If a batch fails, each of its requests runs alone, so that an error reaches nobody else.

    Args:
        requests: largest number of requests in a batch.
        observe: called with the number of requests of each batch.
    """

    def __init__(self, requests: int, observe: Callable[[float], None]) -> None:
        self._requests = requests
        self._observe = observe
        self._queues: weakref.WeakKeyDictionary[LoadedModel, dict[Any, _Queue]] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def run(
        self,
        model: LoadedModel,
        name: str,
        arrays: Mapping[str, np.ndarray],
        output_filter: Sequence[str],
        seconds_left: float | None,
    ) -> dict[str, np.ndarray]:
        """Run a signature, as `LoadedModel.run` does.

        Args:
            model: to run.
            name: of the signature.
            arrays: inputs by name.
            output_filter: names of the outputs to return; all if empty.
            seconds_left: until the client's deadline, or `None`.

        Returns:
            A dict of output name to array.

        Raises:
            RequestRefused: as `LoadedModel.run` does.
        """
        length = _merged_length(arrays, model.frame_limit) if _by_rows(model, name) else None
        if length is None or (seconds_left is not None and seconds_left <= 0):
            return model.run(name, arrays, output_filter, seconds_left)
        chosen = model.check(name, arrays, output_filter)
        deadline = None if seconds_left is None else time.monotonic() + seconds_left
        item = _Waiting(arrays, deadline)
        with self._lock:
            queue = self._queues.setdefault(model, {}).setdefault((name, length), _Queue())
            queue.waiting.append(item)
        with queue.turn:
            while not item.done:
                self._run_batch(model, name, queue, length)
        if item.error is not None:
            raise item.error
        if item.outputs is None:
            return model.run(name, arrays, output_filter, _left(deadline))
        return {alias: item.outputs[alias] for alias in chosen}

    def _run_batch(self, model: LoadedModel, name: str, queue: _Queue, length: int) -> None:
        batch: list[_Waiting] = []
        rows = 0
        with self._lock:
            while queue.waiting and len(batch) < self._requests:
                if (_left(queue.waiting[0].deadline) or 1) <= 0:
                    late = queue.waiting.popleft()
                    late.error = RequestRefused("DEADLINE_EXCEEDED", "The deadline passed while the request waited.")
                    continue
                more = _rows(queue.waiting[0].arrays)
                if batch and (rows + more) * length > model.frame_limit:
                    break
                batch.append(queue.waiting.popleft())
                rows += more
        if not batch:
            return
        self._observe(len(batch))
        try:
            if len(batch) == 1:
                batch[0].outputs = model.run(name, batch[0].arrays, (), _left(batch[0].deadline))
                return
            # Until the last of the deadlines; the calls of the others end before.
            left = [_left(item.deadline) for item in batch]
            known = [seconds for seconds in left if seconds is not None]
            outputs = model.run(
                name,
                _merged([item.arrays for item in batch], length),
                (),
                max(known) if len(known) == len(batch) else None,
            )
        except Exception as error:
            if len(batch) == 1 and isinstance(error, RequestRefused):
                batch[0].error = error
            for item in batch:
                item.alone = True
            return
        start = 0
        for item in batch:
            end = start + _rows(item.arrays)
            item.outputs = {alias: output[start:end] for alias, output in outputs.items()}
            start = end


def _by_rows(model: LoadedModel, name: str) -> bool:
    """Whether a signature's outputs have one row per tracklet, and no size that depends on the number of frames."""
    signature = model.signatures.get(name)
    return signature is not None and set(signature.outputs) <= _ROW_OUTPUTS


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()


def _clips(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    return arrays.get("images", arrays.get("frames"))


def _rows(arrays: Mapping[str, np.ndarray]) -> int:
    clips = _clips(arrays)
    assert clips is not None
    return clips.shape[0]


def _merged_length(arrays: Mapping[str, np.ndarray], frame_limit: int) -> int | None:
    """Return the number of frames to which a request is padded, or `None` for one that runs alone."""
    clips = _clips(arrays)
    if clips is None or clips.ndim < 2 or set(arrays) - {"images", "frames", "lengths"} or len(arrays) > 2:
        return None
    rows, length = clips.shape[:2]
    if not 1 <= rows * length <= frame_limit:
        return None
    lengths = arrays.get("lengths")
    if lengths is None:
        return length if len(arrays) == 1 else None
    # The graph refuses such rows, and a request that has no other.
    if lengths.shape != (rows,) or lengths.dtype != np.int32 or lengths.min() < 0 or lengths.max() > length:
        return None
    padded = 1 << (length - 1).bit_length()
    return padded if rows * padded <= frame_limit else None


def _merged(requests: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    clips = [_clips(arrays) for arrays in requests]
    first = clips[0]
    assert first is not None
    alias = "images" if "images" in requests[0] else "frames"
    rows = sum(map(_rows, requests))
    empty = b"" if first.dtype == object else 0
    merged = {alias: np.full((rows, length, *first.shape[2:]), empty, first.dtype)}
    start = 0
    for part in clips:
        assert part is not None
        merged[alias][start : start + part.shape[0], : part.shape[1]] = part
        start += part.shape[0]
    if "lengths" in requests[0]:
        merged["lengths"] = np.concatenate([arrays["lengths"] for arrays in requests])
    return merged
