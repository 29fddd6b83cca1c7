"""The client: tracklets in, embeddings out, without TensorFlow in the client's process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.serving import wire
from kreid.serving.answers import Embeddings, ModelVersion, Prediction, SamePerson
from kreid.serving.client_core import ClientCore, Signatures
from kreid.serving.client_flow import BlockingClient
from kreid.serving.connection import Retry, Tls


class EmbeddingClient(BlockingClient):
    """A client of a kreid server or TensorFlow Serving; `AsyncEmbeddingClient` is the same for asyncio.

    Needs only `grpcio`, `protobuf` and NumPy. Long lists are sent in several
    requests, each within the frame limit of the model card and the message size.
    Threads may share a client.

    All embeddings of one call come from one model. If the model is exchanged during a
    call, the call starts again with the new one; if that happens twice, it is an error.

    Args:
        target: `host:port`.
        model: name of the model on the server.
        timeout: seconds per request, repetitions included; `None` waits without limit.
        version: int, the model's version, or `None` for the server's latest.
        max_message_bytes: largest request and answer; the server has its own limit.
        frames_at_once: largest number of frames (padding included) in a request
            with several tracklets, so that a request stays within the timeout on a
            slow server. A longer tracklet is sent alone.
        label: name that the server's configuration gives to a version, such as
            `"stable"`, in place of `version`.
        fingerprint: of the model that must answer, or its first 8 or more digits. The
            client looks for it among all versions that the server offers.
        tls: `True` or a `Tls` for an encrypted connection.
        token: bearer token for a server or proxy that demands one. Without `tls` it is
            sent only to this machine.
        token_file: file whose first line is the token, in place of `token`; a new
            content counts from the next request on.
        retry: a `Retry`, how often and when a request is repeated if the server
            cannot be reached.
        keepalive: seconds without an answer after which the client asks the server
            whether it is still there. Servers close connections that ask more often
            than they allow, by default every 300 seconds.

    Raises:
        ImportError: without `grpcio`.
        ValueError: for an argument out of range, or a file that is no certificate, key or token.
        FileNotFoundError: if such a file is missing.

    Usage:

        with EmbeddingClient("127.0.0.1:8500") as client:
            embeddings = client.embed_frames([frames])
            print(embeddings.shape, embeddings.version, embeddings.fingerprint)
    """

    def __init__(
        self,
        target: str = "127.0.0.1:8500",
        model: str = "kreid",
        timeout: float | None = 30,
        version: int | None = None,
        max_message_bytes: int = wire.DEFAULT_MESSAGE_BYTES,
        frames_at_once: int = 128,
        *,
        label: str | None = None,
        fingerprint: str | None = None,
        tls: Tls | bool | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        keepalive: float = 300,
    ) -> None:
        self._core = ClientCore(
            target,
            model,
            timeout,
            version,
            max_message_bytes,
            frames_at_once,
            label,
            fingerprint,
            tls,
            token,
            token_file,
            retry,
            keepalive,
        )
        super().__init__(self._core)
        self.model = model

    def embed_frames(self, tracklets: Iterable[ArrayLike]) -> Embeddings:
        """Embed tracklets of decoded frames.

        Args:
            tracklets: list of uint8 arrays `(frames, height, width, 3)` of the
                model's image size; numbers of frames may differ.

        Returns:
            `Embeddings`, a float32 array `(tracklets, features)` that has the
            `version` and `fingerprint` of the model.

        Raises:
            ValueError: for an array that is not a tracklet of that size.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.embed_frames(tracklets))

    def embed_images(self, tracklets: Iterable[Iterable[bytes]]) -> tuple[Embeddings, NDArray[np.int32]]:
        """Embed tracklets of encoded images of any size.

        Args:
            tracklets: list of lists of bytes, each a JPEG or PNG file. The server
                skips damaged files.

        Returns:
            A tuple of `Embeddings`, see `embed_frames`, and int32 `(tracklets,)`, the
            number of readable frames; if it is 0 the embedding is NaN.

        Raises:
            ValueError: if a tracklet is not a list of files' bytes, is Base64, or has
                no JPEG or PNG file but a file of another known format.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.embed_images(tracklets))

    def encode_frames(self, tracklets: Iterable[ArrayLike]) -> list[Embeddings]:
        """Encode tracklets as vectors of frames or clips, which `aggregate` makes embeddings of.

        So a machine at a camera sends vectors, not pictures.

        Args:
            tracklets: see `embed_frames`.

        Returns:
            A list of `Embeddings` `(parts, values)`, one per tracklet.

        Raises:
            ValueError: for an array that is no tracklet, or a model that makes no such vectors; the error says why.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.encode_frames(tracklets))

    def aggregate(self, vectors: Iterable[ArrayLike]) -> Embeddings:
        """Embed tracklets of vectors.

        Args:
            vectors: list of float32 arrays `(parts, values)` as `encode_frames` returns them.

        Returns:
            `Embeddings` `(tracklets, features)`, as `embed_frames` of the frames.

        Raises:
            ValueError: for other shapes, `Embeddings` of another model than the one that answers, or a model that makes
                no such vectors.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.aggregate(vectors))

    def predict(self, signature: str, inputs: Mapping[str, ArrayLike]) -> Prediction:
        """Send one request to any signature of the model.

        Args:
            signature: name, see `metadata`.
            inputs: arrays by name; bytes in an object array.

        Returns:
            A `Prediction` with the `outputs` by name and the `model` that answered.

        Raises:
            TypeError: for a dtype that kreid's signatures do not use.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.predict(signature, inputs))

    def same_person(self, first: ArrayLike, second: ArrayLike) -> SamePerson:
        """Decide for pairs of embeddings whether they show the same person.

        Args:
            first: `(pairs, features)`.
            second: the same shape; row i is compared with row i of `first`.

        Returns:
            A `SamePerson` with `distance`, `probability` and `same_person`.

        Raises:
            ValueError: for other shapes, `Embeddings` of another model than the one that answers, or a model without a
                fitted threshold.
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.same_person(first, second))

    def card(self, refresh: bool = False) -> dict[str, Any]:
        """Return the model card. The client keeps it until it sees an answer of another model.

        Args:
            refresh: request it from the server although the client has one.

        Returns:
            A dict, see `kreid.serving.read_card`.

        Raises:
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.card(refresh))

    def model_version(self) -> ModelVersion:
        """Ask the server which model answers now.

        Returns:
            A `ModelVersion` with `name`, `version` and `fingerprint`.

        Raises:
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.model_version())

    def wait_until_ready(self, timeout: float = 60) -> ModelVersion:
        """Wait until the server can be reached and has loaded the model.

        Args:
            timeout: seconds.

        Returns:
            The `ModelVersion` that answers.

        Raises:
            ServingError: the last one, after the timeout; at once if waiting cannot help, as with a wrong token.
        """
        return self._run(self._core.wait_until_ready(timeout))

    def status(self) -> list[dict[str, Any]]:
        """Request the state of the model's versions.

        Returns:
            A list of dicts with `version`, `state` and `error`, highest version first.

        Raises:
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.status())

    def metadata(self) -> Signatures:
        """Request the model's signatures.

        Returns:
            A dict of signature name to `{"inputs": {name: (dtype, shape)}, "outputs": ...}`; -1 is any size.

        Raises:
            ServingError: if the server refuses the request or cannot be reached.
        """
        return self._run(self._core.metadata())
