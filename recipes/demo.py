"""All steps once, on a synthetic MARS: render, train, evaluate, export, serve, query.

    python recipes/demo.py [--folder demo]

All files are written into one folder. A second run keeps the rendered set and trains again.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from kreid.data import ReidDataset, Tracklet
from kreid.data.readers import read_mars
from kreid.runs import RunFiles
from kreid.synthetic import render_mars
from kreid.training import plain_errors

ROOT = pathlib.Path(__file__).resolve().parents[1]
QUERIES = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and run the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("demo"))
    folder = parser.parse_args(argv).folder
    with plain_errors():
        run_stages(folder)


def run_stages(folder: pathlib.Path) -> None:
    """Render, train, serve and query, and print the results."""
    started = time.monotonic()

    heading("1/4  Rendering a synthetic MARS: walkers seen by six cameras")
    data = render_mars(folder / "mars", workers=2)
    dataset = read_mars(data)
    print(dataset.summary())

    heading("2/4  Training, evaluating, exporting: average pooling on a small residual network")
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    overlay = ROOT / "recipes" / "overlays" / "demo.yaml"
    options = ["--system", "baseline", "--overlay", overlay, "--data", data, "--run", run, "--quiet"]
    python("recipes/train_mars.py", *options)

    heading("3/4  Serving the exported model over gRPC, on the loopback interface")
    server = subprocess.Popen(
        [sys.executable, ROOT / "serving" / "serve.py", RunFiles(run).export, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        ready = server.stdout.readline().strip()
        if not ready:
            sys.exit("error: the server did not start; its message is above")
        print(ready)

        heading(f"4/4  Searching the gallery for the persons of {QUERIES} tracklets")
        target = ready.rsplit(" ", 1)[-1]
        pictures = [search(query, folder, target) for query in matched_queries(dataset)[:QUERIES]]
    finally:
        server.terminate()
        server.wait()

    heading(f"Done in {time.monotonic() - started:.0f} s")
    results = RunFiles(run).read_results()
    before, after = (part["standard"] for part in (results["untrained"], results["protocols"]))
    print(f"On the synthetic test set, {after['num_valid']} queries, gallery without queries:")
    print(f"  untrained  rank-1 {100 * before['cmc']['1']:5.1f}  mAP {100 * before['map']:5.1f}")
    print(f"  trained    rank-1 {100 * after['cmc']['1']:5.1f}  mAP {100 * after['map']:5.1f}")
    print(f"Run folder      {run}\nExported model  {RunFiles(run).export}")
    for picture in pictures:
        print(f"Ranked list     {picture}")
    if after["map"] < 3 * before["map"]:
        sys.exit("error: training did not reach three times the untrained model's mAP")


def heading(text: str) -> None:
    """Print the heading of a stage."""
    print(f"\n== {text}", flush=True)


def python(script: str, *arguments: object) -> None:
    """Run one of the repository's scripts, as a user would."""
    process = subprocess.run([sys.executable, ROOT / script, *map(str, arguments)])
    if process.returncode:
        sys.exit(process.returncode)


def matched_queries(dataset: ReidDataset) -> list[Tracklet]:
    """Return queries with a match in the gallery, one per person."""
    cameras_of: dict[int, set[int]] = {}
    for tracklet in dataset.gallery():
        cameras_of.setdefault(tracklet.person, set()).add(tracklet.camera)
    query_of: dict[int, Tracklet] = {}
    for query in dataset.queries:
        if cameras_of.get(query.person, set()) - {query.camera}:
            query_of.setdefault(query.person, query)
    return list(query_of.values())


def search(query: Tracklet, folder: pathlib.Path, server: str) -> pathlib.Path:
    """Copy a query's frames into a folder, rank the gallery for them, and return the path of the ranked list."""
    frames = folder / "queries" / query.id.replace("/", "_")
    shutil.rmtree(frames, ignore_errors=True)
    frames.mkdir(parents=True)
    for frame in query.frames:
        shutil.copy(frame, frames)
    picture = folder / f"ranked_{query.id.replace('/', '_')}.png"
    known = ["--query-person", query.person, "--query-camera", query.camera]
    gallery = ["--gallery", folder / "mars", "--server", server, "--picture", picture, "--cache", folder / "embeddings"]
    python("serving/query.py", frames, *gallery, *known)
    return picture


if __name__ == "__main__":
    main()
