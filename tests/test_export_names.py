from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mip2mcu.export.names import in_comment, in_markdown, macro_part


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("petal length (cm)", "PETAL_LENGTH_CM"),
        ("naïve Größe", "NAIVE_GROSSE"),
        ("数据", ""),
        ("__x__", "X"),
        ("10", "10"),
        ("a" * 60, "A" * 40),
    ],
)
def test_macro_part(text, part):
    assert macro_part(text) == part


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("*/ int x", "* / int x"),
        ("/**//**/", "/ ** // ** /"),
        ("??/", "? ?/"),
        ("???=", "? ? ?="),
        ("a\nb\\", "a<U+000A>b<U+005C>"),
        ("é", "<U+00E9>"),
        ("x" * 100, "x" * 77 + "..."),
    ],
)
def test_in_comment(text, shown):
    assert in_comment(text) == shown


@given(st.text(alphabet="*/?\\\n\r\t\x00é数\u202e ax=", max_size=100))
def test_a_comment_cannot_be_closed_nested_or_continued(text):
    shown = f"/* {in_comment(text)} */"
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.count("*/") == shown.count("/*") == 1
    assert "??" not in shown
    assert "\\" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<b>", "&lt;b&gt;"),
        ("`x`", "\\`x\\`"),
        ("a\nb", "aU\\+000A b"),
        ("Größe", "Größe"),
        ("\u202ex", "U\\+202E x"),
    ],
)
def test_in_markdown(text, shown):
    assert in_markdown(text) == shown
