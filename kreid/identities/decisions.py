"""Turn the persons that were accepted on the review page into a folder data set."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kreid._files import printable, replacing
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.identities.files import FORMAT, IdentityFiles, check_new_folder, first_and_last, read_state
from kreid.identities.linking import overlapping_pairs
from kreid.identities.sightings import plain
from kreid.identities.stored import stored_videos
from kreid.tracks.cuts import TrackLimits
from kreid.tracks.folders import CutTracklets, cut_tracklets


class Decision(NamedTuple):
    """A person of the review page.

    Args:
        person: number of the person.
        accepted: whether it was accepted.
        tracklets: ids of its tracklets.
    """

    person: int
    accepted: bool
    tracklets: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class AcceptedPersons:
    """The result of `write_accepted`.

    Args:
        folder: path, as str.
        persons: number of accepted persons.
        left_out: number of the other persons.
        cut: a `kreid.tracks.CutTracklets` for each video.
    """

    folder: str
    persons: int
    left_out: int
    cut: tuple[CutTracklets, ...]

    def summary(self) -> str:
        """Return the counts as text, with the damage of the videos."""
        tracklets = sum(len(each.lengths) for each in self.cut)
        frames = sum(sum(each.lengths.values()) for each in self.cut)
        lines = [
            f"{self.folder}: {self.persons} persons, {tracklets} tracklets, {frames} frames; "
            f"{self.left_out} persons were not accepted"
        ]
        for each in self.cut:
            lines += [each.damage] if each.damage else []
            if each.unreadable:
                lines.append(f"tracklets left out because of the damage: {', '.join(each.unreadable)}")
        return printable("\n".join(lines))


def read_decisions(path: str | os.PathLike[str], run: str, embeddings: TrackletEmbeddings) -> list[Decision]:
    """Read the file that the review page saves, and check it.

    Args:
        path: of the file.
        run: digest in `identities.json`.
        embeddings: of the same folder.

    Returns:
        A `Decision` for each person.

    Raises:
        FileNotFoundError: if there is no file.
        ValueError: if it is no such file or of other tracklets, does not name each tracklet once, or has a person of
            tracklets that overlap in one camera.
    """
    name = f"decisions={os.fspath(path)!r}"
    if not Path(path).is_file():
        raise FileNotFoundError(f"The file of decisions is missing. Received: {name}")
    try:
        read = json.loads(Path(path).read_text(encoding="utf-8"))
        number, found_run = read["format"], read["run"]
        decisions = [
            Decision(_whole(each["person"]), bool(each["accepted"]), tuple(map(str, each["tracklets"])))
            for each in read["persons"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "This is no file that the review page saved: save the decisions there again "
            f"({type(error).__name__}: {error}). Received: {name}"
        ) from error
    if number != FORMAT:
        raise ValueError(
            f"The file was saved by a page of another version of kreid: make the page and the decisions again. "
            f"Received: {name} of format={number!r}"
        )
    if found_run != run:
        raise ValueError(
            "The decisions are on the tracklets of another run: name the folder whose review.html saved them, or "
            f"decide again. Received: {name} of run={str(found_run)[:12]!r}, the folder has run={run[:12]!r}"
        )
    _check_tracklets(decisions, embeddings, name)
    return decisions


def write_accepted(
    folder: str | os.PathLike[str],
    decisions: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: str = "train",
    image_format: str = "png",
    progress: bool = True,
) -> AcceptedPersons:
    """Cut the accepted persons out of the videos into `<out>/<split>/<person>/<camera>/<tracklet>/<frame>`.

    `kreid.data.read_folder` reads the result. A person's folder is `p` and the number on the page. The folder is
    written under a temporary name and renamed when complete. The videos are read again from where they were.

    Args:
        folder: that `kreid identify` wrote.
        decisions: the file that its review page saved.
        out: new folder.
        split: `"train"`, `"query"` or `"gallery"`.
        image_format: `"png"` or `"jpg"`, see `kreid.tracks.cut_tracklets`.
        progress: show a progress bar.

    Returns:
        An `AcceptedPersons`.

    Raises:
        FileExistsError: if `out` has content.
        FileNotFoundError: if a file is missing.
        ValueError: see `read_decisions`; or if no person is accepted, or the folder was not made from videos.
    """
    check_new_folder(out)
    state = read_state(folder)
    embeddings = TrackletEmbeddings.load(IdentityFiles(folder).embeddings)
    if not state["videos"]:
        raise ValueError(
            "The folder was made from embeddings, so the frames are unknown: name one that was made from videos. "
            f"Received: folder={os.fspath(folder)!r}"
        )
    decided = read_decisions(decisions, state["run"], embeddings)
    person_of = {name: f"p{each.person:04}" for each in decided if each.accepted for name in each.tracklets}
    if not person_of:
        raise ValueError(
            "No person is accepted: accept some on the page and save again. "
            f"Received: decisions={os.fspath(decisions)!r}"
        )
    persons, cut = _persons_by_video(embeddings, person_of), []
    videos = [video for video in stored_videos(folder, state) if video.name in persons]
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as work:
        for video in videos:
            result = cut_tracklets(
                video.video,
                video.tracks,
                work,
                limits=TrackLimits(**state["limits"]),
                split=split,
                person=persons[video.name],
                camera=plain(video.camera),
                image_format=image_format,
                progress=progress,
            )
            cut.append(result)
    accepted = sum(each.accepted for each in decided)
    return AcceptedPersons(str(out), accepted, len(decided) - accepted, tuple(cut))


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"person={number!r} is no number from 1")
    return number


def _check_tracklets(decisions: Sequence[Decision], embeddings: TrackletEmbeddings, name: str) -> None:
    numbers = [each.person for each in decisions]
    named = [tracklet for each in decisions for tracklet in each.tracklets]
    if sorted(named) != sorted(embeddings.ids.tolist()) or len(set(numbers)) < len(numbers):
        wrong = sorted(set(named) ^ set(embeddings.ids.tolist())) or sorted({n for n in named if named.count(n) > 1})
        raise ValueError(
            "The decisions must name each person and each tracklet once: save them on the page again. "
            f"Received: {name}, {f'about tracklet {wrong[0]!r}' if wrong else 'with a person twice'}"
        )
    row_of = {tracklet: row for row, tracklet in enumerate(embeddings.ids.tolist())}
    first, last = first_and_last(embeddings)
    apart = overlapping_pairs(first, last, embeddings.cameras, embeddings.sources)
    for each in decisions:
        rows = [row_of[tracklet] for tracklet in each.tracklets]
        pairs = np.argwhere(apart[np.ix_(rows, rows)])
        if len(pairs):
            one, other = (each.tracklets[place] for place in pairs[0].tolist())
            raise ValueError(
                "Tracklets that overlap in time in one camera are two persons: split person "
                f"{each.person} on the page. Received: {name}, {one!r} with {other!r}"
            )


def _persons_by_video(embeddings: TrackletEmbeddings, person_of: Mapping[str, str]) -> dict[str, dict[int, str]]:
    persons: dict[str, dict[int, str]] = {}
    for name, source, tags in zip(embeddings.ids.tolist(), embeddings.sources.tolist(), embeddings.tags, strict=True):
        if name in person_of:
            persons.setdefault(source, {})[int(tags["track"])] = person_of[name]
    return persons
