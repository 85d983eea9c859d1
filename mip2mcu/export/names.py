"""Text from outside on its way into generated files: nothing from a model file reaches C or Markdown unescaped.

    check_name      the prefix of every external C name
    Macros          unique, harmless macro names of labels, features and categories
    in_comment      any text inside a C comment
    in_markdown     any text inside a Markdown table
"""

from __future__ import annotations

import re
import unicodedata

from mip2mcu.errors import ExportError

NAME_LIMIT = 63
"""Longest prefix of the C names, in characters."""
_MACRO_PART_LIMIT = 40
_TEXT_LIMIT = 80

_KEYWORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while alignas alignof bool constexpr false nullptr static_assert
    thread_local true typeof typeof_unqual and and_eq asm atomic_cancel atomic_commit
    atomic_noexcept bitand bitor catch char8_t char16_t char32_t class co_await co_return co_yield
    compl concept const_cast consteval constinit decltype delete dynamic_cast explicit export friend
    mutable namespace new noexcept not not_eq operator or or_eq private protected public reflexpr
    reinterpret_cast requires static_cast synchronized template this throw try typeid typename using
    virtual wchar_t xor xor_eq
"""
_HEADERS = """
    assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg
    stdbool stddef stdint stdio stdlib string tgmath time wchar wctype
"""
_STDINT = re.compile(r"u?int(_least|_fast)?(8|16|32|64)_t|u?int(max|ptr)_t", re.IGNORECASE)


def check_name(name: str) -> str:
    """``name`` where it can be the prefix of C and C++ names and the stem of file names; else raises `ExportError`."""
    shown = repr(name[: NAME_LIMIT + 1])
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ExportError(
            f"the name {shown} is no C identifier: choose a --name of letters, digits and _ that begins with a letter"
        )
    if len(name) > NAME_LIMIT:
        raise ExportError(
            f"the name {shown} has {len(name)} characters, at most {NAME_LIMIT} are allowed: choose another --name"
        )
    if name.startswith("_") or "__" in name:
        raise ExportError(f"the name {shown} is reserved in C and C++: choose a --name without leading or double _")
    if name.lower() in _KEYWORDS.split():
        raise ExportError(f"the name {shown} is a keyword of C or C++: choose another --name")
    if _STDINT.fullmatch(name) or name.lower() in _HEADERS.split():
        raise ExportError(f"the name {shown} belongs to the C standard library: choose another --name")
    return name


def macro_part(text: str) -> str:
    """``text`` in capitals, digits and single underscores; accents dropped, "" where nothing is left."""
    plain = unicodedata.normalize("NFKD", text.upper()).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Z0-9]+", "_", plain).strip("_")[:_MACRO_PART_LIMIT].strip("_")


class Macros:
    """Hands out macro names, each one once."""

    def __init__(self, prefix: str, taken: frozenset[str]) -> None:
        """Names begin with ``prefix`` in capitals and differ from all in ``taken``."""
        self._prefix = prefix.upper()
        self._taken = set(taken)

    def name(self, kind: str, text: str, index: int) -> str:
        """PREFIX_KIND_TEXT, with a number behind it where taken; ``index`` stands for text without letters."""
        stem = f"{self._prefix}_{kind}_{macro_part(text) or f'NUMBER_{index}'}"
        macro, suffix = stem, 2
        while macro in self._taken:
            macro, suffix = f"{stem}_{suffix}", suffix + 1
        self._taken.add(macro)
        return macro


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 3] + "..."


def in_comment(text: str) -> str:
    """``text`` as it may stand in a C comment: one line of ASCII without comment marks, trigraphs and backslashes."""
    ascii_only = "".join(c if " " <= c <= "~" and c != "\\" else f"<U+{ord(c):04X}>" for c in _shortened(text))
    without_trigraphs = re.sub(r"\?(?=\?)", "? ", ascii_only)
    return without_trigraphs.replace("*/", "* /").replace("/*", "/ *")


def in_markdown(text: str) -> str:
    """``text`` as it may stand in a cell of a Markdown table: one line, every mark of Markdown and HTML escaped."""
    printable = "".join(c if c.isprintable() else f"U+{ord(c):04X} " for c in _shortened(text))
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~&:@$^=\"'])", _markdown_escape, printable)


def _markdown_escape(match: re.Match[str]) -> str:
    return {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(match[0], "\\" + match[0])
