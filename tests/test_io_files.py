import os
import stat
from pathlib import Path

import pytest

from cascjax.data import atomic_write
from cascjax.errors import CascjaxError


def test_the_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), atomic_write(tmp_path / "out.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert not os.listdir(tmp_path)


def test_permissions_are_those_of_a_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "out"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "out")}
    assert len(modes) == 1


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "out", "there is no folder"),
        (tmp_path / "file" / "out", "there is no folder"),
        (Path(os.devnull), "not a plain file"),
    ):
        with pytest.raises(CascjaxError, match=f"cannot write .*{reason}"), atomic_write(path):
            pytest.fail("the body must not run")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write to any folder")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(CascjaxError, match="Permission denied"),
            atomic_write(tmp_path / "out"),
        ):
            pytest.fail("the body must not run")
    finally:
        tmp_path.chmod(0o700)


def test_an_error_of_the_system_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(CascjaxError, match=r"cannot write .*out: No space left on device") as caught,
        atomic_write(tmp_path / "out"),
    ):
        raise OSError(28, "No space left on device")
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)
