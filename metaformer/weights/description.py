"""What a saved file says of its model, so that the file alone is enough to build it again.

In: a model, or the header of a weights file. Out: a record with name, task, spec, preprocessing and class names, and
the model built from it. It holds no code: a mixer that was a Python object is kept by its name only and has to be
passed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal, TypedDict, TypeVar, Unpack

from ..errors import InputError, WeightsError, did_you_mean
from ..model.dense.build import AnyModel, build_any
from ..records import Record
from ..spec.dense import DenseSpec
from ..spec.mixer import MixerSpec
from ..spec.model import AnySpec
from ..types import Preprocessing
from ..version import __version__

HEADER_KEY = "metaformer"
"""The entry of a safetensors file's header that holds the description, as JSON."""
PYTHON_MIXER = "python_object"
"""Replaces a mixer that is a Python object; the object's own name is kept in its arguments."""

Spec = TypeVar("Spec", bound=AnySpec | DenseSpec)


class SpecChanges(TypedDict, total=False):
    """Fields that can be changed while a saved model is built again; None keeps what was saved."""

    num_classes: int | None
    """The last layer is then fresh."""
    img_size: int | tuple[int, int] | None
    """Not of a detector or segmenter, which has the three sizes below."""
    drop_path_rate: float | None
    drop_path_rule: Literal["linear", "constant"] | None
    short_side: int | None
    long_side: int | None
    square: bool | None


@dataclass(frozen=True, kw_only=True)
class Description(Record):
    """A saved model without its weights."""

    error: ClassVar[type[InputError]] = WeightsError

    name: str
    """The name ``create_model`` has for it, or ``custom``."""
    task: str = ""
    """What it was trained for, a name in ``metaformer.tasks``; what its spec is usually for where left out, as in files
    of 0.1.0."""
    spec: AnySpec | DenseSpec
    """Everything that decides its shape and arithmetic."""
    preprocessing: Preprocessing
    """How images are prepared for it."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, in the order of its scores."""
    version: str = __version__
    """The version of this library that wrote it."""

    def check(self) -> None:
        """One name for each score, and a task."""
        if not self.task:
            object.__setattr__(self, "task", self.spec.task)
        count = self.spec.num_classes
        right = self.classes is None or len(self.classes) == count
        self.expect(right, "classes", f"{count} names", len(self.classes or ()))

    @property
    def header(self) -> dict[str, str]:
        """The header of a safetensors file."""
        return {"format": "pt", HEADER_KEY: self.to_json(indent=None)}

    def build(self, mixers: object = None, **changes: Unpack[SpecChanges]) -> AnyModel:
        """The model, freshly initialized.

        Args:
            mixers: needed where one was a Python object; replaces the saved ones.
            changes: fields of ``SpecChanges``, as far as the spec has them.
        """
        if mixers is None:
            self._expect_saved_mixers()
        spec = self.spec if mixers is None else self.spec.with_mixers(mixers)
        spec = spec.with_changes(**_checked(changes, spec))
        preprocessing = self.preprocessing.with_changes(size=spec.img_size)
        return build_any(spec, self.name, preprocessing)

    def _expect_saved_mixers(self) -> None:
        lost = dict.fromkeys(
            str(mixer.args.get("name"))
            for mixer in self.spec.mixers
            if isinstance(mixer, MixerSpec) and mixer.name == PYTHON_MIXER
        )
        if lost:
            raise WeightsError(
                f"{self.name}: its token mixers ({', '.join(lost)}) are Python code of yours and not in the file; "
                f"pass them as mixers=[...], one for each of {len(self.spec.mixers)} stages"
            )


def describe(model: AnyModel, classes: Sequence[str] | None = None, task: str = "") -> Description:
    """The description of a model; ``classes`` names its scores, ``task`` what it was trained for.

    Raises:
        WeightsError: a folded or compiled model, whose weights no longer match its spec.
    """
    if hasattr(model, "folded"):
        raise WeightsError(
            "a folded or compiled model cannot be saved: its weights no longer match its config. Save the model it was "
            "made from, or write it for an engine with metaformer.export"
        )
    return Description(
        name=model.name,
        task=task,
        spec=named_mixers(model.spec),
        preprocessing=model.preprocessing,
        classes=None if classes is None else tuple(classes),
    )


def described_by(header: Mapping[str, str], label: str) -> Description:
    """The description in the header of a weights file; ``label`` names the file in messages.

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
    """The spec with Python mixers replaced by their names, so that it can be written to a file."""
    # a named mixer that wraps a Python object, such as a window around a class, has to be passed again as a whole
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


def _checked(changes: SpecChanges, spec: AnySpec | DenseSpec) -> dict[str, object]:
    """The changes that were given, refused where the spec has no such field."""
    own = {field.name for field in fields(spec)} | {"drop_path_rate"}  # a dense spec passes it on to its backbone
    known = [key for key in SpecChanges.__annotations__ if key in own]
    for key in changes:
        if key not in known:
            raise InputError(f"{key}: cannot be changed when a saved model is loaded. {did_you_mean(key, known)}")
    given = {key: value for key, value in changes.items() if value is not None}
    if isinstance(side := given.get("img_size"), int):
        given["img_size"] = (side, side)
    return given
