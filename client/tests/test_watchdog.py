"""The thread that ends silent streams."""

import threading
import time

from des_client.sync.watchdog import Watchdog


def test_a_silent_stream_is_cancelled_and_a_moving_one_is_not():
    watchdog = Watchdog()
    cancelled = threading.Event()
    silent = watchdog.add(cancelled.set, time.monotonic() + 0.05)
    moving = watchdog.add(lambda: None, time.monotonic() + 0.05)
    moving.deadline_at = time.monotonic() + 100
    assert cancelled.wait(5)
    assert silent.expired
    assert not moving.expired
    watchdog.remove(silent)
    watchdog.remove(moving)
    watchdog.close()


def test_an_earlier_deadline_wakes_the_thread():
    watchdog = Watchdog()
    watchdog.add(lambda: None, time.monotonic() + 100)
    cancelled = threading.Event()
    watchdog.add(cancelled.set, time.monotonic() + 0.02)
    assert cancelled.wait(5)
    watchdog.close()


def test_a_removed_stream_is_left_alone():
    watchdog = Watchdog()
    gone = watchdog.add(lambda: None, time.monotonic() + 0.05)
    watchdog.remove(gone)
    later = threading.Event()
    watchdog.add(later.set, time.monotonic() + 0.1)
    assert later.wait(5)
    assert not gone.expired
    watchdog.close()


def test_closing_ends_the_thread():
    watchdog = Watchdog()
    watchdog.add(lambda: None, time.monotonic() + 100)
    thread = watchdog._thread
    assert thread.is_alive()
    watchdog.close()
    thread.join(5)
    assert not thread.is_alive()
    watchdog.add(lambda: None, 0)
