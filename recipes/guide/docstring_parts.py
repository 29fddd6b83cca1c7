"""A Griffe extension: the parts of kreid's docstrings that Google's style does not know, as Markdown."""

import re
from typing import Any

import griffe

# A paragraph that begins with a prompt: in Markdown, `>>>` means nested quotations.
_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
# A title with its text, and the indented lines after it.
_SHAPES = re.compile(r"^(Masking|Input shape|Output shape|Reference): (.*(?:\n(?!\s*$).*)*)", re.MULTILINE)
_ARGUMENTS = re.compile(r"^Call arguments:\n((?:[ ]+.*\n?)+)", re.MULTILINE)


def as_markdown(text: str) -> str:
    """Return a docstring with fences around examples, a list of call arguments, and paragraphs for the other parts."""
    text = _EXAMPLE.sub(lambda example: f"```pycon\n{example[0]}\n```", text)
    # A paragraph of two of them, such as the shapes, becomes two.
    text = re.sub(r"\n(?=Output shape: )", "\n\n", text)
    text = _SHAPES.sub(lambda part: f"**{part[1]}:** {' '.join(part[2].split())}", text)
    return _ARGUMENTS.sub(lambda part: f"**Call arguments:**\n\n{_items(part[1])}\n", text)


def _items(lines: str) -> str:
    """Return indented lines `name: text`, with deeper lines that continue them, as items of a list."""
    indent = len(lines) - len(lines.lstrip())
    items: list[str] = []
    for line in lines.splitlines():
        if line[indent : indent + 1] != " ":
            name, _, meaning = line.strip().partition(": ")
            items.append(f"- **`{name}`** \N{EN DASH} {meaning}")
        else:
            items[-1] += f" {line.strip()}"
    return "\n".join(items)


class DocstringParts(griffe.Extension):
    """Rewrites the docstrings of all objects."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
