"""Threads and processes: files opened and closed by many threads at once, and tensors sent to processes made by fork and spawn."""
from __future__ import annotations

import multiprocessing
import pickle
import threading

import numpy as np
import pytest

import cdna

THREADS = 8


def run_threads(work):
    """Runs work(number) in THREADS threads that start together; raises what one of them raised."""
    start, raised = threading.Barrier(THREADS), []

    def guarded(number):
        start.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


@pytest.mark.parametrize("io", ["mmap", "pread"])
@pytest.mark.parametrize("trust", ["auto", "strict"])
def test_eight_readers_see_the_same(coded_path, tensors, io, trust):
    want = cdna.numpy.load_file(coded_path)
    with cdna.open(coded_path, io=io, trust="auto" if io == "pread" else trust) as f:

        def read(number):
            for name in sorted(tensors)[number % 3 :] * 4:
                np.testing.assert_array_equal(f[name].numpy(), want[name])
                assert f[name].shape == want[name].shape

        run_threads(read)


def test_files_are_opened_and_closed_at_once(exact_path, tensors):
    def use(number):
        for _ in range(60):
            with cdna.open(exact_path) as f:
                assert len(f) == len(tensors)
                np.testing.assert_array_equal(f["conv"].numpy(), tensors["conv"])

    run_threads(use)


def test_closing_under_readers_is_an_error_and_no_crash(exact_path, tensors):
    """A reader has the right values, or an error that says that the file is closed; close() waits, or refuses."""
    for _ in range(30):
        f = cdna.open(exact_path)

        def use(number, f=f):
            if number == 0:
                try:
                    f.close()
                except BufferError:
                    pass  # A reader held a view.
                return
            for name in ("conv", "layer.weight"):
                try:
                    np.testing.assert_array_equal(f[name].numpy(), tensors[name])
                except ValueError as error:
                    assert "closed" in str(error)

        run_threads(use)


def test_one_mapping_of_metadata_for_all_threads(tmp_path):
    path = tmp_path / "m.cdna"
    cdna.save(path, {}, metadata={f"key{number}": [number] * 50 for number in range(40)}, assets={"a.bin": bytes(1000)})
    for _ in range(20):
        with cdna.open(path) as f:
            run_threads(lambda number, f=f: [f.metadata[f"key{key}"][49] == key or pytest.fail() for key in range(40)])
            assert list(f.assets) == ["a.bin"]


def total(tensor):
    """What a worker process does: values and a product."""
    ones = np.ones((2, tensor.cols), np.float32)
    return tensor.name, tensor.numpy().tobytes(), tensor.matmul(ones).tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_tensors_go_to_other_processes(coded_path, method):
    with cdna.open(coded_path) as f:
        sent = [f["layer.weight"], f["layer.half"]] * 3
        want = [total(tensor) for tensor in sent]
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(total, sent) == want


def test_a_pickled_tensor_of_a_file_that_is_gone(tmp_path, coded_path):
    path = tmp_path / "moved.cdna"
    coded_path.rename(path)
    with cdna.open(path) as f:
        data = pickle.dumps(f["layer.weight"])
    path.unlink()
    with pytest.raises(FileNotFoundError, match="moved.cdna"):
        pickle.loads(data)


def test_errors_go_between_processes(coded_path):
    with cdna.open(coded_path) as f, pytest.raises(KeyError) as caught:
        f["other"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value) and str(again) == str(caught.value) and again.tensor == "other"
