"""Signals that come when the main thread is about to wait."""

import random
import signal
import subprocess
import sys
import time

import pytest

# A handler in Python misses one in a hundred of these.
WAITER = """
import os, signal, sys, threading
from fastscp.service.signals import block, watch

def compute():
    while True:
        sum(range(2000))

block({signal.SIGTERM})
came = threading.Lock()
came.acquire()
watch({signal.SIGTERM}, lambda number: came.release())
for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
for _ in range(1000):
    os.write(1, b".")
    if not came.acquire(timeout=20):
        sys.exit("a signal was not taken")
"""

ENDING = """
import signal, sys, time
from fastscp.service.signals import block, end_by, watch

number = int(sys.argv[1])
block({number})
watch({number}, end_by)
print("watching", flush=True)
time.sleep(60)
"""


def start(program: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, bufsize=0)


def test_every_signal_is_taken_whatever_the_main_thread_is_about_to_do() -> None:
    source = random.Random(1)
    with start(WAITER) as process:
        assert process.stdout is not None
        while process.stdout.read(1):
            time.sleep(source.uniform(0, 0.0003))
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_ends_by_the_signal_although_it_was_blocked(number: signal.Signals) -> None:
    with start(ENDING, str(int(number))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watching\n"
        process.send_signal(number)
        assert process.wait(30) == -number
