"""Plans as files: found by name, read from Python and YAML, and every mistake reported once, with file and place."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from metaformer.ablation import Plan
from metaformer.ablation.plan import DataFacts, variants
from metaformer.ablation.plan_files import plan_file, read_plan
from metaformer.cli.app import main
from metaformer.errors import InputError, RunError
from metaformer.run.recipes import named_recipe, shipped_plans, shipped_recipes

ROOT = Path(__file__).resolve().parents[2]
DIGITS = DataFacts(classes=tuple("0123456789"), channels=1, side=8, train=1437, val=360)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """A function that writes a plan's file."""

    def write(name: str, text: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def mistake(path: Path) -> str:
    """What reading a plan says, without the file's name, which it has to start with."""
    with pytest.raises(InputError) as caught:
        variants(read_plan(path, 8), DIGITS)
    return str(caught.value).removeprefix(f"{path}: ")


# --- found ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["paper", "paper.py", "ablations/paper", "experiments/ablations/paper.py"])
def test_a_shipped_plan_is_found_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan_file(name) == ROOT / "experiments" / "ablations" / "paper.py"


@pytest.mark.parametrize("name", ["norms", "norms.yaml"])
def test_a_shipped_plan_in_yaml_is_found_too(name: str) -> None:
    assert plan_file(name) == ROOT / "experiments" / "ablations" / "norms.yaml"


def test_a_file_goes_before_a_shipped_name(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("paper", "")
    monkeypatch.chdir(path.parent)
    assert plan_file("paper") == Path("paper")


def test_an_unknown_plan_is_reported_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'papre' is neither a plan's file nor a shipped plan. Did you mean 'paper'\?"):
        plan_file("papre")
    with pytest.raises(RunError, match="neither a plan's file"):
        plan_file(str(tmp_path))  # a folder


def test_recipes_and_plans_are_kept_apart() -> None:
    assert not any("ablations" in name for name in shipped_recipes())
    assert "short" in shipped_recipes()
    assert not set(shipped_plans()) & set(shipped_recipes())


@pytest.mark.parametrize(("name", "path"), shipped_plans().items())
def test_a_shipped_plan_introduces_itself(name: str, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        introduction = ast.get_docstring(ast.parse(text)) or ""
    else:
        introduction = "\n".join(line.lstrip("# ") for line in re.match(r"(?:#.*\n)+", text)[0].splitlines())
    assert f"metaformer ablate {name} --data digits --seeds 3" in introduction
    variants = re.search(r"(\d+)\s+variants,\s+so\s+(\d+)\s+runs\s+per\s+seed", introduction)
    assert variants, "the introduction does not say how many variants there are"
    assert int(variants[1]) == int(variants[2]) == 1 + len(read_plan(path, 8).changes)


# --- YAML ------------------------------------------------------------------------------------------------------------

EVERYTHING = """
name: all-fields
title: A title
question: A question?
source: nowhere
base:
  name: start
  model: poolformer_s24
  width: 0.5
  stem_stride: 2
  published: 80
  change: {name: thinner, stages: {mlp: {ratio: 2}}}
recipe: {name: short, optimizer: {epochs: 3, lr: 1e-3}}
changes:
  - {name: one mixer, mixers: pooling(kernel=5), group: mixer, about: wider, published: 77.2}
  - {name: four mixers, mixers: [pooling, {name: pooling, kernel: 5}, random, attention]}
  - {name: parts, stages: {norm: {kind: batch, eps: 1e-6}, residual: {on: false}}, stage: {4: {mlp: null}}}
  - {name: whole, model: poolformer_s12, head: {dropout: 0.1}, network: {init: torch}}
  - {name: slower, recipe: {optimizer: {lr: 5e-4}}}
"""


def test_every_field_can_be_said_in_yaml(written: Any) -> None:
    plan = read_plan(written("plan.yaml", EVERYTHING), 8)
    rows, notes = variants(plan, DIGITS)
    assert notes == []
    assert (plan.name, plan.base.published, rows[1].group, rows[1].published) == ("all-fields", 80, "mixer", 77.2)
    assert (plan.recipe.optimizer.epochs, plan.recipe.optimizer.lr) == (3, 1e-3)
    assert plan.recipe.augmentation == named_recipe("short").augmentation
    base, one, four, parts, whole, slower = (row.spec for row in rows)
    assert ([stage.depth for stage in base.stages], base.stages[0].width, base.stem_stride) == ([4, 4, 12, 4], 32, 2)
    assert {stage.mlp.ratio for stage in base.stages} == {2}
    assert str(one.mixers[0]) == "pooling(kernel=5)"
    assert [mixer.name for mixer in four.mixers] == ["pooling", "pooling", "random", "attention"]
    assert (parts.stages[0].norm.kind, parts.stages[0].norm.eps, parts.stages[0].residual.on) == ("batch", 1e-6, False)
    assert parts.stages[3].mlp is None
    assert ([stage.depth for stage in whole.stages], whole.init) == ([2, 2, 6, 2], "torch")
    assert slower == base
    assert rows[5].recipe.optimizer.lr == 5e-4


def test_a_short_yaml_has_the_files_name_and_the_short_recipe(written: Any) -> None:
    plan = read_plan(written("mine.yml", "changes: [{name: identity, mixers: identity}]"), 8)
    assert (plan.name, plan.recipe, plan.base.name) == ("mine", named_recipe("short"), "base")


def test_a_model_of_ones_own_can_be_said_in_yaml(written: Any) -> None:
    text = "{base: {spec: {stages: [{depth: 1, width: 8}]}}, changes: [{name: identity, mixers: identity}]}"
    rows, _ = variants(read_plan(written("plan.yaml", text), 8), DIGITS)
    assert [len(row.spec.stages) for row in rows] == [1, 1]


@pytest.mark.parametrize("name", ["paper", "demo"])
def test_a_plan_is_the_same_in_python_and_in_yaml(name: str, written: Any) -> None:
    plan = read_plan(shipped_plans()[name], 8)
    path = written(f"{name}.yaml", yaml.safe_dump(plan.to_dict()))
    assert variants(read_plan(path, 8), DIGITS) == variants(plan, DIGITS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a", "is not valid YAML: "),
        ("d: 2020-99-99", "is not valid YAML: "),
        ("a: \x01", "is not valid YAML: "),
        (b"\xff\xfe\x00", "is not a text file"),
        ("", "expected a plan's fields such as 'base:' and 'changes:', got None"),
        ("- a\n- b", "expected a plan's fields such as 'base:' and 'changes:', got ['a', 'b']"),
        ("base: {model: poolformer_s12}", "changes: this field is required"),
        ("changes: {a: {mixers: identity}}", "changes: expected a list"),
        ("changes: [5]", "changes: expected a list"),
        ("changs: []", "changs: no such field. Did you mean 'changes'?"),
        ("changes: [{mixers: identity}]", "changes[0].name: this field is required"),
        ("changes: [{name: a, mixer: identity}]", "changes[0].mixer: no such field. Did you mean 'mixers'?"),
        ("changes: [{name: 5}]", "changes[0].name: expected a string, got 5"),
        ("changes: [{name: a}, {name: b, stage: {1: }}]", "changes[1].stage.1: expected a mapping of fields"),
        ("changes: [{name: A b}, {name: a-B}]", "changes: 'A b' and 'a-B' share a name"),
        ("{base: {modle: x}, changes: []}", "base.modle: no such field. Did you mean 'model'?"),
        ("{base: {spec: {stages: [{depth: 1, widht: 8}]}}, changes: []}", "base.spec.stages[0].widht: no such field."),
        (
            "{recipe: shrot, changes: []}",
            "recipe: 'shrot' is neither a file nor a shipped recipe. Did you mean",
        ),
        ("{recipe: {name: shrot}, changes: []}", "recipe.name: 'shrot' is neither"),
        ("{recipe: {optimizer: {epochz: 1}}, changes: []}", "recipe.optimizer.epochz: no such field. Did you"),
        ("{recipe: 5, changes: []}", "recipe: expected a mapping"),
        ("{recipe: finetune, changes: []}", "recipe.model.pretrained: variants that differ"),
        ("{base: {model: poolfromer_s12}, changes: []}", "base: unknown model 'poolfromer_s12'. Did you mean"),
    ],
)
def test_mistakes_in_yaml_are_reported_with_their_place(written: Any, text: str | bytes, message: str) -> None:
    assert mistake(written("plan.yaml", text)).startswith(message)


# --- Python --------------------------------------------------------------------------------------------------------

IMPORTS = "from metaformer.ablation import Base, Change, Plan\n"


def test_plan_may_leave_the_size_out(written: Any) -> None:
    path = written("plain.py", IMPORTS + "def plan():\n    return Plan(name='x', changes=[Change(name='a')])\n")
    assert isinstance(read_plan(path, 8), Plan)


def test_plan_gets_the_size(written: Any) -> None:
    path = written("sized.py", IMPORTS + "def plan(side):\n    return Plan(name=f'x{side}', changes=())\n")
    assert [read_plan(path, side).name for side in (8, 224)] == ["x8", "x224"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no `plan(side: int) -> Plan`"),
        ("plan = 3", "defines no `plan(side: int) -> Plan`"),
        ("def plan(side):\n    return 3", "expected plan() to return a Plan, got 3"),
        ("def plan(side):\n    pass", "expected plan() to return a Plan, got None"),
        ("def plan(side):\n    return undefined", "line 2: NameError: name 'undefined' is not defined"),
        ("def plan(side, more):\n    return 1", "TypeError: plan() missing 1 required positional argument: 'more'"),
        ("\nimport no_such_module_anywhere", "line 2: ModuleNotFoundError: No module named"),
        ("def plan(side:", "SyntaxError: '(' was never closed"),
        ("raise SystemExit(0)", "line 1: SystemExit: 0"),
        (IMPORTS + "Change(name='a', mixer='identity')", "line 2: TypeError: "),
        (IMPORTS + "Change(name='?')", "name: expected letters"),
        (IMPORTS + "def plan(side):\n    return Plan(name='x', changes=(Change(name=''),))", "name: expected letters"),
    ],
)
def test_mistakes_in_python_are_reported_with_their_line(written: Any, text: str, message: str) -> None:
    assert mistake(written("plan.py", text + "\n")).startswith(message)


def test_a_file_of_another_kind_is_refused(written: Any) -> None:
    assert mistake(written("plan.txt", "hello")).startswith("expected a plan in Python (.py) or in YAML")


def test_a_recipe_file_that_fails_is_reported_with_its_line_too(written: Any) -> None:
    path = written("recipe.py", "def recipe(model='x'):\n    return undefined\n")
    with pytest.raises(RunError) as caught:
        named_recipe(str(path))
    assert str(caught.value) == f"--recipe: {path}: line 2: NameError: name 'undefined' is not defined"


# --- the command line -----------------------------------------------------------------------------------------------

OWN_MIXER = IMPORTS + "from torch import nn\nclass Mine(nn.Module):\n    def __init__(self, dim): {init}\n"
MAKES = "def plan(side):\n    return Plan(name='x', changes=[Change(name='row', mixers={mixer})])\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("plan.py", "x = 1", "defines no `plan(side: int) -> Plan`"),
        ("plan.yaml", "changes: [{name: row, mixers: poling}]", "row: stages[0].mixer: unknown mixer 'poling'"),
        (
            "plan.yaml",
            "changes: [{name: row, mixers: pooling(kernel=4)}]",
            "row: stages[0].mixer.kernel: expected an odd",
        ),
        ("plan.py", IMPORTS + MAKES.format(mixer="lambda dim: None"), "row: mixers: expected a class or a function"),
        (
            "plan.py",
            OWN_MIXER.format(init="raise KeyError(dim)") + MAKES.format(mixer="Mine"),
            "cannot be built for the width 64: KeyError: 64",
        ),
        (
            "plan.py",
            OWN_MIXER.format(init="super().__init__()") + MAKES.format(mixer="{'name': 'window', 'mixer': Mine}"),
            "row: mixers: window holds a Python object",
        ),
    ],
)
def test_ablate_refuses_a_bad_plan_with_one_message(
    name: str, text: str, message: str, written: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sweep"
    status = main(["ablate", str(written(name, text)), "--data", "digits", "--out", str(out)])
    printed = " ".join(capfd.readouterr().err.split())
    assert status == 2
    assert message in printed
    assert printed.count("error: ") == 1
    assert "Traceback" not in printed
    assert not out.exists()


def test_ablate_refuses_an_unknown_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status = main(["ablate", "paper", "--data", "digits", "--only", "identty", "--out", str(tmp_path / "sweep")])
    printed = " ".join(capfd.readouterr().err.split())
    assert status == 2
    assert "--only: the plan 'paper' has no change 'identty'. Did you mean 'identity'?" in printed


# --- documentation ---------------------------------------------------------------------------------------------------


def test_plans_in_the_documentation_can_be_read(written: Any) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "changes:" in text]
    assert blocks, "docs/extending.md shows no plan in YAML"
    for text in blocks:
        rows, notes = variants(read_plan(written("plan.yaml", text), 8), DIGITS)
        assert notes == []
        assert len(rows) > 2
