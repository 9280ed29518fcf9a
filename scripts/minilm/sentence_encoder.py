"""all-MiniLM-L6-v2 as numpy: a BERT of 6 layers, the mean over its tokens, normalized; f32 throughout.

Source: J. Devlin et al., "BERT" (2019); the pooling is that of the model's card. No dropout, no position ids but 0, 1, 2…
"""
import json

import numpy as np
import tokenizers

BATCH = 32
# A finite stand-in for minus infinity: exp() of a score this much smaller than the others is 0.
MASKED = np.float32(-1e9)


def erf(x):
    """Within 1.5e-7 (f32: 5e-7) of the error function. Source: Abramowitz and Stegun, formula 7.1.26."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = np.float32(1.061405429) * t
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial += np.float32(coefficient)
        polynomial *= t
    polynomial *= np.exp(-size * size)
    return np.copysign(1 - polynomial, x)


def gelu(x):
    return np.float32(0.5) * x * (1 + erf(x * np.float32(0.5 ** 0.5)))


def softmax(scores):
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


class SentenceEncoder:
    """`folder` has config.json; `weights` are arrays by name, as safetensors.numpy loads them."""

    def __init__(self, folder, weights):
        config = json.loads((folder / "config.json").read_text("utf-8"))
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = np.float32(config["layer_norm_eps"])
        if config["hidden_act"] != "gelu" or config["position_embedding_type"] != "absolute":
            raise ValueError(f"{folder}/config.json: not the model that this is written for")
        self.weights = weights

    def encode(self, tokens):
        """One normalized row for each list of token ids, in the order of `tokens`."""
        # Sentences of about one length together: there is little padding.
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        rows = np.empty((len(tokens), self.weights["embeddings.word_embeddings.weight"].shape[1]), np.float32)
        for first in range(0, len(order), BATCH):
            batch = order[first:first + BATCH]
            rows[batch] = self.encode_batch([tokens[i] for i in batch])
        return rows

    def encode_batch(self, batch):
        lengths = np.array([len(ids) for ids in batch])
        is_token = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(is_token.shape, np.int64)
        ids[is_token] = np.concatenate(batch)
        bias = np.where(is_token, np.float32(0), MASKED)[:, None, None, :]
        x = self.embed(ids)
        for layer in range(self.layers):
            x = self.transform(x, bias, f"encoder.layer.{layer}")
        mean = (x * is_token[:, :, None]).sum(axis=1) / lengths[:, None].astype(np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def embed(self, ids):
        part = "embeddings"
        x = self.weights[f"{part}.word_embeddings.weight"][ids]
        x += self.weights[f"{part}.position_embeddings.weight"][:ids.shape[1]]
        x += self.weights[f"{part}.token_type_embeddings.weight"][0]
        return self.normalize(x, f"{part}.LayerNorm")

    def transform(self, x, bias, layer):
        attended = self.linear(self.attend(x, bias, f"{layer}.attention.self"), f"{layer}.attention.output.dense")
        x = self.normalize(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = gelu(self.linear(x, f"{layer}.intermediate.dense"))
        return self.normalize(x + self.linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")

    def attend(self, x, bias, part):
        sentences, length, width = x.shape
        query, key, value = (self.linear(x, f"{part}.{name}").reshape(sentences, length, self.heads, -1).transpose(0, 2, 1, 3)
                             for name in ("query", "key", "value"))  # [sentence, head, token, width of a head]
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(query.shape[-1] ** 0.5) + bias
        return (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(sentences, length, width)

    def linear(self, x, part):
        weight = self.weights[f"{part}.weight"]
        return (x.reshape(-1, x.shape[-1]) @ weight.T + self.weights[f"{part}.bias"]).reshape(*x.shape[:-1], len(weight))

    def normalize(self, x, part):
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.epsilon)
        return x * self.weights[f"{part}.weight"] + self.weights[f"{part}.bias"]


def tokenize(folder, sentences):
    """A list of token ids for each sentence, with [CLS] and [SEP], no padding."""
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    limit = json.loads((folder / "sentence_bert_config.json").read_text("utf-8"))["max_seq_length"]
    tokenizer.enable_truncation(limit)
    return [encoding.ids for encoding in tokenizer.encode_batch(sentences)]
