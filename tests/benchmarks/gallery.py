"""Compare galleries with FAISS's exact index: adding, memory, disk, searches with and without a filter or an index.

    pip install faiss-cpu
    python tests/benchmarks/gallery.py [--sizes 10000 100000 1000000] [--queries 50] [--rounds 5] [--faiss FOLDER]

Embeddings of 512 values, in clusters of some 25 tracklets, as persons are. Target: a search of 50 nearest takes at most
1.3 times FAISS's, one by one and together; by an index it takes a tenth of an exact one, and finds 0.98 of the 10
nearest of new queries (the gallery's own figure is of stored ones).

All sides take turns, in one process, and each is searched once before. FAISS keeps neither labels nor files; the rows
with a filter and by person have no counterpart there. `--faiss` names a folder of packages that has FAISS, such as the
`site-packages` of another environment. A million tracklets need 13 GiB of memory.
"""

import argparse
import functools
import gc
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np

from kreid.gallery import GalleryModel, LanceGallery, MemoryGallery, TrackletEmbeddings
from kreid.gallery.compressed_index import recall_of

FEATURES, CAMERAS, NEAREST, PART, READERS = 512, 10, 50, 10_000, 4
# Everything in memory, as FAISS has it; the default keeps 1 GiB and reads the rest at each search.
CACHE_BYTES = 8 << 30
WHERE = {"cameras": [1, 2], "since": 20000.0, "until": 60000.0}


def record(count, prefix, centres, seed, first=0):
    """Return tracklets around the centres of persons."""
    random = np.random.default_rng((seed, first))
    persons = random.integers(1, len(centres) + 1, count)
    vectors = random.standard_normal((count, FEATURES), dtype=np.float32)
    vectors *= 0.5
    vectors += centres[persons - 1]
    starts = random.uniform(0, 86400, count)
    return TrackletEmbeddings(
        vectors,
        [f"{prefix}{number:07}" for number in range(first, first + count)],
        persons,
        random.integers(0, CAMERAS, count),
        starts=starts,
        ends=starts + 10,
    )


def parts(count, centres):
    """Yield the stored tracklets, the same in each call."""
    for first in range(0, count, PART):
        yield record(min(PART, count - first), "t", centres, 1, first)


def seconds(function):
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def resident_bytes():
    """Return the memory of this process."""
    gc.collect()
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def compare(title, sides, rounds, calls=1, base="FAISS flat"):
    """Print each function's median seconds of a call, and the ratio to one of them if it is there."""
    times = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, function in sides.items():
            taken = seconds(function)
            if round_number:  # The first is a warm-up.
                times[name].append(taken / calls)
    for name, taken in times.items():
        median = statistics.median(taken)
        ratio = ""
        if base in times:
            ratio = f"   ratio {statistics.median(a / b for a, b in zip(taken, times[base], strict=True)):.2f}"
        print(f"  {title:28s} {name:14s} {1000 * median:10.3f} ms{ratio}", flush=True)


def filled(name, add, count, centres):
    """Add all tracklets, and print how fast and in how much memory."""
    before, taken = resident_bytes(), 0.0
    for part in parts(count, centres):
        taken += seconds(lambda part=part: add(part))
    del part
    grown = (resident_bytes() - before) / (4 * FEATURES * count)
    print(f"  {'add, parts of ' + str(PART):28s} {name:14s} {count / taken:10.0f} tracklets/s")
    return grown


def read(path, asked, rounds, barrier, results):
    """Search a gallery in a process that reads, when all are ready; give its searches per second and its memory."""
    gallery = LanceGallery.open(path, cache_bytes=CACHE_BYTES)
    alone = [asked.take([row]) for row in range(len(asked))]
    gallery.search(alone[0], NEAREST, threshold=None)
    barrier.wait()
    taken = seconds(lambda: [gallery.search(one, NEAREST, threshold=None) for _ in range(rounds) for one in alone])
    results.put((rounds * len(alone) / taken, resident_bytes()))


def readers(path, asked, rounds):
    """Print the searches per second of one process, and of several at once."""
    context = multiprocessing.get_context("spawn")
    rates = {}
    for number in (1, READERS):
        barrier, results = context.Barrier(number), context.Queue()
        processes = [context.Process(target=read, args=(path, asked, rounds, barrier, results)) for _ in range(number)]
        for process in processes:
            process.start()
        found = [results.get() for _ in processes]
        for process in processes:
            process.join()
        rates[number] = sum(rate for rate, _ in found)
        memory = max(size for _, size in found) / 2**20
        print(
            f"  {f'{number} reading processes':28s} {'LanceGallery':14s} {rates[number]:10.1f} searches/s   "
            f"ratio {rates[number] / rates[1]:.2f}, {memory:.0f} MiB each",
            flush=True,
        )


def by_index(gallery, path, asked, rounds, flat):
    """Print the figures of an approximate index, and remove it."""
    disk = gallery_bytes(path)
    taken = seconds(gallery.make_index)
    index, name = gallery.index, "LanceGallery"
    print(f"  {'make an index':28s} {name:14s} {taken:10.1f} s")
    print(f"  {'its size':28s} {name:14s} {(gallery_bytes(path) - disk) / disk:10.3f} of the gallery's bytes")
    print(
        f"  {'its recall@10, as measured':28s} {name:14s} {index.recall:10.3f}, {index.compared} compared", flush=True
    )
    alone = [asked.take([row]) for row in range(len(asked))]

    def found(exact):
        return [gallery.search(query, NEAREST, threshold=None, exact=exact) for query in alone]

    recall = recall_of([own[:10] for own in found(False)], [own[:10] for own in found(True)])
    print(f"  {'its recall@10, new queries':28s} {name:14s} {recall:10.3f}")
    sides = {"exact": functools.partial(found, True), "by the index": functools.partial(found, False)}
    if flat is not None:
        sides["FAISS flat"] = flat
    compare("search, each", sides, rounds, len(asked), "exact")
    together = {
        "exact": lambda: gallery.search_many(asked, NEAREST, threshold=None, exact=True),
        "by the index": lambda: gallery.search_many(asked, NEAREST, threshold=None),
    }
    compare("search together, each", together, rounds, len(asked), "exact")
    gallery.remove_index()


def gallery_bytes(path):
    """Return the bytes of a gallery's files."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def check(gallery, asked, found):
    """Raise unless a gallery finds the tracklets that FAISS finds."""
    for matches, rows in zip(gallery.search_many(asked, NEAREST, threshold=None), found.tolist(), strict=True):
        shared = {match.id for match in matches} & {f"t{row:07}" for row in rows}
        if len(shared) < len(matches) - 1:  # float32 may swap the last two.
            raise SystemExit(f"FAISS finds other tracklets than {type(gallery).__name__}: {len(shared)} are the same")


def measure(count, queries, rounds, folder, faiss):
    """Print all figures of one size."""
    centres = np.random.default_rng(0).standard_normal((max(1, count // 25), FEATURES), dtype=np.float32)
    asked = record(queries, "q", centres, 2)
    model, path = GalleryModel.of(asked), folder / f"{count}"
    print(f"{count} tracklets, {queries} queries")
    galleries = {"LanceGallery": LanceGallery.create(path, model, cache_bytes=CACHE_BYTES)}
    galleries["MemoryGallery"] = MemoryGallery(model)
    memory = {}
    for name, gallery in galleries.items():
        grown = filled(name, gallery.add, count, centres)
        before = resident_bytes()
        first = seconds(lambda gallery=gallery: gallery.search(asked.take([0]), NEAREST, threshold=None))
        print(f"  {'first search':28s} {name:14s} {1000 * first:10.3f} ms")
        memory[name] = grown + (resident_bytes() - before) / (4 * FEATURES * count)
    alone = [asked.take([row]) for row in range(queries)]
    one, several, filtered, by_person = {}, {}, {}, {}

    def each(gallery, **options):
        return lambda: [gallery.search(query, NEAREST, threshold=None, **options) for query in alone]

    for name, gallery in galleries.items():
        one[name], filtered[name] = each(gallery), each(gallery, where=WHERE)
        by_person[name] = each(gallery, by_person=True)
        several[name] = lambda gallery=gallery: gallery.search_many(asked, NEAREST, threshold=None)
    if faiss is not None:
        index = faiss.IndexFlatL2(FEATURES)
        memory["FAISS flat"] = filled("FAISS flat", lambda part: index.add(part.embeddings), count, centres)
        one["FAISS flat"] = lambda: [index.search(query.embeddings, NEAREST) for query in alone]
        several["FAISS flat"] = lambda: index.search(asked.embeddings, NEAREST)
        for gallery in galleries.values():
            check(gallery, asked, index.search(asked.embeddings, NEAREST)[1])
    for name, ratio in memory.items():
        print(f"  {'memory':28s} {name:14s} {ratio:10.3f} of the embeddings' bytes")
    disk = gallery_bytes(path) / (4 * FEATURES * count)
    print(f"  {'disk':28s} {'LanceGallery':14s} {disk:10.3f} of the embeddings' bytes")
    compare("search, each", one, rounds, queries)
    compare("search together, each", several, rounds, queries)
    compare("search with a filter, each", filtered, rounds, queries)
    compare("search by person, each", by_person, rounds, queries)
    if faiss is not None:
        by_index(galleries["LanceGallery"], path, asked, rounds, one["FAISS flat"])
    galleries.clear()
    for sides in (one, several, filtered, by_person):
        sides.clear()
    del gallery
    if faiss is not None:
        index.reset()
    readers(path, asked, rounds)


def main():
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="tracklets in the gallery")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faiss", help="folder of packages that has FAISS")
    options = parser.parse_args()
    # Last, so that its other packages are not taken.
    sys.path += [options.faiss] if options.faiss else []
    try:
        import faiss
    except ImportError:
        faiss = None
        print("without FAISS, and without an index: pip install faiss-cpu, or name its folder by --faiss")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.sizes:
            measure(count, options.queries, options.rounds, pathlib.Path(folder), faiss)


if __name__ == "__main__":
    main()
