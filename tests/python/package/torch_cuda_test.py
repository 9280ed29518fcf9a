"""The layer of cdna.torch that calls libcdna_cuda, on the library with an emulated device: there memory of the device is
memory of the host, so tensors on the CPU stand for tensors on it. CDNA_TEST_CUDA_LIBRARY names it
(BUILD/tests/cuda/libcdna_cuda_emulated.so); without it nothing here runs."""
import contextlib
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
LIBRARY = os.environ.get("CDNA_TEST_CUDA_LIBRARY")
pytestmark = pytest.mark.skipif(not LIBRARY, reason="CDNA_TEST_CUDA_LIBRARY does not name the library with the emulated device")

import cdna  # noqa: E402
import cdna.torch  # noqa: E402
from cdna.torch import cuda_library, native, operators  # noqa: E402
from cdna.torch.packed import PackedMatrix  # noqa: E402
from torch import nn  # noqa: E402

# Half a step of rounding of f16, bf16 and f32, which products on devices round x, w and y to.
KINDS = {torch.float16: ("F16", 2.0**-11), torch.bfloat16: ("BF16", 2.0**-8), torch.float32: ("F32", 2.0**-24)}


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setenv("CDNA_CUDA_LIBRARY", LIBRARY or "")
    torch.manual_seed(13)
    print("seed 13")


def packed_layer(in_features=256, out_features=96, preset="cb8"):
    linear = nn.Linear(in_features, out_features)
    with torch.no_grad():
        linear.weight[3, 5] = 2
    layer = cdna.torch.CdnaLinear.from_linear(linear, preset)
    return layer, PackedMatrix(layer.planes, in_features)


def wait(packed):
    """Gives the matrix on the device back, which waits for all that was launched: the emulated one runs it then."""
    packed._devices.pop(0)._free()


class Workspace:
    """Aligned memory whose beginning is 0."""

    def __init__(self):
        self.held = []

    def tensor(self, size):
        memory = torch.zeros(size + 256, dtype=torch.uint8)
        self.held.append(memory)
        return memory[-memory.data_ptr() % 256 :][:size]

    def __call__(self, size):
        return self.tensor(size).data_ptr()


@pytest.mark.parametrize("preset", ["cb8", "cb6g64", "cb4g32"])
@pytest.mark.parametrize("dtype", list(KINDS))
@pytest.mark.parametrize("bias", [True, False])
def test_products_on_the_device_are_those_of_the_decoded_weight(preset, dtype, bias):
    layer, packed = packed_layer(preset=preset)
    kind, unit = KINDS[dtype]
    matrix = packed.on_device(0, 0)
    assert packed.on_device(0, 0) is matrix  # Uploaded once.
    weight = layer.dequantize(torch.float32).double()
    added = torch.randn(96).to(dtype) if bias else None
    for m in (1, 3, 17):
        x, y = torch.randn(m, 256).to(dtype), torch.full((m, 96), 7.0).to(dtype)
        matrix.linear(x.data_ptr(), y.data_ptr(), m, (256, 96), kind, added.data_ptr() if bias else None, 0, Workspace())
        wait(packed)
        matrix = packed.on_device(0, 0)
        exact = x.double() @ weight.t() + (added.double() if bias else 0)
        sums = x.double().abs() @ weight.abs().t()
        # w is rounded to the type of x, sums are made in f32, y is rounded.
        bound = (unit + (256 + 16) * 2.0**-23) * sums * 2 + 2 * unit * (exact.abs() + sums * unit) + 2.0**-24
        assert bool(((y.double() - exact).abs() <= bound).all())


@pytest.mark.parametrize("preset", ["cb8", "cb6g64", "cb4g32"])
def test_the_device_decodes_bit_for_bit(preset):
    layer, packed = packed_layer(preset=preset)
    out = torch.zeros(96, 256)
    packed.on_device(0, 0).dequantize((0, 96), out.data_ptr(), "F32", 256, 0)
    wait(packed)
    assert torch.equal(out, layer.dequantize())
    part = torch.zeros(5, 300)
    packed.on_device(0, 0).dequantize((7, 12), part.data_ptr(), "F32", 300, 0)
    wait(packed)
    assert torch.equal(part[:, :256], layer.dequantize()[7:12]) and not part[:, 256:].any()


def test_the_operator_calls_it_with_the_current_stream(monkeypatch):
    """What the operator does for tensors on CUDA, with torch.cuda replaced: this torch has no device."""
    layer, _ = packed_layer()
    kept = Workspace()
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": 0}))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(operators, "_workspace", lambda device, stream, size: kept.tensor(size))
    x = torch.randn(3, 256)
    y = operators._on_cuda(x, layer.planes, layer.bias.detach())
    wait(layer.packed)
    torch.testing.assert_close(y, layer(x), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        layer.codebook.mul_(1 + 2.0**-13)  # No binary16 numbers: the library has no form of that.
    assert operators._on_cuda(x, layer.planes, None) is None


def test_captured_products_have_workspaces_of_their_own(monkeypatch):
    """A graph that ran with a workspace of others would write to it when it is theirs, or given back."""
    cpu = torch.device("cpu")
    monkeypatch.setattr(operators, "_WORKSPACES", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    kept = operators._workspace(cpu, 0, 8192)
    assert not kept.any() and operators._workspace(cpu, 0, 5000) is kept and operators._workspace(cpu, 1, 5000) is not kept
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    captured = [operators._workspace(cpu, 0, size) for size in (5000, 8192, 16384, 100)]
    assert [workspace.numel() for workspace in captured] == [5000, 8192, 16384, 100]
    assert len({workspace.data_ptr() for workspace in [kept, *captured]}) == 5
    assert not any(workspace[:4096].any() for workspace in captured)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert operators._workspace(cpu, 0, 8192) is kept
    larger = operators._workspace(cpu, 0, 16384)
    assert larger.numel() == 16384 and not larger.any()


def test_a_workspace_is_nobody_elses_from_its_address_to_the_launch(monkeypatch):
    layer, packed = packed_layer()
    launched = []

    def linear(x, y, m, strides, kind, bias, stream, workspace):
        launched.append(workspace(4096))
        assert operators._WORKSPACE_LOCK.locked()

    monkeypatch.setattr(operators, "with_half_codebook", lambda *_: packed)
    monkeypatch.setattr(packed, "on_device", lambda *_: type("Matrix", (), {"linear": staticmethod(linear)}))
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": 0}))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(operators, "_WORKSPACES", {})
    operators._on_cuda(torch.randn(3, 256), layer.planes, None)
    assert launched == [operators._WORKSPACES[torch.device("cpu"), 0].data_ptr()]
    assert not operators._WORKSPACE_LOCK.locked()


def test_a_codebook_that_the_device_has_no_form_of_is_not_packed(monkeypatch):
    layer, _ = packed_layer()
    with torch.no_grad():
        layer.codebook.mul_(1 + 2.0**-13)
    monkeypatch.setattr(PackedMatrix, "__init__", lambda *arguments: pytest.fail("packed"))
    assert operators._on_cuda(torch.randn(3, 256), layer.planes, None) is None


def test_what_cannot_be_had_has_a_reason(monkeypatch):
    assert cuda_library.unavailable(0) is None
    assert "7" in cuda_library.unavailable(7)
    _, packed = packed_layer()
    with pytest.raises(cdna.torch.CudaUnavailable, match="7"):
        packed.on_device(7, 0)
    with pytest.raises(cdna.torch.CudaError, match="not_cdna|truncated"):
        cuda_library.DeviceMatrix(b"no file", "weight", 0, 0)
    with pytest.raises(cdna.torch.CudaError, match="not_found"):
        cuda_library.DeviceMatrix(native.file_bytes(packed.tensor), "other", 0, 0)
    matrix = packed.on_device(0, 0)
    with pytest.raises(cdna.torch.CudaError, match="bad_argument"):
        matrix.dequantize((0, 97), np.zeros(1).ctypes.data, "F32", 256, 0)
    monkeypatch.setenv("CDNA_CUDA_LIBRARY", np.__file__)
    with pytest.raises(cdna.torch.CudaUnavailable, match="libcdna_cuda"):
        cuda_library.library()


def test_descriptors_and_models_are_given_back():
    _, packed = packed_layer()
    for _ in range(3):
        before = len(os.listdir("/proc/self/fd"))
        matrix = cuda_library.DeviceMatrix(native.file_bytes(packed.tensor), "weight", 0, 0)
        assert len(os.listdir("/proc/self/fd")) == before
        free = matrix._free
        assert free.alive
        del matrix
        assert not free.alive
