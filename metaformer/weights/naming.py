"""Names of one layout to names of another, by the tables in ``layouts.py``.

In: names. Out: a dictionary from each to its counterpart. No tensor is touched here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache

from ..errors import WeightsError
from .layouts import FINAL_NORM, FINAL_NORM_PLACES, Layout


def our_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """Our name for each of theirs; a name that no row knows stays as it is."""
    spelled = _staged(list(names)) if layout.running_number else {name: name for name in names}
    rows = [(_pattern(theirs), ours) for theirs, ours in layout.pairs]
    return {name: _renamed(spelling, rows) or name for name, spelling in spelled.items()}


def their_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """The inverse of ``our_names``: how a layout calls our tensors.

    Raises:
        WeightsError: a tensor that the layout has no name for.
    """
    ours = {name: _neutral(name) for name in names}
    if layout.name == "metaformer":
        return {name: name for name in ours}
    linear = not any(name.startswith("head.hidden.") for name in ours)
    table = (layout.linear_pairs if linear else None) or layout.pairs
    rows = [(_pattern(right), left) for left, right in table]
    found = {name: _renamed(neutral, rows) for name, neutral in ours.items()}
    homeless = [name for name, there in found.items() if there is None]
    if homeless:
        raise WeightsError(
            f"the layout {layout.name!r} has no name for {', '.join(homeless[:3])}: it is another model's"
        )
    renamed = {name: there or "" for name, there in found.items()}
    return _numbered(renamed) if layout.running_number else renamed


def _neutral(name: str) -> str:
    for place in FINAL_NORM_PLACES:
        if name.startswith(place):
            return FINAL_NORM + name.removeprefix(place)
    return name


_HOLES: Mapping[str, str] = {"i": r"\d+", "j": r"\d+", "part": r"\w+?"}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\*", r"(?P<leaf>[a-z_]+)")
    for hole, expression in _HOLES.items():
        escaped = escaped.replace(rf"\{{{hole}\}}", f"(?P<{hole}>{expression})")
    return re.compile(escaped)


def _renamed(name: str, rows: Iterable[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, template in rows:
        match = pattern.fullmatch(name)
        if match is not None:
            return _filled(template, match)
    return None


def _filled(template: str, match: re.Match[str]) -> str:
    values = match.groupdict()
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
