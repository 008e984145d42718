"""The order of the house, read from the source: a module imports from lower layers only, and by the defining module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "metaformer"

LAYERS = {
    "errors": 0,
    "version": 0,
    "records": 0,
    "types": 0,
    "metrics": 0,
    "evaluation": 0,
    "files": 0,
    "spec": 0,
    "recipe": 0,
    "model": 1,
    "data": 1,
    "render": 1,
    "zoo": 2,
    "weights": 2,
    "factory": 3,
    "training": 3,
    "tasks": 4,
    "inference": 5,
    "run": 5,
    "deploy": 6,
    "ablation": 6,
    "benchmark": 6,
    "cli": 7,
    "__main__": 7,
}
"""Every module or folder at the top of the library; docs/architecture.md says why they stand where they stand."""

TORCH_FREE = (
    "errors",
    "records",
    "types",
    "metrics",
    "spec.model",
    "spec.dense",
    "recipe",
    "zoo.catalogue",
    "run.recipes",
    "run.evaluation_file",
    "cli",
)
"""What ``metaformer --help`` and the tools around it import; PyTorch costs seconds."""


def modules() -> list[Path]:
    """Every source file of the library."""
    return sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """``metaformer.model.build`` for its file; a package's own name for its ``__init__``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The top-level module or folder under ``metaformer`` that a module belongs to; '' for the package itself."""
    return module.split(".")[1] if "." in module else ""


def nodes(path: Path, typing: bool) -> Iterator[ast.AST]:
    """Everything in a file; without what stands under ``if TYPE_CHECKING`` unless ``typing``."""
    queue: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while queue:
        node = queue.pop()
        yield node
        if typing or not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            queue.extend(ast.iter_child_nodes(node))


def imports(path: Path, typing: bool = True) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """(absolute module, imported names, line) of every import of this library, those in functions included."""
    name = dotted(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in nodes(path, typing):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "metaformer":
                    yield alias.name, (), node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            target = ".".join(part for part in (base, node.module) if part)
            if target.split(".")[0] == "metaformer":
                yield target, tuple(alias.name for alias in node.names), node.lineno


def is_module(name: str) -> bool:
    """Whether a dotted name is a module file or a package of this library."""
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def used_modules(path: Path, typing: bool = True) -> Iterator[tuple[str, int]]:
    """Modules of this library that a file imports: ``from .. import zoo`` uses ``metaformer.zoo``."""
    for target, names, line in imports(path, typing):
        inner = [f"{target}.{name}" for name in names if is_module(f"{target}.{name}")]
        yield from ((name, line) for name in inner or [target])


def test_every_room_has_its_layer() -> None:
    found = {room(dotted(path)) for path in modules()} - {""}
    assert found <= LAYERS.keys(), f"new rooms without a layer: {sorted(found - LAYERS.keys())}"


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_go_down(path: Path) -> None:
    here = room(dotted(path))
    if not here:
        pytest.skip("the package's own file is the table of contents")
    for target, line in used_modules(path):
        there = room(target)
        if there and there != here:
            assert LAYERS[there] < LAYERS[here] or both_inside(there, here), (
                f"{path.relative_to(ROOT)}:{line}: {here} (L{LAYERS[here]}) imports {there} (L{LAYERS[there]})"
            )


def both_inside(there: str, here: str) -> bool:
    """Neighbors of one layer may know each other, except for the two rooms that must not."""
    return LAYERS[there] == LAYERS[here] and {there, here} != {"model", "data"}


def test_layers_have_no_cycle() -> None:
    """Neighbors may import each other's modules, but never in a circle; names that only annotate do not count."""
    edges: dict[str, set[str]] = {}
    for path in modules():
        here = dotted(path)
        if room(here):
            edges[here] = {t for t, _ in used_modules(path, typing=False) if t != here and room(t)}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*trail, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


def test_model_and_data_do_not_know_each_other() -> None:
    for path in modules():
        here = room(dotted(path))
        if here in ("model", "data"):
            other = {"model": "data", "data": "model"}[here]
            assert other not in {room(target) for target, _ in used_modules(path)}, path


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_names_come_from_the_module_that_defines_them(path: Path) -> None:
    """``from ..model.build import build``, never through the re-export of an ``__init__``."""
    if path == PACKAGE / "__init__.py":
        pytest.skip("the package's own file is the table of contents")
    for target, names, line in imports(path):
        if (ROOT.joinpath(*target.split(".")) / "__init__.py").is_file():
            borrowed = [n for n in names if not is_module(f"{target}.{n}") and n != "__version__"]
            assert not borrowed, f"{path.relative_to(ROOT)}:{line}: {', '.join(borrowed)} from the package {target}"


def test_init_files_define_nothing() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = [
            node.name
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name not in ("__getattr__", "__dir__")
        ]
        assert not defined, f"{path.relative_to(ROOT)} defines {', '.join(defined)}"


def test_light_modules_leave_torch_out() -> None:
    """One process for all: each import is checked right after it."""
    code = (
        "import sys, importlib\n"
        f"for name in {TORCH_FREE!r}:\n"
        "    importlib.import_module('metaformer.' + name)\n"
        "    heavy = {'torch', 'torchvision', 'timm', 'matplotlib', 'sklearn'} & sys.modules.keys()\n"
        "    assert not heavy, f'metaformer.{name} imports {sorted(heavy)}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_table_of_contents_is_complete() -> None:
    """Every public name can be imported, and ``__all__`` lists it."""
    import metaformer

    for name in metaformer.__all__:
        assert getattr(metaformer, name) is not None
        assert name in dir(metaformer)
