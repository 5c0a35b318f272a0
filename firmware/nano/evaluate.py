# SPDX-License-Identifier: MIT
"""Held-out measures: perplexity, and exact-match accuracy of greedy answers."""
import collections
import contextlib
import math
import random
from typing import List, Tuple

import torch
from torch.nn import functional as F

import corpus
import data

SEED = 2024                    # of the held-out stream


def held_out_documents(encode: data.Encoder, count: int) -> List[data.Encoded]:
    documents = corpus.stream(SEED, held_out=True)
    return [encode(next(documents)) for _ in range(count)]


def batches(documents: List[data.Encoded], size: int = 16):
    """Padded id batches [size, T], similar lengths together."""
    documents = sorted(documents, key=lambda doc: len(doc.ids))
    for i in range(0, len(documents), size):
        yield documents[i:i + size]


def all_logits(model, documents, fast: bool):
    """ids [B, T] and logits [B, T, V]; `fast` computes in bfloat16."""
    ids = torch.from_numpy(data.padded(documents))
    numbers = torch.autocast("cpu", torch.bfloat16) if fast else (
        contextlib.nullcontext())
    with torch.no_grad(), numbers:
        return ids, model(ids).float()


def mean_loss(model, documents, fast: bool = False) -> Tuple[float, int]:
    """(nats per token, tokens) over all tokens after BOS, EOS included."""
    total, tokens = 0.0, 0
    for batch in batches(documents):
        ids, logits = all_logits(model, batch, fast)
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:],
                                 reduction="none")
        real = ids[:, 1:] != data.IGNORE
        total += losses[real].sum().item()
        tokens += int(real.sum())
    return total / tokens, tokens


def perplexity(model, encode: data.Encoder, count: int = 400) -> dict:
    stream = corpus.stream(SEED, held_out=True)
    texts = [next(stream) for _ in range(count)]
    loss, tokens = mean_loss(model, [encode(text) for text in texts])
    size = sum(len(text.encode()) for text in texts)
    return {"documents": count, "tokens": tokens, "bytes": size,
            "loss_per_token": round(loss, 4),
            "perplexity_per_token": round(math.exp(loss), 3),
            "perplexity_per_byte": round(math.exp(loss * tokens / size), 4)}


def question_documents(stories: int, facts: int):
    """(label, text) pairs: every question of held-out stories and facts asked
    alone, right after the text; then every general question."""
    rng = random.Random(f"{SEED}/questions")
    rows = []
    for kind, count in (("story", stories), ("facts", facts)):
        for _ in range(count):
            make = corpus.make_story if kind == "story" else corpus.make_facts
            document = make(rng, held_out=True)
            rows += [((kind, label), f"{document.text}\n"
                      + corpus.question_line(question, answer))
                     for label, question, answer in document.questions]
    rows += [(("general", label), corpus.question_line(question, answer))
             for label, question, answer in corpus.KNOWLEDGE]
    return rows


def right_answers(model, encode: data.Encoder, texts) -> List[bool]:
    """Would greedy decoding give exactly the expected answer?

    Greedy output equals the answer if and only if, with the answer as input,
    the best token at every place is the answer's own next token, and the best
    token after it ends the line or the text. One pass tells that.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    right = [False] * len(texts)
    for start in range(0, len(order), 16):
        part = order[start:start + 16]
        documents = [encode(texts[i]) for i in part]
        ids, logits = all_logits(model, documents, fast=False)
        best = logits.argmax(-1)
        for row, (i, doc) in enumerate(zip(part, documents)):
            (begin, stop), = encode.answers(doc.ids)
            guess = best[row, begin - 1:stop - 1].tolist()
            right[i] = (guess[:-1] == doc.ids[begin:stop - 1]
                        and guess[-1] in (encode.newline, data.EOS))
    return right


def accuracy(model, encode: data.Encoder, stories: int = 150,
             facts: int = 50) -> dict:
    """Counts [right, asked] by source and by question type."""
    rows = question_documents(stories, facts)
    right = right_answers(model, encode, [text for _, text in rows])
    table = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, 0]))
    for ((kind, label), _), good in zip(rows, right):
        for name in (label, "all"):
            table[kind][name][0] += good
            table[kind][name][1] += 1
    return {kind: dict(sorted(counts.items())) for kind, counts in table.items()}


def all_metrics(model, encode: data.Encoder) -> dict:
    return {"held_out": perplexity(model, encode),
            "answers_right_of_asked": accuracy(model, encode)}
