"""Making files: dtypes, policies, aliases, other formats, and functions in the shape of safetensors'."""
from __future__ import annotations

import inspect
import json
import os
import sys

import numpy as np
import pytest
import safetensors.numpy

import cdna


def test_the_bytes_depend_on_the_input_alone(tensors, tmp_path):
    first = cdna.save(None, tensors, "cb6g64", threads=1)
    again = cdna.save(None, dict(reversed(list(tensors.items()))), "cb6g64", threads=3)
    assert first == again
    report = cdna.save(tmp_path / "f.cdna", tensors, "cb6g64")
    assert (tmp_path / "f.cdna").read_bytes() == first and report.file_nbytes == len(first)
    assert report.root == cdna.open(first).root and report.notes == []
    assert report.bits_per_weight == pytest.approx(8 * report.stored_nbytes / sum(np.size(a) for a in tensors.values()))


def test_all_kinds_of_arrays(weights):
    half = weights.astype(np.float16)
    given = {
        "strided": weights[::3, ::-2], "fortran": np.asfortranarray(weights), "big endian": weights.astype(">f4"),
        "list": [[1.5, 2], [3, 4]], "buffer": memoryview(half), "broadcast": np.broadcast_to(np.int8(3), (4, 5)),
        "number": 7, "\U0001f600 ü.weight": half,
    }  # fmt: skip
    f = cdna.open(cdna.save(None, given))
    for name, value in given.items():
        np.testing.assert_array_equal(f[name].numpy(), np.asarray(value))
    assert list(f) == sorted(given, key=str.encode)
    copied = cdna.open(cdna.save(None, {**f, "again": f["strided"]}))
    for name in f:
        np.testing.assert_array_equal(copied[name].numpy(), f[name].numpy())


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "x.cdna"
    for value in (np.array(["a"]), np.zeros(3, "M8[s]"), np.zeros(2, np.complex128), object(), np.zeros(1, "f4,f4")):
        with pytest.raises(ValueError) as caught:
            cdna.save(path, {"bad one": value})
        assert caught.value.tensor == "bad one"
    for names in ({1: np.zeros(1)}, {b"b": np.zeros(1)}):
        with pytest.raises(TypeError):
            cdna.save(path, names)
    with pytest.raises(ValueError):
        cdna.save(path, {"\ud800": np.zeros(1)})
    with pytest.raises(ValueError, match="nan|NaN|finite"):
        cdna.save(path, {"w": np.full((64, 64), np.nan, np.float32)}, "cb8")
    with pytest.raises(cdna.ArgumentError, match="cb9"):
        cdna.save(path, {}, "cb9")
    with pytest.raises(cdna.ArgumentError, match="codec"):
        cdna.save(path, {}, codec="lz4")
    with pytest.raises(TypeError):
        cdna.save(path, {}, 7)
    with pytest.raises(cdna.FormatError):
        cdna.save(path, {}, {"rules": [{"preset": "cb9"}]})
    assert not path.exists() and list(tmp_path.iterdir()) == []


def test_policies(tmp_path, rng):
    arrays = {name: rng.normal(size=(128, 128)).astype(np.float32) for name in ("a.weight", "b.weight", "embed_tokens.weight")}
    rules = {"rules": [{"glob": "a.*", "preset": "cb4g32"}, {"preset": "cb8"}]}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(rules))
    for policy in (rules, json.dumps(rules), file, str(file)):
        report = cdna.save(tmp_path / "p.cdna", arrays, policy)
        presets = {tensor.name: tensor.preset for tensor in report.tensors}
        assert presets == {"a.weight": "cb4g32", "b.weight": "cb8", "embed_tokens.weight": "exact"}
    report = cdna.save(tmp_path / "p.cdna", arrays, "cb8", embeddings="cb6g64", keep_exact="b.*")
    assert [tensor.preset for tensor in report.tensors] == ["cb8", "exact", "cb6g64"]
    report = cdna.save(tmp_path / "p.cdna", arrays, bits_per_weight=7, embeddings="cb8")
    assert 6 < report.bits_per_weight <= 7
    report = cdna.save(tmp_path / "p.cdna", arrays, target_nbytes=100_000)
    assert (tmp_path / "p.cdna").stat().st_size <= 100_000
    with pytest.raises(FileNotFoundError):
        cdna.save(tmp_path / "p.cdna", arrays, tmp_path / "none.json")


def test_tied_tensors_are_stored_once(tmp_path, rng):
    table = rng.normal(size=(200, 128)).astype(np.float32)
    report = cdna.save(tmp_path / "t.cdna", {"embed_tokens.weight": table, "lm_head.weight": table.copy()})
    assert report.tensors[1].alias_of == "embed_tokens.weight" and report.stored_nbytes < 1.1 * table.nbytes
    with cdna.open(tmp_path / "t.cdna") as f:
        np.testing.assert_array_equal(f["lm_head.weight"].numpy(), table)
        assert f["lm_head.weight"].name == "lm_head.weight" and len(f) == 2


def test_safetensors_and_back(tmp_path, tensors):
    source, made, back = (tmp_path / name for name in ("s.safetensors", "m.cdna", "b.safetensors"))
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items() if name != "complex"}
    safetensors.numpy.save_file(arrays, source, metadata={"format": "np"})
    report = cdna.convert(source, made, progress=lambda done, total: None)
    assert report.tensors[0].preset == "exact"
    with cdna.open(made) as f:
        assert f.metadata["safetensors:format"] == "np"
    cdna.convert(made, back)
    assert back.read_bytes() == source.read_bytes()
    with pytest.raises(FileExistsError):
        cdna.convert(source, made)
    cdna.convert(source, made, "cb8", force=True, metadata={"mine": 1})
    cdna.convert(made, back, dtype="float16", force=True)
    got = safetensors.numpy.load_file(back)
    with cdna.open(made) as f:
        np.testing.assert_array_equal(got["layer.weight"], f["layer.weight"].numpy("float16"))
        assert f.metadata["mine"] == 1
    with pytest.raises(cdna.ArgumentError):
        cdna.convert(source, tmp_path / "n.cdna", dtype="float16")
    with pytest.raises(FileNotFoundError):
        cdna.convert(tmp_path / "none.safetensors", tmp_path / "n.cdna")


@pytest.mark.parametrize("name", ["load", "load_file", "save", "save_file"])
def test_functions_have_the_parameters_of_safetensors(name):
    ours = list(inspect.signature(getattr(cdna.numpy, name)).parameters.values())
    theirs = list(inspect.signature(getattr(safetensors.numpy, name)).parameters.values())
    for mine, other in zip(ours, theirs):
        assert (mine.name, mine.kind, mine.default) == (other.name, other.kind, other.default)
    assert all(more.default is not inspect.Parameter.empty for more in ours[len(theirs) :])


def test_cdna_numpy_is_safetensors_numpy(tmp_path, tensors):
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    cdna.numpy.save_file(arrays, tmp_path / "a.cdna", metadata={"who": "me"})
    data = cdna.numpy.save(arrays, {"who": "me"})
    assert data == (tmp_path / "a.cdna").read_bytes()
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors", metadata={"who": "me"})
    want = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    for got in (
        cdna.numpy.load(data),
        cdna.numpy.load_file(tmp_path / "a.cdna"),
        cdna.numpy.load_file(str(tmp_path / "a.cdna"), backend="pread"),
    ):
        assert set(got) == set(want)
        for name, array in want.items():
            assert got[name].dtype == array.dtype and got[name].tobytes() == array.tobytes()
    cdna.convert(tmp_path / "a.cdna", tmp_path / "b.safetensors")
    assert safetensors.safe_open(tmp_path / "b.safetensors", "np").metadata() == {"who": "me"}
    small = cdna.numpy.save(arrays, policy="cb8")
    assert len(small) < len(data) and cdna.numpy.load(small)["layer.weight"].dtype == np.float32


def test_nothing_is_imported_that_is_not_used():
    import subprocess

    code = "import sys, cdna; print([m for m in ('torch', 'ml_dtypes', 'tqdm', 'logging', 'ctypes.util') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "torch" not in loaded and "ml_dtypes" not in loaded and "tqdm" not in loaded


def test_options_of_the_wrong_kind_are_named(tmp_path, weights):
    undecodable = tmp_path / "a\udcff.json"
    undecodable.write_bytes(b'{"rules": [{"preset": "cb9"}]}')
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff{}")
    for options, named in (
        ({"metadata": {"a": "\ud800"}}, "metadata"), ({"metadata": {"\ud800": 1}}, "metadata"), ({"metadata": {1: 2}}, "metadata"),
        ({"embeddings": 5}, "embeddings"), ({"embeddings": "\ud800"}, "embeddings"), ({"codec": 5}, "codec"),
        ({"bits_per_weight": "x"}, "bits_per_weight"), ({"target_nbytes": -1}, "target_nbytes"),
        ({"target_nbytes": 1.5}, "target_nbytes"), ({"keep_exact": [3]}, "keep_exact"), ({"candidates": [3]}, "candidates"),
        ({"policy": "\ud800"}, "encoding|policy"), ({"policy": '{"\ud800": 1}'}, "policy"), ({"policy": binary}, "binary.json"),
    ):  # fmt: skip
        with pytest.raises(cdna.ArgumentError, match=named):
            cdna.save(tmp_path / "x.cdna", {"w": weights}, **options)
    with pytest.raises(cdna.FormatError, match=r"udcff\.json"):
        cdna.save(tmp_path / "x.cdna", {"w": weights}, undecodable)
    assert not (tmp_path / "x.cdna").exists()


def test_any_number_of_threads_is_taken(tensors):
    want = cdna.save(None, tensors, "cb8")
    assert cdna.save(None, tensors, "cb8", threads=2**31 - 1) == want
    f = cdna.open(want)
    np.testing.assert_array_equal(f["layer.weight"].numpy(threads=2**31 - 1), f["layer.weight"].numpy())
    x = np.ones((2, 384), np.float32)
    np.testing.assert_array_equal(f["layer.weight"].matmul(x, threads=2**31 - 1), f["layer.weight"].matmul(x))
    assert f.verify(threads=2**31 - 1).valid
    plan = f._core.matmul_plan(f["layer.weight"]._number, 2, False, "f32", 30_000)
    assert 1 <= plan["threads"] <= max(64, 4 * (os.cpu_count() or 1))
    with pytest.raises(cdna.ArgumentError, match="threads"):
        cdna.save(None, tensors, "cb8", threads=2**40)


def test_what_progress_raises_leaves_no_file(tmp_path, weights):
    made, exported = tmp_path / "m.cdna", tmp_path / "e.safetensors"

    def fail(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cdna.save(made, {"w": weights}, progress=fail)
    assert not list(tmp_path.iterdir())
    seen = []
    cdna.save(made, {"w": weights}, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (weights.nbytes, weights.nbytes)

    def fail_last(done, total):
        if done == total:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cdna.convert(made, exported, progress=fail_last)
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize(
    "option",
    [
        {"policy": "cb8"}, {"metadata": {"a": 1}}, {"embeddings": "cb8"}, {"keep_exact": ["*"]}, {"bits_per_weight": 5.0},
        {"target_nbytes": 9}, {"candidates": ["cb8"]}, {"codec": "zstd"}, {"nonfinite": "exact"}, {"threads": -1},
    ],
    ids=str,
)  # fmt: skip
def test_exports_refuse_what_they_would_ignore(exact_path, tmp_path, option):
    with pytest.raises(cdna.ArgumentError, match=next(iter(option))):
        cdna.convert(exact_path, tmp_path / "x.safetensors", **option)
    assert not (tmp_path / "x.safetensors").exists()


def test_paths_of_exports_may_be_bytes(tmp_path):
    cdna.save(tmp_path / "a.cdna", {"w": np.ones(3)})
    cdna.convert(bytes(tmp_path / "a.cdna"), bytes(tmp_path / "b.safetensors"))
    assert safetensors.numpy.load_file(tmp_path / "b.safetensors")["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "value", [[float("nan")], {"a": float("inf")}, np.complex64(1), np.datetime64("2024-01-01"), 1j, [np.float32(1)]], ids=repr
)
def test_metadata_that_is_no_json(value):
    with pytest.raises(cdna.ArgumentError, match="metadata 'key'"):
        cdna.save(None, {}, metadata={"key": value})


def test_one_candidate(rng):
    arrays = {"a.weight": rng.normal(size=(128, 128)).astype(np.float32)}
    one, several = (cdna.save(None, arrays, bits_per_weight=9, candidates=names) for names in ("cb8", ["cb8"]))
    assert one == several and cdna.open(one)["a.weight"].bits == 8


def test_safetensors_functions_take_what_those_of_safetensors_take(tmp_path):
    path = tmp_path / "a.cdna"
    cdna.numpy.save_file({"w": np.ones(2)}, path, {"a": "b"})
    assert cdna.numpy.load_file(bytes(path))["w"].tolist() == [1, 1]
    assert cdna.numpy.load_file(path, backend="pread")["w"].tolist() == [1, 1]
    with pytest.raises(cdna.ArgumentError, match="backend"):
        cdna.numpy.load_file(path, backend="bogus")
    with pytest.raises(TypeError):
        cdna.numpy.load_file(0)
    for metadata in ({"a": 1}, {1: "a"}):
        with pytest.raises(TypeError, match="metadata"):
            cdna.numpy.save({}, metadata)
