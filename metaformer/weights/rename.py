"""Names of one layout to names of another, by the tables of ``layouts.py``.

In: names. Out: a dictionary from each to its counterpart. No tensor is touched here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

from ..errors import WeightsError
from .layouts import FINAL_NORM, FINAL_NORM_PLACES, LAYOUTS, NAMES, Layout
from .split_tensors import PIECE, whole_name

Row = tuple[re.Pattern[str], str]


def our_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """Our name for each of theirs, or that of a piece of ours; a name that no row knows stays as it is."""
    spelled = _staged(list(names)) if layout.running_number else {name: name for name in names}
    rows = [(_pattern(theirs), ours) for theirs, ours in layout.pairs]
    return {name: next(_renamed(spelling, rows), name) for name, spelling in spelled.items()}


def their_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """The inverse of ``our_names``: how a layout calls our tensors, or the pieces that it stores of them.

    Raises:
        WeightsError: a tensor that the layout has no name for.
    """
    ours = {name: _neutral(name) for name in names}
    if layout.name == "metaformer":
        return {name: name for name in ours}
    rows = _rows_to(layout, ours)
    homeless = [name for name, neutral in ours.items() if not any(_renamed(neutral, rows))]
    if homeless:
        raise WeightsError(
            f"the layout {layout.name!r} has no name for {', '.join(homeless[:3])}: it is another model's"
        )
    renamed = {piece: there for name, neutral in ours.items() for piece, there in _named(name, neutral, rows)}
    return _numbered(renamed) if layout.running_number else renamed


def layout_for(name: str, names: Iterable[str]) -> Layout:
    """The layout of a name (``official`` is any of the authors', or timm's where theirs is that) for our tensors.

    Raises:
        WeightsError: none has a name for each tensor; the message is of the one that lacks the fewest.
    """
    known = list(names)
    authors = ("timm", *(other for other in NAMES if other.startswith("official")))
    meant = authors if name == "official" else (name,)
    candidates = [layout for layout in LAYOUTS if layout.name in meant]
    return min(candidates, key=lambda layout: _strangeness(layout, known))


def _strangeness(layout: Layout, names: list[str]) -> tuple[int, bool]:
    """How many of our tensors a layout has no name for, and whether its mark would be missing from the others."""
    if layout.name == "metaformer":
        return 0, False
    rows = _rows_to(layout, names)
    found = {name: there for name in names if (there := next(_renamed(_neutral(name), rows), None)) is not None}
    found = {name: whole_name(there) for name, there in found.items()}
    theirs = _numbered(found) if layout.running_number else found
    return len(names) - len(found), not any(re.match(layout.mark, name) for name in theirs.values())


def _rows_to(layout: Layout, ours: Iterable[str]) -> list[Row]:
    """The table from our names to theirs."""
    linear = not any(name.startswith("head.hidden.") for name in ours)
    table = (layout.linear_pairs if linear else None) or layout.pairs
    split = [(left, *right.partition(PIECE)) for left, right in table]
    return [(_pattern(right), left + sign + part) for left, right, sign, part in split]


def _named(name: str, neutral: str, rows: list[Row]) -> Iterable[tuple[str, str]]:
    """Our name and theirs; for a tensor that they store in pieces the names of each, the first row of each deciding."""
    found = [there.partition(PIECE) for there in _renamed(neutral, rows)]
    if not found[0][1]:
        return [(name, found[0][0])]
    pieces: dict[str, str] = {}
    for there, sign, part in found:
        pieces.setdefault(name + sign + part, there)
    return pieces.items()


def _neutral(name: str) -> str:
    for place in FINAL_NORM_PLACES:
        if name.startswith(place):
            return FINAL_NORM + name.removeprefix(place)
    return name


_HOLES: Mapping[str, str] = {"i": r"(?P<i>\d+)", "i+1": r"(?P<next>\d+)", "j": r"(?P<j>\d+)", "part": r"(?P<part>\w+?)"}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\*", r"(?P<leaf>[a-z_]+)")
    for hole, expression in _HOLES.items():
        escaped = escaped.replace(re.escape(f"{{{hole}}}"), expression)
    return re.compile(escaped)


def _renamed(name: str, rows: Iterable[Row]) -> Iterator[str]:
    """The name by each row that matches, the first row's first."""
    return (_filled(template, match) for pattern, template in rows if (match := pattern.fullmatch(name)))


def _filled(template: str, match: re.Match[str]) -> str:
    values = match.groupdict()
    if "next" in values:
        values["i"] = str(int(values.pop("next")) - 1)
    if "i" in values:
        values["i+1"] = str(int(values["i"]) + 1)
    return template.replace("*", values.pop("leaf", "*")).format(**values)


# --- the running number of the first paper's code ---------------------------------------------------------------

_NUMBERED = re.compile(r"(?P<front>(?:backbone\.)?network\.)(?P<n>\d+)\.(?P<rest>.+)")
_STAGED = re.compile(r"(?P<front>(?:backbone\.)?network\.)(?P<kind>down|position|stage)(?P<i>\d+)\.(?P<rest>.+)")
_KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("down", lambda rest: rest.startswith("proj.")),
    ("position", lambda rest: rest == "pos_embed"),
    ("stage", lambda rest: True),
)


def _staged(names: list[str]) -> dict[str, str]:
    """``network.5.proj.weight`` as ``network.down3.proj.weight``: a position table shifts every later number, so the
    stage is found by counting the downsamplings on the way."""
    matches = {name: match for name in names if (match := _NUMBERED.fullmatch(name))}
    kinds = {int(m["n"]): _kind(m["rest"]) for m in matches.values()}
    stage, place = 0, {}
    for number in sorted(kinds):
        stage += kinds[number] == "down"
        place[number] = f"{kinds[number]}{stage}"
    return {
        name: f"{m['front']}{place[int(m['n'])]}.{m['rest']}" if (m := matches.get(name)) else name for name in names
    }


def _kind(rest: str) -> str:
    return next(kind for kind, fits in _KINDS if fits(rest))


def _numbered(names: dict[str, str]) -> dict[str, str]:
    """The inverse of ``_staged``."""
    order = [kind for kind, _ in _KINDS]
    matches = {name: match for name, there in names.items() if (match := _STAGED.fullmatch(there))}
    places = sorted({(int(m["i"]), order.index(m["kind"])) for m in matches.values()})
    number = {place: n for n, place in enumerate(places)}
    return {
        name: f"{m['front']}{number[int(m['i']), order.index(m['kind'])]}.{m['rest']}"
        if (m := matches.get(name))
        else there
        for name, there in names.items()
    }
