"""Writes a small Llama-shaped Hugging Face folder with heavy-tailed weights, the same bytes on every run.

    python3 make_synthetic_model.py FOLDER

The weights are not trained, but shaped like trained ones: a Student t distribution with 4 degrees of freedom, times a scale
of each row, with a few columns that are larger than the rest. Norms lie around 1. Matrices of the layers are bf16; the
embedding, the norms and the biases are f32. Needs nothing but Python.
"""
import array
import json
import math
import operator
import pathlib
import random
import struct
import sys

VOCABULARY, HIDDEN, INTERMEDIATE, LAYERS, HEADS = 8192, 512, 1408, 2, 8
SEED = 20240607
LEVELS = 1 << 16


def student_t4_quantile(p):
    """Source: W. Shaw, "Sampling Student's T distribution" (2006), the closed form for 4 degrees of freedom."""
    root = math.sqrt(4 * p * (1 - p))
    size = 2 * math.sqrt(math.cos(math.acos(root) / 3) / root - 1)
    return math.copysign(size, p - 0.5)


# A weight is one of 65536 quantiles times the scales of its row and column. The standard deviation of t(4) is √2.
QUANTILES = [student_t4_quantile((i + 0.5) / LEVELS) / math.sqrt(2) for i in range(LEVELS)]


def matrix(rng, rows, columns, deviation, outlier_columns):
    """The values of [rows, columns] as f32."""
    column_scales = [1.0] * columns
    for column in rng.sample(range(columns), outlier_columns):
        column_scales[column] = rng.uniform(4, 10)
    values = array.array("f")
    for _ in range(rows):
        scale = deviation * math.exp(rng.gauss(0, 0.3))
        row = map(QUANTILES.__getitem__, array.array("H", rng.randbytes(2 * columns)))
        values.extend(map(operator.mul, row, [scale * column for column in column_scales]))
    return values


def near(rng, count, mean, deviation):
    return array.array("f", [rng.gauss(mean, deviation) for _ in range(count)])


def to_bf16(values):
    """The upper halves, rounded to nearest, ties to even. Requires: finite values."""
    words = array.array("I", values.tobytes())
    return array.array("H", [(word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words])


def tensors(rng):
    """Yields (name, dtype, shape, values)."""
    def weights(name, rows, columns):
        return name + ".weight", "BF16", [rows, columns], to_bf16(matrix(rng, rows, columns, 0.02, columns // 128))

    def bias(name, count):
        return name + ".bias", "F32", [count], near(rng, count, 0, 0.3)

    def norm(name):
        return name + ".weight", "F32", [HIDDEN], near(rng, HIDDEN, 1, 0.2)

    yield "model.embed_tokens.weight", "F32", [VOCABULARY, HIDDEN], matrix(rng, VOCABULARY, HIDDEN, 0.03, 3)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        yield norm(prefix + "input_layernorm")
        for part in "qkvo":
            yield weights(f"{prefix}self_attn.{part}_proj", HIDDEN, HIDDEN)
            yield bias(f"{prefix}self_attn.{part}_proj", HIDDEN)
        yield norm(prefix + "post_attention_layernorm")
        yield weights(prefix + "mlp.gate_proj", INTERMEDIATE, HIDDEN)
        yield weights(prefix + "mlp.up_proj", INTERMEDIATE, HIDDEN)
        yield weights(prefix + "mlp.down_proj", HIDDEN, INTERMEDIATE)
    yield norm("model.norm")


def write_safetensors(path, named):
    header, offset = {"__metadata__": {"format": "pt", "seed": str(SEED)}}, 0
    for name, dtype, shape, values in named:
        end = offset + len(values) * values.itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, values in named:
            values.tofile(file)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    named = list(tensors(random.Random(SEED)))
    write_safetensors(folder / "model.safetensors", named)
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "vocab_size": VOCABULARY, "max_position_embeddings": 2048, "rms_norm_eps": 1e-05,
        "attention_bias": True, "tie_word_embeddings": True, "torch_dtype": "bfloat16"})
    write_json(folder / "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "unk_token": "w0", "vocab": {f"w{i}": i for i in range(VOCABULARY)}}})
    size = sum(len(values) * values.itemsize for _, _, _, values in named)
    print(f"{len(named)} tensors, {size:,} bytes of weights in {folder}")


if __name__ == "__main__":
    main()
