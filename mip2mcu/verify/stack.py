"""The stack that a model can use at most, from what the compiler says about each function (-fstack-usage).

Generated C has no recursion and calls no function through a pointer, so the deepest chain of calls is the longest path
in the graph of calls, which the relocations of the object file tell. Functions of the compiler's library do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mip2mcu.verify.elf import can_read, opened

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

STACK_FLAG = "-fstack-usage"
_CODE = ".text."


def worst_stack(object_file: Path, roots: Iterable[str]) -> Mapping[str, int]:
    """Most bytes of stack that each of the functions ``roots`` uses.

    The object is compiled with `STACK_FLAG` and one section a function. Empty where the compiler wrote no .su file
    beside it (zig does not) or pyelftools is not installed.
    """
    usage = object_file.with_suffix(".su")
    if not usage.is_file() or not can_read():
        return {}
    own = _own_bytes(usage.read_text(encoding="utf-8"))
    with opened(object_file.read_bytes(), object_file.name) as elf:
        calls = _calls(elf)
    return {root: _deepest(root, calls, own) for root in roots}


def _own_bytes(text: str) -> dict[str, int]:
    """Bytes by function, of lines such as ``model.c:12:13:model_sums<TAB>40<TAB>static``; the most of its clones."""
    own: dict[str, int] = {}
    for line in text.splitlines():
        place, size, _ = line.split("\t")
        name = _plain(place.rsplit(":", 1)[1])
        own[name] = max(own.get(name, 0), int(size))
    return own


def _plain(name: str) -> str:
    """The function's name in C; the compiler's clones have a suffix such as .constprop.0."""
    return name.split(".", maxsplit=1)[0]


def _calls(elf: ELFFile) -> dict[str, set[str]]:
    """By function, the functions whose sections its code refers to."""
    symbols = elf.get_section_by_name(".symtab")
    calls: dict[str, set[str]] = {}
    for relocations in elf.iter_sections():
        if relocations["sh_type"] not in ("SHT_REL", "SHT_RELA"):
            continue
        caller = elf.get_section(relocations["sh_info"]).name
        if caller.startswith(_CODE):
            homes = (symbols.get_symbol(r["r_info_sym"])["st_shndx"] for r in relocations.iter_relocations())
            names = {elf.get_section(home).name for home in homes if isinstance(home, int)}
            called = {_plain(name.removeprefix(_CODE)) for name in names if name.startswith(_CODE)}
            calls.setdefault(_plain(caller.removeprefix(_CODE)), set()).update(called)
    return {caller: called - {caller} for caller, called in calls.items()}


def _deepest(function: str, calls: Mapping[str, set[str]], own: Mapping[str, int]) -> int:
    below = [_deepest(callee, calls, own) for callee in calls.get(function, ())]
    return own.get(function, 0) + max(below, default=0)
