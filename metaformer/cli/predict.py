"""``metaformer predict``: run a trained model on images. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console

from ..errors import DataError
from .flags import Device, at_least_one, option, switch


def predict(
    *images: Annotated[str, Parameter(help="Files, folders and patterns such as 'photos/*.jpg'.")],
    weights: Annotated[str | None, option("A run's folder, a weights file or a hub id.")] = None,
    model: Annotated[str | None, option("A row of the zoo: for published weights and files of others.")] = None,
    top: Annotated[int, option("Classes for each image.")] = 5,
    out: Annotated[
        Path, option("Folder for the drawings and results of a detector or a segmenter; classifiers write none.")
    ] = Path("predictions"),
    score: Annotated[float, option("Least score of an object that a detector shows.")] = 0.5,
    batch_size: Annotated[int, option("Images at a time.")] = 32,
    device: Annotated[Device, option("Where to compute.")] = "auto",
    on_bad_image: Annotated[
        Literal["refuse", "skip"], option("Stop at a file that is no image, or leave it out.")
    ] = "refuse",
    as_json: Annotated[bool, switch("Print one JSON document.", "--json")] = False,
) -> None:
    """Say what is in images.

    A classifier names the likeliest classes of each, with bars. A detector draws its boxes and masks on each and writes
    COCO's results.json, a segmenter its label maps as PNG, both into --out.
    """
    from ..inference import predictor as prediction
    from ..inference.loaded import load_any, task_of
    from ..recipe import Machine
    from ..training.device import chosen_device

    if top < 1:
        raise DataError(f"--top: expected at least 1, got {top}")
    if not 0 <= score <= 1:
        raise DataError(f"--score: expected a number from 0 to 1, got {score}")
    prediction.expanded(images)  # a wrong path is told before weights are read or downloaded
    trained = load_any(weights, model)
    place = chosen_device(Machine(device=device))
    if task_of(weights) == "classification":
        answers: Any = prediction.predict(
            trained, images, top=top, batch_size=at_least_one(batch_size), device=place, on_bad_image=on_bad_image
        )
        shown = prediction.bars
    else:
        answers, shown = _drawn(trained, images, out, score, place, on_bad_image)
    if as_json:
        print(json.dumps([answer.to_dict() for answer in answers.answers], indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False)
        for answer in answers.answers:
            console.print(shown(answer))
    if answers.skipped:
        told = Console(stderr=True, highlight=False)
        told.print(f"{len(answers.skipped)} files left out, they are no readable images:", style="yellow")
        for bad in answers.skipped:
            told.print(f"  {bad.path}: {bad.reason}", markup=False, soft_wrap=True)


def _drawn(trained: Any, images: Any, out: Path, score: float, device: str, on_bad_image: Any) -> tuple[Any, Any]:
    """The answers of a detector or a segmenter, with a bar while they are drawn, and how one is shown."""
    from rich.progress import Progress

    from ..inference import draw_folder as dense_prediction

    told = Console(stderr=True)
    with Progress(console=told, transient=True, disable=not told.is_terminal) as progress:
        bar = progress.add_task("drawing", total=None)
        answers = dense_prediction.predict_dense(
            trained,
            images,
            out,
            score=score,
            device=device,
            on_bad_image=on_bad_image,
            each_image=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    return answers, dense_prediction.lines
