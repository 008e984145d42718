"""Windows around any token mixer: tokens mix inside squares of the grid, and every second block shifts the squares."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError, SpecError
from ...types import Grid
from ..tokens import beside_prefix

SHIFTS = ("roll", "pad", "none")
Make = Callable[[Any, int, Grid], nn.Module]


class Window(nn.Module):
    """Applies a mixer to each window of the grid (Swin, section 3.2).

    Odd blocks move the windows by half a side. ``roll`` moves the map around its border and hands the mixer a mask of
    who may look at whom (Swin); ``pad`` puts zeros around the map, which any mixer stands (Swin-Mixer's code); ``none``
    never moves them. A side that one window covers is not moved.

    A grid that is no multiple of the window is filled up with zeros at its end, as Swin's detectors do;
    ``padding=False`` refuses it instead. ``make(mixer, dim, grid)`` builds the inner mixer for a window's grid; the
    builder of models fills it in.
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: Grid,
        make: Make,
        block: int = 0,
        mixer: Any = "attention",
        window: int = 7,
        shift: str = "pad",
        padding: bool = True,
    ) -> None:
        super().__init__()
        if window < 1:
            raise SpecError(f"window: expected a side of at least 1 token, got {window}")
        if shift not in SHIFTS:
            raise SpecError(f"shift: expected one of {', '.join(SHIFTS)}, got {shift!r}")
        if len(grid) != 2:
            raise SpecError(f"window: expected a grid of rows and columns, got {grid}")
        if not padding and any(side % window for side in grid):
            raise SpecError(
                f"window: {window} does not divide the grid {grid[0]}×{grid[1]} and padding is off; "
                "choose a divisor, another img_size, or padding=True"
            )
        self.window, self.padding = window, padding
        self.shift = shift if block % 2 else "none"
        self.mixer = make(mixer, dim, (window, window))
        if shift == "roll" and not getattr(self.mixer, "reads_mask", False):
            raise SpecError(
                f"shift: 'roll' puts far tokens into one window and needs a mixer that reads a mask, such as "
                f"attention; {type(self.mixer).__name__} does not: use shift='pad'"
            )

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; prefix tokens read the mean of the mixed map."""
        if len(grid) != 2:
            raise InputError(f"a window needs a grid of rows and columns, got {grid}")
        if not self.padding and any(side % self.window for side in grid):
            raise InputError(
                f"a window of {self.window} does not divide a grid of {grid[0]}×{grid[1]} and padding is off: feed "
                "images of a fitting size, or build the model with padding=True"
            )
        return beside_prefix(x, grid, lambda tokens: self._mix(tokens, grid))

    def _mix(self, x: Tensor, grid: Grid) -> Tensor:
        (height, width), (top, bottom, down), (left, right, along) = grid, *map(self._frame, grid)
        y = x.reshape(x.shape[0], height, width, x.shape[2])
        if top or bottom or left or right:
            y = F.pad(y, (0, 0, left, right, top, bottom))
        if down or along:
            y = y.roll((-down, -along), (1, 2))
        y = self._in_windows(y, (down, along))
        if down or along:
            y = y.roll((down, along), (1, 2))
        return y[:, top : top + height, left : left + width].reshape(x.shape).contiguous()

    def _frame(self, side: int) -> tuple[int, int, int]:
        """Zeros before and behind a side of the map, and by how much it is rolled."""
        moved = 0 if side <= self.window or self.shift == "none" else self.window // 2
        before = self.window - moved if moved and self.shift == "pad" else 0
        return before, -(side + before) % self.window, moved if self.shift == "roll" else 0

    def _in_windows(self, y: Tensor, rolled: tuple[int, int]) -> Tensor:
        batch, height, width, dim = y.shape
        side, rows, columns = self.window, height // self.window, width // self.window
        y = (
            y.view(batch, rows, side, columns, side, dim)
            .transpose(2, 3)
            .reshape(batch * rows * columns, side * side, dim)
        )
        together = _together((height, width), side, rolled, y.device) if any(rolled) else None
        y = self.mixer(y, (side, side), together)
        return y.view(batch, rows, columns, side, side, dim).transpose(2, 3).reshape(batch, height, width, dim)

    def extra_repr(self) -> str:
        """Window and shift."""
        return f"window={self.window}, shift={self.shift}"


@lru_cache(maxsize=64)
def _together(grid: Grid, window: int, rolled: tuple[int, int], device: torch.device) -> Tensor:
    """Which tokens of a window were neighbors before the roll: (windows, N, N), true where i may look at j."""
    with torch.inference_mode(False):
        rows, columns = (torch.arange(side, device=device) >= side - by for side, by in zip(grid, rolled, strict=True))
        part = 2 * rows[:, None].int() + columns[None, :].int()
        part = part.view(grid[0] // window, window, grid[1] // window, window).transpose(1, 2).flatten(2).flatten(0, 1)
        return part[:, :, None] == part[:, None, :]
