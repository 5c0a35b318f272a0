/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The one manifest checker. Pure C: compiled into m4.ko, the daemon, the
 * packer and the fuzzers as it is. It allocates nothing, hashes nothing by
 * itself and never reads past the bytes it is given.
 */
#ifndef M4_MANIFEST_H
#define M4_MANIFEST_H

#include "image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where and why a manifest was refused. */
struct m4_manifest_error {
	const char *what; /* static text: the rule that was broken */
	const char *where; /* static text: "header.salt", "tensor", "tree" */
	__u64 index; /* entry of the table, where `where` is one */
	__u64 offset; /* byte of the manifest */
};

/* A checked manifest: host-endian sums and pointers into the caller's bytes,
 * which must outlive it.
 */
struct m4_manifest {
	const struct m4_image_header *header;
	const struct m4_image_segment *segments;
	const struct m4_image_tensor *tensors;
	const char *strings;
	const __u8 *tree; /* level 0 (leaves) first */
	const __u8 *program;
	const __u8 *digest; /* the trailer: the image digest */
	__u64 manifest_bytes;
	__u64 payload_bytes;
	__u64 rollback_index;
	__u32 segment_count;
	__u32 tensor_count;
	__u32 strings_bytes;
	__u32 tree_bytes;
	__u32 program_bytes;
	__u32 chunk_count; /* leaves: payload_bytes / 2 MiB */
};

/*
 * SHA-256 over two spans, `a` then `b`, into out[32]. 0, or a negative errno
 * that the checker passes on. `ctx` is the caller's.
 */
typedef int (*m4_sha256_fn)(void *ctx, const void *a, __u64 a_bytes,
			    const void *b, __u64 b_bytes, __u8 *out);

/*
 * Check every structural rule of docs/image-format.md: magic, versions,
 * sizes, ranges, alignment, order, overlap, sums, shapes against stored
 * bytes, names, reserved bytes. No digest is computed.
 * Returns 0 and fills *out, or -EINVAL (-EOPNOTSUPP for a version, feature
 * bit or hash that is not known) and fills *err. out and err are required.
 */
int m4_manifest_check(const void *bytes, __u64 size, struct m4_manifest *out,
		      struct m4_manifest_error *err);

/*
 * Check the trailer's digest over the manifest and the tree from its leaves
 * up to header.root. Call after m4_manifest_check. 0, or -EBADMSG on a
 * mismatch (with *err), or what `hash` returned.
 */
int m4_manifest_check_digests(const struct m4_manifest *m, m4_sha256_fn hash,
			      void *ctx, struct m4_manifest_error *err);

/*
 * The expected digest, SHA-256(salt || chunk), of 2 MiB payload chunk
 * `index` < chunk_count.
 */
const __u8 *m4_manifest_leaf(const struct m4_manifest *m, __u32 index);

/* Bytes of the whole tree (all levels, each padded to 4 KiB) over `chunks`
 * leaves; 0 for no leaves.
 */
__u64 m4_manifest_tree_bytes(__u64 chunks);

/* Stored bytes of a tensor of this type, layout and shape, or 0 where the
 * combination is not valid or overflows. `shape` has `rank` entries.
 */
__u64 m4_manifest_tensor_bytes(__u32 dtype, __u32 layout, __u32 rank,
			       const __u64 *shape);

#ifdef __cplusplus
}
#endif

#endif /* M4_MANIFEST_H */
