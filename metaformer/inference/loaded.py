"""Load a trained model from a run's folder, a weights file, a hub id or a model name.

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

_DEFAULT_TASK = next(iter(TASKS))
"""The task of published models and third-party checkpoints, which do not name one."""


@dataclass(frozen=True)
class LoadedModel:
    """A trained model with its class names and its task."""

    model: AnyModel
    """In evaluation mode."""
    classes: tuple[str, ...] | None
    """A name for each class; None where the weights have no names."""
    origin: str
    """The run folder, the file, the hub id or the model name."""
    task: str = _DEFAULT_TASK
    """The name of its task."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class: of the weights, else ImageNet's where the number of classes is ImageNet's, else
        ``class 0`` and so on."""
        count = self.model.num_classes
        return self.classes or imagenet_classes(count) or tuple(f"class {index}" for index in range(count))


def task_of(source: str | Path | None) -> str:
    """The task of a run's folder, a weights file or a hub id; published models are classifiers."""
    description = None if source is None or is_published(source) else _description_or_none(source)
    return _DEFAULT_TASK if description is None else description.task


def is_published(source: str | Path) -> bool:
    """Whether a source is a model name, for its published weights."""
    # a folder in the working directory wins over a model of the same name
    return str(source) in CATALOGUE and not Path(source).exists()


def load_any(
    source: str | Path | None = None, name: str | None = None, *, num_classes: int | None = None
) -> LoadedModel:
    """Load a trained model.

    Args:
        source: a run's folder, a weights file or a hub id. Files of this library name their model.
        name: a model name. Third-party checkpoints need it; without a source, its published weights are loaded.
        num_classes: the number of classes of a third-party checkpoint; the named model's own by default.

    Raises:
        InputError: no such source; a checkpoint that is truncated, of another model, or with other classes.
    """
    if source is None:
        if name is None:
            raise WeightsError("no weights given; pass --weights RUN_DIR, FILE or HUB_ID, or --model NAME")
        return LoadedModel(create_model(name, pretrained=True).eval(), None, name)
    if name is None and is_published(source):
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
    """A checkpoint that does not name its model."""
    model = create_model(name, num_classes=num_classes)
    report = load_weights(model, source)
    if report.fresh:  # load_weights initializes a classifier of another size, to fine-tune it
        raise WeightsError(
            f"{source}: the classifier layer does not match the {model.num_classes} classes expected, so the model "
            "cannot predict"
        )
    return LoadedModel(model.eval(), None, str(source))


def imagenet_classes(count: int) -> tuple[str, ...] | None:
    """English names of ImageNet's classes in timm's order, for ImageNet-1k or a larger set; None for other counts."""
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(count))
