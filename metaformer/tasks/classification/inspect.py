"""The summary of a dataset of images with one class each."""

from __future__ import annotations

from ...data.dataset import ArrayDataset, BadFile, Dataset, LabeledDataset, Progress, Splits
from ...data.decode import UnreadableImage, read_size
from ...data.image_folder import LabeledImageFiles
from ...data.inspection import PartName, PartSummary, count_labels, size_range
from ...data.verify import Size


def inspect(splits: Splits[int], progress: Progress | None = None) -> tuple[PartSummary, ...]:
    """The images of each class, and the sizes of those that need not be decoded for it, in both parts."""
    classes = len(splits.classes)
    return _summarize("train", splits.train, classes), _summarize("val", splits.val, classes)


def _summarize(name: PartName, dataset: Dataset[int], classes: int) -> PartSummary:
    assert isinstance(dataset, LabeledDataset)
    sizes: list[Size] = []
    bad: list[BadFile] = []
    if isinstance(dataset, ArrayDataset):
        sizes = [(dataset.pixels.shape[1], dataset.pixels.shape[2])] * len(dataset)
    elif isinstance(dataset, LabeledImageFiles):
        for path in dataset.paths:
            try:
                sizes.append(read_size(path))
            except UnreadableImage as error:
                bad.append(BadFile(error.name, error.reason))
    counts = count_labels(dataset.labels, classes)
    return PartSummary(
        name=name,
        images=len(dataset),
        counts=counts,
        occurs_in=counts,  # an image has one class
        bad=tuple(bad),
        **size_range(sizes),
    )
