"""Write the results of `metaformer bench` into README.md and docs/performance.md, and draw docs/performance.svg.

python docs/performance_page.py

It reads benchmarks/results/*.json, each written by one `metaformer bench`. The README shows `cpu.json`. Text outside
the markers is written by hand.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metaformer.benchmark.bench import read_result
from metaformer.benchmark.chart import write_chart
from metaformer.benchmark.rounds import ratio
from metaformer.benchmark.tables import notes

DOCS = Path(__file__).resolve().parent
README, PAGE, FIGURE = DOCS.parent / "README.md", DOCS / "performance.md", DOCS / "performance.svg"
RESULTS = DOCS.parent / "benchmarks" / "results"
MAIN = "cpu"
START, END = "<!-- performance: written by docs/performance_page.py -->", "<!-- end of performance -->"
NO_RESULTS = (
    "No results yet: run `metaformer bench --out benchmarks/results/cpu.json`, then `docs/performance_page.py`."
)

Result = Mapping[str, Any]


def results() -> dict[str, Result]:
    """Every committed result by the name of its file, the README's first."""
    files = sorted(RESULTS.glob("*.json"), key=lambda file: (file.stem != MAIN, file.stem))
    return {file.stem: read_result(file) for file in files}


# --- goals of the project --------------------------------------------------------------------------------


def goals(result: Result) -> Iterator[tuple[str, str, list[float | None]]]:
    """(goal, threshold, value in each comparison); None if not measured. Training and scaling have one value."""
    compared = [_by_name(comparison) for comparison in result.get("inference", ())]
    yield "default float32 inference / timm, eager", "2.5 ×", [_default(rows) for rows in compared]
    for precision, least in (("bf16", "5 ×"), ("int8", "7 ×")):
        yield f"best {precision} / timm, eager", least, [_best(rows, precision, "ratio") for rows in compared]
    for precision in ("fp32", "bf16", "int8"):
        pair = (f"timm, openvino, {precision}", f"ours, fast, openvino, {precision}")
        what = f"our graph / timm's graph, OpenVINO {precision}"
        yield what, "1.15 ×", [_faster(rows, *pair) for rows in compared]
    shares = [_best(rows, "bf16", "share_of_peak") for rows in compared]
    yield "best bf16 / the limit measured in the same run", "0.90", shares
    training = _by_name(next(iter(result.get("training", ())), {}))
    for words in (", bf16", ", torch.compile, bf16", "", ", torch.compile"):
        baseline = f"timm, channels_last{words}"
        for kind in ("ours", "ours, lean blocks"):
            goal = f"training step, {kind}{words or ', float32'} / timm's"
            yield f"{goal}, speed", "1.3 ×", [_faster(training, baseline, f"{kind}{words}")]
            yield f"{goal}, peak memory", "0.7 at most", [_memory(training, baseline, f"{kind}{words}")]
    exponents = [curve["time"]["exponent"] for curve in result.get("scaling", ()) if "time" in curve]
    yield "pooling's scaling with the tokens, exponent", "1.05 at most", exponents[:1] or [None]


def _by_name(section: Result) -> dict[str, Result]:
    """The rows of a comparison or a training."""
    return {row["name"]: row for row in section.get("rows", ())}


def _default(rows: Mapping[str, Result]) -> float | None:
    return rows.get("ours, fast, openvino, fp32", {"metrics": {}})["metrics"].get("ratio")


def _best(rows: Mapping[str, Result], precision: str, metric: str) -> float | None:
    ours = [row for row in rows.values() if row["library"] == "metaformer" and row["precision"] == precision]
    return max((row["metrics"][metric] for row in ours if metric in row["metrics"]), default=None)


def _faster(rows: Mapping[str, Result], baseline: str, name: str) -> float | None:
    """The median over the rounds of (baseline's time / its time)."""
    times = [rows[one]["times"] for one in (baseline, name) if one in rows and rows[one]["times"]]
    return ratio(*times).median if len(times) == 2 else None


def _memory(rows: Mapping[str, Result], baseline: str, name: str) -> float | None:
    taken = [rows[one]["metrics"]["peak_bytes"] for one in (name, baseline) if one in rows and rows[one]["times"]]
    return taken[0] / taken[1] if len(taken) == 2 else None


# --- Markdown -------------------------------------------------------------------------------------------------------


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, numbers to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def about(result: Result) -> str:
    """Command, machine, versions and rounds of a result."""
    machine, setting = result["machine"], result["setting"]
    place = machine["gpu"] if setting["device"] == "cuda" else machine["cpu"]
    named = ("torch", "timm", "transformers", "openvino", "onnxruntime")
    versions = ", ".join(f"{name} {machine[name]}" for name in named if name in machine)
    steal = machine.get("steal")
    beside = "" if steal is None else f" CPU steal time was {steal:.1%}."
    return (
        f"`{result['command']}` on {place}, {setting['threads']} threads ({', '.join(machine['instructions'])}), "
        f"{versions}, commit `{machine['commit']}`, {machine['date']}. Medians of {setting['rounds']} rounds in which "
        f"every contender has one turn; quartiles in brackets.{beside}"
    )


def speed_table(comparison: Result) -> list[str]:
    """All timed contenders by precision, the fastest first."""
    order = ("fp32", "bf16", "int8")
    rows = [row for row in comparison["rows"] if row["metrics"].get("ratio")]
    rows.sort(key=lambda row: (order.index(row["precision"]), -row["metrics"]["images_per_second"]))
    lines = [
        [row["name"], row["precision"], f"{row['metrics']['images_per_second']:,.1f}", _spread(row), _share(row)]
        for row in rows
    ]
    return table(("", "precision", "images/s", f"× {comparison['baseline']}", "of the limit"), lines)


def _spread(row: Result) -> str:
    low, high = row["metrics"]["quartiles"]
    return f"{row['metrics']['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _share(row: Result) -> str:
    share = row["metrics"].get("share_of_peak")
    return f"{share:.0%}" if share else "–"


def limits(comparison: Result) -> str:
    """The speed of the matrix product."""
    found = (f"{name} {speed:,.0f} GFLOP/s" for name, speed in comparison["peak_gflops"].items())
    return f"The limit is that of a plain 2048³ matrix product in the same rounds: {', '.join(found)}."


def training_table(training: Result) -> list[str]:
    """Speed and memory of a step."""
    rows = [row for row in training["rows"] if row["metrics"].get("ratio")]
    lines = [
        [row["name"], f"{row['metrics']['images_per_second']:,.1f}", _spread(row),
         f"{row['metrics']['peak_bytes'] / 2**20:,.0f} MiB"]
        for row in rows
    ]  # fmt: skip
    return table(("", "images/s", f"× {training['baseline']}", "peak memory"), lines)


def scaling_table(curves: Sequence[Result]) -> list[str]:
    """Milliseconds over the tokens and the fitted exponents."""
    heads = ("ms with N tokens", *(f"{count:,}" for count in curves[0]["tokens"]), "time ~ N^", "memory ~ N^")
    lines = []
    for curve in curves:
        if "time" in curve:
            laws = [f"{curve[law]['exponent']:.2f} ± {curve[law]['error']:.2f}" for law in ("time", "memory")]
            times = [f"{1e3 * statistics.median(times):,.1f}" for times in curve["times"]]
            lines.append([curve["mixer"], *times, *laws])
    return table(heads, lines)


def start_up_table(rows: Sequence[Result]) -> list[str]:
    """Seconds of fresh processes."""
    lines = [
        [row["name"], f"{row['seconds']:.2f}", f"{row['of_import_torch']:.2f}"] for row in rows if "seconds" in row
    ]
    return table(("", "seconds", "× import torch"), lines)


def goals_table(result: Result) -> list[str]:
    """Goals and measured values, one column per comparison."""
    compared = result.get("inference", ())
    heads = [f"{one['model']}, batch {one['batch']}" for one in compared] or ["measured"]
    lines = []
    for what, least, reached in goals(result):
        cells = ["not on this machine" if found is None else f"{found:.2f}" for found in reached]
        lines.append([what, least, *cells, *[""] * (len(heads) - len(cells))])
    return table(("", "at least", *heads), lines)


def readme_section(found: Mapping[str, Result]) -> str:
    """The README's block: the first comparison and the figure."""
    if MAIN not in found:
        return f"{START}\n\n{NO_RESULTS}\n\n{END}"
    comparison = found[MAIN]["inference"][0]
    title = f"`{comparison['model']}`, {comparison['size']} pixels, batch {comparison['batch']}."
    lines = [f"{title} {about(found[MAIN])} {limits(comparison)}", "", *speed_table(comparison), ""]
    return "\n".join([START, "", *lines, f"![Images a second by contender](docs/{FIGURE.name})", "", END])


def page_section(found: Mapping[str, Result]) -> str:
    """The page's block: all results."""
    lines = [line for name, result in found.items() for line in _part(name, result)] or [NO_RESULTS, ""]
    return "\n".join([START, "", *lines, END])


def _part(name: str, result: Result) -> Iterator[str]:
    yield from (f"## Measured: {name}", "", about(result), "")
    if name == MAIN:
        yield from (f"![Images a second by contender]({FIGURE.name})", "")
    yield from ("### Goals", "", *goals_table(result), "")
    for comparison in result.get("inference", ()):
        yield from (f"### Inference: {_title(comparison)}", "", limits(comparison), "", *speed_table(comparison), "")
        yield from _beside(comparison["rows"])
    for training in result.get("training", ()):
        yield from (f"### Training step: {_title(training)}", "", *training_table(training), "")
        yield from _beside(training["rows"])
    written: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
        "scaling": ("Scaling of one block", scaling_table),
        "start_up": ("Start-up", start_up_table),
    }
    for key, (title, write) in written.items():
        if key in result:
            yield from (f"### {title}", "", *write(result[key]), "")


def _title(part: Result) -> str:
    return f"`{part['model']}`, {part['size']} pixels, batch {part['batch']}"


def _beside(rows: Sequence[Result]) -> list[str]:
    """Notes of the contenders below a table."""
    lines = [f"- {line}" for line in notes(rows)]
    return [*lines, ""] if lines else []


def written(page: str, section: str) -> str:
    """The page with a new section between its markers."""
    before, rest = page.split(START)
    return before + section + rest.split(END)[1]


if __name__ == "__main__":
    found = results()
    for file, section in ((README, readme_section(found)), (PAGE, page_section(found))):
        file.write_text(written(file.read_text(encoding="utf-8"), section), encoding="utf-8")
    if MAIN in found:
        write_chart(found[MAIN], FIGURE)
    print(f"{README.name}, {PAGE.name}: {', '.join(found) or 'no results yet'}")
