"""Evaluate a run's model again and write a report: scores, ranked lists, attention.

    kreid evaluate runs/sta_mars
    kreid evaluate runs/sta_mars --rerank --compare runs/baseline_mars
    kreid evaluate runs/baseline_mars --pooling majority
    kreid evaluate runs/sta_mars --data data/other --out reports/sta_on_other
    kreid evaluate runs/sta_mars --bad-frames --uniform-attention

The report is one file, RUN/report/index.html, that needs no network. It shows people: keep it as you would keep their
photographs.

Exit status: 0 written, 2 wrong usage or input, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from kreid.data.bad_frames import KINDS
from kreid.training.command import plain_errors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("run", metavar="RUN", help="the folder of a trained run")
    parser.add_argument("--data", metavar="DIR", help="the data set to test on (default: the run's)")
    parser.add_argument("--rerank", action="store_true", help="also score by k-reciprocal re-ranking")
    parser.add_argument(
        "--rerank-power",
        type=float,
        metavar="N",
        help="re-rank with this power of the distances; 4 gives the result of toolboxes that square squared distances "
        "(default: 2, as published)",
    )
    parser.add_argument(
        "--frame-variances",
        action="store_true",
        help="also embed single frames, and print how their variance splits into that within tracklets, between the "
        "tracklets of a person, and between persons",
    )
    parser.add_argument(
        "--pooling",
        metavar="NAME",
        help="pool the frames of a baseline in another way than it was trained with: average, agreement or majority; "
        "the report is RUN/report_NAME",
    )
    parser.add_argument(
        "--mirrored",
        action="store_true",
        help="embed each frame together with its mirror image; the name of the report's folder ends in _mirrored",
    )
    parser.add_argument(
        "--bad-frames",
        nargs="?",
        const=",".join(KINDS),
        metavar="KINDS",
        help="also score tracklets with 1 to 3 bad frames of 8, beside average pooling and an average over the good "
        f"frames alone; some of {','.join(KINDS)} (default: all)",
    )
    parser.add_argument("--bad-frames-seed", type=int, default=0, metavar="N", help="of the bad frames (default: 0)")
    parser.add_argument(
        "--uniform-attention",
        action="store_true",
        help="also score the model with equal weights in place of its attention, and measure the weights",
    )
    parser.add_argument("--compare", metavar="RUN2", help="another run, evaluated on the same data")
    parser.add_argument("--out", metavar="DIR", help="the report's folder (default: RUN/report)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def run(options: argparse.Namespace) -> int:
    """Evaluate and write the report; return the exit status."""
    with plain_errors():
        from kreid.evaluation import Reranking
        from kreid.report import write_report
        from kreid.report.single_frames import frame_variances_text

        rerank = options.rerank
        if options.rerank_power is not None:
            rerank = Reranking(power=options.rerank_power)
        path, measured = write_report(
            options.run,
            options.data,
            rerank,
            options.compare,
            options.out,
            progress=not options.quiet,
            pooling=options.pooling,
            mirrored=options.mirrored,
            bad_frames=None if options.bad_frames is None else options.bad_frames.split(","),
            bad_frames_seed=options.bad_frames_seed,
            uniform_attention=options.uniform_attention,
        )
        print(measured.summary())
        if options.frame_variances:
            print(frame_variances_text(measured, progress=not options.quiet))
        print(f"Report: {path}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
