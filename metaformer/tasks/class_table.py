"""The table "class by class" of a report: each class with its color, how much of it there is, its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from ..render.page import rendered

WHOLE = 40
"""Classes up to which the table is open on the page."""


def class_table(heads: Sequence[str], lines: Sequence[dict[str, Any]]) -> Markup:
    """``lines``: ``name`` and ``color`` of the class, ``amount``, ``values`` under ``heads[1:]``, the first value's
    ``share`` as a bar, and ``line``: the points of a small curve, or None."""
    context = {
        "heads": heads,
        "rows": lines,
        "folded": len(lines) > WHOLE,
        "has_lines": any(line["line"] for line in lines),
    }
    return rendered("metaformer.render", "class_table.html.j2", context)
