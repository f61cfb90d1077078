"""Markup: nothing that a stranger writes becomes an element or an attribute."""

from html.parser import HTMLParser

import hypothesis.strategies as st
from hypothesis import given

from tarloom.report.markup import Html, cut, element, join, text

ANY_TEXT = st.text(max_size=60)
HOSTILE = st.sampled_from(
    ["<script>", "</title>", '"', "'", "&", "<!--", "-->", "\u202e", "\x00", "javascript:", "<img onerror=x>"]
)
WORDS = st.lists(st.one_of(ANY_TEXT, HOSTILE)).map("".join)


class Seen(HTMLParser):
    """What a browser would make of a page: its elements, attributes and text."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.attributes, self.text = [], [], ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data


@given(WORDS, WORDS)
def test_any_text_stays_text(inside, attribute):
    seen = Seen(element("p", inside, title=attribute))
    assert seen.elements == ["p"]
    assert [name for _, name, _ in seen.attributes] == ["title"]
    assert len(seen.text) == len(inside)


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Z"]), max_size=60))
def test_readable_text_is_shown_as_it_is(words):
    assert Seen(text(words)).text == words


def test_characters_that_turn_the_direction_or_control_are_made_visible():
    assert text("a\u202eb\x00c\x1bd\ne") == "a\ufffdb\ufffdc\ufffdd\ne"


def test_markup_is_put_in_as_it_is_and_none_is_left_out():
    assert join(element("b", 1), None, "<") == Html("<b>1</b>&lt;")
    assert element("p", None, class_=None, data_key="k") == '<p data-key="k"></p>'


def test_long_texts_are_cut():
    assert cut("x" * 1000, 10) == "x" * 9 + "…"
    assert cut("short", 10) == "short"
