"""Windows for any token mixer: tokens mix inside squares of the grid, or inside pieces of a sequence.

Every second block shifts the windows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError, SpecError
from ...types import Grid
from ..tokens import beside_prefix, grid_mask

SHIFTS = ("roll", "pad", "none")
Make = Callable[[Any, int, Grid], nn.Module]


class Window(nn.Module):
    """Applies a mixer to each window of the grid (Swin, section 3.2).

    Odd blocks shift the windows by half a side. ``roll`` rolls the map over its border and gives the mixer a mask of
    the pairs that may mix (Swin). ``pad`` puts zeros around the map, which works with any mixer (Swin-Mixer's code).
    ``none`` never shifts. A side that one window covers is not shifted.

    A grid that is no multiple of the window gets zeros at its end, as in Swin's detectors; ``padding=False`` refuses it
    instead. ``make(mixer, dim, grid)`` builds the inner mixer for a window's grid; ``build_mixer`` provides it.

    For a sequence there are two differences, without which more padding would change its real tokens: windows are
    shifted however short it is, and the zeros at its end are masked.
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
        if not padding and any(side % window for side in grid):
            raise SpecError(
                f"window: {window} does not divide the grid {'×'.join(map(str, grid))} and padding is off; "
                "choose a divisor, another img_size, or padding=True"
            )
        self.window, self.padding, self.axes = window, padding, len(grid)
        self.shift = shift if block % 2 else "none"
        self.mixer = make(mixer, dim, (window,) * self.axes)
        if shift == "roll" and not getattr(self.mixer, "reads_mask", False):
            raise SpecError(
                f"shift: 'roll' puts distant tokens into one window and needs a mixer that reads a mask of pairs, "
                f"such as attention; {type(self.mixer).__name__} does not: use shift='pad'"
            )

    def forward(self, x: Tensor, grid: Grid, mask: Tensor | None = None) -> Tensor:
        """(B, N, C) to the same shape; prefix tokens become the mean of the mixed map."""
        if len(grid) != self.axes:
            wanted = "rows and columns" if self.axes == 2 else "one dimension"
            raise InputError(f"a window needs a grid of {wanted}, got {grid}")
        if not self.padding and any(side % self.window for side in grid):
            raise InputError(
                f"a window of {self.window} does not divide a grid of {'×'.join(map(str, grid))} and padding is off: "
                "use images of a multiple of it, or build the model with padding=True"
            )
        return beside_prefix(x, grid, lambda tokens: self._mix(tokens, grid, grid_mask(mask, grid)), mask)

    def _mix(self, x: Tensor, grid: Grid, mask: Tensor | None) -> Tensor:
        rows, columns = grid if self.axes == 2 else (1, *grid)
        vertical, horizontal = self._frame(rows, self.sides[0]), self._frame(columns, self.sides[1])
        (top, bottom, down), (left, right, along) = vertical, horizontal
        framed = bool(top or bottom or left or right)
        if mask is None and framed and self.axes == 1:
            mask = x.new_ones(x.shape[:2], dtype=torch.bool)

        def moved(values: Tensor) -> Tensor:
            values = values.reshape(x.shape[0], rows, columns, values.shape[2])
            if framed:
                values = F.pad(values, (0, 0, left, right, top, bottom))
            return values.roll((-down, -along), (1, 2)) if down or along else values

        y = self._in_windows(moved(x), None if mask is None else moved(mask[..., None]), (down, along))
        if down or along:
            y = y.roll((down, along), (1, 2))
        return y[:, top : top + rows, left : left + columns].reshape(x.shape).contiguous()

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of a window."""
        return (self.window, self.window) if self.axes == 2 else (1, self.window)

    def _frame(self, side: int, window: int) -> tuple[int, int, int]:
        """Zeros before and after a side of the map, and by how much it is rolled."""
        covered = side <= window and (self.axes == 2 or window == 1)
        moved = 0 if covered or self.shift == "none" else window // 2
        before = window - moved if moved and self.shift == "pad" else 0  # the first window then has ``moved`` real rows
        return before, -(side + before) % window, moved if self.shift == "roll" else 0

    def _in_windows(self, y: Tensor, mask: Tensor | None, rolled: tuple[int, int]) -> Tensor:
        batch, height, width, dim = y.shape
        sides = self.sides
        rows, columns = height // sides[0], width // sides[1]
        real = None if mask is None else _windows(mask, sides)[..., 0]
        if any(rolled):
            together = _together((height, width), sides, rolled, y.device)
            # One mask of pairs serves every image of the batch; with padding each window needs its own.
            real = together if real is None else together.repeat(batch, 1, 1) & real[:, None]
        y = self.mixer(_windows(y, sides), (self.window,) * self.axes, real)
        return y.view(batch, rows, columns, *sides, dim).transpose(2, 3).reshape(batch, height, width, dim)

    def extra_repr(self) -> str:
        """Window and shift."""
        return f"window={self.window}, shift={self.shift}"


def _windows(y: Tensor, sides: tuple[int, int]) -> Tensor:
    """A map (B, H, W, C) as its windows (B · windows, N, C), one image after another."""
    batch, height, width, dim = y.shape
    rows, columns = height // sides[0], width // sides[1]
    y = y.view(batch, rows, sides[0], columns, sides[1], dim).transpose(2, 3)
    return y.reshape(batch * rows * columns, sides[0] * sides[1], dim)


@lru_cache(maxsize=64)
def _together(grid: Grid, sides: tuple[int, int], rolled: tuple[int, int], device: torch.device) -> Tensor:
    """Which tokens of a window were neighbors before the roll: (windows, N, N), true where i may read j."""
    # As in attention.py: a cached tensor must be usable outside inference mode too.
    with torch.inference_mode(False):
        rows, columns = (torch.arange(side, device=device) >= side - by for side, by in zip(grid, rolled, strict=True))
        part = 2 * rows[:, None].int() + columns[None, :].int()
        part = _windows(part[None, :, :, None], sides)[..., 0]
        return part[:, :, None] == part[:, None, :]
