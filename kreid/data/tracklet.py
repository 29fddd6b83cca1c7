"""The records that every reader returns and every pipeline takes.

Plain Python: no TensorFlow, no Keras.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kreid._files import printable

#: The person of badly cut boxes, which count neither as right nor as wrong.
JUNK = -1
#: The person of tracklets that show nobody with a query.
DISTRACTOR = 0


@dataclass(frozen=True, slots=True)
class Tracklet:
    """The cropped frames of one person in one camera, in temporal order.

    Args:
        id: unique name inside its data set, such as `"test/0002C1T0001"`.
        person: int, above 0 for an identity; `DISTRACTOR` (0) for a person who
            matches no query, `JUNK` (-1) for a false detection.
        camera: int.
        frames: absolute paths of the image files.

    Example:

    >>> len(Tracklet(id="a", person=1, camera=2, frames=("/data/0.jpg", "/data/1.jpg")))
    2
    """

    id: str
    person: int
    camera: int
    frames: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class ReidDataset:
    """The tracklets of a data set with its published split into train, query and gallery.

    Args:
        name: of the data set, for reports.
        train: tracklets to train on.
        test: all test tracklets in published order, queries, distractors and
            junk included.
        query_rows: rows of `test` that are queries.
        missing: frame files that the index names but the disk lacks, relative
            to the root. The tracklets do not contain them.
        empty: ids of tracklets that were removed because no frame is left.
        person_names: person to folder name, if the reader numbers persons.
        camera_names: camera to folder name, if the reader numbers cameras.
        validation: the published validation persons, if there are any.
        split: number and source of the split, if there are several.
        published: the published counts of a benchmark, by the names of
            `counts`; empty for other data sets.
        skipped_files: files among the frames that kreid does not read because
            of their extension or place, relative to the root.
        remarks: other observations of the reader.

    Raises:
        ValueError: if a query row is outside `test`, or is a distractor's or
            junk's.

    Example:

    >>> tracklets = [Tracklet(f"t{camera}", person=1, camera=camera, frames=("0.jpg",)) for camera in (1, 2)]
    >>> dataset = ReidDataset("mine", train=(), test=tuple(tracklets), query_rows=(0,))
    >>> [tracklet.id for tracklet in dataset.gallery()]
    ['t2']
    """

    name: str
    train: tuple[Tracklet, ...]
    test: tuple[Tracklet, ...]
    query_rows: tuple[int, ...]
    missing: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    person_names: dict[int, str] = field(default_factory=dict)
    camera_names: dict[int, str] = field(default_factory=dict)
    validation: "ReidDataset | None" = None
    split: str = ""
    published: dict[str, int] = field(default_factory=dict)
    skipped_files: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        outside = [row for row in self.query_rows if not 0 <= row < len(self.test)]
        if outside:
            raise ValueError(
                f"Query rows must point into the {len(self.test)} test tracklets. Received: query_rows={outside[:5]}"
            )
        unmatched = [tracklet.id for tracklet in self.queries if tracklet.person <= DISTRACTOR]
        if unmatched:
            raise ValueError(
                "Distractors and junk match no tracklet and cannot be queries: leave their rows out of `query_rows`. "
                f"Received: {len(unmatched)} such queries, the first with id={unmatched[0]!r}"
            )

    @property
    def queries(self) -> tuple[Tracklet, ...]:
        """The query tracklets, in the order of `query_rows`."""
        return tuple(self.test[row] for row in self.query_rows)

    @property
    def persons_in_both(self) -> tuple[int, ...]:
        """Persons who are both in `train` and in `test`; a re-identification test needs other persons."""
        train, test = ({tracklet.person for tracklet in part} for part in (self.train, self.test))
        return tuple(sorted(person for person in train & test if person > DISTRACTOR))

    def gallery(self, convention: str = "without_queries", junk: bool = False) -> tuple[Tracklet, ...]:
        """Return the tracklets to search, distractors included.

        Args:
            convention: `"without_queries"` as in the common toolboxes, or
                `"with_queries"` as in MARS's own evaluation code.
            junk: whether to include junk tracklets.

        Returns:
            A tuple of tracklets, in published order.

        Raises:
            ValueError: if the convention is unknown.
        """
        if convention not in ("without_queries", "with_queries"):
            raise ValueError(
                f"`convention` must be 'without_queries' or 'with_queries'. Received: convention={convention!r}"
            )
        left_out = set(self.query_rows) if convention == "without_queries" else set()
        return tuple(
            tracklet
            for row, tracklet in enumerate(self.test)
            if row not in left_out and (junk or tracklet.person != JUNK)
        )

    def counts(self) -> dict[str, int]:
        """Count persons, tracklets and frames, to compare with published counts.

        Returns:
            A dict: `"train persons"`, `"train tracklets"` and `"train frames"`,
            the same of `test` and `validation`, and `"queries"`,
            `"distractors"`, `"junk"`, `"cameras"` and `"frames"` of all parts.
        """
        validation = self.validation.test if self.validation else ()
        counts, everything = {}, (*self.train, *self.test, *validation)
        for part, tracklets in (("train", self.train), ("test", self.test), ("validation", validation)):
            counts[f"{part} persons"] = len({tracklet.person for tracklet in tracklets if tracklet.person > 0})
            counts[f"{part} tracklets"] = len(tracklets)
            counts[f"{part} frames"] = sum(map(len, tracklets))
        return counts | {
            "queries": len(self.query_rows),
            "distractors": sum(tracklet.person == DISTRACTOR for tracklet in self.test),
            "junk": sum(tracklet.person == JUNK for tracklet in self.test),
            "cameras": len({tracklet.camera for tracklet in everything}),
            "frames": sum(map(len, everything)),
        }

    def warnings(self) -> tuple[str, ...]:
        """Describe properties that make scores on this data set misleading, and remarks.

        Returns:
            A tuple of phrases; empty if there are none.
        """
        warnings = []
        if self.persons_in_both:
            names = [self.person_names.get(person, str(person)) for person in self.persons_in_both]
            warnings.append(
                f"{len(names)} persons are both in train and in test, such as {', '.join(names[:3])}: scores on "
                "training persons are not re-identification scores"
            )
        if self.skipped_files:
            warnings.append(_skipped_text(self.skipped_files))
        return (*warnings, *self.remarks)

    def summary(self) -> str:
        """Return a table of counts, then missing frames, differences from the published counts and `warnings`.

        Returns:
            A str of several lines.
        """
        parts = [
            ("train", self.train),
            ("query", self.queries),
            ("gallery", self.gallery()),
            ("junk", tuple(tracklet for tracklet in self.test if tracklet.person == JUNK)),
        ]
        if self.validation:
            parts.append(("validation", self.validation.test))
        width = max(10, len(self.name))
        lines = [f"{self.name:<{width}}{'persons':>9}{'cameras':>9}{'tracklets':>11}{'frames':>10}"]
        for part, tracklets in parts:
            persons = len({tracklet.person for tracklet in tracklets if tracklet.person > 0})
            cameras = len({tracklet.camera for tracklet in tracklets})
            frames = sum(len(tracklet) for tracklet in tracklets)
            lines.append(f"{part:<{width}}{persons:>9}{cameras:>9}{len(tracklets):>11}{frames:>10}")
        distractors = sum(tracklet.person == DISTRACTOR for tracklet in self.test)
        lines.append(f"distractors in the gallery: {distractors}")
        for split, count in sorted(Counter(name.split("/")[0] for name in self.missing).items()):
            first = [name for name in self.missing if name.split("/")[0] == split][:3]
            lines.append(f"missing in {split}: {count} frames, such as {', '.join(first)}")
        if self.empty:
            lines.append(
                f"{len(self.empty)} tracklets skipped, because none of their frames exists, such as "
                f"{', '.join(self.empty[:3])}"
            )
        if self.published:
            counts = self.counts()
            differing = [
                f"{counts[name]} {name} instead of {count}"
                for name, count in self.published.items()
                if counts[name] != count
            ]
            lines.append("differs from the published counts: " + ", ".join(differing) if differing else "as published")
        if self.split:
            lines.append(f"split: {self.split}")
        lines += [f"warning: {warning}" for warning in self.warnings()]
        return printable("\n".join(lines))


def _skipped_text(files: Sequence[str]) -> str:
    """Describe the number of files of each extension, with one example."""
    by_extension: dict[str, list[str]] = {}
    for file in files:
        by_extension.setdefault(os.path.splitext(file)[1].lower() or "no extension", []).append(file)
    counts = [f"{len(names)} with {extension} such as {names[0]}" for extension, names in sorted(by_extension.items())]
    return (
        f"{len(files)} files are not read (only .jpg, .jpeg and .png in the expected folders are): {'; '.join(counts)}"
    )
