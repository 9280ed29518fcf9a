"""Measures what every preset does to all-MiniLM-L6-v2: size, error of the weights, and of the sentence embeddings made with them.

    python3 evaluate.py MODEL TOOLS [--presets cb8,cb4g32] [--embeddings exact,cb8,same] [--noise 44,40] [--out FOLDER]

MODEL is the folder of the model, TOOLS that of cdna and cdna-inspect. Converts the model, exports it as f32, runs it dense and decoded
over sentences.txt, and writes table.md and results.json into FOLDER. Needs what requirements.txt lists (scripts/evaluate_minilm.sh
sets all this up). Exits with 1 if a preset is unknown, a tool fails, or a lossless preset changes an embedding.
"""
import argparse
import dataclasses
import hashlib
import pathlib
import statistics
import sys
import time

import numpy as np
import safetensors.numpy
import tokenizers
from agreement import Search, agreement
from encoder_check import check
from references import as_bf16, snrs_db, with_noise
from sentence_encoder import SentenceEncoder, tokenize
from table import document, markdown
from variants import CODEBOOK_PRESETS, EMBEDDINGS, LOSSLESS_PRESETS, PRESETS, ToolError, Tools, variants

SENTENCES = pathlib.Path(__file__).with_name("sentences.txt")
SENTENCES_MIN = 500


def read_sentences(model):
    """(sentences, tokens): at least 500, no two with the same tokens."""
    sentences = [line for line in SENTENCES.read_text("utf-8").splitlines() if line and not line.startswith("# ")]
    tokens = tokenize(model, sentences)
    first_with = {}
    for sentence, ids in zip(sentences, tokens):
        if (twin := first_with.setdefault(tuple(ids), sentence)) is not sentence:
            sys.exit(f"{SENTENCES}: these are the same to the model:\n{twin}\n{sentence}")
    if len(sentences) < SENTENCES_MIN:
        sys.exit(f"{SENTENCES}: {len(sentences)} sentences, at least {SENTENCES_MIN} are needed")
    return sentences, tokens


def errors_of(snrs_db):
    """Over the tensors that are approximations."""
    return {"snr_db_worst": min(snrs_db, default=None), "snr_db_mean": statistics.fmean(snrs_db) if snrs_db else None,
            "tensors_compressed": len(snrs_db)}


class Evaluation:
    """The dense model's search, and what else the variants have in common."""

    def __init__(self, options):
        self.model, self.out = options.model, options.out
        self.tools = Tools(options.tools)
        self.source = self.model / "model.safetensors"
        self.sentences, self.tokens = read_sentences(self.model)
        self.weights = safetensors.numpy.load_file(self.source)
        encoder = SentenceEncoder(self.model, self.weights)
        rows = encoder.encode(self.tokens)
        self.checks = check(encoder, self.model, self.tokens, rows)
        self.dense = Search(rows)

    def about(self):
        return {"version": self.tools.version(), "numpy": np.__version__, "tokenizers": tokenizers.__version__,
                "source_bytes": self.source.stat().st_size, "sentences": len(self.sentences),
                "sentences_sha256": hashlib.sha256(SENTENCES.read_bytes()).hexdigest(), "encoder_differences": self.checks}

    def agreement(self, weights):
        return dataclasses.asdict(agreement(self.dense, Search(SentenceEncoder(self.model, weights).encode(self.tokens))))

    def reference(self, name, weights, size_bytes):
        return {"preset": f"({name})", "embeddings": None, "bytes": size_bytes,
                **errors_of(list(snrs_db(self.weights, weights))), **self.agreement(weights)}

    def references(self, noises_db):
        size_bytes = self.source.stat().st_size
        yield self.reference("rounded to bf16", as_bf16(self.weights), size_bytes // 2)
        for decibels in noises_db:
            yield self.reference(f"noise at {decibels:g} dB", with_noise(self.weights, decibels), size_bytes)

    def measure(self, variant):
        file, export = self.out / "model.cdna", self.out / "decoded.safetensors"
        self.tools.convert(self.model, variant, file)
        self.tools.export(file, export)
        errors = [tensor["error"]["snr_db"] for tensor in self.tools.inspect(file)["tensors"] if tensor["error"]]
        return {"preset": variant.preset, "embeddings": variant.embeddings, "bytes": file.stat().st_size,
                **errors_of(errors), **self.agreement(safetensors.numpy.load_file(export))}


def choice_of(known):
    """A parser of comma-separated names."""
    def parse(text):
        chosen = list(dict.fromkeys(text.split(",")))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown: {name!r}; known are {', '.join(known)}")
        return chosen
    return parse


def parse_arguments():
    parser = argparse.ArgumentParser(description="Measures what every preset does to all-MiniLM-L6-v2.")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("tools", type=pathlib.Path)
    parser.add_argument("--presets", type=choice_of(PRESETS), default=PRESETS, metavar="NAME,…", help="; ".join(PRESETS))
    parser.add_argument("--embeddings", type=choice_of(EMBEDDINGS), default=EMBEDDINGS, metavar="NAME,…",
                        help=f"what they get with {', '.join(CODEBOOK_PRESETS)}: exact, cb8, or the same preset")
    parser.add_argument("--noise", type=lambda text: [float(part) for part in text.split(",")], default=[], metavar="DB,…",
                        help="also the dense model with white noise in its matrices, so many dB below them")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/minilm"), metavar="FOLDER")
    return parser.parse_args()


def main():
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    evaluation = Evaluation(options)
    print(f"{len(evaluation.sentences)} sentences, {sum(map(len, evaluation.tokens))} tokens; the encoder differs from published cosines by "
          f"{evaluation.checks['published_cosines']:.1e}, which have 4 digits", flush=True)
    rows = list(evaluation.references(options.noise))
    for variant in variants(options.presets, options.embeddings):
        if not evaluation.tools.can_convert(variant):
            print(f"{variant.name} is left out: this cdna convert has no --policy", flush=True)
            continue
        rows.append(evaluation.measure(variant))
        print(f"[{time.monotonic() - begin:3.0f} s] {variant.name}", flush=True)
    table = markdown(rows, evaluation.source.stat().st_size)
    (options.out / "table.md").write_text(table, "utf-8")
    (options.out / "results.json").write_text(document(rows, **evaluation.about()), "utf-8")
    print(f"\n{table}\nAlso in {options.out}/table.md; {options.out}/results.json has more digits.")
    for row in rows:
        if row["preset"] in LOSSLESS_PRESETS and row["distance_max"] != 0:
            sys.exit(f"{row['preset']} is lossless, but changes an embedding by {row['distance_max']}")


if __name__ == "__main__":
    try:
        main()
    except ToolError as error:
        sys.exit(str(error))
