"""cdna.export and cdna.convert to other formats: the source's values again, and what is refused leaves no file."""
from __future__ import annotations

import numpy as np
import pytest

import cdna


def test_export_to_safetensors_is_by_the_ending_or_by_name(exact_path, tmp_path):
    numpy_of = pytest.importorskip("safetensors.numpy")
    by_ending, by_name, by_convert = (tmp_path / name for name in ("a.safetensors", "b.bin", "c.safetensors"))
    assert cdna.export(exact_path, by_ending) is None
    cdna.export(exact_path, by_name, format="safetensors")
    assert cdna.convert(exact_path, by_convert) is None
    assert by_ending.read_bytes() == by_name.read_bytes() == by_convert.read_bytes()
    with cdna.open(exact_path) as file:
        for name, array in numpy_of.load_file(by_ending).items():
            assert np.array_equal(array, file[name].numpy())


def test_an_open_file_is_exported_and_stays_open(exact_path, tmp_path):
    with cdna.open(exact_path) as file:
        cdna.export(file, tmp_path / "a.safetensors")
        assert file["layer.weight"].numpy().shape == (200, 384)
    cdna.export(exact_path, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_dtype_is_that_of_floats(exact_path, tmp_path):
    numpy_of = pytest.importorskip("safetensors.numpy")
    cdna.export(exact_path, tmp_path / "a.safetensors", dtype="float32")
    arrays = numpy_of.load_file(tmp_path / "a.safetensors")
    assert arrays["layer.half"].dtype == np.float32
    assert arrays["ints"].dtype == np.int64


def test_what_is_refused_leaves_no_file(exact_path, tmp_path):
    present = tmp_path / "present.safetensors"
    present.write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(cdna.ArgumentError, match="format is None, and the destination ends in no"):
        cdna.export(exact_path, tmp_path / "out")
    with pytest.raises(cdna.ArgumentError, match='format is "zip": not one of safetensors, gguf, npz, hxq'):
        cdna.export(exact_path, tmp_path / "out", format="zip")
    with pytest.raises(cdna.FilePresentError):
        cdna.export(exact_path, present)
    with pytest.raises(cdna.FileMissingError):
        cdna.export(tmp_path / "none.cdna", tmp_path / "out.safetensors")
    assert sorted(tmp_path.iterdir()) == before
    assert present.read_bytes() == b"mine"
    cdna.export(exact_path, present, force=True)
    assert present.read_bytes() != b"mine"


def test_what_says_how_files_of_cdna_are_made_is_refused_for_exports(exact_path, tmp_path):
    for option in ({"policy": "cb8"}, {"source_format": "gguf"}, {"sidecar": "a.hxzo"}, {"codec": "zstd"}):
        (name,) = option
        with pytest.raises(cdna.ArgumentError, match=f"{name} is for files of CDNA, not for exports"):
            cdna.convert(exact_path, tmp_path / "out.safetensors", **option)
    with pytest.raises(cdna.ArgumentError, match="dtype is for exports"):
        cdna.convert(exact_path, tmp_path / "out.cdna", dtype="float32")
    assert not (tmp_path / "out.safetensors").exists()


def test_progress_that_raises_ends_an_export_and_leaves_no_file(exact_path, tmp_path):
    def stop(done, total):
        raise RuntimeError(f"{done} of {total}")

    with pytest.raises(RuntimeError, match=" of "):
        cdna.export(exact_path, tmp_path / "out.safetensors", progress=stop)
    assert not (tmp_path / "out.safetensors").exists()


def test_npz_is_what_numpy_loads(exact_path, tmp_path):
    cdna.export(exact_path, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays, cdna.open(exact_path) as file:
        assert set(arrays) == set(file)
        for name in file:
            assert np.array_equal(arrays[name], file[name].numpy()), name


def test_gguf_takes_q8_0_and_an_architecture(tmp_path):
    weights = np.random.default_rng(7).normal(size=(256, 1024)).astype("float32")
    cdna.save(tmp_path / "a.cdna", {"w": weights})
    with pytest.raises(cdna.ArgumentError, match="architecture"):
        cdna.export(tmp_path / "a.cdna", tmp_path / "a.gguf")
    cdna.export(tmp_path / "a.cdna", tmp_path / "a.gguf", dtype="q8_0", architecture="llama")
    cdna.convert(tmp_path / "a.gguf", tmp_path / "b.cdna")
    with cdna.open(tmp_path / "b.cdna") as file:
        assert file.metadata["gguf:general.architecture"] == "llama"
        assert file["w"].bits_per_weight < 10
        # Q8_0: a step is 1/127 of the block's largest value, rounded to F16: up to 127 * 2^-11 of a step more.
        steps = np.abs(weights.reshape(-1, 32)).max(axis=1, keepdims=True) / 127
        assert (np.abs(file["w"].numpy() - weights).reshape(-1, 32) <= steps * 0.563).all()
    for option in ({"dtype": "q8_0"}, {"architecture": "llama"}):
        with pytest.raises(cdna.ArgumentError):
            cdna.export(tmp_path / "a.cdna", tmp_path / "out.npz", **option)
    assert not (tmp_path / "out.npz").exists()
