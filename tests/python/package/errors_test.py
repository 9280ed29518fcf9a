"""Exceptions: their classes, their fields, and where damage is."""
from __future__ import annotations

import errno
import gc
import os
import pickle
import signal
import threading
import time
import weakref

import numpy as np
import pytest

import cdna

BASES = {
    cdna.FormatError: ValueError,
    cdna.CorruptError: ValueError,
    cdna.LimitError: ValueError,
    cdna.ArgumentError: ValueError,
    cdna.UnsupportedError: NotImplementedError,
    cdna.FileError: OSError,
    cdna.FileMissingError: FileNotFoundError,
    cdna.FilePresentError: FileExistsError,
    cdna.TensorMissingError: KeyError,
    cdna.OutOfMemoryError: MemoryError,
}


def test_every_class_is_also_pythons_own():
    for kind, base in BASES.items():
        assert issubclass(kind, cdna.CdnaError) and issubclass(kind, base) and kind.__module__ == "cdna"


def test_a_missing_tensor(exact_path):
    with cdna.open(exact_path) as f, pytest.raises(KeyError) as caught:
        f["nothing"]
    assert caught.value.tensor == "nothing" and caught.value.path == str(exact_path) and caught.value.code == "not_found"
    assert str(caught.value) == f"{exact_path}: nothing: no such tensor"


def test_files_of_the_system(tmp_path, exact_path):
    with pytest.raises(FileNotFoundError) as caught:
        cdna.open(tmp_path / "none.cdna")
    assert caught.value.errno == errno.ENOENT and caught.value.filename == str(tmp_path / "none.cdna")
    assert caught.value.code == "not_found" and str(caught.value).startswith(str(tmp_path))
    with pytest.raises(FileExistsError):
        cdna.save(exact_path, {}, force=False)
    with pytest.raises(OSError) as caught:
        cdna.save(tmp_path / "no/folder.cdna", {})
    assert caught.value.errno == errno.ENOENT


def test_damage_has_a_place(tmp_path, exact_path):
    data = bytearray(exact_path.read_bytes())
    with cdna.open(exact_path) as f:
        plane = f._core.planes(f["conv"]._number)[0]
    data[plane["offset"] + 9] ^= 1
    damaged = tmp_path / "damaged.cdna"
    damaged.write_bytes(data)
    f = cdna.open(damaged)
    with pytest.raises(cdna.CorruptError) as caught:
        f["conv"].numpy()
    found = caught.value
    assert (found.code, found.rule, found.tensor, found.plane, found.block) == ("corrupt", "B1", "conv", 0, 0)
    assert found.offset == plane["offset"] and found.path == str(damaged) and found.errno is None
    assert "conv" in str(found) and str(damaged) in str(found) and "B1" in str(found)
    again = pickle.loads(pickle.dumps(found))
    assert type(again) is type(found) and str(again) == str(found) and again.offset == found.offset
    np.testing.assert_array_equal(f["ints"].numpy().shape, (5, 7, 3))  # All else can be read.
    for level in ("standard", "deep"):
        with pytest.raises(cdna.CorruptError) as caught:
            f.verify(level=level)
        report = caught.value.report
        assert not report.valid and report.complete and report.problem_count == 1 and report.problems[0].tensor == "conv"
    assert f.verify(level="quick").valid and f.verify(["ints", "layer.weight"]).valid
    with pytest.raises(cdna.CorruptError):
        f.verify(["ints", "conv"])
    with pytest.raises(KeyError):
        f.verify(["none"])
    with pytest.raises(cdna.ArgumentError, match="level"):
        f.verify(level="other")


def test_what_is_no_file_of_the_format(exact_path):
    data = exact_path.read_bytes()
    for content, code in ((b"", "not_cdna"), (b"hello" * 100, "not_cdna"), (data[:-1], "truncated"), (data[:600], "truncated")):
        with pytest.raises(cdna.FormatError) as caught:
            cdna.open(content)
        assert caught.value.code == code
    changed = bytearray(data)
    changed[-100] ^= 1
    with pytest.raises(cdna.CorruptError):
        cdna.open(changed)


def test_verify_reports_progress_and_stops(tmp_path, rng):
    path = tmp_path / "large.cdna"
    cdna.save(path, {f"w{i}": rng.normal(size=(1024, 1024)).astype(np.float32) for i in range(8)})
    with cdna.open(path) as f:
        seen = []
        report = f.verify(progress=lambda done, total: seen.append((done, total)), threads=1)
        assert report.valid and report.blocks_checked > 8 and report.item_count == 9
        assert seen and seen == sorted(seen) and all(0 <= done <= total for done, total in seen)

        class Stop(Exception):
            pass

        def stop(done, total):
            raise Stop

        with pytest.raises(Stop):
            f.verify(progress=stop)
        assert f.verify().valid  # The file is as usable as before.


def test_a_signal_stops_long_calls(tmp_path, rng):
    big = rng.normal(size=(4096, 2048)).astype(np.float32)
    path = tmp_path / "never.cdna"

    def interrupt():
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell's background job ignores SIGINT, and so do its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(100):
                cdna.save(path, {f"w{i}": big for i in range(4)}, "cb4g32", threads=1)
                path.unlink()
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert os.listdir(tmp_path) == []


def test_memory_errors_have_their_class():
    from cdna._errors import exception_of

    fields = dict.fromkeys(("rule", "path", "tensor", "plane", "block", "offset", "errno"))
    error = exception_of(text="out of memory [no_memory]", code="no_memory", message="out of memory", **fields)
    assert isinstance(error, MemoryError) and str(error) == "out of memory [no_memory]"


class Failing:
    """A source of `data` whose reads raise `raised` once that is set."""

    def __init__(self, data):
        self.data, self.size, self.raised = data, len(data), None

    def read_at(self, offset, size):
        if self.raised is not None:
            raise self.raised
        return self.data[offset : offset + size]


def test_errors_of_sources_may_hold_any_text(exact_path):
    source = Failing(exact_path.read_bytes())
    f = cdna.open(source)
    source.raised = OSError("cannot read a\udcff.bin")
    with pytest.raises(cdna.FileError, match=r"OSError: cannot read a\\+udcff\.bin"):
        f["conv"].numpy()

    class Unprintable(Exception):
        def __str__(self):
            raise ZeroDivisionError

    source.raised = Unprintable()
    for threads in (1, 3):
        with pytest.raises(cdna.FileError, match="raised Unprintable"):
            f["conv"].numpy(threads=threads)


def test_names_of_sources_may_hold_any_text(exact_path):
    source = Failing(exact_path.read_bytes())
    source.name = "a\udcff.cdna"
    f = cdna.open(source)
    source.raised = OSError("gone")
    with pytest.raises(cdna.FileError, match=r"a\\+udcff\.cdna.*gone"):
        f["conv"].numpy()


def test_what_a_source_raises_is_the_cause(exact_path):
    source = Failing(exact_path.read_bytes())
    f = cdna.open(source)

    class NoNetwork(Exception):
        pass

    source.raised = NoNetwork()
    for threads in (1, 3):
        with pytest.raises(cdna.FileError) as caught:
            f["layer.weight"].numpy(threads=threads)
        assert caught.value.__cause__ is source.raised and source.raised.__traceback__ is not None
    with pytest.raises(cdna.FileError) as caught:
        f.verify()
    assert caught.value.report.problems[0].__cause__ is source.raised
    with pytest.raises(cdna.FileError) as caught:
        cdna.open(source)
    assert caught.value.__cause__ is source.raised
    alive = weakref.ref(source.raised)
    source.raised = caught = None
    del f, source
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program_goes_through_sources(exact_path, kind):
    source = Failing(exact_path.read_bytes())
    f = cdna.open(source)
    source.raised = kind()
    for use in (f["conv"].numpy, f.verify, lambda: cdna.open(source), lambda: f["layer.weight"].matmul(np.ones(384, "f4"))):
        with pytest.raises(kind) as caught:
            use()
        assert caught.value is source.raised


def test_levels_of_verify_are_checked(exact_path):
    with cdna.open(exact_path) as f:
        assert f.verify("conv", level="standard").valid
        for options in ({"names": ["conv"], "level": "deep"}, {"names": [], "level": "quick"}, {"level": "deeper"}):
            with pytest.raises(cdna.ArgumentError, match="level"):
                f.verify(**options)
        with pytest.raises(cdna.ArgumentError, match="threads"):
            f.verify(["conv"], threads=-1)


def test_errors_of_users_own_and_pickles(exact_path):
    assert str(cdna.CorruptError("hello")) == "hello" and cdna.CdnaError("x").errno is None
    assert cdna.FileError(5, "five", "name").errno == 5
    for made in (cdna.CorruptError("hello"), cdna.FileError(5, "five", "name"), cdna.TensorMissingError("w")):
        again = pickle.loads(pickle.dumps(made))
        assert type(again) is type(made) and again.args == made.args and str(again) == str(made) and again.errno == made.errno
    with cdna.open(exact_path) as f, pytest.raises(cdna.CdnaError) as caught:
        f["none"]
    caught.value.__dict__["__notes__"] = ["while testing"]  # add_note() of Python 3.11
    caught.value.report = cdna.Report(False, True, 1, 0, 1, 1, [])
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.__notes__ == ["while testing"] and again.report == caught.value.report
    assert (again.tensor, again.path, str(again)) == ("none", str(exact_path), str(caught.value))
