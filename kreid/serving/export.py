"""Export a trained model to a SavedModel that TensorFlow Serving can load."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kreid.gallery.gallery import Gallery
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.lance_gallery import LanceGallery
from kreid.serving import search_signature
from kreid.serving.card import CARD_FILE, checked_verification, model_card, read_card
from kreid.serving.publish import (
    check_keep,
    check_version,
    next_version,
    publishing,
    remove_old_versions,
    versions,
)
from kreid.serving.search_signature import COUNT, FixedGallery
from kreid.serving.signatures import (
    FRAMES_AT_ONCE,
    Exportable,
    described,
    lacking,
    limits_of,
    make_signatures,
    vector_size,
)
from kreid.serving.warmup import warmup_inputs, write_warmup

__all__ = ["CARD_FILE", "export_model", "next_version", "read_card", "versions"]


def export_model(
    model: Exportable,
    directory: str | os.PathLike[str],
    version: int | None = 1,
    warmup: bool = True,
    frame_limit: int | None = None,
    verification: Mapping[str, Any] | None = None,
    keep: int | None = None,
    frames_at_once: int = FRAMES_AT_ONCE,
    gallery: Gallery | str | os.PathLike[str] | None = None,
    gallery_count: int = COUNT,
) -> Path:
    """Write `directory/<version>/`, a SavedModel with named signatures.

    | signature | inputs | outputs |
    |---|---|---|
    | `serving_default` | `frames` uint8 `[B,T,H,W,3]` | `embedding` float32 `[B,D]`, `valid_frames` int32 `[B]` |
    | `embed_padded` | `frames`, `lengths` int32 `[B]` | `embedding`, `valid_frames` |
    | `embed_jpeg` | `images` string `[B,T]`, `lengths` | `embedding`, `valid_frames` |
    | `encode_frames` | `frames`, `lengths` | `vectors` float32 `[B,P,C]`, `lengths` int32 `[B]` |
    | `aggregate` | `vectors`, `lengths` | `embedding`, `valid_vectors` int32 `[B]` |
    | `same_person` | `first`, `second` float32 `[B,D]` | `distance`, `probability` float32 `[B]`, `same_person` bool |
    | `search` | `embedding` float32 `[B,D]` | `person` int64 `[B,K]`, `tracklet`, `distance`, `probability` |
    | `describe` | `rows` int32 `[B]` | `card` string `[B]`, the model card once per row |

    `encode_frames` and `aggregate` are the halves of `embed_padded`, where the system makes a vector of each frame or
    clip; `same_person` needs a fitted threshold. The card's `lacks` says which signatures a model lacks and why.

    `search` compares with the tracklets that a gallery has now: the K nearest persons, and -1 with an empty `tracklet`
    at and beyond the gallery's threshold, so that a row of -1 is nobody known. `probability` needs a calibration. The
    export holds the embeddings of these tracklets: what is deleted from the gallery stays in it until the version's
    folder is deleted.

    Each row is answered as if it were alone: a server may merge requests, and pad them with a tensor's first value.
    Frames at or after a tracklet's length do not change its embedding; `serving_default`, which takes no lengths,
    leaves out frames at the end whose values are all equal. An unreadable image is skipped and the images after it
    move up. `valid_frames` is the number of embedded frames. If it is 0, or -1 for a tracklet of a length that is
    negative, beyond T or above the frame limit, the embedding is NaN. If all tracklets are refused, the request fails.

    `describe` has an input because a batching server refuses signatures without one.

    The folder gets its name only when complete, because servers poll for it, and a version is never overwritten.

    Args:
        model: a `kreid.models` model, or any object with `embedder`,
            `image_size`, `metric` and `embedding_dim`.
        directory: base path, the folder of all versions.
        version: positive int, or `None` for the one after the highest.
        warmup: whether to write warm-up requests.
        frame_limit: largest number of frames of a tracklet; `None` for 1024, or 128
            where the network runs on all frames of a tracklet at once (RTF).
        verification: optional threshold below which two embeddings count as one
            person, from `kreid.evaluation.fit_verification`, for the card; `None`
            for the one in the model's passport, if there is one.
        keep: how many versions stay: the oldest ones above it are removed after
            publishing. `None` removes none.
        frames_at_once: frames in one run of the network, which bounds the memory of
            any request. More than the default may be faster on GPUs.
        gallery: a `kreid.gallery.Gallery` of this model, or the folder of one, for
            `search`: at most 10,000 tracklets and 4 million values of embeddings.
        gallery_count: persons in an answer of `search`.

    Returns:
        Path of the version's folder.

    Raises:
        ValueError: if the version is not a positive integer or exists already,
            another number is below 1, the threshold is of another metric than the
            model's, or the gallery is empty, too large or of another model.
        FileNotFoundError: if there is no such gallery.
        RuntimeError: under a Keras backend other than TensorFlow.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=2)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     card = read_card(export_model(model, folder, warmup=False))
    >>> card["embedding_dim"], card["lacks"]
    (128, {'same_person': 'No threshold was fitted; see kreid.evaluation.fit_verification.'})
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "Only TensorFlow writes a SavedModel; load the model in a process with KERAS_BACKEND=tensorflow. "
            f"Received: backend={keras.backend.backend()}"
        )
    directory = Path(directory)
    check_version(directory, version)
    if keep is not None:
        check_keep(keep)
    limits = limits_of(model, frame_limit, frames_at_once)
    verification = checked_verification(model, verification)
    lacks = lacking(model, verification)
    card = model_card(model, limits, verification, described(model, lacks), lacks)
    fixed = None
    if gallery is not None:
        own = gallery if isinstance(gallery, Gallery) else LanceGallery.open(gallery)
        fixed = FixedGallery.of(own, GalleryModel.from_card(card), gallery_count)
        card["signatures"]["search"] = search_signature.described(fixed, verification)
        card["gallery"] = fixed.to_dict()
    directory.mkdir(parents=True, exist_ok=True)
    module, signatures = make_signatures(model, json.dumps(card), limits, verification, lacks, fixed)
    with publishing(directory, version) as (temporary, published):
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        card_path = temporary / CARD_FILE
        card_path.parent.mkdir(exist_ok=True)
        card_path.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        if warmup:
            frames = min(8, limits.frames_per_tracklet)
            vectors = None if "aggregate" in lacks else vector_size(model)
            dim = None if "same_person" in lacks else int(model.embedding_dim)
            requests = warmup_inputs(card["image_size"], frames, vector_size=vectors, embedding_dim=dim)
            if fixed is not None:
                requests.append(("search", {"embedding": np.ones((1, card["embedding_dim"]), np.float32)}))
            write_warmup(temporary, requests)
    (path,) = published
    if keep is not None:
        remove_old_versions(directory, keep, int(path.name))
    return path
