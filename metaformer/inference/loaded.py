"""A trained model by whatever names it: a run's folder, a weights file, a hub id, or a row of the zoo.

In: a source, a model's name, or both. Out: the model with its weights and the names of its classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import WeightsError, did_you_mean
from ..factory.classifier import create_model
from ..model.build import Model
from ..tasks.task import TASKS
from ..weights.description import Description
from ..weights.hub import describe_source, from_pretrained
from ..weights.load import load_weights
from ..zoo.catalogue import CATALOGUE


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be asked."""

    model: Model
    """In evaluation mode."""
    classes: tuple[str, ...] | None
    """Names of its scores; None where the weights do not tell them."""
    origin: str
    """The run folder, the file, the hub id or the zoo's name."""

    def class_name(self, index: int) -> str:
        """The name of a class; ImageNet's where the weights have none but as many classes as ImageNet."""
        names = self.classes or imagenet_classes(self.model.num_classes)
        return names[index] if names else f"class {index}"


def task_of(source: str | Path | None) -> str:
    """What a run's folder, a weights file or a hub id was trained for; the table's first task where it does not say."""
    description = None if source is None or str(source) in CATALOGUE else _description_or_none(source)
    return next(iter(TASKS)) if description is None else description.task


def load_any(
    source: str | Path | None = None, name: str | None = None, *, num_classes: int | None = None
) -> LoadedModel:
    """Open a trained model.

    Args:
        source: a run's folder, a weights file or a hub id. It says itself which model it is when this library wrote it.
        name: a row of the zoo: needed for files of others; alone, its published weights are taken.
        num_classes: how many classes a file of others has; the zoo row's own where left out.

    Raises:
        InputError: nothing there, a checkpoint that is cut, of another model, or with other classes.
    """
    if source is None:
        if name is None:
            raise WeightsError("which weights? Give a run's folder or a weights file, or the name of a published model")
        return LoadedModel(create_model(name, pretrained=True).eval(), None, name)
    if name is None and str(source) in CATALOGUE and not Path(source).exists():
        return load_any(None, str(source))
    if name is None:
        return _described(source)
    description = _description_or_none(source)
    if description is not None:
        if description.name != name:
            raise WeightsError(f"{source}: these are weights of {description.name}, expected {name}; leave out --model")
        return _described(source)
    return _foreign(source, name, num_classes)


def _described(source: str | Path) -> LoadedModel:
    try:
        description = describe_source(source)
        return LoadedModel(from_pretrained(source), description.classes, str(source))
    except WeightsError as error:
        near = did_you_mean(str(source), CATALOGUE)
        if near.startswith("Did you mean") and not Path(source).exists():
            raise WeightsError(f"{error}. {near}") from None
        raise


def _description_or_none(source: str | Path) -> Description | None:
    try:
        return describe_source(source)
    except WeightsError:
        return None


def _foreign(source: str | Path, name: str, num_classes: int | None) -> LoadedModel:
    """A file of others, which does not say what it is."""
    model = create_model(name, num_classes=num_classes)
    report = load_weights(model, source)
    if report.fresh:
        raise WeightsError(
            f"{source}: it has another number of classes than the {model.num_classes} expected, so its last layer "
            "does not fit; there is nothing to ask it"
        )
    return LoadedModel(model.eval(), None, str(source))


def imagenet_classes(count: int) -> tuple[str, ...] | None:
    """English names of ImageNet's classes in the usual order, for 1,000 or one of the larger sets; nothing else."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(count))
