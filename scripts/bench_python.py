"""Measures the Python package against NumPy, safetensors and the C++ tool of the same wheel, and prints ratios.

    VENV/bin/python bench_python.py [--model model.safetensors] [--wheel FILE] [--rounds N]

The interpreter's environment has the wheel (`cdna` and the tool) and safetensors. Everything that is compared takes turns; medians,
and for products the best as well, which says more on a busy machine. Files are in the page cache. Without --model a file with
the names, shapes and dtypes of all-MiniLM-L6-v2 is made.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import safetensors
import safetensors.numpy

import cdna

SEED = 20240611
HIDDEN, INTERMEDIATE, LAYERS, VOCABULARY, POSITIONS = 384, 1536, 6, 30522, 512
MATRIX = 4096


def minilm(path):
    """A file like that of all-MiniLM-L6-v2: 103 tensors, 91 MB of float32."""
    rng = np.random.default_rng(SEED)
    shapes = {"embeddings.word_embeddings.weight": (VOCABULARY, HIDDEN), "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
              "embeddings.token_type_embeddings.weight": (2, HIDDEN), "pooler.dense.weight": (HIDDEN, HIDDEN), "pooler.dense.bias": (HIDDEN,),
              "embeddings.LayerNorm.weight": (HIDDEN,), "embeddings.LayerNorm.bias": (HIDDEN,)}
    linears = {"attention.self.query": (HIDDEN, HIDDEN), "attention.self.key": (HIDDEN, HIDDEN), "attention.self.value": (HIDDEN, HIDDEN),
               "attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (INTERMEDIATE, HIDDEN), "output.dense": (HIDDEN, INTERMEDIATE)}
    for layer in range(LAYERS):
        for name, shape in linears.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shapes[f"encoder.layer.{layer}.{name}.bias"] = (HIDDEN,)
    safetensors.numpy.save_file({name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, path)


def seconds(call):
    begin = time.perf_counter()
    result = call()
    elapsed = time.perf_counter() - begin
    del result
    return elapsed


def contest(rounds, **calls):
    """{name: [seconds of each round]}: all calls take turns; a round before these does not count."""
    times = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            elapsed = seconds(call)
            if number:
                times[name].append(elapsed)
    return times


def row(what, value, reference, ratio, goal):
    print(f"{what:36}{value:>14}  {reference:32}{ratio:>22}  {goal}")


def import_time(rounds):
    code = "import numpy, time; t = time.perf_counter(); import cdna; print(time.perf_counter() - t)"
    base = "import time; t = time.perf_counter(); import numpy; print(time.perf_counter() - t)"

    def run(text):
        return float(subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout)

    both = [(run(code), run(base)) for _ in range(rounds)]
    ours, numpys = (1e3 * statistics.median(column) for column in zip(*both))
    row("import cdna, after numpy", f"{ours:.1f} ms", f"import numpy: {numpys:.1f} ms", f"{ours / numpys:.3f} of numpy's", "goal: < 50 ms")


def opens(source, exact, rounds):
    times = contest(10 * rounds, cdna=lambda: cdna.open(exact).close(), reference=lambda: safetensors.safe_open(source, "np"))
    ours, theirs = (1e3 * statistics.median(times[name]) for name in ("cdna", "reference"))
    row("cdna.open", f"{ours:.3f} ms", f"safe_open: {theirs:.3f} ms", f"{ours / theirs:.2f} of its time", "goal: + 1 ms at most")


def loads(source, exact, rounds):
    size = pathlib.Path(source).stat().st_size
    file = cdna.open(exact)

    def second_touch():
        return {name: tensor.numpy() for name, tensor in file.items()}

    times = contest(rounds, first=lambda: cdna.numpy.load_file(exact), second=second_touch, reference=lambda: safetensors.numpy.load_file(source))
    theirs = statistics.median(times["reference"])
    for name, what, goal in (("first", "load_file, exact, verified", "reported"), ("second", "the same, verified before", "goal: >= 0.9")):
        ours = statistics.median(times[name])
        row(what, f"{size / ours / 1e9:.2f} GB/s", f"load_file: {size / theirs / 1e9:.2f} GB/s", f"{theirs / ours:.2f} of its speed", goal)


def tool_speeds(path):
    """{(case, m): (median, best)} of `cdna bench matmul` with one thread, 10^9 weights per second for m = 1."""
    tool = pathlib.Path(sys.executable).parent / "cdna"
    done = subprocess.run([tool, "bench", "matmul", path, "w", "--json", "--case", "gemv.tensor.f32.T"], capture_output=True, text=True, check=True)
    found = [entry for entry in json.loads(done.stdout)["rows"] if entry["params"]["threads"] == 1]
    return found[0]["samples"]["median"], found[0]["samples"]["max"]


def products(folder, rounds):
    """m = 1 against the tool; what Python adds to any product against the call of the extension module, which has no arrays to look at."""
    path = folder / "w.cdna"
    rng = np.random.default_rng(SEED)
    cdna.save(path, {"w": rng.normal(size=(MATRIX, MATRIX)).astype(np.float32)}, "cb8")
    with cdna.open(path) as f:
        t = f["w"]
        t.verify()
        speeds, references = [], []
        x = rng.normal(size=(1, MATRIX)).astype(np.float32)
        y = np.empty((1, MATRIX), np.float32)
        for _ in range(5):
            references.append(tool_speeds(path))
            times = contest(4 * rounds, product=lambda: t.matmul(x, y, threads=1))["product"]
            speeds.append([MATRIX * MATRIX / which(times) / 1e9 for which in (statistics.median, min)])
        for column, what in enumerate(("median", "best")):
            ours, theirs = (sorted(entry[column] for entry in table)[2 if column == 0 else -1] for table in (speeds, references))
            row(f"Tensor.matmul, m = 1, 1 thread, {what}", f"{ours:.2f} Gw/s", f"cdna bench matmul: {theirs:.2f} Gw/s",
                f"{ours / theirs:.3f} of its speed", "goal: >= 0.95")
        for count in (1, 64):
            x = rng.normal(size=(count, MATRIX)).astype(np.float32)
            y = np.empty((count, MATRIX), np.float32)
            core = f._core
            times = contest(
                4 * rounds, python=lambda: t.matmul(x, y, threads=1),
                extension=lambda: core.matmul(t._number, 0, t.rows, x, "F32", y, "F32", False, "f32", 1))
            ours, theirs = (1e3 * statistics.median(times[name]) for name in ("python", "extension"))
            row(f"Tensor.matmul, m = {count}, 1 thread", f"{ours:.3f} ms", f"the extension's call: {theirs:.3f} ms", f"{theirs / ours:.3f} of its speed",
                "goal: >= 0.95")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--wheel", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        source, exact = options.model or folder / "model.safetensors", folder / "exact.cdna"
        if options.model is None:
            minilm(source)
        cdna.convert(source, exact)
        import_time(options.rounds)
        opens(source, exact, options.rounds)
        loads(source, exact, options.rounds)
        products(folder, options.rounds)
    if options.wheel:
        size = options.wheel.stat().st_size / 1e6
        row("wheel", f"{size:.2f} MB", "", "", "goal: < 5 MB")


if __name__ == "__main__":
    main()
