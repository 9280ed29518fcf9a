"""cdna.torch.CdnaLinear: values, gradients, and what it is as a module, against dense layers in f64."""
import copy
import io
import pickle
import threading
import weakref
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import builder  # noqa: E402
import cdna  # noqa: E402
import cdna.torch  # noqa: E402
import describe  # noqa: E402
import torch.utils.checkpoint  # noqa: E402
from cdna.torch import chunked, native, operators, packed  # noqa: E402
from cdna.torch.planes import decode_rows, unpack_codes  # noqa: E402
from torch import nn  # noqa: E402

CdnaLinear = cdna.torch.CdnaLinear
PRESETS = ["cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32", "cb8,k=15,outliers=0.01", "cb6g64,k=33,group=128"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = [(64, 32), (70, 33), (1, 1), (1000, 3), (3, 1000), (257, 129)]  # in, out
UNIT = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8, torch.float32: 2.0**-24}  # Half a step of rounding.


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(7)
    print("seed 7")


def layer_of(in_features, out_features, preset="cb8", dtype=torch.float32, bias=True, **options):
    dense = nn.Linear(in_features, out_features, bias).to(dtype)
    with torch.no_grad():
        dense.weight[0, 0] = 3  # An outlier, where there are any.
    return dense, CdnaLinear.from_linear(dense, preset, **options)


def decoded(layer):
    """The weight as the library's decoder gives it, not as torch does."""
    tensor = packed.packed_of(layer.planes, layer.in_features).tensor
    return torch.from_numpy(tensor.numpy("float32"))


def magnitudes(layer):
    """|w|, at outliers |decoded| + |value - decoded|: what the error bound of products counts (cdna/matmul.hpp)."""
    plain = decode_rows(layer.planes._replace(outlier_values=None, outlier_positions=None), layer.in_features, 0, layer.out_features)
    return (plain.abs() + (decoded(layer) - plain).abs()).double()


def assert_product(y, x, layer, weight, bias, sizes):
    """y = x W^T + bias within the bound of math f32, and one rounding of y and of the sum with the bias."""
    exact = nn.functional.linear(x.double(), weight.double())
    bound = (x.shape[-1] + 16) * 2.0**-24 * nn.functional.linear(x.double().abs(), sizes)
    if bias is not None:
        exact = exact + bias.double()
        bound = bound + 2.0**-23 * (exact.abs() + bound)
    bound = bound + UNIT[y.dtype] * (exact.abs() + bound) + (2.0**-24 if y.dtype == torch.float16 else 0)
    assert bool(((y.double() - exact).abs() <= bound).all())


# ---- Values ----


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_dequantize_is_the_decoder_bit_for_bit(preset, dtype):
    dense, layer = layer_of(257, 129, preset, dtype)
    weight = dense.weight.detach()
    encoded = cdna.encode(weight, preset)
    assert np.array_equal(layer.dequantize(torch.float32).numpy().view(np.uint32), encoded.decode().view(np.uint32))
    out = layer.dequantize()
    assert out.dtype == dtype
    if encoded.outlier_positions.size:  # Exactly the source's.
        at = torch.from_numpy(encoded.outlier_positions.astype(np.int64))
        assert torch.equal(out.view(-1)[at], weight.reshape(-1)[at])


@pytest.mark.parametrize("bits", range(1, 17))
def test_codes_of_any_width_unpack(bits):
    generator = np.random.default_rng(bits)
    codes = generator.integers(0, 1 << bits, (5, 37))
    spread = ((codes[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8).reshape(5, -1)
    stored = torch.from_numpy(np.packbits(spread, axis=1, bitorder="little"))
    assert torch.equal(unpack_codes(stored, bits, 37), torch.from_numpy(codes))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
def test_products_are_those_of_the_decoded_weight(preset, dtype, bias):
    dense, layer = layer_of(257, 129, preset, dtype, bias)
    weight, sizes = decoded(layer), magnitudes(layer)
    for leading in [(), (1,), (3,), (2, 5), (2, 1, 3), (67,)]:
        x = torch.randn(*leading, 257).to(dtype)
        y = layer(x)
        assert y.dtype == dtype and y.shape == (*leading, 129)
        assert_product(y, x, layer, weight, dense.bias, sizes)


@pytest.mark.parametrize("shape", SHAPES)
def test_products_of_all_shapes(shape):
    dense, layer = layer_of(*shape)
    x = torch.randn(4, shape[0])
    assert_product(layer(x), x, layer, decoded(layer), dense.bias, magnitudes(layer))


def test_x_may_have_any_strides_and_no_rows():
    dense, layer = layer_of(70, 33)
    base = torch.randn(140, 9)
    weight, sizes = decoded(layer), magnitudes(layer)
    for x in [base[::2].t(), base[:70].t().flip(0), torch.randn(70).expand(5, 70), torch.randn(4, 3, 70).transpose(0, 1)]:
        assert_product(layer(x), x, layer, weight, dense.bias, sizes)
        assert torch.equal(layer(x), layer(x.contiguous()))
    for empty in [(0,), (0, 3), (2, 0)]:
        x = torch.zeros(*empty, 70, requires_grad=True)
        y = layer(x)
        assert y.shape == (*empty, 33)
        y.sum().backward()
        assert x.grad.shape == x.shape


def test_faster_arithmetic_is_within_its_bounds():
    _, layer = layer_of(256, 64, "cb8", bias=False, math="bf16")
    x = torch.randn(8, 256)
    exact = x.double() @ decoded(layer).double().t()
    sums = x.double().abs() @ magnitudes(layer).t()
    assert bool(((layer(x) - exact).abs() <= (2.0**-7 + 2.0**-16 + 272 * 2.0**-23) * sums).all())
    with pytest.raises(ValueError, match="math"):
        CdnaLinear(64, 64, math="f8")


def test_what_cannot_be_multiplied_is_refused_with_a_reason():
    _, layer = layer_of(70, 33)
    with pytest.raises(RuntimeError, match=r"\[2, 69\].*70"):
        layer(torch.zeros(2, 69))
    with pytest.raises(TypeError, match="int64"):
        layer(torch.zeros(2, 70, dtype=torch.int64))
    with pytest.raises(ValueError, match="rows and columns"):
        CdnaLinear(0, 4)
    with pytest.raises(cdna.ArgumentError):
        CdnaLinear(64, 64, preset="cb99")
    with pytest.raises(TypeError, match="int8"):
        linear = nn.Linear(64, 64)
        linear.weight = nn.Parameter(torch.zeros(64, 64, dtype=torch.int8), requires_grad=False)
        CdnaLinear.from_linear(linear)
    with pytest.raises(cdna.ArgumentError, match="finite"):
        linear = nn.Linear(64, 64)
        linear.weight.data[3, 4] = float("nan")
        CdnaLinear.from_linear(linear)


def test_autocast_gives_what_it_gives_dense_layers():
    dense, layer = layer_of(64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = layer(torch.ones(2, 64)), dense(torch.ones(2, 64))
    assert y.dtype == expected.dtype == torch.bfloat16
    assert (y.float() - expected.float()).abs().max() < 0.05


# ---- Gradients ----


def dense_product(layer, x, codebook):
    """The layer in dense f64, differentiable with respect to the codebook: outliers stand still."""
    planes, cols = layer.planes, layer.in_features
    scales = chunked.scales_of_rows(planes, cols, 0, layer.out_features)
    weight = codebook[unpack_codes(planes.codes, layer.bits, cols)]
    weight = weight if scales is None else weight * scales.double()
    if planes.outlier_positions is not None:
        kept = torch.ones(weight.numel(), dtype=torch.bool)
        kept[planes.outlier_positions] = False
        fixed = torch.zeros(weight.numel(), dtype=torch.float64)
        fixed[planes.outlier_positions] = planes.outlier_values.double()
        weight = torch.where(kept.view_as(weight), weight, fixed.view_as(weight))
    return nn.functional.linear(x, weight, None if layer.bias is None else layer.bias.detach().double())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_the_dense_layer(preset, dtype):
    _, layer = layer_of(70, 33, preset, train_codebook=True)
    x = torch.randn(2, 6, 70, dtype=dtype, requires_grad=True)
    weights = torch.randn(2, 6, 33, dtype=dtype)
    (layer(x) * weights).sum().backward()
    dense_x = x.detach().double().requires_grad_()
    codebook = layer.codebook.detach().double().requires_grad_()
    (dense_product(layer, dense_x, codebook) * weights.double()).sum().backward()
    # f32: sums of 33 and 12 products of numbers up to about 4; codebooks in f64 throughout but for gy^T x.
    tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == torch.float32 else dict(rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(x.grad.double(), dense_x.grad, **tolerance)
    torch.testing.assert_close(layer.codebook.grad.double(), codebook.grad, rtol=1e-5, atol=2e-4)
    torch.testing.assert_close(layer.bias.grad, weights.sum((0, 1)).float(), rtol=1e-5, atol=1e-5)
    assert layer.codes.grad_fn is None and not layer.codes.requires_grad


def test_gradients_of_x_pass_torchs_own_check_twice():
    _, layer = layer_of(9, 5)
    x = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_autograd_functions_of_old_torch_give_the_same(monkeypatch):
    _, layer = layer_of(70, 33, "cb6g64", train_codebook=True)
    results = []
    for implementation in (operators._operators, operators._Functions()):
        monkeypatch.setattr(operators, "_operators", implementation)
        x = torch.ones(4, 70, requires_grad=True)
        layer.zero_grad()
        y = layer(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad, layer.codebook.grad.clone(), layer.bias.grad.clone()))
        assert implementation.linear(torch.empty(3, 70, device="meta"), *copy.deepcopy(layer).to("meta").planes, None, 70, "f32").shape == (3, 33)
    for one, other in zip(*results):
        assert torch.equal(one, other)


@pytest.mark.parametrize("implementation", [None, operators._Functions])
def test_gradients_come_through_checkpoints(monkeypatch, implementation):
    if implementation is not None:
        monkeypatch.setattr(operators, "_operators", implementation())
    _, layer = layer_of(70, 33, "cb4g32", train_codebook=True)
    x = torch.randn(4, 70, requires_grad=True)
    expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.codebook, layer.bias))
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    for one, other in zip(torch.autograd.grad(y.square().sum(), (x, layer.codebook, layer.bias)), expected):
        torch.testing.assert_close(one, other)


def test_only_what_asks_for_gradients_has_them():
    _, layer = layer_of(64, 32)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert not layer.requires_grad_(False)(torch.ones(2, 64)).requires_grad
    layer.train_codebook()
    assert sorted(name for name, _ in layer.named_parameters()) == ["bias", "codebook"]
    assert layer(torch.ones(2, 64)).requires_grad
    assert [name for name, _ in layer.train_codebook(False).named_parameters()] == ["bias"]
    assert "codebook" in dict(layer.named_buffers())


def test_a_frozen_codebook_is_trained_again():
    _, layer = layer_of(64, 32, train_codebook=True)
    codebook = layer.codebook
    layer.requires_grad_(False)  # As PEFT does.
    assert layer.train_codebook(True).codebook is codebook
    layer(torch.ones(2, 64)).sum().backward()
    assert codebook.grad is not None
    assert not layer.train_codebook(False).codebook.requires_grad and not layer.train_codebook(False).codebook.requires_grad


def test_a_trained_codebook_is_what_products_use_even_out_of_order():
    dense, layer = layer_of(70, 33, "cb4g32", train_codebook=True)
    target = torch.randn(16, 33)
    x = torch.randn(16, 70)
    codes = layer.codes.clone()
    optimizer = torch.optim.Adam([layer.codebook], lr=0.3)
    losses = []
    for _ in range(30):
        loss = (layer(x) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses) < 0.9 * losses[0]
    assert torch.equal(layer.codes, codes)
    assert bool((layer.codebook.diff() < 0).any())  # Or the test has not reached its point.
    expected = dense_product(layer, x.double(), layer.codebook.detach().double())
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-4)
    assert layer.packed.reordered and torch.equal(layer.codes, codes)


def test_writing_to_planes_is_noticed():
    _, layer = layer_of(64, 32)
    x = torch.ones(1, 64)
    before = layer(x).detach()
    layer.codebook.data.mul_(2)  # Past the count of versions.
    doubled = layer(x).detach()
    assert not torch.equal(before, doubled)
    layer.row_scales.mul_(0.5)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.dequantize(), layer.bias))
    layer.codes = torch.zeros_like(layer.codes)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.dequantize(), layer.bias))


def test_planes_in_memory_that_others_had_before_are_noticed():
    _, layer = layer_of(64, 32)
    x = torch.ones(1, 64)
    for turn in range(50):
        layer.row_scales = layer.row_scales.clone()
        layer(x)
        scales = (layer.row_scales * (0.5 if turn % 2 else 2)).tolist()
        layer.row_scales = None  # Given back, and most often given out again.
        layer.row_scales = torch.tensor(scales)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.dequantize(), layer.bias), rtol=1e-5, atol=1e-4)
        layer(x)
        codes = (255 - layer.codes).tolist()
        layer.codes = layer.codes.clone()
        layer(x)
        layer.codes = None
        layer.codes = torch.tensor(codes, dtype=torch.uint8)
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.dequantize(), layer.bias), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("preset", ["cb8,outliers=0.01", "cb4g32"])
def test_writing_to_small_planes_is_noticed_where_torch_counts_no_versions(preset):
    _, layer = layer_of(64, 32, preset)
    x = torch.ones(1, 64)
    names = [name for name in ("codebook", "row_scales", "scale_table", "outlier_values") if getattr(layer, name) is not None]
    assert len(names) == 3
    with torch.inference_mode():
        inference = copy.deepcopy(layer)
    for changed in (layer, inference):
        for name in names:
            with torch.no_grad():
                before = changed(x)
                with torch.inference_mode():
                    getattr(changed, name).data.mul_(2)
                assert not torch.equal(changed(x), before)
                torch.testing.assert_close(changed(x), nn.functional.linear(x, changed.dequantize(), changed.bias), rtol=1e-5, atol=1e-4)


# ---- As a module ----


def test_planes_are_held_once_and_nothing_is_packed_twice():
    _, layer = layer_of(256, 128, "cb6g64")
    assert layer.packed is None
    layer(torch.ones(1, 256))
    first = layer.packed
    assert layer.codes.data_ptr() == first.tensor.codes.ctypes.data
    assert layer.group_scales.data_ptr() == first.tensor.group_scales.ctypes.data
    layer(torch.ones(2, 256)).sum()
    assert layer.packed is first


@pytest.fixture
def packs(monkeypatch):
    """How often planes were packed: as many as the list has elements."""
    made = []
    original = packed.PackedMatrix.__init__

    def counted(self, *arguments):
        made.append(self.__class__)
        original(self, *arguments)

    monkeypatch.setattr(packed.PackedMatrix, "__init__", counted)
    return made


@pytest.mark.parametrize("implementation", [None, operators._Functions])
def test_training_packs_once_per_step_and_graphs_hold_nothing_twice(monkeypatch, packs, implementation):
    if implementation is not None:
        monkeypatch.setattr(operators, "_operators", implementation())
    _, layer = layer_of(256, 128, "cb6g64", train_codebook=True)
    x = torch.randn(4, 256, requires_grad=True)
    for step in range(3):
        before = weakref.ref(layer.codes)
        y = layer(x)
        assert before() is None  # Not in the graph: that has the view of the packed file.
        y.sum().backward()
        assert len(packs) == step + 1
        with torch.no_grad():
            layer.codebook.mul_(1.01)  # In order still.
    assert not layer.packed.reordered


def test_planes_without_a_layer_are_packed_once_and_forgotten_with_their_codes(packs):
    _, layer = layer_of(256, 128)
    planes = copy.deepcopy(layer).planes
    x = torch.randn(4, 256)
    for _ in range(3):
        assert torch.equal(operators.linear(x, planes, layer.bias, 256, "f32"), layer(x))
    assert len(packs) == 2
    matrix = weakref.ref(packed.packed_of(planes, 256))
    count = len(packed._found)
    del planes
    assert matrix() is None and len(packed._found) == count - 1


def test_planes_that_a_layer_had_are_as_they_were_when_its_own_are_written_to():
    _, layer = layer_of(64, 32)
    x = torch.ones(1, 64, requires_grad=True)
    planes = layer.planes
    expected = layer(x).detach()
    for _ in range(2):
        layer.codes.fill_(7)  # A view of what the earlier planes were packed to.
        for _ in range(2):
            y = operators.linear(x, planes, layer.bias, 64, "f32")
            assert torch.equal(y, expected)
            (gradient,) = torch.autograd.grad(y.sum(), x)
            torch.testing.assert_close(gradient, decode_rows(planes, 64, 0, 32).sum(0, keepdim=True), rtol=1e-5, atol=1e-5)
        assert not torch.equal(layer(x), expected)


def test_the_state_dict_comes_back():
    for preset in PRESETS:
        for dtype in DTYPES:
            _, layer = layer_of(257, 129, preset, dtype)
            x = torch.ones(2, 257, dtype=dtype)
            y = layer(x)
            buffer = io.BytesIO()
            torch.save(layer.state_dict(), buffer)
            buffer.seek(0)
            other = CdnaLinear(257, 129, dtype=torch.float32)  # Of another preset.
            other(torch.ones(1, 257))
            assert not other.load_state_dict(torch.load(buffer)).missing_keys
            assert torch.equal(other.to(dtype)(x), y) and other.bits == layer.bits and other.group == layer.group
            for name, plane in layer.state_dict().items():
                assert other.state_dict()[name].dtype == plane.dtype and torch.equal(other.state_dict()[name], plane)


def test_a_state_dict_that_does_not_fit_changes_nothing():
    _, layer = layer_of(70, 33, "cb4g32")
    _, other = layer_of(71, 33, "cb4g32")
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(RuntimeError, match="planes.*codes"):
        layer.load_state_dict({**other.state_dict(), "bias": state["bias"]})
    for name in state:
        assert torch.equal(layer.state_dict()[name], state[name])
    for broken in ({"codebook": torch.zeros(15)}, {"outlier_values": torch.zeros(3)}, {"codes": state["codes"].float()}):
        with pytest.raises(RuntimeError, match="do not fit"):
            layer.load_state_dict({**state, **broken})
    with pytest.raises(RuntimeError, match="Missing.*codes"):
        layer.load_state_dict({"weight": torch.zeros(33, 70), "bias": state["bias"]})


@pytest.mark.parametrize("preset", ["cb8", "cb6g64,outliers=0.01"])
@pytest.mark.parametrize("strict", [True, False])
def test_planes_that_were_saved_and_are_gone_are_an_error(preset, strict, tmp_path):
    _, layer = layer_of(128, 64, preset)
    assert layer.outlier_values is not None
    state = layer.state_dict()
    for lost in (["row_scales"], ["outlier_values", "outlier_positions"], ["group_scales", "scale_table"]):
        if lost[0] not in state:
            continue
        rest = {name: value for name, value in state.items() if name not in lost}
        for target in (CdnaLinear(128, 64, preset=preset), copy.deepcopy(layer)):
            before = target.dequantize()
            with pytest.raises(RuntimeError, match=f"do not fit the layer: {lost[0]} is missing"):
                target.load_state_dict(rest, strict=strict)
            cdna.torch.save_file({"0." + name: value for name, value in rest.items()}, tmp_path / "m.cdna")
            with pytest.raises(RuntimeError, match=f"planes of 0 do not fit the layer: {lost[0]} is missing"):
                cdna.torch.load_module(nn.Sequential(target), tmp_path / "m.cdna", strict=strict)
            assert torch.equal(target.dequantize(), before)
    half = {**state, "outlier_values": state["outlier_values"][1:], "outlier_positions": state["outlier_positions"][1:]}
    with pytest.raises(RuntimeError, match="outlier_values has .* were saved"):
        layer.load_state_dict(half, strict=strict)
    with pytest.raises(RuntimeError, match="Missing.*_extra_state"):
        layer.load_state_dict({name: value for name, value in state.items() if name != "_extra_state"})


def test_a_trained_codebook_keeps_its_shape():
    _, layer = layer_of(64, 32, train_codebook=True)
    _, other = layer_of(64, 32, "cb4g32")
    layer(torch.ones(1, 64)).sum().backward()
    before = layer.dequantize()
    with pytest.raises(RuntimeError, match="parameter of 256 entries, not 16"):
        layer.load_state_dict(other.state_dict())
    assert layer.codebook.shape == layer.codebook.grad.shape == (256,) and torch.equal(layer.dequantize(), before)
    layer.train_codebook(False).load_state_dict(other.state_dict())
    assert torch.equal(layer.train_codebook().dequantize(), other.dequantize()) and layer.codebook.grad is None


def test_loading_a_state_dict_in_place_of_another_is_noticed():
    _, layer = layer_of(64, 32)
    _, other = layer_of(64, 32)
    x = torch.ones(1, 64)
    views = layer(x), layer.codes
    kept = views[1].clone()
    layer.load_state_dict(other.state_dict())
    assert torch.equal(layer(x), other(x))
    assert torch.equal(views[1], kept)  # Memory that others may look at is not written to.


def test_types_change_what_is_computed_but_not_planes():
    _, layer = layer_of(64, 32, "cb6g64")
    y = layer(torch.ones(1, 64))
    for change, dtype in [(lambda m: m.half(), torch.float16), (lambda m: m.to(torch.bfloat16), torch.bfloat16),
                          (lambda m: m.double(), torch.float64), (lambda m: m.float(), torch.float32)]:  # fmt: skip
        changed = change(copy.deepcopy(layer))
        assert changed.dtype == changed.bias.dtype == changed.weight.dtype == dtype
        for name in ("codes", "codebook", "row_scales", "group_scales", "scale_table"):
            assert torch.equal(getattr(changed, name), getattr(layer, name)) and getattr(changed, name).dtype == getattr(layer, name).dtype
        assert (changed(torch.ones(1, 64, dtype=dtype)).double() - y.double()).abs().max() < 0.02


def test_types_that_no_product_has_are_refused():
    _, layer = layer_of(64, 32)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    for dtype in [getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name)]:
        with pytest.raises(TypeError, match="not of torch.float8"):
            layer.to(dtype)
    with pytest.raises(TypeError, match="not of torch.int8"):
        CdnaLinear(64, 32, dtype=torch.int8)
    assert layer.dtype == layer.bias.dtype == torch.float32
    assert all(torch.equal(layer.state_dict()[name], value) for name, value in before.items())


def test_meta_has_shapes_and_no_values():
    meta = CdnaLinear(70, 33, preset="cb4g32", device="meta")
    assert all(value.is_meta for value in meta.state_dict().values()) and meta.weight.is_meta
    assert meta(torch.empty(4, 2, 70, device="meta")).shape == (4, 2, 33)
    _, layer = layer_of(70, 33, "cb4g32,outliers=0.01")
    moved = copy.deepcopy(layer).to("meta")
    assert moved.codes.is_meta and moved.device.type == "meta" and moved.dequantize().is_meta
    moved.to_empty(device="cpu")
    moved.load_state_dict(layer.state_dict())
    assert torch.equal(moved(torch.ones(1, 70)), layer(torch.ones(1, 70)))
    with pytest.raises(NotImplementedError):
        meta.to("cpu")


def test_moving_a_trained_codebook_takes_its_gradient_along():
    _, layer = layer_of(64, 32, train_codebook=True)
    layer(torch.ones(1, 64)).sum().backward()
    layer.to("meta")
    assert isinstance(layer.codebook, nn.Parameter) and layer.codebook.is_meta and layer.codebook.grad.is_meta
    layer.requires_grad_(False).to_empty(device="cpu")
    assert isinstance(layer.codebook, nn.Parameter) and not layer.codebook.requires_grad and not layer.codebook.grad.is_meta


def test_copies_and_pickles_are_layers_of_their_own():
    _, layer = layer_of(70, 33, train_codebook=True)
    x = torch.ones(3, 70)
    y = layer(x)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), y) and other.packed is not layer.packed
        assert isinstance(other.codebook, nn.Parameter)
        with torch.no_grad():
            other.codebook.mul_(3)
        assert not torch.equal(other(x), y)
        assert torch.equal(layer(x), y)


def test_weight_stands_for_the_matrix_where_tensors_are_expected():
    _, layer = layer_of(70, 33)
    weight = layer.weight
    assert isinstance(layer, nn.Linear) and isinstance(weight, torch.Tensor)
    assert (weight.shape, weight.dtype, weight.device, weight.requires_grad) == ((33, 70), torch.float32, torch.device("cpu"), False)
    x = torch.randn(3, 70)
    assert torch.equal(nn.functional.linear(x, weight), nn.functional.linear(x, layer.dequantize()))
    assert torch.equal(weight.t() + 0, layer.dequantize().t()) and torch.equal(weight.data.clone(), layer.dequantize())
    for write in (lambda: weight.add_(1), lambda: weight.data.zero_(), lambda: setattr(weight, "data", x), lambda: torch.nn.init.ones_(weight)):
        with pytest.raises(RuntimeError, match="frozen"):
            write()
    with pytest.raises(KeyError, match="weight"):
        layer.weight = nn.Parameter(torch.zeros(33, 70))
    with pytest.raises(RuntimeError, match="from_linear"):
        layer.reset_parameters()


def test_no_way_of_writing_to_the_weight_is_lost():
    _, layer = layer_of(64, 64)
    weight, a = layer.weight, torch.ones(64, 64)
    before = layer.dequantize()
    writes = [
        lambda: weight.__setitem__((0, 0), 9),
        lambda: weight[0].zero_(),
        lambda: weight.t().mul_(2),
        lambda: weight.view(-1).fill_(0),
        lambda: weight.reshape(-1)[3:9].fill_(0),
        lambda: weight.data[0].fill_(1),
        lambda: weight.detach()[0].fill_(1),
        lambda: weight.chunk(2)[1].zero_(),
        lambda: weight.as_strided((3,), (1,)).zero_(),
        lambda: torch.add(a, 1, out=weight),
        lambda: torch.add(a, 1, out=weight.t()),
        lambda: torch._foreach_mul_([weight], 2),
        lambda: torch._foreach_mul_([a, weight.t()], 2),
        lambda: weight.requires_grad_(True),
        lambda: setattr(weight, "requires_grad", True),
        lambda: setattr(weight, "grad", a),
    ]
    for guard in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        for number, write in enumerate(writes):
            with guard(), pytest.raises(RuntimeError, match="frozen"):
                write()
                print(number, "was lost")
    weight.requires_grad_(False).grad = None
    assert torch.equal(layer.dequantize(), before) and not a.sub(1).any()


def test_views_of_the_weight_have_its_values():
    _, layer = layer_of(64, 32)
    weight, dense = layer.weight, layer.dequantize()
    for view in (lambda w: w.t(), lambda w: w[3:9, ::2], lambda w: w.view(-1)[7], lambda w: w.data.t().detach(), lambda w: w.chunk(3, 1)[2],
                 lambda w: w.unsqueeze(0).expand(3, -1, -1).transpose(1, 2)):  # fmt: skip
        one, other = view(weight), view(dense)
        assert (one.shape, one.stride(), one.storage_offset(), one.dtype) == (other.shape, other.stride(), other.storage_offset(), other.dtype)
        assert torch.equal(one * 1, other * 1) and torch.equal(one.clone(), other) and torch.equal(copy.deepcopy(one), other)
        assert one.tolist() == other.tolist() and np.array_equal(np.asarray(one), other.numpy()) and not one.numpy().flags.writeable
    for change in (lambda w: w.clone(), lambda w: w.double(), lambda w: w * 2, lambda w: w[[0, 1]], lambda w: w.t().contiguous()):
        assert type(change(weight)) is torch.Tensor and change(weight).zero_().sum() == 0


def test_to_linear_is_dense_again():
    _, layer = layer_of(70, 33, "cb4g32", torch.float16)
    dense = layer.to_linear()
    assert type(dense) is nn.Linear and torch.equal(dense.weight, layer.dequantize()) and dense.bias is layer.bias


def test_from_tensor_copies_the_planes_of_a_file():
    weight = torch.randn(100, 70)
    weight[5, 5] = 40
    for preset in ("cb8", "cb4g32"):
        file = cdna.open(cdna.torch.save({"w": weight, "v": torch.ones(4)}, policy=preset))
        layer = CdnaLinear.from_tensor(file["w"], torch.ones(100, dtype=torch.float64))
        assert torch.equal(layer.dequantize(), torch.from_numpy(file["w"].numpy()))
        assert layer.bias.dtype == torch.float32 and layer.bits == file["w"].bits
        with pytest.raises(ValueError, match="v is no matrix"):
            CdnaLinear.from_tensor(file["v"])
        file.close()  # Nothing of it is needed.
        layer(torch.ones(2, 70))


# Values that no smaller type has, and bits of NaNs: a quiet one, and one that is not.
OUTLIERS = {
    "F16": [1 + 2.0**-10, 2.0**-24, -0.0, "037E", "01FC"],
    "BF16": [1 + 2.0**-7, 2.0**120, -0.0, "C3FF", "817F"],
    "F32": [1 + 2.0**-23, 2.0**-149, -0.0, "0500C0FF", "0100807F"],
    "F64": [1 + 2.0**-52, 1e300, -0.0, "050000000000F8FF", "010000000000F07F"],
}
EXACT = {("F16", "F32"), ("BF16", "F32"), ("F16", "F64"), ("BF16", "F64"), ("F32", "F64"), *((name, name) for name in OUTLIERS)}


def file_with_outliers(stored, dtype, count):
    """`layer.weight` [64, 70] of a dtype, in blocks of 16 rows, with the first `count` outliers of another in row 18."""
    # The builder takes a NaN as stored and decoded bytes; the latter are not looked at.
    values = [(bytes.fromhex(value), bytes(4)) if isinstance(value, str) else value for value in OUTLIERS[stored][:count]]
    blocks = [[], [(2 * 70 + 3 * i, value) for i, value in enumerate(values)], [], [(9, 3.0)]]
    item = describe.codebook("layer.weight", [64, 70], 3, describe.code_noise(64 * 70, 3), describe.even_book(3), dtype=dtype,
                             rows_per_block=16, row_scale=[1 + i / 64 for i in range(64)], outliers=(stored, blocks),
                             optional=builder.NONFINITE)  # fmt: skip
    return cdna.open(builder.build(builder.File([item])).data)


def same_bits(one, other):
    """Of a tensor of torch, and an array, which may hold the bits of bfloat16."""
    return one.detach().contiguous().view(torch.uint8).numpy().tobytes() == np.ascontiguousarray(other).tobytes()


@pytest.mark.parametrize("dtype", list(OUTLIERS))
@pytest.mark.parametrize("stored", list(OUTLIERS))
def test_outliers_of_another_type_than_the_tensor(stored, dtype):
    file = file_with_outliers(stored, dtype, 5)
    tensor = file["layer.weight"]
    kind = getattr(torch, {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}[dtype])
    assert native.has_planes(tensor) == ((stored, dtype) in EXACT)
    if (stored, dtype) in EXACT:
        layer = CdnaLinear.from_tensor(tensor)
        assert layer.outlier_values.dtype == kind and layer.outlier_values[:3].tolist() == OUTLIERS[stored][:3]
        assert layer.outlier_positions.tolist() == [18 * 70 + 3 * i for i in range(5)] + [48 * 70 + 9]
        assert same_bits(layer.dequantize(), tensor.numpy())
    else:
        with pytest.raises(ValueError, match=f"layer.weight is no matrix.* {dtype} .*outliers {stored}"):
            CdnaLinear.from_tensor(tensor)
    model = nn.Sequential(OrderedDict(layer=nn.Linear(70, 64, bias=False, dtype=kind)))
    cdna.torch.load_module(model, file)
    assert type(model.layer) is (CdnaLinear if (stored, dtype) in EXACT else nn.Linear)
    weight = model.layer.dequantize() if (stored, dtype) in EXACT else model.layer.weight
    assert same_bits(weight, tensor.numpy())


@pytest.mark.parametrize("stored, dtype", [("F16", "F32"), ("BF16", "F32"), ("F16", "F64"), ("F32", "F64")])
def test_products_with_outliers_of_another_type(tmp_path, stored, dtype):
    tensor = file_with_outliers(stored, dtype, 1)["layer.weight"]
    layer = CdnaLinear.from_tensor(tensor, dtype=torch.float32)
    weight, x = torch.from_numpy(tensor.numpy("F32")), torch.randn(3, 70)
    assert same_bits(layer.dequantize(), tensor.numpy("F32"))
    assert_product(layer(x), x, layer, weight, None, magnitudes(layer))
    holder = CdnaLinear(70, 64, bias=False)
    (tmp_path / "m.cdna").write_bytes(tensor.file.buffer)
    assert cdna.torch.load_model(nn.Sequential(OrderedDict(layer=holder)), tmp_path / "m.cdna") == ([], [])
    assert same_bits(holder.dequantize(torch.float32), tensor.numpy("F32"))


def test_several_threads_use_one_layer():
    _, layer = layer_of(256, 128)
    x = torch.randn(4, 256)
    expected = copy.deepcopy(layer)(x)
    results = []
    threads = [threading.Thread(target=lambda: results.extend(torch.equal(layer(x), expected) for _ in range(20))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 120


def test_inference_mode_and_training_mix():
    _, layer = layer_of(64, 32)
    with torch.inference_mode():
        layer(torch.ones(1, 64))  # Packs.
    x = torch.ones(1, 64, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.dequantize().sum(0, keepdim=True), rtol=1e-5, atol=1e-5)


def test_it_says_what_it_is():
    _, layer = layer_of(64, 64, "cb6g64,outliers=0.001")
    assert "in_features=64, out_features=64, bias=True, bits=6, group=64" in repr(layer)


def test_other_devices_are_refused_with_the_reason(monkeypatch):
    monkeypatch.setenv("CDNA_CUDA_LIBRARY", "/nowhere/libcdna_cuda.so")
    _, layer = layer_of(64, 32)
    layer(torch.ones(1, 64))
    with pytest.raises(cdna.torch.CudaUnavailable, match="/nowhere/libcdna_cuda.so"):
        layer.packed.on_device(0, 0)
