"""Recognise a published data set by its size."""

import dataclasses
from collections.abc import Mapping

from kreid.data.tracklet import ReidDataset

# With a smaller share of the published tracklets, a tree is a part of the set or another set in its layout.
_WHOLE = 0.9


def with_published_counts(dataset: ReidDataset, name: str, published: Mapping[str, int]) -> ReidDataset:
    """Add the published name and counts to a whole data set, so that its `summary()` compares with them.

    A data set is whole if the index or the disk has at least nine tenths of the published tracklets. A smaller one is
    returned unchanged.

    Args:
        dataset: a `ReidDataset`.
        name: of the published set.
        published: dict of counts, see `ReidDataset.counts`.

    Returns:
        A `ReidDataset`.
    """
    tracklets = sum(count for name_of_count, count in published.items() if name_of_count.endswith("tracklets"))
    if _num_tracklets(dataset) < _WHOLE * tracklets:
        return dataset
    return dataclasses.replace(dataset, name=name, published=dict(published))


def _num_tracklets(dataset: ReidDataset) -> int:
    inner = _num_tracklets(dataset.validation) if dataset.validation else 0
    return len(dataset.train) + len(dataset.test) + len(dataset.empty) + inner
