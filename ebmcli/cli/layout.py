"""Tables and lines that fit a width: broken between words only, never inside a word or a number."""

import re
from collections.abc import Sequence
from unicodedata import category, combining, east_asian_width

GAP = 2  # between columns
CUT = "..."  # stands for the middle of a word that is wider than its place

_NUMBER_BREAK = re.compile(r" (?=\+-|\()")  # 79.4 | +- 4.5 %, 12.3 | (11.0)
_WORD = re.compile(r"[^ \t\n]+")
_LABEL = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")  # what stands before the text of a line


def table_lines(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[bool],
    width: int | None = None,
) -> list[str]:
    """A table as lines of at most ``width`` characters, without limit if None.

    Where the columns do not fit, text is wrapped; where not even the longest words of all columns
    fit side by side, each row becomes a block of lines, a header and a value each.

    Args:
        headers: One per column.
        rows: Cells, as many as headers, without line ends.
        numeric: Per column: does it stand to the right? Its numbers keep their units.
        width: Characters of a line.
    """
    if width is None:
        return _set([headers, *rows], _natural(headers, rows), numeric)
    filled = [i for i in range(len(headers)) if not rows or any(row[i] for row in rows)]
    headers, numeric = [headers[i] for i in filled], [numeric[i] for i in filled]
    rows = [[row[i] for i in filled] for row in rows]
    widths = _widths(headers, rows, numeric, width=width)
    if widths is None:
        return _blocks(headers, rows, width)
    head = [_words(header) for header in headers]
    rule = "-" * (sum(widths) + GAP * (len(widths) - 1))
    lines = [*_wrapped_row(head, widths, numeric), rule]
    for row in rows:
        pieces = [_pieces(text, right) for text, right in zip(row, numeric, strict=True)]
        lines += _wrapped_row(pieces, widths, numeric)
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Lines of text broken between words, going on where the text after a label began.

    A label ends with two or more spaces: ``means      old and male``. Without one, or where the
    longest word has no room beside it, lines go on two characters further in than the first.
    """
    if cells(text) <= width:
        return [text]
    indent = len(text) - len(text.lstrip(" "))
    label = _LABEL.match(text)
    longest = max(map(cells, _words(text)), default=0)
    if label and cells(label.group()) <= min(width // 2, width - longest):
        first, start = label.group(), cells(label.group())
    else:
        first, start = " " * indent, max(0, min(indent + 2, width - longest))
    lines = _fill(text[len(first) :], width - max(start, cells(first)))
    return [first + lines[0], *(" " * start + line for line in lines[1:])]


def cells(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters two, combining and joiners none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if combining(character) or category(character) == "Cf":
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _words(text: str) -> list[str]:
    """What plain spaces part; others, as in names of files, are part of a word."""
    return _WORD.findall(text)


def _natural(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of the widest cell of each column."""
    return [max(map(cells, column)) for column in zip(headers, *rows, strict=True)]


def _pieces(text: str, numeric: bool) -> list[str]:
    """What may stand on lines of its own: words, or a number with its unit."""
    return _NUMBER_BREAK.split(text) if numeric else _words(text)


def _longest(header: str, column: Sequence[str], numeric: bool) -> int:
    """The least width of a column: that of its longest piece."""
    pieces = [*_words(header), *(piece for text in column for piece in _pieces(text, numeric))]
    return max(map(cells, pieces), default=1)


def _widths(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    numeric: Sequence[bool],
    *,
    width: int,
) -> list[int] | None:
    """Widths of columns that fit, or None; room beyond the longest words goes where most is cut."""
    room = width - GAP * (len(headers) - 1)
    natural = _natural(headers, rows)
    if sum(natural) <= room:
        return natural
    columns = zip(headers, numeric, *rows, strict=True)
    least = [_longest(header, column, right) for header, right, *column in columns]
    if sum(least) > room:
        return None
    for _ in range(room - sum(least)):
        least[max(range(len(least)), key=lambda i: natural[i] / least[i])] += 1
    return least


def _wrapped_row(
    pieces: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> list[str]:
    """The lines of one row, of which each cell is given in pieces."""
    columns = [_joined(cell, width) for cell, width in zip(pieces, widths, strict=True)]
    height = max(map(len, columns))
    lines = [[column[i] if i < len(column) else "" for column in columns] for i in range(height)]
    return _set(lines, widths, numeric)


def _set(
    lines: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool]
) -> list[str]:
    """Cells side by side, numbers to the right."""
    done = []
    for line in lines:
        padded = []
        for text, width, right in zip(line, widths, numeric, strict=True):
            space = " " * (width - cells(text))
            padded.append(space + text if right else text + space)
        done.append((" " * GAP).join(padded).rstrip())
    return done


def _blocks(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Every row as lines of a header and a value, an empty line between rows."""
    across = max(map(cells, headers)) + GAP
    lines: list[str] = []
    for row in rows:
        lines += [""] if lines else []
        for header, text in zip(headers, row, strict=True):
            if text:
                first, *more = _fill(text, width - across)
                lines.append(header + " " * (across - cells(header)) + first)
                lines += [" " * across + line for line in more]
    return lines


def _fill(text: str, width: int) -> list[str]:
    """Text in lines of at most ``width``, or of ten where that is less."""
    width = max(width, 10)
    return _joined([part for word in _words(text) for part in _parts(word, width)], width)


def _parts(word: str, width: int) -> list[str]:
    """A word that is too wide broken after ``/``, as of a path; what is still too wide is cut."""
    if cells(word) <= width:
        return [word]
    parts = [""]
    for name in re.findall(r"[^/]*/+|[^/]+", word):
        if parts[-1] and cells(parts[-1] + name) > width:
            parts.append("")
        parts[-1] += name if cells(name) <= width else _cut(name, width)
    return parts


def _cut(word: str, width: int) -> str:
    """A word without its middle."""
    n_kept = width - len(CUT)
    tail = n_kept // 2
    while cells(word[: n_kept - tail]) + cells(word[-tail:]) > n_kept:  # wide characters
        n_kept -= 1
        tail = n_kept // 2
    return word[: n_kept - tail] + CUT + word[-tail:]


def _joined(pieces: Sequence[str], width: int) -> list[str]:
    """Pieces in as few lines as hold them, at least one."""
    lines = [""]
    for piece in pieces:
        if lines[-1] and cells(lines[-1]) + 1 + cells(piece) > width:
            lines.append("")
        lines[-1] += f" {piece}" if lines[-1] else piece
    return lines
