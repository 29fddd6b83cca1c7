"""Folders of a recipe's phases. Complete runs are in tests/recipes."""

from kreid.training import Config, phase_folders, split_folder


def test_image_phases_are_shared_by_the_splits(tmp_path):
    phases = {
        "images": Config("rtf", data="images", split=4, image_dirs=["here"]),
        "target": Config("rtf", split=4),
        "video": Config("rtf", split=4),
    }
    own = split_folder(tmp_path, 4)
    images, target, video = phase_folders(phases, own, tmp_path)
    assert (images.path, images.config.split) == (tmp_path / "phases/images", None)
    assert (target.path, target.config.split) == (own / "phases/target", 4)
    assert (video.path, video.config.init) == (own, str(target.model))
    assert target.config.init == str(images.model)
    assert phase_folders(phases, own)[0].path == own / "phases/images"
