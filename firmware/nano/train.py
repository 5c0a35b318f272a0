#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train the default model from scratch on the story grammar and write it out.

    nice -n 10 python3 train.py --out build/nano

Writes config.json, model.safetensors (float16), tokenizer.model, record.json
and loss.svg. A second call continues from checkpoint.pt if one is there.
"""
import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")    # kind to a shared machine

import numpy as np
import sentencepiece
import torch
from torch.nn import functional as F

import data
import evaluate
import figure
from model import CONFIG, Llama, cast_to_half, save_folder
from optimizer import Optimizer

RECIPE = {
    "steps": 6000, "tokens_per_step": 2048,
    "length": 256,              # tokens of a row of whole documents
    "warmup_steps": 100, "peak_rate": 3e-3, "last_rate": 1e-4,
    "betas": [0.9, 0.98], "weight_decay": 0.05, "clip": 1.0, "answer_weight": 4.0,
}


def learning_rate(recipe: dict, step: int, progress: float) -> float:
    """Linear warm-up, then a cosine from the peak to the last rate."""
    wave = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    rate = recipe["last_rate"] + (recipe["peak_rate"] - recipe["last_rate"]) * wave
    return rate * min(1.0, (step + 1) / recipe["warmup_steps"])


def train_step(model, optimizer, rows, weights, rate: float, clip: float):
    """One update. rows, weights [B, T + 1]; the documents of a row do not see each
    other. Returns the plain mean loss in nats per real token and the number of
    real tokens."""
    rows, weights = torch.from_numpy(rows), torch.from_numpy(weights)
    document = (rows[:, :-1] == data.BOS).cumsum(1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(rows[:, :-1], document)
    losses = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten(),
                             reduction="none")
    weights = weights[:, 1:].flatten()
    optimizer.zero_grad()
    ((losses * weights).sum() / weights.sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step(rate)
    real = weights > 0
    return losses.detach()[real].mean().item(), int(real.sum())


class Run:
    """State of one training run: model, optimizer, data position and curves."""

    def __init__(self, args, recipe: dict):
        torch.manual_seed(args.seed)
        self.args, self.recipe = args, recipe
        self.model = Llama(CONFIG)
        self.optimizer = Optimizer(self.model, recipe["betas"],
                                   recipe["weight_decay"])
        self.encode = data.Encoder(args.out / "tokenizer.model",
                                   recipe["answer_weight"])
        self.batches = data.Batches(self.encode, args.seed)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self.curve, self.held_out_curve = [], []
        self.checkpoint = args.out / "checkpoint.pt"
        if self.checkpoint.exists():
            self.restore()

    def save(self) -> None:
        state = {"model": self.model.state_dict(),
                 "optimizer": self.optimizer.state_dict(),
                 "position": self.batches.position,
                 "progress": (self.step, self.tokens, self.seconds),
                 "curves": (self.curve, self.held_out_curve)}
        scratch = self.checkpoint.with_suffix(".tmp")
        torch.save(state, scratch)
        os.replace(scratch, self.checkpoint)

    def restore(self) -> None:
        state = torch.load(self.checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches = data.Batches(self.encode, self.args.seed, state["position"])
        self.step, self.tokens, self.seconds = state["progress"]
        self.curve, self.held_out_curve = state["curves"]
        print(f"continuing at step {self.step}", flush=True)

    def progress(self) -> float:
        """0 .. 1; the time limit only counts when it is the tighter one."""
        share = self.step / self.recipe["steps"]
        if self.args.minutes:
            share = max(share, self.seconds / (60 * self.args.minutes))
        return share

    def train(self) -> None:
        recipe, held_out = self.recipe, evaluate.held_out_documents(self.encode, 60)
        recent = []
        while (progress := self.progress()) < 1:
            started = time.monotonic()
            rate = learning_rate(recipe, self.step, progress)
            batch = self.batches.next(recipe["tokens_per_step"], recipe["length"])
            loss, tokens = train_step(self.model, self.optimizer, *batch, rate,
                                      recipe["clip"])
            self.step, self.tokens = self.step + 1, self.tokens + tokens
            self.seconds += time.monotonic() - started
            recent.append(loss)
            if self.step % 25 == 0:
                self.report(recent, rate)
                recent = []
            if self.step % 250 == 0:
                value, _ = evaluate.mean_loss(self.model, held_out, fast=True)
                self.held_out_curve.append([self.step, round(value, 4)])
                print(f"step {self.step} held-out loss {value:.4f}", flush=True)
                self.save()
        self.save()

    def report(self, losses, rate: float) -> None:
        loss, progress = float(np.mean(losses)), self.progress()
        self.curve.append([self.step, round(loss, 4)])
        left = self.seconds * (1 / max(progress, 1e-9) - 1)
        print(f"step {self.step}/{self.recipe['steps']} loss {loss:.4f} "
              f"rate {rate:.2e} tokens/s {self.tokens / self.seconds:.0f} "
              f"elapsed {self.seconds:.0f} s, about {left:.0f} s left", flush=True)


def write_record(run: Run, metrics: dict) -> None:
    """record.json: everything a reader needs to judge or repeat the run."""
    record = {
        "config": CONFIG, "recipe": run.recipe, "seed": run.args.seed,
        "threads": run.args.threads, "time_limit_minutes": run.args.minutes,
        "parameters": sum(w.numel() for w in run.model.parameters()),
        "steps": run.step, "tokens": run.tokens,
        "train_seconds": round(run.seconds, 1), "metrics": metrics,
        "versions": {"python": platform.python_version(),
                     "torch": torch.__version__, "numpy": np.__version__,
                     "sentencepiece": sentencepiece.__version__},
        "loss": run.curve, "held_out_loss": run.held_out_curve,
    }
    text = json.dumps(record, indent=1)
    (run.args.out / "record.json").write_text(text + "\n")
    figure.draw(record, run.args.out / "loss.svg")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    parser.add_argument("--steps", type=int, default=RECIPE["steps"])
    parser.add_argument("--minutes", type=float, default=0,
                        help="finish early after this time (0: no limit)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "tokenizer.model").exists():
        data.train_tokenizer(args.out, CONFIG["vocab_size"], args.seed)
    run = Run(args, dict(RECIPE, steps=args.steps))
    torch.set_flush_denormal(True)             # tiny gradients are slow
    run.train()
    torch.set_flush_denormal(False)
    cast_to_half(run.model)
    save_folder(run.model, args.out)
    metrics = evaluate.all_metrics(run.model, run.encode)
    print(json.dumps(metrics, indent=1))
    write_record(run, metrics)


if __name__ == "__main__":
    main()
