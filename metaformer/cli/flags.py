"""The fields of a recipe as typed flags: each has a dotted flag, the common ones a short flag too.

``with_flags`` adds a keyword parameter to a cyclopts command for every field of a record such as ``Recipe``. The
command is called with the flags that were given and no others, so that defaults never override a recipe or a YAML file.
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
from typing import Annotated, Any, Literal, Optional, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..errors import DataError
from ..recipe import DataConfig, Recipe

Command = TypeVar("Command", bound=Callable[..., object])

command_line: ContextVar[str] = ContextVar("command_line", default="")
"""The command as typed, for a run's config.json."""

OPTIONS = Group("Options", sort_key=0)
COMMON = Group("Common", sort_key=1)

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
"""Short flags of the fields that are set most often; the dotted flags work too."""


def option(help: str, *names: str, group: Group = OPTIONS, **settings: Any) -> Parameter:
    """A flag of one command; ``settings`` are those of ``cyclopts.Parameter``."""
    return Parameter(name=names or None, help=help, group=group, **settings)


def switch(help: str, *names: str) -> Parameter:
    """A flag that is off unless given, without a ``--no-`` form."""
    return option(help, *names, negative=(), show_default=False)


def several(help: str) -> Parameter:
    """A flag that takes one value or more, with a default."""
    return option(help, consume_multiple=True, negative=(), show_default=lambda values: " ".join(map(str, values)))


def paragraphs(command: Callable[..., object]) -> str:
    """A command's docstring with one line per paragraph, which the terminal wraps at its own width."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


Weights: TypeAlias = Annotated[str | None, option("Run folder, weights file or hub id.")]
ModelName: TypeAlias = Annotated[
    str | None, option("Model name, for published weights and third-party checkpoints; see metaformer models.")
]
BatchSize: TypeAlias = Annotated[int, option("Images per batch.", validator=Number(gte=1))]
Device: TypeAlias = Annotated[Literal["auto", "cpu", "cuda", "mps"], option("Device to compute on.")]
AsJson: TypeAlias = Annotated[bool, switch("Print the result as JSON.", "--json")]


@dataclass(frozen=True)
class Field:
    """One field of a record or of a record in it."""

    path: str
    """Dotted, such as ``optimizer.batch_size``."""
    annotation: Any
    default: Any
    help: str
    group: str
    """Title of the panel in ``--help``."""

    @property
    def parameter(self) -> str:
        """Name of the command's keyword parameter."""
        return self.path.replace(".", "__")

    @property
    def dotted(self) -> str:
        """The flag, such as ``--optimizer.batch-size``."""
        return "--" + self.path.replace("_", "-")


def leaves(record: type, prefix: str = "", group: str = "Run") -> Iterator[Field]:
    """Every field of a record and of the records in it, in the order of the source."""
    hints, sentences = get_type_hints(record), field_docstrings(record)
    for field in fields(record):
        path, annotation = f"{prefix}{field.name}", hints[field.name]
        if is_dataclass(annotation):
            yield from leaves(annotation, f"{path}.", field.name.capitalize())  # type: ignore[arg-type]
        else:
            default = field.default_factory() if field.default_factory is not MISSING else field.default
            yield Field(path, annotation, default, sentences.get(field.name, ""), group)


@cache
def field_docstrings(record: type) -> dict[str, str]:
    """The docstring under each field, read from the source: Python itself does not keep it."""
    body = _classes(inspect.getfile(record))[record.__name__]
    found = {}
    for line, below in pairwise(body):
        match line, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(sentence))):
                found[name] = inspect.cleandoc(sentence)
    return found


@cache
def _classes(file: str) -> dict[str, list[ast.stmt]]:
    """The body of every class in a source file. Parsed once per file, since ``--help`` waits for it."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}


def with_flags(
    record: type,
    prefix: str = "",
    group: str = "Run",
    *,
    defaults: bool = True,
    without: Sequence[str] = (),
    taken: Sequence[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Callable[[Command], Command]:
    """Decorate a command ``f(..., **flags)`` so that every field of ``record`` is one of its flags.

    Args:
        record: a record class.
        prefix: put before the fields' names, such as ``data.``.
        group: panel of the fields that are in no inner record.
        defaults: whether the help has the record's defaults; off where a run or a plan has other ones.
        without: dotted names of fields that get no flag.
        taken: short flags that the command has itself.
        choices: values that the help lists, by dotted name.
    """

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        used = [field for field in leaves(record, prefix, group) if field.path not in without]
        # Panels in the order of the record, behind the command's own.
        panels = {title: Group(title, sort_key=2 + i) for i, title in enumerate(dict.fromkeys(f.group for f in used))}
        shown = choices or {}
        flags = [_parameter(field, panels[field.group], defaults, taken, shown.get(field.path, ())) for field in used]
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
        return command

    return decorate


def _parameter(
    field: Field, panel: Group, defaults: bool, taken: Sequence[str], choices: Sequence[str]
) -> inspect.Parameter:
    alias = ALIASES.get(field.path)
    alias = None if alias in taken else alias
    is_list = get_origin(_without_none(field.annotation)) is tuple
    listed = f" [choices: {', '.join(choices)}]" if choices else ""
    shown = Parameter(
        name=_names(field.dotted, alias),
        help=" ".join(field.help.replace("``", "").split()) + listed,
        group=COMMON if alias else panel,
        show_default=defaults and _default_text(field.default),
        consume_multiple=is_list,
        negative=None if field.annotation is bool else (),
    )
    annotation: Any = Annotated[Optional[field.annotation], shown]  # noqa: UP045 - built from a value
    return inspect.Parameter(field.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _names(dotted: str, alias: str | None) -> tuple[str, ...]:
    """The short flag first, unless it is the start of the dotted one: cyclopts matches the names in this order and
    would read ``--data.source`` as a field of ``--data``."""
    if alias is None or alias == dotted:
        return (dotted,)
    return (dotted, alias) if dotted.startswith(f"{alias}.") else (alias, dotted)


def _without_none(annotation: Any) -> Any:
    kept = [option for option in get_args(annotation) if option is not type(None)]
    return kept[0] if len(kept) == 1 and type(None) in get_args(annotation) else annotation


def _default_text(default: Any) -> Any:
    """The default as ``--help`` prints it; False leaves it out."""
    if default is None or default is MISSING or default is False or default == ():
        return False
    values = default if isinstance(default, tuple) else (default,)
    text = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    return lambda _: text


def nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimizer__lr": 0.1}`` as ``{"optimizer": {"lr": 0.1}}``."""
    tree: dict[str, Any] = {}
    for name, value in flags.items():
        *branches, leaf = name.split("__")
        here = tree
        for branch in branches:
            here = here.setdefault(branch, {})
        here[leaf] = value
    return tree


def with_current_flags(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words of a command line with the present names of flags, and the former names in them with the present ones.

    A flag is renamed with its field: see ``Record.renamed``.
    """
    current, former = [], {}
    for word in words:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and "." in flag:
            tree = Recipe.with_current_names(nested({flag[2:].replace("-", "_").replace(".", "__"): None}))
            renamed = "--" + _path(tree).replace("_", "-")
            if renamed != flag.replace("_", "-"):
                former[flag] = flag = renamed
        current.append(flag + equals + value)
    return current, former


def _path(tree: Mapping[str, Any]) -> str:
    """The dotted name of the only field in a nested mapping."""
    ((name, inner),) = tree.items()
    return f"{name}.{_path(inner)}" if isinstance(inner, Mapping) else name


def data_config(weights: str | None, fields: Mapping[str, Any]) -> DataConfig | None:
    """The data of the run that ``weights`` belong to, updated with the data flags; None where no flag was given."""
    if not fields:
        return None
    from ..run.data import data_of_run

    own = data_of_run(weights)
    if own is None and "source" not in fields:
        raise DataError("no data given; pass --data with a folder or the name of a dataset")
    return (own or DataConfig()).updated(fields, "data")


def dataset_name(source: str) -> str:
    """A dataset's name in a folder's name: ``photos/cats/`` as ``cats``, ``hub:x`` as ``hub-x``."""
    source = source.rstrip("/")
    name = Path(source).expanduser().resolve().name if "/" in source or source.startswith(".") else source
    return name.replace(":", "-")
