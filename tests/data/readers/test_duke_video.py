import pytest

from kreid.data.readers import layout_of, read_duke_video, read_folder

# Folder: camera, kind, frames; numbered with gaps, as the published tracklets are.
TREE = {
    "train/0001/0001": (1, "X", (99, 105)),
    "train/0001/0002": (2, "X", (7,)),
    "train/0003/0003": (8, "X", (1, 2, 11)),
    "query/0002/0001": (6, "X", (99, 101)),
    "query/0004/0002": (5, "X", (3,)),
    "gallery/0002/0001": (6, "X", (99, 101)),  # the query again
    "gallery/0002/0003": (2, "X", (45, 46)),
    "gallery/0004/0002": (5, "X", (3, 4)),  # of the query's name, but another
    "gallery/0009/0004": (1, "D", (5,)),
}


def make_tree(root, name):
    for place, (camera, kind, frames) in TREE.items():
        (root / place).mkdir(parents=True)
        person = place.split("/")[1]
        for frame in frames:
            (root / place / name.format(person=person, camera=camera, frame=frame, kind=kind)).touch()
    return root


NEW = "{person}_C{camera}_F{frame:04d}_{kind}30823.jpg"
OLD = "{person}C{camera}F{frame:04d}{kind}30823.jpg"


@pytest.fixture(params=[NEW, OLD], ids=["new names", "old names"])
def root(tmp_path, request):
    return make_tree(tmp_path, request.param)


def described(tracklets):
    return [(tracklet.person, tracklet.camera, len(tracklet)) for tracklet in tracklets]


def test_the_published_layout(root):
    dataset = read_duke_video(root)
    assert described(dataset.train) == [(1, 1, 2), (1, 2, 1), (3, 8, 3)]
    assert described(dataset.queries) == [(2, 6, 2), (4, 5, 1)]
    # The gallery's copy of a query is read once, as the query.
    assert described(dataset.gallery()) == [(2, 2, 2), (4, 5, 2), (0, 1, 1)]
    assert dataset.counts()["distractors"] == 1
    assert dataset.train[2].id == "train/0003/0003"
    names = [path.rsplit("/", 1)[1] for path in dataset.train[2].frames]
    assert names == sorted(names)
    assert len({tracklet.id for tracklet in dataset.train + dataset.test}) == 8
    assert (dataset.name, dataset.published) == (root.name, {})


def test_an_empty_folder_is_named(root):
    (root / "gallery/0004/0008").mkdir()
    assert read_duke_video(root).empty == ("gallery/0004/0008",)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_a_folder_missing(root, split):
    (root / split).rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=rf"there is no `{split}` folder; .*\. Received: root="):
        read_duke_video(root)
    (root / split).mkdir()
    with pytest.raises(FileNotFoundError, match=rf"No image was found as {split}/PPPP/TTTT"):
        read_duke_video(root)


@pytest.mark.parametrize("name", ["0001_F0100_X1.jpg", "0003_C1_F0100_X1.jpg", "frame.jpg"])
def test_a_name_that_says_something_else(root, name):
    (root / "train/0001/0001" / name).touch()
    with pytest.raises(ValueError, match=rf"Frames of person 0001 must be named .*unpack.* Received: '.*{name}'"):
        read_duke_video(root)


@pytest.mark.parametrize("name", ["0001_C3_F0200_X1.jpg", "0001_C1_F0200_D1.jpg"])
def test_a_tracklet_of_two_cameras_or_kinds(root, name):
    (root / "train/0001/0001" / name).touch()
    with pytest.raises(ValueError, match=r"of one camera, and all X or all D; .* next to"):
        read_duke_video(root)


def test_the_folder_above_and_another_letter_case(root, tmp_path_factory):
    expected = [described(part) for part in (read_duke_video(root).train, read_duke_video(root).test)]
    above = tmp_path_factory.mktemp("above")
    (root / "train").rename(root / "Train")
    (root / "query").rename(root / "aside")
    (root / "query").mkdir()
    (root / "aside").rename(root / "query/query")
    root.rename(above / "DukeMTMC-VideoReID")
    dataset = read_duke_video(above)
    assert [described(dataset.train), described(dataset.test)] == expected
    assert layout_of(above) == "duke_video"


def test_it_is_not_read_as_a_folder_of_splits(root):
    with pytest.raises(ValueError, match=r"DukeMTMC-VideoReID: give its root to `read_dataset`"):
        read_folder(root)


def test_a_distractor_as_a_query(root):
    (path,) = (root / "query/0004/0002").iterdir()
    path.rename(path.with_name(path.name.replace("X", "D")))
    with pytest.raises(ValueError, match="Distractors and junk match no tracklet"):
        read_duke_video(root)
