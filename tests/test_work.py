"""A folder that is laid out for another task is refused with the flag that takes it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from drawn_sets import ade20k_folder, coco_folder

from metaformer.errors import DataError
from metaformer.recipe import DataConfig
from metaformer.tasks.task import work_of

MADE: dict[str, Callable[[Path], Path]] = {"detection": coco_folder, "segmentation": ade20k_folder}


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
@pytest.mark.parametrize("made_for", MADE)
def test_a_folder_of_another_task_is_told_by_its_layout(task: str, made_for: str, tmp_path: Path) -> None:
    choice = DataConfig(source=str(MADE[made_for](tmp_path / "set")))
    if task == made_for:
        assert len(work_of(task).open(choice).train) > 0
        return
    with pytest.raises(DataError, match=rf"layout; give --task {made_for} or --recipe {made_for}"):
        work_of(task).open(choice)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_folder_of_nothing_is_told_without_a_guess(task: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        work_of(task).open(DataConfig(source=str(tmp_path)))
    assert "--task" not in str(told.value)
