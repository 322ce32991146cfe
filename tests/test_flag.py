"""The cancel signal that a signal handler may set."""

import signal
import threading
import time

from reconciler.cli.verbs import Flag


def test_it_ends_a_wait_at_once_and_stays_set() -> None:
    flag = Flag()
    assert not flag.wait(0.01)
    threading.Timer(0.05, flag.set).start()
    began = time.monotonic()
    assert flag.wait(60)
    assert time.monotonic() - began < 30
    assert flag.is_set()
    assert flag.wait(60)


def test_a_handler_may_set_it_in_the_middle_of_a_wait() -> None:
    flag = Flag()
    before = signal.signal(signal.SIGALRM, lambda *_: flag.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.001)
        assert flag.wait(60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
