"""Tables of names as text: the templates of another library beside ours. ``layouts.py`` says how templates are read.

A line ``theirs = ours`` is a row; names without ``=`` are the same on both sides. Where our name ends with a dot, both
names of the row stand in front of the names in the lines that are indented below it::

    block{i+1}.{j}. = backbone.stages.{i}.blocks.{j}.
        norm1.* norm2.*
        attn.q.* = mixer.q.*
"""

from __future__ import annotations

Pairs = tuple[tuple[str, str], ...]
"""Templates, theirs and ours."""


def table(text: str) -> Pairs:
    """The rows of a table, from top to bottom."""
    rows: list[tuple[str, str]] = []
    fronts: list[tuple[int, str, str]] = [(-1, "", "")]
    for line in filter(str.strip, text.splitlines()):
        indent = len(line) - len(line.lstrip())
        while fronts[-1][0] >= indent:
            fronts.pop()
        _, theirs, ours = fronts[-1]
        left, equals, right = line.partition("=")
        for pair in [(left.strip(), right.strip())] if equals else [(name, name) for name in line.split()]:
            row = (theirs + pair[0], ours + pair[1])
            if row[1].endswith("."):
                fronts.append((indent, *row))
            else:
                rows.append(row)
    return tuple(rows)
