"""Laws of all records: what is written is read again, and former names of fields are understood everywhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

import metaformer
from metaformer.errors import InputError
from metaformer.recipe import OptimizerConfig, Recipe
from metaformer.records import Record, mismatch
from metaformer.spec.model import ModelSpec, TimmSpec
from metaformer.zoo.catalogue import CATALOGUE, find


def records() -> list[type[Record]]:
    """Every record of the package that can be made."""
    for module in pkgutil.walk_packages(metaformer.__path__, "metaformer."):
        if module.name != "metaformer.__main__":
            importlib.import_module(module.name)
    return sorted(set(_below(Record)), key=lambda record: (record.__module__, record.__name__))


def _below(record: type[Record]) -> Iterator[type[Record]]:
    for inner in record.__subclasses__():
        if inner.__module__.startswith("metaformer") and fields(inner):
            yield inner
        yield from _below(inner)


PUBLISHED: dict[type[Record], st.SearchStrategy[Any]] = {
    # parts that fit together are too rare among random ones
    ModelSpec: st.sampled_from([row.spec for row in CATALOGUE.values() if isinstance(row.spec, ModelSpec)]),
    TimmSpec: st.just(TimmSpec(architecture="resnet50")),
}
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 9),
    float: st.floats(0, 9, allow_subnormal=False),
    str: st.sampled_from(["", "loss", "top1", "poolformer_s12", "identity", "ä/ö.png"]),
    bool: st.booleans(),
    type(None): st.none(),
    Any: st.none() | st.sampled_from(["attention", "1"]),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, inner))
    if origin is Mapping:
        return st.dictionaries(st.sampled_from(["loss", "top1", "1"]), values(inner[1]), max_size=2)
    if origin is Sequence:
        return st.lists(values(inner[0]), max_size=2)
    if inner:
        return st.one_of([values(option) for option in inner if option in SCALARS or not callable_type(option)])
    return PUBLISHED.get(annotation) or SCALARS.get(annotation) or made(annotation)


def callable_type(annotation: Any) -> bool:
    """Whether a field takes Python objects, which are not written."""
    return "Callable" in str(annotation)


@st.composite
def made(draw: st.DrawFn, record: type[Record]) -> Record:
    """A record with random values in some of its fields."""
    hints = get_type_hints(record)
    chosen = {}
    for field in fields(record):
        required = field.default is MISSING and field.default_factory is MISSING
        if required or draw(st.integers(0, 3)) == 0:
            chosen[field.name] = draw(values(hints[field.name]))
    try:
        return record(**chosen)
    except ValueError:  # parts that do not fit together
        reject()


@pytest.mark.parametrize("record", records(), ids=lambda record: f"{record.__module__}.{record.__name__}")
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_what_is_written_is_read_again(record: type[Record], data: st.DataObject) -> None:
    before = data.draw(PUBLISHED.get(record) or made(record))
    assert record.from_json(before.to_json()) == before
    assert record.from_dict(before.to_dict()) == before


# ---- former names ----------------------------------------------------------------------------------------------------


def test_former_names_are_read_in_nested_fields() -> None:
    former = {"optimisation": {"optimiser": "sgd", "lr": 0.5}}
    assert Recipe.with_current_names(former) == {"optimizer": {"name": "sgd", "lr": 0.5}}
    assert Recipe.from_dict(former).optimizer == OptimizerConfig(name="sgd", lr=0.5)
    assert Recipe().updated(former).optimizer == OptimizerConfig(name="sgd", lr=0.5)
    assert Recipe.former_names(former) == {
        "optimisation": "optimizer",
        "optimisation.optimiser": "optimizer.name",
    }
    assert Recipe.former_names(Recipe().to_dict()) == {}


def test_former_names_work_in_python_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"recipe\.Optimisation is now called OptimizerConfig"):
        from metaformer.recipe import Optimisation
    with pytest.warns(DeprecationWarning, match=r"OptimizerConfig\.optimiser is now called OptimizerConfig\.name"):
        config = Optimisation(optimiser="sgd")
    with pytest.warns(DeprecationWarning, match=r"Recipe\.optimisation is now called Recipe\.optimizer"):
        recipe = Recipe(optimisation=config)
    with pytest.warns(DeprecationWarning, match=r"Recipe\.optimisation"):
        assert recipe.optimisation.name == "sgd"
    with pytest.raises(AttributeError, match="'Recipe' object has no attribute 'optimization'"):
        recipe.optimization  # noqa: B018
    with pytest.raises(ImportError, match="OptimiserConfig"):
        from metaformer.recipe import OptimiserConfig  # noqa: F401


def test_no_former_name_is_used_again() -> None:
    for record in records():
        assert not record.renamed.keys() & {field.name for field in fields(record)}, record


# ---- types -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (3, str, "expected a string, got 3"),
        (True, int, "expected an integer, got True"),
        ("1", float | None, "expected a number or null, got '1'"),
        (1, bool, "expected true or false, got 1"),
        ("c", Literal["a", "b"] | None, "expected 'a', 'b' or null, got 'c'"),
        ((1,), tuple[str, ...], "expected a list of strings, got (1,)"),
        ((1, 2, 3), tuple[int, int], "expected a list of 2 integers, got (1, 2, 3)"),
        (5, Mapping[str, int], "expected a mapping of fields, got 5"),
        ("adamw", OptimizerConfig, "expected a mapping such as {epochs: ...}, got 'adamw'"),
        (1, float, None),
        ({"a": 1}, Mapping[str, float], None),
    ],
)
def test_a_mismatch_is_described(value: Any, annotation: Any, message: str | None) -> None:
    assert mismatch(value, annotation) == message


def test_a_list_becomes_a_tuple_and_a_string_of_a_number_a_number() -> None:
    recipe = Recipe.from_dict({"model": {"mixers": ["pooling"]}, "optimizer": {"lr": "1e-3"}})
    assert recipe.model.mixers == ("pooling",)
    assert recipe.optimizer.lr == 1e-3  # as YAML 1.1 reads it


def test_a_kind_that_is_another_is_refused() -> None:
    fields = find("poolformer_s12").spec.to_dict()
    if "kind" in fields:
        with pytest.raises(InputError, match="kind: expected"):
            ModelSpec.from_dict(fields | {"kind": "segmenter"})
