"""The records of a recipe as typed flags: every field under its dotted name, the everyday ones under a short one too.

In: a record class such as ``Recipe``. Out: keyword parameters for a cyclopts command, which is then called with the
flags that were given and nothing else, so that what a person did not say never overrides a recipe or a YAML file.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter

from ..errors import DataError, InputError
from ..recipe import DataConfig

command_line: ContextVar[str] = ContextVar("command_line", default="")
"""What was typed, kept in a run's config.json."""

OPTIONS = Group("Options", sort_key=0)
COMMON = Group("Common", sort_key=1)

Device = Literal["auto", "cpu", "cuda", "mps"]

ALIASES = {
    "data.source": "--data",
    "data.workers": "--workers",
    "data.on_bad_image": "--on-bad-image",
    "model.name": "--model",
    "model.mixers": "--mixers",
    "model.pretrained": "--pretrained",
    "model.weights": "--weights",
    "model.img_size": "--img-size",
    "model.stem_stride": "--stem-stride",
    "optimizer.epochs": "--epochs",
    "optimizer.batch_size": "--batch-size",
    "optimizer.accumulation": "--accumulation",
    "optimizer.lr": "--lr",
    "machine.device": "--device",
    "machine.precision": "--precision",
    "seed": "--seed",
    "task": "--task",
}
"""Short names of the fields that are set most often; the dotted names always work too."""


def option(help: str, *names: str, group: Group = OPTIONS, **settings: Any) -> Parameter:
    """A flag of one command; ``settings`` are those of ``cyclopts.Parameter``."""
    return Parameter(name=names or None, help=help, group=group, **settings)


def switch(help: str, *names: str) -> Parameter:
    """A flag that is off unless given, without a ``--no-`` form."""
    return option(help, *names, negative=(), show_default=False)


@dataclass(frozen=True)
class Field:
    """One leaf of a record."""

    path: str
    """Dotted, such as ``optimizer.batch_size``."""
    annotation: Any
    default: Any
    help: str
    group: str
    """Title of the panel in ``--help``."""

    @property
    def parameter(self) -> str:
        """The keyword under which a command gets it."""
        return self.path.replace(".", "__")

    @property
    def dotted(self) -> str:
        """The flag, such as ``--optimizer.batch-size``."""
        return "--" + self.path.replace("_", "-")


def leaves(record: type, prefix: str = "", group: str = "Run") -> Iterator[Field]:
    """Every field of a record and of the records in it, in the order they are written."""
    hints, sentences = get_type_hints(record), field_sentences(record)
    for field in fields(record):
        path, annotation = f"{prefix}{field.name}", hints[field.name]
        if is_dataclass(annotation):
            yield from leaves(annotation, f"{path}.", field.name.capitalize())  # type: ignore[arg-type]
        else:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            yield Field(path, annotation, default, sentences.get(field.name, ""), group)


@cache
def field_sentences(record: type) -> dict[str, str]:
    """The docstring under each field, read from the source: Python itself does not keep it."""
    body = _classes(inspect.getfile(record))[record.__name__]
    found = {}
    for line, below in pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and _is_text(below):
            found[line.target.id] = inspect.cleandoc(below.value.value)  # type: ignore[attr-defined]
    return found


@cache
def _classes(file: str) -> dict[str, list[ast.stmt]]:
    """The body of every class in a source file, parsed once for all of them: ``--help`` waits for this."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def with_flags(
    record: type,
    prefix: str = "",
    group: str = "Run",
    *,
    defaults: bool = True,
    without: Sequence[str] = (),
    taken: Sequence[str] = (),
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command ``f(..., **flags)`` so that every leaf of ``record`` is one of its flags.

    ``prefix`` stands in front of the fields' names, ``group`` is the panel of those that are in no inner record.
    ``defaults`` off keeps the record's defaults out of the help, where something else stands in for what is not given.
    ``without`` leaves fields out by their dotted names, ``taken`` are short names that the command has for itself.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        shown = [field for field in leaves(record, prefix, group) if field.path not in without]
        parameters = [*own, *(_parameter(field, defaults, taken) for field in shown)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _parameter(field: Field, defaults: bool, taken: Sequence[str]) -> inspect.Parameter:
    alias = ALIASES.get(field.path)
    alias = None if alias in taken else alias
    several = get_origin(_without_none(field.annotation)) is tuple
    shown = Parameter(
        name=_names(field.dotted, alias),
        help=" ".join(field.help.replace("``", "").split()),
        group=COMMON if alias else Group(field.group, sort_key=2),
        show_default=defaults and _shown(field.default),
        consume_multiple=several,
        negative=None if field.annotation is bool else (),
    )
    annotation: Any = Annotated[Optional[field.annotation], shown]  # noqa: UP045 - built from a value
    return inspect.Parameter(field.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _names(dotted: str, alias: str | None) -> tuple[str, ...]:
    """The short name first, except where the dotted one goes on from it: cyclopts tries them in this order and would
    read ``--data.source`` as something below ``--data``."""
    if alias is None or alias == dotted:
        return (dotted,)
    return (dotted, alias) if dotted.startswith(f"{alias}.") else (alias, dotted)


def _without_none(annotation: Any) -> Any:
    kept = [option for option in get_args(annotation) if option is not type(None)]
    return kept[0] if len(kept) == 1 and type(None) in get_args(annotation) else annotation


def _shown(default: Any) -> Any:
    """What ``--help`` says of a default; None where it is nothing."""
    if default is None or default is MISSING:
        return False
    text = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return lambda _: text


def nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimization__lr": 0.1}`` as ``{"optimizer": {"lr": 0.1}}``."""
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        *branches, leaf = name.split("__")
        here = tree
        for branch in branches:
            here = here.setdefault(branch, {})
        here[leaf] = value
    return tree


def at_least_one(batch_size: int) -> int:
    """``--batch-size``, checked."""
    if batch_size < 1:
        raise DataError(f"--batch-size: expected at least 1, got {batch_size}")
    return batch_size


def data_of(weights: str | None, said: dict[str, Any]) -> DataConfig | None:
    """The run's own choice of images with what was said over it; None where nothing was said."""
    if not said:
        return None
    from ..run.data import data_of_run

    own = data_of_run(weights)
    if own is None and "source" not in said:
        raise DataError("which images? Give --data a folder or the name of a data set")
    return (own or DataConfig()).updated(said, "data")


def _or_none(read: Any) -> Any:
    try:
        return read()
    except InputError:
        return None
