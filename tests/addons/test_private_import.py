"""Importing a package's modules in private, with packages written for the test."""

import sys

import pytest

from kreid.addons.private_import import PrivateImport

FILES = {
    "__init__.py": "raise RuntimeError('the package itself is not imported')",
    "shapes/__init__.py": "from oddpack.shapes.square import area\nfrom . import circle\nfrom ..sizes import UNIT",
    "shapes/square.py": "import oddpack.sizes\nfrom missing.engine import FACTOR\n\n\ndef area(side):\n"
    "    from oddpack import sizes\n\n    return side * side * sizes.UNIT * FACTOR",
    "shapes/circle.py": "import os.path\nfrom math import pi\n\nNAME = os.path.basename('a/circle')",
    "sizes.py": "UNIT = 2",
    "broken.py": "import oddpack.sizes\n1 / 0",
}


class Engine:
    FACTOR = 5


@pytest.fixture
def private(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return PrivateImport("oddpack", tmp_path, {"missing.engine": Engine})


def test_modules_find_each_other_and_nobody_else_finds_them(private):
    before = set(sys.modules)
    shapes = private.module("oddpack.shapes")
    assert shapes.area(3) == 90  # Imports inside functions, too.
    assert shapes.circle.NAME == "circle"
    assert shapes.UNIT == 2
    assert shapes is private.module("oddpack.shapes")
    assert not [name for name in set(sys.modules) - before if name.startswith(("oddpack", "missing"))]
    with pytest.raises(ModuleNotFoundError, match="oddpack"):
        import oddpack  # noqa: F401


def test_a_module_that_fails_is_tried_again(private):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            private.module("oddpack.broken")
    with pytest.raises(ModuleNotFoundError, match=r"oddpack\.absent"):
        private.module("oddpack.absent")
