"""Find the same persons across cameras: link the tracklets of several videos into persons.

    kreid identify runs/sta_mars --video hall.mp4 --tracks hall.txt --video door.mp4 --tracks door.txt --out identities
    kreid identify identities --threshold 0.3 --out narrower
    kreid identify identities --decisions decisions.json --out data/mine
    kreid identify --embeddings runs/sta_mars/report/embeddings.npz --truth labels --out identities

The tracks are a tracker's output for the video, in MOT Challenge text. Tracklets nearer than the model's threshold are
linked; two that overlap in time in one camera are never one person. The folder gets identities.csv, tracks/ with MOT
Challenge text that has one id per person in all cameras, embeddings.npz, and review.html: open it, decide the doubtful
pairs, correct and accept persons, and save the decisions. A folder in place of the model is linked again, by another
threshold, without embedding again. With --decisions the accepted persons become a data set for training,
DIR/train/<person>/<camera>/<tracklet>/<frame>. Keep and delete all these files as you would photographs.

--truth scores the result: MOT Challenge text of the true persons, one file for each video in the same order (boxes of
confidence 0 do not count), or, with --embeddings, the word `labels` for the persons in that file.

Exit status: 0 written, 2 wrong usage or input, 130 interrupted.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kreid._files import printable
from kreid._quiet import import_tensorflow
from kreid.tracks.limit_options import add_limits, limits_of

if TYPE_CHECKING:
    from kreid.gallery import TrackletEmbeddings
    from kreid.identities.linking import Identities
    from kreid.identities.sightings import Sightings
    from kreid.tracks import Tracks

_DOUBTFUL = 5  # links in the summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a run's folder, a .keras file or an export; for --decisions the folder that this command wrote",
    )
    add("--video", action="append", default=[], metavar="FILE", help="a video or a folder of images; once for each")
    add("--tracks", action="append", default=[], metavar="FILE", help="the tracks of each video, in the same order")
    add("--camera", action="append", default=[], metavar="NAME", help="each video's camera (default: its own name)")
    add("--embeddings", metavar="FILE", help="link the embeddings in this file instead of videos")
    add("--decisions", metavar="FILE", help="cut the persons that the review page's file accepts out of the videos")
    add("--split", choices=("train", "query", "gallery"), default="train", help="of the data set (train)")
    add("--format", choices=("png", "jpg"), default="png", help="of its frames; jpg is smaller (png)")
    add("--out", required=True, metavar="DIR", help="new folder")
    add(
        "--threshold",
        type=float,
        metavar="X",
        help="mean distance below which groups are joined (the model's)",
    )
    add(
        "--linking",
        choices=("distance", "k-reciprocal"),
        default="distance",
        help="distances between embeddings, or k-reciprocal ones, from 0 to 1, which need a --threshold (distance)",
    )
    add("--pictures", type=int, default=4, metavar="N", help="frames of a tracklet on the review page (4)")
    add("--truth", action="append", default=[], metavar="FILE", help="score the result against the true persons")
    add_limits(parser)
    add("--quiet", action="store_true", help="show no progress bars")


def run(options: argparse.Namespace) -> int:
    """Link, write and print a summary; return the exit status: 0, or 2 for wrong usage or input."""
    try:
        if options.decisions is not None:
            _write_accepted(options)
        else:
            _check_usage(options)
            _identify(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"kreid identify: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


def _check_usage(options: argparse.Namespace) -> None:
    from kreid.identities.files import check_new_folder

    check_new_folder(options.out)
    if options.embeddings is not None:
        given = next((name for name in ("model", "video", "tracks", "camera") if getattr(options, name)), None)
        if given is not None:
            raise ValueError(
                f"Embeddings are linked without a model and videos: leave out one or the other. "
                f"Received: embeddings={options.embeddings!r}, {given}={getattr(options, given)!r}"
            )
        if options.truth not in ([], ["labels"]):
            raise ValueError(
                "The truth of embeddings is the persons in their file: give the word labels. "
                f"Received: truth={options.truth[0]!r}"
            )
        return
    if _is_identities(options.model) and not options.video:
        _check_no_limits(options)
        return
    if options.model is None or not options.video:
        missing = "model" if options.model is None else "video"
        raise ValueError(
            "Give a model and one --video with its --tracks or more, a folder that this command wrote, or "
            "--embeddings. "
            f"Received: {missing}={getattr(options, missing)!r}"
        )
    if options.pictures < 0:
        raise ValueError(f"`pictures` is 0 or more. Received: pictures={options.pictures}")
    for name in ("tracks", "camera", "truth"):
        count = len(getattr(options, name))
        if count != len(options.video) and (count or name == "tracks"):
            raise ValueError(
                f"Give one --{name} for each --video, in the same order. "
                f"Received: {len(options.video)} of --video, {count} of --{name}"
            )


def _is_identities(path: str | None) -> bool:
    from kreid.identities.files import IdentityFiles

    return path is not None and IdentityFiles(path).state.is_file()


def _check_no_limits(options: argparse.Namespace) -> None:
    """Check that nothing is given that a folder of identities has itself."""
    from kreid.tracks.cuts import TrackLimits

    given: dict[str, Any] = {"tracks": options.tracks, "camera": options.camera}
    given |= {"limits": None if limits_of(options) == TrackLimits() else limits_of(options)}
    for name, value in given.items():
        if value:
            raise ValueError(
                "A folder that this command wrote has its own videos, tracks and limits: give a model to embed others. "
                f"Received: model={options.model!r}, {name}={value!r}"
            )


def _write_accepted(options: argparse.Namespace) -> None:
    from kreid.identities.decisions import write_accepted

    given = [name for name in ("video", "tracks", "camera", "embeddings", "truth") if getattr(options, name)]
    if options.model is None or given:
        raise ValueError(
            "Decisions go with the folder whose review.html saved them, and nothing else: kreid identify FOLDER "
            f"--decisions FILE --out DIR. Received: folder={options.model!r}"
            + "".join(f", {name}={getattr(options, name)!r}" for name in given)
        )
    result = write_accepted(
        options.model,
        options.decisions,
        options.out,
        split=options.split,
        image_format=options.format,
        progress=not options.quiet,
    )
    print(result.summary())


def _identify(options: argparse.Namespace) -> None:
    from kreid.identities.files import first_and_last
    from kreid.identities.linking import link_tracklets
    from kreid.identities.write import write_identities

    truth = _truth(options, len(options.video)) if options.video else []
    sightings = _sightings(options)
    if options.truth and not options.video and options.embeddings is None:
        truth = _truth(options, len(sightings.videos))
    embeddings = sightings.embeddings
    identities = link_tracklets(
        embeddings, *first_and_last(embeddings), threshold=options.threshold, linking=options.linking
    )
    scores = _scores(options, sightings, identities, truth)
    write_identities(options.out, sightings, identities, scores=scores)
    for warning in _warnings(embeddings, identities):
        print(f"warning: {warning}", file=sys.stderr)
    print(printable("\n".join(_summary(options.out, embeddings, identities, scores))))


def _sightings(options: argparse.Namespace) -> "Sightings":
    """Embed the tracklets of the videos, or read stored embeddings."""
    from kreid.data.tracklet import JUNK
    from kreid.gallery.embeddings import TrackletEmbeddings
    from kreid.identities.linking import chosen_threshold
    from kreid.identities.sightings import CameraVideo, Sightings, check_cameras, embed_cameras
    from kreid.identities.stored import stored_sightings

    if options.embeddings is not None:
        embeddings = TrackletEmbeddings.load(options.embeddings)
        real = embeddings.persons != JUNK
        if not real.all():
            print(f"warning: {np.count_nonzero(~real)} tracklets of junk are left out", file=sys.stderr)
        return Sightings((), embeddings.take(real))
    if not options.video:
        return stored_sightings(options.model, pictures=options.pictures, progress=not options.quiet)
    limits = limits_of(options)
    cameras = options.camera or [""] * len(options.video)
    videos = [
        CameraVideo(video, _read(options, path), camera)
        for video, path, camera in zip(options.video, options.tracks, cameras, strict=True)
    ]
    check_cameras(videos, limits)
    import_tensorflow()
    from kreid.identities.embedder import load_embedder

    model = load_embedder(options.model)
    # Before hours of embedding.
    chosen_threshold(options.threshold, options.linking, model.passport.verification, model.metric)
    return embed_cameras(model, videos, limits=limits, pictures=options.pictures, progress=not options.quiet)


def _read(options: argparse.Namespace, path: str) -> "Tracks":
    from kreid.tracks.mot import read_tracks

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracks = read_tracks(path, first_frame=options.first_frame, max_damaged=options.max_damaged)
    for one in caught:
        print(f"warning: {printable(str(one.message))}", file=sys.stderr)
    return tracks


def _truth(options: argparse.Namespace, videos: int) -> list["Tracks"]:
    """Read the true persons of each video, if they are given."""
    paths = options.truth
    if paths and len(paths) != videos:
        raise ValueError(
            f"Give one --truth for each video, in the same order. Received: {len(paths)} of --truth, {videos} videos"
        )
    truth = [_read(options, path) for path in paths]
    # In the benchmark's ground truth, boxes that do not count have the confidence 0.
    truth = [each if each.confidences is None else each.take(each.confidences != 0) for each in truth]
    for path, tracks in zip(paths, truth, strict=True):
        if tracks.ids.min() < 1:
            raise ValueError(f"True persons are numbered from 1. Received: truth={path!r}, with id={tracks.ids.min()}")
    return truth


def _scores(
    options: argparse.Namespace, sightings: "Sightings", identities: "Identities", truth: Sequence["Tracks"]
) -> dict[str, Any]:
    """Return the scores by name; empty without the truth."""
    from kreid.identities.files import person_tracks
    from kreid.identities.scores import identity_scores, pair_scores, score_tracks, true_persons

    embeddings, videos = sightings.embeddings, sightings.videos
    if not options.truth:
        return {}
    if not truth:
        true = embeddings.persons
        idf1, unit = identity_scores(identities.persons, true), "tracklets"
    else:
        true = np.zeros(len(embeddings), np.int64)
        for video, persons in zip(videos, truth, strict=True):
            rows = np.flatnonzero(embeddings.sources == video.name)
            ids = [int(embeddings.tags[row]["track"]) for row in rows.tolist()]
            true[rows] = true_persons(video.tracks, persons, ids)
        found = person_tracks(videos, embeddings, identities.persons)
        idf1 = score_tracks(found, {video.name: persons for video, persons in zip(videos, truth, strict=True)})
        unit = "boxes"
    pairs = pair_scores(identities.persons, true)
    return {"pairs": pairs._asdict(), "identities": {"unit": unit, **idf1._asdict()}}


def _warnings(embeddings: "TrackletEmbeddings", identities: "Identities") -> Iterator[str]:
    """Yield what a user should look at."""
    from kreid.evaluation.reranking import Reranking
    from kreid.identities.files import first_and_last

    count, persons = len(embeddings), len(identities)
    if np.isnan(first_and_last(embeddings)).any():
        yield "Tracklets without times are taken to overlap none, so two that do may be linked."
    if len(np.unique(embeddings.cameras)) == 1:
        yield "All tracklets are of one camera: the links are within it."
    neighbours = Reranking().k1
    if identities.linking == "k-reciprocal" and count <= neighbours:
        yield f"k-reciprocal distances compare {neighbours} neighbours, and {count} tracklets have fewer."
    if identities.threshold_from == "model, for pairs":
        yield (
            "The model has no threshold for groups of tracklets, and its one for pairs mostly links too few: look at "
            f"the links, and raise --threshold. Received: threshold={identities.threshold:.4g}"
        )
    if persons == count > 1:
        yield f"No two tracklets are linked: raise --threshold. Received: threshold={identities.threshold:.4g}"
    elif persons == identities.fewest and count > 2:
        yield (
            f"All tracklets are linked that do not overlap, {count} to {persons} persons: if that is wrong, lower "
            f"--threshold. Received: threshold={identities.threshold:.4g}"
        )


def _summary(
    out: str, embeddings: "TrackletEmbeddings", identities: "Identities", scores: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the lines to print."""
    persons, cameras = identities.persons, embeddings.cameras
    several = sum(len(np.unique(cameras[persons == person])) > 1 for person in range(1, len(identities) + 1))
    yield (
        f"{out}: {len(persons)} tracklets of {len(np.unique(cameras))} cameras are {len(identities)} persons, "
        f"{several} of them in two cameras or more (threshold {identities.threshold:.4g}, "
        f"{identities.threshold_from})"
    )
    if len(embeddings.damaged_frames) or len(embeddings.unreadable):
        yield embeddings.damage_report()
    if identities.links:
        yield "most doubtful:"
    for link in identities.links[:_DOUBTFUL]:
        one, other = (_some(embeddings.ids[list(rows)].tolist()) for rows in (link.one, link.other))
        linked = "linked" if link.joined else "not linked"
        certainty = "" if np.isnan(link.probability) else f", probability {link.probability:.2f}"
        yield f"  {one} and {other} are {linked}: distance {link.distance:.4g}{certainty}"
    if scores:
        pairs, found = scores["pairs"], scores["identities"]
        yield (
            f"pairs: precision {pairs['precision']:.3f}, recall {pairs['recall']:.3f}, F1 {pairs['f1']:.3f} "
            f"({pairs['right']} right of {pairs['linked']} linked, {pairs['true']} true)"
        )
        yield (
            f"IDF1 over {found['unit']}: {found['idf1']:.3f}, precision {found['idp']:.3f}, recall {found['idr']:.3f} "
            f"({found['idtp']} right, {found['idfp']} wrong, {found['idfn']} missed)"
        )


def _some(names: Sequence[str], limit: int = 3) -> str:
    """Return the first of some names as text."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid.identities", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
