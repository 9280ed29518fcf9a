"""Values of tensors: dtypes, slices, outputs, and what NumPy and DLPack make of them."""
from __future__ import annotations

import builtins

import cdna_reference
import numpy as np
import pytest

import cdna

BFLOAT_BITS = np.array([0x3F80, 0xC000, 0x7F80, 0x0001, 0x3E80, 0x4049], np.uint16).reshape(2, 3)


def bfloat_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Bfloat:
    """An array of bf16 from a library with DLPack."""

    def __init__(self, bits) -> None:
        self.file = cdna.open(cdna.save(None, {"x": bits}))
        self.bits = bits

    def __dlpack__(self, **_):
        from cdna import _core

        return _core.to_dlpack(np.ascontiguousarray(self.bits), "BF16", list(self.bits.shape), False, 0)

    def __dlpack_device__(self):
        return (1, 0)


@pytest.fixture
def no_ml_dtypes(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **more):
        if name == "ml_dtypes":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)


def test_exact_tensors_come_back_bit_for_bit(exact_path, tensors):
    with cdna.open(exact_path) as f:
        for name, array in tensors.items():
            got, want = f[name].numpy(), np.asarray(array)
            assert got.dtype == want.dtype == f[name].numpy_dtype and got.shape == want.shape
            assert got.tobytes() == want.tobytes() and got.flags.writeable and got.flags.owndata
            assert f[name].nbytes == want.nbytes and f[name].size == want.size and f[name].ndim == want.ndim
            assert f[name].error.snr_db == np.inf and f[name].error.relative == 0


@pytest.mark.parametrize("preset", ["cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", "cb8,class=pwl16"])
def test_codes_decode_as_the_reference_does(tmp_path, weights, preset):
    path = tmp_path / "coded.cdna"
    cdna.save(path, {"w": weights, "h": weights.astype(np.float16)}, preset)
    reference = cdna_reference.File(path)
    with cdna.open(path) as f:
        for name in f:
            want = np.frombuffer(reference.read_item(f[name]._number), np.float32).reshape(weights.shape)
            np.testing.assert_array_equal(f[name].numpy("float32"), want)
        w, t = weights.astype(np.float64), f["w"]
        difference = w - t.numpy().astype(np.float64)
        assert t.error.sum_squares == pytest.approx((w**2).sum(), rel=1e-12)
        assert t.error.sum_squared_error == pytest.approx((difference**2).sum(), rel=1e-9)
        assert np.abs(difference).max() <= t.error.max_abs <= np.abs(difference).max() * (1 + 1e-6)
        assert t.error.snr_db == pytest.approx(10 * np.log10((w**2).sum() / (difference**2).sum()))
        assert t.error.relative == pytest.approx(np.sqrt((difference**2).sum() / (w**2).sum()))
        assert t.bits_per_weight == 8 * t.stored_nbytes / w.size < 32


KEYS = [
    0, -1, 199, np.int64(5), slice(None), slice(10, 20), slice(190, 500), slice(None, None, 7), slice(150, 20, -9),
    slice(None, None, -1), slice(5, 5), slice(20, 10), (3, 4), (slice(3, 50, 4), slice(None, 5)), (slice(7, 9), -1),
    (slice(None), [1, 5, 7]), ..., (..., 3), (slice(0, 4), ...), None, (slice(2, 4), None), [3, 1, 1], (-3, slice(5, 1, -2)),
    np.array([True, False] * 100), (),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("shape", [(200, 384), (200, 8, 48), (200, 2, 4, 48)], ids=len)
def test_slices_are_numpys(tmp_path, weights, key, shape):
    path = tmp_path / "w.cdna"
    cdna.save(path, {"exact": weights.reshape(shape), "coded": weights}, {"rules": [{"glob": "coded", "preset": "cb8"}]})
    with cdna.open(path) as f:
        for name in ("exact", "coded") if len(shape) == 2 else ("exact",):
            try:
                want = f[name].numpy()[key]
            except IndexError:
                with pytest.raises(IndexError):
                    f[name][key]
                continue
            got = f[name][key]
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_array_equal(got, want)


def test_slices_of_small_and_odd_tensors(exact_path, tensors):
    with cdna.open(exact_path) as f:
        for name in ("ints", "flags", "layer.bias", "empty", "conv", "complex"):
            for key in (slice(1, 4), slice(None, None, -2), ...):
                np.testing.assert_array_equal(f[name][key], tensors[name][key])
        assert f["scalar"][()] == 2.5 and float(f["scalar"].numpy()) == 2.5
        for key in (200, -201, (0, 0, 0), "a", 1.5):
            with pytest.raises(IndexError):
                f["layer.weight"][key]
        with pytest.raises(TypeError):
            iter(f["scalar"])
        assert len(f["ints"]) == 5


def test_steps_keep_no_other_rows(exact_path):
    with cdna.open(exact_path) as f:
        for key in (slice(None, None, -99), slice(3, None, 50), (slice(None, None, 60), 3)):
            got = f["layer.weight"][key]
            assert got.base is None or got.base.nbytes == got.nbytes
            np.testing.assert_array_equal(got, f["layer.weight"].numpy()[key])


def test_rows_in_turn(exact_path, coded_path, tensors, monkeypatch):
    for size in (1 << 20, 5000, 1):
        monkeypatch.setattr("cdna._tensor.ITERATED_BYTES", size)
        for path in (exact_path, coded_path):
            with cdna.open(path) as f:
                for name in ("layer.weight", "ints", "layer.bias", "empty", "conv"):
                    rows = list(f[name])
                    assert len(rows) == len(tensors[name])
                    for row, want in zip(rows, f[name].numpy()):
                        np.testing.assert_array_equal(row, want)


def test_torch_takes_tensors_of_files(coded_path):
    torch = pytest.importorskip("torch")
    with cdna.open(coded_path) as f:
        for name in ("conv", "layer.bias"):
            np.testing.assert_array_equal(torch.tensor(f[name]).numpy(), f[name].numpy())
            np.testing.assert_array_equal(torch.as_tensor(f[name]).numpy(), f[name].numpy())


def test_slices_read_what_they_need(tmp_path, rng):
    path = tmp_path / "large.cdna"
    cdna.save(path, {"w": rng.normal(size=(4096, 512)).astype(np.float32)})
    f = cdna.open(path, trust="strict")
    before = f.statistics["blocks_verified"]
    f["w"][100:110]
    few = f.statistics["blocks_verified"] - before
    f["w"].numpy()
    assert 0 < few <= 2 < f.statistics["blocks_verified"] - before - few


def test_dtypes_and_outputs(coded_path, weights):
    with cdna.open(coded_path) as f:
        t = f["layer.weight"]
        single = t.numpy()
        np.testing.assert_array_equal(t.numpy("float64"), single.astype(np.float64))
        np.testing.assert_array_equal(t.numpy(np.float16), single.astype(np.float16))
        np.testing.assert_array_equal(t.numpy("F16"), t.numpy(np.dtype("e")))
        for out in (np.empty_like(single), bytearray(single.nbytes), memoryview(bytearray(single.nbytes))):
            got = t.numpy(out=out, threads=2)
            np.testing.assert_array_equal(got, single)
            assert bytes(out) == single.tobytes() if not isinstance(out, np.ndarray) else np.shares_memory(got, out)
        for out in (np.empty(3), bytes(single.nbytes), np.empty_like(single).T, bytearray(5)):
            with pytest.raises(cdna.ArgumentError):
                t.numpy(out=out)
        with pytest.raises(cdna.ArgumentError, match="dtype"):
            t.numpy("float31")
        with pytest.raises(ValueError):
            f["ints"].numpy("float32")
        with pytest.raises(cdna.ArgumentError, match="threads"):
            t.numpy(threads=-1)


def test_outputs_of_other_dtypes_and_shapes_are_refused():
    t = cdna.open(cdna.save(None, {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}))["w"]
    bits = np.zeros((3, 4), np.uint32)
    np.testing.assert_array_equal(t.numpy(out=bits), t.numpy())
    np.testing.assert_array_equal(bits, t.numpy().view(np.uint32))
    for out in (np.zeros((3, 4), ">f4"), np.zeros((3, 4), "i4"), np.zeros((4, 3), "f4"), np.zeros(12, "f4"), np.zeros(48, "u1")):
        before = out.copy()
        with pytest.raises(cdna.ArgumentError, match="out is"):
            t.numpy(out=out)
        np.testing.assert_array_equal(out, before)


def test_asarray(exact_path, coded_path):
    with cdna.open(exact_path) as f, cdna.open(coded_path) as g:
        for t in (f["layer.weight"], g["layer.weight"]):
            np.testing.assert_array_equal(np.asarray(t), t.numpy())
            assert np.asarray(t).flags.owndata and np.asarray(t, dtype="float64").dtype == np.float64
            np.testing.assert_array_equal(np.asarray(t, dtype=np.int32), t.numpy().astype(np.int32))
            np.testing.assert_array_equal(np.array(t), t.numpy())
        assert not f["layer.weight"].__array__(copy=False).flags.owndata
        with pytest.raises(ValueError):
            g["layer.weight"].__array__(copy=False)
        with pytest.raises(ValueError):
            f["layer.weight"].__array__(np.float64, copy=False)
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            with pytest.raises(ValueError):
                np.asarray(g["layer.weight"], copy=False)


def test_bfloat_without_ml_dtypes_is_its_bits(no_ml_dtypes):
    t = cdna.open(cdna.save(None, {"b": Bfloat(BFLOAT_BITS)}))["b"]
    assert t.dtype == "BF16" and t.numpy_dtype == np.uint16
    np.testing.assert_array_equal(t.numpy(), BFLOAT_BITS)
    np.testing.assert_array_equal(t.view(), BFLOAT_BITS)
    np.testing.assert_array_equal(t.numpy("float32"), bfloat_values(BFLOAT_BITS))
    np.testing.assert_array_equal(np.negative(t), -bfloat_values(BFLOAT_BITS))
    np.testing.assert_array_equal(t[1:], BFLOAT_BITS[1:])


@pytest.mark.parametrize("kind", ["int32", "float64", "complex64", ">f4", "complex128"])
def test_values_are_converted_and_not_bits(no_ml_dtypes, kind):
    bits = np.array([[0x3F80, 0xC000], [0x42C8, 0xBF80]], np.uint16)  # 1, -2, 100, -1
    t = cdna.open(cdna.save(None, {"b": Bfloat(bits)}))["b"]
    got = np.asarray(t, dtype=kind)
    assert got.dtype == np.dtype(kind)
    np.testing.assert_array_equal(got, np.array([[1, -2], [100, -1]], kind))
    np.testing.assert_array_equal(np.asarray(t, dtype="uint16"), bits)


def test_bfloat_and_float8_with_ml_dtypes():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = bfloat_values(BFLOAT_BITS)
    arrays = {"b": values.astype(ml_dtypes.bfloat16)}
    for kind in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        arrays[kind] = np.arange(256, dtype=np.uint8).view(getattr(ml_dtypes, kind)).reshape(16, 16)
    f = cdna.open(cdna.save(None, arrays))
    for name, array in arrays.items():
        assert f[name].numpy().dtype == array.dtype and f[name].numpy().tobytes() == array.tobytes()
        np.testing.assert_array_equal(f[name].numpy("float32"), array.astype(np.float32))
        assert f[name].view().dtype == array.dtype and f[name][3:5].tobytes() == array[3:5].tobytes()
    assert f["float8_e5m2"].dtype == "F8_E5M2"


def test_dlpack_out(exact_path, coded_path):
    with cdna.open(exact_path) as f, cdna.open(coded_path) as g:
        for t in (f["layer.weight"], g["layer.weight"], f["ints"], f["conv"], f["layer.half"], f["complex"], f["empty"]):
            np.testing.assert_array_equal(np.from_dlpack(t), t.numpy())
        assert f["conv"].__dlpack_device__() == (1, 0)
        with pytest.raises(BufferError):
            f["conv"].__dlpack__(dl_device=(2, 0))
        with pytest.raises(BufferError):
            g["layer.weight"].__dlpack__(copy=False, max_version=(1, 0))
        del t
        before = f._core.views
        capsule = f["conv"].__dlpack__(copy=False, max_version=(1, 0))
        assert "dltensor_versioned" in repr(capsule) and f._core.views == before + 1
        del capsule
        assert f._core.views == before


def test_statistics_of_codes(coded_path, weights):
    with cdna.open(coded_path) as f:
        t = f["layer.weight"]
        centred = weights.astype(np.float64).ravel() - weights.astype(np.float64).mean()
        kurtosis = (centred**4).mean() / (centred**2).mean() ** 2 - 3
        assert t.statistics["outlier_count"] == len(t.outliers.values)
        assert t.statistics["excess_kurtosis"] == pytest.approx(kurtosis, rel=1e-6)
        counts = np.bincount(t.codes.ravel(), minlength=256) / t.size
        entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum()
        assert t.statistics["code_entropy_bits"] == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize("name", ["f4", "f8", "i8", "u8", "f2", "u1", "float16", ">f4"])
def test_dtypes_are_called_as_numpy_calls_them(name):
    array = np.arange(6).astype(name)
    t = cdna.open(cdna.save(None, {"a": array}))["a"]
    assert t.numpy(name).dtype == np.dtype(name).newbyteorder("=")
    np.testing.assert_array_equal(t.numpy(name), array)


def test_capitals_are_the_formats_names():
    t = cdna.open(cdna.save(None, {"a": np.ones(3, np.int8), "w": np.ones(3, np.float32)}))
    assert t["a"].numpy("I8").dtype == np.int8 and t["w"].numpy("F16").dtype == np.float16
    with pytest.raises(cdna.ArgumentError):
        t["w"].numpy("F4")
