"""Check a data set before training on it for hours: damaged files and, with a model, switches of the tracker.

    kreid check data/mars --json check.json
    kreid check data/mars --model runs/sta_mars --page switches.html

`kreid.data.read_frames` decodes every frame, as in training and embedding, so that the three cannot disagree on which
frames are unreadable. With --model each frame is embedded alone, and the tracklets whose frames seem to show two
persons are listed, the most suspicious first, with the frames of both sides; --page writes their pictures. The page
shows people: keep it as you would keep their photographs.

Exit status: 0 without damage, 1 with damage, 2 for wrong usage or input, 130 interrupted.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

from kreid._files import write_atomically
from kreid.data import check
from kreid.data.clips import evenly
from kreid.evaluation.suspicious import SuspiciousTracklet, ranges_text, suspicious_tracklets
from kreid.evaluation.switches import check_threshold, frame_ranges
from kreid.plots.strips import draw_frames
from kreid.report.html import figure, page, paragraph, picture, row
from kreid.training.command import plain_errors

_SHOWN = 6
_TILE = (128, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    check.add_arguments(parser)
    add = parser.add_argument
    add("--model", metavar="RUN", help="a run's folder or a .keras file: also list tracklets that may show two persons")
    add(
        "--threshold",
        type=float,
        default=0.35,
        help="smallest difference of mean similarities, within the two sides and across, to list (0.35)",
    )
    add("--most-frames", type=int, default=64, help="frames of a tracklet to embed, spread evenly (64)")
    add("--page", metavar="FILE", type=pathlib.Path, help="with --model, write the pictures of both sides as HTML")


def run(options: argparse.Namespace) -> int:
    """Check and print; return the exit status."""
    with plain_errors():
        if options.model is None and options.page is not None:
            raise ValueError(f"The page shows what a model finds; name one with --model. Received: page={options.page}")
        if options.page is not None and not options.page.absolute().parent.is_dir():
            raise ValueError(f"The folder to write to is missing. Received: page={str(options.page)!r}")
        check_threshold(options.threshold)
        if options.most_frames < 4:
            raise ValueError(f"A switch needs four frames or more. Received: most_frames={options.most_frames}")
    status = check.run(options)
    if options.model is None or status == 2:
        return status
    with plain_errors():
        from kreid.data.readers import read_dataset
        from kreid.runs import load_run_or_model

        dataset = read_dataset(options.root, persons=options.persons)
        tracklets = dataset.train + dataset.test
        found = suspicious_tracklets(
            load_run_or_model(options.model),
            tracklets,
            threshold=options.threshold,
            most=options.most_frames,
            max_damaged=1.0,  # The check has told of them.
            progress=not options.quiet,
        )
        print(f"tracklets that may show two persons: {len(found)} of {len(tracklets)}")
        for one in found:
            print(f"  {one.text()}")
        if options.json:
            report = json.loads(pathlib.Path(options.json).read_text(encoding="utf-8"))
            report["switches"] = [one.to_dict() for one in found]
            write_atomically(options.json, json.dumps(report, indent=2) + "\n")
        if options.page is not None:
            write_atomically(options.page, switch_page(found, len(tracklets)))
            print(f"Pictures: {options.page}")
    return status


def switch_page(found: Sequence[SuspiciousTracklet], tracklets: int) -> str:
    """Make a page with the pictures of both sides of suspicious tracklets.

    Args:
        found: what `suspicious_tracklets` found.
        tracklets: how many it looked at.

    Returns:
        HTML, in one file.
    """
    lead = paragraph(
        f"{len(found)} of {tracklets} tracklets have a run of frames unlike their other frames. On the left are the "
        "frames of the larger side. A person who turns or is covered may look like two: look before you cut."
    )
    body = "".join(_tracklet(one) for one in found) or paragraph("No tracklet is suspicious.")
    return page("Switches of the tracker", lead, {"tracklets": ("Tracklets, the least alike first", body)})


def _tracklet(one: SuspiciousTracklet) -> str:
    sides = []
    for side in (~one.other, one.other):
        places = side.nonzero()[0]
        shown = [one.tracklet.frames[place] for place in places[evenly(len(places), _SHOWN)].tolist()]
        text = ranges_text(frame_ranges(side))
        sides.append(figure(picture(draw_frames(shown, tile=_TILE), f"{one.tracklet.id}, {text}"), text))
    return paragraph(f"{one.tracklet.id}, difference {one.difference:.2f}") + row(*sides)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))
