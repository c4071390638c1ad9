from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mien.bench.report_page import Best, Code, Number, PictureRow, ReportPage

VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that tags nest, and notes texts and sources."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def picture(level: int = 90) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((8, 12, 3), level, np.uint8)


def whole() -> ReportPage:
    page = ReportPage("A <b>title", "& more")
    for title in ("one", "two", "three"):
        page.heading(title)
    page.text("1 < 2", "next")
    page.points(["<script>alert(1)</script>"])
    page.command("mien bench rate --clips 'a b'")
    page.table(
        ["codec", "kbps", "again"],
        [["x", 1.234, Code("run <it>")], ["y", Best(2.0), None], ["z", float("nan"), Code("c", "")]],
        "a <caption>",
        sections=[1],
    )
    page.figure(picture(), 'say "figure"')
    page.strip([PictureRow("row", [("0 s", picture()), ("1 s", picture(200))])], "strip", folded=True)
    page.clip(b"mp4", "film")
    return page


def test_a_page_nests_and_escapes() -> None:
    html = whole().html()
    reader = Reader(html)
    assert "A <b>title" in reader.words and "a <caption>" in reader.words and "run <it>" in reader.words
    assert "<script" not in html


def test_numbers_are_rounded_and_nothing_is_shown_for_nan() -> None:
    html = whole().html()
    assert '<td class="n">1.23</td>' in html and '<td class="n"><b>2.00</b></td>' in html
    assert '<td class="n"></td>' in html


def test_numbers_have_digits_of_their_own_and_what_stands_beside() -> None:
    page = ReportPage("t")
    page.table(["a", "b"], [[Number(1.23456, 3, "4 < 5"), Best(Number(0.5, 0))]])
    html = page.html()
    assert '<td class="n">1.235 <small>4 &lt; 5</small></td>' in html and "<b>0</b>" in html
    assert '<table class="figures">' in html  # most columns are numbers


def test_details_are_folded_and_a_film_has_a_poster() -> None:
    page = ReportPage("t")
    page.details("more <of it>", "one", "two")
    page.clip(b"mp4", "film", playing=True, poster=picture())
    html = page.html()
    assert "<details><summary>more &lt;of it&gt;</summary><p>one</p><p>two</p></details>" in html
    assert ' poster="data:image/webp' in html and " autoplay>" in html
    Reader(html)


def test_a_page_needs_nothing_from_outside() -> None:
    sources = [value for name, value in Reader(whole().html()).attributes if name in ("src", "href")]
    assert len(sources) == 7
    assert all(s is not None and s.startswith(("data:", "#part-")) for s in sources)


def test_parts_are_listed_where_there_are_several() -> None:
    assert "<nav>" in whole().html()
    short = ReportPage("t")
    short.heading("only")
    assert "<nav>" not in short.html()


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 headings"):
        ReportPage("t").table(["a"], [[1, 2]])


def test_bytes_that_are_no_picture_are_refused() -> None:
    with pytest.raises(ValueError, match="no PNG"):
        ReportPage("t").figure(b"GIF89a")


def test_write(tmp_path: Path) -> None:
    page = whole()
    page.write(tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html()
