// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * The manifest checker. See m4/manifest.h for the contract and
 * docs/image-format.md for the rules; each rule here names itself in the
 * error it gives.
 *
 * The bytes are hostile until the last line of m4_manifest_check: every sum
 * of two values read from them is overflow-checked, every count is compared
 * with the bytes that hold it before the first entry is read, and the work
 * is linear in the manifest's size (at most 2 MiB).
 */
#include <m4/manifest.h>
#include <m4/platform.h>

#define DIGESTS_PER_BLOCK (M4_IMAGE_BLOCK_BYTES / M4_IMAGE_DIGEST_BYTES)
#define CHUNKS_MAX (M4_IMAGE_PAYLOAD_MAX / M4_IMAGE_CHUNK_BYTES)
#define RANGE_ALIGN 8
#define RANGE_COUNT 5
#define ROWS16_GROUP 16
#define ROWS16_UNIT_BYTES 16

/* One range of the header on its way through the overlap check. */
struct m4_span {
	__u64 begin;
	__u64 end;
	const char *where;
};

/* The state of one check: what is read, what is filled, who is told. */
struct m4_check {
	const __u8 *bytes;
	__u64 size;
	struct m4_manifest m;
	struct m4_manifest_error *err;
	struct m4_span spans[RANGE_COUNT];
	__u32 span_count;
};

static int refuse(struct m4_manifest_error *err, int code, const char *where,
		  const char *what, __u64 index, __u64 offset)
{
	err->what = what;
	err->where = where;
	err->index = index;
	err->offset = offset;
	return code;
}

#define REFUSE_HEADER(c, code, field, what)                                    \
	refuse((c)->err, code, "header." #field, what, 0,                      \
	       offsetof(struct m4_image_header, field))

static bool is_zero(const void *bytes, __u64 count)
{
	const __u8 *p = bytes;
	__u64 i;

	for (i = 0; i < count; i++)
		if (p[i])
			return false;
	return true;
}

static bool is_printable(char ch)
{
	return ch >= ' ' && ch <= '~';
}

static bool is_name_start(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
}

/* A NUL-padded field: not empty, terminated, nothing behind the first NUL;
 * an image name ([a-z0-9][a-z0-9-]*) or else printable ASCII.
 */
static const char *text_fault(const __u8 *field, __u32 size, bool is_name)
{
	__u32 length = 0;

	for (; length < size && field[length]; length++) {
		char ch = (char)field[length];

		if (is_name && !is_name_start(ch) && (!length || ch != '-'))
			return "not of [a-z0-9][a-z0-9-]*";
		if (!is_printable(ch))
			return "not printable ASCII";
	}
	if (!length || length == size ||
	    !is_zero(field + length, size - length))
		return "empty, or not NUL-padded";
	return NULL;
}

/* What says whether this reader can read the rest at all. */
static int check_identity(struct m4_check *c)
{
	const struct m4_image_header *h = c->m.header;

	if (memcmp(h->magic, M4_IMAGE_MAGIC, M4_IMAGE_MAGIC_BYTES))
		return REFUSE_HEADER(c, -EINVAL, magic, "not an M4 image");
	if (le16_to_cpu(h->version_major) != M4_IMAGE_VERSION_MAJOR)
		return REFUSE_HEADER(c, -EOPNOTSUPP, version_major,
				     "unknown major version");
	if (le32_to_cpu(h->header_bytes) != sizeof(*h))
		return REFUSE_HEADER(c, -EINVAL, header_bytes,
				     "not the header's size");
	if (le64_to_cpu(h->incompat) & ~M4_IMAGE_INCOMPAT_KNOWN)
		return REFUSE_HEADER(c, -EOPNOTSUPP, incompat,
				     "unknown feature bit");
	if (le64_to_cpu(h->manifest_bytes) != c->size)
		return REFUSE_HEADER(c, -EINVAL, manifest_bytes,
				     "not the manifest's size");
	if (le16_to_cpu(h->hash_algorithm) != M4_IMAGE_HASH_SHA256)
		return REFUSE_HEADER(c, -EOPNOTSUPP, hash_algorithm,
				     "unknown hash");
	return 0;
}

static int check_header(struct m4_check *c)
{
	const struct m4_image_header *h = c->m.header;
	__u64 payload_bytes = le64_to_cpu(h->payload_bytes);
	const char *fault;
	int rc = check_identity(c);

	if (rc)
		return rc;
	if (h->log2_chunk != M4_IMAGE_LOG2_CHUNK)
		return REFUSE_HEADER(c, -EINVAL, log2_chunk, "not 2 MiB");
	if (h->log2_block != M4_IMAGE_LOG2_BLOCK)
		return REFUSE_HEADER(c, -EINVAL, log2_block, "not 4 KiB");
	if (h->reserved0)
		return REFUSE_HEADER(c, -EINVAL, reserved0, "not zero");
	if (!is_zero(h->reserved1, sizeof(h->reserved1)))
		return REFUSE_HEADER(c, -EINVAL, reserved1, "not zero");
	fault = text_fault(h->name, sizeof(h->name), true);
	if (fault)
		return REFUSE_HEADER(c, -EINVAL, name, fault);
	fault = text_fault(h->version, sizeof(h->version), false);
	if (fault)
		return REFUSE_HEADER(c, -EINVAL, version, fault);
	if (!payload_bytes || payload_bytes > M4_IMAGE_PAYLOAD_MAX ||
	    payload_bytes % M4_IMAGE_CHUNK_BYTES)
		return REFUSE_HEADER(c, -EINVAL, payload_bytes,
				     "empty, too large, or not whole chunks");
	c->m.payload_bytes = payload_bytes;
	c->m.chunk_count = (__u32)(payload_bytes / M4_IMAGE_CHUNK_BYTES);
	c->m.rollback_index = le64_to_cpu(h->rollback_index);
	return 0;
}

/*
 * One range of `count` entries of `entry_bytes`: aligned, behind the header,
 * before the trailer. Remembered for the overlap check. *begin is its first
 * byte.
 */
static int check_range(struct m4_check *c, const struct m4_image_range *range,
		       const char *where, __u64 entry_bytes, const void **begin)
{
	__u64 at = (__u64)((const __u8 *)range - c->bytes);
	__u64 limit = c->size - sizeof(struct m4_image_trailer);
	__u64 offset = le32_to_cpu(range->offset);
	__u64 end = le32_to_cpu(range->count) * entry_bytes; /* < 2^39 */
	struct m4_span *span = &c->spans[c->span_count++];

	if (offset % RANGE_ALIGN)
		return refuse(c->err, -EINVAL, where, "not aligned", 0, at);
	if (check_add_overflow(end, offset, &end) || end > limit ||
	    offset < sizeof(struct m4_image_header))
		return refuse(c->err, -EINVAL, where, "outside the manifest",
			      0, at);
	span->begin = offset;
	span->end = end;
	span->where = where;
	*begin = c->bytes + offset;
	return 0;
}

/* An empty span sorts before one that begins at the same byte. */
static bool is_behind(const struct m4_span *a, const struct m4_span *b)
{
	return a->begin > b->begin || (a->begin == b->begin && a->end > b->end);
}

/* Sorts the ranges by place, then walks the manifest from the header to the
 * trailer: ranges must not overlap, what lies between them must be zero.
 */
static int check_overlap(struct m4_check *c)
{
	__u64 cursor = sizeof(struct m4_image_header);
	__u32 i, k;

	for (i = 1; i < c->span_count; i++) {
		struct m4_span moving = c->spans[i];

		for (k = i; k > 0 && is_behind(&c->spans[k - 1], &moving); k--)
			c->spans[k] = c->spans[k - 1];
		c->spans[k] = moving;
	}
	for (i = 0; i < c->span_count; i++) {
		const struct m4_span *span = &c->spans[i];

		if (span->begin < cursor)
			return refuse(c->err, -EINVAL, span->where,
				      "overlaps another", 0, span->begin);
		if (!is_zero(c->bytes + cursor, span->begin - cursor))
			return refuse(c->err, -EINVAL, "manifest",
				      "padding between ranges is not zero", 0,
				      cursor);
		cursor = span->end;
	}
	if (!is_zero(c->bytes + cursor,
		     c->size - sizeof(struct m4_image_trailer) - cursor))
		return refuse(c->err, -EINVAL, "manifest",
			      "padding before the trailer is not zero", 0,
			      cursor);
	return 0;
}

static int check_ranges(struct m4_check *c)
{
	const struct m4_image_header *h = c->m.header;
	const struct {
		const struct m4_image_range *range;
		const char *where;
		__u64 entry_bytes;
		__u32 *count;
	} table[RANGE_COUNT] = {
		{ &h->segments, "header.segments",
		  sizeof(struct m4_image_segment), &c->m.segment_count },
		{ &h->tensors, "header.tensors", sizeof(struct m4_image_tensor),
		  &c->m.tensor_count },
		{ &h->strings, "header.strings", 1, &c->m.strings_bytes },
		{ &h->tree, "header.tree", 1, &c->m.tree_bytes },
		{ &h->program, "header.program", 1, &c->m.program_bytes },
	};
	const void *begin[RANGE_COUNT];
	__u32 i;

	for (i = 0; i < RANGE_COUNT; i++) {
		int rc = check_range(c, table[i].range, table[i].where,
				     table[i].entry_bytes, &begin[i]);

		if (rc)
			return rc;
		*table[i].count = le32_to_cpu(table[i].range->count);
	}
	c->m.segments = begin[0];
	c->m.tensors = begin[1];
	c->m.strings = begin[2];
	c->m.tree = begin[3];
	c->m.program = begin[4];
	return check_overlap(c);
}

static int check_segments(struct m4_check *c)
{
	__u64 cursor = 0;
	__u32 i;

	if (!c->m.segment_count || c->m.segment_count > M4_IMAGE_SEGMENTS_MAX)
		return REFUSE_HEADER(c, -EINVAL, segments,
				     "none, or more than 128");
	for (i = 0; i < c->m.segment_count; i++) {
		const struct m4_image_segment *s = &c->m.segments[i];
		__u64 at = (__u64)((const __u8 *)s - c->bytes);
		__u64 bytes = le64_to_cpu(s->bytes);

		if (le64_to_cpu(s->payload_offset) != cursor)
			return refuse(c->err, -EINVAL, "segment",
				      "does not follow the one before", i, at);
		if (!bytes || bytes > M4_IMAGE_SEGMENT_MAX ||
		    bytes % M4_IMAGE_CHUNK_BYTES)
			return refuse(c->err, -EINVAL, "segment",
				      "empty, over 1 GiB, or not whole chunks",
				      i, at);
		if (s->reserved[0] || s->reserved[1])
			return refuse(c->err, -EINVAL, "segment",
				      "reserved bytes are not zero", i, at);
		cursor += bytes; /* at most 128 GiB */
	}
	if (cursor != c->m.payload_bytes)
		return REFUSE_HEADER(c, -EINVAL, payload_bytes,
				     "not the sum of the segments");
	return 0;
}

static int check_strings(struct m4_check *c)
{
	__u64 at = (__u64)((const __u8 *)c->m.strings - c->bytes);

	if (!c->m.strings_bytes)
		return refuse(c->err, -EINVAL, "strings", "empty", 0, at);
	if (c->m.strings[c->m.strings_bytes - 1])
		return refuse(c->err, -EINVAL, "strings",
			      "the last byte is not NUL", 0,
			      at + c->m.strings_bytes - 1);
	return 0;
}

/* A name is one whole string of the strings range. That two tensors of one
 * part do not share a name is for the reader that builds an index by name.
 */
static const char *tensor_name_fault(const struct m4_manifest *m,
				     const struct m4_image_tensor *t)
{
	__u64 begin = le32_to_cpu(t->name_offset);
	__u64 length = le32_to_cpu(t->name_bytes);
	__u64 i;

	if (!length)
		return "empty name";
	if (begin + length >= m->strings_bytes) /* both below 2^32 */
		return "name outside the strings";
	if ((begin && m->strings[begin - 1]) || m->strings[begin + length])
		return "name is not one whole string";
	for (i = begin; i < begin + length; i++)
		if (!is_printable(m->strings[i]))
			return "name is not printable ASCII";
	return NULL;
}

static const char *tensor_shape_fault(const struct m4_image_tensor *t)
{
	__u32 i, rank = le16_to_cpu(t->rank);
	__u64 bytes, shape[M4_IMAGE_RANK_MAX];

	if (!rank || rank > M4_IMAGE_RANK_MAX)
		return "rank is not 1 to 4";
	for (i = 0; i < M4_IMAGE_RANK_MAX; i++) {
		shape[i] = le64_to_cpu(t->shape[i]);
		if (i >= rank && shape[i] != 1)
			return "shape past the rank is not 1";
	}
	bytes = m4_manifest_tensor_bytes(le16_to_cpu(t->dtype),
					 le16_to_cpu(t->layout), rank, shape);
	if (!bytes)
		return "type, layout and shape do not go together";
	if (bytes != le64_to_cpu(t->bytes))
		return "bytes are not those of the shape";
	return NULL;
}

static const char *tensor_rows_fault(const struct m4_image_tensor *t)
{
	__u32 row_order = le16_to_cpu(t->row_order);
	__u32 head_dim = le32_to_cpu(t->head_dim);

	switch (row_order) {
	case M4_ROW_ORDER_NONE:
		return head_dim ? "head_dim on a tensor not rotated" : NULL;
	case M4_ROW_ORDER_INTERLEAVED:
	case M4_ROW_ORDER_HALF_SPLIT:
		break;
	default:
		return "unknown row order";
	}
	if (le16_to_cpu(t->dtype) == M4_DTYPE_U8)
		return "a bulk section is not rotated";
	if (!head_dim || head_dim % 2)
		return "head_dim of a rotated tensor is zero or odd";
	if ((__u32)le64_to_cpu(t->shape[0]) % head_dim) /* at most 2^31 */
		return "rows are not whole heads";
	return NULL;
}

/* *cursor: the end of the tensor before, moved to the end of this one. */
static const char *tensor_place_fault(const struct m4_manifest *m,
				      const struct m4_image_tensor *t,
				      __u64 *cursor)
{
	__u64 offset = le64_to_cpu(t->payload_offset);
	__u64 end;

	if (offset % M4_IMAGE_TENSOR_ALIGN)
		return "not 256-byte aligned";
	if (offset < *cursor)
		return "overlaps or precedes the one before";
	if (check_add_overflow(offset, le64_to_cpu(t->bytes), &end) ||
	    end > m->payload_bytes)
		return "outside the payload";
	*cursor = end;
	return NULL;
}

static int check_tensors(struct m4_check *c)
{
	__u64 cursor = 0;
	__u32 i;

	if (!c->m.tensor_count)
		return REFUSE_HEADER(c, -EINVAL, tensors, "none");
	for (i = 0; i < c->m.tensor_count; i++) {
		const struct m4_image_tensor *t = &c->m.tensors[i];
		const char *fault = tensor_name_fault(&c->m, t);

		if (!fault)
			fault = tensor_shape_fault(t);
		if (!fault)
			fault = tensor_rows_fault(t);
		if (!fault)
			fault = tensor_place_fault(&c->m, t, &cursor);
		if (!fault && !is_zero(t->reserved, sizeof(t->reserved)))
			fault = "reserved bytes are not zero";
		if (fault)
			return refuse(c->err, -EINVAL, "tensor", fault, i,
				      (__u64)((const __u8 *)t - c->bytes));
	}
	return 0;
}

/* Blocks that hold one digest for each of `entries`. */
static __u64 level_blocks(__u64 entries)
{
	return (entries + DIGESTS_PER_BLOCK - 1) / DIGESTS_PER_BLOCK;
}

static int check_tree(struct m4_check *c)
{
	__u64 at = (__u64)(c->m.tree - c->bytes);
	__u64 entries = c->m.chunk_count;
	const __u8 *level = c->m.tree;
	__u64 blocks, used;

	if (c->m.tree_bytes != m4_manifest_tree_bytes(entries))
		return refuse(c->err, -EINVAL, "tree",
			      "not the size of the payload's tree", 0, at);
	do {
		blocks = level_blocks(entries);
		used = entries * M4_IMAGE_DIGEST_BYTES;
		if (!is_zero(level + used,
			     blocks * M4_IMAGE_BLOCK_BYTES - used))
			return refuse(c->err, -EINVAL, "tree",
				      "padding of a level is not zero", 0,
				      at + (__u64)(level - c->m.tree) + used);
		level += blocks * M4_IMAGE_BLOCK_BYTES;
		entries = blocks;
	} while (entries > 1);
	return 0;
}

int m4_manifest_check(const void *bytes, __u64 size, struct m4_manifest *out,
		      struct m4_manifest_error *err)
{
	struct m4_check c = {
		.bytes = bytes,
		.size = size,
		.err = err,
	};
	int rc;

	if (size < sizeof(struct m4_image_header) +
			   sizeof(struct m4_image_trailer) ||
	    size > M4_IMAGE_MANIFEST_SPAN || size % RANGE_ALIGN)
		return refuse(err, -EINVAL, "manifest",
			      "too short, over 2 MiB, or not a multiple of 8",
			      0, size);
	if ((unsigned long)bytes % RANGE_ALIGN)
		return refuse(err, -EINVAL, "manifest",
			      "read into an unaligned buffer", 0, 0);
	c.m.header = bytes;
	c.m.manifest_bytes = size;
	c.m.digest = c.bytes + size - sizeof(struct m4_image_trailer);
	rc = check_header(&c);
	if (!rc)
		rc = check_ranges(&c);
	if (!rc)
		rc = check_segments(&c);
	if (!rc)
		rc = check_strings(&c);
	if (!rc)
		rc = check_tensors(&c);
	if (!rc)
		rc = check_tree(&c);
	if (!rc)
		*out = c.m;
	return rc;
}

/* Compares SHA-256(a || b) with `expected`, a digest of the manifest that
 * stands for entry `index` of `where`.
 */
static int check_digest(const struct m4_manifest *m, m4_sha256_fn hash,
			void *ctx, const void *a, __u64 a_bytes, const void *b,
			__u64 b_bytes, const __u8 *expected, const char *where,
			__u64 index, struct m4_manifest_error *err)
{
	__u8 digest[M4_IMAGE_DIGEST_BYTES];
	__u64 at = (__u64)(expected - (const __u8 *)m->header);
	int rc;

	rc = hash(ctx, a, a_bytes, b, b_bytes, digest);
	if (rc)
		return refuse(err, rc, where, "could not be hashed", index,
			      at);
	if (memcmp(digest, expected, sizeof(digest)))
		return refuse(err, -EBADMSG, where, "digest does not match",
			      index, at);
	return 0;
}

int m4_manifest_check_digests(const struct m4_manifest *m, m4_sha256_fn hash,
			      void *ctx, struct m4_manifest_error *err)
{
	const struct m4_image_header *h = m->header;
	const __u8 *level = m->tree;
	__u64 blocks = level_blocks(m->chunk_count);
	__u64 tree_block = 0; /* counted over all levels, for the error */
	__u64 i;
	int rc;

	rc = check_digest(m, hash, ctx, h,
			  m->manifest_bytes - sizeof(struct m4_image_trailer),
			  NULL, 0, m->digest, "trailer", 0, err);
	if (rc)
		return rc;
	while (blocks > 1) {
		const __u8 *above = level + blocks * M4_IMAGE_BLOCK_BYTES;

		for (i = 0; i < blocks; i++) {
			rc = check_digest(m, hash, ctx, h->salt,
					  sizeof(h->salt),
					  level + i * M4_IMAGE_BLOCK_BYTES,
					  M4_IMAGE_BLOCK_BYTES,
					  above + i * M4_IMAGE_DIGEST_BYTES,
					  "tree", tree_block++, err);
			if (rc)
				return rc;
		}
		level = above;
		blocks = level_blocks(blocks);
	}
	return check_digest(m, hash, ctx, h->salt, sizeof(h->salt), level,
			    M4_IMAGE_BLOCK_BYTES, h->root, "header.root", 0,
			    err);
}

const __u8 *m4_manifest_leaf(const struct m4_manifest *m, __u32 index)
{
	return m->tree + (__u64)index * M4_IMAGE_DIGEST_BYTES;
}

__u64 m4_manifest_tree_bytes(__u64 chunks)
{
	__u64 blocks = 0;

	if (chunks > CHUNKS_MAX)
		return 0;
	while (chunks) {
		chunks = level_blocks(chunks);
		blocks += chunks;
		if (chunks == 1)
			break;
	}
	return blocks * M4_IMAGE_BLOCK_BYTES;
}

static __u64 dtype_bytes(__u32 dtype)
{
	switch (dtype) {
	case M4_DTYPE_U8:
		return 1;
	case M4_DTYPE_F32:
		return 4;
	case M4_DTYPE_F16:
		return 2;
	default: /* U32 is a type of program values, never stored */
		return 0;
	}
}

/* Bytes of a tile, 16 rows of one block, of a quantised type; else 0. */
static __u64 tile_bytes(__u32 dtype)
{
	switch (dtype) {
	case M4_DTYPE_Q8:
		return ROWS16_GROUP * (M4_IMAGE_QUANT_ELEMENTS + 2);
	case M4_DTYPE_Q4:
		return ROWS16_GROUP * (M4_IMAGE_QUANT_ELEMENTS / 2 + 2);
	default:
		return 0;
	}
}

/* Of a quantised matrix, at most 2^31 by 2^31. */
static __u64 quantised_bytes(__u32 dtype, __u32 layout, __u32 rank,
			     const __u64 *shape)
{
	__u64 groups, blocks, bytes;

	if (layout != M4_LAYOUT_ROWS16 || rank != 2 || !shape[0] ||
	    shape[0] > M4_IMAGE_DIM_MAX || !shape[1] ||
	    shape[1] > M4_IMAGE_DIM_MAX || shape[1] % M4_IMAGE_QUANT_ELEMENTS)
		return 0;
	groups = (shape[0] + ROWS16_GROUP - 1) / ROWS16_GROUP;
	blocks = shape[1] / M4_IMAGE_QUANT_ELEMENTS;
	if (check_mul_overflow(groups * blocks, tile_bytes(dtype), &bytes))
		return 0;
	return bytes;
}

__u64 m4_manifest_tensor_bytes(__u32 dtype, __u32 layout, __u32 rank,
			       const __u64 *shape)
{
	__u64 bytes = dtype_bytes(dtype);
	__u32 i;

	if (tile_bytes(dtype))
		return quantised_bytes(dtype, layout, rank, shape);
	if (!bytes || !rank || rank > M4_IMAGE_RANK_MAX)
		return 0;
	if (dtype == M4_DTYPE_U8 && (layout != M4_LAYOUT_PLAIN || rank != 1))
		return 0;
	if (layout == M4_LAYOUT_ROWS16 ? rank != 2 : layout != M4_LAYOUT_PLAIN)
		return 0;
	for (i = 0; i < rank; i++) {
		__u64 dim = shape[i], step = 1;

		if (!dim || dim > M4_IMAGE_DIM_MAX)
			return 0;
		if (layout == M4_LAYOUT_ROWS16)
			step = i ? ROWS16_UNIT_BYTES / dtype_bytes(dtype) :
				   ROWS16_GROUP;
		dim = (dim + step - 1) & ~(step - 1); /* a power of two */
		if (check_mul_overflow(bytes, dim, &bytes))
			return 0;
	}
	return bytes;
}
