"""Parquet files of a gallery's tracklets."""

import json
import os
import pathlib
from collections.abc import Iterable
from typing import NoReturn

import numpy as np

import kreid
from kreid._files import replacing
from kreid.gallery import arrow
from kreid.gallery.embeddings import TrackletEmbeddings, joined
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import Part

_KEY = b"kreid_gallery"
# The newest format that this version reads, and the one that it writes.
_FORMAT = 1


def write(path: str | os.PathLike[str], model: GalleryModel, parts: Iterable[Part]) -> int:
    """Write tracklets into a Parquet file, whole or not at all.

    Args:
        path: of the file; its folder exists.
        model: a `GalleryModel`.
        parts: the tracklets.

    Returns:
        The number of tracklets.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    arrow.import_arrow()
    import pyarrow.parquet as pq

    if not pathlib.Path(path).absolute().parent.is_dir():
        raise FileNotFoundError(f"Make the folder of the file first. Received: path={os.fspath(path)!r}")
    about = {"format": _FORMAT, "model": model.to_dict(), "kreid": kreid.__version__}
    schema = arrow.schema(model.dimension).with_metadata({_KEY: json.dumps(about).encode()})
    count = 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for part in parts:
            record = part.take(np.arange(len(part.persons)))
            writer.write_table(arrow.to_table(record, part.added).cast(schema))
            count += len(record)
    return count


def read(path: str | os.PathLike[str]) -> tuple[GalleryModel, TrackletEmbeddings, np.ndarray]:
    """Read a file that `write` wrote.

    Args:
        path: of the file.

    Returns:
        The model, a `TrackletEmbeddings`, and the seconds since 1970 at which each tracklet was added.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if the file is another one, a newer one or damaged.
    """
    arrow.import_arrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"There is no Parquet file of a gallery. Received: path={os.fspath(path)!r}")
    try:
        with pq.ParquetFile(path) as file:
            about = json.loads((file.schema_arrow.metadata or {})[_KEY])
            if about["format"] > _FORMAT:
                raise _NewerFormatError
            model = GalleryModel(**about["model"])
            parts = [arrow.ArrowPart(batch, model, _raise_damaged) for batch in file.iter_batches()]
            records = [part.take(np.arange(len(part.persons))) for part in parts]
    except _NewerFormatError:
        raise ValueError(
            f"A newer kreid wrote this file: upgrade kreid. Received: path={os.fspath(path)!r} of "
            f"format={about['format']!r}"
        ) from None
    except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(
            f"The file is damaged, or was not written by a gallery's export: {error}. Received: "
            f"path={os.fspath(path)!r}"
        ) from error
    added = np.concatenate([np.zeros(0), *(part.added for part in parts)])
    return model, joined([model.no_tracklets(), *records]), added


def _raise_damaged() -> NoReturn:
    raise ValueError("the digest of a tracklet does not fit")


class _NewerFormatError(Exception):
    """The file has a format of a later kreid."""
