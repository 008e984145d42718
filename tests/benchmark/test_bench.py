"""``metaformer bench`` from the words to the file, tables and chart, with a small model and two rounds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dense_models import pyramid_spec
from rich.console import Console
from toys import CPU, PACE, eager, made_up, toy_trial

from metaformer.benchmark import bench as benches
from metaformer.benchmark import growth
from metaformer.benchmark.chart import speeds
from metaformer.benchmark.growth import block_call, grow
from metaformer.benchmark.inference import compare
from metaformer.benchmark.machine import instructions, machine, processor_time, stolen_share
from metaformer.benchmark.memory import peak_bytes
from metaformer.benchmark.setting import Setting
from metaformer.benchmark.start_up import as_dicts, process, start_up
from metaformer.benchmark.tables import tables, told_beside
from metaformer.benchmark.training import Step, furthest, learn, learners
from metaformer.cli import main
from metaformer.cli.bench import _Bar
from metaformer.spec.model import MixerSpec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo with one small model, and a bench of few contenders."""
    monkeypatch.setattr(benches, "find", lambda name: SimpleNamespace(spec=pyramid_spec()))
    some = [eager(), made_up(lambda right: 2 * right), made_up(OSError("x"), "y")]
    monkeypatch.setattr(benches, "contenders", lambda device, **_: some)
    monkeypatch.setattr(growth, "WIDTH", 32)
    monkeypatch.setattr(benches, "SIDES", (64, 96, 128))


WORDS = ["--quick", "--size", "32", "--batch-size", "2", "--threads", "1", "--no-peers"]


@pytest.mark.usefixtures("toy")
def test_the_command_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folder" / "speed.json"
    assert main(["bench", "inference", "training", "growth", *WORDS, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["command"] == " ".join(["metaformer bench inference training growth", *WORDS]), (
        "where it went is nobody's"
    )
    assert result["setting"]["batch_sizes"] == [2]
    assert {"processor", "instructions", "torch", "commit"} <= result["machine"].keys()
    rows = {row["name"]: row for row in result["inference"][0]["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "ours, eager": "timed",
        "made up": "wrong",
        "y": "failed",
    }
    assert len(rows["ours, eager"]["times"]) == 2
    assert "figures" in rows["made up"]
    assert rows["made up"]["times"] == []
    assert result["training"][0]["rows"][0]["figures"]["peak_bytes"] > 0
    assert [curve["mixer"] for curve in result["growth"]] == ["pooling", "spatial reduction", "attention", "spatial FC"]
    assert all(len(times) == 2 for curve in result["growth"] for times in curve["times"])
    assert out.with_suffix(".svg").read_text().count("<path") > 10
    assert not list(out.parent.glob(".*"))  # nothing half written
    printed = capsys.readouterr().out
    assert "failed: OSError: x (y)" in printed
    assert "wrong: off by 1, fp32 allows 0.001 (made up)" in printed
    assert f"written to {out}" in printed


@pytest.mark.usefixtures("toy")
def test_an_interrupted_bench_keeps_its_finished_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Any:
        yield [{"rows": []}]
        raise KeyboardInterrupt

    monkeypatch.setitem(benches._RUN, "training", interrupted)
    out = tmp_path / "speed.json"
    with pytest.raises(SystemExit) as stopped:
        main(["bench", "inference", "training", "growth", *WORDS, "--out", str(out)])
    assert stopped.value.code == 130
    result = json.loads(out.read_text())
    assert len(result["inference"][0]["rows"][0]["times"]) == 2
    assert "training" in result
    assert "growth" not in result
    assert f"the rounds that were finished are in {out}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inference", "--model", "poolfomer_s12"], "Did you mean 'poolformer_s12'"),
        (["speed"], "speed"),
        (["--rounds", "0"], "rounds: expected at least 1, got 0"),
        (["--size", "16"], "size: expected at least 32 pixels, got 16"),
        (["--batch-size", "0"], "at least 1"),
        (["--device", "cuda"], "device: expected a device of this machine"),
        (["--out", "."], "expected a JSON file, got a folder"),
    ],
)
def test_mistakes_are_told(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", *words]) == 2
    told = capsys.readouterr()
    assert said in " ".join((told.out + told.err).split())
    assert list(tmp_path.iterdir()) == []


def test_models_and_batches_share_the_first() -> None:
    setting = Setting(models=("a", "b"), batch_sizes=(8, 1))
    assert setting.cells == [("a", 8), ("b", 8), ("a", 1)]


def test_the_bar_takes_steps() -> None:
    with _Bar() as bar:
        bar.section("one", 2)
        bar.step("a")
        bar.section("two", 1)
        bar.step("b")
        assert [task.description for task in bar._progress.tasks] == ["two"]


# --- training -------------------------------------------------------------------------------------------------------


def test_learners_have_the_reference_losses() -> None:
    trial = toy_trial()
    lesson = list(learn(trial, learners(peers=False, compilers=False), PACE, lambda doing: None))[-1]
    ours = lesson.rows[0]
    assert (ours.state, ours.difference, len(ours.times)) == ("timed", 0.0, 2)
    assert ours.figures["peak_bytes"] > 4 * sum(p.numel() * p.element_size() for p in trial.ours.parameters())
    assert lesson.to_dict()["baseline"] == "ours"


def test_a_learner_of_other_weights_is_wrong() -> None:
    trial = toy_trial()
    other = toy_trial()
    with torch.no_grad():
        next(iter(other.ours.head.fc.parameters())).mul_(1.1)
    first = learners(peers=False, compilers=False)[0]
    lesson = list(learn(trial, [replace(first, choice=lambda _: other.ours)], PACE, lambda doing: None))[-1]
    assert lesson.rows[0].state == "wrong"
    assert lesson.rows[0].times == []


def test_losses_without_a_number_are_wrong() -> None:
    assert furthest([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert not furthest([1.0, float("nan")], [1.0, 2.0]) <= 1e9


def test_a_step_learns_and_its_peak_is_the_same_every_time() -> None:
    step = Step(toy_trial().ours, toy_trial(), "fp32")
    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert step.peak() == step.peak()


# --- growth, memory, start-up -----------------------------------------------------------------------------------------


def test_the_peak_of_a_call_is_what_stands_at_once() -> None:
    a = torch.ones(1000, 1000)
    assert peak_bytes(lambda: a + 1, CPU) == pytest.approx(4_000_000, rel=1e-4)  # and the number 1
    assert peak_bytes(lambda: ((a + 1) + 1) + 1, CPU) == pytest.approx(8_000_000, rel=1e-4)


def test_a_blocks_memory_grows_as_its_mixer_says() -> None:
    """From 64 to 256 tokens the matrix over positions has 16 times the entries, everything else 4 times."""
    small, large = (block_call(MixerSpec(name="spatial_fc"), side, CPU)[1] for side in (128, 256))
    assert large - small == 4 * (256**2 - 64**2)
    taken = [peak_bytes(block_call(MixerSpec(name="pooling"), side, CPU)[0], CPU) for side in (128, 256)]
    assert taken[1] / taken[0] == pytest.approx(4, rel=0.05)


@pytest.mark.usefixtures("toy")
def test_curves_have_exponents_of_what_was_measured() -> None:
    curves = list(grow((64, 96, 128), CPU, PACE, lambda doing: None))[-1]
    pooling = curves[0]
    assert pooling.tokens == [16, 36, 64]
    pooling.times = [[2.0 * count, 9.0, 2.0 * count] for count in pooling.tokens]
    assert pooling.to_dict()["time"]["exponent"] == pytest.approx(1.0, abs=0.3)
    assert {"exponent", "error"} == pooling.to_dict()["memory"].keys()
    pooling.note = "out of memory"
    assert "time" not in pooling.to_dict()


def test_a_process_that_fails_says_what_it_said() -> None:
    process(["-c", "pass"], threads=1)()
    with pytest.raises(RuntimeError, match="exit status 3: oh"):
        process(["-c", "import sys; sys.stderr.write('oh'); sys.exit(3)"], threads=1)()


def test_fresh_processes_are_compared_with_importing_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("metaformer.benchmark.start_up.process", lambda words, threads: lambda: ran.append(words))
    rows = list(start_up(toy_trial().ours, tmp_path, 1, PACE, lambda doing: None))[-1]
    assert (tmp_path / "model.safetensors").is_file()
    assert any("predict" in words for words in ran)
    for row in rows:
        row.times = [2.0, 2.0] if row.name == "import torch" else [1.0, 3.0]
    told = {row["name"]: row for row in as_dicts(rows)}
    assert told["import metaformer"]["of_import_torch"] == 1.0
    assert told["import torch"]["seconds"] == 2.0


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_machine_is_described() -> None:
    about = machine()
    assert about["torch"] == torch.__version__.partition("+")[0]
    assert about["instructions"] == list(instructions())
    assert about["cores"] >= 1


# --- what people see --------------------------------------------------------------------------------------------------


def test_tables_and_chart_show_who_is_timed_and_tell_of_the_others() -> None:
    rivals = [eager(), made_up(lambda right: right, "twin"), made_up(lambda right: 2 * right, "liar")]
    comparison = list(compare(toy_trial(), rivals, PACE, lambda doing: None))[-1].to_dict()
    ((table, rows),) = tables({"inference": [comparison]})
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text()
    assert "twin" in text
    assert "wrong" in text
    assert told_beside(rows) == ["wrong: off by 1, fp32 allows 0.001 (liar)"]
    (axes,) = speeds(comparison).axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert {"ours, eager", "twin"} <= set(labels)
    assert "liar" not in labels


def test_what_the_host_took_is_told(tmp_path: Path) -> None:
    """Fields of /proc/stat: user, nice, system, idle, waiting, two interrupts, stolen, then guests' once more."""
    moments = []
    for i, words in enumerate(("100 0 50 800 0 0 0 50 7 7", "160 0 60 1000 0 0 0 80 9 9")):
        file = tmp_path / str(i)
        file.write_text(f"cpu  {words}\ncpu0 1 2 3\n")
        moments.append(processor_time(file))
    assert moments[0] == (50, 1000)
    assert stolen_share(*moments) == 0.1
    assert stolen_share(moments[0], moments[0]) is None
    assert processor_time(tmp_path / "none") is None
    assert stolen_share(None, moments[1]) is None
