"""What people see: runs on a pseudo-terminal."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import pytest
from des_proto.v1 import shard_service_pb2

from des.cli.exits import Exit

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a terminal of 160 columns."""

    def __init__(self, des, *args, stdout=None):
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.process = subprocess.Popen(
            des.line(*args),
            cwd=des.folder,
            env={**des.environment, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
        )
        os.close(slave)
        self.raw = ""

    def read(self):
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)

    def until(self, words):
        while words not in ESCAPES.sub("", self.raw):
            assert self.read(), f"ended without {words!r}: {self.raw}"

    def end(self):
        while self.read():
            pass
        os.close(self._master)
        return self.process.wait(20), ESCAPES.sub("", self.raw).replace("\r", "\n")


def test_an_import_shows_a_bar_with_rate_and_time_left_and_then_a_summary(des, store):
    (des.folder / "in").mkdir()
    for number in range(200):
        (des.folder / f"in/{number}").write_bytes(bytes(1000))
    store.put_gate.clear()
    terminal = Terminal(des, "put", "in")
    terminal.until("/200 files")
    time.sleep(0.3)
    store.put_gate.set()
    code, seen = terminal.end()
    assert code == Exit.OK
    assert re.search(r"put .*/200 files +.*/195 KiB +.*files/s +.*/s +\S+ left", seen)
    assert "des: put 200 files, 195 KiB in" in seen
    assert "DES_2026" not in seen


def test_a_file_named_by_the_user_has_its_name_printed_on_a_terminal_too(des, store):
    (des.folder / "a").write_bytes(b"x")
    code, seen = Terminal(des, "put", "a").end()
    (name,) = store.files
    assert code == Exit.OK
    assert f"{name}  a\n" in seen


def test_lines_for_a_pipe_stay_whole_while_the_bar_is_drawn(des, store):
    (des.folder / "in").mkdir()
    for number in range(50):
        (des.folder / f"in/{number}").write_bytes(b"x")
    with (des.folder / "out").open("wb") as out:
        code, seen = Terminal(des, "put", "in", stdout=out).end()
    assert code == Exit.OK
    assert "put 50 files" in seen
    lines = (des.folder / "out").read_text().splitlines()
    assert len(lines) == 50
    assert all(re.fullmatch(r"DES_20260115_\([0-9A-F]{12}_[0-9A-F]{2}\)  in/\d+", line) for line in lines)


def test_ctrl_c_leaves_the_terminal_as_it_was(des, store):
    (des.folder / "in").mkdir()
    for number in range(200):
        (des.folder / f"in/{number}").write_bytes(b"x")
    store.put_gate.clear()
    terminal = Terminal(des, "put", "in")
    terminal.until("/200 files")
    terminal.process.send_signal(signal.SIGINT)
    code, seen = terminal.end()
    assert code == Exit.INTERRUPTED
    assert seen.rstrip().endswith("des: interrupted")
    assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")


@pytest.mark.parametrize("arguments", [["shards"], ["shards", "--watch", "0.2"]])
def test_shards_are_drawn_in_colour(des, store, arguments):
    store.shards.append(
        shard_service_pb2.Shard(
            shard_id=7, state=shard_service_pb2.SHARD_STATE_ACTIVE, open_files=3, open_bytes=10
        )
    )
    terminal = Terminal(des, *arguments)
    terminal.until("active")
    if "--watch" in arguments:
        store.shards[0].open_files = 4321
        terminal.until("4,321")
        terminal.process.send_signal(signal.SIGINT)
    code, _ = terminal.end()
    assert code == (Exit.INTERRUPTED if "--watch" in arguments else Exit.OK)
    assert "\x1b[32mactive" in terminal.raw
