"""cdna.torch with a torch that has custom operators and a compiler, and with PEFT: ./check-torch runs this."""
import copy
import io

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
if not hasattr(torch.library, "custom_op"):
    pytest.skip(f"torch {torch.__version__} has no custom operators (2.4 has)", allow_module_level=True)

import cdna.torch  # noqa: E402
import torch._dynamo  # noqa: E402
from cdna.torch import packed  # noqa: E402


from torch._dynamo.backends.common import aot_autograd  # noqa: E402
from functorch.compile import make_boxed_func  # noqa: E402
from torch import nn  # noqa: E402

PRESETS = ["cb8", "cb6g64", "cb4g32"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(17)
    print("seed 17")
    torch._dynamo.reset()  # The models of tests share their code, of which so many versions are compiled and no more.


def mlp(preset="cb8", **options):
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64, bias=False))
    assert len(cdna.torch.replace_linears(model, preset, **options).replaced) == 2
    return model


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_operators_pass_torchs_own_checks(preset, dtype):
    layer = mlp(preset, train_codebook=True)[0]
    x = torch.randn(5, 64, dtype=dtype, requires_grad=True)
    gy = torch.randn(5, 128, dtype=dtype, requires_grad=True)
    planes = [None if plane is None else plane.detach() for plane in layer.planes]
    operators = torch.ops.cdna
    for operator, arguments in [
        (operators.linear, (x, *layer.planes, layer.bias, 64, "f32")),
        (operators.transposed, (gy, *layer.planes, 64)),
        (operators.codebook_gradient, (x.detach(), gy.detach(), *planes)),
    ]:
        assert set(torch.library.opcheck(operator.default, arguments).values()) == {"SUCCESS"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_compiled_model_is_one_graph_with_the_same_results(preset):
    model = mlp(preset)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for m in (1, 7, 7, 3):
        x = torch.randn(m, 64, requires_grad=True)
        y, expected = compiled(x), model(x)
        torch.testing.assert_close(y, expected)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), x)[0])


def test_the_compiler_keeps_the_operator_whole():
    """With inductor: code is generated and run around the products."""
    graphs = []

    def look(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph.forward

    model = mlp()
    x = torch.randn(4, 64)
    torch.compile(model, fullgraph=True, backend=look)(x)
    assert len(graphs) == 1 and sum("cdna" in target and "linear" in target for target in graphs[0]) == 2
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x))


def test_codebooks_are_trained_in_compiled_models():
    model = mlp("cb4g32", train_codebook=True)
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    x, target = torch.randn(32, 64), torch.randn(32, 64)
    histories = []
    for trained in (model, compiled):
        optimizer = torch.optim.SGD([p for name, p in trained.named_parameters() if "codebook" in name], lr=0.01)
        losses = []
        for _ in range(5):
            loss = (trained(x) - target).square().mean()
            losses.append(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        histories.append(torch.stack(losses).detach())
    assert histories[0][-1] < histories[0][0]
    torch.testing.assert_close(*histories)


class AsksForTheType(nn.Module):
    """As T5 does in its feed-forward blocks."""

    def __init__(self, model):
        super().__init__()
        self.wo = model

    def forward(self, x):
        return self.wo(x.to(self.wo.weight.dtype) if x.dtype != self.wo.weight.dtype else x) * self.wo.weight.shape[0]


@pytest.mark.parametrize("train_codebook", [False, True])
def test_the_weight_in_compiled_code_costs_nothing_until_its_values_are_used(train_codebook):
    model = AsksForTheType(mlp(train_codebook=train_codebook)[0])
    targets = []

    def look(graph, inputs):
        targets.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    x = torch.randn(3, 64, dtype=torch.bfloat16)
    backend = aot_autograd(fw_compiler=lambda graph, inputs: make_boxed_func(look(graph, inputs)))
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(x), model(x))
    assert any("cdna.linear" in target for target in targets) and not any("dequantize" in target for target in targets)
    multiply = torch.compile(lambda x: x @ model.wo.weight.t(), fullgraph=True, backend="aot_eager")
    assert torch.equal(multiply(x.float()), x.float() @ model.wo.dequantize().t())
    planes = [None if plane is None else plane.detach() for plane in model.wo.planes]
    arguments = (*planes, 64, torch.float16)
    assert set(torch.library.opcheck(torch.ops.cdna.dequantize.default, arguments).values()) == {"SUCCESS"}
    assert torch.equal(torch.ops.cdna.dequantize(*arguments), model.wo.dequantize(torch.float16))


def test_moving_keeps_a_trained_codebook_the_same_parameter():
    """As torch.nn.Module does between the CPU and a GPU; between devices that there are everywhere, if told to swap."""
    layer = mlp(train_codebook=True)[0]
    dense = nn.Linear(4, 4)
    codebook, weight = layer.codebook, dense.weight
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.to("meta"), dense.to("meta")
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert weight is dense.weight and weight.is_meta
    assert codebook is layer.codebook and codebook.is_meta and isinstance(codebook, nn.Parameter)


def test_exported_programs_hold_the_operator():
    model = mlp().eval()
    x = torch.randn(3, 64)
    program = torch.export.export(model, (x,))
    assert "cdna.linear" in str(program.graph_module.code) or "cdna::linear" in str(program.graph)
    torch.testing.assert_close(program.module()(x), model(x))


def test_blocks_that_are_alike_are_compiled_once():
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    blocks = [mlp() for _ in range(12)]
    x = torch.randn(2, 64)
    for block in blocks:
        expected = block(x)
        block.compile(fullgraph=True, backend=count)
        torch.testing.assert_close(block(x), expected)
    assert len(graphs) <= 2


@pytest.mark.parametrize("restored", [False, True])
def test_exported_programs_pack_once(monkeypatch, restored):
    model, x, packs = mlp().eval(), torch.randn(3, 64), []
    program = torch.export.export(model, (x,))  # Before the first product.
    if restored:
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        program = torch.export.load(buffer)
    expected = model(x)
    run = program.module()
    original = packed.PackedMatrix.__init__
    monkeypatch.setattr(packed.PackedMatrix, "__init__", lambda *arguments: (packs.append(1), original(*arguments))[1])
    for _ in range(3):
        torch.testing.assert_close(run(x), expected)
    assert len(packs) <= 2  # A layer once.


def test_lora_through_peft_trains_adapters_and_nothing_else():
    peft = pytest.importorskip("peft", reason="peft is not installed")
    base = mlp()
    kept = {name: value.clone() for name, value in base.state_dict().items()}
    model = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["0", "2"], init_lora_weights=True))
    assert isinstance(base[0].base_layer, cdna.torch.CdnaLinear)
    assert all("lora_" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
    x, target = torch.randn(32, 64), torch.randn(32, 64)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(40):
        loss = (model(x) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    for name, value in kept.items():
        layer, _, plane = name.partition(".")
        assert torch.equal(base[int(layer)].base_layer.state_dict()[plane], value)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), base[2].base_layer(base[1](base[0].base_layer(x))))
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x))


@pytest.mark.parametrize("safe", [False, True])
def test_merging_adapters_into_codes_is_refused(safe):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = peft.get_peft_model(mlp(), peft.LoraConfig(r=4, target_modules=["0"]))
    with pytest.raises(RuntimeError, match="frozen"):
        model.merge_and_unload(safe_merge=safe)
