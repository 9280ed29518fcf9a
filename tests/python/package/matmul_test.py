"""Products against NumPy's, within the bounds that the library states."""
from __future__ import annotations

import sys

import numpy as np
import pytest

import cdna


@pytest.fixture(params=["exact", "cb8", "cb4g32"])
def file(request, tmp_path, weights):
    path = tmp_path / "w.cdna"
    cdna.save(path, {"w": weights}, request.param)
    with cdna.open(path) as f:
        yield f


@pytest.fixture
def no_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)


def bound(x, w):
    """cdna/matmul.hpp: |y - exact| <= (k + 16) u sum |x||w|; at outliers |w| counts twice, and a little more."""
    return (x.shape[-1] + 16) * 2.0**-24 * 4 * (np.abs(x).astype(float) @ np.abs(w).astype(float).T)


@pytest.mark.parametrize("shape", [(384,), (1, 384), (3, 384), (7, 384), (2, 5, 384), (0, 384)], ids=str)
def test_products_are_numpys(file, rng, shape):
    t, w = file["w"], file["w"].numpy()
    x = rng.normal(size=shape).astype(np.float32)
    exact = x.astype(float) @ w.T.astype(float)
    for y in (t.matmul(x), x @ t.T, t.matmul(x, threads=1), t.matmul(x.tolist()) if x.size else t.matmul(x)):
        assert isinstance(y, np.ndarray) and y.dtype == np.float32 and y.shape == exact.shape
        assert (np.abs(y - exact) <= bound(x, w)).all()
    np.testing.assert_array_equal(t.matmul(x, threads=1), t.matmul(x, threads=2))


def test_the_other_sides(file, rng):
    t, w = file["w"], file["w"].numpy().astype(float)
    x, z = rng.normal(size=(5, 200)).astype(np.float32), rng.normal(size=(5, 384)).astype(np.float32)
    assert t.T.shape == (384, 200) and t.T.T is t
    np.testing.assert_allclose(x @ t, x @ w, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(x[0] @ t, x[0] @ w, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(t @ z.T, w @ z.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(t @ z[0], w @ z[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(t.T @ x.T, w.T @ x.T, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(t.T @ x[1], w.T @ x[1], rtol=1e-3, atol=1e-3)


def test_strides_outputs_and_dtypes(file, rng):
    t = file["w"]
    wide = rng.normal(size=(8, 800)).astype(np.float32)
    x = wide[::2, 784:16:-2]
    assert x.shape == (4, 384)
    want = t.matmul(np.ascontiguousarray(x))
    np.testing.assert_array_equal(t.matmul(x), want)
    out = np.zeros((4, 200), np.float32)
    assert t.matmul(x, out) is out
    np.testing.assert_array_equal(out, want)
    spread = np.zeros((4, 400), np.float32)
    t.matmul(x, spread[:, ::2])
    np.testing.assert_array_equal(spread[:, ::2], want)
    assert not spread[:, 1::2].any()
    half = t.matmul(x.astype(np.float16))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, want, rtol=2e-2, atol=5e-1)
    full = t.matmul(x.astype(np.float16), np.empty((4, 200), np.float32))
    np.testing.assert_array_equal(full, t.matmul(x.astype(np.float16).astype(np.float32)))
    for kind in (np.float64, np.int32, ">f4"):
        assert t.matmul(np.ones(384, kind)).dtype == np.float32
    record = np.zeros(4, [("pad", "u1"), ("x", "f4", 384)])  # Strides that are no whole elements.
    np.testing.assert_array_equal(t.matmul(record["x"]), np.zeros((4, 200)))


@pytest.mark.parametrize("math", ["bf16", "int8"])
def test_cheaper_products(file, rng, math):
    t = file["w"]
    x = rng.normal(size=(3, 384)).astype(np.float32)
    if math == "int8" and t.encoding == "cdna.exact":
        with pytest.raises(NotImplementedError):
            t.matmul(x, math=math)
        return
    exact = x.astype(float) @ t.numpy().T.astype(float)
    error = np.linalg.norm(t.matmul(x, math=math) - exact) / np.linalg.norm(exact)
    assert 0 < error < 0.02


def test_bfloat_of_ml_dtypes(file, rng):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = rng.normal(size=(3, 384)).astype(ml_dtypes.bfloat16)
    y = file["w"].matmul(x)
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(y, file["w"].matmul(x.astype(np.float32)).astype(ml_dtypes.bfloat16))


def test_what_cannot_be_multiplied(file, exact_path):
    t = file["w"]
    for x in (np.zeros(383, "f4"), np.zeros((384, 3), "f4"), np.float32(3), np.zeros(384, bool), np.zeros(384, "c8")):
        with pytest.raises(ValueError):
            t.matmul(x)
    for out in (np.zeros((2, 200), "f4"), np.zeros((1, 200), "f8"), np.zeros((1, 200), "i4")):
        with pytest.raises(ValueError):
            t.matmul(np.zeros((1, 384), "f4"), out)
    frozen = np.zeros((1, 200), "f4")
    frozen.flags.writeable = False
    with pytest.raises(ValueError):
        t.matmul(np.zeros((1, 384), "f4"), frozen)
    with pytest.raises(ValueError, match="math"):
        t.matmul(np.zeros(384, "f4"), math="f31")
    with cdna.open(exact_path) as f:
        with pytest.raises(ValueError, match="rank 4"):
            np.zeros(3, "f4") @ f["conv"]
        assert f["conv"].matmul(np.ones(36, "f4")).shape == (8,)
        with pytest.raises(NotImplementedError):
            f["ints"].matmul(np.zeros(f["ints"].cols, "f4"))


def test_an_output_is_written_or_refused(file):
    t, x = file["w"], np.ones((2, 384), np.float32)
    for out in (np.zeros((2, 200), ">f4"), [[0.0] * 200] * 2, t, memoryview(np.zeros((2, 200), ">f4")), 3):
        with pytest.raises(cdna.ArgumentError, match="out"):
            t.matmul(x, out)
    memory = memoryview(bytearray(2 * 200 * 4)).cast("f", (2, 200))
    assert t.matmul(x, memory) is memory
    np.testing.assert_array_equal(np.asarray(memory), t.matmul(x))


def test_torch_in_torch_out(file, rng):
    torch = pytest.importorskip("torch")
    t = file["w"]
    x = torch.from_numpy(rng.normal(size=(2, 3, 384)).astype(np.float32))
    want = t.matmul(x.numpy())
    for y in (t.matmul(x), x @ t.T, t.matmul(x.requires_grad_())):
        assert isinstance(y, torch.Tensor) and y.dtype == torch.float32 and not y.requires_grad
        np.testing.assert_array_equal(y.numpy(), want)
    half = t.matmul(x.detach().to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    out = torch.empty(2, 3, 200)
    assert t.matmul(x.detach(), out) is out
    np.testing.assert_array_equal(out.numpy(), want)
    saved = cdna.open(cdna.save(None, {"x": x.detach(), "b": half, "flag": torch.tensor([True, False])}))
    np.testing.assert_array_equal(saved["x"].numpy(), x.detach().numpy())
    assert saved["b"].dtype == "BF16" and saved["flag"].numpy().tolist() == [True, False]
    np.testing.assert_array_equal(saved["b"].numpy("float32"), half.float().numpy())
    np.testing.assert_array_equal(torch.from_dlpack(saved["x"]).numpy(), x.detach().numpy())


def test_lazy_signs_of_torch(file):
    torch = pytest.importorskip("torch")
    negated = torch.complex(torch.zeros(384), torch.arange(384.0)).conj().imag
    assert negated.is_neg()
    want = -np.arange(384, dtype=np.float32)
    np.testing.assert_array_equal(cdna.open(cdna.save(None, {"x": negated}))["x"].numpy(), want)
    np.testing.assert_array_equal(file["w"].matmul(negated).numpy(), file["w"].matmul(want))
    with pytest.raises(cdna.ArgumentError, match="out"):
        file["w"].matmul(want, torch.complex(torch.zeros(200), torch.zeros(200)).conj().imag)


def test_tensors_by_tensors_and_arrays_of_transposes(file, no_ml_dtypes):
    t, w = file["w"], file["w"].numpy()
    half = cdna.open(cdna.save(None, {"v": w[:, :200].astype(np.float16)}))["v"]
    for got, want in ((t.T @ half, w.T @ half.numpy("f4")), (half @ t, half.numpy("f4") @ w), (t @ t.T, w @ w.T)):
        np.testing.assert_allclose(got, want, rtol=2e-2, atol=2)
    np.testing.assert_array_equal(np.asarray(t.T), w.T)
    np.testing.assert_array_equal(np.array(t.T, dtype="f8"), w.T.astype("f8"))


def test_numpys_functions_decode(file):
    t, w = file["w"], file["w"].numpy()
    x = np.ones((200, 384), np.float32)
    pairs = [
        (np.sum(t), w.sum()), (np.exp(t), np.exp(w)), (np.abs(t.T), np.abs(w.T)), (x + t, x + w), (t < x, w < x),
        (np.maximum(t, 0), np.maximum(w, 0)), (np.add.reduce(t, axis=1), w.sum(1)), (np.multiply(t, t), w * w),
    ]  # fmt: skip
    for got, want in pairs:
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.matmul(x, t.T), t.matmul(x))
    out = np.zeros((200, 200), np.float32)
    np.testing.assert_array_equal(np.matmul(x, t.T, out=out), x @ w.T)
    with pytest.raises(TypeError):
        np.add(x, 1, out=t)
