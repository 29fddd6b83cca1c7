"""What the reference makes of kreid's docstrings."""

import importlib.util

import pytest

TEXT = """Average frames.

Masking: masked frames have weight 0,
whatever they hold.

Call arguments:
    inputs: maps, of
        any size.
    mask: optional.

Input shape: maps `(batch, h)`;
    mask `(batch,)`.
Output shape: scalar.

Example:

>>> 1 + 1
2
"""


def test_parts_become_markdown(repository):
    pytest.importorskip("griffe", reason="griffe comes with the pages: make docs")
    spec = importlib.util.spec_from_file_location("parts", repository / "recipes" / "guide" / "docstring_parts.py")
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    assert parts.as_markdown(TEXT).split("\n\n") == [
        "Average frames.",
        "**Masking:** masked frames have weight 0, whatever they hold.",
        "**Call arguments:**",
        "- **`inputs`** \N{EN DASH} maps, of any size.\n- **`mask`** \N{EN DASH} optional.",
        "**Input shape:** maps `(batch, h)`; mask `(batch,)`.",
        "**Output shape:** scalar.",
        "Example:",
        "```pycon\n>>> 1 + 1\n2\n```\n",
    ]
