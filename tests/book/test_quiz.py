"""`book.quiz` checks its questions, and works as plain HTML."""

from __future__ import annotations

import sys
from html.parser import HTMLParser

import pytest

from ddpm_lite import book
from ddpm_lite.book import _display


def question(right: int = 0, n: int = 3, prompt: str = "Why?"):
    return prompt, [(f"option {i}", i == right, f"reply {i} to {prompt}") for i in range(n)]


class Reader(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.drawers: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.open.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "details" in self.open:
            self.drawers.append(data)


def markup(monkeypatch, *questions) -> tuple[str, str]:
    caught = []
    monkeypatch.setattr(sys.modules["ddpm_lite.book.quiz"], "put", lambda html, text: caught.append((html, text)))
    book.quiz(*questions)
    return caught[0]


def test_every_option_is_a_drawer_with_its_reply(monkeypatch):
    html, text = markup(monkeypatch, question(0), question(2, prompt="How?"), question(1, prompt="Where?"))
    reader = Reader()
    reader.feed(html)
    assert not reader.open
    assert reader.seen.count("details") == reader.seen.count("summary") == 9
    assert not {"script", "input", "button", "img", "iframe", "link"} & set(reader.seen)
    inside = "".join(reader.drawers)
    for i in range(3):
        assert f"reply {i} to How?" in inside
        assert f"reply {i} to How?" in text
    assert html.count("<strong>Yes.</strong>") == 3
    assert html.count("<strong>No.</strong>") == 6


def test_the_right_option_has_the_yes(monkeypatch):
    html, text = markup(monkeypatch, question(2))
    assert "<summary>(c) option 2</summary><p><strong>Yes.</strong> reply 2" in html
    assert "<summary>(a) option 0</summary><p><strong>No.</strong> reply 0" in html
    assert "c: Yes. reply 2" in text


def test_maths_and_code_and_escapes(monkeypatch):
    q = ("Is $x_t < 1$ & `a < b`?", [("a <b>", True, "r"), ("$\\alpha$", False, "s"), ("c", False, "t")])
    html, text = markup(monkeypatch, q)
    assert r'<span class="math notranslate nohighlight">\(x_t &lt; 1\)</span> &amp; <code>a &lt; b</code>?' in html
    assert "a &lt;b&gt;" in html
    assert "<b>" not in html
    assert "$x_t < 1$" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([("a", True, "r"), ("b", False, "s")], "at least 3"),
        ([("a", True, "r"), ("b", True, "s"), ("c", False, "t")], "2 correct"),
        ([("a", False, "r"), ("b", False, "s"), ("c", False, "t")], "0 correct"),
        ([("a", True, "r"), ("b", False, ""), ("c", False, "t")], "reply of its own"),
        ([("a", True, "r"), ("b", False, "t"), ("c", False, "t")], "reply of its own"),
        ([("a", True, "r"), ("a", False, "s"), ("c", False, "t")], "text of its own"),
    ],
)
def test_rules(options, words):
    with pytest.raises(ValueError, match=words):
        book.quiz(("Why?", options))


def test_the_right_option_moves():
    with pytest.raises(ValueError, match="always number 2"):
        book.quiz(*[question(1, prompt=str(i)) for i in range(3)])
    with pytest.raises(ValueError, match="empty"):
        book.quiz()


def test_inline_leaves_a_lone_dollar():
    assert _display.inline("5 $ and 6") == "5 $ and 6"
