"""One HTML file that needs no network: pictures inside it, tables, and a verdict for each check.

A page is a title, a line under it, and sections; a section is a title and blocks; a block is a
paragraph, a picture, a table or a list of checks. Nothing here knows what the page is about.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ebmcli.errors import OutputError

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #1a7f37; --bad: #c62828; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff6b6b; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
.lead { opacity: .75; margin-top: .3rem; }
figure { margin: 1rem 0; } figcaption { opacity: .75; }
img { max-width: 100%; height: auto; border-radius: 4px; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
pre, code { font-family: ui-monospace, monospace; }
pre { background: var(--soft); padding: .6rem .8rem; border-radius: 4px; overflow-x: auto; }
.good { color: var(--good); } .bad { color: var(--bad); }
""".strip()


@dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    text: str

    def html(self) -> str:
        """The block as HTML."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Commands:
    """Lines to type, shown as they are."""

    lines: Sequence[str]

    def html(self) -> str:
        """The block as HTML."""
        return f"<pre><code>{escape(chr(10).join(self.lines))}</code></pre>"


@dataclass(frozen=True)
class Picture:
    """A PNG, embedded; ``caption`` also serves readers who cannot see it."""

    png: bytes
    caption: str

    def html(self) -> str:
        """The block as HTML."""
        data = base64.b64encode(self.png).decode("ascii")
        caption = escape(self.caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


@dataclass(frozen=True)
class Table:
    """Rows under headers; numbers are put to the right, floats with three decimals."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]

    def html(self) -> str:
        """The block as HTML."""
        numeric = [
            bool(self.rows) and all(isinstance(row[i], int | float) for row in self.rows)
            for i in range(len(self.headers))
        ]
        head = self._row("th", self.headers, numeric)
        body = "".join(self._row("td", row, numeric) for row in self.rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    @staticmethod
    def _row(tag: str, cells: Sequence[str | int | float], numeric: Sequence[bool]) -> str:
        shown = []
        for cell, number in zip(cells, numeric, strict=True):
            text = f"{cell:.3f}" if isinstance(cell, float) else str(cell)
            shown.append(f"<{tag}{' class=number' if number else ''}>{escape(text)}</{tag}>")
        return f"<tr>{''.join(shown)}</tr>"


@dataclass(frozen=True)
class Check:
    """A statement, the figure found and the one asked for, and whether it holds."""

    name: str
    found: str
    asked: str
    passed: bool

    @property
    def verdict(self) -> str:
        """The word shown beside the check."""
        return "pass" if self.passed else "FAIL"


@dataclass(frozen=True)
class Checks:
    """A table of checks with their verdicts in colour."""

    checks: Sequence[Check]

    def html(self) -> str:
        """The block as HTML."""
        rows = "".join(
            f"<tr><td>{escape(c.name)}</td><td class=number>{escape(c.found)}</td>"
            f"<td class=number>{escape(c.asked)}</td>"
            f'<td class="{"good" if c.passed else "bad"}">{c.verdict}</td></tr>'
            for c in self.checks
        )
        head = "<th>check</th><th class=number>found</th><th class=number>asked</th><th></th>"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


Block = Paragraph | Commands | Picture | Table | Checks


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """The section as HTML."""
        body = "\n".join(block.html() for block in self.blocks)
        return f"<h2>{escape(self.title)}</h2>\n{body}"


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a whole HTML document that refers to nothing outside itself."""
    body = "\n".join(section.html() for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n</body>\n</html>\n'
    )


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the document in one move: a reader never sees half of it.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    partial = path.with_name(path.name + ".tmp")
    try:
        partial.write_text(page(title, lead, sections), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        hint = "choose another folder with --out"
        raise OutputError(f"{path}: {error.strerror}", hint=hint) from error
