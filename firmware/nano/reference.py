#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Greedy reference in NumPy: float32 arithmetic on the weights of a Hugging
Face LLaMA folder, one token at a time. Independent of the training code.

    python3 reference.py FOLDER --prompt "Tell me a story about Mia."
    python3 reference.py FOLDER --golden golden.json
"""
import argparse
import json
import struct
from pathlib import Path
from typing import Dict, List

import numpy as np
import sentencepiece as spm

GOLDEN = {
    "empty": "",
    "once": "Once upon a time",
    "request": "Tell me a story about Flora and a green lantern.\n",
    "rain": "One rainy day, a small fox named Pip",
    "question": (
        "Nora had a silver whistle. She lost it, and she was sad. "
        "Then Leo found the whistle under the oak tree.\n"
        "Question: Where did Leo find the whistle? Answer:"),
    "self": "Question: Who are you? Answer:",
}


def load_safetensors(path: Path) -> Dict[str, np.ndarray]:
    """All tensors of the file as float32 arrays."""
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8:8 + size])
    kinds = {"F16": "<f2", "F32": "<f4"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = (8 + size + offset for offset in entry["data_offsets"])
            flat = np.frombuffer(raw[start:stop], kinds[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float32)
    return tensors


def rms_norm(x: np.ndarray, weight: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x) + np.float32(eps)) * weight


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Reference:
    """One model; `step` feeds one token and returns the logits [V]."""

    def __init__(self, folder: Path):
        self.config = json.loads((folder / "config.json").read_text())
        self.tensors = load_safetensors(folder / "model.safetensors")
        self.pieces = spm.SentencePieceProcessor(
            model_file=str(folder / "tokenizer.model"))
        self.heads = self.config["num_attention_heads"]
        self.head = self.config["hidden_size"] // self.heads
        self.groups = self.config["num_key_value_heads"]
        self.reset()

    def reset(self) -> None:
        """Forget the text: no keys and values, position 0."""
        layers = self.config["num_hidden_layers"]
        self.keys, self.values = ([[] for _ in range(layers)] for _ in range(2))
        self.position = 0

    def rotate(self, x: np.ndarray) -> np.ndarray:
        """Half-split RoPE of x [heads, E] at the current position."""
        half = self.head // 2
        angles = self.position * self.config["rope_theta"] ** (
            -np.arange(half) / half)
        cos, sin = np.cos(angles).astype("f4"), np.sin(angles).astype("f4")
        low, high = x[:, :half], x[:, half:]
        return np.concatenate((low * cos - high * sin, high * cos + low * sin), 1)

    def attention(self, x: np.ndarray, layer: int) -> np.ndarray:
        """x [D] -> [D]; appends this position's key and value."""
        weight = self.layer_weight(layer, "self_attn")
        q, k, v = ((weight(f"{n}_proj") @ x).reshape(-1, self.head) for n in "qkv")
        self.keys[layer].append(self.rotate(k))
        self.values[layer].append(v)
        repeat = self.heads // self.groups
        keys = np.repeat(np.stack(self.keys[layer], 1), repeat, 0)      # [H, T, E]
        values = np.repeat(np.stack(self.values[layer], 1), repeat, 0)
        scores = np.einsum("hte,he->ht", keys, self.rotate(q))
        shares = softmax(scores / np.float32(np.sqrt(self.head)))
        mixed = np.einsum("ht,hte->he", shares, values)
        return weight("o_proj") @ mixed.reshape(-1)

    def mlp(self, x: np.ndarray, layer: int) -> np.ndarray:
        weight = self.layer_weight(layer, "mlp")
        gate = weight("gate_proj") @ x
        return weight("down_proj") @ (gate / (1 + np.exp(-gate))
                                      * (weight("up_proj") @ x))

    def layer_weight(self, layer: int, part: str):
        prefix = f"model.layers.{layer}.{part}."
        return lambda name: self.tensors[f"{prefix}{name}.weight"]

    def step(self, token: int) -> np.ndarray:
        eps = self.config["rms_norm_eps"]
        embedding = self.tensors["model.embed_tokens.weight"]
        x = embedding[token]
        for layer in range(self.config["num_hidden_layers"]):
            before, after = (self.tensors[f"model.layers.{layer}.{name}.weight"]
                             for name in ("input_layernorm",
                                          "post_attention_layernorm"))
            x = x + self.attention(rms_norm(x, before, eps), layer)
            x = x + self.mlp(rms_norm(x, after, eps), layer)
        self.position += 1
        return embedding @ rms_norm(x, self.tensors["model.norm.weight"], eps)

    def prompt_ids(self, prompt: str) -> List[int]:
        return [self.config["bos_token_id"]] + self.pieces.encode(prompt)

    def greedy(self, ids: List[int], limit: int) -> List[int]:
        """`ids` and at most `limit` best tokens after them; EOS ends it (and is
        not part of the result)."""
        self.reset()
        ids = list(ids)
        for token in ids:
            logits = self.step(token)
        for _ in range(limit):
            token = int(np.argmax(logits))
            if token == self.config["eos_token_id"]:
                break
            ids.append(token)
            logits = self.step(token)
        return ids


def entry(model: Reference, prompt: str, limit: int) -> dict:
    prompt_ids = model.prompt_ids(prompt)
    ids = model.greedy(prompt_ids, limit)
    return {"prompt": prompt, "prompt_ids": prompt_ids, "ids": ids,
            "text": model.pieces.decode(ids[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description="greedy reference in NumPy")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt")
    parser.add_argument("--golden", type=Path, help="write the golden file")
    parser.add_argument("--limit", type=int, default=120, help="new tokens")
    args = parser.parse_args()
    model = Reference(args.folder)
    if args.golden:
        table = {name: entry(model, prompt, args.limit)
                 for name, prompt in GOLDEN.items()}
        args.golden.write_text(json.dumps(table, indent=1) + "\n")
    if args.prompt is not None:
        result = entry(model, args.prompt, args.limit)
        print(result["ids"], result["text"], sep="\n")


if __name__ == "__main__":
    main()
