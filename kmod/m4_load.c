// SPDX-License-Identifier: GPL-2.0-only
/*
 * From firmware files to a verified generation, in this order: manifest into
 * pinned memory, its structure, its digests, its name, room for the payload,
 * then chunk by chunk: read into the pinned folio and compare the digest of
 * what arrived there. A file changed meanwhile, or after, changes nothing.
 *
 * Everything here runs in the image's load work, one at a time.
 */
#include <crypto/hash.h>
#include <linux/err.h>
#include <linux/firmware.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "m4.h"

#define HASH_STEP_BYTES (64UL << 10) /* between two chances to reschedule */
#define FILE_NAME_BYTES 64
#define RESERVE_SHIFT 4 /* a sixteenth of memory stays free of images */

struct m4_loader {
	struct m4_image *image;
	struct m4_generation *gen;
	struct crypto_shash *tfm;
	struct shash_desc *desc;
	char *text; /* M4_ERROR_BYTES; why and where */
};

static __printf(3, 4) int refuse(struct m4_loader *l, int rc,
				 const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vscnprintf(l->text, M4_ERROR_BYTES, format, args);
	va_end(args);
	scnprintf(l->text + length, M4_ERROR_BYTES - length, " (%d)", rc);
	return rc;
}

static int hash_span(struct shash_desc *desc, const u8 *bytes, u64 count)
{
	int rc = 0;

	while (count && !rc) {
		unsigned int step = min_t(u64, count, HASH_STEP_BYTES);

		rc = crypto_shash_update(desc, bytes, step);
		bytes += step;
		count -= step;
		cond_resched();
	}
	return rc;
}

/* m4_sha256_fn; ctx is the loader's shash_desc. */
static int hash_pair(void *ctx, const void *a, u64 a_bytes, const void *b,
		     u64 b_bytes, u8 *out)
{
	struct shash_desc *desc = ctx;
	int rc = crypto_shash_init(desc);

	if (!rc)
		rc = hash_span(desc, a, a_bytes);
	if (!rc)
		rc = hash_span(desc, b, b_bytes);
	if (!rc)
		rc = crypto_shash_final(desc, out);
	return rc;
}

static int hash_open(struct m4_loader *l)
{
	l->tfm = crypto_alloc_shash("sha256", 0, 0);
	if (IS_ERR(l->tfm))
		return PTR_ERR(l->tfm);
	l->desc = kzalloc(sizeof(*l->desc) + crypto_shash_descsize(l->tfm),
			  GFP_KERNEL);
	if (!l->desc) {
		crypto_free_shash(l->tfm);
		return -ENOMEM;
	}
	l->desc->tfm = l->tfm;
	return 0;
}

static void hash_close(struct m4_loader *l)
{
	kfree_sensitive(l->desc);
	crypto_free_shash(l->tfm);
}

/* Up to `size` bytes of image file `file` at `offset` into `to`; the count,
 * or a negative errno (-ENOENT also where the file has no byte there).
 */
static ssize_t read_file(struct m4_loader *l, const char *file, void *to,
			 size_t size, size_t offset)
{
	char path[FILE_NAME_BYTES];
	const struct firmware *fw;
	ssize_t count;
	int rc;

	snprintf(path, sizeof(path), "m4/%s/%s", l->image->name, file);
	rc = request_partial_firmware_into_buf(&fw, path, &l->image->dev, to,
					       size, offset);
	if (rc)
		return rc;
	count = fw->size;
	release_firmware(fw);
	return count;
}

static int refuse_manifest(struct m4_loader *l, int rc,
			   const struct m4_manifest_error *err)
{
	return refuse(l, rc, "manifest: %s: %s, entry %llu, byte %llu",
		      err->where, err->what, err->index, err->offset);
}

/* The manifest lies where mappings will show it; nobody sees it yet. */
static int load_manifest(struct m4_loader *l)
{
	void *bytes = folio_address(l->gen->manifest_folio);
	struct m4_manifest *m = &l->gen->manifest;
	struct m4_manifest_error err;
	ssize_t count;
	int rc;

	count = read_file(l, M4_IMAGE_MANIFEST_NAME, bytes, M4_CHUNK_BYTES, 0);
	if (count < 0)
		return refuse(l, count, "manifest: cannot be read");
	rc = m4_manifest_check(bytes, count, m, &err);
	if (!rc)
		rc = m4_manifest_check_digests(m, hash_pair, l->desc, &err);
	if (rc)
		return refuse_manifest(l, rc, &err);
	if (strcmp((const char *)m->header->name, l->image->name))
		return refuse(l, -EINVAL, "manifest: image of another name, %s",
			      m->header->name);
	return 0;
}

/* Fails before the system is starved rather than after. */
static int pin_payload(struct m4_loader *l)
{
	const struct m4_manifest *m = &l->gen->manifest;
	s64 room = si_mem_available();
	int rc;

	room -= totalram_pages() >> RESERVE_SHIFT;
	if (room < (s64)(m->payload_bytes >> PAGE_SHIFT))
		return refuse(l, -ENOMEM,
			      "payload: %llu bytes, %lld MiB to spare",
			      m->payload_bytes, room >> (20 - PAGE_SHIFT));
	rc = m4_generation_pin_payload(l->gen, m->chunk_count);
	if (rc)
		return refuse(l, rc, "payload: no huge page for chunk %u of %u",
			      l->gen->payload_count, m->chunk_count);
	return 0;
}

/* Payload chunk `chunk`, found in `file` at `offset`. */
static int load_chunk(struct m4_loader *l, u32 chunk, const char *file,
		      size_t offset)
{
	const struct m4_manifest *m = &l->gen->manifest;
	void *bytes = folio_address(l->gen->payload[chunk]);
	u8 digest[M4_IMAGE_DIGEST_BYTES];
	ssize_t count;
	int rc;

	if (m4_image_stopping(l->image))
		return refuse(l, -EINTR, "the module is being unloaded");
	count = read_file(l, file, bytes, M4_CHUNK_BYTES, offset);
	if (count < 0)
		return refuse(l, count, "%s: cannot be read at byte %zu", file,
			      offset);
	if (count != M4_CHUNK_BYTES)
		return refuse(l, -EINVAL, "%s: ends at byte %zu", file,
			      offset + count);
	rc = hash_pair(l->desc, m->header->salt, sizeof(m->header->salt),
		       bytes, M4_CHUNK_BYTES, digest);
	if (rc)
		return refuse(l, rc, "payload: chunk %u: no digest", chunk);
	if (memcmp(digest, m4_manifest_leaf(m, chunk), sizeof(digest)))
		return refuse(l, -EBADMSG,
			      "payload: chunk %u: digest does not match (%s at byte %zu)",
			      chunk, file, offset);
	cond_resched();
	return 0;
}

static int load_segment(struct m4_loader *l, u32 index)
{
	const struct m4_image_segment *s =
		&l->gen->manifest.segments[index];
	u32 first = le64_to_cpu(s->payload_offset) >> M4_IMAGE_LOG2_CHUNK;
	u32 chunks = le64_to_cpu(s->bytes) >> M4_IMAGE_LOG2_CHUNK;
	char file[FILE_NAME_BYTES / 2];
	u32 i;
	int rc;

	snprintf(file, sizeof(file), M4_IMAGE_SEGMENT_FORMAT, index);
	for (i = 0; i < chunks; i++) {
		rc = load_chunk(l, first + i, file, i * M4_CHUNK_BYTES);
		if (rc)
			return rc;
	}
	return 0;
}

static int load_generation(struct m4_loader *l)
{
	u32 i;
	int rc;

	rc = load_manifest(l);
	if (rc)
		return rc;
	rc = pin_payload(l);
	if (rc)
		return rc;
	for (i = 0; i < l->gen->manifest.segment_count; i++) {
		rc = load_segment(l, i);
		if (rc)
			return rc;
	}
	rc = m4_generation_seal(l->gen);
	if (rc)
		return refuse(l, rc, "no inode for the mappings");
	return 0;
}

int m4_load(struct m4_image *image, struct m4_generation **out,
	    char text[M4_ERROR_BYTES])
{
	struct m4_loader l = { .image = image, .text = text };
	int rc;

	rc = hash_open(&l);
	if (rc)
		return refuse(&l, rc, "no SHA-256");
	l.gen = m4_generation_alloc(&image->pinned_bytes);
	if (!l.gen) {
		rc = refuse(&l, -ENOMEM, "manifest: no huge page");
		goto out_hash;
	}
	rc = load_generation(&l);
	if (rc)
		m4_generation_put(l.gen);
	else
		*out = l.gen;
out_hash:
	hash_close(&l);
	return rc;
}
