#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds small synthetic firmware images, and damaged copies of them.

A second, independent writer of the format in docs/image-format.md: what it
writes and what m4fw writes must be read alike. No weight in it means anything.

  make_image.py make OUT [--name N] [--version V] [--segments MIB,MIB,...]
                         [--rollback-index I] [--zero]
  make_image.py damage KIND SOURCE OUT
  make_image.py sign DIR --key KEY --cert CERT

`make` prints the image's digest, root and payload size as KEY=VALUE lines. `damage` links what it leaves alone to SOURCE beside OUT; its
kinds are in DAMAGES. `sign` puts manifest.m4m.p7s beside the manifest.
"""
import argparse
import hashlib
import os
import pathlib
import random
import shutil
import struct
import subprocess

CHUNK = 2 << 20
BLOCK = 4096
HEADER = 256
MANIFEST = "manifest.m4m"
SIGNATURE = MANIFEST + ".p7s"
U8, F32, F16 = 1, 2, 3
PLAIN, ROWS16 = 1, 2
NONE, INTERLEAVED = 0, 1


def up(value, step):
    return (value + step - 1) // step * step


def stored_bytes(dtype, layout, shape):
    size = {U8: 1, F32: 4, F16: 2}[dtype]
    if layout == ROWS16:
        shape = [up(shape[0], 16), up(shape[1], 16 // size)]
    for dim in shape:
        size *= dim
    return size


def tree_over(salt, leaves):
    """All levels, leaves first, each padded to whole blocks; and the root."""
    levels, digests = b"", leaves
    while True:
        level = b"".join(digests)
        level += bytes(up(len(level), BLOCK) - len(level))
        levels += level
        digests = [
            hashlib.sha256(salt + level[i : i + BLOCK]).digest()
            for i in range(0, len(level), BLOCK)
        ]
        if len(digests) == 1:
            return levels, digests[0]


def seal(manifest):
    """Puts the trailer's digest right, whatever the bytes before it are."""
    manifest[-32:] = hashlib.sha256(manifest[:-32]).digest()


def tables(payload_bytes):
    """A tensor of each stored shape, with gaps, and their names."""
    wanted = [
        ("tokeniser", U8, PLAIN, NONE, 0, [777]),
        ("norm", F32, PLAIN, NONE, 0, [64]),
        ("query", F16, ROWS16, INTERLEAVED, 8, [40, 36]),
        ("cube", F16, PLAIN, NONE, 0, [3, 5, 7, 2]),
        ("embedding", F32, ROWS16, NONE, 0, [1000, 64]),
    ]
    tensors, strings, offset = b"", b"", 0
    for name, dtype, layout, order, head_dim, shape in wanted:
        size = stored_bytes(dtype, layout, shape)
        padded = shape + [1] * (4 - len(shape))
        tensors += struct.pack(
            "<IIHHHHIIQQ4Q24x", len(strings), len(name), dtype, layout, order,
            len(shape), head_dim, 0, offset, size, *padded)
        strings += name.encode() + b"\0"
        offset = up(offset + size, 256) + 256
    assert offset < payload_bytes
    return tensors, strings, len(wanted)


def make_manifest(name, version, rollback_index, salt, leaves, segment_bytes):
    payload_bytes = sum(segment_bytes)
    segments, offset = b"", 0
    for size in segment_bytes:
        segments += struct.pack("<QQ16x", offset, size)
        offset += size
    tensors, strings, tensor_count = tables(payload_bytes)
    tree, root = tree_over(salt, leaves)
    program = b"no program"

    body, ranges = b"", []
    for blob, count in ((segments, len(segment_bytes)), (tensors, tensor_count),
                        (strings, len(strings)), (tree, len(tree)),
                        (program, len(program))):
        ranges.append((HEADER + len(body), count))
        body += blob + bytes(up(len(blob), 8) - len(blob))
    header = struct.pack(
        "<8sHHIQQQQ16s32s24sQHBBI32s32s", b"M4IMG\r\n\x1a", 1, 0, HEADER, 0, 0,
        HEADER + len(body) + 32, payload_bytes, hashlib.md5(salt).digest(),
        name.encode(), version.encode(), rollback_index, 1, 21, 12, 0, salt, root)
    for span in ranges:
        header += struct.pack("<II", *span)
    header += bytes(HEADER - len(header))
    manifest = bytearray(header + body + bytes(32))
    seal(manifest)
    return manifest, root


def make(args):
    out = pathlib.Path(args.out)
    out.mkdir(parents=True)
    rng = random.Random(f"{args.name} {args.version}")
    salt = rng.randbytes(32)
    segment_bytes = [int(mib) << 20 for mib in args.segments.split(",")]
    leaves = []
    zero_leaf = hashlib.sha256(salt + bytes(CHUNK)).digest()
    for index, size in enumerate(segment_bytes):
        with open(out / f"seg-{index:03}.m4w", "wb") as shard:
            for _ in range(size // CHUNK):
                if args.zero:
                    leaves.append(zero_leaf)
                    continue
                chunk = rng.randbytes(CHUNK)
                leaves.append(hashlib.sha256(salt + chunk).digest())
                shard.write(chunk)
            shard.truncate(size)
    manifest, root = make_manifest(
        args.name, args.version, args.rollback_index, salt, leaves, segment_bytes)
    (out / MANIFEST).write_bytes(manifest)
    print(f"version={args.version}")
    print(f"digest={manifest[-32:].hex()}")
    print(f"root_hash={root.hex()}")
    print(f"payload_bytes={sum(segment_bytes)}")


def sign(args):
    out = pathlib.Path(args.dir)
    (out / SIGNATURE).unlink(missing_ok=True)  # where it is a link, not its target
    subprocess.run(
        ["openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha256",
         "-outform", "DER", "-in", out / MANIFEST, "-signer", args.cert,
         "-inkey", args.key, "-out", out / SIGNATURE], check=True)


def own(path):
    """A file of the damaged copy's own, where it was a link so far."""
    if path.is_symlink():
        source = path.resolve()
        path.unlink()
        shutil.copyfile(source, path)
    return path


def flip(path, offset, bit=0):
    with open(own(path), "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def resealed(change):
    """Damage that the trailer's digest does not show."""
    def apply(out):
        manifest = bytearray((out / MANIFEST).read_bytes())
        change(manifest)
        seal(manifest)
        own(out / MANIFEST).write_bytes(manifest)
    return apply


def xor(manifest, offset):
    manifest[offset] ^= 1


def put(offset, layout, value):
    return lambda manifest: struct.pack_into(layout, manifest, offset, value)


def tensor(manifest, index, field, value):
    """An 8 byte field of tensor `index`; its entries follow the segments."""
    (first,) = struct.unpack_from("<I", manifest, 208)
    struct.pack_into("<Q", manifest, first + 96 * index + field, value)


def overlap(manifest):
    """Tensor 1 begins where tensor 0 does."""
    tensor(manifest, 1, 24, 0)


def overflow(manifest):
    """Offset and size of the last tensor add up to little."""
    (count,) = struct.unpack_from("<I", manifest, 212)
    tensor(manifest, count - 1, 24, (1 << 64) - 256)


def last(out):
    return sorted(out.glob("seg-*.m4w"))[-1]


def truncate(path, by):
    size = path.stat().st_size
    with open(own(path), "r+b") as file:
        file.truncate(size - by)


def swap(out):
    first, second = sorted(out.glob("seg-*.m4w"))[:2]
    first.rename(out / "swap")
    second.rename(first)
    (out / "swap").rename(second)


def newer(manifest):
    """The next version of the same weights."""
    struct.pack_into("<24s", manifest, 96, b"vm-2")
    (index,) = struct.unpack_from("<Q", manifest, 120)
    struct.pack_into("<Q", manifest, 120, index + 1)


DAMAGES = {
    "newer-version": resealed(newer),  # no damage, once it is signed again
    "payload-bit": lambda out: flip(last(out), last(out).stat().st_size - 1, 7),
    "manifest-bit": lambda out: flip(out / MANIFEST, 60),  # the uuid
    "leaf-bit": resealed(lambda m: xor(m, struct.unpack_from("<I", m, 224)[0])),
    "root-bit": resealed(lambda m: xor(m, 168)),
    "magic": lambda out: flip(out / MANIFEST, 0),
    "major": resealed(put(8, "<H", 2)),
    "incompat": resealed(put(16, "<Q", 1 << 40)),
    "segment-size": resealed(put(HEADER + 8, "<Q", (1 << 30) + CHUNK)),
    "segment-gap": resealed(put(HEADER + 32, "<Q", 6 << 20)),
    "segment-sum": resealed(put(40, "<Q", 10 << 20)),
    "segment-overflow": resealed(put(HEADER + 32, "<Q", (1 << 64) - CHUNK)),
    "manifest-size": resealed(put(32, "<Q", (1 << 64) - 8)),
    "range-overflow": resealed(put(224, "<Q", (4096 << 32) | 0xFFFFFFF8)),
    "reserved": resealed(put(248, "<Q", 1)),
    "tensor-range": resealed(put(HEADER + 64 + 24, "<Q", 1 << 62)),
    "tensor-overlap": resealed(overlap),
    "tensor-overflow": resealed(overflow),
    "short-manifest": lambda out: truncate(out / MANIFEST, 8),
    "empty-manifest": lambda out: own(out / MANIFEST).write_bytes(b""),
    "long-manifest": lambda out: own(out / MANIFEST).write_bytes(
        (out / MANIFEST).read_bytes() + bytes(CHUNK)),
    "short-shard": lambda out: truncate(last(out), 4096),
    "long-shard": lambda out: truncate(last(out), -4096),
    "longer-shard": lambda out: truncate(last(out), -CHUNK),
    "missing-chunk": lambda out: truncate(last(out), CHUNK),
    "missing-shard": lambda out: last(out).unlink(),
    "swapped-shards": swap,
    "missing-manifest": lambda out: (out / MANIFEST).unlink(),
    # a good image; what is wrong with its signature is another's to do
    "none": lambda out: own(out / MANIFEST),
    "signature-bit": lambda out: flip(
        out / SIGNATURE, (out / SIGNATURE).stat().st_size - 20),
    "signature-short": lambda out: truncate(out / SIGNATURE, 16),
    "signature-long": lambda out: own(out / SIGNATURE).write_bytes(
        (out / SIGNATURE).read_bytes() + bytes(65536)),
    "signature-empty": lambda out: own(out / SIGNATURE).write_bytes(b""),
    "signature-garbage": lambda out: own(out / SIGNATURE).write_bytes(
        random.Random("garbage").randbytes(512)),
    "unsigned": lambda out: (out / SIGNATURE).unlink(),
}


def damage(args):
    source, out = pathlib.Path(args.source), pathlib.Path(args.out)
    out.mkdir()
    for path in source.iterdir():
        (out / path.name).symlink_to(os.path.relpath(path.absolute(), out.absolute()))
    DAMAGES[args.kind](out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make")
    command.add_argument("out")
    command.add_argument("--name", default="backbone")
    command.add_argument("--version", default="1.0")
    command.add_argument("--segments", default="4,4", help="sizes in MiB")
    command.add_argument("--rollback-index", type=int, default=7)
    command.add_argument("--zero", action="store_true", help="sparse, all zero")
    command.set_defaults(run=make)
    command = commands.add_parser("damage")
    command.add_argument("kind", choices=sorted(DAMAGES))
    command.add_argument("source")
    command.add_argument("out")
    command.set_defaults(run=damage)
    command = commands.add_parser("sign")
    command.add_argument("dir")
    command.add_argument("--key", required=True)
    command.add_argument("--cert", required=True)
    command.set_defaults(run=sign)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
