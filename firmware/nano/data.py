# SPDX-License-Identifier: MIT
"""Tokenizer training, document encoding and length-packed batches."""
import itertools
import random
from pathlib import Path
from typing import Iterator, List, NamedTuple, Tuple

import numpy as np
import sentencepiece as spm

import corpus

BOS, EOS, IGNORE = 1, 2, 0       # `unk` never occurs, so it serves as padding
CHUNK = 2000                     # documents generated and packed at a time
EARLY_CHUNKS, EARLY_FACTS = 8, 0.7   # first chunks: mostly short facts, from which
                                 # looking up an answer is learned soonest
DENSE_FROM = 14                  # from this chunk on, more questions per document


def train_tokenizer(folder: Path, vocab_size: int, seed: int,
                    documents: int = 20000) -> None:
    """Write tokenizer.model (BPE, byte fallback, LLaMA's settings).

    In the training sentences a line break is replaced by a quotation mark:
    the pieces then include words with no space before them ("Question"), and
    the line break itself stays the byte piece <0x0A>, as in LLaMA.
    """
    sample = list(itertools.islice(corpus.stream(seed), documents))
    sample += corpus.lexicon_lines() * (documents // 10)
    spm.SentencePieceTrainer.train(
        sentence_iterator=(text.replace("\n", '"') for text in sample),
        model_prefix=str(folder / "tokenizer"), model_type="bpe",
        vocab_size=vocab_size, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", add_dummy_prefix=True,
        remove_extra_whitespaces=False, split_digits=True, unk_id=0, bos_id=BOS,
        eos_id=EOS, pad_id=-1, num_threads=1, minloglevel=2)
    (folder / "tokenizer.vocab").unlink()


class Encoded(NamedTuple):
    """ids with BOS and EOS; weights[i] is the loss weight of ids[i]."""
    ids: List[int]
    weights: List[float]


class Encoder:
    """Text to ids; the tokens of an answer weigh `answer_weight` in the loss."""

    def __init__(self, path: Path, answer_weight: float = 1.0):
        self.pieces = spm.SentencePieceProcessor(model_file=str(path))
        self.newline = self.pieces.piece_to_id("<0x0A>")
        self.marker = self.pieces.encode("Answer:")
        self.answer_weight = answer_weight

    def __call__(self, text: str) -> Encoded:
        ids = [BOS] + self.pieces.encode(text) + [EOS]
        weights = [1.0] * len(ids)
        weights[0] = 0.0                       # BOS is given, never predicted
        for start, stop in self.answers(ids):
            weights[start:stop] = [self.answer_weight] * (stop - start)
        return Encoded(ids, weights)

    def answers(self, ids: List[int]) -> Iterator[Tuple[int, int]]:
        """Spans [start, stop) of the answers, with the end of line or text."""
        size, i = len(self.marker), 0
        while i < len(ids):
            if ids[i] == self.marker[0] and ids[i:i + size] == self.marker:
                start = i = i + size
                while ids[i] not in (self.newline, EOS):
                    i += 1
                yield start, i + 1
            i += 1


def pack(documents: List[Encoded], length: int) -> Tuple[np.ndarray, np.ndarray]:
    """Whole documents into rows of `length` + 1 tokens, best fit, longest first.

    Returns ids [rows, length + 1] int64 and weights (same shape) float32.
    """
    rows, by_space = [], [[] for _ in range(length + 2)]
    for doc in sorted(documents, key=lambda d: -len(d.ids)):
        size = len(doc.ids)
        if size > length + 1:
            continue
        space = next((s for s in range(size, length + 2) if by_space[s]), None)
        if space is None:
            rows.append(([], []))
            row, space = len(rows) - 1, length + 1
        else:
            row = by_space[space].pop()
        rows[row][0].extend(doc.ids)
        rows[row][1].extend(doc.weights)
        by_space[space - size].append(row)
    ids = np.full((len(rows), length + 1), IGNORE, np.int64)
    weights = np.zeros((len(rows), length + 1), np.float32)
    for i, (row_ids, row_weights) in enumerate(rows):
        ids[i, :len(row_ids)] = row_ids
        weights[i, :len(row_weights)] = row_weights
    return ids, weights


def fitted(encode: Encoder, text: str, length: int) -> Encoded:
    """The document, without its last questions where a row cannot hold them."""
    document = encode(text)
    while len(document.ids) > length + 1:
        text = text.rpartition("\n")[0]
        document = encode(text)
    return document


def chunk_rows(encode: Encoder, seed: int, chunk: int, length: int):
    """Rows of chunk number `chunk`, shuffled: a pure function of its arguments."""
    rng = random.Random(f"{seed}/chunk/{chunk}")
    facts = EARLY_FACTS if chunk < EARLY_CHUNKS else corpus.FACTS_SHARE
    questions = (0, 2, 3, 4, 5) if chunk < DENSE_FROM else (0, 5, 6, 7, 8)
    texts = (corpus.make_document(rng, False, facts, questions)
             for _ in range(CHUNK))
    ids, weights = pack([fitted(encode, text, length) for text in texts], length)
    order = np.random.default_rng([seed, chunk]).permutation(len(ids))
    return ids[order], weights[order]


class Batches:
    """Endless batches; `position` (chunk, row) is all a checkpoint must keep."""

    def __init__(self, encode: Encoder, seed: int, position=(0, 0)):
        self.encode, self.seed = encode, seed
        self.chunk, self.row = position
        self.cache = None                      # (chunk, length), ids, weights

    @property
    def position(self) -> Tuple[int, int]:
        return self.chunk, self.row

    def next(self, tokens: int, length: int):
        """ids and weights [tokens / length, length + 1] of fresh documents."""
        size = tokens // length
        while True:
            if self.cache is None or self.cache[0] != (self.chunk, length):
                self.cache = ((self.chunk, length),) + chunk_rows(
                    self.encode, self.seed, self.chunk, length)
            _, ids, weights = self.cache
            if self.row + size <= len(ids):
                rows = slice(self.row, self.row + size)
                self.row += size
                return ids[rows], weights[rows]
            self.chunk, self.row = self.chunk + 1, 0


def padded(documents: List[Encoded]) -> np.ndarray:
    """ids [N, longest] with IGNORE after each document."""
    longest = max(len(doc.ids) for doc in documents)
    ids = np.full((len(documents), longest), IGNORE, np.int64)
    for i, doc in enumerate(documents):
        ids[i, :len(doc.ids)] = doc.ids
    return ids
