"""The offline page: everything inside, nothing interpreted, verdicts readable."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ebmcli.errors import OutputError
from ebmcli.report import Check, Checks, Commands, Paragraph, Picture, Section, Table, write_page

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Links(HTMLParser):
    """Collects every address a page refers to, and the tags left open."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def sections(passed: bool = True) -> list[Section]:
    """One of every block."""
    return [
        Section("Words", [Paragraph("a < b & c"), Commands(["ebm list", "ebm show old"])]),
        Section("Numbers", [Table(["name", "share"], [["red", 0.5], ["blue", 1]])]),
        Section("Pictures", [Picture(PNG, 'a "red" cube')]),
        Section("Checks", [Checks([Check("right", "0.97", ">= 0.90", passed)])]),
    ]


def test_a_page_refers_to_nothing_outside_itself_and_closes_its_tags(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", "Demo", "in 3 s", sections())
    links = Links()
    links.feed((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert links.open == []
    assert len(links.addresses) == 1
    assert base64.b64decode(links.addresses[0].removeprefix("data:image/png;base64,")) == PNG


def test_text_is_shown_and_never_interpreted(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", "<script>", "", sections())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "a &lt; b &amp; c" in text


@pytest.mark.parametrize(("passed", "word"), [(True, "pass"), (False, "FAIL")])
def test_a_check_says_its_verdict_in_words(tmp_path: Path, passed: bool, word: str) -> None:
    write_page(tmp_path / "report.html", "Demo", "", sections(passed))
    assert f">{word}</td>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_page(tmp_path / "absent" / "report.html", "Demo", "", sections())
    assert list(tmp_path.iterdir()) == []
