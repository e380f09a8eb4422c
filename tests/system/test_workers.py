"""Worker processes: one that dies is one line, and none outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fundusnet.errors import UserError
from fundusnet.system.workers import worker_pool

STARTS_WORKERS = """
import os, sys, time
from fundusnet.system.workers import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
        pool.submit(time.sleep, 600).result()
"""


UNGUARDED = """
import os
from fundusnet.system.workers import worker_pool
print("read")
with worker_pool(2) as pool:
    print(pool.submit(os.getpid).result() != os.getpid(), __file__, __spec__)
"""


def test_workers_do_not_run_the_callers_script_again(tmp_path: Path) -> None:
    program = tmp_path / "notebook.py"
    program.write_text(UNGUARDED)
    answer = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["read", f"True {program} None"] and answer.stderr == ""


def pids() -> set[int]:
    with worker_pool(1) as pool:
        return {pool.submit(os.getpid).result(), os.getpid()}


def test_a_worker_of_joblib_has_workers_of_its_own() -> None:
    loky = pytest.importorskip("joblib.externals.loky")
    executor = loky.ProcessPoolExecutor(1)
    assert len(executor.submit(pids).result(timeout=60)) == 2
    executor.shutdown()


def test_a_worker_that_dies_is_one_line() -> None:
    message = "a worker process died, perhaps out of memory; run the same command again with fewer workers"
    with pytest.raises(UserError, match=message), worker_pool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
        pool.submit(os._exit, 9).result()


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    program = tmp_path / "starts_workers.py"
    program.write_text(STARTS_WORKERS)
    parent = subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{worker}/exe").exists() for worker in workers):  # a dead one has none
        assert time.monotonic() < end, "workers live on"
        time.sleep(0.1)


def test_torch_has_one_thread_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a worker for each core already."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with worker_pool(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
