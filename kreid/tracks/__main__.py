"""`python -m kreid.tracks VIDEO TRACKS --out DIR`: cut tracklets out of a video."""

import argparse
import sys

from kreid.tracks.cuts import TrackLimits
from kreid.tracks.folders import cut_tracklets
from kreid.tracks.mot import read_tracks


def main(argv=None) -> int:
    """Cuts; returns the exit status: 0, or 2 for what the user can mend."""
    limits = TrackLimits()
    parser = argparse.ArgumentParser(
        "python -m kreid.tracks",
        description="Cut tracklets out of a video into <out>/<split>/<person>/<camera>/<video>-<id>/<frame>.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("video", help="any video file that FFmpeg decodes")
    add("tracks", help="a tracker's output in MOT Challenge text: frame,id,left,top,width,height[,conf[,x,y,z]]")
    add("--out", required=True, help="folder to make; it must not exist", default=argparse.SUPPRESS)
    add("--split", choices=("train", "query", "gallery"), default="gallery", help="folder of the persons")
    add("--person", default="{video}-{id}", help="name of the persons; {video} and {id} are filled in")
    add("--camera", default="{video}", help="name of the camera; the same")
    add("--first-frame", type=int, choices=(0, 1), default=1, help="the tracker's number of the first frame")
    add("--min-confidence", type=float, default=argparse.SUPPRESS, help="least confidence of a box (default: any)")
    add("--stride", type=int, default=limits.stride, help="cut every so many frames of the video")
    add("--min-inside", type=float, default=limits.min_inside, help="least share of a box inside the picture")
    add(
        "--min-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), default=limits.min_size, help="least size, pixels"
    )
    add("--min-length", type=int, default=limits.min_length, help="least frames of a tracklet")
    add("--max-length", type=int, default=argparse.SUPPRESS, help="thin longer tracklets to so many (default: all)")
    add("--format", choices=("png", "jpg"), default="png", help="png: the pixels as decoded; jpg: smaller")
    add("--quiet", action="store_true", help="show no progress bar", default=argparse.SUPPRESS)
    options = vars(parser.parse_args(argv))
    names = ("min_confidence", "stride", "min_inside", "min_size", "min_length", "max_length")
    try:
        found = cut_tracklets(
            options["video"],
            read_tracks(options["tracks"], first_frame=options["first_frame"]),
            options["out"],
            limits=TrackLimits(**{name: options[name] for name in names if name in options}),
            split=options["split"],
            person=options["person"],
            camera=options["camera"],
            image_format=options["format"],
            progress=not options.get("quiet", False),
        )
    except (ValueError, OSError, ImportError) as error:
        print(f"kreid.tracks: {error}", file=sys.stderr)
        return 2
    print(found.summary())
    return 0


if __name__ == "__main__":
    sys.exit(main())
