"""Typed records: frozen dataclasses that check their fields and convert to and from JSON and YAML.

A record is a ``@dataclass(frozen=True, kw_only=True)`` that inherits from ``Record``. Its annotations are its schema:
values are checked against them when a record is made, and ``from_dict`` rebuilds nested records from them. Every
message starts with the path of the field, such as ``stages[2].mixer.name``. No torch here.
"""

from __future__ import annotations

import json
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import InputError, did_you_mean, either


class _RecordType(type):
    """Type of the record classes: a field's former name is accepted as a keyword, with a warning."""

    if not TYPE_CHECKING:  # type checkers see the dataclass's own signature

        def __call__(cls, *args, **fields):
            for name in cls.renamed.keys() & fields.keys():
                _warn_of_former_name(cls, name)
                fields[cls.renamed[name]] = fields.pop(name)
            return super().__call__(*args, **fields)


@dataclass(frozen=True, kw_only=True)
class Record(metaclass=_RecordType):
    """Base of all records: type-checked when made, ``to_dict``/``from_dict``, ``to_json``/``from_json``."""

    error: ClassVar[type[InputError]] = InputError
    tag: ClassVar[str] = ""
    """What a union of records tells this one by: written as ``kind`` beside the fields, and checked when read."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Former names of fields and their present ones. Files and Python code of earlier versions use the former."""

    def __post_init__(self) -> None:
        for name, annotation in _schema(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, list):  # a frozen record keeps tuples: a list could be changed later
                value = _rebuilt(value, annotation, name)
                object.__setattr__(self, name, value)
            if problem := _problem(value, annotation, name):
                raise self.error(problem)
        self.check()

    if not TYPE_CHECKING:  # type checkers still report attributes that do not exist

        def __getattr__(self, name):
            """The value of a field by its former name, with a warning."""
            if name not in type(self).renamed:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            _warn_of_former_name(type(self), name)
            return getattr(self, type(self).renamed[name])

    def check(self) -> None:
        """Rules beyond the types; records override it and call ``expect``."""

    def expect(self, condition: bool, field: str, expected: str, got: object) -> None:
        """Refuse the record unless ``condition`` holds; the message has the field, what was expected and ``got``."""
        if not condition:
            raise self.error(f"{field}: expected {expected}, got {got!r}")

    def with_changes(self, **changes: object) -> Self:
        """A copy with some fields replaced, checked again."""
        return replace(self, **changes)

    def updated(self, fields: Mapping[str, object], path: str = "") -> Self:
        """A copy with some fields replaced from a nested mapping, as a YAML file or flags give them.

        Nested records are updated field by field; ``path`` is put before the field in messages.
        """
        return self.from_dict(merged(self.to_dict(), self.with_current_names(fields)), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, ready for JSON or YAML."""
        tag = {"kind": self.tag} if self.tag else {}
        return tag | {name: _plain(getattr(self, name), name, self.error) for name in _schema(type(self))}

    def to_json(self, indent: int | None = 2) -> str:
        """This record as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "") -> Self:
        """Rebuild a record from what ``to_dict`` returns; fields with defaults may be missing.

        Args:
            data: values by field name, present or former.
            path: put before the field in messages, such as ``recipe.model``.

        Raises:
            InputError: of the kind ``cls.error``: an unknown field (with the nearest name), a missing one, or a value
                of a wrong type.
        """
        if not isinstance(data, Mapping):
            raise cls.error(f"{path or cls.__name__}: expected a mapping of fields, got {data!r}")
        schema = _schema(cls)
        values: dict[str, Any] = {}
        for key, value in cls.with_current_names(data).items():
            if key == "kind" and cls.tag:
                if value != cls.tag:
                    raise cls.error(f"{_join(path, key)}: expected {cls.tag!r}, got {value!r}")
                continue
            if key not in schema:
                raise cls.error(f"{_join(path, str(key))}: no such field. {did_you_mean(str(key), schema)}")
            values[key] = _rebuilt(value, schema[key], _join(path, key))
        for field in fields(cls):
            if field.name not in values and field.default is MISSING and field.default_factory is MISSING:
                raise cls.error(f"{_join(path, field.name)}: this field is required")
        try:
            return cls(**values)
        except InputError as error:
            raise type(error)(f"{path}.{error}" if path else str(error)) from None

    @classmethod
    def with_current_names(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """``data`` with the present names of its fields, in nested records too.

        Call it before two mappings are merged, so that a former and a present name meet.
        """
        current: dict[str, Any] = {}
        for key, value in data.items():
            name = cls.renamed.get(key, key)
            inner = _inner_record(cls, name, value)
            current[name] = inner.with_current_names(value) if inner else value
        return current

    @classmethod
    def former_names(cls, data: Mapping[str, Any]) -> dict[str, str]:
        """The former names used in ``data`` and their present ones, both dotted paths; empty where there are none."""
        found: dict[str, str] = {}
        for key, value in data.items():
            name = cls.renamed.get(key, key)
            if name != key:
                found[key] = name
            if inner := _inner_record(cls, name, value):
                found |= {f"{key}.{old}": f"{name}.{new}" for old, new in inner.former_names(value).items()}
        return found

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Rebuild a record from what ``to_json`` returns."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise cls.error(f"not valid JSON: {error}") from None
        return cls.from_dict(data)


_SCHEMAS: dict[type[Record], dict[str, Any]] = {}


def _schema(cls: type[Record]) -> dict[str, Any]:
    """Field names and resolved annotations, computed once per class."""
    if cls not in _SCHEMAS:
        hints = get_type_hints(cls)
        _SCHEMAS[cls] = {f.name: hints[f.name] for f in fields(cls)}
    return _SCHEMAS[cls]


def _warn_of_former_name(cls: type[Record], name: str) -> None:
    message = f"{cls.__name__}.{name} is now called {cls.__name__}.{cls.renamed[name]}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)  # the line that has the former name in it


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


_ONE = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
_MANY = {int: "integers", float: "numbers", str: "strings"}


def _describe(annotation: Any) -> str:
    """An annotation in words, such as ``a list of strings or null``."""
    return either([words for option in _options(annotation) for words in _describe_option(option)])


def _describe_option(option: Any) -> list[str]:
    origin, inner = get_origin(option), get_args(option)
    if origin is Literal:
        return [repr(value) for value in inner]
    if origin is tuple:
        length = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return [f"a list of {length}{_MANY.get(inner[0]) or _describe(inner[0])}"]
    if origin is Mapping:
        return ["a mapping of fields"]
    if origin is Sequence:
        return ["a list"]
    if isinstance(option, type) and issubclass(option, Record):
        return [f"a mapping such as {{{next(iter(_schema(option)))}: ...}}"]
    return [_ONE.get(option) or str(getattr(option, "__name__", option))]


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of one type; ``annotation`` is no union."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inner[-1] is Ellipsis:
            return all(mismatch(item, inner[0]) is None for item in value)
        return len(value) == len(inner) and all(map(_agrees, value, inner))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_agrees(item, inner[1]) for item in value.values())
    if origin is Sequence:  # long lists of numbers, such as a confusion matrix: their items are not checked
        return isinstance(value, (list, tuple))
    if annotation is Callable or origin is Callable:
        return callable(value)
    if annotation in (int, float):  # Python counts booleans as integers, a recipe does not
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    return isinstance(value, annotation) if isinstance(annotation, type) else callable(value)


def _agrees(value: Any, annotation: Any) -> bool:
    return mismatch(value, annotation) is None


def mismatch(value: Any, annotation: Any) -> str | None:
    """What is wrong with a value against a type annotation, as "expected ..., got ..."; None where it fits."""
    if any(_fits(value, option) for option in _options(annotation)):
        return None
    return f"expected {_describe(annotation)}, got {value!r}"


def _problem(value: Any, annotation: Any, path: str) -> str | None:
    """The first mismatch with its path; in a mapping that of the item."""
    for option in _options(annotation):
        if get_origin(option) is Mapping and isinstance(value, Mapping):
            item_type = get_args(option)[1]
            found = (_problem(item, item_type, f"{path}.{key}") for key, item in value.items())
            return next((problem for problem in found if problem), None)
    problem = mismatch(value, annotation)
    return f"{path}: {problem}" if problem else None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with its values replaced by those of ``above``; nested mappings are merged key by key."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _plain(value: Any, path: str, error: type[InputError]) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{path}.{key}", error) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, f"{path}[{i}]", error) for i, item in enumerate(value)]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise error(f"{path}: cannot save {value!r} as JSON: it is a Python object; only parts with a name can be saved")


def _inner_record(cls: type[Record], field: str, value: Any) -> type[Record] | None:
    """The record that a field's value is read as; None where it is none."""
    schema = _schema(cls)
    return _record_of(_options(schema[field]), value) if field in schema and isinstance(value, Mapping) else None


def _record_of(options: tuple[Any, ...], value: Mapping[str, Any]) -> type[Record] | None:
    """The record that a mapping is read as: the one it is tagged with.

    Files of version 0.1.0 have no tags; there it is the one that has most of the fields.
    """
    records = [option for option in options if isinstance(option, type) and issubclass(option, Record)]
    tagged = [record for record in records if record.tag and record.tag == value.get("kind")]
    likeliest = max(records, key=lambda record: len(_schema(record).keys() & value.keys()), default=None)
    return tagged[0] if tagged else likeliest


def _rebuilt(value: Any, annotation: Any, path: str) -> Any:
    """``value`` from JSON or YAML as the annotation has it: lists to tuples, mappings to records."""
    options = _options(annotation)
    if isinstance(value, Mapping) and (record := _record_of(options, value)):
        return record.from_dict(value, path)
    for option in options:
        origin, inner = get_origin(option), get_args(option)
        if origin is tuple and isinstance(value, (list, tuple)):
            kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
            if len(kinds) == len(value):
                return tuple(_rebuilt(item, kinds[i], f"{path}[{i}]") for i, item in enumerate(value))
        if origin is Sequence and isinstance(value, (list, tuple)):  # numbers as they are, rows of numbers to tuples
            return tuple(_rebuilt(item, inner[0], path) for item in value) if get_origin(inner[0]) else tuple(value)
        if origin is Mapping and isinstance(value, Mapping):
            return {key: _rebuilt(item, inner[1], f"{path}.{key}") for key, item in value.items()}
        if option is float and isinstance(value, str) and not _agrees(value, annotation):
            try:  # YAML 1.1 reads 1e-3 as a string
                return float(value)
            except ValueError:
                continue
    return value
