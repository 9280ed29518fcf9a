"""libcdna's side of scripts/bench_helix.py: one task a process. PYTHON measure_cdna.py TASK ARGUMENT..."""
import pathlib

import meters
import numpy as np

import cdna

NAME = "model.layers.0.mlp.up_proj.weight"
CODEBOOK_ROLE, OUTLIERS_ROLE, CODES_ROLE = 3, 7, 2  # spec/format.md, 7.4.


def versions():
    return {"libcdna": cdna.__version__, "numpy": np.__version__}


def encode(matrix, path, preset):
    weights = np.load(matrix)
    seconds, _ = meters.timed(lambda: cdna.save(path, {NAME: weights}, preset, threads=1))
    peak = meters.peak_bytes()
    with cdna.open(path) as file:
        tensor = file[NAME]
        return {"seconds": seconds, "peak_bytes": peak, "bits": tensor.bits_per_weight, "outliers": len(tensor.outliers.values),
                "snr_db": meters.snr_db(weights, tensor.numpy("float32"))}


def decode(path, rounds):
    """A file that was never read, each time: every block is verified, then decoded."""

    def work():
        with cdna.open(path) as file:
            return file[NAME].numpy("float32", threads=1)

    return {"seconds": meters.median_seconds(work, int(rounds)), "peak_bytes": meters.peak_bytes()}


def product(path, x):
    """x W, as the original's loop."""
    with cdna.open(path) as file:
        return x @ file[NAME]


def matmul(path, rows, rounds):
    with cdna.open(path) as file:
        x = np.random.default_rng(3).normal(size=(int(rows), file[NAME].shape[0])).astype(np.float32)
    with meters.PrivateGrowth() as growth:
        product(path, x)
    return {"seconds": meters.median_seconds(lambda: product(path, x), int(rounds)), "private_bytes": growth.bytes}


def linear(path, rounds):
    """y = W x with one row of x."""

    def work():
        with cdna.open(path) as file:
            return file[NAME].matmul(x, threads=1)

    with cdna.open(path) as file:
        x = np.random.default_rng(3).normal(size=file[NAME].shape[1]).astype(np.float32)
    with meters.PrivateGrowth() as growth:
        work()
    return {"seconds": meters.median_seconds(work, int(rounds)), "private_bytes": growth.bytes}


def parts_of(content):
    """{part: [(begin, end), ...]}: planes, the index behind them, and all else."""
    with cdna.open(content) as file:
        planes = file[NAME]._plane_infos()
    places = {plane["role"]: (plane["offset"], plane["offset"] + plane["stored_bytes"]) for plane in planes}
    last = max(end for _, end in places.values())
    index_begin = -(-last // 64) * 64
    index_end = index_begin + 64 * sum(plane["block_count"] for plane in planes)
    return {"header": [(0, 64), (index_end, len(content))], "codebook": [places[CODEBOOK_ROLE]],
            "index": [(index_begin, index_end)], "payload": [places[CODES_ROLE]], "sidecar": [places[OUTLIERS_ROLE]]}


def flips(path, count, seed):
    """Noticed: opening, checking or decoding raises."""
    content = pathlib.Path(path).read_bytes()

    def read(changed):
        with cdna.open(changed) as file:
            file.verify(level="deep")
            file[NAME].numpy("float32")

    return meters.flips(content, parts_of(content), lambda changed: meters.raises(lambda: read(changed)), int(count), int(seed))


TASKS = {"versions": versions, "encode": encode, "decode": decode, "matmul": matmul, "linear": linear, "flips": flips}

if __name__ == "__main__":
    meters.answer(TASKS)
