"""Bounded logs: the newest is kept, writers go on."""

from __future__ import annotations

from pathlib import Path

from resources.local.agent_logs import cut_logs, last_line


def test_a_log_is_cut_in_place_and_its_writer_goes_on(tmp_path: Path) -> None:
    """The newest half moves to `.log.1`; what is written later starts the file anew."""
    path = tmp_path / "a.b.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 100 + b"newest\n")
        assert cut_logs([path, tmp_path / "missing.log"], max_bytes=50) == 1
        writer.write(b"later\n")
    assert path.read_bytes() == b"later\n"
    assert (tmp_path / "a.b.log.1").read_bytes() == b"x" * 18 + b"newest\n"
    assert cut_logs([path], max_bytes=50) == 0


def test_the_last_line_is_the_last_that_says_something(tmp_path: Path) -> None:
    """Empty for an empty or missing log; foreign bytes do no harm; long lines are shortened."""
    path = tmp_path / "a.log"
    assert last_line(path) == ""
    path.write_bytes(b"first\nlast \xff\n\n  \n")
    assert last_line(path) == "last \ufffd"
    path.write_bytes(b"y" * 10_000)
    assert last_line(path) == "y" * 300
