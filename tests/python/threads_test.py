"""Calls from several host threads, without the GIL, and in forked processes."""

import os
import subprocess
import sys
import threading
import time

import nalab
import numpy as np
import pytest
from problems import run_in_child

Q, K, V = (np.random.default_rng(i).standard_normal((1, 40, 40, 2, 16)).astype(np.float32) for i in range(3))
OUT = nalab.attention(Q, K, V, 7)


def test_calls_from_several_threads():
    wrong = []

    def work(seed):
        for window in (3, 5, 7) * 5:
            expected = nalab.attention(Q, K, V, window, variant="naive")
            if np.abs(nalab.attention(Q, K, V, window) - expected).max() > 1e-5:
                wrong.append((seed, window))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_gil_is_released():
    large = np.zeros((1, 160, 160, 4, 32), np.float32)
    ticks = []

    def call():
        nalab.attention(large, large, large, 31, variant="naive")

    thread = threading.Thread(target=call)
    thread.start()
    while thread.is_alive():
        ticks.append(time.monotonic())
        time.sleep(0.001)
    # Were the lock held, this thread would have slept through the call.
    assert len(ticks) >= 10


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_after_fork(threads):
    nalab.set_num_threads(threads)
    try:
        assert np.array_equal(nalab.attention(Q, K, V, 7), OUT)

        def body():
            assert np.array_equal(nalab.attention(Q, K, V, 7), OUT)

            def grandchild():
                assert np.array_equal(nalab.attention(Q, K, V, 7), OUT)

            assert run_in_child(grandchild) == 0

        assert run_in_child(body) == 0
        assert np.array_equal(nalab.attention(Q, K, V, 7), OUT)  # the parent goes on
    finally:
        nalab.set_num_threads(0)


def test_fork_while_another_thread_computes():
    stop = threading.Event()

    def work():
        while not stop.is_set():
            nalab.attention(Q, K, V, 7)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(10):
            assert run_in_child(lambda: nalab.attention(Q, K, V, 7)) == 0
    finally:
        stop.set()
        thread.join()


# The threads of PyTorch's OpenMP do not exist in a forked process; it waits for them for ever.
IMPORTED_AFTER_A_FORK = '''
import os
import signal
import torch
torch.set_num_threads(2)
torch.randn(300, 300) @ torch.randn(300, 300)
torch.randn(1 << 20).sum()
child = os.fork()
if child == 0:
    signal.alarm(40)
    torch.set_num_threads(1)  # or PyTorch itself would wait
    import nalab.torch
    nalab.set_num_threads(2)
    q = torch.ones(1, 64, 64, 2, 16)
    os._exit(0 if nalab.torch.na2d(q, q, q, 7).sum() == q.sum() else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
'''


def test_the_first_import_after_a_fork():
    result = run_python(IMPORTED_AFTER_A_FORK)
    assert result.returncode == 0, result.stderr


def test_few_contexts_are_kept():
    code = '''
import os, numpy, nalab
q = numpy.ones((1, 64, 2, 8), numpy.float32)
for threads in range(1, 60):
    nalab.set_num_threads(threads)
    assert nalab.attention(q, q, q, 5).sum() == q.sum()
print(len(os.listdir("/proc/self/task")))
'''
    result = run_python(code)
    assert result.returncode == 0 and int(result.stdout) < 4 * 60, result.stderr


def test_the_interpreter_may_end_while_a_daemon_computes():
    code = """
import threading, time, numpy, nalab
q = numpy.ones((1, 80, 80, 2, 64), numpy.float32)
def compute():
    while True:
        nalab.attention(q, q, q, 3)
threading.Thread(target=compute, daemon=True).start()
time.sleep(0.1)
"""
    for _ in range(3):
        result = run_python(code)
        assert result.returncode == 0, result.stderr


def run_python(code, **variables):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
    )


def test_threads_by_the_environment():
    assert run_python("import nalab; print(nalab.get_num_threads())", NALAB_THREADS="3").stdout == "3\n"
    refused = run_python("import nalab; nalab.get_num_threads()", NALAB_THREADS="many")
    assert "NALAB_THREADS 'many' must be a number from 1 to 1024" in refused.stderr


def test_nothing_heavy_is_imported():
    code = "import sys, nalab; print([m for m in ('torch', 'numpy', 'h5py', 'pandas') if m in sys.modules])"
    assert run_python(code).stdout == "[]\n"
