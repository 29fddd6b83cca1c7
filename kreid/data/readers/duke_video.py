"""DukeMTMC-VideoReID, as published before DukeMTMC was withdrawn."""

import os
import re
from pathlib import Path

from kreid.data.readers.listing import below, contents_of, find_below, inside, list_folder, subfolders
from kreid.data.readers.published import with_published_counts
from kreid.data.tracklet import DISTRACTOR, ReidDataset, Tracklet

# 0001_C6_F0099_X30823.jpg, in older copies 0001C6F0099X30823.jpg; D in the place of X marks a distractor.
FRAME = re.compile(r"(?P<person>\d{4})_?C(?P<camera>\d)_?F(?P<time>\d+)_?(?P<kind>[XD])\d+\.jpg", re.IGNORECASE)
SPLITS = ("train", "query", "gallery")

PUBLISHED = {
    **{"train persons": 702, "train tracklets": 2_196, "train frames": 369_656},
    **{"test persons": 702, "test tracklets": 2_636, "test frames": 445_764, "queries": 702, "cameras": 8},
}


def read_duke_video(root: str | os.PathLike[str]) -> ReidDataset:
    """Read DukeMTMC-VideoReID.

    The makers of DukeMTMC withdrew it, and it must not be used in new work: this
    reader is for those who have a copy and the right to use it. Nothing defaults
    to it. Homepage, for the description of the files:
    https://github.com/Yu-Wu/DukeMTMC-VideoReID (withdrawn).

    Expected under `root`: `train/`, `query/` and `gallery/`, each with
    `PPPP/TTTT/PPPP_C6_F0099_X30823.jpg` (person, tracklet, camera from 1,
    frame), or in older copies `PPPPC6F0099X30823.jpg`. `D` instead of `X` marks
    a distractor. Files are sorted by name; frame numbers may have gaps. The
    three folders may also be in a folder below `root`, in another letter case,
    or unpacked a level too deep.

    The gallery folder may repeat the queries' tracklets, as the published one
    does; a repeated tracklet is read once, as a query.

    `summary()` compares with the counts of Wu et al., 2018: 702 train persons
    with 2,196 tracklets and 369,656 frames; 702 test persons and 408 distractors
    with 2,636 tracklets and 445,764 frames.

    Args:
        root: folder with this content.

    Returns:
        A `ReidDataset` whose `test` is the queries followed by the rest of the
        gallery.

    Raises:
        FileNotFoundError: if one of the three folders is missing or has no
            image.
        ValueError: if a file's name lacks person, camera or kind, or a query is
            a distractor.

    Reference: Wu et al., Exploit the Unknown Gradually: One-Shot Video-Based
    Person Re-Identification by Stepwise Learning, 2018; Ristani et al.,
    Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking, 2016.
    """
    root = Path(root).absolute()
    top = (find_below(root, _top) if root.is_dir() else None) or root
    tracklets: dict[str, dict[str, Tracklet]] = {}
    empty: list[str] = []
    others: list[str] = []
    for split in SPLITS:
        place = inside(top, split)
        if place is None or not place.is_dir():
            raise FileNotFoundError(
                "DukeMTMC-VideoReID is <root>/{train,query,gallery}/PPPP/TTTT/PPPP_C6_F0099_X30823.jpg, and there is "
                f"no `{split}` folder; {contents_of(top)}. Received: root={str(root)!r}"
            )
        tracklets[split] = {}
        for person in subfolders(place):
            for folder in subfolders(person):
                name = f"{person.name}/{folder.name}"
                listing = list_folder(folder)
                others += listing.others
                if listing.images:
                    tracklets[split][name] = _tracklet(split, person.name, name, listing.images)
                else:
                    empty.append(f"{split}/{name}")
        if not tracklets[split]:
            raise FileNotFoundError(
                f"No image was found as {split}/PPPP/TTTT/PPPP_C6_F0099_X30823.jpg; {contents_of(place)}. "
                f"Received: root={str(root)!r}"
            )
    queries = tracklets["query"]
    gallery = [
        tracklet
        for name, tracklet in tracklets["gallery"].items()
        if name not in queries or _names(tracklet) != _names(queries[name])
    ]
    dataset = ReidDataset(
        name=root.name,
        train=tuple(tracklets["train"].values()),
        test=(*queries.values(), *gallery),
        query_rows=tuple(range(len(queries))),
        empty=tuple(empty),
        skipped_files=below(root, others),
    )
    return with_published_counts(dataset, "DukeMTMC-VideoReID", PUBLISHED)


def find_train(root: Path) -> Path | None:
    """Return the `train` folder if its first frame is named as in DukeMTMC-VideoReID, else `None`."""
    train = inside(root, "train")
    if train is None or not train.is_dir():
        return None
    for person in subfolders(train):
        for folder in subfolders(person):
            images = list_folder(folder).images
            if images:
                return train if FRAME.fullmatch(Path(images[0]).name) else None
    return None


def _top(root: Path) -> Path | None:
    return root if any(inside(root, split) for split in SPLITS) else None


def _tracklet(split: str, person: str, name: str, frames: tuple[str, ...]) -> Tracklet:
    kinds: set[tuple[int, bool]] = set()
    for path in frames:
        frame = FRAME.fullmatch(Path(path).name)
        if frame is None or frame["person"] != person:
            raise ValueError(
                f"Frames of person {person} must be named {person}_C6_F0099_X30823.jpg or {person}C6F0099X30823.jpg; "
                f"remove or rename the file, or unpack the set again. Received: {path!r}"
            )
        kinds.add((int(frame["camera"]), frame["kind"].upper() == "D"))
        if len(kinds) > 1:
            raise ValueError(
                "A tracklet's frames must be of one camera, and all X or all D; unpack the set again. "
                f"Received: {path!r} next to {frames[0]!r}"
            )
    ((camera, is_distractor),) = kinds
    return Tracklet(f"{split}/{name}", DISTRACTOR if is_distractor else int(person), camera, frames)


def _names(tracklet: Tracklet) -> list[str]:
    return [path.rsplit("/", 1)[1] for path in tracklet.frames]
