"""Write a folder of identities, whole or not at all."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kreid._files import replacing, write_atomically
from kreid.identities.files import (
    FORMAT,
    IdentityFiles,
    check_new_folder,
    identity_table,
    person_tracks,
    run_digest,
)
from kreid.identities.linking import Identities
from kreid.identities.review import review_page
from kreid.identities.sightings import Sightings
from kreid.tracks.mot import write_tracks


def write_identities(
    out: str | os.PathLike[str],
    sightings: Sightings,
    identities: Identities,
    *,
    scores: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write the folder that `kreid identify` writes: table, tracks, embeddings, and the page to review the persons.

    The folder is written under a temporary name and renamed when complete. Without videos there are no tracks and no
    page.

    Args:
        out: new folder, see `IdentityFiles` for its content.
        sightings: a `Sightings`.
        identities: of its tracklets.
        scores: data to write as JSON, by name.

    Raises:
        FileExistsError: if there is a file or a folder with content.
    """
    check_new_folder(out)
    embeddings, videos = sightings.embeddings, sightings.videos
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as work:
        work.mkdir()
        files = IdentityFiles(work)
        write_atomically(files.table, identity_table(embeddings, identities))
        dataclasses.replace(embeddings, persons=identities.persons).save(files.embeddings)
        if videos:
            files.tracks.mkdir()
            files.tracker.mkdir()
            found = person_tracks(videos, embeddings, identities.persons)
            for video in videos:
                write_tracks(files.tracks / f"{video.name}.txt", found[video.name])
                write_tracks(files.tracker / f"{video.name}.txt", video.tracks)
            write_atomically(files.page, review_page(embeddings, identities, sightings.pictures))
        if scores:
            write_atomically(files.scores, json.dumps(_without_nan(scores), indent=1) + "\n")
        write_atomically(files.state, json.dumps(_state(sightings, identities), indent=1) + "\n")


def _state(sightings: Sightings, identities: Identities) -> dict[str, Any]:
    embeddings = sightings.embeddings
    tracklets: dict[int, list[str]] = {}
    for person, name in zip(identities.persons.tolist(), embeddings.ids.tolist(), strict=True):
        tracklets.setdefault(person, []).append(name)
    return {
        "format": FORMAT,
        "run": run_digest(embeddings),
        "model": embeddings.model,
        "metric": embeddings.metric,
        "threshold": identities.threshold,
        "threshold_from": identities.threshold_from,
        "linking": identities.linking,
        "limits": dataclasses.asdict(sightings.limits),
        "videos": [
            {"name": video.name, "camera": video.camera, "video": os.path.abspath(video.video)}
            for video in sightings.videos
        ],
        "persons": {str(person): names for person, names in sorted(tracklets.items())},
    }


def _without_nan(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the scores with `None`, which JSON has, for NaN."""
    return {
        name: {key: None if value != value else value for key, value in values.items()}
        for name, values in scores.items()
    }
