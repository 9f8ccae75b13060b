"""A TCP proxy that breaks connections: the network at its worst, for real."""

import contextlib
import socket
import struct
import threading


class CuttingProxy:
    """Passes bytes on; resets a connection when it has carried its fill.

    `cuts` holds, for each connection in order, (bytes to the server, bytes to the client) after which
    it is reset; None never cuts. Connections beyond the list are never cut.
    """

    def __init__(self, port, cuts):
        self._port = port
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = []
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def target(self):
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                up, down = self._cuts.pop(0) if self._cuts else (None, None)
                server = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [client, server]
                for source, target, fill in ((client, server, up), (server, client, down)):
                    thread = threading.Thread(target=self._pass_on, args=(source, target, fill))
                    thread.start()
                    self._threads.append(thread)

    def _pass_on(self, source, target, fill):
        carried = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if fill is not None and carried + len(data) > fill:
                    target.sendall(data[: fill - carried])
                    break
                carried += len(data)
                target.sendall(data)
        for one in (source, target):
            _reset(one)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._sockets:
            _reset(one)
        for thread in self._threads:
            thread.join(10)


def _reset(one):
    with contextlib.suppress(OSError):
        # Linger 0: the peer sees a reset, not an orderly end.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    one.close()
