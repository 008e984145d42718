"""A trained model by whatever names it: a run's folder, a weights file, a hub id, or a model name.

In: a source, a model name, or both. Out: the model with its weights, the names of its classes and its task.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError, did_you_mean
from ..factory.classifier import create_model
from ..model.dense.build import AnyModel
from ..tasks.task import TASKS
from ..weights.description import Description
from ..weights.hub import describe_source, from_pretrained
from ..weights.load import load_weights
from ..zoo.catalogue import CATALOGUE

_FIRST_TASK = next(iter(TASKS))
"""What published models and third-party checkpoints are for."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model and what is known of it."""

    model: AnyModel
    """In evaluation mode."""
    classes: tuple[str, ...] | None
    """Names of its scores; None where the weights do not have them."""
    origin: str
    """The run folder, the file, the hub id or the model name."""
    task: str = _FIRST_TASK
    """What it was trained for."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class; where the weights have none, ImageNet's for as many classes as it has, or numbers."""
        count = self.model.num_classes
        return self.classes or imagenet_classes(count) or tuple(f"class {index}" for index in range(count))


def task_of(source: str | Path | None) -> str:
    """What a run's folder, a weights file or a hub id was trained for; published models are classifiers."""
    description = None if source is None or str(source) in CATALOGUE else _description_or_none(source)
    return _FIRST_TASK if description is None else description.task


def load_any(
    source: str | Path | None = None, name: str | None = None, *, num_classes: int | None = None
) -> LoadedModel:
    """Load a trained model.

    Args:
        source: a run's folder, a weights file or a hub id. What this library wrote says which model it is.
        name: a model name: needed for third-party checkpoints; alone, its published weights are loaded.
        num_classes: how many classes a third-party checkpoint has; the named model's own where left out.

    Raises:
        InputError: no such source; a checkpoint that is truncated, of another model, or with other classes.
    """
    if source is None:
        if name is None:
            raise WeightsError("no weights given; pass --weights RUN_DIR, FILE or HUB_ID, or --model NAME")
        return LoadedModel(create_model(name, pretrained=True).eval(), None, name)
    if name is None and str(source) in CATALOGUE and not Path(source).exists():
        return load_any(None, str(source))
    description = None if name is None else _description_or_none(source)
    if name is not None and description is None:
        return _load_third_party(source, name, num_classes)
    if description is not None and description.name != name:
        raise WeightsError(f"{source}: these are weights of {description.name}, expected {name}; leave out --model")
    return _load_described(source)


def _load_described(source: str | Path) -> LoadedModel:
    try:
        description = describe_source(source)
        return LoadedModel(from_pretrained(source), description.classes, str(source), description.task)
    except WeightsError as error:
        near = did_you_mean(str(source), CATALOGUE)
        # a misspelled model name looks like a folder that does not exist
        if near.startswith("Did you mean") and not Path(source).exists():
            raise WeightsError(f"{error}. {near}") from None
        raise


def _description_or_none(source: str | Path) -> Description | None:
    try:
        return describe_source(source)
    except WeightsError:
        return None


def _load_third_party(source: str | Path, name: str, num_classes: int | None) -> LoadedModel:
    """A checkpoint that does not say what it is."""
    model = create_model(name, num_classes=num_classes)
    report = load_weights(model, source)
    if report.fresh:
        raise WeightsError(
            f"{source}: the classifier layer does not match the {model.num_classes} classes expected, so the model "
            "cannot predict"
        )
    return LoadedModel(model.eval(), None, str(source))


def imagenet_classes(count: int) -> tuple[str, ...] | None:
    """English names of ImageNet's classes in the usual order, for 1,000 or one of the larger sets; None for others."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(count))
