"""A plan: one base run and named changes to it. Records in, the models and recipes of a sweep out. No torch here.

A change says what is different and nothing else, as data, so that a plan can be Python or YAML, and a finished sweep
can be compared with the plan it is resumed with. "MetaFormer Is Actually What You Need for Vision", table 5, is one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

from ..errors import InputError, RunError, SpecError, did_you_mean
from ..recipe import ModelConfig, Recipe
from ..records import Record, merged
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec, ModelSpec, StageSpec, TimmSpec
from ..types import Grid
from ..zoo.catalogue import find

SMALL_SIDE = 64
"""Images up to this side are trained at their own size, and by narrow models."""
LEAST_GRID = 2
"""Tokens on a side that a downsampling leaves at least; below that there is nothing for a mixer to mix."""
USUAL_MODEL = "poolformer_s12"
LONGEST_NAME = 80
"""Letters of a row's name, which is a folder's."""


def slug(name: str) -> str:
    """A name as a folder's: ``Pool size 5`` → ``pool-size-5``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class _PlanRecord(Record):
    error: ClassVar[type[InputError]] = RunError


OF_ALL_ROWS = {
    "model": "a row's model is changed by model, mixers, stages, stage, head and network",
    "data": "all rows see the same images; the plan's recipe or --data says which",
    "seed": "every row is trained with the seeds 0, 1, ...; --seeds says how many",
}
"""Rooms of the recipe that no single row changes, and why."""
OF_THE_PLAN = {
    "pretrained": "rows that differ in their parts cannot start from the same weights",
    "weights": "rows that differ in their parts cannot start from the same weights",
    "mixers": "the plan says which mixers are compared; say it as base.change or as a row",
}
"""Fields of a recipe's model that a plan has no use for, and why."""


@dataclass(frozen=True, kw_only=True)
class Change(_PlanRecord):
    """One row of the table: its name and what it changes in the base run."""

    name: str
    """Its name in the table."""
    group: str = "change"
    """Rows of one group stand together."""
    about: str = ""
    """What it asks, in one line."""
    published: float | None = None
    """Top-1 in percent that the plan's source prints for it."""
    model: str | None = None
    """Another row of the zoo as the frame, in place of the base's."""
    mixers: Any = None
    """Other token mixers: one for all stages or a list with one for each; in Python also a class of your own."""
    stages: Mapping[str, Any] = field(default_factory=dict)
    """Fields of every stage, such as ``{"norm": {"kind": "batch"}}`` or ``{"mlp": None}``."""
    stage: Mapping[Any, Mapping[str, Any]] = field(default_factory=dict)
    """The same for single stages by their number; the first is 1."""
    head: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the head."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model as a whole, such as ``{"drop_path_rate": 0.1}``."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the recipe, such as ``{"optimizer": {"lr": 0.002}}``."""

    def check(self) -> None:
        """A name that can be a folder's, stages by their numbers, and nothing of the recipe that all rows share."""
        _expect_name(self)
        for key, fields in self.stage.items():
            self.expect(str(key).isdecimal() and int(key) >= 1, "stage", "numbers of stages from 1 on", key)
            self.expect(isinstance(fields, Mapping), f"stage.{key}", "fields such as {'position': true}", fields)
        for room in self.recipe:
            if room in OF_ALL_ROWS:
                raise RunError(f"recipe.{room}: {OF_ALL_ROWS[room]}")

    def applied(self, spec: AnySpec) -> AnySpec:
        """The model with this change in it.

        Raises:
            SpecError: a field that does not exist or a value that does not fit.
        """
        if isinstance(spec, TimmSpec):
            if self.stages or self.stage or self.head or self.network:
                raise SpecError(f"{spec.architecture} is timm's CNN: it has no parts that could be changed")
            return spec if self.mixers is None else spec.with_mixers(self.mixers)
        stages = list(spec.stages)
        for number in self.stage:
            if int(number) > len(stages):
                raise SpecError(f"stage: expected a number from 1 to {len(stages)}, got {number}")
        for i, stage in enumerate(stages):
            own = next((fields for number, fields in self.stage.items() if int(number) == i + 1), {})
            stages[i] = _with_fields(stage, merged(self.stages, own), f"stages[{i}]")
        spec = spec.with_changes(stages=tuple(stages))
        if self.head:
            spec = spec.with_changes(head=spec.head.updated(self.head, "head"))
        if self.mixers is not None:
            spec = spec.with_mixers(self.mixers)
        return _with_network(spec, self.network)


def _expect_name(row: Change | Base) -> None:
    """A folder is called after it."""
    row.expect(bool(slug(row.name)), "name", "letters from a to z or digits in it", row.name)
    row.expect(len(row.name) <= LONGEST_NAME, "name", f"at most {LONGEST_NAME} letters", row.name)


def _with_fields(stage: StageSpec, fields: Mapping[str, Any], path: str) -> StageSpec:
    """A stage with some of its fields replaced, inner ones one by one; its mixer may be a Python object."""
    if not fields:
        return stage
    if "mixer" in fields:
        raise SpecError(f"{path}.mixer: say it as mixers, one for all stages or one for each")
    plain = stage.with_changes(mixer=MixerSpec(name="identity"))
    return plain.updated(fields, path).with_changes(mixer=stage.mixer)


def _with_network(spec: ModelSpec, fields: Mapping[str, Any]) -> ModelSpec:
    allowed = ("img_size", "drop_path_rate", "drop_path_rule", "init")
    current = spec.with_current_names(fields)
    for key in current:
        if key not in allowed:
            raise SpecError(f"network.{key}: no such field. {did_you_mean(str(key), allowed)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in current.items()}
    return spec.with_changes(**values)


SMALL_WIDTH = 0.25
AWAKE = Change(name="LayerScale 0.1", stages={"residual": {"layer_scale": 0.1}})


@dataclass(frozen=True, kw_only=True)
class Base(_PlanRecord):
    """The run that every change is made to."""

    name: str = "base"
    """Its name in the table."""
    model: str | None = None
    """A row of the zoo; ``poolformer_s12`` where there is no ``spec`` either."""
    spec: ModelSpec | None = None
    """A model of your own in its place; width, stem and grids are fitted like a row's."""
    width: float = 1.0
    """Factor on all widths, the number of attention heads staying as it is."""
    stem_stride: int | None = None
    """Step of the first convolution; left out, small images get one that leaves about 8 tokens a side."""
    group: str = "base"
    """Its group in the table."""
    about: str = ""
    """What it is, in one line."""
    published: float | None = None
    """Top-1 in percent that the plan's source prints for it."""
    change: Change | None = None
    """What is different from the row of the zoo already in the base."""

    def check(self) -> None:
        """A name that can be a folder's, one model, and a width and a stride that are possible."""
        _expect_name(self)
        one = self.model is None or self.spec is None
        self.expect(one, "model", "a row of the zoo or a spec of your own, not both", self.model)
        self.expect(0 < self.width < inf, "width", "a positive factor", self.width)
        self.expect(self.stem_stride is None or self.stem_stride >= 1, "stem_stride", "at least 1", self.stem_stride)
        if self.change is not None and (self.change.model or self.change.recipe):
            raise RunError("change: the base's own model and recipe are said as base.model and as the plan's recipe")

    def for_images(self, side: int) -> Base:
        """The same where a training takes minutes, as it does on images of up to ``SMALL_SIDE`` pixels.

        There the widths are a quarter, and LayerScale begins at 0.1, as in ResMLP-S12: PoolFormer's 1e-5 keeps the
        blocks shut for most of so short a training, and without any, pooling minus its input wipes out the map in the
        first blocks. Larger images get the base as it is.
        """
        if side > SMALL_SIDE:
            return self
        return self.with_changes(width=SMALL_WIDTH, change=AWAKE)

    @property
    def frame(self) -> AnySpec:
        """The whole model it starts from, as published.

        Raises:
            InputError: no such row in the zoo.
        """
        return find(self.model or USUAL_MODEL).spec if self.spec is None else self.spec


@dataclass(frozen=True, kw_only=True)
class Plan(_PlanRecord):
    """A base run and the changes to it, under one recipe."""

    name: str
    """A word; part of the folder's name."""
    title: str = ""
    """The report's heading."""
    question: str = ""
    """What it asks, in a sentence or two."""
    source: str = ""
    """Where the published figures are from."""
    base: Base = Base()
    """What is changed."""
    recipe: Recipe = field(default_factory=Recipe)
    """How every run is trained; its model's name and its seed are not used."""
    changes: tuple[Change, ...]
    """The rows, in the order of the table."""

    def __post_init__(self) -> None:
        if isinstance(self.changes, list):  # as people write it in Python
            object.__setattr__(self, "changes", tuple(self.changes))
        super().__post_init__()

    def check(self) -> None:
        """Every row has a name of its own, and the recipe leaves the models to the plan."""
        for part, why in OF_THE_PLAN.items():
            if getattr(self.recipe.model, part):
                raise RunError(f"recipe.model.{part}: {why}")
        names = [self.base.name, *(change.name for change in self.changes)]
        for name, count in Counter(slug(name) for name in names).items():
            if count > 1:
                twins = [given for given in names if slug(given) == name]
                raise RunError(
                    f"changes: {' and '.join(map(repr, twins))} share a name; every row needs one of its own"
                )

    def only(self, names: Iterable[str]) -> Plan:
        """The same plan with some of its changes.

        Raises:
            RunError: a name that no change has.
        """
        known = {slug(change.name): change for change in self.changes}
        wanted = [slug(name) for name in names]
        for name, asked in zip(names, wanted, strict=True):
            if asked not in known:
                hint = did_you_mean(name, [change.name for change in self.changes])
                raise RunError(f"--only: {name!r} is no change of the plan {self.name!r}. {hint}")
        return self.with_changes(changes=tuple(known[name] for name in dict.fromkeys(wanted)))


@dataclass(frozen=True, kw_only=True)
class DataFacts(_PlanRecord):
    """What a plan needs to know of the images."""

    classes: tuple[str, ...]
    """The names of the classes."""
    channels: int
    """1 for gray, 3 for color."""
    side: int
    """Height and width of the models' input in pixels."""
    train: int
    """Images to train on."""
    val: int
    """Images to evaluate on."""


@dataclass(frozen=True, kw_only=True)
class Variant(_PlanRecord):
    """A row of the table, ready to be trained."""

    name: str
    slug: str
    """Its name as a folder's."""
    group: str
    about: str
    published: float | None
    spec: AnySpec
    """The whole model."""
    recipe: Recipe
    """The whole recipe, without a seed of its own."""

    @property
    def run_facts(self) -> tuple[AnySpec, Recipe]:
        """What decides the result."""
        return self.spec, self.recipe


def variants(plan: Plan, facts: DataFacts) -> tuple[list[Variant], list[str]]:
    """The rows of a plan for these images, the base first, and what is odd about them in sentences.

    Raises:
        SpecError, RunError: a change that cannot be made; the message starts with its name.
    """
    base = _variant(plan, plan.base, None, facts)
    rows = [base, *(_variant(plan, plan.base, change, facts) for change in plan.changes)]
    return rows, _oddities(rows)


def _variant(plan: Plan, base: Base, change: Change | None, facts: DataFacts) -> Variant:
    shown = change or base
    try:
        own = find(change.model).spec if change is not None and change.model else base.frame
        spec = _with_rates(fitted(own, base, facts), plan.recipe.model)
        for step in (base.change, change):
            spec = spec if step is None else step.applied(spec)
        recipe = plan.recipe if change is None else plan.recipe.updated(change.recipe, "recipe")
    except InputError as error:
        raise type(error)(f"{shown.name}: {error}") from None
    return Variant(
        name=shown.name,
        slug=slug(shown.name),
        group=shown.group,
        about=shown.about,
        published=shown.published,
        spec=spec,
        recipe=recipe.with_changes(model=recipe.model.with_changes(drop_path_rate=None, drop_rate=None)),
    )


def _with_rates(spec: AnySpec, choice: ModelConfig) -> AnySpec:
    """The recipe's rates as the model's own, so that a change of them is not overruled when it is trained."""
    if choice.drop_rate is not None:
        spec = spec.with_dropout(choice.drop_rate)
    return spec if choice.drop_path_rate is None else spec.with_changes(drop_path_rate=choice.drop_path_rate)


def fitted(spec: AnySpec, base: Base, facts: DataFacts) -> AnySpec:
    """A row of the zoo at the base's width, for these images.

    Small images get a stem that leaves about 8 tokens on a side, and downsamplings that would leave fewer than 2 keep
    the grid: at a single token no mixer has anything to mix.
    """
    place = {"num_classes": len(facts.classes), "in_chans": facts.channels, "img_size": (facts.side, facts.side)}
    if isinstance(spec, TimmSpec):
        return spec.with_changes(**place)
    published = spec.stem_stride
    stride = base.stem_stride or (published and min(published, max(1, facts.side // 8)))
    if base.width != 1.0:
        spec = spec.with_widths(base.width)
    if stride is not None and stride != published:
        spec = spec.with_stem_stride(stride)
    return spec.with_changes(stages=_with_least_grid(spec, facts.side), **place)


def _with_least_grid(spec: ModelSpec, side: int) -> tuple[StageSpec, ...]:
    stages: list[StageSpec] = list(spec.stages)
    grid: Grid = (side, side)
    for i, stage in enumerate(stages):
        after = stage.embedding.grid(grid)
        if i and stage.embedding.kind == "conv" and min(after) < LEAST_GRID:
            stages[i] = stage.with_changes(embedding=stage.embedding.with_changes(stride=1))
            after = stages[i].embedding.grid(grid)
        grid = after
    return tuple(stages)


def _oddities(rows: list[Variant]) -> list[str]:
    """Changes that change nothing, and rows that are the same run under two names."""
    base, told = rows[0], []
    for i, row in enumerate(rows[1:], start=1):
        if row.run_facts == base.run_facts:
            told.append(f"{row.name!r} leaves the base as it is: it is the same run again")
            continue
        twin = next((other.name for other in rows[1:i] if other.run_facts == row.run_facts), None)
        if twin is not None:
            told.append(f"{row.name!r} and {twin!r} are the same run under two names")
    return told
