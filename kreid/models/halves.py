"""A model's embedder in two halves: what each frame gives, and one embedding of what the frames gave."""

import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np

from kreid.models.frame_model import FrameModel, of_common_shape
from kreid.models.tracklet_model import TrackletModel

# What a frame gives: one array for each output of the first half.
FrameArrays: TypeAlias = Sequence[np.ndarray]


class Kept(NamedTuple):
    """What the frames of a tracklet gave.

    Args:
        frames: of each frame, in time order.
        clips: vectors of the whole clips before these frames.
    """

    frames: Sequence[FrameArrays]
    clips: Sequence[np.ndarray] = ()


class Halves(abc.ABC):
    """A model's embedder in two halves.

    Args:
        model: a `TrackletModel`.

    Attributes:
        clip_length: frames of a clip whose vector `join` makes; `None` where frames are kept one by one.
        frames_at_once: most frames in a call of the second half, but at least one tracklet.
    """

    clip_length: int | None = None
    frames_at_once = 128

    def __init__(self, model: TrackletModel) -> None:
        self.model = model

    @abc.abstractmethod
    def encode(self, frames: np.ndarray) -> list[np.ndarray]:
        """Return what each frame gives, `(N, ...)` each, from uint8 frames `(N, H, W, 3)`."""

    @abc.abstractmethod
    def embed(self, tracklets: Sequence[Kept]) -> np.ndarray:
        """Return the embeddings of tracklets, float32 `(B, D)`."""

    def join(self, clips: Sequence[Sequence[FrameArrays]]) -> np.ndarray:
        """Return the vectors of clips of at most `clip_length` frames, float32 `(B, C)`."""
        raise NotImplementedError("This model keeps frames one by one.")


def halves_of(model: TrackletModel) -> Halves:
    """Return the halves that keep least of a frame."""
    own, base = type(model), TrackletModel
    if own.encode is not base.encode:
        return _Pixels(model)
    if own.aggregate is not base.aggregate or model.part_frames is None:
        return _Maps(model)
    if model.part_frames == 1:
        return _Vectors(model)
    # Another choice of frames puts them into other clips as the tracklet grows.
    return _Clips(model) if model.test_selection == "all" else _Maps(model)


class _Vectors(Halves):
    """For a model that makes a vector of each frame."""

    frames_at_once = 4096

    def encode(self, frames: np.ndarray) -> list[np.ndarray]:
        return [_run(self.model.part_encoder, _one_tracklet(frames))[0, : len(frames)]]

    def embed(self, tracklets: Sequence[Kept]) -> np.ndarray:
        vectors, lengths = _stacked([[frame[0] for frame in kept.frames] for kept in tracklets])
        return _run(self.model.aggregator, {"vectors": vectors, "lengths": lengths})


class _Maps(Halves):
    """For a model that aggregates maps."""

    def encode(self, frames: np.ndarray) -> list[np.ndarray]:
        # Keras returns an only output without its list.
        return [maps[0, : len(frames)] for maps in _flat(_run(self._encoder(), _one_tracklet(frames)))]

    def embed(self, tracklets: Sequence[Kept]) -> np.ndarray:
        # The number of selected frames, where it is fixed, as layers may have a weight for each of them.
        count = self.model.selection.num_frames
        inputs = {}
        for number in range(len(self._encoder().outputs)):
            rows = [[frame[number] for frame in kept.frames] for kept in tracklets]
            inputs[f"maps_{number}"], inputs["lengths"] = _stacked(rows, count)
        return _run(self._aggregator(), inputs, pad_frames=count is None)

    def _encoder(self) -> keras.Model:
        def make() -> keras.Model:
            frames = self.model.make_inputs()["frames"]
            return FrameModel({"frames": frames}, _flat(self._symbolic_maps(frames)), name="map_encoder")

        return self.model._lazily("map_encoder", make)

    def _aggregator(self) -> keras.Model:
        model = self.model

        def make() -> keras.Model:
            maps = self._symbolic_maps(model.make_inputs()["frames"])
            inputs = {
                f"maps_{number}": keras.Input(
                    (model.selection.num_frames, *values.shape[2:]), dtype=values.dtype, name=f"maps_{number}"
                )
                for number, values in enumerate(_flat(maps))
            }
            given = keras.tree.pack_sequence_as(maps, list(inputs.values()))
            inputs["lengths"] = keras.Input((), dtype="int32", name="lengths")
            mask = model.to_mask(inputs["maps_0"], inputs["lengths"])
            return FrameModel(inputs, self._vector(given, mask), name=self._name)

        return model._lazily(self._name, make)

    _name = "map_aggregator"

    def _vector(self, maps: Any, mask: Any) -> Any:
        vector, _ = self.model._with_attention(self.model.aggregate(maps, mask))
        return self.model._finished(vector)

    def _symbolic_maps(self, frames: Any) -> Any:
        return self.model.test_maps(frames)


class _Clips(_Maps):
    """For a model that makes a vector of each clip: the maps of a clip's frames are kept until it is whole."""

    frames_at_once = 4096
    _name = "clip_encoder"

    def __init__(self, model: TrackletModel) -> None:
        super().__init__(model)
        self.clip_length = model.part_frames

    def join(self, clips: Sequence[Sequence[FrameArrays]]) -> np.ndarray:
        return super().embed([Kept(frames) for frames in clips])

    def embed(self, tracklets: Sequence[Kept]) -> np.ndarray:
        begun = [kept.frames for kept in tracklets if kept.frames]
        last = iter(self.join(begun)) if begun else iter(())
        rows = [[*kept.clips, *([next(last)] if kept.frames else [])] for kept in tracklets]
        vectors, lengths = _stacked(rows)
        return _run(self.model.aggregator, {"vectors": vectors, "lengths": lengths})

    def _vector(self, maps: Any, mask: Any) -> Any:
        vectors, *_ = self.model.encode_parts(maps, mask)
        return self.model.to_float32(vectors)[:, 0]


class _Pixels(Halves):
    """For a model whose backbone mixes frames: frames are kept as they are."""

    def encode(self, frames: np.ndarray) -> list[np.ndarray]:
        return [frames]

    def embed(self, tracklets: Sequence[Kept]) -> np.ndarray:
        frames, lengths = _stacked([[frame[0] for frame in kept.frames] for kept in tracklets])
        return self.model.embed_batch({"frames": frames, "lengths": lengths})


def _one_tracklet(frames: np.ndarray) -> dict[str, np.ndarray]:
    return {"frames": frames[None], "lengths": np.array([len(frames)], np.int32)}


def _flat(maps: Any) -> list[Any]:
    return keras.tree.flatten(maps)


def _stacked(rows: Sequence[Sequence[np.ndarray]], count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return arrays of each tracklet's frames `(B, T, ...)`, padded with zeros, and the lengths."""
    lengths = np.array([len(row) for row in rows], np.int32)
    first = next(array for row in rows for array in row)
    stacked = np.zeros((len(rows), lengths.max() if count is None else count, *first.shape), first.dtype)
    for target, row in zip(stacked, rows, strict=True):
        for place, array in enumerate(row):
            target[place] = array
    return stacked, lengths


def _run(graph: keras.Model, inputs: Mapping[str, np.ndarray], pad_frames: bool = True) -> Any:
    """Return a graph's outputs for the tracklets of its inputs; on JAX with padded frames."""
    count = len(inputs["lengths"])
    names = {tensor.name for tensor in graph.inputs}
    inputs = {name: values for name, values in inputs.items() if name in names}
    if keras.backend.backend() == "jax":
        inputs = of_common_shape(inputs, frames=pad_frames)
    return keras.tree.map_structure(lambda output: output[:count], graph.predict_on_batch(inputs))


def in_groups(tracklets: Iterable[Kept], frames_at_once: int) -> Iterable[list[Kept]]:
    """Yield tracklets in groups whose frames, padded to the longest, are not more than a number, if there are two."""
    group: list[Kept] = []
    longest = 0
    for kept in tracklets:
        size = max(longest, len(kept.frames) + len(kept.clips))
        if group and size * (len(group) + 1) > frames_at_once:
            yield group
            group, size = [], len(kept.frames) + len(kept.clips)
        group.append(kept)
        longest = size
    if group:
        yield group
