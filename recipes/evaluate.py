"""Evaluates a run's model again and writes a report to look at: numbers, ranked lists, attention.

    python recipes/evaluate.py runs/sta_mars
    python recipes/evaluate.py runs/sta_mars --rerank --compare runs/baseline_mars
    python recipes/evaluate.py runs/sta_mars --data data/other --out reports/sta_on_other

The report is one file, RUN/report/index.html, that needs no network. It shows people: keep it as you would keep the
photographs.
"""

import argparse

from kreid import training


def main(argv=None):
    """Reads the command line and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a run's folder, as training leaves it")
    parser.add_argument("--data", metavar="DIR", help="the data set to test on (default: the run's own)")
    parser.add_argument("--rerank", action="store_true", help="also score by k-reciprocal re-ranking")
    parser.add_argument("--compare", metavar="RUN2", help="another run, measured on the same data")
    parser.add_argument("--out", metavar="DIR", help="the report's folder (default: RUN/report)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(argv)
    with training.plain_errors():
        from kreid.report import write_report

        path, measured = write_report(
            options.run, options.data, options.rerank, options.compare, options.out, progress=not options.quiet
        )
        print(f"{measured.summary()}\nReport: {path}")


if __name__ == "__main__":
    main()
