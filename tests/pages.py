"""What tests of written pages share: a page read as a browser reads it, and drawings left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from metaformer.render import page as page_module


class _Loads(HTMLParser):
    """Everything a browser would fetch or run, and the text it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.shown = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shown = tag != "style"
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster") and value:
                self.fetched.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data if self.shown else ""


def read(page: Path) -> _Loads:
    parser = _Loads()
    parser.feed(page.read_text(encoding="utf-8"))
    parser.text = re.sub(r"\s+", " ", parser.text)
    return parser


def assert_self_contained(page: Path) -> None:
    """The page fetches no file, runs no script, and shows no value such as nan or None."""
    seen = read(page)
    own = ("data:image/jpeg;base64,", "data:image/png;base64,", "#")  # a matrix of pixels is a PNG in its drawing
    assert all(source.startswith(own) for source in seen.fetched)
    assert not seen.tags & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"\b(nan|None|undefined)\b", seen.text)
    assert not re.search(r"url\((?!['\"]?#)|@import", page.read_text(encoding="utf-8"))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawing out where only words matter: it is what takes the time."""
    monkeypatch.setattr(page_module, "save_png", lambda figure, path: path)
    monkeypatch.setattr(page_module, "inline_svg", lambda figure, label: "<svg></svg>")
