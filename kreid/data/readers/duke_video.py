"""DukeMTMC-VideoReID, as its makers published it before DukeMTMC was withdrawn."""

import re
from pathlib import Path

from kreid.data.readers.listing import image_files, subfolders
from kreid.data.readers.published import compared
from kreid.data.tracklet import DISTRACTOR, ReidDataset, Tracklet

# 0001_C6_F0099_X30823.jpg, in older copies 0001C6F0099X30823.jpg; D in the place of X marks a distractor.
FRAME = re.compile(r"(?P<person>\d{4})_?C(?P<camera>\d)_?F(?P<time>\d+)_?(?P<kind>[XD])\d+\.jpg", re.IGNORECASE)

PUBLISHED = {
    **{"train persons": 702, "train tracklets": 2_196, "train frames": 369_656},
    **{"test persons": 702, "test tracklets": 2_636, "test frames": 445_764, "queries": 702, "cameras": 8},
}


def read_duke_video(root):
    """Reads DukeMTMC-VideoReID.

    DukeMTMC was withdrawn by its makers and is not to be newly used: this is
    for those who hold a copy and the right to use it. Nothing defaults to it.

    Expected under `root`: `train/`, `query/` and `gallery/`, each with
    `PPPP/TTTT/PPPP_C6_F0099_X30823.jpg` (person, tracklet, camera from 1,
    frame), or as older copies have it `PPPPC6F0099X30823.jpg`. `D` in the place
    of `X` marks a distractor. Files are taken in the order of their names, not
    counted from F0001: tracklets have gaps.

    The gallery folder may hold the queries' tracklets again, as the published
    one does; such a tracklet is there once, as a query.

    The counts that `summary()` compares with, those of Wu et al., 2018: 702
    train persons with 2,196 tracklets and 369,656 frames; 702 test persons and
    408 distractors with 2,636 tracklets and 445,764 frames.

    Args:
        root: the folder that holds the above.

    Returns:
        A `ReidDataset` whose `test` is the queries followed by the rest of the
        gallery.

    Raises:
        FileNotFoundError: if a folder is not there or holds no image.
        ValueError: if a file's name does not say what it should.

    Reference: Wu et al., Exploit the Unknown Gradually: One-Shot Video-Based
    Person Re-Identification by Stepwise Learning, 2018; Ristani et al.,
    Performance Measures and a Data Set for Multi-Target, Multi-Camera
    Tracking, 2016.
    """
    root = Path(root).absolute()
    found, empty = {}, []
    for split in ("train", "query", "gallery"):
        if not (root / split).is_dir():
            raise FileNotFoundError(
                "DukeMTMC-VideoReID is <root>/{train,query,gallery}/PPPP/TTTT/PPPP_C6_F0099_X30823.jpg, and there is "
                f"no `{split}` folder. Received: root={str(root)!r}"
            )
        found[split] = {}
        for person in subfolders(root / split):
            for folder in subfolders(person):
                name = f"{person.name}/{folder.name}"
                tracklet = _tracklet(split, person.name, name, image_files(folder))
                if tracklet is None:
                    empty.append(f"{split}/{name}")
                else:
                    found[split][name] = tracklet
        if not found[split]:
            raise FileNotFoundError(
                f"No image was found as {split}/PPPP/TTTT/PPPP_C6_F0099_X30823.jpg. Received: root={str(root)!r}"
            )
    queries = found["query"]
    gallery = [
        tracklet
        for name, tracklet in found["gallery"].items()
        if name not in queries or _names(tracklet) != _names(queries[name])
    ]
    dataset = ReidDataset(
        name=root.name,
        train=tuple(found["train"].values()),
        test=(*queries.values(), *gallery),
        query_rows=tuple(range(len(queries))),
        empty=tuple(empty),
    )
    return compared(dataset, "DukeMTMC-VideoReID", PUBLISHED)


def _tracklet(split, person, name, frames):
    if not frames:
        return None
    said = set()
    for path in frames:
        frame = FRAME.fullmatch(Path(path).name)
        if frame is None or frame["person"] != person:
            raise ValueError(
                f"Frames of person {person} must be named {person}_C6_F0099_X30823.jpg or {person}C6F0099X30823.jpg; "
                f"remove or rename the file, or unpack the set anew. Received: {path!r}"
            )
        said.add((int(frame["camera"]), frame["kind"].upper() == "D"))
        if len(said) > 1:
            raise ValueError(
                "A tracklet's frames must be of one camera, and all X or all D; unpack the set anew. "
                f"Received: {path!r} beside {frames[0]!r}"
            )
    camera, distractor = said.pop()
    return Tracklet(f"{split}/{name}", DISTRACTOR if distractor else int(person), camera, frames)


def _names(tracklet):
    return [path.rsplit("/", 1)[1] for path in tracklet.frames]
