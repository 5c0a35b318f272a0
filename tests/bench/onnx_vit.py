#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a vision transformer of random weights as an ONNX model, for the peer.

onnx_vit.py DIM LAYERS FILE: pictures of 224 x 224 in patches of 16, heads of 64,
feed-forward 4 * DIM, 1000 classes, any number of pictures at a time. The messages are
those of onnx.proto, of which a few fields do: written here field by field.
"""
import array
import random
import struct
import sys

SIDE, PATCH, HEAD, LABELS, COLOURS = 224, 16, 64, 1000, 3
ACROSS = SIDE // PATCH
ROWS = ACROSS * ACROSS + 1
EPS = 1e-6
IR_VERSION, OPSET = 9, 20  # the first with Gelu
FLOAT, INT64 = 1, 7
A_FLOAT, A_INT, A_INTS = 1, 2, 7  # kinds of attributes
RANDOM_FLOATS = 1 << 16


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, value):
    """A field of a message: a number, or the bytes of a text, an array or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def attribute(name, value):
    """AttributeProto."""
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, A_FLOAT)
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, A_INT)
    return field(1, name) + b"".join(field(8, i) for i in value) + field(20, A_INTS)


def tensor(name, kind, shape, data):
    """TensorProto."""
    return b"".join([*(field(1, n) for n in shape), field(2, kind), field(8, name),
                     field(9, data)])


def value_info(name, shape):
    """ValueInfoProto of floats; a text is a dimension that is not fixed."""
    dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, FLOAT) + field(2, dims)))


class Graph:
    """Nodes and weights; each call gives the name of its result."""

    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0
        source = random.Random(1)
        self.noise = array.array("f", (source.uniform(-1, 1) for _ in range(RANDOM_FLOATS)))
        self.scaled = {}

    def op(self, kind, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"v{self.count}_{i}" for i in range(outputs)]
        parts = [*(field(1, name) for name in inputs), *(field(2, name) for name in names),
                 field(4, kind), *(field(5, attribute(*a)) for a in attributes.items())]
        self.nodes.append(b"".join(parts))
        return names[0] if outputs == 1 else names

    def weight(self, *shape, fan_in=None):
        """Random: of a variance that keeps that of what it is multiplied with."""
        spread = (3 / (fan_in or shape[0])) ** 0.5
        if spread not in self.scaled:
            self.scaled[spread] = array.array("f", (spread * x for x in self.noise)).tobytes()
        block, size = self.scaled[spread], 4
        for n in shape:
            size *= n
        self.count += 1
        self.weights.append(tensor(f"w{self.count}", FLOAT, shape,
                                   (block * (size // len(block) + 1))[:size]))
        return f"w{self.count}"

    def floats(self, *values, shape=None):
        self.count += 1
        self.weights.append(tensor(f"c{self.count}", FLOAT, (len(values),) if shape is None
                                   else shape, struct.pack(f"<{len(values)}f", *values)))
        return f"c{self.count}"

    def ints(self, *values):
        self.count += 1
        self.weights.append(tensor(f"i{self.count}", INT64, (len(values),),
                                   struct.pack(f"<{len(values)}q", *values)))
        return f"i{self.count}"

    def linear(self, x, columns, rows):
        return self.op("Add", self.op("MatMul", x, self.weight(columns, rows)),
                       self.weight(rows, fan_in=1e4))

    def norm(self, x, dim):
        return self.op("LayerNormalization", x, self.floats(*[1.0] * dim),
                       self.weight(dim, fan_in=1e4), axis=-1, epsilon=EPS)


def attention(graph, x, dim):
    heads = dim // HEAD
    apart = graph.ints(0, ROWS, heads, HEAD)
    q, k, v = graph.op("Split", graph.linear(x, dim, 3 * dim), outputs=3, axis=2, num_outputs=3)
    q = graph.op("Transpose", graph.op("Reshape", q, apart), perm=[0, 2, 1, 3])
    k = graph.op("Transpose", graph.op("Reshape", k, apart), perm=[0, 2, 3, 1])
    v = graph.op("Transpose", graph.op("Reshape", v, apart), perm=[0, 2, 1, 3])
    scores = graph.op("Mul", graph.op("MatMul", q, k), graph.floats(HEAD ** -0.5, shape=()))
    y = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), v)
    y = graph.op("Reshape", graph.op("Transpose", y, perm=[0, 2, 1, 3]), graph.ints(0, ROWS, dim))
    return graph.linear(y, dim, dim)


def patches(graph, pictures, dim):
    """Rows of patches behind the class token, and their places."""
    x = graph.op("Conv", pictures, graph.weight(dim, COLOURS, PATCH, PATCH,
                                                fan_in=COLOURS * PATCH * PATCH),
                 graph.weight(dim, fan_in=1e4), kernel_shape=[PATCH, PATCH],
                 strides=[PATCH, PATCH])
    x = graph.op("Reshape", x, graph.ints(0, dim, ROWS - 1))
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    count = graph.op("Shape", pictures, start=0, end=1)
    shape = graph.op("Concat", count, graph.ints(1, dim), axis=0)
    token = graph.op("Expand", graph.weight(1, 1, dim, fan_in=1e4), shape)
    x = graph.op("Concat", token, x, axis=1)
    return graph.op("Add", x, graph.weight(1, ROWS, dim, fan_in=1e4))


def model(dim, layers):
    """ModelProto: `pictures` to `embedding`, the class token behind the last norm, and `scores`."""
    graph = Graph()
    x = patches(graph, "pictures", dim)
    for _ in range(layers):
        x = graph.op("Add", x, attention(graph, graph.norm(x, dim), dim))
        h = graph.op("Gelu", graph.linear(graph.norm(x, dim), dim, 4 * dim))
        x = graph.op("Add", x, graph.linear(h, 4 * dim, dim))
    embedding = graph.norm(graph.op("Gather", x, graph.op("Squeeze", graph.ints(0)), axis=1), dim)
    scores = graph.linear(embedding, dim, LABELS)
    for result, name in ((embedding, "embedding"), (scores, "scores")):
        graph.nodes.append(field(1, result) + field(2, name) + field(4, "Identity"))
    body = b"".join([*(field(1, node) for node in graph.nodes), field(2, "vit"),
                     *(field(5, weight) for weight in graph.weights),
                     field(11, value_info("pictures", ("n", COLOURS, SIDE, SIDE))),
                     field(12, value_info("embedding", ("n", dim))),
                     field(12, value_info("scores", ("n", LABELS)))])
    return field(1, IR_VERSION) + field(7, body) + field(8, field(2, OPSET))


if __name__ == "__main__":
    with open(sys.argv[3], "wb") as file:
        file.write(model(int(sys.argv[1]), int(sys.argv[2])))
