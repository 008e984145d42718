"""``metaformer bench`` from the command line to the file, tables and chart, with a small model and two rounds."""

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
from toys import CPU, PACE, eager, fabricated, toy_trial

from metaformer.benchmark import bench as benches
from metaformer.benchmark import scaling
from metaformer.benchmark.bench import read_result
from metaformer.benchmark.chart import speeds
from metaformer.benchmark.inference import compare
from metaformer.benchmark.machine import cpu_ticks, instructions, machine, steal_share
from metaformer.benchmark.memory import peak_bytes
from metaformer.benchmark.scaling import MIXERS, block_call, measure_scaling
from metaformer.benchmark.setting import Setting
from metaformer.benchmark.start_up import as_dicts, process, start_up
from metaformer.benchmark.tables import notes, tables
from metaformer.benchmark.training import Step, largest_difference, measure_training, training_contenders
from metaformer.cli import main
from metaformer.cli.bench import _Bar
from metaformer.errors import InputError
from metaformer.spec.mixer import MixerSpec


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo with one small model, and a bench of few contenders."""
    monkeypatch.setattr(benches, "find", lambda name: SimpleNamespace(spec=pyramid_spec()))
    some = [eager(), fabricated(lambda right: 2 * right), fabricated(OSError("x"), "y")]
    monkeypatch.setattr(benches, "contenders", lambda device, **_: some)
    monkeypatch.setattr(scaling, "WIDTH", 32)
    monkeypatch.setattr(benches, "SIDES", (64, 96, 128))


WORDS = ["--quick", "--size", "32", "--batch-size", "2", "--threads", "1", "--no-peers"]


@pytest.mark.usefixtures("toy")
def test_the_command_writes_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "folder" / "speed.json"
    assert main(["bench", "inference", "training", "scaling", *WORDS, "--out", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["command"] == " ".join(["metaformer bench inference training scaling", *WORDS]), "without --out"
    assert result["setting"]["batch_sizes"] == [2]
    assert {"cpu", "instructions", "torch", "commit"} <= result["machine"].keys()
    rows = {row["name"]: row for row in result["inference"][0]["rows"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "ours, eager": "timed",
        "fabricated": "wrong",
        "y": "failed",
    }
    assert len(rows["ours, eager"]["times"]) == 2
    assert "metrics" in rows["fabricated"]
    assert rows["fabricated"]["times"] == []
    assert result["training"][0]["rows"][0]["metrics"]["peak_bytes"] > 0
    assert [curve["mixer"] for curve in result["scaling"]] == list(MIXERS)
    assert all(len(times) == 2 for curve in result["scaling"] for times in curve["times"])
    assert out.with_suffix(".svg").read_text().count("<path") > 10
    assert not list(out.parent.glob(".*"))  # nothing half written
    printed = capsys.readouterr().out
    assert "failed: OSError: x (y)" in printed
    assert "wrong: off by 1, fp32 allows 0.001 (fabricated)" in printed
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
        main(["bench", "inference", "training", "scaling", *WORDS, "--out", str(out)])
    assert stopped.value.code == 130
    result = json.loads(out.read_text())
    assert len(result["inference"][0]["rows"][0]["times"]) == 2
    assert "training" in result
    assert "scaling" not in result
    assert f"the finished rounds are in {out}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
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
def test_mistakes_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", *words]) == 2
    printed = capsys.readouterr()
    assert message in " ".join((printed.out + printed.err).split())
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


def test_training_contenders_have_the_reference_losses() -> None:
    trial = toy_trial()
    result = list(measure_training(trial, training_contenders(peers=False, compilers=False), PACE, lambda doing: None))[
        -1
    ]
    ours = result.rows[0]
    assert (ours.state, ours.difference, len(ours.times)) == ("timed", 0.0, 2)
    assert ours.metrics["peak_bytes"] > 4 * sum(p.numel() * p.element_size() for p in trial.ours.parameters())
    assert result.to_dict()["baseline"] == "ours"


def test_a_training_contender_with_other_weights_is_wrong() -> None:
    trial = toy_trial()
    other = toy_trial()
    with torch.no_grad():
        next(iter(other.ours.head.fc.parameters())).mul_(1.1)
    first = training_contenders(peers=False, compilers=False)[0]
    result = list(measure_training(trial, [replace(first, model=lambda _: other.ours)], PACE, lambda doing: None))[-1]
    assert result.rows[0].state == "wrong"
    assert result.rows[0].times == []


def test_losses_without_a_number_are_wrong() -> None:
    assert largest_difference([1.0, 2.2], [1.0, 2.0]) == pytest.approx(0.1)
    assert not largest_difference([1.0, float("nan")], [1.0, 2.0]) <= 1e9


def test_a_step_lowers_the_loss_and_its_peak_is_the_same_every_time() -> None:
    step = Step(toy_trial().ours, toy_trial(), "fp32")
    losses = [float(step()) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert step.peak() == step.peak()


# --- scaling, memory, start-up ---------------------------------------------------------------------------------------


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
    curves = list(measure_scaling((64, 96, 128), CPU, PACE, lambda doing: None))[-1]
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
    found = {row["name"]: row for row in as_dicts(rows)}
    assert found["import metaformer"]["of_import_torch"] == 1.0
    assert found["import torch"]["seconds"] == 2.0


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_machine_is_described() -> None:
    about = machine()
    assert about["torch"] == torch.__version__.partition("+")[0]
    assert about["instructions"] == list(instructions())
    assert about["cores"] >= 1


# --- tables, chart, reading -------------------------------------------------------------------------------------------


def test_tables_and_chart_show_timed_contenders_and_notes_the_others() -> None:
    rivals = [eager(), fabricated(lambda right: right, "twin"), fabricated(lambda right: 2 * right, "other")]
    comparison = list(compare(toy_trial(), rivals, PACE, lambda doing: None))[-1].to_dict()
    ((table, rows),) = tables({"inference": [comparison]})
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    text = console.export_text()
    assert "twin" in text
    assert "wrong" in text
    assert notes(rows) == ["wrong: off by 1, fp32 allows 0.001 (other)"]
    (axes,) = speeds(comparison).axes
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert {"ours, eager", "twin"} <= set(labels)
    assert "other" not in labels


def test_steal_time_is_read(tmp_path: Path) -> None:
    """Columns of /proc/stat: user, nice, system, idle, iowait, two interrupts, steal, then guest time once more."""
    moments = []
    for i, words in enumerate(("100 0 50 800 0 0 0 50 7 7", "160 0 60 1000 0 0 0 80 9 9")):
        file = tmp_path / str(i)
        file.write_text(f"cpu  {words}\ncpu0 1 2 3\n")
        moments.append(cpu_ticks(file))
    assert moments[0] == (50, 1000)
    assert steal_share(*moments) == 0.1
    assert steal_share(moments[0], moments[0]) is None
    assert cpu_ticks(tmp_path / "none") is None
    assert steal_share(None, moments[1]) is None


def test_results_of_version_0_1_0_are_read(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    old = {"setting": {}, "machine": {"processor": "P", "stolen": 0.1}, "growth": [], "training": [{"figures": {}}]}
    file.write_text(json.dumps(old))
    assert read_result(file) == {
        "setting": {},
        "machine": {"cpu": "P", "steal": 0.1},
        "scaling": [],
        "training": [{"metrics": {}}],
    }
    for text in ("[]", "{", "{}"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"bench\.json"):
            read_result(file)


@pytest.mark.usefixtures("toy")
def test_the_old_name_of_a_section_is_accepted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "growth", *WORDS, "--out", str(tmp_path / "a.json")]) == 0
    assert "'growth' is called 'scaling' now" in capsys.readouterr().err
