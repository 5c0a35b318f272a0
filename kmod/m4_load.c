// SPDX-License-Identifier: GPL-2.0-only
/*
 * From firmware files to a verified generation, in this order: manifest into
 * pinned memory, its signature, and only then its structure, its digests, its
 * name and rollback index; room for the payload; then chunk by chunk: read
 * into the pinned folio, while other processors compare the digest of what
 * arrived in those before. A file changed meanwhile, or after, changes nothing.
 *
 * Everything here runs in the image's load work, one at a time.
 */
#include <linux/err.h>
#include <linux/firmware.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "m4.h"

#define SIGNATURE_NAME M4_IMAGE_MANIFEST_NAME ".p7s"
#define SIGNATURE_MAX_BYTES (64UL << 10)
#define FILE_NAME_BYTES 64
#define END_BYTES 64 /* read once more, to see what follows them */
#define RESERVE_SHIFT 4 /* a sixteenth of memory stays free of images */

struct m4_loader {
	struct m4_image *image;
	struct m4_generation *gen;
	char segment[FILE_NAME_BYTES / 2]; /* the file of one */
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
	rc = request_partial_firmware_into_buf(&fw, path, l->image->dev, to,
					       size, offset);
	if (rc)
		return rc;
	count = fw->size;
	release_firmware(fw);
	return count;
}

static int refuse_signature(struct m4_loader *l, int rc)
{
	switch (rc) {
	case -ENOKEY:
		return refuse(l, rc, "signature: not by a trusted key");
	case -EKEYREJECTED:
		return refuse(l, rc, "signature: not over this manifest");
	case -EBADMSG:
		return refuse(l, rc, "signature: not detached PKCS#7");
	case -ENOPKG:
		return refuse(l, rc, "signature: algorithm this kernel lacks");
	default:
		return refuse(l, rc, "signature: cannot be checked");
	}
}

/* Over bytes of which nothing has been looked at yet. */
static int check_signature(struct m4_loader *l, const void *bytes, size_t count)
{
	const size_t room = SIGNATURE_MAX_BYTES + 1; /* to see a longer one */
	ssize_t size;
	void *sig;
	int rc;

	if (m4_keys_empty())
		return refuse(l, -ENOKEY,
			      "signature: the module has no certificate");
	sig = kvmalloc(room, GFP_KERNEL);
	if (!sig)
		return refuse(l, -ENOMEM, "signature: no memory");
	size = read_file(l, SIGNATURE_NAME, sig, room, 0);
	if (size < 0) {
		rc = refuse(l, size, "signature: %s cannot be read",
			    SIGNATURE_NAME);
	} else if (size == room) {
		rc = refuse(l, -EFBIG, "signature: over 64 KiB");
	} else {
		rc = m4_keys_verify(bytes, count, sig, size, &l->gen->signer);
		if (rc)
			refuse_signature(l, rc);
	}
	kvfree(sig);
	return rc;
}

static int check_identity(struct m4_loader *l)
{
	const struct m4_manifest *m = &l->gen->manifest;
	u64 floor = READ_ONCE(l->image->rollback_floor);

	if (strcmp((const char *)m->header->name, l->image->name))
		return refuse(l, -EINVAL, "manifest: image of another name, %s",
			      m->header->name);
	if (m->rollback_index < floor)
		return refuse(l, -EPERM,
			      "manifest: rollback index %llu is below the floor, %llu",
			      m->rollback_index, floor);
	return 0;
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
	rc = check_signature(l, bytes, count);
	if (rc)
		return rc;
	rc = m4_manifest_check(bytes, count, m, &err);
	if (!rc)
		rc = m4_manifest_check_digests(m, m4_hash_pair, NULL, &err);
	if (rc)
		return refuse(l, rc, "manifest: %s: %s, entry %llu, byte %llu",
			      err.where, err.what, err.index, err.offset);
	memcpy(l->gen->digest, m->digest, sizeof(l->gen->digest));
	return check_identity(l);
}

/* Fails before the system is starved rather than after. */
static int pin_payload(struct m4_loader *l)
{
	const struct m4_manifest *m = &l->gen->manifest;
	s64 room = si_mem_available();
	int rc;

	mutex_lock(&l->image->lock);
	l->image->load_hasher.total = m->chunk_count;
	mutex_unlock(&l->image->lock);
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

/* The `bytes` of `file` at `offset`, no fewer and, where there is room for one
 * more in `to`, none behind them.
 */
static int read_part(struct m4_loader *l, const char *file, void *to,
		     size_t room, u32 bytes, u64 offset)
{
	ssize_t count = read_file(l, file, to, room, offset);

	if (count < 0)
		return refuse(l, count, "%s: cannot be read at byte %llu", file,
			      offset);
	if (count < bytes)
		return refuse(l, -EINVAL, "%s: ends at byte %llu", file,
			      offset + count);
	if (count > bytes)
		return refuse(l, -EINVAL, "%s: does not end at byte %llu", file,
			      offset + bytes);
	return 0;
}

static const char *segment_file(struct m4_loader *l, u32 index)
{
	snprintf(l->segment, sizeof(l->segment), M4_IMAGE_SEGMENT_FORMAT,
		 index);
	return l->segment;
}

/* 1: enough, a chunk was bad or the image is stopping. */
static int read_segment(struct m4_loader *l, struct m4_hasher *h, u32 index)
{
	const char *file = segment_file(l, index);
	u8 tail[END_BYTES + 1];
	const struct m4_image_segment *s = &l->gen->manifest.segments[index];
	u64 bytes = le64_to_cpu(s->bytes);
	u32 chunk = le64_to_cpu(s->payload_offset) >> M4_IMAGE_LOG2_CHUNK;
	u64 offset;
	int rc;

	for (offset = 0; offset < bytes; offset += M4_CHUNK_BYTES) {
		rc = read_part(l, file, folio_address(l->gen->payload[chunk]),
			       M4_CHUNK_BYTES, M4_CHUNK_BYTES, offset);
		if (rc)
			return rc;
		if (!m4_hasher_offer(h, ++chunk))
			return 1;
		cond_resched();
	}
	/* past the end alone the loader would speak of a missing file */
	return read_part(l, file, tail, sizeof(tail), END_BYTES,
			 bytes - END_BYTES);
}

static int refuse_chunk(struct m4_loader *l, int rc, u32 chunk)
{
	const struct m4_image_segment *s = l->gen->manifest.segments;
	u64 offset = (u64)chunk << M4_IMAGE_LOG2_CHUNK;
	u32 index = 0;

	while (offset >= le64_to_cpu(s[index].bytes))
		offset -= le64_to_cpu(s[index++].bytes);
	return refuse(l, rc, "payload: chunk %u: %s (%s at byte %llu)", chunk,
		      rc == -EBADMSG ? "digest does not match" : "no digest",
		      segment_file(l, index), offset);
}

static int load_payload(struct m4_loader *l)
{
	struct m4_hasher *h = &l->image->load_hasher;
	u32 i, bad;
	int rc, read_rc = 0;

	m4_hasher_begin(h, l->gen);
	for (i = 0; !read_rc && i < l->gen->manifest.segment_count; i++)
		read_rc = read_segment(l, h, i);
	rc = m4_hasher_end(h, &bad);
	if (READ_ONCE(l->image->stopping))
		return refuse(l, -EINTR, "the module is being unloaded");
	/* what is bad lies before what could not be read */
	if (rc)
		return refuse_chunk(l, rc, bad);
	return read_rc;
}

struct m4_generation *m4_load(struct m4_image *image,
			      char text[M4_ERROR_BYTES])
{
	struct m4_loader l = { .image = image, .text = text };
	int rc;

	l.gen = m4_generation_alloc(image);
	if (!l.gen)
		return ERR_PTR(refuse(&l, -ENOMEM, "manifest: no huge page"));
	rc = load_manifest(&l);
	if (!rc)
		rc = pin_payload(&l);
	if (!rc)
		rc = load_payload(&l);
	if (!rc)
		return l.gen;
	m4_generation_put(l.gen);
	return ERR_PTR(rc);
}
