"""Tracklets as they grow: frames come one by one, and the embedding is there at any time."""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kreid.distances import distance_matrix
from kreid.models.halves import FrameArrays, Kept, halves_of, in_groups
from kreid.models.tracklet_model import TrackletModel

# Most frames in a call of the backbone.
_FRAMES_AT_ONCE = 128
_ALONE = object()


class OnlineTracklets:
    """Growing tracklets, such as those of a tracker: each frame passes the backbone once, when it comes.

    `embeddings()` equals `model.embed` of each tracklet's frames so far, to rounding, with every choice of test frames.
    All crops of a video frame pass the backbone in one call, and all tracklets are aggregated in one.

    What is kept of a frame, as its values after the backbone:

    - a vector, for a system that makes a vector of each frame (Baseline, GLTR);
    - a vector of each whole clip, and the maps of the last frames, for a system that makes a vector of each clip and
      embeds all of them (TACAN);
    - maps otherwise: those of a ResNet-50 for a frame of 256x128 pixels have 1 MiB in STA and MG-RAFA (last stride 1),
      and 3.75 MiB in RTF, which keeps those of four stages (last stride 2);
    - its pixels, for a system of your own that overrides `encode`: its frames cannot be told apart after the backbone,
      and pass it again for each embedding.

    Where the model chooses test frames, the chosen ones move as a tracklet grows. A frame is kept as long as a tracklet
    of some length up to `max_frames` has it among the chosen ones, and dropped after; one that none will have does not
    pass the backbone. So a smaller `max_frames` keeps less. Nothing is approximated: a tracklet does not grow beyond
    `max_frames`, as frames that it would need then are gone, and `add` refuses more.

    The weights of the model must not change while tracklets grow.

    Args:
        model: a model of `kreid.models`.
        max_frames: most frames of a tracklet.
        settle_frames: k, how many frames lie between the two embeddings that `drift` compares.

    Raises:
        ValueError: for a number out of its range, or another model.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> tracklets = kreid.models.OnlineTracklets(kreid.models.GLTR(backbone, num_identities=10))
    >>> crop = np.zeros((64, 32, 3), "uint8")
    >>> tracklets.add({7: crop, 9: crop})
    >>> tracklets.add({7: crop})
    >>> {track: len(vector) for track, vector in tracklets.embeddings().items()}
    {7: 384, 9: 384}
    >>> tracklets.num_frames(7), tracklets.settled(tolerance=0.1)
    (2, {7: False, 9: False})
    """

    def __init__(self, model: TrackletModel, max_frames: int = 256, settle_frames: int = 8) -> None:
        if not isinstance(model, TrackletModel):
            raise ValueError(f"Give a model of kreid.models, such as a loaded one. Received: model={model!r}")
        for name, value in (("max_frames", max_frames), ("settle_frames", settle_frames)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"`{name}` is a positive integer. Received: {name}={value!r}")
        if settle_frames >= max_frames:
            raise ValueError(
                "An embedding settles after more than `settle_frames` frames: lower it, or raise `max_frames`. "
                f"Received: settle_frames={settle_frames}, max_frames={max_frames}"
            )
        self.model, self.max_frames, self.settle_frames = model, int(max_frames), int(settle_frames)
        self._halves = halves_of(model)
        self._needed_until = _needed_until(model, self._halves.clip_length, self.max_frames)
        self._tracks: dict[Hashable, _Track] = {}

    def add(self, frames: Mapping[Hashable, ArrayLike]) -> None:
        """Add the next frames of some tracklets, all or none. Later changes of the arrays have no effect.

        Args:
            frames: uint8 RGB `(H, W, 3)` with the model's image size, or several `(frames, H, W, 3)`, by tracklet. A
                tracklet that is not known yet begins.

        Raises:
            ValueError: if a frame is missing, or has another size or dtype, or a tracklet would have more than
                `max_frames`.
        """
        if not isinstance(frames, Mapping):
            raise ValueError(f"Give frames by tracklet, {{track: frame}}. Received: frames={type(frames).__name__}")
        checked = {track: self._checked(track, values) for track, values in frames.items()}
        grown = {track: self._tracks[track].copy() if track in self._tracks else _Track() for track in checked}
        coming = []
        for track, values in checked.items():
            grown[track].length += len(values)
            first = grown[track].length - len(values)
            coming += [(grown[track], first + row, values[row]) for row in range(len(values))]
        coming = [one for one in coming if self._is_needed(*one[:2])]
        for start in range(0, len(coming), _FRAMES_AT_ONCE):
            chunk = coming[start : start + _FRAMES_AT_ONCE]
            outputs = self._halves.encode(np.stack([frame for *_, frame in chunk]))
            for row, (track, position, _) in enumerate(chunk):
                # Copies: a view would keep what all frames of the call gave.
                track.frames[position] = [output[row].copy() for output in outputs]
            self._join_clips(chunk)
            for track in {id(track): track for track, *_ in chunk}.values():
                self._drop(track)
        for track in grown.values():
            self._drop(track)
        self._tracks.update(grown)

    def embeddings(self, tracks: Iterable[Hashable] | None = None) -> dict[Hashable, np.ndarray]:
        """Return the embedding of each tracklet so far, float32 `(D,)`.

        Args:
            tracks: tracklets to embed; `None` for all.

        Raises:
            ValueError: for a tracklet that has no frame.
        """
        names = list(self._tracks if tracks is None else tracks)
        vectors = self._embedded([(track, self._track(track).length) for track in names])
        return dict(zip(names, vectors, strict=True))

    def drift(self, tracks: Iterable[Hashable] | None = None) -> dict[Hashable, float]:
        """Return how far the last `settle_frames` frames have moved each embedding.

        This is the distance, by the model's metric, between the embedding of all L frames and that of the first
        L - `settle_frames` of them; infinite up to L = `settle_frames`.

        Args:
            tracks: tracklets to measure; `None` for all.

        Raises:
            ValueError: for a tracklet that has no frame.
        """
        names = list(self._tracks if tracks is None else tracks)
        lengths = {track: self._track(track).length for track in names}
        old = [track for track in names if lengths[track] > self.settle_frames]
        now = self._embedded([(track, lengths[track]) for track in old])
        before = self._embedded([(track, lengths[track] - self.settle_frames) for track in old])
        drifts = dict.fromkeys(names, math.inf)
        for track, one, other in zip(old, now, before, strict=True):
            pair = one[None].astype(np.float64), other[None].astype(np.float64)
            drifts[track] = float(distance_matrix(*pair, self.model.metric)[0, 0])
        return drifts

    def settled(self, tolerance: float, tracks: Iterable[Hashable] | None = None) -> dict[Hashable, bool]:
        """Return whether each tracklet's embedding has settled: its `drift` is below a tolerance.

        More frames may unsettle it again.

        Args:
            tolerance: a distance by the model's metric, such as a tenth of its verification threshold.
            tracks: tracklets to ask for; `None` for all.

        Raises:
            ValueError: for a tolerance that is not above 0, or a tracklet that has no frame.
        """
        if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float, np.number)) or not tolerance > 0:
            raise ValueError(f"A tolerance is a distance above 0. Received: tolerance={tolerance!r}")
        return {track: drift < float(tolerance) for track, drift in self.drift(tracks).items()}

    def num_frames(self, track: Hashable) -> int:
        """Return how many frames a tracklet has so far, 0 for an unknown one."""
        return self._tracks[track].length if track in self._tracks else 0

    def remove(self, track: Hashable) -> None:
        """Forget a tracklet, such as one that has ended.

        Args:
            track: of the tracklet.

        Raises:
            ValueError: for a tracklet that has no frame.
        """
        self._track(track)
        del self._tracks[track]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return sum(
            array.nbytes
            for track in self._tracks.values()
            for arrays in (*track.frames.values(), list(track.clips.values()))
            for array in arrays
        )

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._tracks)

    def __contains__(self, track: object) -> bool:
        return track in self._tracks

    def _track(self, track: Hashable) -> "_Track":
        if track not in self._tracks:
            raise ValueError(f"Add a frame first. Received: a tracklet of 0 frames{_named(track)}")
        return self._tracks[track]

    def _checked(self, track: Hashable, frames: ArrayLike) -> np.ndarray:
        expected = (*self.model.image_size, 3)
        try:
            array = np.asarray(frames)
        except ValueError:  # Frames of several sizes.
            array = np.array(None)
        received = f"Received: frames of shape {array.shape} and dtype {array.dtype}{_named(track)}"
        if array.dtype != np.uint8:
            raise ValueError(
                "Frames are arrays of uint8 RGB values of 0..255, all of one size; leave out frames that could not be "
                f"read. {received}"
            )
        if array.ndim not in (3, 4) or array.shape[-3:] != expected or not array.size:
            raise ValueError(
                f"A frame is {expected}, several are (frames, {', '.join(map(str, expected))}); resize them first. "
                f"{received}"
            )
        array = array.reshape(-1, *expected)
        length = self.num_frames(track) + len(array)
        if length > self.max_frames:
            raise ValueError(
                "Frames that a longer tracklet needs are gone: begin a new tracklet, add every n-th frame only, or "
                f"raise `max_frames` at the start. Received: {length} frames, max_frames={self.max_frames}"
                f"{_named(track)}"
            )
        return array

    def _is_needed(self, track: "_Track", position: int) -> bool:
        """Whether an embedding of `settle_frames` ago or later needs what a frame gave."""
        size = self._halves.clip_length
        if size is not None and position // size not in track.clips:
            return True
        return bool(self._needed_until[position] >= track.length - self.settle_frames)

    def _drop(self, track: "_Track") -> None:
        for position in [position for position in track.frames if not self._is_needed(track, position)]:
            del track.frames[position]

    def _join_clips(self, frames: Iterable[tuple["_Track", int, Any]]) -> None:
        """Make the vectors of the clips that these frames complete."""
        size = self._halves.clip_length
        if size is None:
            return
        whole = [(track, position // size) for track, position, _ in frames if (position + 1) % size == 0]
        if whole:
            clips = [[track.frames[number * size + place] for place in range(size)] for track, number in whole]
            for (track, number), vector in zip(whole, self._halves.join(clips), strict=True):
                track.clips[number] = vector.copy()

    def _embedded(self, lengths: Iterable[tuple[Hashable, int]]) -> list[np.ndarray]:
        """Return the embedding of the first frames of each tracklet."""
        chosen = [self._kept(self._track(track), length) for track, length in lengths]
        groups = in_groups(chosen, self._halves.frames_at_once)
        return [row.copy() for group in groups for row in self._halves.embed(group)]

    def _kept(self, track: "_Track", length: int) -> Kept:
        size = self._halves.clip_length
        if size is None:
            return Kept([track.frames[position] for position in self.model.selection.positions(length).tolist()])
        whole = length // size
        frames = [track.frames[position] for position in range(whole * size, length)]
        return Kept(frames, [track.clips[number] for number in range(whole)])


class OnlineTracklet:
    """One growing tracklet, see `OnlineTracklets`, which says what is kept and what `max_frames` means.

    Args:
        model: a model of `kreid.models`.
        max_frames: most frames of the tracklet; more are refused.
        settle_frames: k, how many frames lie between the two embeddings that `drift` compares.

    Raises:
        ValueError: for a number out of its range, or another model.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    >>> model = kreid.models.STA(backbone, num_identities=10)
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 64, 32, 3), "uint8")
    >>> tracklet = kreid.models.OnlineTracklet(model)
    >>> for frame in frames:
    ...     tracklet.add(frame)
    >>> np.allclose(tracklet.embedding(), model.embed(frames[None])[0], rtol=1e-4, atol=1e-6)
    True
    >>> len(tracklet), tracklet.settled(tolerance=1e-9)
    (12, False)
    """

    def __init__(self, model: TrackletModel, max_frames: int = 256, settle_frames: int = 8) -> None:
        self._tracklets = OnlineTracklets(model, max_frames, settle_frames)

    def add(self, frames: ArrayLike) -> None:
        """Add the next frame or frames, all or none. Later changes of the array have no effect.

        Args:
            frames: uint8 RGB `(H, W, 3)` with the model's image size, or several `(frames, H, W, 3)`.

        Raises:
            ValueError: if a frame is missing, or has another size or dtype, or there would be more than `max_frames`.
        """
        self._tracklets.add({_ALONE: frames})

    def embedding(self) -> np.ndarray:
        """Return the embedding of the frames so far, float32 `(D,)`.

        Raises:
            ValueError: without a frame.
        """
        return self._tracklets.embeddings([_ALONE])[_ALONE]

    def drift(self) -> float:
        """Return how far the last `settle_frames` frames have moved the embedding; see `OnlineTracklets.drift`.

        Raises:
            ValueError: without a frame.
        """
        return self._tracklets.drift([_ALONE])[_ALONE]

    def settled(self, tolerance: float) -> bool:
        """Return whether the embedding has settled: `drift()` is below a tolerance; see `OnlineTracklets.settled`.

        Args:
            tolerance: a distance by the model's metric.

        Raises:
            ValueError: for a tolerance that is not above 0, or without a frame.
        """
        return self._tracklets.settled(tolerance, [_ALONE])[_ALONE]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that are kept."""
        return self._tracklets.nbytes

    def __len__(self) -> int:
        return self._tracklets.num_frames(_ALONE)


class _Track:
    """What is kept of a tracklet.

    Attributes:
        length: frames so far.
        frames: what each frame gave, by its position, as far as it is needed.
        clips: vectors of whole clips, by their number.
    """

    def __init__(self) -> None:
        self.length = 0
        self.frames: dict[int, FrameArrays] = {}
        self.clips: dict[int, np.ndarray] = {}

    def copy(self) -> "_Track":
        twin = _Track()
        twin.length, twin.frames, twin.clips = self.length, dict(self.frames), dict(self.clips)
        return twin


def _needed_until(model: TrackletModel, clip_length: int | None, max_frames: int) -> np.ndarray:
    """Return for each frame the longest tracklet that needs what it gave, 0 if none does; `(max_frames,)`."""
    positions = np.arange(max_frames)
    if clip_length is not None:
        # The longest tracklet with the frame in an unfinished clip.
        return (positions // clip_length + 1) * clip_length - 1
    needed = np.zeros(max_frames, np.int64)
    if model.selection.num_frames is None:
        return needed + max_frames
    for length in range(1, max_frames + 1):
        needed[model.selection.positions(length)] = length
    return needed


def _named(track: Hashable) -> str:
    return "" if track is _ALONE else f", tracklet {track!r}"
