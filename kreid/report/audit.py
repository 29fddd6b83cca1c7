"""Audit results: score a file of embeddings or distances under every protocol, and find faults in it.

    kreid audit results.npz
    kreid audit results.npz --metric cosine --reported 85.3/81.2
    kreid audit runs/sta_mars/embeddings.npz --json audit.json

The file is a .npz of plain arrays of anybody's model: query_embeddings and gallery_embeddings, or distances (queries by
gallery), or both; and query_persons, query_cameras, gallery_persons, gallery_cameras. The names of torchreid (qf, gf,
distmat, q_pids, q_camids, g_pids, g_camids) are known too, and so are files of kreid's own embeddings. Person 0 is a
distractor, -1 junk. The gallery may hold the queries or not.

Each protocol is printed with its scores and who uses it. --reported says which protocol, distance or mistake prints the
rank-1 and mAP that somebody reports. Faults: cameras that are misaligned with the embeddings, swapped, constant or a
list of frames; queries that the gallery holds under other labels; duplicated tracklets; NaN; similarities in place of
distances; cosines of vectors that are not normalised.

Exit status: 0 without faults, 1 with faults, 2 for wrong usage or input, 130 interrupted.
"""

import argparse
import json
import os
import pathlib
import sys
import zipfile
from typing import Any

import numpy as np

from kreid._files import write_atomically
from kreid.evaluation.audit import audit
from kreid.gallery.embeddings import BROKEN, read_arrays

_LABELS = ("query_persons", "query_cameras", "gallery_persons", "gallery_cameras")
_OTHER_NAMES = {
    "qf": "query_embeddings",
    "gf": "gallery_embeddings",
    "distmat": "distances",
    "q_pids": "query_persons",
    "q_camids": "query_cameras",
    "g_pids": "gallery_persons",
    "g_camids": "gallery_cameras",
}
_VALUES = ("query_embeddings", "gallery_embeddings", "distances")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    add = parser.add_argument
    add("file", metavar="FILE.npz", help="embeddings or distances with persons and cameras")
    add("--metric", choices=("euclidean", "cosine"), help="distance of the embeddings (euclidean, or as the file says)")
    add("--reported", metavar="R1/MAP", help="reported rank-1 and mAP in percent, as in 85.3/81.2")
    add("--json", metavar="FILE", type=pathlib.Path, help="also write everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Audit and print; return the exit status."""
    try:
        if options.json is not None and not options.json.absolute().parent.is_dir():
            raise ValueError(f"The folder to write to is missing. Received: json={str(options.json)!r}")
        arguments = read_results(options.file)
        metric = options.metric or arguments.pop("metric", "euclidean")
        found = audit(**{**arguments, "metric": metric}, reported=options.reported)
        print(found.text())
        if options.json is not None:
            write_atomically(options.json, json.dumps(found.to_dict(), indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(found.has_faults)


def read_results(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of somebody's results.

    Args:
        path: of a `.npz` file, see this module, or of one that `kreid.gallery.TrackletEmbeddings.save` wrote.

    Returns:
        The arguments of `kreid.evaluation.audit`.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such file, or arrays are missing.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no file of results. Received: path={str(path)!r}")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"Give a .npz file of arrays, as numpy.savez writes it. Received: path={str(path)!r}")
    try:
        arrays = read_arrays(path)
    except BROKEN as error:
        raise ValueError(
            f"Give a .npz file of plain arrays, as numpy.savez writes it: {error}. Received: path={str(path)!r}"
        ) from error
    if "query_rows" in arrays and "embeddings" in arrays:
        return _of_tracklets(arrays, path)
    renamed: dict[str, Any] = {}
    for name, values in arrays.items():
        known = _OTHER_NAMES.get(name, name)
        if known in renamed:
            raise ValueError(f"Name {known} once. Received: {known} and {name} in {str(path)!r}")
        renamed[known] = values
    missing = [name for name in _LABELS if name not in renamed]
    if missing:
        raise ValueError(
            f"The file needs {', '.join(_LABELS)}; {', '.join(missing)} is missing. "
            f"Received: {', '.join(arrays) or 'no arrays'} in {str(path)!r}"
        )
    found = {name: renamed[name] for name in (*_LABELS, *_VALUES) if name in renamed}
    if "metric" in renamed:
        found["metric"] = str(renamed["metric"])
    return found


def _of_tracklets(arrays: dict[str, np.ndarray], path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the queries and the gallery, with the queries in it, of kreid's own file."""
    missing = [name for name in ("persons", "cameras") if name not in arrays]
    queries = arrays["query_rows"]
    if missing or not len(queries):
        raise ValueError(
            "A file of kreid's embeddings is audited where it has persons, cameras and queries. "
            f"Received: {missing[0] if missing else 'query_rows'} missing in {str(path)!r}"
        )
    found = {}
    for name in ("embeddings", "persons", "cameras"):
        found[f"query_{name}"] = arrays[name][queries]
        found[f"gallery_{name}"] = arrays[name]
    return {**found, "metric": str(arrays.get("metric", "euclidean"))}
