"""A model's input as data: images, or sequences of token ids. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..types import Grid
from .record import SpecRecord


@dataclass(frozen=True, kw_only=True)
class ImageInput(SpecRecord):
    """Images (B, C, H, W): the ``input`` of every spec without ``tokens``."""

    tag: ClassVar[str] = "image"

    in_chans: int = 3
    """Channels of the image."""
    img_size: tuple[int, int] = (224, 224)
    """Height and width in pixels."""

    def check(self) -> None:
        """There is at least one pixel with one channel."""
        self.expect(self.in_chans >= 1, "in_chans", "at least 1", self.in_chans)
        self.expect(min(self.img_size) > 0, "img_size", "positive height and width", self.img_size)

    @property
    def grid(self) -> Grid:
        """The grid before the first embedding: one token a pixel."""
        return self.img_size


@dataclass(frozen=True, kw_only=True)
class TokenInput(SpecRecord):
    """Sequences of token ids (B, L), such as text. Shorter ones are padded, and a mask (B, L) says what is real."""

    tag: ClassVar[str] = "tokens"

    vocab_size: int
    """Number of different ids; they run from 0."""
    length: int = 512
    """The longest sequence, in tokens, that position tables and mixers over positions are built for. Shorter sequences
    use their first rows. A model without such parts takes any length."""
    pad_id: int = 0
    """The id that short sequences are padded with. The model itself uses the mask alone."""

    def check(self) -> None:
        """Sizes are positive, and the padding is in the vocabulary."""
        self.expect(self.vocab_size >= 1, "vocab_size", "at least 1", self.vocab_size)
        self.expect(self.length >= 1, "length", "at least 1 token", self.length)
        self.expect(0 <= self.pad_id < self.vocab_size, "pad_id", f"0 to {self.vocab_size - 1}", self.pad_id)

    @property
    def grid(self) -> Grid:
        """The grid before the first embedding: a line of tokens."""
        return (self.length,)
