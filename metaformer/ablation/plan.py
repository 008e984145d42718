"""A plan: one base run and named changes to it. Records in, the models and recipes of a sweep out. No torch here.

A change is data that holds only what is different. Plans can therefore be Python or YAML, and a resumed sweep can be
compared with its plan. The ablation of "MetaFormer Is Actually What You Need for Vision", table 5, is such a plan.
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
MIN_GRID = 2
"""Fewest tokens per side after a downsampling: a single token leaves a mixer no neighbor."""
DEFAULT_MODEL = "poolformer_s12"
MAX_NAME = 80
"""Letters of a variant's name, which also names a folder; file systems allow 255 bytes."""


def slug(name: str) -> str:
    """A folder's name for a variant's: ``Pool size 5`` → ``pool-size-5``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@dataclass(frozen=True, kw_only=True)
class _PlanRecord(Record):
    error: ClassVar[type[InputError]] = RunError


SHARED_FIELDS = {
    "task": "all variants learn the same task; set it in the plan's recipe or with --task",
    "model": "a variant's model is changed by model, mixers, stages, stage, head and network",
    "data": "all variants see the same images; set them in the plan's recipe or with --data",
    "seed": "every variant is trained with the seeds 0, 1, ...; --seeds sets how many",
}
"""Fields of the recipe that no single variant may change, and why."""
REFUSED_MODEL_FIELDS = {
    "pretrained": "variants that differ in their parts cannot start from the same weights",
    "weights": "variants that differ in their parts cannot start from the same weights",
    "mixers": "the plan names the mixers to compare; set them in base.change or in a change",
}
"""Fields of the recipe's model that a plan does not allow, and why."""


@dataclass(frozen=True, kw_only=True)
class Change(_PlanRecord):
    """A variant: its name and what it changes in the base run."""

    name: str
    """Its name in the table."""
    group: str = "change"
    """Variants of one group stand together in the table."""
    about: str = ""
    """What it tests, in one line."""
    published: float | None = None
    """The result that the plan's source prints for it, such as top-1 in percent."""
    model: str | None = None
    """Another model name to start from, in place of the base's."""
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
        """The name can be a folder's, stages have numbers, and the recipe's shared fields are left alone."""
        _expect_name(self)
        for key, fields in self.stage.items():
            self.expect(str(key).isdecimal() and int(key) >= 1, "stage", "numbers of stages from 1 on", key)
            self.expect(isinstance(fields, Mapping), f"stage.{key}", "fields such as {'position': true}", fields)
        for name in self.recipe:
            if name in SHARED_FIELDS:
                raise RunError(f"recipe.{name}: {SHARED_FIELDS[name]}")

    def apply_to(self, spec: AnySpec) -> AnySpec:
        """The model with this change made.

        Raises:
            SpecError: a field that does not exist or a value that does not fit.
        """
        if isinstance(spec, TimmSpec):
            if self.stages or self.stage or self.head or self.network:
                raise SpecError(f"{spec.architecture} is a CNN of timm, which has no parts that a plan can change")
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


def _expect_name(record: Change | Base) -> None:
    """The name also names a folder."""
    record.expect(bool(slug(record.name)), "name", "letters from a to z or digits in it", record.name)
    record.expect(len(record.name) <= MAX_NAME, "name", f"at most {MAX_NAME} letters", record.name)


def _with_fields(stage: StageSpec, fields: Mapping[str, Any], path: str) -> StageSpec:
    """A stage with some of its fields replaced, nested records field by field."""
    if not fields:
        return stage
    if "mixer" in fields:
        raise SpecError(f"{path}.mixer: set it with mixers, one for all stages or one for each")
    # ``updated`` goes through plain data, which a mixer that is a Python object does not survive.
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
"""Factor on the widths of a base for small images: a run then takes seconds to minutes on a CPU core."""
LARGER_LAYER_SCALE = Change(name="LayerScale 0.1", stages={"residual": {"layer_scale": 0.1}})
"""The init that ResMLP-S12 uses. PoolFormer's 1e-5 keeps the branches near zero for all of a short training."""


@dataclass(frozen=True, kw_only=True)
class Base(_PlanRecord):
    """The run that every change is made to."""

    name: str = "base"
    """Its name in the table."""
    model: str | None = None
    """A model name; ``poolformer_s12`` if there is no ``spec`` either."""
    spec: ModelSpec | None = None
    """A model of your own in its place; its width, stem and grids are adapted to the images too."""
    width: float = 1.0
    """Factor on all widths; the number of attention heads stays as it is."""
    stem_stride: int | None = None
    """Stride of the first convolution; if left out, small images get one that leaves about 8 tokens per side."""
    group: str = "base"
    """Its group in the table."""
    about: str = ""
    """What it is, in one line."""
    published: float | None = None
    """The result that the plan's source prints for it, such as top-1 in percent."""
    change: Change | None = None
    """What differs from the named model in the base already."""

    def check(self) -> None:
        """The name can be a folder's, there is one model, and width and stride are possible."""
        _expect_name(self)
        one = self.model is None or self.spec is None
        self.expect(one, "model", "a model name or a spec of your own, not both", self.model)
        self.expect(0 < self.width < inf, "width", "a positive factor", self.width)
        self.expect(self.stem_stride is None or self.stem_stride >= 1, "stem_stride", "at least 1", self.stem_stride)
        if self.change is not None and (self.change.model or self.change.recipe):
            raise RunError("change: set the base's model with base.model, and its recipe with the plan's recipe")

    def for_images(self, side: int) -> Base:
        """The same base for short trainings on images of up to ``SMALL_SIDE`` pixels; larger images leave it as it is.

        The widths are a quarter, and LayerScale starts at 0.1 (see ``LARGER_LAYER_SCALE``). Without any LayerScale,
        pooling minus its input would cancel most of the map in the first blocks.
        """
        if side > SMALL_SIDE:
            return self
        return self.with_changes(width=SMALL_WIDTH, change=LARGER_LAYER_SCALE)

    @property
    def original(self) -> AnySpec:
        """The whole model it starts from, before it is adapted to the images.

        Raises:
            InputError: there is no model of this name.
        """
        return find(self.model or DEFAULT_MODEL).spec if self.spec is None else self.spec


@dataclass(frozen=True, kw_only=True)
class Plan(_PlanRecord):
    """A base run and the changes to it, under one recipe."""

    name: str
    """A word; part of the folder's name."""
    title: str = ""
    """The report's heading."""
    question: str = ""
    """What it tests, in a sentence or two."""
    source: str = ""
    """Where the published numbers are from."""
    base: Base = Base()
    """What is changed."""
    recipe: Recipe = field(default_factory=Recipe)
    """How every run is trained; its model's name and its seed are not used."""
    changes: tuple[Change, ...]
    """The variants beside the base, in the order of the table."""

    def __post_init__(self) -> None:
        if isinstance(self.changes, list):  # plans in Python write a list
            object.__setattr__(self, "changes", tuple(self.changes))
        super().__post_init__()

    def check(self) -> None:
        """Every variant has a name of its own, and the recipe leaves the models to the plan."""
        for name, reason in REFUSED_MODEL_FIELDS.items():
            if getattr(self.recipe.model, name):
                raise RunError(f"recipe.model.{name}: {reason}")
        names = [self.base.name, *(change.name for change in self.changes)]
        for name, count in Counter(slug(name) for name in names).items():
            if count > 1:
                twins = [given for given in names if slug(given) == name]
                raise RunError(
                    f"changes: {' and '.join(map(repr, twins))} share a name; every variant needs one of its own"
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
                raise RunError(f"--only: the plan {self.name!r} has no change {name!r}. {hint}")
        return self.with_changes(changes=tuple(known[name] for name in dict.fromkeys(wanted)))


@dataclass(frozen=True, kw_only=True)
class DataFacts(_PlanRecord):
    """What a plan needs to know of the dataset."""

    classes: tuple[str, ...]
    """The names of the classes."""
    channels: int
    """1 for gray images, 3 for color."""
    side: int
    """Height and width of the models' input in pixels."""
    train: int
    """Images to train on."""
    val: int
    """Images to evaluate on."""
    source: str = ""
    """Where the images are, as in the recipe."""


@dataclass(frozen=True, kw_only=True)
class Variant(_PlanRecord):
    """The base or a change of it, as the whole model and recipe that are trained."""

    name: str
    slug: str
    """The name of its folder."""
    group: str
    about: str
    published: float | None
    spec: AnySpec
    """The whole model."""
    recipe: Recipe
    """The whole recipe, without a seed of its own."""

    @property
    def configuration(self) -> tuple[AnySpec, Recipe]:
        """What decides the result."""
        return self.spec, self.recipe


def variants(plan: Plan, facts: DataFacts) -> tuple[list[Variant], list[str]]:
    """The variants of a plan for these images, the base first, and warnings about them in sentences.

    Raises:
        SpecError, RunError: a change that cannot be made; the message starts with its name.
    """
    base = _resolve(plan, None, facts)
    found = [base, *(_resolve(plan, change, facts) for change in plan.changes)]
    return found, _warn_of_repeats(found)


def _resolve(plan: Plan, change: Change | None, facts: DataFacts) -> Variant:
    """The variant that a change makes, or the base."""
    base, record = plan.base, change or plan.base
    try:
        spec = find(change.model).spec if change is not None and change.model else base.original
        spec = _with_drop_rates(adapt_spec(spec, base, facts), plan.recipe.model)
        for step in (base.change, change):
            spec = spec if step is None else step.apply_to(spec)
        recipe = plan.recipe if change is None else plan.recipe.updated(change.recipe, "recipe")
    except InputError as error:
        raise type(error)(f"{record.name}: {error}") from None
    return Variant(
        name=record.name,
        slug=slug(record.name),
        group=record.group,
        about=record.about,
        published=record.published,
        spec=spec,
        recipe=recipe.with_changes(model=recipe.model.with_changes(drop_path_rate=None, drop_rate=None)),
    )


def _with_drop_rates(spec: AnySpec, model: ModelConfig) -> AnySpec:
    """The recipe's rates as the model's own, so that training does not overrule a change of them."""
    if model.drop_rate is not None:
        spec = spec.with_dropout(model.drop_rate)
    return spec if model.drop_path_rate is None else spec.with_changes(drop_path_rate=model.drop_path_rate)


def adapt_spec(spec: AnySpec, base: Base, facts: DataFacts) -> AnySpec:
    """A model at the base's width, for these images.

    Small images get a stem that leaves about 8 tokens per side. A downsampling that would leave fewer than
    ``MIN_GRID`` keeps the grid.
    """
    classes = len(facts.classes)
    images: dict[str, Any] = {"in_chans": facts.channels, "img_size": (facts.side, facts.side)}
    if isinstance(spec, TimmSpec):
        return spec.with_changes(num_classes=classes, **images)
    if base.width != 1.0:
        spec = spec.with_widths(base.width)
    if spec.tokens is not None:
        return spec.with_changes(num_classes=classes)  # a sequence has no stem, and its length is the model's own
    published = spec.stem_stride
    stride = base.stem_stride or (published and min(published, max(1, facts.side // 8)))
    if stride is not None:
        spec = spec.with_stem_stride(stride)
    return spec.with_changes(stages=_with_min_grid(spec, facts.side), num_classes=classes, **images)


def _with_min_grid(spec: ModelSpec, side: int) -> tuple[StageSpec, ...]:
    stages: list[StageSpec] = list(spec.stages)
    grid: Grid = (side, side)
    for i, stage in enumerate(stages):
        after = stage.embedding.grid(grid)
        # The stem is left out, because its stride was chosen above or by the plan.
        if i and stage.embedding.kind == "conv" and min(after) < MIN_GRID:
            stages[i] = stage.with_changes(embedding=stage.embedding.with_changes(stride=1))
            after = stages[i].embedding.grid(grid)
        grid = after
    return tuple(stages)


def _warn_of_repeats(found: list[Variant]) -> list[str]:
    """Changes that change nothing, and pairs of variants that are the same run."""
    base, warnings = found[0], []
    for i, variant in enumerate(found[1:], start=1):
        if variant.configuration == base.configuration:
            warnings.append(f"{variant.name!r} changes nothing: it repeats the base's run")
            continue
        twin = next((other.name for other in found[1:i] if other.configuration == variant.configuration), None)
        if twin is not None:
            warnings.append(f"{variant.name!r} and {twin!r} are the same run under two names")
    return warnings
