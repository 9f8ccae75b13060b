"""`des top` as somebody sees it: on a real terminal, before a real server that goes away and comes back."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

from des_client import DesClient

from des.cli.exits import Exit

WAIT_S = 100
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")
TO_SCREEN, FROM_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A process on a terminal of 120 columns and 40 rows, and all that it drew."""

    def __init__(self, *command):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"},
        )  # fmt: skip
        os.close(theirs)
        self.drawn = b""

    def read(self):
        """Take what is drawn now; return whether the process still holds the terminal."""
        try:
            self.drawn += os.read(self.ours, 1 << 16)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        return True

    def until(self, *words):
        """Read until all the words were drawn since the last time; return that much as plain text."""
        begun, deadline = len(self.drawn), time.monotonic() + WAIT_S
        while True:
            shown = ESCAPES.sub(b"", self.drawn[begun:]).decode(errors="replace")
            if all(word in shown for word in words):
                return shown
            assert time.monotonic() < deadline, (words, shown)
            if select.select([self.ours], [], [], 0.2)[0]:
                assert self.read(), (words, shown)

    def end(self):
        """Press Ctrl-C and return the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and (not select.select([self.ours], [], [], 0.2)[0] or self.read()):
            if self.process.poll() is not None and not select.select([self.ours], [], [], 0)[0]:
                break
        return self.process.wait(WAIT_S)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_S)
        os.close(self.ours)


def test_the_screen_follows_a_server_that_goes_away_and_comes_back(make_server):
    server = make_server({"DES_SHARD_BITS": "4"}).start()
    with DesClient(server.address, timeout_s=60) as des:
        for number in range(5):
            des.put(b"%d" % number)
    terminal = Terminal(sys.executable, "-m", "des.cli", "top", "--every", "0.5", "--url", server.http)
    try:
        shown = terminal.until("DES ", "serving", "puts/s", "5 open", "■", "database", "object_store")
        assert "Traceback" not in shown
        assert TO_SCREEN in terminal.drawn
        server.environment["DES_HTTP_LISTEN"] = server.http  # the same when it is back
        server.kill()
        terminal.until("does not answer")
        server.start()
        terminal.until("DES ", "serving", "puts/s", "5 open")
        assert FROM_SCREEN not in terminal.drawn
        assert terminal.end() == Exit.INTERRUPTED
        assert terminal.drawn.count(TO_SCREEN) == terminal.drawn.count(FROM_SCREEN) == 1
        assert b"Traceback" not in terminal.drawn
    finally:
        terminal.close()
