"""ImageNet's validation images as downloaded: 50,000 in one folder, with their classes in another file.

Read like this, they would get wrong labels, and a good model would reach a top-1 accuracy of 0.1 %.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from ..errors import DataError

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_\d{8}\.jpe?g", re.IGNORECASE)


def is_imagenet_validation(name: str) -> bool:
    """Whether this is the file name of an image of ImageNet's validation set."""
    return _VALIDATION_NAME.fullmatch(name) is not None


def unsorted_message(folder: Path, count: int, example: str) -> str:
    """What an unsorted validation folder is, how it would change the accuracy, and how to sort it."""
    return (
        f"{folder} is ImageNet's validation set as downloaded, not sorted into classes: {count} images such "
        f"as {example} lie directly in it. Their names do not say their class; evaluated like this, any model "
        f"would reach about 0.1 %, as by chance. Expected {folder}/n01440764/... and 999 more such folders.\n"
        "Sort it in one of two ways:\n"
        "  with Kaggle's LOC_val_solution.csv, which moves the images into their folders:\n"
        '    python -c "from metaformer.data.imagenet import sort_validation; '
        f"sort_validation('{folder}', 'LOC_val_solution.csv')\"\n"
        "  or from ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, both in one FOLDER, which writes "
        "FOLDER/val:\n"
        "    python -c \"from torchvision.datasets import ImageNet; ImageNet('FOLDER', split='val')\""
    )


def sort_validation(folder: str | Path, solution: str | Path) -> int:
    """Move the images directly in ``folder`` into a folder per class, and return how many were moved.

    ``solution`` is LOC_val_solution.csv: a header, then ``ILSVRC2012_val_00000001,n01751748 111 108 ...``. If the class
    of any image is missing, none is moved. Safe to run again after an interruption.
    """
    folder = Path(folder)
    classes = _classes_by_image(Path(solution))
    images = [entry for entry in sorted(folder.iterdir()) if entry.is_file() and is_imagenet_validation(entry.name)]
    unknown = [image.name for image in images if image.stem not in classes]
    if unknown:
        raise DataError(f"{solution} has no class for {len(unknown)} images, such as {unknown[0]}")
    for image in images:
        target = folder / classes[image.stem]
        target.mkdir(exist_ok=True)
        image.rename(target / image.name)
    return len(images)


def _classes_by_image(solution: Path) -> dict[str, str]:
    try:
        with solution.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.reader(lines) if len(row) == 2 and row[1].startswith("n")]  # without the header
    except OSError as error:
        raise DataError(f"{solution} cannot be read: {error.strerror}") from None
    if not rows:
        raise DataError(f"{solution} has no line such as ILSVRC2012_val_00000001,n01751748 111 108 330 264")
    # a class and the boxes of its objects; all boxes of an image are of its class
    return {image: boxes.split()[0] for image, boxes in rows}
