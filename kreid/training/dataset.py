"""The data set of a recipe's settings, and whether a run on it can be scored."""

from collections import defaultdict

from kreid.data.readers import LAYOUTS, read_images, read_mars
from kreid.data.tracklet import DISTRACTOR, ReidDataset
from kreid.training.config import Config


def load_dataset(config: Config) -> ReidDataset:
    """Read the data set of a `Config`: a benchmark, the synthetic set, or folders of single images.

    Args:
        config: a `kreid.training.Config`.

    Returns:
        A `ReidDataset`.

    Raises:
        FileNotFoundError: if the data set does not exist.
        ValueError: see the readers.
    """
    if config.data == "images":
        return read_images(config.image_dirs)
    if config.data == "synthetic":
        return read_mars(config.data_dir)
    layout = LAYOUTS[config.data]
    options = {name: getattr(config, name) for name in layout.options if getattr(config, name) is not None}
    return layout.read(config.data_dir, **options)


def check_scorable(dataset: ReidDataset | None, max_damaged: float = 0.05) -> None:
    """Raise before training if a data set's test tracklets cannot be scored, or too many of its frames are missing.

    At least one query needs a match in the gallery: its person in another camera. A data set without test tracklets is
    trained on without scores.

    Args:
        dataset: a `ReidDataset`, or `None`, which passes.
        max_damaged: share of missing frames above which the data set is refused.

    Raises:
        ValueError: if no query has a match, or too many frames are missing.
    """
    if dataset is None:
        return
    missing, existing = len(dataset.missing), sum(map(len, (*dataset.train, *dataset.test)))
    if missing > max_damaged * (missing + existing):
        raise ValueError(
            f"{missing} of the {missing + existing} frames that {dataset.name} names are missing, such as "
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
        num_cameras = len({tracklet.camera for tracklet in dataset.test})
        raise ValueError(
            f"No query of {dataset.name} has its person in the gallery in another camera, so nothing can be scored: "
            "add gallery tracklets of other cameras, or remove the test tracklets to train without scores. "
            f"Received: {len(dataset.query_rows)} queries, {num_cameras} cameras in query and gallery"
        )
