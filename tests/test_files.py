"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from mip2mcu import files
from mip2mcu.errors import Mip2mcuError, UsageError
from mip2mcu.files import check_replaceable, check_writable, write_text
from mip2mcu.resources import resource_folder


def test_text_is_written_in_utf8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "grün\nx\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "grün\nx\r\n".encode()


def test_an_old_file_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "a.txt").write_text("old and longer")
    write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_new_file_has_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_name_as_long_as_the_system_allows(tmp_path):
    write_text(tmp_path / ("x" * 255), "x")
    assert (tmp_path / ("x" * 255)).read_text() == "x"


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_leaves_the_old_file_and_no_part_of_the_new(tmp_path, monkeypatch, failure):
    def replace(source, target):
        raise failure

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(UsageError if isinstance(failure, OSError) else type(failure)):
        write_text(tmp_path / "a.txt", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def replace(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(UsageError, match=r"cannot write .*a.txt: No space left on device, free some space or choose"):
        write_text(tmp_path / "a.txt", "new")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "folder" / "real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "folder" / "real.txt").read_text() == "new"


def test_places_where_nothing_can_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"the folder .*none does not exist, create it first"):
        check_writable(tmp_path / "none" / "a.txt")
    with pytest.raises(UsageError, match="it is a folder, name a file"):
        check_writable(tmp_path)
    with pytest.raises(UsageError, match="File name too long, choose another name"):
        check_writable(tmp_path / ("x" * 256))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="does not exist"):
        check_writable(tmp_path / "file" / "a.txt")


def test_a_device_is_never_replaced():
    with pytest.raises(UsageError, match="cannot write /dev/null: it is a device or pipe, name a file"):
        write_text("/dev/null", "x")


def test_a_writable_place_is_given_back(tmp_path):
    assert check_writable(str(tmp_path / "a.txt")) == tmp_path / "a.txt"
    assert list(tmp_path.iterdir()) == []


def test_the_folders_of_the_installation_are_found():
    assert (resource_folder("templates") / "model.c.j2").is_file()
    assert resource_folder("firmware").is_dir()


def test_a_folder_that_is_missing_says_so():
    with pytest.raises(Mip2mcuError, match="lacks its folder 'nonsense': reinstall the package"):
        resource_folder("nonsense")


def test_only_files_of_the_same_kind_are_replaceable(tmp_path):
    for name, text in (("mine.txt", "## mine\n"), ("empty.txt", ""), ("other.txt", "# mine\n")):
        (tmp_path / name).write_text(text)
    for name in ("mine.txt", "empty.txt", "new.txt"):
        assert check_replaceable(tmp_path / name, b"##", "note") == tmp_path / name
    with pytest.raises(UsageError, match=r"other.txt is no note and is not replaced: choose"):
        check_replaceable(tmp_path / "other.txt", b"##", "note")
