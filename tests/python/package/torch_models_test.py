"""cdna.torch with whole models: safetensors' functions, replace_linears, load_module, and what they hold in memory."""
import copy
import os
import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

import cdna  # noqa: E402
import cdna.torch  # noqa: E402
from torch import nn  # noqa: E402

DTYPES = [
    getattr(torch, name)
    for name in ("bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex64 "
                 "float8_e4m3fn float8_e5m2").split()
    if hasattr(torch, name)
]  # fmt: skip


class Model(nn.Module):
    """An embedding tied to the head, two linear layers, a norm, buffers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 64)
        self.up = nn.Linear(64, 128)
        self.down = nn.Linear(128, 64, bias=False)
        self.small = nn.Linear(64, 8)
        self.norm = nn.LayerNorm(64)
        self.lm_head = nn.Linear(64, 100, bias=False)
        self.lm_head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(3))
        self.register_buffer("made", torch.ones(2), persistent=False)

    def forward(self, tokens):
        hidden = self.down(torch.relu(self.up(self.embed(tokens))))
        return self.lm_head(self.norm(hidden)) * self.made.mean()


@pytest.fixture
def model():
    torch.manual_seed(11)
    print("seed 11")
    return Model().eval().requires_grad_(False)


@pytest.fixture
def tokens():
    return torch.arange(14).view(2, 7)


def on_meta():
    """The model on meta, tied as it was, with what no file has."""
    empty = Model().to("meta").eval()
    empty.lm_head.weight = empty.embed.weight
    empty.made = torch.ones(2)
    return empty


def saved(model, path, policy):
    cdna.torch.save_model(model, path, policy=policy)
    return path


# ---- safetensors' functions ----


def test_all_types_and_shapes_come_back_bit_for_bit(tmp_path):
    torch.manual_seed(3)
    tensors = {}
    for dtype in DTYPES:
        for shape in [(), (0,), (3,), (2, 0), (4, 5), (2, 3, 4)]:
            bits = torch.randint(0, 2 if dtype == torch.bool else 100, (*shape, torch.empty((), dtype=dtype).element_size()))
            tensors[f"{dtype}.{shape}"] = bits.to(torch.uint8).contiguous().view(dtype).reshape(shape).clone()
    cdna.torch.save_file(tensors, tmp_path / "m.cdna", {"format": "pt"})
    for loaded in (cdna.torch.load_file(tmp_path / "m.cdna"), cdna.torch.load_file(str(tmp_path / "m.cdna"), backend="pread"),
                   cdna.torch.load(cdna.torch.save(tensors)), cdna.torch.load((tmp_path / "m.cdna").read_bytes())):  # fmt: skip
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
            assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)), name
    assert cdna.open(tmp_path / "m.cdna").metadata["safetensors:format"] == "pt"


def test_loaded_tensors_are_the_callers_own(tmp_path):
    cdna.torch.save_file({"a": torch.zeros(4096)}, tmp_path / "m.cdna")
    loaded = cdna.torch.load_file(tmp_path / "m.cdna")["a"]
    (tmp_path / "m.cdna").unlink()
    loaded += 1
    assert loaded.sum() == 4096


def test_what_safetensors_refuses_is_refused_and_leaves_no_file(tmp_path):
    both = torch.zeros(4, 4)
    cases = [
        ({"a": both, "b": both}, RuntimeError, "share memory.*a.*b"),
        ({"a": both[:3], "b": both[2:]}, RuntimeError, "share memory"),
        ({"a": torch.ones(4, 4).t()[1:]}, ValueError, "not contiguous"),
        ({"a": torch.eye(3).to_sparse()}, ValueError, "sparse"),
        ({"a": torch.empty(3, device="meta")}, ValueError, "meta"),
        ({"a": [1.0]}, ValueError, "no tensor"),
        ([both], ValueError, "dictionary"),
        ({"a": torch.zeros(2, dtype=torch.complex128)}, TypeError, "'a'.*complex128"),
    ]
    for tensors, kind, message in cases:
        with pytest.raises(kind, match=message):
            cdna.torch.save_file(tensors, tmp_path / "m.cdna")
    assert list(tmp_path.iterdir()) == []
    cdna.torch.save_file({"a": both[:2], "b": both[2:]}, tmp_path / "m.cdna")  # Side by side in one storage.


def test_tied_tensors_are_saved_once_and_loaded_under_both_names(model, tokens, tmp_path):
    cdna.torch.save_model(model, tmp_path / "m.cdna", {"mine": "1"})
    with cdna.open(tmp_path / "m.cdna") as file:
        assert "lm_head.weight" not in file and "embed.weight" in file
        assert file.metadata["safetensors:lm_head.weight"] == "embed.weight" and file.metadata["safetensors:mine"] == "1"
    other = Model().eval()
    assert cdna.torch.load_model(other, tmp_path / "m.cdna") == ([], [])
    assert torch.equal(other(tokens), model(tokens)) and other.lm_head.weight is other.embed.weight


def test_strict_loading_reports_as_load_state_dict_does(model, tmp_path):
    state = {name: value for name, value in model.state_dict().items() if name not in ("norm.bias", "lm_head.weight")}
    cdna.torch.save_file({**state, "more": torch.zeros(1)}, tmp_path / "m.cdna")
    for load in (cdna.torch.load_model, cdna.torch.load_module):
        with pytest.raises(RuntimeError) as error:
            load(copy.deepcopy(model), tmp_path / "m.cdna")
        assert 'Missing key(s) in state_dict: "norm.bias"' in str(error.value)
        assert 'Unexpected key(s) in state_dict: "more"' in str(error.value)
        assert tuple(load(copy.deepcopy(model), tmp_path / "m.cdna", strict=False)[:2]) == (["norm.bias"], ["more"])


def test_compressed_layers_are_saved_by_their_planes(model, tokens, tmp_path):
    cdna.torch.replace_linears(model, "cb6g64")
    expected = model(tokens)
    cdna.torch.save_model(model, tmp_path / "m.cdna")
    fresh = copy.deepcopy(model)
    for name in ("up", "down"):
        old = fresh.get_submodule(name)
        setattr(fresh, name, cdna.torch.CdnaLinear(old.in_features, old.out_features, old.bias is not None))
    assert cdna.torch.load_model(fresh, tmp_path / "m.cdna") == ([], [])
    assert torch.equal(fresh(tokens), expected)
    meta = copy.deepcopy(fresh).to("meta")
    meta.lm_head.weight, meta.made = meta.embed.weight, torch.ones(2)
    report = cdna.torch.load_module(meta, tmp_path / "m.cdna")
    assert report.compressed == ["down.weight", "up.weight"] and torch.equal(meta(tokens), expected)


# ---- replace_linears ----


def test_linear_layers_are_replaced_by_the_librarys_policy(model, tokens):
    expected = model(tokens)
    report = cdna.torch.replace_linears(model, "cb8")
    assert [r.name for r in report.replaced] == ["up", "down"]
    assert {k.name for k in report.kept} == {"small", "lm_head"}
    assert "tied" in dict((k.name, k.reason) for k in report.kept)["lm_head"]
    assert type(model.small) is nn.Linear and isinstance(model.up, cdna.torch.CdnaLinear)
    assert report.replaced[0].dense_bytes == 64 * 128 * 4 and report.replaced[0].bytes == model.up.nbytes
    assert "up: cb8" in str(report) and "2 layers" in str(report)
    assert (model(tokens) - expected).norm() < 0.01 * expected.norm() and not model.up.training
    again = cdna.torch.replace_linears(model)
    assert not again.replaced and dict((k.name, k.reason) for k in again.kept)["up"] == "compressed already"


def test_names_decide_what_is_replaced(model):
    report = cdna.torch.replace_linears(copy.deepcopy(model), exclude=["do*"])
    assert [r.name for r in report.replaced] == ["up"]
    report = cdna.torch.replace_linears(copy.deepcopy(model), include="up")
    assert [r.name for r in report.replaced] == ["up"]
    untied = copy.deepcopy(model)
    untied.lm_head.weight = nn.Parameter(torch.randn(100, 64))
    assert "lm_head" in [k.name for k in cdna.torch.replace_linears(copy.deepcopy(untied)).kept]  # A head.
    assert [r.name for r in cdna.torch.replace_linears(untied, include="lm_head").replaced] == ["lm_head"]


def test_what_cannot_be_replaced_stays_with_the_reason():
    class Special(nn.Linear):
        pass

    hooked, shared = nn.Linear(64, 64), nn.Linear(64, 64)
    hooked.register_forward_hook(lambda *_: None)
    layers = dict(special=Special(64, 64), hooked=hooked, one=shared, two=shared, meta=nn.Linear(64, 64, device="meta"))
    layers["integer"] = nn.Linear(64, 64)
    layers["integer"].weight = nn.Parameter(torch.zeros(64, 64, dtype=torch.int8), requires_grad=False)
    report = cdna.torch.replace_linears(nn.ModuleDict(layers))
    reasons = {kept.name: kept.reason for kept in report.kept}
    assert not report.replaced and set(reasons) == {"special", "hooked", "one", "meta", "integer"}
    assert "Special" in reasons["special"] and "hooks" in reasons["hooked"] and "tied" in reasons["one"]
    with pytest.raises(cdna.ArgumentError):
        cdna.torch.replace_linears(nn.ModuleDict(layers), "cb99")


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook", "state_dict_pre_hook",
                                  "load_state_dict_post_hook", "state_dict", "load_state_dict_pre_hook"])  # fmt: skip
def test_layers_with_hooks_of_any_kind_keep_them(kind, tmp_path):
    def hook(*arguments):
        pass

    layer = nn.Linear(64, 128, bias=False)
    cdna.torch.save_file({"0.weight": layer.weight.detach()}, tmp_path / "m.cdna", policy="cb8")
    register = {"state_dict": "_register_state_dict_hook", "load_state_dict_pre_hook": "_register_load_state_dict_pre_hook"}
    method = getattr(layer, register.get(kind, f"register_{kind}"), None)
    if method is None:
        return  # This torch has no hooks of the kind.
    method(hook)
    model = nn.Sequential(layer)
    assert [kept.reason for kept in cdna.torch.replace_linears(model).kept] == ["it has hooks or parametrizations"]
    report = cdna.torch.load_module(model, tmp_path / "m.cdna")
    assert report.decoded == ["0.weight"] and model[0] is layer


def sharing(kind):
    """A linear layer, and what has the same memory, or (apart) another half of it."""
    base = torch.randn(256, 64)
    model = nn.Module()
    model.a = nn.Linear(64, 128, bias=False)
    model.a.weight = nn.Parameter(base[:128])
    if kind == "buffer":
        model.register_buffer("all", base)
    else:
        model.e = nn.Embedding(256 if kind == "view" else 128, 64)
        model.e.weight = nn.Parameter(base if kind == "view" else base[128:])
    return model


@pytest.mark.parametrize("kind", ["view", "buffer", "apart"])
def test_weights_that_share_memory_are_tied_whatever_holds_them(kind, tmp_path):
    report = cdna.torch.replace_linears(sharing(kind))
    assert [r.name for r in report.replaced] == (["a"] if kind == "apart" else [])
    copies = {name: value.clone() for name, value in sharing(kind).state_dict().items()}
    cdna.torch.save_file(copies, tmp_path / "m.cdna", policy="cb8")
    loaded = cdna.torch.load_module(sharing(kind), tmp_path / "m.cdna")
    assert loaded.compressed == (["a.weight"] if kind == "apart" else [])


# ---- load_module ----


@pytest.mark.parametrize("start", ["meta", "empty"])
def test_a_module_takes_compressed_matrices_as_they_are(model, tokens, tmp_path, start):
    path = saved(model, tmp_path / "m.cdna", "cb8")
    target = on_meta() if start == "meta" else Model().eval()
    report = cdna.torch.load_module(target, path)
    assert report.compressed == ["down.weight", "up.weight"]
    assert report.missing_keys == report.unexpected_keys == report.on_meta == []
    assert target.lm_head.weight is target.embed.weight
    with cdna.open(path) as file:
        for name in ("up", "down"):
            layer = target.get_submodule(name)
            assert isinstance(layer, cdna.torch.CdnaLinear) and not layer.training
            assert torch.equal(layer.dequantize(), torch.from_numpy(file[f"{name}.weight"].numpy()))
            assert torch.equal(layer.codes, torch.from_numpy(file[f"{name}.weight"].codes.copy()))
    assert torch.equal(target.norm.weight, model.norm.weight) and torch.equal(target.table, model.table)
    dense = Model().eval()
    cdna.torch.load_model(dense, path)  # Decoded.
    torch.testing.assert_close(target(tokens), dense(tokens), rtol=1e-4, atol=1e-4)
    decoded = cdna.torch.load_module(Model().eval(), path, compressed=False)
    assert decoded.compressed == [] and {"down.weight", "up.weight"} <= set(decoded.decoded)


def test_memory_that_is_there_is_used_and_tensors_on_meta_take_the_files_type(model, tmp_path):
    path = saved(model.to(torch.bfloat16), tmp_path / "m.cdna", "cb8")
    target = Model()
    address, version = target.norm.weight.data_ptr(), target.norm.weight._version
    cdna.torch.load_module(target, path)
    assert target.norm.weight.data_ptr() == address and target.norm.weight._version > version
    assert target.norm.weight.dtype == torch.float32 and target.up.dtype == torch.float32
    meta = on_meta()
    cdna.torch.load_module(meta, path)
    assert meta.norm.weight.dtype == meta.up.dtype == meta.up.bias.dtype == torch.bfloat16 and meta.norm.weight.requires_grad
    meta = on_meta()
    cdna.torch.load_module(meta, path, dtype=torch.float16)
    assert meta.norm.weight.dtype == meta.up.dtype == torch.float16 and meta.table.dtype == torch.int64


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_compressed_layers_on_meta_take_the_files_type(by_name, dtype, tmp_path):
    model = nn.Sequential(nn.Linear(64, 128).to(torch.float16))
    if by_name:
        cdna.torch.replace_linears(model)
    path = saved(model, tmp_path / "m.cdna", "exact" if by_name else "cb8")
    layer = cdna.torch.CdnaLinear(64, 128, device="meta")
    cdna.torch.load_module(nn.Sequential(layer), path, dtype=dtype)
    wanted = dtype or torch.float16
    assert layer.dtype == layer.bias.dtype == layer.weight.dtype == layer.to_linear().weight.dtype == wanted
    here = cdna.torch.CdnaLinear(64, 128)
    cdna.torch.load_module(nn.Sequential(here), path, dtype=dtype)
    assert here.dtype == here.bias.dtype == torch.float32  # What has memory keeps its type.


def test_what_stays_on_meta_is_told(model, tmp_path):
    path = saved(model, tmp_path / "m.cdna", "cb8")
    meta = Model().to("meta")
    meta.lm_head.weight = meta.embed.weight
    with pytest.raises(RuntimeError, match="meta.*made"):
        cdna.torch.load_module(meta, path)
    assert cdna.torch.load_module(on_meta(), path, strict=False).on_meta == []


class Twice(nn.Module):
    """Each of its modules stands in two places."""

    def __init__(self, linear):
        super().__init__()
        self.a = nn.ModuleList([linear, nn.LayerNorm(64), nn.BatchNorm1d(64)])
        self.b = nn.ModuleList(self.a)


@pytest.mark.parametrize("start", ["meta", "cpu"])
@pytest.mark.parametrize("kind", ["dense", "compressed in the file", "planes", "outliers"])
def test_modules_in_two_places_are_loaded_once(kind, start, tmp_path):
    torch.manual_seed(12)
    linear = nn.Linear(64, 128)
    if kind in ("planes", "outliers"):
        linear = cdna.torch.CdnaLinear.from_linear(linear, "cb6g64" if kind == "planes" else "cb8,outliers=0.01")
    model = Twice(linear).eval()
    model.a[1].weight.data.normal_()
    model.a[2].running_mean.normal_()
    path = saved(model, tmp_path / "m.cdna", "cb8" if kind == "compressed in the file" else "exact")
    expected = model.a[0](torch.ones(1, 64))
    for load in (cdna.torch.load_module, cdna.torch.load_model):
        if start == "meta" and load is cdna.torch.load_model:
            continue
        fresh = cdna.torch.CdnaLinear(64, 128) if isinstance(linear, cdna.torch.CdnaLinear) else nn.Linear(64, 128)
        target = Twice(fresh).to(start).eval()
        result = load(target, path)
        assert list(result[0]) == list(result[1]) == []
        assert target.a[0] is target.b[0] and target.a[2] is target.b[2]
        torch.testing.assert_close(target.b[0](torch.ones(1, 64)), expected, rtol=0, atol=0.05 if kind.startswith("comp") else 0)
        for name, value in model.a[1:].state_dict().items():
            assert torch.equal(target.b[1:].state_dict()[name], value), name


def test_a_layer_in_two_places_takes_its_planes_under_either_name(tmp_path):
    linear = nn.Linear(64, 128, bias=False)
    cdna.torch.save_file({"b.weight": linear.weight.detach()}, tmp_path / "m.cdna", policy="cb8")
    target = nn.Module()
    target.a = target.b = cdna.torch.CdnaLinear(64, 128, False)
    assert cdna.torch.load_module(target, tmp_path / "m.cdna").compressed == ["b.weight"]
    assert (target.a.dequantize() - linear.weight).abs().max() < 0.01


def test_shapes_that_differ_are_an_error_with_their_names(model, tmp_path):
    path = saved(model, tmp_path / "m.cdna", "cb8")
    other = Model()
    other.up = nn.Linear(64, 127)
    with pytest.raises(RuntimeError, match=r"size mismatch for up.weight: \[128, 64\] in the file, \[127, 64\]"):
        cdna.torch.load_module(other, path, strict=False)


def test_integers_for_a_parameter_with_gradients_are_an_error_with_its_name(tmp_path):
    cdna.torch.save_file({"0.weight": torch.ones(4, dtype=torch.int64), "0.bias": torch.ones(4)}, tmp_path / "m.cdna")
    model = nn.Sequential(nn.LayerNorm(4, device="meta"))
    with pytest.raises(RuntimeError, match="0.weight is I64 in the file"):
        cdna.torch.load_module(model, tmp_path / "m.cdna")
    if hasattr(torch, "float8_e5m2"):  # Floats of any kind are none.
        cdna.torch.save_file({"0.weight": torch.ones(4).to(torch.float8_e5m2), "0.bias": torch.ones(4)}, tmp_path / "8.cdna")
        model = nn.Sequential(nn.LayerNorm(4, device="meta"))
        cdna.torch.load_module(model, tmp_path / "8.cdna")
        assert model[0].weight.dtype == torch.float8_e5m2


def test_a_damaged_file_is_an_error_with_the_tensor(model, tmp_path):
    path = saved(model, tmp_path / "m.cdna", "cb8")
    data = bytearray(path.read_bytes())
    with cdna.open(path) as file:
        codes = file["up.weight"].codes.tobytes()
    at = bytes(data).index(codes)
    data[at + 100] ^= 1
    path.write_bytes(data)
    for load in (cdna.torch.load_module, cdna.torch.load_model):
        with pytest.raises(cdna.CorruptError, match="up.weight"):
            load(Model(), path)


# ---- Memory ----


def measured(tmp_path, body):
    """Runs Python code with `peak()`: bytes that the process has held at most since `begin()`, without files' pages."""
    code = """
        import ctypes, gc, torch, cdna, cdna.torch
        from torch import nn
        def status(key):
            return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))
        def begin():
            gc.collect(); ctypes.CDLL(None).malloc_trim(0)
            open("/proc/self/clear_refs", "w").write("5")
            return status("VmRSS")
        def model(device=None):
            return nn.Sequential(*(nn.Linear(1024, 1024, bias=False, device=device) for _ in range(24)))
        torch.manual_seed(5)
        cdna.torch.CdnaLinear.from_linear(nn.Linear(64, 64))(torch.ones(1, 64))
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    code = textwrap.dedent(code) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


# 24 matrices: 96 MiB dense, 24 MiB compressed.
DENSE, COMPRESSED, LAYER, SLACK = 96 << 20, 24 << 20, 4 << 20, 12 << 20


def test_replacing_never_holds_more_than_the_model_and_a_layer(tmp_path):
    grown, left = measured(tmp_path, """
        dense = model()
        before = begin()
        cdna.torch.replace_linears(dense, "cb8")
        print(status("VmHWM") - before, before - status("VmRSS"))
    """)  # fmt: skip
    assert grown < LAYER + SLACK < COMPRESSED
    assert left > DENSE - COMPRESSED - SLACK


def test_loading_never_holds_dense_weights(tmp_path):
    held, with_products = measured(tmp_path, """
        import sys
        path = sys.argv[1] + "/m.cdna"
        dense = model()
        cdna.torch.save_model(dense, path, policy="cb8")
        del dense
        meta = model("meta")
        before = begin()
        cdna.torch.load_module(meta, path)
        print(status("VmHWM") - before)
        before = begin()
        with torch.no_grad():
            meta(torch.ones(1, 1024))
        print(status("VmHWM") - before)
    """)  # fmt: skip
    # The planes, and the file's pages once more.
    assert held < 2 * COMPRESSED + LAYER + SLACK < DENSE
    # Packing lets the copy of each layer go before the next.
    assert with_products < LAYER + SLACK < COMPRESSED
