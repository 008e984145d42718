"""Templates to one self-contained HTML file: escaped, without scripts or external files.

The page's content security policy forbids all requests, so that a mistake in a template cannot cause one.
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
    """Fill a template of ``package`` and write it; all values are escaped except ``Markup``."""
    path.write_text(rendered(package, template, context), encoding="utf-8")
    return path


def rendered(package: str, template: str, context: Mapping[str, Any]) -> Markup:
    """A filled template of ``package``; it may import templates of this package, such as ``parts.html.j2``."""
    return Markup(_environment(package).get_template(template).render(context))


@cache  # compiles each template once
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in dict.fromkeys((package, __package__))]),
        autoescape=True,
        undefined=StrictUndefined,  # a misspelled name in a template is an error and not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(numbers, name) for name in ("count", "duration", "percent", "short")}
    environment.filters["gauge_width"] = _gauge_width
    return environment


def _gauge_width(share: object) -> str:
    """A share as the width of a bar in percent, limited to 0 to 100."""
    return f"{100 * min(max(share, 0.0), 1.0):.1f}" if numbers.known(share) else "0"


def drawing(figure: Figure, label: str, png: Path) -> Markup:
    """Save the figure as a PNG and return it as inline SVG."""
    save_png(figure, png)
    figure.set_layout_engine("none")  # the PNG has computed the layout already, which takes most of the time
    # safe without escaping: letters in the SVG are outlines, so a class name cannot bring markup
    return Markup(inline_svg(figure, label))
