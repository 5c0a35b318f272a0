# SPDX-License-Identifier: MIT
"""LLaMA in plain PyTorch, and its Hugging Face folder (config + safetensors).

Shapes: B rows, T positions, D hidden, H query heads, K key/value heads,
G = H / K, E = D / H head size, F feed-forward, V vocabulary.
"""
import json
import math
import struct
from pathlib import Path
from typing import Dict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 5,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "hidden_act": "silu", "tie_word_embeddings": True,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "float16",
}


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x):
        """x [..., D] -> same shape, unit mean square times weight."""
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(positions: int, head: int, theta: float):
    """cos, sin [positions, E]; the two halves of E hold the same angles."""
    inverse = theta ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), inverse)
    angles = torch.cat((angles, angles), -1)
    return angles.cos().float(), angles.sin().float()


def rotate(x, cos, sin):
    """Half-split RoPE: x [..., T, E], tables [T, E]."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Layer(nn.Module):
    """One decoder layer; q/k/v and gate/up are fused for speed in training."""

    def __init__(self, config: dict):
        super().__init__()
        size, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, self.groups = (config["num_attention_heads"],
                                   config["num_key_value_heads"])
        self.head = size // self.heads
        self.kv = self.groups * self.head
        eps = config["rms_norm_eps"]
        self.attention_norm, self.mlp_norm = RMSNorm(size, eps), RMSNorm(size, eps)
        self.qkv = nn.Linear(size, size + 2 * self.kv, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.gate_up = nn.Linear(size, 2 * inner, bias=False)
        self.down = nn.Linear(inner, size, bias=False)

    def attention(self, x, cos, sin, mask):
        """x [B, T, D] -> [B, T, D]; query head h reads key head h // G."""
        rows, length, size = x.shape
        q, k, v = self.qkv(x).split((size, self.kv, self.kv), -1)
        shape = rows, length, -1, self.head
        q, k, v = (t.view(shape).transpose(1, 2) for t in (q, k, v))
        q, k = rotate(q / math.sqrt(self.head), cos, sin), rotate(k, cos, sin)
        q = q.reshape(rows, self.groups, -1, self.head)            # [B, K, G*T, E]
        scores = q @ k.transpose(-1, -2)
        mixed = (scores + mask.to(scores.dtype)).softmax(-1) @ v
        mixed = mixed.view(rows, self.heads, length, self.head)
        return self.out(mixed.transpose(1, 2).reshape(rows, length, size))

    def forward(self, x, cos, sin, mask):
        x = x + self.attention(self.attention_norm(x), cos, sin, mask)
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.config = dict(config)
        size = config["hidden_size"]
        self.embedding = nn.Embedding(config["vocab_size"], size)
        self.layers = nn.ModuleList(
            Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(size, config["rms_norm_eps"])
        cos, sin = rope_tables(config["max_position_embeddings"],
                               size // config["num_attention_heads"],
                               config["rope_theta"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.reset()

    def reset(self) -> None:
        """Normal(0, 0.02); residual outputs shrink with depth."""
        shrink = 1 / math.sqrt(2 * len(self.layers))
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 * (shrink if residual else 1))

    def mask(self, length: int, document=None):
        """Additive mask [1 or B, 1, G*T, T]: causal, and with `document` [B, T]
        (document number of each token) no sight of other documents."""
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)[None]
        if document is not None:
            hidden = hidden | (document[:, :, None] != document[:, None, :])
        repeat = self.layers[0].heads // self.layers[0].groups
        return torch.zeros(hidden.shape).masked_fill_(hidden, -1e9).repeat(
            1, repeat, 1)[:, None]

    def forward(self, ids, document=None):
        """ids [B, T] int64 -> logits [B, T, V] (tied embedding)."""
        length = ids.shape[1]
        mask = self.mask(length, document)
        cos, sin = self.cos[:length], self.sin[:length]
        if torch.is_autocast_cpu_enabled():    # half the memory traffic
            mask, cos, sin = mask.bfloat16(), cos.bfloat16(), sin.bfloat16()
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return F.linear(self.norm(x), self.embedding.weight)


def to_huggingface(model: Llama) -> Dict[str, np.ndarray]:
    """The weights under their Hugging Face names, as float16 [out, in]."""
    tensors = {"model.embed_tokens.weight": model.embedding.weight,
               "model.norm.weight": model.norm.weight}
    for i, layer in enumerate(model.layers):
        q, k, v = layer.qkv.weight.split(
            (layer.heads * layer.head, layer.kv, layer.kv))
        gate, up = layer.gate_up.weight.chunk(2)
        parts = {"input_layernorm": layer.attention_norm.weight,
                 "post_attention_layernorm": layer.mlp_norm.weight,
                 "self_attn.q_proj": q, "self_attn.k_proj": k,
                 "self_attn.v_proj": v, "self_attn.o_proj": layer.out.weight,
                 "mlp.gate_proj": gate, "mlp.up_proj": up,
                 "mlp.down_proj": layer.down.weight}
        tensors.update({f"model.layers.{i}.{name}.weight": part
                        for name, part in parts.items()})
    return {name: tensor.detach().numpy().astype(np.float16)
            for name, tensor in tensors.items()}


def cast_to_half(model: Llama) -> None:
    """Round every weight to float16 in place (it stays stored as float32)."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())


def save_safetensors(path: Path, tensors: Dict[str, np.ndarray]) -> None:
    """8-byte little-endian header length, JSON header, raw rows; names sorted."""
    header, data = {"__metadata__": {"format": "pt"}}, []
    offset = 0
    for name in sorted(tensors):
        raw = np.ascontiguousarray(tensors[name], dtype="<f2").tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensors[name].shape),
                        "data_offsets": [offset, offset + len(raw)]}
        data.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def save_folder(model: Llama, folder: Path) -> None:
    """config.json and model.safetensors (tokenizer.model is there already)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config, indent=1) + "\n")
    save_safetensors(folder / "model.safetensors", to_huggingface(model))
