"""The data set of a recipe's settings, and whether a run on it can be scored."""

from collections import defaultdict

from kreid.data.readers import LAYOUTS, read_images, read_mars
from kreid.data.tracklet import DISTRACTOR, ReidDataset
from kreid.training.config import Config


def load_dataset(config: Config) -> ReidDataset:
    """Read the data set that a `Config` names: a benchmark, the rendered set, or folders of single images.

    Args:
        config: a `kreid.training.Config`.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: see the readers.
    """
    if config.data == "images":
        return read_images(config.image_dirs)
    if config.data == "synthetic":
        return read_mars(config.data_dir)
    layout = LAYOUTS[config.data]
    chosen = {name: getattr(config, name) for name in layout.options if getattr(config, name) is not None}
    return layout.read(config.data_dir, **chosen)


def check_scorable(dataset: ReidDataset | None, max_damaged: float = 0.05) -> None:
    """Look before training whether a data set's test tracklets can be scored, and whether its frames are there.

    Under each protocol, at least one query needs its person in the gallery, seen by another camera. A data set without
    test tracklets is trained on without scores.

    Args:
        dataset: a `ReidDataset`, or `None`, which passes.
        max_damaged: share of missing frames above which training is refused.

    Raises:
        ValueError: naming the reason and the fix.
    """
    if dataset is None:
        return
    missing, there = len(dataset.missing), sum(map(len, (*dataset.train, *dataset.test)))
    if missing > max_damaged * (missing + there):
        raise ValueError(
            f"{missing} of the {missing + there} frames that {dataset.name} names are missing, such as "
            f"{dataset.missing[0]}, more than the {max_damaged:.1%} allowed: unpack the data set again, or raise "
            f"max_damaged. Received: max_damaged={max_damaged!r}"
        )
    if not dataset.test:
        return
    if not dataset.query_rows:
        raise ValueError(
            f"{dataset.name} has test tracklets but no query, so nothing can be scored: name queries, or remove the "
            f"test tracklets to train without scores. Received: {len(dataset.test)} test tracklets, 0 queries"
        )
    cameras = defaultdict(set)
    for tracklet in dataset.gallery("without_queries"):
        cameras[tracklet.person].add(tracklet.camera)
    if not any(query.person > DISTRACTOR and cameras[query.person] - {query.camera} for query in dataset.queries):
        everywhere = {tracklet.camera for tracklet in dataset.test}
        raise ValueError(
            f"No query of {dataset.name} has its person in the gallery in another camera, so nothing can be scored: "
            "add gallery tracklets of other cameras, or remove the test tracklets to train without scores. "
            f"Received: {len(dataset.query_rows)} queries, {len(everywhere)} cameras in query and gallery"
        )
