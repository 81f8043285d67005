"""A lock of a shared folder, without locks of files and without clocks that agree."""

import errno
import json
import subprocess
import sys
import threading
import time

import pytest

from foveate.study import claim as claims
from foveate.study.claim import ClaimTaken, claim, is_claimed
from foveate.study.folder import FolderInUse, is_locked, lock_folder


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claims, "BEAT_S", 0.02)
    monkeypatch.setattr(claims, "SILENT_S", 0.4)
    monkeypatch.setattr(claims, "LOOK_S", 0.02)


@pytest.fixture
def elsewhere(monkeypatch):
    """Claims that are made now are those of another machine for the ones made later."""
    names = iter(f"machine {number}" for number in range(1000))
    monkeypatch.setattr(claims, "_this_machine", lambda: next(names))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_claim_is_there_while_it_is_kept(tmp_path, quick):
    with claim(tmp_path / "lock") as own:
        own.check()
        assert files(tmp_path) == ["lock-1"]
        assert is_claimed(tmp_path / "lock")
    assert not is_claimed(tmp_path / "lock")
    with claim(tmp_path / "lock"):
        assert files(tmp_path) == ["lock-2"], "numbers are not used again"


def test_a_second_process_is_refused_by_the_name_of_the_first(tmp_path, quick):
    with claim(tmp_path / "lock"), pytest.raises(ClaimTaken, match=r"process \d+ on "), claim(tmp_path / "lock"):
        pass


def test_another_machine_is_seen_by_its_beats_and_waited_for(tmp_path, quick, elsewhere):
    waited = []
    with claim(tmp_path / "lock"):
        with pytest.raises(ClaimTaken), claim(tmp_path / "lock"):
            pass

        def wait():
            with claim(tmp_path / "lock", wait=True, on_wait=waited.append):
                waited.append("mine")

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.8)
        assert waited, "longer than a claim may be silent, and it is not taken over, since it beats"
        assert waited[-1] != "mine"
    thread.join(10)
    assert waited[-1] == "mine"


def test_one_that_falls_silent_is_taken_over_and_finds_that_out(tmp_path, quick, elsewhere, monkeypatch):
    lost = threading.Event()
    with claim(tmp_path / "lock", on_lost=lost.set) as first:
        monkeypatch.setattr(claims.Claim, "beat", lambda self: self.check())  # as of a machine that hangs
        with claim(tmp_path / "lock", wait=True):
            assert files(tmp_path) == ["lock-2"]
            with pytest.raises(ClaimTaken, match="taken over by process"):
                first.check()
            assert lost.wait(5)
        with claim(tmp_path / "lock") as third:
            with pytest.raises(ClaimTaken):
                first.check()
            first.drop()
            assert files(tmp_path) == ["lock-3"]
            third.check()  # what is another's is not given up


def test_whoever_looks_sees_a_claim_of_another_machine_until_it_has_been_silent(tmp_path, quick, elsewhere):
    assert not is_claimed(tmp_path / "lock")
    with claim(tmp_path / "lock"):
        assert is_claimed(tmp_path / "lock")
        time.sleep(0.6)
        assert is_claimed(tmp_path / "lock"), "it beats"
        left = (tmp_path / "lock-1").read_bytes()
    (tmp_path / "lock-1").write_bytes(left)  # as of a machine that was switched off
    assert is_claimed(tmp_path / "lock")
    time.sleep(0.5)
    assert not is_claimed(tmp_path / "lock")


def test_on_a_file_system_without_locks_the_claim_decides(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with lock_folder(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(FolderInUse, match="is in use by process"), lock_folder(tmp_path):
            pass
    assert not is_locked(tmp_path)


def test_a_claim_that_cannot_be_read_for_a_moment_is_not_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "UNREADABLE_S", (0.0, 0.0))
    real, unreadable = claims._latest, [(1, {})] * 2
    with claim(tmp_path / "lock") as own:
        monkeypatch.setattr(claims, "_latest", lambda place: unreadable.pop() if unreadable else real(place))
        own.check()
        unreadable += [(1, {})] * 3
        with pytest.raises(ClaimTaken, match="another process"):
            own.check()


def test_on_a_full_disk_no_empty_claim_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(claims, "_content", full)
    with pytest.raises(OSError, match="No space left"), claim(tmp_path / "lock"):
        pass
    assert files(tmp_path) == []


def test_a_process_of_this_machine_that_is_gone_counts_for_nothing(tmp_path):
    code = f"""
import os, pathlib
from foveate.study.claim import _take
_take(pathlib.Path({str(tmp_path)!r}) / "lock", False, print)
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    content = json.loads((tmp_path / "lock-1").read_text())
    began = time.monotonic()
    with claim(tmp_path / "lock"):
        assert time.monotonic() - began < 5
        assert files(tmp_path) == ["lock-2"]
    assert content["nonce"]


def test_of_many_at_once_one_gets_it(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(claims, "SILENT_S", 30.0)
    monkeypatch.setattr(claims, "LOOK_S", 0.002)
    inside, most = [], []

    def work():
        for _ in range(5):
            with claim(tmp_path / "lock", wait=True) as own:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                own.check()
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1] * 60
