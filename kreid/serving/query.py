"""Find a tracklet's person in a gallery, through a running server.

    kreid query TRACKLET_FOLDER --gallery GALLERY_FOLDER --server 127.0.0.1:8500 --picture ranked.png

The query is a folder of frame images. The gallery is one of
- `<person>/<camera>/<frames>`, or with one more level, one folder per tracklet;
- a kreid data folder, of which the `gallery` split is used;
- a MARS root, of which the gallery is used.

The gallery's embeddings are kept in a file, so that the next query embeds only what is new (--no-cache: not).

The served model gives the metric, and the threshold of "same person" if one was fitted: tracklets below it are marked,
and if none is below it, the query is an unknown person. Works with serve.py and with TensorFlow Serving.

Exit status: 0 success, 1 the server refused the request or cannot be reached, 2 wrong usage or input, 130 interrupted.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kreid._files import printable
from kreid.serving.client_options import add_client_options, tls_of
from kreid.serving.images import READABLE, image_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kreid.data.readers import FolderTracklet
    from kreid.serving.answers import Embeddings, ModelVersion
    from kreid.serving.client import EmbeddingClient
    from kreid.serving.gallery_store import GalleryStore

TRACKLETS_AT_ONCE = 16


class Match(NamedTuple):
    """One gallery tracklet of a ranked list.

    Args:
        tracklet: of the gallery.
        distance: to the query, in the model's metric.
        same_person: whether it is of the query's person; `None` if the query's person is not known.
    """

    tracklet: FolderTracklet
    distance: float
    same_person: bool | None


class Ranking(NamedTuple):
    """A ranked list.

    Args:
        matches: nearest first.
        metric: of the distances.
        threshold: two tracklets show the same person if their distance is below it; `None` if none was fitted.
        calibration: of the probability that two tracklets show the same person, see
            `kreid.evaluation.fit_calibration`; `None` if none was fitted.
        unreadable: gallery tracklets that are not ranked because none of their frames is readable.
        model: name, version and fingerprint of the model.
        kept: number of gallery tracklets whose embeddings were kept from an earlier query.
        store: path of the file of kept embeddings, or `None`.
    """

    matches: list[Match]
    metric: str
    threshold: float | None
    calibration: Mapping[str, float] | None
    unreadable: list[FolderTracklet]
    model: str
    kept: int
    store: Path | None


def read_query(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """List the frames of the query.

    Args:
        folder: with JPEG or PNG images.

    Returns:
        Their paths in natural order.

    Raises:
        ValueError: if there is no image.
    """
    from kreid.data.readers import image_files

    frames = image_files(folder) if os.path.isdir(folder) else ()
    if not frames:
        raise ValueError(f"The query must be a folder of JPEG or PNG frames. Received: tracklet={folder}")
    return frames


def read_gallery(folder: str | os.PathLike[str]) -> list[FolderTracklet]:
    """Read a gallery in any of the three layouts.

    Args:
        folder: the gallery.

    Returns:
        The tracklets with frames.

    Raises:
        ValueError: if the gallery is not a folder.
        FileNotFoundError: if the gallery has no image.
    """
    from kreid.data.readers import FolderTracklet, read_mars, read_tracklet_folders
    from kreid.data.readers.folder import find_splits
    from kreid.data.readers.mars import find_index

    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"The gallery must be a folder. Received: --gallery={folder}")
    if find_index(root) is not None:
        tracklets = [
            FolderTracklet(t.id, str(t.person) if t.person > 0 else "distractor", str(t.camera), t.frames)
            for t in read_mars(root).gallery()
        ]
    else:
        tracklets = read_tracklet_folders((find_splits(root) or {}).get("gallery", root))
    return [tracklet for tracklet in tracklets if tracklet.frames]


def visible_rows(gallery: Sequence[FolderTracklet], person: str | None, camera: str | None) -> list[int]:
    """Return the rows of a gallery that a query sees.

    Args:
        gallery: tracklets.
        person: the query's person, if known.
        camera: the query's camera, if known. If both are given, this person's tracklets in this camera are skipped, as
            in the evaluation.

    Returns:
        Row numbers.

    Raises:
        ValueError: if no tracklet is left.
    """
    from kreid.data.names import name_key, person_key

    if person is None or camera is None:
        return list(range(len(gallery)))
    skipped = person_key(person), name_key(camera)
    rows = [row for row, t in enumerate(gallery) if (person_key(t.person), name_key(t.camera)) != skipped]
    if not rows:
        raise ValueError(
            "The gallery has only this person in this camera, and these tracklets are skipped: give a larger "
            f"gallery, or no --query-camera. Received: --query-person={person}, --query-camera={camera}"
        )
    return rows


def embed_files(
    client: EmbeddingClient, tracklets: Sequence[Sequence[str]], label: str
) -> tuple[Embeddings, NDArray[np.int32]]:
    """Embed tracklets of image files, a few at a time, with a progress bar on a terminal.

    Args:
        client: an `EmbeddingClient`.
        tracklets: at least one; paths of the frames of each. Above the server's frame limit they are thinned evenly.
        label: of the progress bar.

    Returns:
        A tuple of `Embeddings` and int32 `(tracklets,)`, the number of readable frames.

    Raises:
        ServingError: if the server refuses a request or cannot be reached, or exchanges its model meanwhile.
    """
    import numpy as np

    from kreid._quiet import progress_bar
    from kreid.serving.answers import Embeddings

    embeddings, valid = [], []
    with progress_bar(total=len(tracklets), desc=label, unit="tracklet") as bar:
        for start in range(0, len(tracklets), TRACKLETS_AT_ONCE):
            part = tracklets[start : start + TRACKLETS_AT_ONCE]
            contents = [[Path(path).read_bytes() for path in thinned(client, paths)] for paths in part]
            # A file of another format counts as unreadable, so that one tracklet of such files does not stop the query.
            contents = [[image for image in images if not _other_format(image)] for images in contents]
            rows, readable = client.embed_images(contents)
            embeddings.append(rows)
            _check_same_model(embeddings[0].model, rows.model)
            valid.append(readable)
            bar.update(len(part))
    return Embeddings(np.concatenate(embeddings), embeddings[0].model), np.concatenate(valid)


def thinned(client: EmbeddingClient, paths: Sequence[str]) -> list[str]:
    """Return the frames of a tracklet that are embedded: all, or as many as the server's limit, evenly chosen."""
    from kreid.data.clips import evenly

    return [paths[at] for at in evenly(len(paths), client.card()["frame_limit"])]


def embed_gallery(
    client: EmbeddingClient, gallery: Sequence[FolderTracklet], model: ModelVersion, store: GalleryStore | None
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Embed the tracklets of a gallery, except those that a store has, and update the store.

    Args:
        client: an `EmbeddingClient`.
        gallery: tracklets with frames.
        model: that must embed them.
        store: of this gallery and model, or `None`.

    Returns:
        A tuple of float32 `(tracklets, features)`, int32 `(tracklets,)`, the numbers of readable frames, and the number
        of tracklets that were embedded now.

    Raises:
        ServingError: as `embed_files`.
    """
    import numpy as np

    from kreid.serving.gallery_store import tracklet_key

    def embed(frames: list[tuple[str, ...]]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        embeddings, valid = embed_files(client, frames, "gallery")
        _check_same_model(model, embeddings.model)
        return np.asarray(embeddings), valid

    if store is None:
        return *embed([tracklet.frames for tracklet in gallery]), len(gallery)
    keys = [tracklet_key(thinned(client, tracklet.frames)) for tracklet in gallery]
    try:
        kept = store.load()
    except ValueError as error:
        print(f"query: {error} It is written anew.", file=sys.stderr)
        kept = {}
    known = {key: kept[key] for key in keys if key in kept}
    missing = [row for row, key in enumerate(keys) if key not in known]
    if missing:
        for row, embedding, count in zip(missing, *embed([gallery[row].frames for row in missing]), strict=True):
            known[keys[row]] = embedding, int(count)
    embeddings = np.stack([known[key][0] for key in keys])
    valid = np.array([known[key][1] for key in keys], np.int32)
    if missing or len(kept) > len(known):
        try:
            store.save(keys, embeddings, valid)
        except OSError as error:
            print(f"query: the gallery's embeddings are not kept: {printable(str(error))}", file=sys.stderr)
    return embeddings, valid, len(missing)


def _check_same_model(one: ModelVersion, other: ModelVersion) -> None:
    if one != other:
        from kreid.serving.errors import ServingError

        raise ServingError(
            "ABORTED",
            f"the server exchanged its model during the query, from {one} to {other}",
            "repeat the query, or pin one of the two with --version, --label or --fingerprint",
        )


def rank(
    client: EmbeddingClient,
    query: Sequence[str],
    gallery: Sequence[FolderTracklet],
    person: str | None = None,
    camera: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    store_folder: str | os.PathLike[str] | None = None,
) -> Ranking:
    """Rank the gallery by its distance to the query.

    Args:
        client: an `EmbeddingClient`.
        query: paths of the query's frames.
        gallery: tracklets with frames.
        person: the query's person, if known.
        camera: the query's camera, if known; see `visible_rows`.
        folder: the gallery's path, to keep its embeddings under.
        store_folder: folder for the kept embeddings, see `GalleryStore`; `None` keeps none. Models without a
            fingerprint keep none.

    Returns:
        A `Ranking`.

    Raises:
        ValueError: if no frame of the query or of the gallery is readable, or the query sees no tracklet.
        ServingError: if the server refuses a request or cannot be reached.
    """
    import numpy as np

    from kreid.data.names import person_key
    from kreid.distances import distance_matrix
    from kreid.serving.gallery_store import GalleryStore

    visible = visible_rows(gallery, person, camera)
    query_embedding, readable = embed_files(client, [query], "query")
    if not readable[0]:
        raise ValueError(
            f"The server could read no frame of the query{why_unreadable(query)}; give JPEG or PNG files. "
            f"Received: {printable(query[0])}"
        )
    fingerprint = query_embedding.fingerprint
    store = None
    if folder is not None and store_folder is not None and fingerprint is not None:
        store = GalleryStore(store_folder, folder, fingerprint)
    embeddings, valid, embedded = embed_gallery(client, gallery, query_embedding.model, store)
    rows = np.array([row for row in visible if valid[row]], np.int64)
    if not rows.size:
        first = gallery[visible[0]].frames
        raise ValueError(
            f"The server could read no frame of the gallery{why_unreadable(first)}; give JPEG or PNG files. "
            f"Received: {printable(first[0])}"
        )
    metric, verification = client.card()["metric"], client.card().get("verification")
    distances = distance_matrix(np.asarray(query_embedding), embeddings[rows], metric)[0]
    matches = []
    for place in np.argsort(distances, kind="stable"):
        tracklet = gallery[rows[place]]
        same = None if person is None else person_key(tracklet.person) == person_key(person)
        matches.append(Match(tracklet, float(distances[place]), same))
    return Ranking(
        matches,
        metric,
        verification and verification["threshold"],
        verification and verification.get("calibration"),
        [gallery[row] for row in visible if not valid[row]],
        str(query_embedding.model),
        len(gallery) - embedded,
        None if store is None else store.path,
    )


def why_unreadable(paths: Sequence[str]) -> str:
    """Return a phrase with the first frame's format; empty if the format is readable or unknown."""
    name = _other_format(Path(paths[0]).read_bytes())
    return f" (the first is {name})" if name else ""


def _other_format(contents: bytes) -> str | None:
    name = image_format(contents)
    return None if name in READABLE else name


def ranked_table(ranking: Ranking, top: int) -> str:
    """Return the ranked list as a text table, with the decision by the model's threshold.

    Args:
        ranking: as `rank` returns it.
        top: largest number of rows.

    Returns:
        A str of several lines.
    """
    width = max([8, *(len(printable(match.tracklet.name)) for match in ranking.matches[:top])])
    nearest = ranking.matches[0]
    decision = ""
    if ranking.threshold is not None:
        accepted = nearest.distance < ranking.threshold
        decision = f"same person as {printable(nearest.tracklet.person)}" if accepted else "unknown person"
        if ranking.calibration:
            odds = ranking.calibration["offset"] - ranking.calibration["scale"] * nearest.distance
            # Not math.exp, which overflows.
            decision += f" ({(1 + math.tanh(odds / 2)) / 2:.0%} probable at even odds)"
        decision = f"; by the threshold {ranking.threshold:.4f}: {decision}"
    lines = [
        f"{len(ranking.matches)} gallery tracklets, {ranking.metric} distance{decision}",
        f"model: {ranking.model}",
        f"{'rank':>4}  {'person':<12}{'camera':<10}{'tracklet':<{width}}  {'distance':>10}",
    ]
    for place, (tracklet, distance, same) in enumerate(ranking.matches[:top], start=1):
        person, camera, name = (printable(text) for text in (tracklet.person, tracklet.camera, tracklet.name))
        marks = ["below the threshold"] if ranking.threshold is not None and distance < ranking.threshold else []
        marks += ["same person"] if same else []
        line = f"{place:>4}  {person:<12}{camera:<10}{name:<{width}}  {distance:>10.4f}  {', '.join(marks)}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def draw_ranking(
    query: Sequence[str],
    ranking: Ranking,
    top: int,
    path: str | os.PathLike[str],
    person: str | None = None,
    camera: str | None = None,
) -> None:
    """Write the ranked list as a picture.

    Args:
        query: paths of the query's frames.
        ranking: as `rank` returns it.
        top: largest number of matches.
        path: of the picture; its extension gives the format.
        person: the query's person, if known.
        camera: the query's camera, if known.
    """
    from kreid.plots import RankedTracklet, draw_ranked_list

    caption = [f"{word} {value}" for word, value in (("person", person), ("camera", camera)) if value]
    matches = [
        RankedTracklet(
            tracklet.frames,
            [f"person {printable(tracklet.person)}", f"camera {printable(tracklet.camera)}", f"{distance:.4f}"],
            same,
        )
        for tracklet, distance, same in ranking.matches[:top]
    ]
    draw_ranked_list(RankedTracklet(query, [*caption, f"{len(query)} frames"]), matches).save(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("tracklet", type=Path, help="folder of the query's frame images")
    parser.add_argument("--gallery", type=Path, required=True, help="gallery folder; see above for its layouts")
    parser.add_argument("--server", default="127.0.0.1:8500", help="host:port (default: %(default)s)")
    parser.add_argument("--model", default="kreid", help="model name on the server (default: %(default)s)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--version", type=int, help="the model's version (default: the server's latest)")
    which.add_argument("--label", help="the label of a version, such as stable")
    parser.add_argument("--fingerprint", help="the model's fingerprint, or its first 8 or more digits")
    add_client_options(parser)
    parser.add_argument("--top", type=int, default=10, help="number of tracklets to list (default: %(default)s)")
    parser.add_argument("--picture", type=Path, help="file for a picture of the ranked list, such as out.png")
    parser.add_argument("--query-person", help="the query's person, if known, to mark its tracklets")
    parser.add_argument("--query-camera", help="with --query-person: skip this person's tracklets in this camera")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="folder for the gallery's embeddings, which are kept for the next query (default: kreid/galleries in the "
        "user's cache folder)",
    )
    parser.add_argument("--no-cache", action="store_true", help="embed the whole gallery, and keep nothing")


def run(options: argparse.Namespace) -> int:
    """Rank the gallery and print the list; return the exit status."""
    from kreid.serving.client import EmbeddingClient
    from kreid.serving.errors import ServingError

    try:
        if options.top < 1:
            raise ValueError(f"--top must be at least 1. Received: --top={options.top}")
        query = read_query(options.tracklet)
        gallery = read_gallery(options.gallery)
        with EmbeddingClient(
            options.server,
            options.model,
            options.timeout,
            version=options.version,
            label=options.label,
            fingerprint=options.fingerprint,
            tls=tls_of(options),
            token_file=options.token_file,
        ) as client:
            known = options.query_person, options.query_camera
            ranking = rank(client, query, gallery, *known, options.gallery, _store_folder(options))
        for tracklet in ranking.unreadable:
            reason = why_unreadable(tracklet.frames)
            print(f"skipped, no readable frame{reason}: {printable(tracklet.name)}", file=sys.stderr)
        print(ranked_table(ranking, options.top))
        if ranking.store is not None:
            print(f"embeddings of {ranking.kept} of {len(gallery)} tracklets were kept in {ranking.store}")
        if options.picture is not None:
            draw_ranking(query, ranking, options.top, options.picture, options.query_person, options.query_camera)
            print(f"picture: {printable(str(options.picture))}")
    except ModuleNotFoundError as error:
        print(f"query: {error}; install it: pip install {error.name}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"query: {printable(str(error))}", file=sys.stderr)
        return 2
    except ServingError as error:
        print(f"query: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _store_folder(options: argparse.Namespace) -> Path | None:
    from kreid.serving.gallery_store import default_folder

    if options.no_cache:
        if options.cache is not None:
            raise ValueError(f"Give --cache or --no-cache, not both. Received: --cache={options.cache}")
        return None
    return default_folder() if options.cache is None else options.cache


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser("query", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
