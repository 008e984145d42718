"""Typed records: frozen dataclasses that check themselves and travel through JSON and YAML.

A record is a ``@dataclass(frozen=True, kw_only=True)`` that inherits from ``Record``. Its annotations are its
schema: they are checked when it is made, and ``from_dict`` reads them to rebuild nested records. Every message
starts with the path of the field, such as ``stages[2].mixer.name``. No torch here.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import InputError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of all records: type-checked when made, ``to_dict``/``from_dict``, ``to_json``/``from_json``."""

    error: ClassVar[type[InputError]] = InputError
    renamed: ClassVar[Mapping[str, str]] = {}
    """Names that fields had in earlier versions, and what they are called now: files that have them are read still."""

    def __post_init__(self) -> None:
        for name, annotation in _schema(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, list):  # a list is as good, but could be changed later
                value = _rebuilt(value, annotation, name)
                object.__setattr__(self, name, value)
            problem = mismatch(value, annotation)
            if problem:
                raise self.error(f"{name}: {problem}")
        self.check()

    def check(self) -> None:
        """Rules beyond the types; records override it and call ``expect``."""

    def expect(self, condition: bool, field: str, expected: str, came: object) -> None:
        """Refuse the record unless ``condition`` holds, naming the field, what was expected and what came."""
        if not condition:
            raise self.error(f"{field}: expected {expected}, got {came!r}")

    def with_changes(self, **changes: Any) -> Self:
        """A copy with some fields replaced, checked again."""
        return replace(self, **changes)

    def updated(self, fields: Mapping[str, Any], path: str = "") -> Self:
        """A copy with the fields of a nested mapping, as a YAML file or flags give them, in place of its own."""
        return self.from_dict(merged(self.to_dict(), self.with_current_names(fields)), path)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, ready for JSON or YAML."""
        return {name: _plain(getattr(self, name), name, self.error) for name in _schema(type(self))}

    def to_json(self, indent: int | None = 2) -> str:
        """This record as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], path: str = "") -> Self:
        """Rebuild a record; an unknown key or a wrong type is refused with its path and the nearest name."""
        if not isinstance(data, Mapping):
            raise cls.error(f"{path or cls.__name__}: expected a mapping of fields, got {data!r}")
        schema = _schema(cls)
        values: dict[str, Any] = {}
        for key, value in cls.with_current_names(data).items():
            if key not in schema:
                raise cls.error(f"{_join(path, str(key))}: no such field. {did_you_mean(str(key), schema)}")
            values[key] = _rebuilt(value, schema[key], _join(path, key))
        missing = [f.name for f in fields(cls) if f.name not in values and _required(f)]
        if missing:
            raise cls.error(f"{_join(path, missing[0])}: this field is required")
        try:
            return cls(**values)
        except InputError as error:
            raise type(error)(f"{path}.{error}" if path else str(error)) from None

    @classmethod
    def with_current_names(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """A mapping of fields with today's names in place of those of earlier versions, in nested records too.

        Needed by itself where two mappings are merged before a record is made of them.
        """
        schema, found = _schema(cls), dict[str, Any]()
        for key, value in data.items():
            name = cls.renamed.get(key, key)
            inner = _record_of(_options(schema[name]), value) if name in schema and isinstance(value, Mapping) else None
            found[name] = inner.with_current_names(value) if inner else value
        return found

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of ``to_json``."""
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise cls.error(f"not valid JSON: {error}") from None
        return cls.from_dict(data)


_SCHEMAS: dict[type, dict[str, Any]] = {}


def _schema(cls: type[Record]) -> dict[str, Any]:
    """Field names and resolved annotations, worked out once a class."""
    if cls not in _SCHEMAS:
        hints = get_type_hints(cls)
        _SCHEMAS[cls] = {f.name: hints[f.name] for f in fields(cls)}
    return _SCHEMAS[cls]


def _required(field: Any) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _options(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def _describe(annotation: Any) -> str:
    names = []
    for option in _options(annotation):
        if get_origin(option) is Literal:
            names.append(" or ".join(repr(value) for value in get_args(option)))
        elif option is type(None):
            names.append("nothing")
        elif get_origin(option) is tuple:
            inner = get_args(option)
            length = "" if inner[-1] is Ellipsis else f"{len(inner)} "
            names.append(f"a list of {length}{_MANY.get(inner[0], _describe(inner[0]))}")
        elif get_origin(option) is Mapping:
            names.append("a mapping of fields")
        elif isinstance(option, type) and issubclass(option, Record):
            names.append(f"a mapping such as {{{next(iter(_schema(option)))}: ...}}")
        else:
            names.append(
                {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(
                    option, getattr(option, "__name__", str(option))
                )
            )
    return " or ".join(names)


def _fits(value: Any, annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Literal:
        return value in get_args(annotation)
    if origin is tuple:
        inner = get_args(annotation)
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(mismatch(item, inner[0]) is None for item in value)
        return len(value) == len(inner) and all(
            mismatch(item, one) is None for item, one in zip(value, inner, strict=True)
        )
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if origin is Sequence:  # of many numbers: what is in it is not looked at
        return isinstance(value, (list, tuple))
    if annotation is Any:
        return True
    if annotation is Callable or origin is Callable:
        return callable(value)
    if annotation in (int, float):
        if isinstance(value, bool):
            return False
        return isinstance(value, int) or (annotation is float and isinstance(value, float))
    return isinstance(value, annotation) if isinstance(annotation, type) else callable(value)


def mismatch(value: Any, annotation: Any) -> str | None:
    """What is wrong with a value against a type annotation, as "expected ..., got ..."; None where it fits."""
    if any(_fits(value, option) for option in _options(annotation)):
        return None
    return f"expected {_describe(annotation)}, got {value!r}"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``below`` with the values of ``above`` over it, mappings field by field."""
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
    raise error(f"{path}: {value!r} is a Python object and cannot be written as JSON; only named parts can be saved")


def _record_of(options: tuple[Any, ...], value: Mapping[str, Any]) -> type[Record] | None:
    """The record that a mapping is meant for: of several kinds the one that knows most of its fields."""
    records = [option for option in options if isinstance(option, type) and issubclass(option, Record)]
    return max(records, key=lambda record: len(_schema(record).keys() & value.keys()), default=None)


def _rebuilt(value: Any, annotation: Any, path: str) -> Any:
    """``value`` from JSON or YAML as the annotation wants it: lists to tuples, mappings to records."""
    if isinstance(value, Mapping) and (record := _record_of(_options(annotation), value)):
        return record.from_dict(value, path)
    for option in _options(annotation):
        if get_origin(option) is tuple and isinstance(value, (list, tuple)):
            inner = get_args(option)
            kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
            if len(kinds) == len(value):
                return tuple(
                    _rebuilt(item, kind, f"{path}[{i}]")
                    for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
                )
        if option is float and isinstance(value, str) and mismatch(value, annotation):
            try:  # YAML 1.1 reads 1e-3 as a text
                return float(value)
            except ValueError:
                continue
    return value
