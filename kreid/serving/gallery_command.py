"""Keep embeddings in a gallery, search them and delete them.

    kreid gallery add halls RUN/report/embeddings.npz --keep-days 30 --source hall.mp4
    kreid gallery search halls queries.npz --count 5 --other-cameras
    kreid gallery search halls queries.npz --id 0065C1T0002 --tag coat=red --since 2026-11-20T08:00+00:00
    kreid gallery list halls
    kreid gallery delete halls --person 65
    kreid gallery export halls halls.parquet
    kreid gallery index halls
    kreid gallery search --address 127.0.0.1:8500 queries.npz

Files of embeddings are those that `kreid evaluate` and `kreid.gallery.embed_to_file` write. A gallery is a folder with
the embeddings of one model; `add` and `import` make it. `search` answers "nobody" where no tracklet is nearer than the
model's threshold.

`index` makes an approximate index, for a gallery in which a search of all tracklets is too slow, and measures its
recall; searches without conditions then use it, but for `search --exact`.

`delete` also removes the embeddings' bytes from all files of the gallery, but for damaged ones: it names these and ends
with status 1, and `verify --drop` removes them. Each request is a line in the gallery's audit.jsonl.

`--address`, in place of the folder, lets `add`, `search`, `delete` and `stats` ask the gallery of a running server
(`kreid serve --gallery`); the other actions need the folder.

Exit status: 0 done, 1 a gallery is damaged or the server refused or cannot be reached, 2 wrong usage or input.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import math
import pathlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from kreid._files import printable
from kreid.gallery import parquet
from kreid.gallery.compressed_index import NEAREST
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Added, Gallery
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.lance_gallery import LanceGallery
from kreid.gallery.nearest import Match
from kreid.gallery.where import Where
from kreid.serving.client_options import add_client_options, check_no_client_options, tls_of
from kreid.serving.errors import ServingError
from kreid.serving.gallery_client import GalleryClient
from kreid.serving.gallery_client_core import GalleryStats

_ADDRESS = "--address"
# What a server does for its clients.
_SERVED = ("add", "search", "delete", "stats")


class _ActionParser(argparse.ArgumentParser):
    """A parser whose first argument, the folder, is left out where there is an address."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; see `argparse`."""
        names = [argument.partition("=")[0] for argument in args]
        served = any(len(name) > 2 and _ADDRESS.startswith(name) for name in names)
        found, left = super().parse_known_args(["", *args] if served else args, namespace)
        if served and left and not left[0].startswith("-"):
            self.error(f"with {_ADDRESS}, leave out the gallery's folder. Received: {printable(' '.join(left))!r}")
        return found, left


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    actions = parser.add_subparsers(
        title="actions", metavar="ACTION", dest="action", required=True, parser_class=_ActionParser
    )
    add = _action(actions, "add", "add tracklets of files of embeddings; a gallery that does not exist is made")
    add.add_argument("files", nargs="+", metavar="FILE", help="embeddings (.npz)")
    add.add_argument("--source", metavar="TEXT", help="source of these tracklets, such as the video's name")
    add.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="tag of these tracklets")
    add.add_argument("--unknown", action="store_true", help="leave out the persons of the files")
    _keep_days(add, "days to keep each tracklet, for a new gallery (any time)")

    search = _action(actions, "search", "find the nearest tracklets")
    search.add_argument("file", metavar="FILE", help="embeddings (.npz): its queries, or all if it names none")
    search.add_argument("--id", action="append", metavar="ID", help="search for this tracklet of the file")
    search.add_argument("--count", type=int, default=10, metavar="N", help="tracklets to find (%(default)s)")
    search.add_argument("--threshold", default="model", metavar="D", help="a distance, or none (the model's)")
    search.add_argument("--other-cameras", action="store_true", help="leave out the query's camera")
    search.add_argument("--by-person", action="store_true", help="find the nearest tracklet of each person")
    search.add_argument("--exact", action="store_true", help="compare all tracklets, also with an index")
    search.add_argument("--json", action="store_true", help="print JSON")
    _conditions(search, ids=False)

    delete = _action(actions, "delete", "delete tracklets, and remove their bytes from all files")
    _conditions(delete)

    _action(actions, "stats", "show the model and the numbers of tracklets and persons")

    listing = _action(actions, "list", "show the model and each person")
    listing.add_argument("--tracklets", action="store_true", help="show each tracklet")
    _conditions(listing)

    verify = _action(actions, "verify", "read everything, and name what is damaged")
    verify.add_argument("--drop", action="store_true", help="delete the tracklets that are damaged or lost")

    compact = _action(actions, "compact", "remove what was deleted or is past its days, and merge files")
    _keep_days(compact, "keep each tracklet this many days from now on; 0: any time")

    index = _action(actions, "index", "make an index for fast searches, or make it anew, and measure its recall")
    index.add_argument(
        "--recall", type=float, default=0.98, metavar="R", help="share of the 10 nearest to find (%(default)s)"
    )
    index.add_argument("--remove", action="store_true", help="remove the index: searches compare all tracklets again")

    export = _action(actions, "export", "write tracklets into a file")
    export.add_argument("file", metavar="FILE", help="all labels (.parquet), or embeddings for kreid.evaluation (.npz)")
    _conditions(export)

    imports = _action(actions, "import", "add the tracklets of an export; a gallery that does not exist is made")
    imports.add_argument("file", metavar="FILE", help="that `export` wrote (.parquet)")
    _keep_days(imports, "days to keep each tracklet, for a new gallery (any time)")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("gallery", metavar="GALLERY", help="the gallery's folder; left out with --address")
    parser.add_argument("--who", metavar="NAME", help="who asks, for the log (the user and the machine)")
    server = parser.add_argument_group("server")
    server.add_argument(_ADDRESS, metavar="HOST:PORT", help="a server that holds the gallery, in place of GALLERY")
    add_client_options(server)
    return parser


def _keep_days(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--keep-days", type=float, metavar="N", help=text)


def _conditions(parser: argparse.ArgumentParser, ids: bool = True) -> None:
    group = parser.add_argument_group("conditions", "A tracklet is chosen if all hold; an option may be repeated.")
    if ids:
        group.add_argument("--id", action="append", metavar="ID", help="the tracklet is this one")
    group.add_argument("--person", action="append", type=int, metavar="N", help="the person is this one; 0: unknown")
    group.add_argument("--camera", action="append", type=int, metavar="N", help="the camera is this one")
    group.add_argument("--not-camera", action="append", type=int, metavar="N", help="the camera is another one")
    group.add_argument("--since", metavar="TIME", help="the tracklet ends then or later: seconds, or ISO 8601")
    group.add_argument("--until", metavar="TIME", help="the tracklet begins before")
    group.add_argument("--from-source", action="append", metavar="TEXT", help="the source is this one")
    group.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="the tracklet has this tag")


def run(options: argparse.Namespace) -> int:
    """Carry out the action; return the exit status, as the module's text says."""
    try:
        _check_place(options)
        with _plain_warnings():
            return int(_ACTIONS[options.action](options))
    except (ValueError, OSError, ImportError) as error:
        print(f"kreid gallery: {error}", file=sys.stderr)
        return 2
    except ServingError as error:
        print(f"kreid gallery: {error}", file=sys.stderr)
        return 2 if error.code == "INVALID_ARGUMENT" else 1


def _check_place(options: argparse.Namespace) -> None:
    """Refuse what a server does not do, and its client's options where there is none."""
    if options.address is None:
        check_no_client_options(options)
    elif options.action not in _SERVED:
        raise ValueError(
            f"`kreid gallery {options.action}` needs the gallery's folder: run it on the server's machine (a server "
            f"does {', '.join(_SERVED)}). Received: address={options.address!r}"
        )
    elif options.who is not None:
        raise ValueError(
            f"The server's log names its clients itself, by address, certificate and token; leave out --who. Received: "
            f"who={options.who!r}"
        )
    elif getattr(options, "keep_days", None) is not None:
        raise ValueError(
            f"A server's gallery has its days to keep a tracklet already; leave out --keep-days. Received: "
            f"keep_days={options.keep_days}"
        )


def _add(options: argparse.Namespace) -> int:
    records = [TrackletEmbeddings.load(file) for file in options.files]
    tags = _tags(options.tag)
    model = GalleryModel.of(records[0])
    for record in records:  # Before anything is made or added.
        model.check(record)
    with _opened(options, model) as gallery:
        for file, record in zip(options.files, records, strict=True):
            changes: dict[str, Any] = {"tags": [{**own, **tags} for own in record.tags]}
            if options.source is not None:
                changes["sources"] = [options.source] * len(record)
            if options.unknown:
                changes["persons"] = [min(person, 0) for person in record.persons.tolist()]
            _print_added(file, gallery.add(dataclasses.replace(record, **changes)))
    return 0


def _search(options: argparse.Namespace) -> int:
    record = TrackletEmbeddings.load(options.file)
    if options.id is not None:
        missing = [name for name in options.id if name not in record.ids]
        if missing:
            raise ValueError(f"The file has no tracklet of this id. Received: id={missing[0]!r}")
        rows = [record.ids.tolist().index(name) for name in dict.fromkeys(options.id)]
    else:
        rows = record.query_rows.tolist() or list(range(len(record)))
    queries = record.take(rows)
    kind = {
        "where": _where(options, ids=False),
        "other_cameras": options.other_cameras,
        "by_person": options.by_person,
        "exact": options.exact,
    }
    with _opened(options) as gallery:
        found = gallery.search_many(queries, options.count, threshold=_threshold(options.threshold), **kind)
        recall = _recall(gallery, **kind)
    if recall is not None:
        print(f"By an index of recall {recall:.3f}; --exact compares all tracklets.", file=sys.stderr)
    names = queries.ids.tolist()
    if options.json:
        pairs = zip(names, found, strict=True)
        answers = [{"query": name, "matches": [_json(one) for one in own]} for name, own in pairs]
        print(json.dumps(answers, indent=2))
        return 0
    for name, matches in zip(names, found, strict=True):
        print(f"{name}: {'nobody' if not matches else ''}".rstrip())
        for rank, match in enumerate(matches, 1):
            print(f"  {rank:3}  {match.distance:.4f}  {_person(match.person)}, camera {match.camera}  {match.id}")
    return 0


def _delete(options: argparse.Namespace) -> int:
    where = _where(options)
    if not where:
        raise ValueError(
            "Give at least one condition; to delete everything, delete the gallery itself. Received: where={}"
        )
    with _opened(options) as gallery:
        if isinstance(gallery, GalleryClient):  # A damaged file is an error of the server.
            count, left, status = gallery.delete(where, compact=True), gallery.stats().tracklets, 0
        else:
            count = gallery.delete(where)
            gallery.compact()
            left, status = gallery.count(), 1 if gallery.damaged_files else 0
    print(f"{count} tracklets deleted, {left} left")
    return status


def _show_stats(options: argparse.Namespace) -> int:
    with _opened(options) as gallery:
        if not isinstance(gallery, GalleryClient):
            print(_about(gallery))
            return 0
        stats = gallery.stats()
    print(_about_served(stats))
    if stats.damaged_files:
        print(f"warning: Damaged files are left out. Received: files={list(stats.damaged_files)}", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace) -> int:
    gallery, where = LanceGallery.open(options.gallery, options.who), _where(options)
    if options.tracklets:
        record = gallery.read(where)
        print("id\tperson\tcamera\tstart\tend\tsource\ttags")
        columns = (record.ids, record.persons, record.cameras, record.starts, record.ends, record.sources)
        for *values, tags in zip(*(column.tolist() for column in columns), record.tags, strict=True):
            print(*values, " ".join(f"{name}={value}" for name, value in tags.items()), sep="\t")
        return 0
    print(_about(gallery))
    for person, count in gallery.persons(where).items():
        print(f"{_person(person)}: {count} tracklets")
    return 0


def _verify(options: argparse.Namespace) -> int:
    state = LanceGallery.open(options.gallery, options.who).verify(drop=options.drop)
    print(f"{state.intact} tracklets intact, {len(state.damaged)} damaged, {state.lost} lost")
    for name in state.damaged:
        print(f"damaged: {name}")
    for name in state.lost_ids:
        print(f"lost: {name}")
    for name in state.files:
        print(f"file: {name}")
    if not state.files:
        return 0
    if state.is_whole:  # The index alone is damaged.
        print("Make the index anew: kreid gallery index")
        return 0 if options.drop else 1
    if options.drop:
        print("The damaged and lost tracklets are deleted: add them again.")
        return 0
    print("--drop deletes the damaged and lost tracklets.")
    return 1


def _compact(options: argparse.Namespace) -> int:
    gallery = LanceGallery.open(options.gallery, options.who)
    if options.keep_days is not None:
        gallery.set_keep_days(options.keep_days or None)
    gallery.compact()
    print(_about(gallery))
    return 0


def _index(options: argparse.Namespace) -> int:
    gallery = LanceGallery.open(options.gallery, options.who)
    if options.remove:
        gallery.remove_index()
    else:
        gallery.make_index(options.recall)
    print(_about(gallery))
    return 0


def _export(options: argparse.Namespace) -> int:
    gallery, file = LanceGallery.open(options.gallery, options.who), pathlib.Path(options.file)
    if file.suffix == ".parquet":
        count = gallery.export_parquet(file, _where(options))
    elif file.suffix == ".npz":
        if not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"Make the folder of the file first. Received: path={options.file!r}")
        record = gallery.read(_where(options))
        record.save(file)
        count = len(record)
    else:
        raise ValueError(f"An export is a .parquet or .npz file. Received: file={options.file!r}")
    print(f"{count} tracklets written to {file}")
    return 0


def _import(options: argparse.Namespace) -> int:
    model, *_ = parquet.read(options.file)
    _print_added(options.file, _open_or_create(options, model).import_parquet(options.file))
    return 0


_ACTIONS = {
    "add": _add,
    "search": _search,
    "delete": _delete,
    "stats": _show_stats,
    "list": _list,
    "verify": _verify,
    "compact": _compact,
    "index": _index,
    "export": _export,
    "import": _import,
}


@contextlib.contextmanager
def _opened(options: argparse.Namespace, model: GalleryModel | None = None) -> Iterator[LanceGallery | GalleryClient]:
    """Give the gallery of a folder or of a server; with a model, a folder without one gets one."""
    if options.address is not None:
        with GalleryClient(
            options.address, options.timeout, tls=tls_of(options), token_file=options.token_file
        ) as client:
            yield client
    elif model is None:
        yield LanceGallery.open(options.gallery, options.who)
    else:
        yield _open_or_create(options, model)


def _open_or_create(options: argparse.Namespace, model: GalleryModel) -> LanceGallery:
    path = pathlib.Path(options.gallery)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return LanceGallery.create(path, model, options.keep_days, options.who)
    gallery = LanceGallery.open(path, options.who)
    if options.keep_days is not None and options.keep_days != gallery.keep_days:
        raise ValueError(
            f"`kreid gallery compact --keep-days` changes how long an existing gallery keeps tracklets. Received: "
            f"keep_days={options.keep_days}; the gallery has keep_days={gallery.keep_days}"
        )
    return gallery


def _where(options: argparse.Namespace, ids: bool = True) -> Where:
    return Where(
        ids=options.id if ids else None,
        persons=options.person,
        cameras=options.camera,
        not_cameras=options.not_camera,
        since=_seconds(options.since, "since"),
        until=_seconds(options.until, "until"),
        sources=options.from_source,
        tags=_tags(options.tag) or None,
    )


def _tags(pairs: Sequence[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise ValueError(f"Give a tag as NAME=VALUE. Received: tag={pair!r}")
        if tags.setdefault(name, value) != value:
            raise ValueError(f"A tracklet has one value of a tag. Received: tag={pair!r} after {name}={tags[name]}")
    return tags


def _seconds(text: str | None, name: str) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(
            f"A time is a number of seconds, or a date and time such as 2026-11-20T08:00+00:00. Received: "
            f"{name}={text!r}"
        ) from None


def _threshold(text: str) -> Any:
    if text in ("model", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"A threshold is a distance, model or none. Received: threshold={text!r}") from None


def _json(match: Match) -> dict[str, Any]:
    """Return a match with null for unknown times, which JSON has no number for, and tags in one order."""
    values = match._replace(tags=dict(sorted(match.tags.items())))._asdict()
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def _person(person: int) -> str:
    return f"person {person}" if person else "unknown person"


def _about(gallery: Gallery) -> str:
    persons = gallery.persons()
    unknown = persons.pop(0, 0)
    searches = "exact"
    if index := gallery.index:
        searches = (
            f"{_by_index(index.recall)} (target {index.target:g}), which compares {index.compared} of "
            f"{index.tracklets} tracklets"
        )
    tracklets = sum(persons.values()) + unknown
    return _description(gallery.model, tracklets, unknown, len(persons), gallery.keep_days, searches)


def _about_served(stats: GalleryStats) -> str:
    searches = "exact" if stats.recall is None else _by_index(stats.recall)
    about = _description(stats.model, stats.tracklets, stats.unknown, stats.persons, stats.keep_days, searches)
    takes = "embeddings and images" if stats.takes_images else "embeddings"
    return f"{about}\nserver: takes {takes}{' to search for, and changes nothing' if stats.read_only else ''}"


def _description(
    model: GalleryModel, tracklets: int, unknown: int, persons: int, keep_days: float | None, searches: str
) -> str:
    return (
        f"{tracklets} tracklets: {unknown} of unknown persons, {tracklets - unknown} of {persons} persons\n"
        f"model: {' '.join(filter(None, (model.system, model.version))) or 'unknown'}, fingerprint "
        f"{model.fingerprint[:12] or 'unknown'}, dimension {model.dimension}, metric {model.metric}, threshold "
        f"{'none' if model.threshold is None else f'{model.threshold:.4g}'}\n"
        f"kept: {'any time' if keep_days is None else f'{keep_days:g} days'}\n"
        f"searches: {searches}"
    )


def _by_index(recall: float) -> str:
    return f"without conditions by an index of recall {recall:.3f} of the {NEAREST} nearest"


def _recall(gallery: LanceGallery | GalleryClient, **kind: Any) -> float | None:
    """Return the recall of the index that a search uses, `None` if it compares all tracklets."""
    if isinstance(gallery, GalleryClient):
        return None if any(kind.values()) else gallery.stats().recall
    index = gallery.index_for(**kind)
    return None if index is None else index.recall


def _print_added(file: str, added: Added) -> None:
    print(f"{file}: {added.added} tracklets added, {added.unchanged} there already, {added.junk} junk left out")


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings, which name damaged files, without the place in the code."""
    with warnings.catch_warnings(action="always", category=UserWarning):
        warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "kreid gallery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
