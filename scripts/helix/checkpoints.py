"""HXQ checkpoints by helix-substrate's own code and transformers. Runs where both are installed:

    VENV/bin/python checkpoints.py write FOLDER SEED     a small Llama with random weights, FOLDER/dense, compressed: FOLDER/hxq
    VENV/bin/python checkpoints.py compare A B           {"difference": what its loader makes differently of the two, or "",
                                                          "modules": how many of A are compressed}
"""
import json
import pathlib
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import helix_substrate.hf_quantizer  # noqa: F401  # registers its checkpoints with transformers
from helix_substrate.cdnav3_writer import CDNAv3Writer
from helix_substrate.convert_safetensors import convert_model
from helix_substrate.helix_linear import HelixLinear


def write(folder, seed):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=300, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).float()
    model.save_pretrained(folder / "dense", safe_serialization=True)
    writer = CDNAv3Writer(folder / "v3")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name.startswith("model.layers."):
            weight = module.weight.detach().numpy().copy()
            weight.reshape(-1)[:: 1 + weight.size // 50] *= 20  # Outliers: a sidecar.
            writer.write_tensor(weight, f"{name}.weight")
    convert_model(str(folder / "v3"), str(folder / "dense"), str(folder / "hxq"))


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def logits(model):
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits.numpy()


def helix_weights(model):
    return {name: module.decode_weight().numpy() for name, module in model.named_modules() if isinstance(module, HelixLinear)}


def difference(first, second):
    """What the two models differ in, or ""."""
    a, b = helix_weights(first), helix_weights(second)
    if a.keys() != b.keys():
        return f"{len(a)} and {len(b)} compressed modules"
    for name in a:
        if a[name].tobytes() != b[name].tobytes():
            return f"{name}: other weights"
    if not np.array_equal(logits(first), logits(second)):
        return "other logits"
    return ""


def main():
    if sys.argv[1] == "write":
        write(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
    else:
        models = [load(folder) for folder in sys.argv[2:]]
        print(json.dumps({"difference": difference(*models), "modules": len(helix_weights(models[0]))}))


if __name__ == "__main__":
    main()
