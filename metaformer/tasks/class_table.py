"""The table of classes in a report: each class with its color, its frequency and its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ..render.page import rendered

OPEN_UP_TO = 40
"""The number of classes up to which the table is not folded."""


def class_table(heads: Sequence[str], lines: Sequence[dict[str, Any]]) -> Markup:
    """The table as HTML.

    Each of ``lines`` has ``name`` and ``color`` of the class, ``amount``, ``values`` for ``heads[1:]``, the first value
    as ``share`` for a bar, and ``line``, the points of a small curve or None.
    """
    context = {
        "heads": heads,
        "rows": lines,
        "folded": len(lines) > OPEN_UP_TO,
        "has_lines": any(line["line"] for line in lines),
    }
    return rendered("metaformer.render", "class_table.html.j2", context)
