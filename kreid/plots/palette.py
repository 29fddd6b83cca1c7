"""The colours of pictures, charts and pages.

Most are Okabe and Ito's, which colour-blind readers can distinguish. Each colour is CSS hexadecimal text; `rgb` returns
its numbers.
"""

import re

# The matches of a ranked list. Captions state them in words too.
SAME_PERSON, OTHER_PERSON, UNCOUNTED, QUERY = "#008c46", "#c8321e", "#8c8c8c", "#1e50b4"

# From dark to light, so that the order is visible without colours.
HEAT = ("#140b52", "#7a1c6d", "#d6483e", "#f99d26", "#fff5aa")

# Lines of a chart: the colour on a light background, the colour on a dark background, and the dashes.
SERIES = (
    ("#0072b2", "#56b4e9", "none"),
    ("#c04a00", "#ff9a4d", "7 4"),
    ("#007a58", "#35cfa0", "2 4"),
    ("#a2487d", "#e9a6ca", "9 3 2 3"),
    ("#8a6a00", "#f0c040", "4 2"),
    ("#555555", "#bbbbbb", "1 3"),
)

# Persons of an embedding map, without yellow, which is hard to see on white.
PERSONS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_LIGHT = {"same": SAME_PERSON, "other": OTHER_PERSON, "uncounted": UNCOUNTED, "query": QUERY}
_DARK = {"same": "#2eb872", "other": "#f06a4f", "query": "#7aa5f5"}


def rgb(colour: str) -> tuple[int, int, int]:
    """Return the three numbers of a colour.

    Args:
        colour: text such as `"#1e50b4"`.

    Returns:
        Red, green and blue from 0 to 255.

    Raises:
        ValueError: if the text is not a hexadecimal colour of six digits.

    Example:

    >>> rgb("#1e50b4")
    (30, 80, 180)
    """
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
        raise ValueError(f"`colour` must be # and six hexadecimal digits. Received: colour={colour!r}")
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def css_variables() -> str:
    """Return style rules with these colours, for pages on a light or dark background.

    They define `--same`, `--other`, `--uncounted`, `--query`, `--heat` (stops of a gradient) and `--series-1` to
    `--series-6`, and the colour and dashes of the classes `series-1` to `series-6`.

    Returns:
        CSS as text.

    Example:

    >>> "--query: #1e50b4;" in css_variables()
    True
    """
    light = _LIGHT | {f"series-{number}": colour for number, (colour, _, _) in enumerate(SERIES, 1)}
    light["heat"] = ", ".join(HEAT)
    dark = _DARK | {f"series-{number}": colour for number, (_, colour, _) in enumerate(SERIES, 1)}
    lines = [
        f":root {{ {_declared(light)} }}",
        f"@media (prefers-color-scheme: dark) {{ :root {{ {_declared(dark)} }} }}",
        *(
            f".series-{number} {{ stroke: var(--series-{number}); stroke-dasharray: {dashes}; }}"
            for number, (_, _, dashes) in enumerate(SERIES, 1)
        ),
    ]
    return "\n".join(lines)


def _declared(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
