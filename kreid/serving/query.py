"""Finds a tracklet's person in a gallery, through a running server.

    python serving/query.py TRACKLET_FOLDER --gallery GALLERY_FOLDER --server 127.0.0.1:8500 --picture ranked.png

The query is a folder of frame images. The gallery is one of
- `<person>/<camera>/<frames>`, or with one more level, one folder per tracklet;
- a kreid data folder, whose `gallery` split is taken;
- a MARS root, whose gallery is taken.

The metric comes from the served model. Works with serve.py and with TensorFlow Serving.
"""

import argparse
import sys
from pathlib import Path

TRACKLETS_AT_ONCE = 16


def read_gallery(root):
    """Reads a gallery of any of the three layouts as a list of `FolderTracklet`, all of them with frames."""
    from kreid.data.readers import FolderTracklet, read_mars, read_tracklet_folders

    if not root.is_dir():
        raise ValueError(f"The gallery must be a folder. Received: --gallery={root}")
    if any((place / "tracks_test_info.mat").is_file() for place in (root / "info", root)):
        return [
            FolderTracklet(t.id, str(t.person) if t.person > 0 else "distractor", str(t.camera), t.frames)
            for t in read_mars(root).gallery()
        ]
    if (root / "gallery").is_dir():
        root = root / "gallery"
    return [shot for shot in read_tracklet_folders(root) if shot.frames]


def thinned(frames, limit):
    """At most `limit` frames, evenly spread."""
    from kreid.data.clips import evenly

    return [frames[place] for place in evenly(len(frames), limit)]


def embed(client, tracklets, label):
    """Embeds tracklets of paths a few at a time, behind a progress bar."""
    import numpy as np
    from tqdm import tqdm

    limit = client.card()["frame_limit"]
    embeddings, valid = [], []
    with tqdm(total=len(tracklets), desc=label, unit="tracklet") as bar:
        for start in range(0, len(tracklets), TRACKLETS_AT_ONCE):
            part = tracklets[start : start + TRACKLETS_AT_ONCE]
            contents = [[Path(frame).read_bytes() for frame in thinned(frames, limit)] for frames in part]
            answer = client.embed_images(contents)
            embeddings.append(answer[0])
            valid.append(answer[1])
            bar.update(len(part))
    return np.concatenate(embeddings), np.concatenate(valid)


def same(name, other):
    """Whether two names of a person or camera mean the same: `2` and `0002` do."""
    if name.isdigit() and other.isdigit():
        return int(name) == int(other)
    return name == other


def search(client, query_frames, shots, options):
    """Returns [(distance, shot, same person or None)], nearest first, and the metric."""
    import numpy as np

    from kreid.distances import distance_matrix

    query, readable = embed(client, [query_frames], "query")
    if not readable[0]:
        raise ValueError(f"No frame of the query could be read by the server. Received: tracklet={options.tracklet}")
    gallery, readable = embed(client, [shot.frames for shot in shots], "gallery")
    for shot, count in zip(shots, readable, strict=True):
        if not count:
            print(f"left out, no readable frame: {shot.name}", file=sys.stderr)
    keep = np.flatnonzero(readable)
    if not keep.size:
        raise ValueError(f"No frame of the gallery could be read by the server. Received: --gallery={options.gallery}")
    metric = client.card()["metric"]
    distances = distance_matrix(query, gallery[keep], metric)[0]
    order = np.argsort(distances, kind="stable")
    person = options.query_person
    return [
        (float(distances[row]), shots[keep[row]], None if person is None else same(shots[keep[row]].person, person))
        for row in order
    ], metric


def same_shot(shot, options):
    """Whether a gallery tracklet is of the query's person in the query's own camera, as no evaluation counts it."""
    if options.query_person is None or options.query_camera is None:
        return False
    return same(shot.person, options.query_person) and same(shot.camera, options.query_camera)


def print_list(ranked, metric, count):
    """Prints the ranked list as a table."""
    words = {True: "same person", False: "", None: ""}
    width = max([8, *(len(shot.name) for _, shot, _ in ranked)])
    print(f"{count} gallery tracklets, {metric} distance")
    print(f"{'rank':>4}  {'person':<12}{'camera':<10}{'tracklet':<{width}}  {'distance':>10}")
    for rank, (distance, shot, match) in enumerate(ranked, start=1):
        line = f"{rank:>4}  {shot.person:<12}{shot.camera:<10}{shot.name:<{width}}  {distance:>10.4f}  {words[match]}"
        print(line.rstrip())


def write_picture(path, query_frames, ranked, options):
    """Writes the ranked list as a picture."""
    from kreid.plots import RankedTracklet, draw_ranked_list

    known = [f"person {options.query_person}"] if options.query_person else []
    known += [f"camera {options.query_camera}"] if options.query_camera else []
    query = RankedTracklet(query_frames, [*known, f"{len(query_frames)} frames"])
    matches = [
        RankedTracklet(shot.frames, [f"person {shot.person}", f"camera {shot.camera}", f"{distance:.4f}"], match)
        for distance, shot, match in ranked
    ]
    draw_ranked_list(query, matches).save(path)


def main(argv=None) -> int:
    """Runs one query; returns the exit status: 0, 1 for the server's errors, 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="query.py", description="Find a tracklet's person in a gallery.")
    parser.add_argument("tracklet", type=Path, help="folder of the query's frame images")
    parser.add_argument("--gallery", type=Path, required=True, help="gallery folder; layouts are in this file's head")
    parser.add_argument("--server", default="127.0.0.1:8500", help="host:port")
    parser.add_argument("--model", default="kreid", help="model name at the server")
    parser.add_argument("--timeout", type=float, default=300, help="seconds per request")
    parser.add_argument("--top", type=int, default=10, help="how many gallery tracklets are listed")
    parser.add_argument("--picture", type=Path, help="where to write the ranked list as a picture, such as out.png")
    parser.add_argument("--query-person", help="who the query is, if known: matches are marked")
    parser.add_argument("--query-camera", help="with --query-person: this person in this camera is left out")
    options = parser.parse_args(argv)
    if options.top < 1:
        parser.error(f"--top must be at least 1. Received: --top={options.top}")

    from kreid.data.readers import image_files
    from kreid.serving import EmbeddingClient, ServingError

    try:
        if not options.tracklet.is_dir() or not (query_frames := image_files(options.tracklet)):
            raise ValueError(f"The query must be a folder of JPEG or PNG frames. Received: tracklet={options.tracklet}")
        shots = [shot for shot in read_gallery(options.gallery) if not same_shot(shot, options)]
        if not shots:
            raise ValueError(
                "The gallery holds nothing but this person in this camera, which is left out: give a larger gallery, "
                f"or no --query-camera. Received: --query-person={options.query_person}, "
                f"--query-camera={options.query_camera}"
            )
        with EmbeddingClient(options.server, options.model, options.timeout) as client:
            ranked, metric = search(client, query_frames, shots, options)
        print_list(ranked[: options.top], metric, len(ranked))
        if options.picture is not None:
            write_picture(options.picture, query_frames, ranked[: options.top], options)
            print(f"picture: {options.picture}")
    except (ValueError, OSError, ImportError) as error:
        print(f"query.py: {error}", file=sys.stderr)
        return 2
    except ServingError as error:
        print(f"query.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
