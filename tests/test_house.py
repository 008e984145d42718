"""The rules of the house, read from the source. docs/architecture.md gives the reasons."""

from __future__ import annotations

import ast
import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from PIL import Image
from rich.console import Console
from test_layering import PACKAGE, ROOT, dotted, modules, room

import metaformer
from metaformer.recipe import DataConfig, Machine, OptimizerConfig, Recipe
from metaformer.spec.model import EmbeddingSpec, ModelSpec, StageSpec
from metaformer.tasks.task import TASKS, tasks

EXTERNAL = {
    "data/coco.py": {"segmentation"},
    "data/coco_instances.py": {"segmentation"},
    "recipe.py": {"classification"},
    "cli/models.py": {"top1"},
    "zoo/tables/imagenet_table.py": {"top1"},
    "zoo/tables/model_table.py": {"top1"},
}
"""Words that are a task's or a metric's by chance or from outside: COCO's own key, the default of the command line, the
column of the published ImageNet accuracies."""
KNOW_KINDS = ("spec", "model", "factory", "tasks")
"""Rooms that may know which kinds of tasks and models there are; and ``deploy.engines``."""
LOOSE = 10
WORDS = re.compile(
    r"pictures?\b|\bcolour|optimis(e|ation)|normalis|initialis|quantis|neighbour|behaviour|\bgrey\b"
    r"|\ba row of the zoo\b|files of others|broke down|\bmend\b|drawn by lot|\bthe truth\b|; nothing where\b",
    re.IGNORECASE,
)
"""Spellings and phrases that are not the field's."""
FORMER = {
    "metaformer/ablation/folder.py",
    "metaformer/deploy/export_info.py",
    "metaformer/evaluation.py",
    "metaformer/recipe.py",
    "metaformer/spec/model.py",
    "metaformer/tasks/classification/evaluation.py",
    "metaformer/training/engine.py",
}
"""Files that name what version 0.1.0 called otherwise, to read its files."""


def inside(module: str, *rooms: str) -> bool:
    return room(module) in rooms or module.startswith("metaformer.deploy.engines")


def literals(path: Path) -> Iterator[tuple[str, int]]:
    """String constants that are no docstrings, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented)]
    statements = [statement for body in bodies for statement in body if isinstance(statement, ast.Expr)]
    documents = {id(statement.value) for statement in statements}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value, node.lineno


METRICS = {metric.name for task in tasks() for metric in task.metrics} - {"loss"}


@pytest.mark.parametrize("path", [p for p in modules() if not inside(dotted(p), *KNOW_KINDS)], ids=dotted)
def test_a_task_and_a_metric_are_named_in_their_own_room_only(path: Path) -> None:
    names = {*TASKS, *METRICS} - EXTERNAL.get(path.relative_to(PACKAGE).as_posix(), set())
    named = [f"line {line}: {text!r}" for text, line in literals(path) if text in names]
    assert not named, f"{path.relative_to(ROOT)} names a task or a metric: {named}"


@pytest.mark.parametrize("path", [p for p in modules() if not inside(dotted(p), *KNOW_KINDS)], ids=dotted)
def test_kinds_of_models_are_asked_and_not_tested_for(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    kinds = r"isinstance\([^)]*\b(DenseSpec|DetectorSpec|SegmenterSpec|Detector|Segmenter)\b|\bfinds_objects\b"
    found = [source[: hit.start()].count("\n") + 1 for hit in re.finditer(kinds, source)]
    assert not found, f"{path.relative_to(ROOT)}, lines {found}: ask the task or the spec"


def test_few_files_lie_loose() -> None:
    loose = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(loose) <= LOOSE, loose


def test_rooms_have_nouns() -> None:
    vague = [path for path in modules() if re.fullmatch(r"(utils?|helpers?|common|misc|base)", path.stem)]
    assert not vague


def test_predicting_writes_nothing() -> None:
    """Values come back; files are written by the run and the command line."""
    for path in modules():
        if room(dotted(path)) == "inference" or (path.name == "predict.py" and room(dotted(path)) == "tasks"):
            source = path.read_text(encoding="utf-8")
            assert not re.search(r"\.save\(|\.write_|replace_file|write_json|open\([^)]*[\"']w", source), path


def test_what_never_ran_on_its_device_is_not_in_the_package() -> None:
    for path in modules():
        assert not re.search(r"^\s*(import|from) triton", path.read_text(encoding="utf-8"), re.MULTILINE), path


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_words_are_the_fields(path: Path) -> None:
    if path.relative_to(ROOT).as_posix() in FORMER:
        pytest.skip("names what version 0.1.0 called otherwise")
    source = path.read_text(encoding="utf-8")
    found = {source[: hit.start()].count("\n") + 1: hit.group() for hit in WORDS.finditer(source)}
    assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_tricky_lines_are_explained() -> None:
    """Comments that say why: at least two for every hundred lines of code, over the whole package."""
    comments = code = 0
    for path in modules():
        tokens = list(tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline))
        comments += sum(token.type == tokenize.COMMENT and "noqa" not in token.string for token in tokens)
        code += len({token.start[0] for token in tokens if token.type in (tokenize.NAME, tokenize.OP)})
    assert comments / code >= 0.02, f"{comments} comments in {code} lines"


def entered(work: Callable[[], object]) -> set[str]:
    """Rooms whose functions are called: first-level folders, without the command line."""
    found: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        place = Path(frame.f_code.co_filename)
        # class bodies run when a module is imported; they are no calls
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED and place.is_relative_to(PACKAGE):
            found.add(place.relative_to(PACKAGE).parts[0])

    work()  # imports whatever is imported on the way
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return {name for name in found if not name.endswith(".py")} - {"cli"}


def test_a_journey_enters_few_rooms(tmp_path: Path) -> None:
    for i in range(24):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * i, 0, 100)).save(folder / f"{i}.png")
    stages = (StageSpec(depth=1, width=8, embedding=EmbeddingSpec(stride=1)), StageSpec(depth=1, width=8))
    recipe = Recipe(
        data=DataConfig(source=str(tmp_path / "data")),
        optimizer=OptimizerConfig(epochs=1, batch_size=8),
        machine=Machine(device="cpu", threads=1),
    )
    run, quiet = tmp_path / "run", Console(quiet=True)
    spec = ModelSpec(stages=stages, img_size=(8, 8))
    training = entered(lambda: metaformer.train(recipe, run, spec=spec, overwrite=run.exists(), console=quiet))
    assert len(training) <= 10, training
    predicting = entered(lambda: metaformer.predict(run, tmp_path / "data" / "a" / "0.png", device="cpu"))
    assert len(predicting) <= 7, predicting
