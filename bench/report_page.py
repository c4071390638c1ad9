"""One static HTML page for a bench: tables, plots, pictures side by side, clips and short text.

Everything is inside the file: it needs no network and no script, prints, and follows the reader's light or dark
setting. All text is escaped.

    page = ReportPage("Rate", "payload and wire against landmark error")
    page.heading("Medians")
    page.table(["codec", "kbps", "again"], [["mien normal", 1.31, Code("mien bench rate")]])
    page.figure(png_bytes, "Error against rate")
    page.strip([PictureRow("original", [("0.5 s", rgb), ("1.0 s", rgb)])], "At equal rate")
    page.write(folder / "rate.html")
"""

import base64
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]  # [height, width, 3], RGB

_PICTURE_QUALITY: Final = 92  # of WebP: what a bench shows must not be blurred by its report
_MEDIA: Final = {b"\x89PNG": "image/png", b"RIFF": "image/webp", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Code:
    """A cell with a command line; folded behind `label` unless that is empty."""

    text: str
    label: str = "run again"


@dataclass(frozen=True, slots=True)
class Number:
    """A number with digits of its own, and what is said beside it, small."""

    value: float
    decimals: int
    beside: str = ""


@dataclass(frozen=True, slots=True)
class Best:
    """A cell to be seen first: the best of its column."""

    value: "str | float | Number"


Cell = str | int | float | Code | Number | Best | None


@dataclass(frozen=True, slots=True, eq=False)
class PictureRow:
    """One row of a strip: a title and captioned pictures, RGB or the bytes of PNG, WebP or JPEG."""

    title: str
    pictures: Sequence[tuple[str, Picture | bytes]]


class ReportPage:
    """Collects blocks in their order; `html` gives the page, `write` the file."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self._title = title
        self._blocks: list[str] = [f"<h1>{escape(title)}</h1>"]
        self._contents: list[tuple[str, str]] = []
        if subtitle:
            self._blocks.append(f'<p class="subtitle">{escape(subtitle)}</p>')

    def heading(self, text: str) -> None:
        """Begin a part; the parts are listed at the top."""
        anchor = f"part-{len(self._contents) + 1}"
        self._contents.append((anchor, text))
        self._blocks.append(f'<h2 id="{anchor}">{escape(text)}</h2>')

    def text(self, *paragraphs: str) -> None:
        """Add paragraphs."""
        self._blocks += [f"<p>{escape(p)}</p>" for p in paragraphs]

    def details(self, summary: str, *paragraphs: str) -> None:
        """Add paragraphs that are shown when `summary` is opened."""
        self._block("".join(f"<p>{escape(p)}</p>" for p in paragraphs), summary, folded=True)

    def points(self, items: Sequence[str]) -> None:
        """Add a list."""
        self._blocks.append("<ul>" + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>")

    def command(self, text: str) -> None:
        """Add a command line that a reader may copy."""
        self._blocks.append(f'<pre class="command"><code>{escape(text)}</code></pre>')

    def table(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[Cell]],
        caption: str = "",
        *,
        decimals: int = 2,
        sections: Sequence[int] = (),
        folded: bool = False,
    ) -> None:
        """Add a table. Floats get `decimals`; columns of numbers stand right.

        `sections`: indices of rows with a line above. `folded`: shown when its caption is opened.
        Raises `ValueError` for a row that is not as long as the headings.
        """
        for row in rows:
            if len(row) != len(headings):
                raise ValueError(f"row of {len(row)} cells under {len(headings)} headings: {row}")
        numeric = [any(_is_number(r[i]) for r in rows) for i in range(len(headings))]
        many = sum(numeric) > len(headings) / 2
        out = ['<table class="figures">' if many else "<table>"]
        if caption and not folded:
            out.append(f"<caption>{escape(caption)}</caption>")
        cells = (f"<th{_right(n)}>{escape(h)}</th>" for h, n in zip(headings, numeric, strict=True))
        out.append("<thead><tr>" + "".join(cells) + "</tr></thead><tbody>")
        for number, row in enumerate(rows):
            rule = ' class="rule"' if number in sections else ""
            cells = (f"<td{_right(n)}>{_cell(c, decimals)}</td>" for c, n in zip(row, numeric, strict=True))
            out.append(f"<tr{rule}>" + "".join(cells) + "</tr>")
        self._block('<div class="wide">' + "".join(out) + "</tbody></table></div>", caption, folded)

    def figure(self, picture: Picture | bytes | Path, caption: str = "", *, folded: bool = False) -> None:
        """Add a plot or another large picture: RGB, or PNG, WebP or JPEG as bytes or in a file."""
        body = (
            f'<figure><img src="{_uri(picture)}" alt="{escape(caption)}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
        self._block(body, caption, folded)

    def strip(
        self, rows: Sequence[PictureRow], caption: str = "", *, width_px: int = 200, folded: bool = False
    ) -> None:
        """Add pictures side by side, one row below the other, each `width_px` wide or less."""
        out = ['<div class="wide"><table class="strip">']
        if caption and not folded:
            out.append(f"<caption>{escape(caption)}</caption>")
        for row in rows:
            out.append(f"<tr><th>{escape(row.title)}</th>")
            for text, picture in row.pictures:
                image = (
                    f'<img src="{_uri(picture)}" alt="{escape(f"{row.title} {text}")}" width="{width_px}">'
                )
                out.append(f"<td>{image}<br><small>{escape(text)}</small></td>")
            out.append("</tr>")
        self._block("".join(out) + "</table></div>", caption, folded)

    def clip(
        self,
        mp4: bytes | Path,
        caption: str = "",
        *,
        folded: bool = False,
        playing: bool = False,
        poster: Picture | None = None,
    ) -> None:
        """Add a film (MP4 that browsers play: H.264 or AV1) that repeats without sound.

        `playing`: from the start. `poster` stands there until it plays, and in print.
        """
        data = mp4.read_bytes() if isinstance(mp4, Path) else mp4
        source = "data:video/mp4;base64," + base64.b64encode(data).decode()
        first = f' poster="{_uri(poster)}"' if poster is not None else ""
        body = (
            f'<figure><video src="{source}"{first} controls loop muted playsinline{" autoplay" * playing}></video>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
        self._block(body, caption, folded)

    def html(self) -> str:
        """Return the page."""
        head = (
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head><body><main>"
        )
        blocks = list(self._blocks)
        if len(self._contents) > 2:
            links = "".join(f'<li><a href="#{a}">{escape(t)}</a></li>' for a, t in self._contents)
            first = next(i for i, b in enumerate(blocks) if b.startswith("<h2"))
            blocks.insert(first, f"<nav><ul>{links}</ul></nav>")
        return head + "\n".join(blocks) + "</main></body></html>\n"

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(self.html(), encoding="utf-8")
        partial.replace(path)

    def _block(self, body: str, caption: str, folded: bool) -> None:
        if folded:
            body = f"<details><summary>{escape(caption or 'more')}</summary>{body}</details>"
        self._blocks.append(body)


def _is_number(cell: Cell) -> bool:
    return isinstance(cell.value if isinstance(cell, Best) else cell, int | float | Number)


def _right(numeric: bool) -> str:
    return ' class="n"' if numeric else ""


def _cell(cell: Cell, decimals: int) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Best):
        return f"<b>{_cell(cell.value, decimals)}</b>"
    if isinstance(cell, Code):
        code = f"<code>{escape(cell.text)}</code>"
        return f"<details><summary>{escape(cell.label)}</summary>{code}</details>" if cell.label else code
    if isinstance(cell, Number):
        beside = f" <small>{escape(cell.beside)}</small>" if cell.beside else ""
        return _cell(float(cell.value), cell.decimals) + beside
    if isinstance(cell, float):
        return "" if np.isnan(cell) else f"{cell:.{decimals}f}"
    return escape(str(cell))


def _uri(picture: Picture | bytes | Path) -> str:
    if isinstance(picture, np.ndarray):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "WEBP", quality=_PICTURE_QUALITY, method=4)
        data = file.getvalue()
    else:
        data = picture.read_bytes() if isinstance(picture, Path) else picture
    kind = next((k for head, k in _MEDIA.items() if data.startswith(head)), None)
    if kind is None:
        raise ValueError(f"bytes that begin with {data[:4]!r} are no PNG, WebP or JPEG")
    return f"data:{kind};base64," + base64.b64encode(data).decode()


_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2126; --faint: #5b6570; --paper: #fff; --line: #d5dae0;
  --soft: #f4f6f8; --accent: #0f5f7a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --faint: #9aa5b1; --paper: #16191d;
  --line: #343b43; --soft: #1f242a; --accent: #7cc4dd; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1440px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { font-size: 27px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 10px; }
.subtitle { color: var(--faint); margin: 0 0 18px; font-size: 16px; } p, ul { max-width: 78ch; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; max-width: none; }
a { color: var(--accent); }
.wide { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding-bottom: 6px; }
th, td { padding: 4px 10px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
tr.rule td { border-top: 2px solid var(--line); } .n { text-align: right; white-space: nowrap; }
tbody tr:hover { background: var(--soft); }
.wide > table:not(.strip) tr > :first-child { position: sticky; left: 0; background: var(--paper); }
.wide > .figures td { white-space: nowrap; } .wide > .figures th { max-width: 6em; }
tbody tr:hover > :first-child { background: var(--soft) !important; }
.strip th, .strip td { border: 0; padding: 3px 4px; text-align: center; }
.strip th { text-align: left; vertical-align: middle; font-weight: 600; max-width: 130px; }
.strip td { vertical-align: top; max-width: 260px; }
.strip img { display: inline-block; border-radius: 3px; }
figure { margin: 14px 0; } figcaption, small { color: var(--faint); font-size: 13px; }
figure img, figure video { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
details { margin: 4px 0; } summary { cursor: pointer; color: var(--accent); }
td details { margin: 0; } td summary { white-space: nowrap; }
code { font: 12.5px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.command { background: var(--soft); padding: 10px 12px; border-radius: 6px; overflow-x: auto; }
@media print { :root { --ink: #000; --faint: #444; --paper: #fff; --line: #bbb; --soft: #f4f4f4; --accent: #000; }
  main { max-width: none; padding: 0; } figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  nav { display: none; } .wide { overflow: visible; } }
"""
