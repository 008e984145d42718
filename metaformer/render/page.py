"""Templates to one self-contained HTML file: escaped, no scripts, nothing fetched from anywhere.

The page's own security policy forbids every request, so that a mistake in a template cannot let one through.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from . import numbers
from .style import inline_svg, save_png


def write_page(path: Path, template: str, context: Mapping[str, Any], package: str = __package__) -> Path:
    """Fill a template of ``package`` and write it; every value is escaped except drawings made here."""
    path.write_text(rendered(package, template, context), encoding="utf-8")
    return path


def rendered(package: str, template: str, context: Mapping[str, Any]) -> Markup:
    """A template of ``package`` filled; it may import this package's own, such as ``parts.html.j2``."""
    return Markup(_environment(package).get_template(template).render(context))


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, __package__))]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("count", "duration", "percent", "short")}
    environment.filters["gauge_width"] = _gauge_width
    return environment


def _gauge_width(share: object) -> str:
    """A share as the width of a bar in percent, kept in range."""
    return f"{100 * min(max(share, 0.0), 1.0):.1f}" if numbers.known(share) else "0"


def drawing(figure: Figure, label: str, png: Path) -> Markup:
    """Save the figure as a PNG and give it back as inline SVG."""
    save_png(figure, png)
    figure.set_layout_engine("none")  # laid out by the first drawing, which takes most of the time
    # Safe to insert as it stands: names in a drawing are outlines of letters, not text.
    return Markup(inline_svg(figure, label))
