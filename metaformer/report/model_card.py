"""README.md for the Hugging Face hub: the files of a run in, Markdown with YAML front matter out.

Paths of the machine it was trained on are left out of the card: a folder of pictures is named by its last part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from . import run_results, run_setting
from .confusion import worst_classes
from .numbers import known, percent, plain
from .run_files import Metrics, RunFiles, evaluation_from, part, read_run

_METRICS = {"top1": "accuracy", "top5": "top5_accuracy"}  # our word: the hub's word
_TRAINING = ("model", "augmentation", "optimisation")


def model_card(folder: Path | str, *, repo_id: str | None = None, usage: str | None = None) -> str:
    """The card of a run folder.

    Args:
        folder: with config.json, and metrics.csv and evaluation.json as far as they are there.
        repo_id: the hub repository the card is for, named in the example.
        usage: Python that loads the model, in place of the example.

    Raises:
        RunError: there is no such folder, or a file in it is damaged.
    """
    return _card(read_run(folder), repo_id, usage)


def model_card_from(
    config: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None = None,
    *,
    repo_id: str | None = None,
    usage: str | None = None,
) -> str:
    """The card of a run whose config.json and evaluation.json are at hand as dicts."""
    measured = evaluation_from(evaluation) if evaluation is not None else None
    return _card(RunFiles(Path(str(config.get("name") or "model")), config, Metrics(), measured), repo_id, usage)


def _card(run: RunFiles, repo_id: str | None, usage: str | None) -> str:
    evaluation = run.evaluation
    worst = (
        worst_classes(evaluation.confusion, evaluation.classes, 5) if evaluation and evaluation.confusion.size else []
    )
    body = _template().render(
        title=_one_line(_title(run)),
        verdict=run_results.verdict(run),
        classes=_classes(run),
        version=run.config.get("version"),
        facts=_facts(run),
        usage=usage or _usage(run, repo_id),
        results=run_results.evaluation_rows(run),
        worst=worst,
        settings=list(_settings(part(run.config, "recipe"))),
        data_name=_data_name(run),
    )
    return f"---\n{_front_matter(run).to_yaml()}\n---\n\n{body.strip()}\n"


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("metaformer.report"),
        autoescape=False,  # Markdown, not HTML: the cell filter takes away what Markdown would read as markup
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "percent": percent}
    return environment.get_template("model_card.md.j2")


def _cell(text: object) -> str:
    """Text that is safe in a Markdown table."""
    line = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\|`*[]":
        line = line.replace(mark, f"\\{mark}")
    return line


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _front_matter(run: RunFiles) -> ModelCardData:
    figures = run.evaluation.figures if run.evaluation else {}
    measured = {_METRICS[name]: value for name, value in figures.items() if name in _METRICS and known(value)}
    data = _data_name(run) or "the run's validation pictures"
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="image-folder" if "/" in str(part(run.config, "data").get("source")) else data,
            dataset_name=data,
            dataset_split="validation",
            metric_type=word,
            metric_value=round(float(value), 6),
        )
        for word, value in measured.items()
    ]
    return ModelCardData(
        library_name="metaformer",
        license="apache-2.0",
        pipeline_tag="image-classification",
        tags=["image-classification", "metaformer", *dict.fromkeys(_tags(run))],
        metrics=list(measured) or None,
        model_name=_one_line(run.config.get("name") or "metaformer") if results else None,
        eval_results=results or None,
    )


def _tags(run: RunFiles) -> Iterator[str]:
    name = str(run.config.get("name") or "")
    if name:
        yield name.split("_")[0]
    for stage in run_setting.stage_rows(run.config.get("spec")):
        yield f"token-mixer:{stage['mixer'].split('(')[0]}"


def _title(run: RunFiles) -> str:
    name, data = run.config.get("name"), _data_name(run)
    return f"{name} on {data}" if name and data else str(name or run.folder.name)


def _data_name(run: RunFiles) -> str:
    """The data set's name; of a folder only the last part."""
    return _without_path(part(run.config, "data").get("source") or "")


def _without_path(value: object) -> str:
    """A folder or a file by its last part; a hub id such as ``sail/poolformer_s12`` stays whole."""
    text = str(value)
    local = text.startswith(("/", ".", "~")) or "\\" in text or text.count("/") > 1
    return text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] if local else text


def _classes(run: RunFiles) -> list[str]:
    return [str(name) for name in run.config.get("classes") or (run.evaluation.classes if run.evaluation else ())]


def _facts(run: RunFiles) -> list[tuple[str, str]]:
    seconds = run_results.training_seconds(run.metrics)
    hidden = {"Best top-1", "Best epoch"} | ({"Training time", "Images a second"} if seconds is None else set())
    rows = [row for row in run_results.tiles(run) if row[0] not in hidden]
    rows += [row for row in run_setting.data_rows(run.config) if row[0] != "Source"]
    return [("Model", plain(run.config.get("name"))), ("Data", plain(_data_name(run))), *rows]


def _settings(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for section in run_setting.recipe_sections({name: recipe[name] for name in _TRAINING if name in recipe}):
        for setting in section["settings"]:
            if setting["changed"]:
                yield f"{section['title']}: {setting['name']}", _without_path(setting["value"])


def _usage(run: RunFiles, repo_id: str | None) -> str:
    choice = part(part(run.config, "recipe"), "model")
    given: dict[str, Any] = {"num_classes": len(_classes(run)) or None}
    given |= {name: choice.get(name) for name in ("in_chans", "img_size", "stem_stride", "mixers")}
    spec = part(run.config, "spec")
    if spec and given["in_chans"] is None and spec.get("in_chans") not in (3, None):
        given["in_chans"] = spec["in_chans"]
    arguments = [repr(str(run.config.get("name"))), *(f"{k}={v!r}" for k, v in given.items() if v is not None)]
    source = repo_id or "best.safetensors"
    return (
        "import metaformer\n\n"
        f"model = metaformer.create_model({', '.join(arguments)})\n"
        f"metaformer.load_weights(model, {source!r})\n"
        "model.eval()"
    )
