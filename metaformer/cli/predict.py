"""``metaformer predict``: run a trained model on images. torch is imported inside the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from .flags import AsJson, BatchSize, Device, ModelName, Weights, option


def predict(
    *images: Annotated[str, Parameter(help="Image files, folders and patterns such as 'photos/*.jpg'.")],
    weights: Weights = None,
    model: ModelName = None,
    top: Annotated[int, option("Classifiers: number of classes to print per image.", validator=Number(gte=1))] = 5,
    score: Annotated[float, option("Detectors: minimum score of an object.", validator=Number(gte=0, lte=1))] = 0.5,
    out: Annotated[Path, option("Folder for the drawings and results of detectors and segmenters.")] = Path(
        "predictions"
    ),
    batch_size: BatchSize = 32,
    device: Device = "auto",
    on_bad_image: Annotated[
        Literal["refuse", "skip"], option("On a corrupt or truncated image file: stop and name it, or skip it.")
    ] = "refuse",
    as_json: AsJson = False,
) -> None:
    """Run inference on images.

    Classifiers print the most likely classes of each image. Detectors draw boxes and masks on the images and write
    results.json in COCO's format, segmenters write label maps as PNG, both to --out.
    """
    from ..inference.inputs import expand
    from ..inference.predictor import Predictor
    from ..run.predictions import expect_free, write_predictions
    from ..tasks.task import Result

    files = expand(images)  # a wrong path is reported before weights are read or downloaded
    predictor: Predictor[Result] = Predictor(weights, model=model, device=device)
    if predictor.task.draws:
        expect_free(out, files)
    results = predictor.stream(files, top=top, score=score, batch_size=batch_size, on_bad_image=on_bad_image)
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
        errors.print(f"{len(predictor.skipped)} files skipped:", style="yellow")
        for bad in predictor.skipped:
            errors.print(f"  {bad.name}: {bad.reason}", markup=False, soft_wrap=True)
