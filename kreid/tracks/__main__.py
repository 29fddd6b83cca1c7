"""Cut tracklets out of a video into <out>/<split>/<person>/<camera>/<video>-<id>/<frame>.

Several videos can be cut into one folder, one at a time.

    kreid tracks hall.mp4 hall.txt --out data/hall --min-confidence 0.5 --stride 5
    kreid tracks hall.mp4 hall.txt --out data/hall --split-switches runs/sta_mars

With --split-switches each frame is embedded alone by the model of a run's folder or a .keras file; where a run of
frames is unlike the rest of its tracklet, the smaller side becomes a tracklet of its own, with an id above the
tracker's.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kreid.tracks.limit_options import add_limits, limits_of

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    add = parser.add_argument
    add("video", help="video file that FFmpeg decodes, or a folder of images such as MOT Challenge's img1")
    add("tracks", help="a tracker's output in MOT Challenge text: frame,id,left,top,width,height[,conf[,x,y,z]]")
    add("--out", required=True, help="new folder, or one to which the tracklets are added")
    add("--split", choices=("train", "query", "gallery"), default="gallery", help="folder of the persons (gallery)")
    add("--person", default="{video}-{id}", help="name of the persons, with the fields {video} and {id} ({video}-{id})")
    add("--camera", default="{video}", help="name of the camera, with the same fields ({video})")
    add_limits(parser)
    add("--format", choices=("png", "jpg"), default="png", help="png: the pixels as decoded; jpg: smaller (png)")
    add("--split-switches", metavar="RUN", help="cut tracklets in two that may show two persons, by this run's model")
    add(
        "--switch-threshold",
        type=float,
        default=0.35,
        help="smallest difference of mean similarities, within the two sides and across, to cut (0.35)",
    )
    add("--quiet", action="store_true", help="show no progress bar")


def run(options: argparse.Namespace) -> int:
    """Cut tracklets and print a summary; return the exit status: 0, or 2 for wrong usage or input."""
    from kreid.tracks.folders import cut_tracklets
    from kreid.tracks.mot import read_tracks

    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # The summary names skipped lines.
            tracks = read_tracks(options.tracks, first_frame=options.first_frame, max_damaged=options.max_damaged)
        result = cut_tracklets(
            options.video,
            tracks,
            options.out,
            limits=limits_of(options),
            split=options.split,
            person=options.person,
            camera=options.camera,
            image_format=options.format,
            switch_model=None if options.split_switches is None else _model(options.split_switches),
            switch_threshold=options.switch_threshold,
            progress=not options.quiet,
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"kreid tracks: {error}", file=sys.stderr)
        return 2
    print(result.summary())
    return 0


def _model(path: str) -> "TrackletModel":
    from kreid._quiet import import_tensorflow
    from kreid.runs import load_run_or_model

    import_tensorflow()
    return load_run_or_model(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid.tracks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
