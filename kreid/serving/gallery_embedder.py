"""Embed the images of gallery requests with the model that is served beside the gallery."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kreid.gallery.gallery_model import GalleryModel
from kreid.serving.batching import Batcher
from kreid.serving.gallery_replies import other_model
from kreid.serving.refusal import RequestRefused
from kreid.serving.telemetry import Call
from kreid.serving.versions import ServedVersions


class ServedEmbedder:
    """The versions of a model as the embedder of a gallery: the highest one that has the gallery's fingerprint.

    Args:
        served: the versions.
        batcher: merges requests, or `None` to run each by itself.
    """

    def __init__(self, served: ServedVersions, batcher: Batcher | None = None) -> None:
        self._served = served
        self._batcher = batcher

    def check(self, model: GalleryModel) -> None:
        """Check that a version of a gallery's model is served.

        Args:
            model: of the gallery.

        Raises:
            ValueError: if there is none.
        """
        if not self.serves(model.fingerprint):
            found = ", ".join(
                f"version {number} {own[:12] or 'unknown'!r}" for number, own in self._served.fingerprints().items()
            )
            raise ValueError(
                "Embeddings of two models are not comparable, and the gallery holds those of another model than the "
                "served one. Embed its tracklets again with the served model (`kreid evaluate RUN` writes "
                "RUN/report/embeddings.npz, and `kreid gallery add NEW_GALLERY RUN/report/embeddings.npz` makes a "
                f"gallery), or serve the gallery's model. Received: a gallery of model="
                f"{model.fingerprint[:12] or 'unknown'!r}; the export has {found}"
            )

    def serves(self, fingerprint: str) -> bool:
        """Return whether a version with this fingerprint can be asked for."""
        return fingerprint in self._served.fingerprints().values()

    def embed(
        self, tracklets: Sequence[Sequence[bytes]], fingerprint: str, call: Call, deadline: float | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Embed tracklets of images.

        Args:
            tracklets: the bytes of each one's JPEG or PNG files.
            fingerprint: of the model that must embed them.
            call: filled with the version that does.
            deadline: by `time.monotonic`, or `None`.

        Returns:
            A tuple of float32 `(tracklets, features)` and int32 `(tracklets,)`, numbers of readable images, or -1 for
            a tracklet that is refused.

        Raises:
            RequestRefused: if no version has the fingerprint, or the model refuses the images.
        """
        embeddings, valid = [], []
        with contextlib.ExitStack() as stack:
            numbers = [number for number, own in self._served.fingerprints().items() if own == fingerprint]
            try:
                call.version, model = stack.enter_context(self._served.use(max(numbers, default=-1)))
            except RequestRefused as error:
                raise other_model() from error
            run = model.run if self._batcher is None else functools.partial(self._batcher.run, model)
            for group in _groups(tracklets, model.frame_limit):
                left = None if deadline is None else deadline - time.monotonic()
                outputs = run("embed_jpeg", _inputs(group), [], left)
                embeddings.append(outputs["embedding"])
                valid.append(outputs["valid_frames"])
        return np.concatenate(embeddings), np.concatenate(valid)


def _groups(tracklets: Sequence[Sequence[bytes]], frame_limit: int) -> Iterator[list[Sequence[bytes]]]:
    """Yield tracklets in groups of as many images, padding included, as one tracklet may have."""
    group: list[Sequence[bytes]] = []
    for row, images in enumerate(tracklets):
        if len(images) > frame_limit:
            raise RequestRefused(
                "INVALID_ARGUMENT",
                f"The model takes at most {frame_limit} images of a tracklet; thin it. Received: tracklet {row} of "
                f"{len(images)} images",
            )
        longer = [*group, images]
        if group and len(longer) * max(map(len, longer)) > frame_limit:
            yield group
            longer = [images]
        group = longer
    yield group


def _inputs(tracklets: Sequence[Sequence[bytes]]) -> dict[str, NDArray]:
    lengths = np.array([len(images) for images in tracklets], np.int32)
    images = np.full((len(tracklets), lengths.max()), b"", object)
    for row, own in enumerate(tracklets):
        images[row, : len(own)] = own
    return {"images": images, "lengths": lengths}
