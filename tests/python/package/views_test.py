"""Planes as arrays: what they hold, where they lie, and what they keep alive."""
from __future__ import annotations

import gc

import numpy as np
import pytest
from conftest import VECTORS

import cdna


def unpacked(codes, bits, cols):
    """Codes of `bits` bits, least significant first, rows in whole bytes."""
    flat = np.unpackbits(codes, axis=1, bitorder="little")[:, : cols * bits].reshape(codes.shape[0], cols, bits)
    return (flat.astype(np.int64) << np.arange(bits)).sum(axis=2)


def composed(t):
    """The values that the planes mean, in the order of the format: codebook * (group scale * row scale), then outliers."""
    rows, cols = t.shape
    values = t.codebook[unpacked(t.codes, t.bits, cols)].astype(np.float32)
    if t.group:
        values = values * np.repeat(t.scales, t.group, axis=1)[:, :cols]
    else:
        values = values * t.scales
    values = values.reshape(-1)
    values[t.outliers.positions.astype(np.int64)] = t.outliers.values.astype(np.float32)
    return values.reshape(t.shape)


@pytest.mark.parametrize("preset", ["cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", "cb4g32,outliers=0.001"])
@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize("trust", ["zero_copy", "strict"])
def test_planes_make_the_values(tmp_path, weights, preset, codec, trust):
    path = tmp_path / "w.cdna"
    cdna.save(path, {"w": weights}, preset, codec=codec)
    with cdna.open(path, trust=trust) as f:
        t = f["w"]
        np.testing.assert_allclose(composed(t), t.numpy(), rtol=3e-7)
        assert t.codebook.shape == (2**t.bits,) and (np.diff(t.codebook) >= 0).all()
        for plane in (t.codes, t.row_scales, t.group_scales, t.scale_table, t.codebook):
            assert plane is None or not plane.flags.writeable
        assert t.row_scales.shape == (200,)
        if trust == "strict":
            assert t.row_scales.flags.owndata and t.codes.flags.owndata
        elif codec == "raw":
            assert not t.row_scales.flags.owndata and t.row_scales.ctypes.data % 64 == 0
            assert not t.codes.flags.owndata and np.shares_memory(t.codes, t.codes)
        assert (t.group_scales is None) == (t.scale_table is None) == (t.group == 0)
        del plane


def before_division(t):
    """The same of a tensor with all that the format has, in float64: what is then divided by the column scales."""
    rows, cols = t.shape
    codes = unpacked(t.codes, t.bits, cols // t.vector)
    values = t.codebook.reshape(-1, t.vector)[codes].reshape(rows, cols).astype(np.float64)
    for factors, combine in ((t.scales, np.multiply), (t.group_offsets, np.add)):
        if factors is not None:
            values = combine(values, np.repeat(factors, t.group or cols, axis=1)[:, :cols])
    outliers = t.outliers.values
    if outliers.dtype == np.uint16:  # The bits of bfloat16, where NumPy has no such type.
        outliers = (outliers.astype(np.uint32) << 16).view(np.float32)
    values.reshape(-1)[t.outliers.positions.astype(np.int64)] = outliers.astype(np.float64)
    if t.low_rank is not None:
        left, factors, right = t.low_rank
        assert left.shape == (rows, factors.size) and right.shape == (factors.size, cols)
        values += (left * factors).astype(np.float64) @ right
    return values


@pytest.mark.parametrize(
    "name, count",
    [("vectors", 7), ("vectors_f32", 1), ("group_16", 4), ("group_offset", 4), ("low_rank", 3), ("column_scale", 1)]
    + [("extensions", 5)],
)
def test_planes_of_imported_tensors_make_the_values(name, count):
    with cdna.open(VECTORS / "good" / f"codebook_{name}.cdna") as f:
        assert len(f) == count
        for t in f.values():
            divisor = np.ones(t.cols) if t.column_scales is None else t.column_scales.astype(np.float64)
            np.testing.assert_allclose(t.numpy("float32") * divisor, before_division(t), rtol=1e-5, atol=1e-5)
            assert t.codebook.shape == ((2**t.bits,) if t.vector == 1 else (2**t.bits, t.vector))
            assert name != "extensions" or (t.vector, t.group) == (2 if t.name == "two" else 4, 16)


def test_planes_of_exact_tensors(exact_path):
    with cdna.open(exact_path) as f:
        t = f["layer.weight"]
        assert t.bits is None and t.group == 0
        for plane in (t.codebook, t.codes, t.row_scales, t.group_scales, t.scale_table, t.scales, t.outliers):
            assert plane is None


def test_views_lie_in_the_file(exact_path, weights):
    with cdna.open(exact_path) as f:
        view = f["layer.weight"].view()
        np.testing.assert_array_equal(view, weights)
        assert not view.flags.owndata and not view.flags.writeable
        whole = np.frombuffer(f.buffer, np.uint8)
        assert np.shares_memory(view, whole)
        with pytest.raises(ValueError):
            view[0, 0] = 1
        with pytest.raises(ValueError):
            view.flags.writeable = True
        del view, whole


def test_what_has_no_view(exact_path, coded_path):
    for t in (
        cdna.open(coded_path)["layer.weight"],
        cdna.open(exact_path, trust="strict")["layer.weight"],
        cdna.open(exact_path, io="pread")["layer.weight"],
    ):
        with pytest.raises(NotImplementedError, match="layer.weight"):
            t.view()
    assert cdna.open(exact_path, trust="strict")["empty"].view().shape == (0, 4)
    with pytest.raises(cdna.UnsupportedError):
        cdna.open(exact_path, io="pread").buffer


def test_views_keep_the_file_and_close_refuses(exact_path, coded_path, weights):
    f = cdna.open(exact_path)
    view = f["layer.weight"].view()
    part = view[10:20]
    del view
    with pytest.raises(BufferError, match="1 array"):
        f.close()
    assert not f.closed
    del f
    gc.collect()
    np.testing.assert_array_equal(part, weights[10:20])  # The file lives.
    g = cdna.open(coded_path)
    arrays = [g["layer.weight"].codes, g["layer.weight"].row_scales, memoryview(g.buffer)]
    while arrays:
        with pytest.raises(BufferError):
            g.close()
        arrays.pop()
    g.close()
    assert g.closed


def test_damage_is_found_at_the_first_touch_of_a_view(exact_path):
    data = bytearray(exact_path.read_bytes())
    with cdna.open(exact_path) as f:
        place = f._core.planes(f["layer.weight"]._number)[0]["offset"]
    data[place + 5] ^= 0x10
    f = cdna.open(bytes(data))
    for touch in (lambda t: t.view(), lambda t: t.numpy(), lambda t: t[0], lambda t: t.verify()):
        with pytest.raises(cdna.CorruptError) as caught:
            touch(f["layer.weight"])
        assert (caught.value.tensor, caught.value.block, caught.value.offset) == ("layer.weight", 0, place)
    f["conv"].verify()


def test_packed_files(weights):
    for preset in ("cb8", "cb4g32"):
        e = cdna.encode(weights, preset)
        f = cdna.pack(
            "F32", weights.shape, e.bits, e.group, e.codebook, e.codes, e.row_scales, e.group_scales, e.scale_table,
            e.outlier_values, e.outlier_positions, name="packed",
        )  # fmt: skip
        t = f["packed"]
        np.testing.assert_array_equal(t.numpy(), e.decode())
        np.testing.assert_array_equal(t.codes, e.codes)
        whole = np.frombuffer(f.buffer, np.uint8)
        assert np.shares_memory(t.codes, whole) and np.shares_memory(t.row_scales, whole)
        assert not np.shares_memory(t.codes, e.codes)
        assert cdna.open(bytes(f.buffer)).root == f.root and f.verify(level="deep").valid
    with pytest.raises(cdna.ArgumentError):
        cdna.pack("F32", weights.shape, e.bits, e.group, e.codebook[::-1], e.codes, e.row_scales, e.group_scales, e.scale_table)
    with pytest.raises(cdna.ArgumentError):
        cdna.pack("F32", (3, 3), e.bits, e.group, e.codebook, e.codes, e.row_scales, e.group_scales, e.scale_table)
    with pytest.raises(cdna.ArgumentError):
        cdna.pack("U8", weights.shape, 8, 0, e.codebook, e.codes)


def test_encoded_planes_live_without_the_object(weights):
    e = cdna.encode(weights, "cb6g64", threads=2)
    codes, want = e.codes, e.codes.copy()
    values = e.decode()
    assert e.snr_db == pytest.approx(
        10 * np.log10((weights.astype(float) ** 2).sum() / ((weights - values).astype(float) ** 2).sum()), abs=1e-3
    )
    assert e.bits_per_weight == 8 * e.nbytes / weights.size and e.shape == weights.shape
    assert np.abs(weights - values).max() <= e.max_abs_error * (1 + 1e-6)
    del e
    gc.collect()
    np.testing.assert_array_equal(codes, want)
    bad = weights.copy()
    bad[3, 5] = np.nan
    with pytest.raises(cdna.ArgumentError):
        cdna.encode(bad)
    assert np.isnan(cdna.encode(bad, nonfinite="exact").decode()[3, 5])
    for wrong in (lambda: cdna.encode(weights, "cb9"), lambda: cdna.encode(weights, "exact"), lambda: cdna.encode([1, 2])):
        with pytest.raises(ValueError):
            wrong()


def test_planes_are_not_bent(weights):
    e = cdna.encode(weights, "cb8")
    codes = e.codes.astype(int)
    same = cdna.pack("F32", weights.shape, 8, 0, e.codebook.astype(float), codes, e.row_scales, outlier_values=e.outlier_values,
                     outlier_positions=e.outlier_positions.astype(int))  # fmt: skip
    np.testing.assert_array_equal(same["weight"].numpy(), e.decode())
    for bad in (codes + 256, codes - 256, codes + 0.7, codes.astype(float)):
        with pytest.raises(cdna.ArgumentError, match="codes"):
            cdna.pack("F32", weights.shape, 8, 0, e.codebook, bad, e.row_scales)
    with pytest.raises(cdna.ArgumentError, match="codebook"):
        cdna.pack("F32", weights.shape, 8, 0, e.codebook.astype("c8"), codes, e.row_scales)
    for dtype, kind in (("F32", np.float16), ("BF16", np.float16), ("F16", np.uint16)):
        values = np.ones(1, kind)
        with pytest.raises(cdna.ArgumentError, match="outlier_values"):
            cdna.pack(dtype, weights.shape, 8, 0, e.codebook, codes, e.row_scales, outlier_values=values, outlier_positions=[3])
    with pytest.raises(cdna.ArgumentError, match="outlier_positions"):
        cdna.pack("F32", weights.shape, 8, 0, e.codebook, codes, e.row_scales, outlier_values=np.ones(1, "f4"),
                  outlier_positions=[-3])  # fmt: skip
