"""Find the recipes' files: in `recipes/` of the checkout, or in the installed package."""

import difflib
import os
import pathlib

_SINGULAR = {"systems": "system", "data": "data", "overlays": "overlay", "tables": "table"}


def recipe_folder() -> pathlib.Path:
    """Return the folder of the recipes' YAML files: `systems/`, `data/`, `overlays/` and `tables/`.

    Returns:
        `kreid/recipes` of an installed package, else `recipes` of the checkout.

    Raises:
        FileNotFoundError: if neither exists.

    Example:

    >>> (kreid.training.recipe_folder() / "systems" / "sta.yaml").is_file()
    True
    """
    package = pathlib.Path(__file__).resolve().parents[1]
    folders = (package / "recipes", package.parent / "recipes")
    for folder in folders:
        if (folder / "systems").is_dir():
            return folder
    raise FileNotFoundError(
        f"The recipes' settings are missing: install kreid again, or run it from a whole checkout. "
        f"Received: folder={str(folders[0])!r}"
    )


def recipe_file(kind: str, name: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Return the path of a recipe's YAML file, given by name or, for overlays and tables, by path.

    A word without a folder and an ending, such as `small`, is a name; all other texts are paths.

    Args:
        kind: `"systems"`, `"data"`, `"overlays"` or `"tables"`.
        name: the file's name without its ending, or a path.
        folder: the folder of the recipes, `None` for `recipe_folder()`.

    Returns:
        A path. A path that was given need not exist.

    Raises:
        ValueError: if the name is unknown; the error has the nearest known name.

    Example:

    >>> kreid.training.recipe_file("overlays", "small").name
    'small.yaml'
    """
    path = pathlib.Path(name)
    if kind in ("overlays", "tables") and (path.suffix or len(path.parts) != 1):
        return path
    files = pathlib.Path(folder or recipe_folder()) / kind
    names = sorted(file.stem for file in files.glob("*.yaml"))
    if str(name) not in names:
        near = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        word = _SINGULAR[kind]
        raise ValueError(
            f"Unknown {word}; {files} has {', '.join(names) or 'none'}.{hint} Received: {word}={str(name)!r}"
        )
    return files / f"{name}.yaml"
