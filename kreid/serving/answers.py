"""Embeddings that know which model made them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class ModelVersion(NamedTuple):
    """The model that answered.

    Args:
        name: of the model on the server.
        version: number of the version.
        fingerprint: of the weights and the settings that change embeddings. Embeddings are comparable if and only if
            their fingerprints are equal. `None` for exports from before models had one.
    """

    name: str
    version: int
    fingerprint: str | None

    def __str__(self) -> str:
        fingerprint = "no fingerprint" if self.fingerprint is None else f"fingerprint {self.fingerprint[:12]}"
        return f"{self.name} version {self.version} ({fingerprint})"


class Prediction(NamedTuple):
    """The answer of one request.

    Args:
        outputs: arrays by the signature's names.
        model: the `ModelVersion` that answered.
    """

    outputs: dict[str, NDArray[Any]]
    model: ModelVersion


class SamePerson(NamedTuple):
    """The decisions about pairs of tracklets.

    Args:
        distance: float32 `(pairs,)`, in the model's metric.
        probability: float32 `(pairs,)`, that the pair shows one person, as calibrated on the persons of the threshold:
            with as many pairs of one person as of two.
        same_person: bool `(pairs,)`, whether the distance is below the threshold, which was chosen for a false-match
            rate (`card()["verification"]`).
        model: the `ModelVersion` that answered.
    """

    distance: NDArray[np.float32]
    probability: NDArray[np.float32]
    same_person: NDArray[np.bool_]
    model: ModelVersion


class Embeddings(np.ndarray[Any, np.dtype[np.float32]]):
    """Embeddings as a float32 array `(tracklets, features)`, or vectors of frames, with the model that made them.

    The array and what is indexed out of it have `model`, `version` and `fingerprint`. All functions of NumPy take it
    and return plain arrays, because a sum or a concatenation need not be one model's any more.

    Args:
        values: float32 `(tracklets, features)`.
        model: a `ModelVersion`.

    Example:

    >>> embeddings = Embeddings(np.eye(3, dtype="float32"), ModelVersion("kreid", 3, "5e1f"))
    >>> embeddings[0].version, embeddings.fingerprint, type(np.concatenate([embeddings, embeddings])).__name__
    (3, '5e1f', 'ndarray')
    """

    model: ModelVersion

    def __new__(cls, values: NDArray[np.float32], model: ModelVersion) -> Embeddings:
        embeddings = np.asarray(values, np.float32).view(cls)
        embeddings.model = model
        return embeddings

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Embeddings):
            self.model = source.model

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if "out" in kwargs:
            kwargs["out"] = _plain(kwargs["out"])
        return getattr(ufunc, method)(*_plain(inputs), **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return function(*_plain(args), **{name: _plain(value) for name, value in kwargs.items()})

    # Copies and pickles of NumPy's arrays drop the attributes of a subclass.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (np.asarray(self), self.model)

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Embeddings:
        return type(self)(np.array(self), self.model)

    @property
    def version(self) -> int:
        """Number of the model's version."""
        return self.model.version

    @property
    def fingerprint(self) -> str | None:
        """Fingerprint of the model; `None` if its export has none."""
        return self.model.fingerprint


def _plain(value: Any) -> Any:
    if isinstance(value, Embeddings):
        return value.view(np.ndarray)
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value
