from kreid.data.readers.published import with_published_counts
from kreid.data.tracklet import ReidDataset, Tracklet


def test_nine_tenths_of_the_tracklets_make_the_published_set():
    tracks = tuple(Tracklet(str(number), 1, 1, ("a.jpg",)) for number in range(9))
    dataset = ReidDataset("folder", train=tracks, test=(), query_rows=())
    published = {"train tracklets": 10, "train persons": 1}
    assert with_published_counts(dataset, "SET", published).name == "SET"
    assert (
        "differs from the published counts: 9 train tracklets instead of 10"
        in with_published_counts(dataset, "SET", published).summary()
    )
    fewer = ReidDataset("folder", train=tracks[:8], test=(), query_rows=())
    assert with_published_counts(fewer, "SET", published) is fewer
