"""The arguments of commands that read a tracker's output and choose its boxes."""

import argparse

from kreid.tracks.cuts import TrackLimits

_LIMITS = ("min_confidence", "stride", "min_inside", "min_size", "min_length", "max_length")


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of reading tracks, and those of `TrackLimits`, to a parser."""
    limits = TrackLimits()
    height, width = limits.min_size
    add = parser.add_argument
    add("--first-frame", type=int, choices=(0, 1), default=1, help="number of the first frame in the tracks (1)")
    add("--max-damaged", type=float, default=0.05, help="largest share of invalid lines to skip (0.05)")
    add("--min-confidence", type=float, help="smallest confidence of a box (any)")
    add("--stride", type=int, default=limits.stride, help=f"cut every Nth frame of the video ({limits.stride})")
    add(
        "--min-inside",
        type=float,
        default=limits.min_inside,
        help=f"smallest share of a box in the image ({limits.min_inside})",
    )
    add(
        "--min-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        default=limits.min_size,
        help=f"smallest size in pixels ({height} {width})",
    )
    add("--min-length", type=int, default=limits.min_length, help=f"fewest frames of a tracklet ({limits.min_length})")
    add("--max-length", type=int, help="thin longer tracklets to this many frames (all)")


def limits_of(options: argparse.Namespace) -> TrackLimits:
    """Return the limits that the arguments of `add_limits` set.

    Raises:
        ValueError: if a limit is out of range.
    """
    return TrackLimits(**{name: getattr(options, name) for name in _LIMITS})
