"""Opening files: from where, what they say of themselves, and how long they live."""
from __future__ import annotations

import gc
import hashlib
import json
import os
import pickle
import threading
import weakref

import numpy as np
import pytest

import cdna


class Recorded:
    """A source that is a Python object."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.reads, self.lie = data, len(data), 0, False

    def read_at(self, offset: int, size: int) -> bytes:
        self.reads += 1
        out = bytearray(self.data[offset : offset + size])
        if self.lie:
            out[0] ^= 1
        return bytes(out)


def test_a_file_is_a_mapping_in_name_order(exact_path, tensors):
    with cdna.open(exact_path) as f:
        assert list(f) == list(f.keys()) == sorted(tensors)
        assert len(f) == len(tensors)
        assert "conv" in f and "nothing" not in f and 7 not in f
        assert {name: t.shape for name, t in f.items()} == {name: np.shape(a) for name, a in tensors.items()}
        assert f.get("nothing") is None


def test_all_places_give_the_same_file(exact_path, tensors):
    data = exact_path.read_bytes()
    descriptor = os.open(exact_path, os.O_RDONLY)
    places = [exact_path, str(exact_path), data, bytearray(data), memoryview(data), descriptor, Recorded(data)]
    files = [cdna.open(place) for place in places]
    os.close(descriptor)  # The file has its own.
    files += [cdna.open(exact_path, io="pread"), cdna.open(exact_path, trust="strict")]
    assert len({f.root for f in files}) == 1
    for f in files:
        for name, array in tensors.items():
            np.testing.assert_array_equal(f[name].numpy(), array)
    assert [f.io for f in files] == ["mmap", "mmap", "memory", "memory", "memory", "mmap", "custom", "pread", "mmap"]
    # What may change is read as strict, a read-only view of it too.
    assert [f.trust for f in files[2:5]] == ["zero_copy", "strict", "zero_copy"]
    changing = bytearray(data)
    array = np.frombuffer(changing, np.uint8)
    array.flags.writeable = False
    for view in (memoryview(changing).toreadonly(), memoryview(memoryview(changing)).toreadonly()[:], array):
        f = cdna.open(view)
        assert (f.trust, cdna.open(view, trust="zero_copy").trust) == ("strict", "zero_copy")
        place = f["conv"]._plane_infos()[0]["offset"]
        changing[place] ^= 1
        with pytest.raises(cdna.CorruptError):
            f["conv"].numpy()
        changing[place] ^= 1
    assert cdna.open(memoryview(memoryview(data))[:]).trust == "zero_copy"
    with pytest.raises(cdna.ArgumentError):
        cdna.open(changing, trust="zero_copy")


def test_the_root_is_the_hash_that_the_specification_says(exact_path):
    data = exact_path.read_bytes()
    with cdna.open(exact_path) as f:
        assert f.root == hashlib.sha256(data[-256:][:216]).digest()
        assert f.nbytes == len(data) and bytes(f.buffer) == data
        root = f.root
    assert cdna.open(exact_path, expected_root=root).root == root
    assert cdna.open(exact_path, expected_root=root.hex()).root == root
    with pytest.raises(cdna.CorruptError) as caught:
        cdna.open(exact_path, expected_root=bytes(32))
    assert caught.value.code == "root_mismatch" and caught.value.rule == "T4"


def test_metadata_has_python_values(tmp_path):
    path = tmp_path / "m.cdna"
    given = {
        "none": None, "yes": True, "no": False, "small": -(2**63), "large": 2**64 - 1, "real": 0.1, "text": "süß ☃",
        "bytes": b"\0\xff", "list": [1, "a", None], "dict": {"b": {"c": [1.5]}},
    }  # fmt: skip
    cdna.save(path, {}, metadata=given)
    with cdna.open(path) as f:
        for key, value in given.items():
            assert f.metadata[key] == value and type(f.metadata[key]) is type(value)
        assert f.metadata["cdna.writer"].startswith("libcdna")
        assert json.loads(f.metadata.json_text("dict")) == given["dict"] and f.metadata.json_text("text") is None
        assert list(f.metadata) == sorted(f.metadata, key=str.encode)
        with pytest.raises(KeyError):
            f.metadata["other"]
    with pytest.raises(cdna.ArgumentError, match="64 bits"):
        cdna.save(path, {}, metadata={"n": 2**64})
    with pytest.raises(cdna.ArgumentError, match="'s'"):
        cdna.save(path, {}, metadata={"s": {1, 2}})


def test_assets(tmp_path):
    path = tmp_path / "a.cdna"
    blob = bytes(range(256)) * 5000
    cdna.save(path, {}, assets={"config.json": '{"a": 1}', "blob.bin": blob, "empty.txt": b""})
    with cdna.open(path) as f:
        assert sorted(f.assets) == ["blob.bin", "config.json", "empty.txt"]
        assert f.assets["blob.bin"].read() == blob and f.assets["blob.bin"].nbytes == len(blob)
        assert f.assets["blob.bin"].read(1000, 10) == blob[1000:1010] and f.assets["blob.bin"].read(len(blob)) == b""
        assert f.assets["config.json"].text() == '{"a": 1}' and f.assets["config.json"].media_type == "application/json"
        assert f.assets["empty.txt"].read() == b""
        with pytest.raises(ValueError):
            f.assets["blob.bin"].read(len(blob) + 1)


def test_close_ends_a_file(exact_path):
    f = cdna.open(exact_path)
    t = f["conv"]
    f.close()
    f.close()
    assert f.closed
    for use in (lambda: f["conv"], lambda: len(f), t.numpy, lambda: f.root, f.verify, lambda: t.matmul(np.ones(36, "f4"))):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(ZeroDivisionError), cdna.open(exact_path) as f:
        view = f["conv"].view()
        raise ZeroDivisionError  # Not hidden by the BufferError that the view would be.
    assert view.size


def test_files_and_tensors_are_pickled_as_path_and_name(coded_path):
    f = cdna.open(coded_path, trust="strict")
    t = f["layer.weight"]
    again, tensor = pickle.loads(pickle.dumps((f, t)))
    assert again.trust == "strict" and again.root == f.root and tensor.file is again
    np.testing.assert_array_equal(tensor.numpy(), t.numpy())
    with pytest.raises(TypeError):
        pickle.dumps(cdna.open(coded_path.read_bytes()))


def test_fork_and_threads(coded_path):
    f = cdna.open(coded_path)
    t = f["layer.weight"]
    want = t.numpy()
    x = np.ones((3, want.shape[1]), np.float32)
    product = t.matmul(x)
    child = os.fork()
    if child == 0:
        same = np.array_equal(t.numpy(), want) and np.array_equal(t.matmul(x), product) and f.verify().valid
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wrong = []

    def read() -> None:
        for _ in range(20):
            if not (np.array_equal(t.numpy(), want) and np.array_equal(t.matmul(x), product)):
                wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_files_are_let_go(exact_path):
    def rss() -> int:
        return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def use(count: int) -> None:
        for _ in range(count):
            with cdna.open(exact_path) as f:
                f["conv"].numpy()
                f["layer.weight"].view()
                len(f.metadata)
                list(f)

    use(500)
    gc.collect()
    memory, files = rss(), descriptors()
    use(3000)
    gc.collect()
    assert descriptors() == files
    assert rss() - memory < 4 << 20


def test_sources_of_python_lie_once(exact_path, tensors):
    source = Recorded(exact_path.read_bytes())
    f = cdna.open(source)
    source.lie = True
    with pytest.raises(cdna.CorruptError) as caught:
        f["layer.weight"].numpy()
    assert caught.value.tensor == "layer.weight"
    source.lie = False

    def broken(offset, size):
        raise RuntimeError("no network")

    other = Recorded(exact_path.read_bytes())
    f = cdna.open(other)
    other.read_at = broken
    with pytest.raises(OSError, match="no network"):
        f["conv"].numpy()
    other.read_at = lambda offset, size: b"x"
    with pytest.raises(OSError, match="1 bytes"):
        f["conv"].numpy()


def test_statistics_count(exact_path):
    f = cdna.open(exact_path, trust="strict")
    before = f.statistics["blocks_verified"]
    f["conv"].numpy()
    assert f.statistics["blocks_verified"] > before and f.statistics["bytes_hashed"] > 0


def test_what_cannot_be_opened(tmp_path, exact_path):
    for use in (lambda: cdna.open(f"{exact_path}\0b"), lambda: cdna.save(f"{tmp_path}/a\0b", {})):
        with pytest.raises(ValueError, match="null"):
            use()
    with pytest.raises(TypeError, match="float"):
        cdna.open(1.5)
    with pytest.raises(cdna.ArgumentError, match="io"):
        cdna.open(exact_path, io="other")
    with pytest.raises(cdna.ArgumentError, match="trust"):
        cdna.open(exact_path, trust="other")
    with pytest.raises(cdna.ArgumentError, match="32 bytes"):
        cdna.open(exact_path, expected_root=b"12")
    with pytest.raises(cdna.ArgumentError, match="hexadecimal"):
        cdna.open(exact_path, expected_root="zz")
    with pytest.raises(cdna.LimitError):
        cdna.open(exact_path, items_max=2)
    with pytest.raises(OSError):
        cdna.open(9999)
    with pytest.raises((cdna.ArgumentError, OSError)):
        cdna.open(tmp_path)


def test_a_source_that_keeps_its_file_is_let_go(exact_path):
    source = Recorded(exact_path.read_bytes())
    source.file = cdna.open(source)
    assert source.file["conv"].numpy().size
    alive = weakref.ref(source)
    tensor = source.file["conv"]
    del source
    gc.collect()
    assert alive() is not None and tensor.numpy().size
    del tensor
    gc.collect()
    assert alive() is None


def test_objects_of_the_extension_that_were_never_made():
    for kind in (cdna._core.View, cdna._core.Imported):
        with pytest.raises((BufferError, TypeError)):
            memoryview(kind.__new__(kind))


def test_arguments_of_other_types(exact_path):
    with cdna.open(exact_path) as f:
        for name in (b"conv", 3, None):
            assert name not in f
            with pytest.raises(TypeError, match="names of tensors are str"):
                f[name]
        assert "\ud800" not in f and f.get("\ud800") is None
        with pytest.raises(KeyError):
            f["\ud800"]
        for threads in (2.5, None, "1"):
            with pytest.raises(TypeError, match="threads is"):
                f["conv"].numpy(threads=threads)
        for threads in (-1, 2**40):
            with pytest.raises(cdna.ArgumentError, match="threads is"):
                f["conv"].numpy(threads=threads)
        with pytest.raises(cdna.ArgumentError, match="begin is -1"):
            f["conv"].prefetch(-1)
        root = f.root
    assert cdna.open(exact_path, expected_root=bytearray(root)).root == root
    with pytest.raises(cdna.ArgumentError, match="items_max is -1"):
        cdna.open(exact_path, items_max=-1)
    with pytest.raises(TypeError, match="bool"):
        cdna.open(True)


def test_assets_metadata_and_pickles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cdna.save("a.cdna", {"w": np.ones(2)}, metadata={"list": [1, [2]]}, assets={"a.txt": b"x"})
    f = cdna.open("a.cdna")
    assert f.path == "a.cdna"
    f.metadata["list"][1].append(3)
    assert f.metadata["list"] == [1, [2]]
    with pytest.raises(cdna.TensorMissingError, match="no such asset") as caught:
        f.assets["b.txt"]
    assert caught.value.tensor == "b.txt" and "b.txt" not in f.assets and f.assets.get("b.txt") is None
    data = pickle.dumps(f)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert pickle.loads(data)["w"].numpy().tolist() == [1, 1]
