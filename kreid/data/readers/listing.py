"""Images and folders on the disk, in an order that does not depend on the file system."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from kreid.data.names import natural
from kreid.data.tracklet import Tracklet

IMAGES = (".jpg", ".jpeg", ".png")

# Folders and files that file servers and operating systems add to the data, in lower case.
_SYSTEM_FOLDERS = {
    *("@eadir", "#recycle", "#snapshot", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "__macosx"),
    *("$recycle.bin", "system volume information", "lost+found", "~snapshot", "recycler", "network trash folder"),
    *("temporary items", "thevolumesettingsfolder", "__pycache__"),
}
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}

# A folder with more subfolders is a data set or a disk, not a folder into which a data set was unpacked.
_MOST_SUBFOLDERS = 30

_Result = TypeVar("_Result")


class Listing(NamedTuple):
    """The content of a folder in natural order, without hidden and system entries.

    Args:
        images: paths of the JPEG and PNG files.
        others: paths of the other files, which kreid does not read.
        folders: paths of the folders.
    """

    images: tuple[str, ...]
    others: tuple[str, ...]
    folders: tuple[Path, ...]


def list_folder(folder: str | os.PathLike[str]) -> Listing:
    """List a folder without its hidden entries and those of file servers and operating systems, such as `@eaDir`.

    Args:
        folder: path.

    Returns:
        A `Listing`.

    Example:

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> for name in ("10.jpg", "2.jpg", "notes.txt", "Thumbs.db"):
    ...     (root / name).touch()
    >>> [Path(path).name for path in list_folder(root).images]
    ['2.jpg', '10.jpg']
    """
    images: list[str] = []
    others: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            else:
                (images if entry.name.lower().endswith(IMAGES) else others).append(entry.name)
    return Listing(
        tuple(f"{folder}/{name}" for name in sorted(images, key=natural)),
        tuple(f"{folder}/{name}" for name in sorted(others, key=natural)),
        tuple(Path(folder, name) for name in sorted(folders, key=natural)),
    )


def image_files(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """List the JPEG and PNG files of a folder in natural order (`2.jpg` before `10.jpg`); see `list_folder`."""
    return list_folder(folder).images


def subfolders(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """List the folders of a folder in natural order; see `list_folder`."""
    return list_folder(folder).folders


def is_system_name(name: str) -> bool:
    """Return whether a file or folder is hidden or belongs to a file server or operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES


def inside(folder: Path, *names: str) -> Path | None:
    """Find a folder or file below another one, in any letter case and unpacked a level too deep.

    Args:
        folder: where to begin.
        *names: of the folders on the way, then of the folder or file itself.

    Returns:
        Its path on the disk, or `None`. If a folder holds only a folder of the same name, as when an archive is
        unpacked a level too deep, the inner folder is returned.

    Example:

    >>> import tempfile
    >>> root = Path(tempfile.mkdtemp())
    >>> (root / "Train/train/anna").mkdir(parents=True)
    >>> inside(root, "train").relative_to(root).as_posix()
    'Train/train'
    """
    for name in names:
        entry = _entry(folder, name)
        if entry is None:
            return None
        while entry.is_dir() and (inner := _entry(entry, name)) is not None and inner.is_dir():
            if any(not is_system_name(other) for other in os.listdir(entry) if other != inner.name):
                break
            entry = inner
        folder = entry
    return folder


def find_below(root: Path, find: Callable[[Path], _Result | None], levels: int = 2) -> _Result | None:
    """Search a folder, then its subfolders, of which only one may have a result.

    Args:
        root: the folder.
        find: function from a folder to a result, or to `None`.
        levels: int, levels of subfolders to search.

    Returns:
        The result of `find`, or `None`.

    Raises:
        FileNotFoundError: if several subfolders have a result.
    """
    result = find(root)
    if result is not None or not levels or not root.is_dir():
        return result
    folders = subfolders(root)
    below = {folder: find_below(folder, find, levels - 1) for folder in folders if len(folders) <= _MOST_SUBFOLDERS}
    holding = [folder for folder, result in below.items() if result is not None]
    if len(holding) > 1:
        raise FileNotFoundError(
            f"Several data sets are in this folder; choose one of {', '.join(folder.name for folder in holding[:5])}. "
            f"Received: root={str(root)!r}"
        )
    return below[holding[0]] if holding else None


class LostFiles(NamedTuple):
    """Files that are not at the path in the index.

    Args:
        moved: path in the index to path on the disk, for files in another place or letter case.
        missing: paths in the index without a file.
        others: files with other extensions in the folders of the frames.
    """

    moved: dict[str, str]
    missing: set[str]
    others: tuple[str, ...]


def look_up(tracklets: Sequence[Tracklet], top: Path) -> LostFiles:
    """Look up the frames of tracklets on the disk; each folder is listed once.

    If a folder of frames is missing, its frames are looked up by name everywhere below `top`: the set may be unpacked
    a level too deep, or without the persons' folders.

    Args:
        tracklets: with the paths of the frames in the index.
        top: folder below which all frames are.

    Returns:
        A `LostFiles`.
    """
    contents: dict[str, dict[str, str]] = {}
    absent: set[str] = set()
    moved, missing = {}, []
    others: list[str] = []
    for tracklet in tracklets:
        for path in tracklet.frames:
            folder, name = path.rsplit("/", 1)
            if folder not in contents:
                names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
                contents[folder] = {each.lower(): each for each in names} | {each: each for each in names}
                if not os.path.isdir(folder):
                    absent.add(folder)
                unread = (each for each in names if not each.lower().endswith(IMAGES))
                others += [f"{folder}/{each}" for each in unread if not is_system_name(each)]
            actual = contents[folder].get(name) or contents[folder].get(name.lower())
            if actual is None:
                missing.append(path)
            elif actual != name:
                moved[path] = f"{folder}/{actual}"
    if absent and top.is_dir():
        elsewhere = {os.path.basename(path).lower(): path for path in reversed(list(walk_images(top)))}
        for path in missing:
            if path.rsplit("/", 1)[0] in absent and (actual := elsewhere.get(os.path.basename(path).lower())):
                moved[path] = actual
    return LostFiles(moved, set(missing) - set(moved), tuple(others))


def walk_images(top: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the sorted paths of all images below a folder; linked folders are not followed."""
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if not is_system_name(name))
        for name in sorted(files):
            if name.lower().endswith(IMAGES) and not is_system_name(name):
                yield f"{folder}/{name}"


def contents_of(folder: Path, limit: int = 5) -> str:
    """Describe a folder's content, for messages."""
    if not folder.is_dir():
        return f"{folder.name}/ is missing"
    names = sorted((name for name in os.listdir(folder) if not is_system_name(name)), key=natural)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{folder.name}/ holds {', '.join(names[:limit]) or 'nothing'}{more}"


def below(root: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths relative to a root."""
    return tuple(path.removeprefix(f"{root}/") for path in paths)


def _entry(folder: Path, name: str) -> Path | None:
    """Return a folder's entry of this name, or the only one that differs just in letter case."""
    if (folder / name).exists():
        return folder / name
    try:
        alike = [entry for entry in os.listdir(folder) if entry.lower() == name.lower()]
    except OSError:
        return None
    return folder / alike[0] if len(alike) == 1 else None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link that leads to itself.
        return False
