"""The summary of a dataset of images with label maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...data.dataset import BadFile, Dataset, Progress, Splits
from ...data.decode import UnreadableImage
from ...data.inspection import PartName, PartSummary, size_range
from ...data.label_maps import LabelMapDataset
from ...data.verify import Size
from ...render.numbers import percent
from ...types import IGNORED


@dataclass(frozen=True, kw_only=True)
class SegmentationPartSummary(PartSummary):
    """One part of a dataset with label maps; ``counts`` are pixels."""

    ignored: float | None
    """The share of pixels without a class."""
    reduces_zero_label: bool

    @property
    def note(self) -> str:
        """Whether label 0 is ignored."""
        if not self.reduces_zero_label:
            return ""
        return "label 0 is ignored, as in ADE20K; --data.no-reduce-zero-label makes it a class"

    @property
    def details(self) -> Mapping[str, str]:
        """The share of ignored pixels."""
        return {} if self.ignored is None else {"ignored pixels": percent(self.ignored, 1)}


def inspect(splits: Splits[Tensor], progress: Progress | None = None) -> tuple[SegmentationPartSummary, ...]:
    """The pixels of each class in both parts; reads all label maps, but no images."""
    classes = len(splits.classes)
    return _summarize("train", splits.train, classes, progress), _summarize("val", splits.val, classes, progress)


def _summarize(
    name: PartName, dataset: Dataset[Tensor], classes: int, progress: Progress | None
) -> SegmentationPartSummary:
    assert isinstance(dataset, LabelMapDataset)
    counts, occurs_in = np.zeros(IGNORED + 1, np.int64), np.zeros(IGNORED + 1, np.int64)
    sizes: list[Size] = []
    bad: list[BadFile] = []
    for index in range(len(dataset)):
        try:
            label_map = dataset.label_map(index).numpy()
        except UnreadableImage as error:
            bad.append(BadFile(error.name, error.reason))
            continue
        here = np.bincount(label_map.ravel(), minlength=IGNORED + 1)
        counts, occurs_in = counts + here, occurs_in + (here > 0)
        sizes.append((label_map.shape[0], label_map.shape[1]))
        if progress and (index + 1 == len(dataset) or index % 64 == 63):
            progress(f"counting pixels of {name}", index + 1, len(dataset))
    return SegmentationPartSummary(
        name=name,
        images=len(dataset),
        counts=tuple(map(int, counts[:classes])),
        occurs_in=tuple(map(int, occurs_in[:classes])),
        ignored=float(counts[IGNORED] / counts.sum()) if counts.sum() else None,
        reduces_zero_label=dataset.encoding.reduce_zero_label,
        bad=tuple(bad),
        **size_range(sizes),
    )
