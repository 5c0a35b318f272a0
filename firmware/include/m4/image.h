/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * On-disk structures of an M4 firmware image.
 *
 * Shared, unchanged, by the kernel module, the daemon, the packer and the
 * fuzzers. docs/image-format.md explains the format; the two change together.
 *
 * An image is a folder:
 *
 *   manifest.m4m        header, tables, Merkle tree, program blob, digest
 *   seg-000.m4w ...     payload shards, each a multiple of 2 MiB, <= 1 GiB
 *
 * The payload address space is the concatenation of the shards. The device
 * node (and the daemon's reservation for a folder) shows the manifest at
 * byte 0, zero-padded to M4_IMAGE_MANIFEST_SPAN, and the payload behind it.
 *
 * All integers are little-endian. Reserved bytes are zero and checked.
 */
#ifndef M4_IMAGE_H
#define M4_IMAGE_H

#include <linux/types.h>

#ifdef __cplusplus
#define M4_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define M4_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif

#define M4_IMAGE_MAGIC "M4IMG\r\n\x1a" /* 8 bytes, no terminator stored */
#define M4_IMAGE_MAGIC_BYTES 8
#define M4_IMAGE_VERSION_MAJOR 1
#define M4_IMAGE_VERSION_MINOR 0

#define M4_IMAGE_MANIFEST_NAME "manifest.m4m"
#define M4_IMAGE_SEGMENT_FORMAT "seg-%03u.m4w"

#define M4_IMAGE_LOG2_CHUNK 21 /* leaf of the tree, unit of allocation */
#define M4_IMAGE_LOG2_BLOCK 12 /* interior block: 128 digests */
#define M4_IMAGE_CHUNK_BYTES (1ULL << M4_IMAGE_LOG2_CHUNK)
#define M4_IMAGE_BLOCK_BYTES (1ULL << M4_IMAGE_LOG2_BLOCK)
#define M4_IMAGE_MANIFEST_SPAN M4_IMAGE_CHUNK_BYTES /* largest manifest */
#define M4_IMAGE_SEGMENT_MAX (1ULL << 30)
#define M4_IMAGE_SEGMENTS_MAX 128
#define M4_IMAGE_PAYLOAD_MAX (M4_IMAGE_SEGMENT_MAX * M4_IMAGE_SEGMENTS_MAX)
#define M4_IMAGE_TENSOR_ALIGN 256 /* of a tensor's first byte and span */
#define M4_IMAGE_DIGEST_BYTES 32
#define M4_IMAGE_NAME_BYTES 32
#define M4_IMAGE_LABEL_BYTES 24
#define M4_IMAGE_RANK_MAX 4
#define M4_IMAGE_DIM_MAX (1U << 31)

/* A reader refuses an image with an incompat bit it does not know, and may
 * map but not alter one with an unknown ro_compat bit. None is defined yet.
 */
#define M4_IMAGE_INCOMPAT_KNOWN 0ULL
#define M4_IMAGE_RO_COMPAT_KNOWN 0ULL

enum m4_image_hash {
	M4_IMAGE_HASH_SHA256 = 1,
};

/* Element types. A stored value never changes its meaning. */
enum m4_dtype {
	M4_DTYPE_U8 = 1, /* bytes of a bulk section (a tokeniser, say) */
	M4_DTYPE_F32 = 2,
	M4_DTYPE_F16 = 3, /* IEEE 754 binary16 */
	M4_DTYPE_U32 = 4, /* token ids, row numbers: program values only */
	/* blocks of 32 with a binary16 scale */
	M4_DTYPE_Q8 = 5, /* signed bytes q: q * scale */
	M4_DTYPE_Q4 = 6, /* nibbles n: (n - 8) * scale */
};

#define M4_IMAGE_QUANT_ELEMENTS 32 /* of a block: neighbours in one row */

/*
 * How a tensor lies in the payload.
 *
 * PLAIN: row-major, no padding between rows.
 *
 * ROWS16 (matrices, rank 2, shape [rows, columns]): what the GEMV and GEMM
 * shaders read. A unit is 16 bytes: consecutive elements of one row (4 F32,
 * 8 F16). Sixteen rows make a group; inside a group units lie column by
 * column: unit(row r, unit column u) is at
 *   ((r / 16) * units_per_row + u) * 16 + r % 16      [in units]
 * Rows are padded to a multiple of 16 and columns to whole units, with zeros.
 *
 * ROWS16 of a quantised type: the columns are a multiple of 32. A tile holds
 * one block of each row of a group, its scales behind them; a group's tiles lie
 * block by block. In units, from the tile's first:
 *   Q4  r        block of row r: element e is nibble e / 4 of word e % 4
 *       16, 17   scales of rows 0-7 and 8-15, binary16
 *   Q8  r        first half of row r's block: element e is byte e / 4 of word
 *                e % 4
 *       16 + r   second half, likewise
 *       32, 33   scales of rows 0-7 and 8-15, binary16
 * Word w of a unit is bytes 4w to 4w + 3, little-endian; nibble i of a word is
 * its bits 4i to 4i + 3.
 */
enum m4_layout {
	M4_LAYOUT_PLAIN = 1,
	M4_LAYOUT_ROWS16 = 2,
};

/*
 * Which row of a rotated projection (Q, K) pairs with which under RoPE.
 *
 * NONE: the tensor is not rotated.
 * INTERLEAVED: rows 2i and 2i+1 of a head form pair i. The packer stores
 *   every rotated tensor so, whatever its source used.
 * HALF_SPLIT: rows i and i + head_dim/2 form pair i (Hugging Face files).
 */
enum m4_row_order {
	M4_ROW_ORDER_NONE = 0,
	M4_ROW_ORDER_INTERLEAVED = 1,
	M4_ROW_ORDER_HALF_SPLIT = 2,
};

/* A range of the manifest; offset is from its first byte, 8-byte aligned. */
struct m4_image_range {
	__le32 offset;
	__le32 count; /* entries of a table, else bytes */
};

struct m4_image_header {
	__u8 magic[M4_IMAGE_MAGIC_BYTES];
	__le16 version_major;
	__le16 version_minor;
	__le32 header_bytes; /* sizeof(struct m4_image_header) */
	__le64 incompat;
	__le64 ro_compat;
	__le64 manifest_bytes; /* the whole file, trailer included */
	__le64 payload_bytes; /* sum of the segments; multiple of 2 MiB */
	__u8 uuid[16];
	__u8 name[M4_IMAGE_NAME_BYTES]; /* [a-z0-9][a-z0-9-]*, NUL padded */
	__u8 version[M4_IMAGE_LABEL_BYTES]; /* printable ASCII, NUL padded */
	__le64 rollback_index;
	__le16 hash_algorithm; /* enum m4_image_hash */
	__u8 log2_chunk;
	__u8 log2_block;
	__le32 reserved0;
	__u8 salt[M4_IMAGE_DIGEST_BYTES];
	__u8 root[M4_IMAGE_DIGEST_BYTES]; /* SHA-256(salt || top tree block) */
	struct m4_image_range segments; /* struct m4_image_segment */
	struct m4_image_range tensors; /* struct m4_image_tensor */
	struct m4_image_range strings; /* bytes; names, each NUL-terminated */
	struct m4_image_range tree; /* bytes; levels leaves first */
	struct m4_image_range program; /* bytes; opaque to the kernel */
	__u8 reserved1[16];
};

/* Shard i is file seg-<i>.m4w; shards follow one another without gaps. */
struct m4_image_segment {
	__le64 payload_offset; /* multiple of 2 MiB */
	__le64 bytes; /* multiple of 2 MiB, at most 1 GiB */
	__le64 reserved[2];
};

/* Sorted by payload_offset, without overlap. A tensor may cross shards. */
struct m4_image_tensor {
	__le32 name_offset; /* into strings */
	__le32 name_bytes; /* without the NUL that follows it */
	__le16 dtype; /* enum m4_dtype */
	__le16 layout; /* enum m4_layout */
	__le16 row_order; /* enum m4_row_order */
	__le16 rank; /* 1 .. M4_IMAGE_RANK_MAX */
	__le32 head_dim; /* rows of one head where rotated, else 0 */
	__le32 part; /* index into the program blob's parts */
	__le64 payload_offset; /* multiple of M4_IMAGE_TENSOR_ALIGN */
	__le64 bytes; /* stored bytes, padding of the layout included */
	__le64 shape[M4_IMAGE_RANK_MAX]; /* logical; 1 past the rank */
	__le64 reserved[3];
};

/* The manifest ends with SHA-256 over all its bytes before this trailer: the
 * image digest, which names the image everywhere.
 */
struct m4_image_trailer {
	__u8 digest[M4_IMAGE_DIGEST_BYTES];
};

M4_STATIC_ASSERT(sizeof(struct m4_image_header) == 256, "header layout");
M4_STATIC_ASSERT(sizeof(struct m4_image_segment) == 32, "segment layout");
M4_STATIC_ASSERT(sizeof(struct m4_image_tensor) == 96, "tensor layout");
M4_STATIC_ASSERT(sizeof(struct m4_image_trailer) == 32, "trailer layout");

#endif /* M4_IMAGE_H */
