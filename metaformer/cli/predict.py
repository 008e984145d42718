"""``metaformer predict``: run a trained model on images. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

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
    from ..inference.inputs import expand
    from ..inference.predictor import Predictor
    from ..run.predictions import expect_free, write_predictions
    from ..tasks.task import Result

    if top < 1:
        raise DataError(f"--top: expected at least 1, got {top}")
    if not 0 <= score <= 1:
        raise DataError(f"--score: expected a number from 0 to 1, got {score}")
    files = expand(images)  # a wrong path is reported before weights are read or downloaded
    predictor: Predictor[Result] = Predictor(weights, model=model, device=device)
    if predictor.task.draws:
        expect_free(out, files)
    results = predictor.stream(
        files, top=top, score=score, batch_size=at_least_one(batch_size), on_bad_image=on_bad_image
    )
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    documents = []
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        bar = progress.add_task("predicting", total=len(files))
        for result, written in write_predictions(predictor.task, results, out):
            progress.advance(bar)
            paths = {ending.strip(".").replace(".", "_"): str(path) for ending, path in written.items()}
            if as_json:
                documents.append(result.to_dict() | ({"written": paths} if paths else {}))
            else:
                console.print(result)
                for path in paths.values():
                    console.print(f"  written to {path}", style="dim", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps(documents, indent=2, ensure_ascii=False))
    if predictor.skipped:
        errors.print(f"{len(predictor.skipped)} files left out:", style="yellow")
        for bad in predictor.skipped:
            errors.print(f"  {bad.name}: {bad.reason}", markup=False, soft_wrap=True)
