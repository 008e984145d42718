"""Names of one layout to names of another, by the tables of ``layouts.py``.

In: names. Out: a dictionary from each to its counterpart. No tensor is touched here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

from ..errors import WeightsError
from .layouts import FINAL_NORM, FINAL_NORM_PLACES, LAYOUTS, NAMES, Layout
from .split_tensors import PART_MARK, whole_name

Rule = tuple[re.Pattern[str], str]
"""A pattern of names, and the template of their counterparts."""


def our_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """Our name for each of theirs, or that of a part of our tensor; a name that no rule matches is kept."""
    spelled = _with_stages(list(names)) if layout.running_number else {name: name for name in names}
    rules = [(_pattern(theirs), ours) for theirs, ours in layout.pairs]
    return {name: next(_renamed(spelling, rules), name) for name, spelling in spelled.items()}


def their_names(layout: Layout, names: Iterable[str]) -> dict[str, str]:
    """The inverse of ``our_names``: how a layout names our tensors, or the parts in which it stores them.

    Raises:
        WeightsError: a tensor that the layout has no name for.
    """
    ours = {name: _without_norm_place(name) for name in names}
    if layout.name == "metaformer":
        return {name: name for name in ours}
    rules = _rules_to(layout, ours)
    unknown = [name for name, placeless in ours.items() if not any(_renamed(placeless, rules))]
    if unknown:
        raise WeightsError(
            f"the layout {layout.name!r} has no name for {', '.join(unknown[:3])}: it is for another kind of model"
        )
    renamed = {part: theirs for name, placeless in ours.items() for part, theirs in _parts(name, placeless, rules)}
    return _with_running_numbers(renamed) if layout.running_number else renamed


def layout_for(name: str, names: Iterable[str]) -> Layout:
    """The layout of that name which fits our tensors best; several kinds of model can have layouts of one name.

    ``official`` stands for any layout of the authors, timm's where the authors use timm's model.
    """
    known = list(names)
    official = ("timm", *(other for other in NAMES if other.startswith("official")))
    candidates = [layout for layout in LAYOUTS if layout.name in (official if name == "official" else (name,))]
    return min(candidates, key=lambda layout: _misfit(layout, known))


def _misfit(layout: Layout, names: list[str]) -> tuple[int, bool]:
    """How many of our tensors a layout has no name for, and whether none of its own names would have its mark."""
    if layout.name == "metaformer":
        return 0, False
    rules = _rules_to(layout, names)
    renamed = {name: next(_renamed(_without_norm_place(name), rules), None) for name in names}
    found = {name: whole_name(theirs) for name, theirs in renamed.items() if theirs is not None}
    theirs = _with_running_numbers(found) if layout.running_number else found
    return len(names) - len(found), not any(re.match(layout.mark, name) for name in theirs.values())


def _rules_to(layout: Layout, ours: Iterable[str]) -> list[Rule]:
    """The rules from our names to theirs; the part that a name of ours ends with moves to the template of theirs."""
    linear = not any(name.startswith("head.hidden.") for name in ours)
    pairs = (layout.linear_pairs if linear else None) or layout.pairs
    split = [(theirs, *ours.partition(PART_MARK)) for theirs, ours in pairs]
    return [(_pattern(ours), theirs + mark + part) for theirs, ours, mark, part in split]


def _parts(name: str, placeless: str, rules: list[Rule]) -> Iterable[tuple[str, str]]:
    """Our name and theirs; for a tensor that they store in parts the two names of each part."""
    found = [theirs.partition(PART_MARK) for theirs in _renamed(placeless, rules)]
    if not found[0][1]:
        return [(name, found[0][0])]
    parts: dict[str, str] = {}
    for theirs, mark, part in found:
        parts.setdefault(name + mark + part, theirs)  # a part may match several rules: the first decides
    return parts.items()


def _without_norm_place(name: str) -> str:
    """The final norm under the name that the tables have for it, wherever the model has it."""
    for place in FINAL_NORM_PLACES:
        if name.startswith(place):
            return FINAL_NORM + name.removeprefix(place)
    return name


_HOLES = {"i": r"(?P<i>\d+)", "i+1": r"(?P<next>\d+)", "j": r"(?P<j>\d+)", "part": r"(?P<part>\w+?)"}


@cache
def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\*", r"(?P<leaf>[a-z_]+)")
    for hole, expression in _HOLES.items():
        escaped = escaped.replace(re.escape(f"{{{hole}}}"), expression)
    return re.compile(escaped)


def _renamed(name: str, rules: Iterable[Rule]) -> Iterator[str]:
    """The counterpart of a name by each rule that matches, in their order."""
    return (_filled(template, match) for pattern, template in rules if (match := pattern.fullmatch(name)))


def _filled(template: str, match: re.Match[str]) -> str:
    values = match.groupdict()
    # a template is filled by name, and "i+1" is such a name: whichever side counts from 1, both are at hand
    if "next" in values:
        values["i"] = str(int(values.pop("next")) - 1)
    if "i" in values:
        values["i+1"] = str(int(values["i"]) + 1)
    return template.replace("*", values.pop("leaf", "*")).format(**values)


# --- the running number of the first paper's code ---------------------------------------------------------------
# There ``network`` is one list of stages, downsamplings and position tables. The tables of names call its entries
# ``stage2``, ``down2`` and ``position2``, because a position table shifts every number behind it.

_NUMBERED = re.compile(r"(?P<front>(?:backbone\.)?network\.)(?P<n>\d+)\.(?P<rest>.+)")
_STAGED = re.compile(r"(?P<front>(?:backbone\.)?network\.)(?P<kind>down|position|stage)(?P<i>\d+)\.(?P<rest>.+)")
_KINDS = ("down", "position", "stage")
"""In the order in which they stand in the list."""


def _with_stages(names: list[str]) -> dict[str, str]:
    """``network.5.proj.weight`` as ``network.down3.proj.weight``; the stage is the number of downsamplings so far."""
    matches = {name: match for name in names if (match := _NUMBERED.fullmatch(name))}
    kinds = {int(match["n"]): _kind(match["rest"]) for match in matches.values()}
    stage, place = 0, {}
    for number in sorted(kinds):
        stage += kinds[number] == "down"
        place[number] = f"{kinds[number]}{stage}"
    staged = {name: f"{match['front']}{place[int(match['n'])]}.{match['rest']}" for name, match in matches.items()}
    return {name: staged.get(name, name) for name in names}


def _kind(rest: str) -> str:
    return "down" if rest.startswith("proj.") else "position" if rest == "pos_embed" else "stage"


def _with_running_numbers(names: dict[str, str]) -> dict[str, str]:
    """The inverse of ``_with_stages``, for the values of a dictionary."""
    matches = {name: match for name, theirs in names.items() if (match := _STAGED.fullmatch(theirs))}
    place = {name: (int(match["i"]), _KINDS.index(match["kind"])) for name, match in matches.items()}
    number = {at: n for n, at in enumerate(sorted(set(place.values())))}
    numbered = {name: f"{match['front']}{number[place[name]]}.{match['rest']}" for name, match in matches.items()}
    return names | numbered
