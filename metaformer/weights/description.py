"""What a saved file says of its model, so that the file alone is enough to build it again.

In: a model, or the text header of a weights file. Out: a record with name, spec, preprocessing and class names, and
the model built from it. Nothing in it is code: a mixer that was a Python object is kept by its name only and has to be
passed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ..errors import InputError, WeightsError, did_you_mean
from ..model.build import Model, build
from ..model.dense.build import build_dense
from ..model.dense.detector import Detector, Segmenter
from ..records import Record
from ..spec.dense import DenseSpec
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec
from ..types import Preprocessing
from ..version import __version__

HEADER_KEY = "metaformer"
"""Where it stands, as JSON, in the header of a safetensors file."""
PYTHON_MIXER = "python_object"
"""Name that stands for a mixer without a name of its own."""
CHANGES = ("num_classes", "img_size", "drop_path_rate", "drop_path_rule")
DENSE_CHANGES = ("num_classes", "short_side", "long_side", "square", "drop_path_rate")

Spec = TypeVar("Spec", bound=AnySpec | DenseSpec)
AnyModel = Model | Detector | Segmenter
"""Whatever can be saved with its description."""


@dataclass(frozen=True, kw_only=True)
class Description(Record):
    """A saved model without its weights."""

    error: ClassVar[type[InputError]] = WeightsError

    name: str
    """What ``create_model`` called it, or ``custom``."""
    spec: AnySpec | DenseSpec
    """Everything that decides its shape and arithmetic."""
    preprocessing: Preprocessing
    """How images are prepared for it."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, in the order of its scores."""
    task: str = ""
    """What it was trained for; the spec's usual task where left out, as in files of 0.1.0."""
    version: str = __version__
    """Of the library that wrote it."""

    def check(self) -> None:
        """One name for each score, and a task."""
        if not self.task:
            object.__setattr__(self, "task", _usual_task(self.spec))
        count = self.spec.num_classes
        right = self.classes is None or len(self.classes) == count
        self.expect(right, "classes", f"{count} names", len(self.classes or ()))

    @property
    def header(self) -> dict[str, str]:
        """The text header of a safetensors file."""
        return {"format": "pt", HEADER_KEY: self.to_json(indent=None)}

    def build(self, mixers: object = None, **changes: Any) -> AnyModel:
        """The model, freshly initialized.

        Args:
            mixers: needed where one was a Python object; replaces the saved ones.
            changes: fields of the spec: num_classes, img_size, drop_path_rate; for a detector or a segmenter
                num_classes, short_side, long_side, square, drop_path_rate.
        """
        spec = self._with_mixers(mixers)
        spec = spec.with_changes(**_checked(changes, spec))
        preprocessing = self.preprocessing.with_changes(size=spec.img_size)
        if isinstance(spec, DenseSpec):
            return build_dense(spec, self.name, preprocessing)
        return build(spec, self.name, preprocessing)

    def _with_mixers(self, mixers: object) -> AnySpec | DenseSpec:
        if mixers is not None:
            return self.spec.with_mixers(mixers)
        lost = dict.fromkeys(
            str(mixer.args.get("name"))
            for mixer in self.spec.mixers
            if isinstance(mixer, MixerSpec) and mixer.name == PYTHON_MIXER
        )
        if lost:
            raise WeightsError(
                f"{self.name}: it was saved with token mixers of your own ({', '.join(lost)}), which are Python "
                f"code and not in the file; pass them as mixers=[...], one for each of {len(self.spec.mixers)} stages"
            )
        return self.spec


def _usual_task(spec: AnySpec | DenseSpec) -> str:
    if isinstance(spec, DenseSpec):
        return "detection" if spec.finds_objects else "segmentation"
    return "classification"


def describe(model: AnyModel, classes: Sequence[str] | None = None, task: str = "") -> Description:
    """The description of a model; ``classes`` names its scores, ``task`` says what it was trained for.

    Raises:
        WeightsError: a folded or compiled model, whose weights are no longer those of what it would be called.
    """
    if hasattr(model, "folded"):
        raise WeightsError(
            "a folded or compiled model cannot be saved: it has not the weights of its description any more. Save the "
            "model it was made of, or write it for an engine with metaformer.export"
        )
    return Description(
        name=model.name,
        spec=named_mixers(model.spec),
        preprocessing=model.preprocessing,
        classes=None if classes is None else tuple(classes),
        task=task,
    )


def described_by(header: Mapping[str, str], label: str) -> Description:
    """The description in the header of a weights file.

    Raises:
        WeightsError: there is none, or it cannot be read.
    """
    if HEADER_KEY not in header:
        raise WeightsError(
            f"{label}: it does not say which model it belongs to. Build the model with create_model(NAME) and fill it "
            f"with load_weights(model, {label!r})"
        )
    try:
        return Description.from_json(header[HEADER_KEY])
    except InputError as error:
        raise WeightsError(f"{label}: its description of the model cannot be read: {error}") from None


def named_mixers(spec: Spec) -> Spec:
    """The spec with Python mixers replaced by their names, so that it can be written down."""
    named = [
        mixer
        if isinstance(mixer, MixerSpec) and not _python_inside(mixer)
        else MixerSpec(name=PYTHON_MIXER, args={"name": _name_of(mixer)})
        for mixer in spec.mixers
    ]
    return spec.with_mixers(named) if named else spec  # type: ignore[return-value]


def _python_inside(mixer: MixerSpec) -> list[object]:
    """The Python objects that a named mixer wraps, such as the one inside a window."""
    found: list[object] = []
    for value in mixer.args.values():
        if isinstance(value, MixerSpec):
            found += _python_inside(value)
        elif callable(value):
            found.append(value)
    return found


def _name_of(mixer: object) -> str:
    if isinstance(mixer, MixerSpec):
        return f"{mixer.name} of {', '.join(_name_of(inner) for inner in _python_inside(mixer))}"
    return str(getattr(mixer, "__qualname__", type(mixer).__name__))


def _checked(changes: dict[str, Any], spec: AnySpec | DenseSpec) -> dict[str, Any]:
    known = DENSE_CHANGES if isinstance(spec, DenseSpec) else [key for key in CHANGES if hasattr(spec, key)]
    for key in changes:
        if key not in known:
            raise InputError(f"{key}: cannot be changed when a saved model is loaded. {did_you_mean(key, known)}")
    given = {key: value for key, value in changes.items() if value is not None}
    if isinstance(given.get("img_size"), int):
        given["img_size"] = (given["img_size"],) * 2
    return given
