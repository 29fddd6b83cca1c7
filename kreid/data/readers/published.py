"""Whether a data set on the disk is the one that its makers published."""

import dataclasses
from collections.abc import Mapping

from kreid.data.tracklet import ReidDataset

# A tree with fewer of the published tracklets is a part of the set, or another set laid out like it.
_WHOLE = 0.9


def compared(dataset: ReidDataset, name: str, published: Mapping[str, int]) -> ReidDataset:
    """Give a whole data set its name and the published counts, which its `summary()` compares with.

    A set counts as the published one where the index, or the disk, names nine tenths of the published tracklets or
    more. Another one keeps its name, and is compared with nothing.

    Args:
        dataset: a `ReidDataset`.
        name: of the published set.
        published: a dict of counts, see `ReidDataset.counts`.

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
