"""Tracklets of a gallery in Milvus: collections, rows, and conditions in Milvus's language."""

import hashlib
import json
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import RecordPart
from kreid.gallery.where import Where

if typing.TYPE_CHECKING:
    from pymilvus import MilvusClient

LABELS = ("id", "person", "camera", "start", "end", "source", "tags", "added", "digest")
FIELDS = (*LABELS, "embedding")
METRICS = {"euclidean": "L2", "cosine": "COSINE"}
# A request and an answer may have 64 MiB; half of it leaves room for the encoding.
REQUEST_BYTES = 1 << 25
# Milvus's limits: bytes of a text, tags of a tracklet.
_TEXT_BYTES, _TAGS = 65535, 4096
# Milvus has no NaN: no condition on a time holds for these.
_NO_START, _NO_END = sys.float_info.max, -sys.float_info.max


def expression(
    where: Where,
    added_after: float | None = None,
    added_until: float | None = None,
    not_camera: int | None = None,
) -> str | None:
    """Return conditions in Milvus's language, empty for no condition, `None` if no tracklet can be chosen.

    Args:
        where: conditions.
        added_after: seconds since 1970; added later.
        added_until: seconds since 1970; added then or earlier.
        not_camera: a camera to leave out.

    Example:

    >>> print(expression(Where(cameras=[1, 2], tags={"coat": "red"})))
    camera in [1, 2] and array_contains(tags, "coat=red")
    """
    parts = []
    lists = {"id": where.ids, "person": where.persons, "camera": where.cameras, "source": where.sources}
    for column, values in lists.items():
        if values is not None:
            if not values:
                return None
            parts.append(f"{column} in [{', '.join(map(_literal, values))}]")
    left_out = [*(where.not_cameras or ()), *([] if not_camera is None else [not_camera])]
    if left_out:
        parts.append(f"camera not in [{', '.join(map(_literal, left_out))}]")
    if where.since is not None:
        parts.append(f"end >= {where.since!r}")
    if where.until is not None:
        parts.append(f"start < {where.until!r}")
    for name, value in (where.tags or {}).items():
        if "=" in name:  # A name of no tag.
            return None
        parts.append(f"array_contains(tags, {_literal(f'{name}={value}')})")
    if added_after is not None:
        parts.append(f"added > {added_after!r}")
    if added_until is not None:
        parts.append(f"added <= {added_until!r}")
    return " and ".join(parts)


def to_part(model: GalleryModel, rows: Sequence[dict[str, Any]]) -> RecordPart:
    """Return tracklets as Milvus gives them as a part; without embeddings, if they have none, it has zeros."""
    columns = {name: [row[name] for row in rows] for name in LABELS}
    starts, ends = np.array(columns["start"], np.float64), np.array(columns["end"], np.float64)
    vectors = np.zeros((len(rows), model.dimension), np.float32)
    if "embedding" in rows[0]:
        vectors[:] = [row["embedding"] for row in rows]
    record = TrackletEmbeddings(
        vectors,
        np.array(columns["id"], np.str_),
        np.array(columns["person"], np.int64),
        np.array(columns["camera"], np.int64),
        metric=model.metric,
        model=model.fingerprint,
        starts=np.where(starts == _NO_START, np.nan, starts),
        ends=np.where(ends == _NO_END, np.nan, ends),
        sources=np.array(columns["source"], np.str_),
        tags=tuple(dict(tag.split("=", 1) for tag in tags) for tags in columns["tags"]),
    )
    return RecordPart(record, np.array(columns["added"], np.float64))


def requests(record: TrackletEmbeddings, added: np.ndarray) -> Iterator[list[dict[str, Any]]]:
    """Yield tracklets as Milvus takes them, as many as a request may have.

    Args:
        record: a `TrackletEmbeddings`.
        added: seconds since 1970, of each tracklet.
    """
    starts, ends = np.nan_to_num(record.starts, nan=_NO_START), np.nan_to_num(record.ends, nan=_NO_END)
    batch: list[dict[str, Any]] = []
    size = 0
    for row, digest in enumerate(digests(record, added)):
        texts = [str(record.ids[row]), str(record.sources[row]), *_tags(record.tags[row])]
        own = 4 * record.embeddings.shape[1] + 128 + sum(len(text.encode()) for text in texts)
        if batch and size + own > REQUEST_BYTES:
            yield batch
            batch, size = [], 0
        size += own
        batch.append(
            {
                "id": texts[0],
                "person": int(record.persons[row]),
                "camera": int(record.cameras[row]),
                "start": float(starts[row]),
                "end": float(ends[row]),
                "source": texts[1],
                "tags": texts[2:],
                "added": float(added[row]),
                "digest": digest,
                "embedding": record.embeddings[row].tolist(),
            }
        )
    if batch:
        yield batch


def make(client: "MilvusClient", collection: str, model: GalleryModel, timeout: float) -> None:
    """Make a collection for tracklets, with Milvus's exact index."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_TEXT_BYTES)
    for name in ("person", "camera"):
        schema.add_field(name, DataType.INT64)
    for name in ("start", "end", "added"):
        schema.add_field(name, DataType.DOUBLE)
    schema.add_field("source", DataType.VARCHAR, max_length=_TEXT_BYTES)
    schema.add_field("digest", DataType.VARCHAR, max_length=16)
    # As NAME=VALUE; names have no "=".
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=_TAGS, max_length=_TEXT_BYTES)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=model.dimension)
    index = client.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type=METRICS[model.metric])
    client.create_collection(collection, schema=schema, index_params=index, consistency_level="Strong", timeout=timeout)


def write_about(client: "MilvusClient", collection: str, about: dict[str, Any], timeout: float) -> None:
    """Make the collection that describes a gallery."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("text", DataType.VARCHAR, max_length=_TEXT_BYTES)
    # A collection has a vector.
    schema.add_field("none", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("none", index_type="FLAT", metric_type="L2")
    client.create_collection(collection, schema=schema, index_params=index, consistency_level="Strong", timeout=timeout)
    client.upsert(collection, [{"name": "about", "text": json.dumps(about), "none": [0.0, 0.0]}], timeout=timeout)


def check_sizes(record: TrackletEmbeddings) -> None:
    """Raise if Milvus cannot hold a label."""
    for name, tags in zip(record.ids.tolist(), record.tags, strict=True):
        if len(tags) > _TAGS:
            raise ValueError(f"Milvus holds {_TAGS} tags of a tracklet. Received: {len(tags)} tags of id={name!r}")
    texts: Iterable[str] = (
        *record.ids.tolist(),
        *record.sources.tolist(),
        *(t for own in record.tags for t in _tags(own)),
    )
    for text in texts:
        if len(text.encode()) > _TEXT_BYTES:
            raise ValueError(
                f"Milvus holds texts of {_TEXT_BYTES} bytes; shorten ids, sources and tags. Received: {text[:40]!r} "
                f"and so on, {len(text.encode())} bytes"
            )


def digests(record: TrackletEmbeddings, added: np.ndarray) -> list[str]:
    """Return a digest of all values of each tracklet, which shows damage."""
    columns = (record.ids, record.persons, record.cameras, record.starts, record.ends, record.sources, added)
    labels = zip(*(column.tolist() for column in columns), map(_tags, record.tags), strict=True)
    return [
        hashlib.blake2b(json.dumps(own).encode() + vector.tobytes(), digest_size=8).hexdigest()
        for own, vector in zip(labels, record.embeddings, strict=True)
    ]


def _literal(value: int | str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tags(tags: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(tags.items())]
