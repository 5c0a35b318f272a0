// SPDX-License-Identifier: GPL-2.0-only
/*
 * SHA-256 of chunks, by the kernel's crypto API: the processor's own
 * instructions where it has them.
 *
 * A hasher has workers on the unbound work queue, one a processor. They take
 * chunks in rising order as they are offered, and none beyond a bad one; hence
 * the lowest bad chunk is what is reported, however many run. A worker without
 * a chunk ends and is queued again with the next offer, so none waits for
 * anything.
 */
#include <crypto/hash.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/sched.h>

#include "m4.h"
#include "m4_trace.h"

#define HASH_STEP_BYTES (64UL << 10) /* between two chances to reschedule */
#define NO_CHUNK U32_MAX

static struct crypto_shash *m4_tfm; /* no state of its own: shared by all */

int __init m4_hash_init(void)
{
	m4_tfm = crypto_alloc_shash("sha256", 0, 0);
	if (IS_ERR(m4_tfm))
		pr_err("m4: no SHA-256 (%ld)\n", PTR_ERR(m4_tfm));
	return PTR_ERR_OR_ZERO(m4_tfm);
}

void m4_hash_exit(void)
{
	crypto_free_shash(m4_tfm);
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

int m4_hash_pair(void *ctx, const void *a, u64 a_bytes, const void *b,
		 u64 b_bytes, u8 *out)
{
	SHASH_DESC_ON_STACK(desc, m4_tfm);
	int rc;

	desc->tfm = m4_tfm;
	rc = crypto_shash_init(desc);
	if (!rc)
		rc = hash_span(desc, a, a_bytes);
	if (!rc)
		rc = hash_span(desc, b, b_bytes);
	if (!rc)
		rc = crypto_shash_final(desc, out);
	shash_desc_zero(desc);
	return rc;
}

static int hash_payload(const struct m4_generation *gen, u32 chunk)
{
	const struct m4_manifest *m = &gen->manifest;
	u8 digest[M4_IMAGE_DIGEST_BYTES];
	int rc;

	rc = m4_hash_pair(NULL, m->header->salt, sizeof(m->header->salt),
			  folio_address(gen->payload[chunk]), M4_CHUNK_BYTES,
			  digest);
	if (!rc && memcmp(digest, m4_manifest_leaf(m, chunk), sizeof(digest)))
		rc = -EBADMSG;
	if (gen->number)
		trace_m4_scrub(gen, chunk, rc);
	else
		trace_m4_chunk_verify(gen, chunk, rc);
	return rc;
}

static int hash_manifest(const struct m4_generation *gen)
{
	const u8 *bytes = folio_address(gen->manifest_folio);
	u64 end = gen->manifest.manifest_bytes;
	const u8 *trailer = bytes + end - sizeof(struct m4_image_trailer);
	u8 digest[M4_IMAGE_DIGEST_BYTES];
	int rc;

	rc = m4_hash_pair(NULL, bytes, trailer - bytes, NULL, 0, digest);
	if (rc)
		return rc;
	if (memcmp(digest, gen->digest, sizeof(digest)) ||
	    memcmp(trailer, gen->digest, sizeof(digest)) ||
	    memchr_inv(bytes + end, 0, M4_CHUNK_BYTES - end))
		return -EBADMSG;
	return 0;
}

int m4_hash_chunk(const struct m4_generation *gen, u32 index)
{
	return index ? hash_payload(gen, index - 1) : hash_manifest(gen);
}

static u32 take_chunk(struct m4_hasher *h)
{
	u32 chunk = NO_CHUNK;

	if (READ_ONCE(h->gen->image->stopping))
		return NO_CHUNK;
	spin_lock(&h->lock);
	if (h->next < h->offered && h->next < h->bad)
		chunk = h->next++;
	spin_unlock(&h->lock);
	return chunk;
}

static void hash_work(struct work_struct *work)
{
	struct m4_hasher *h =
		container_of(work, struct m4_hash_worker, work)->hasher;
	u32 chunk;

	while ((chunk = take_chunk(h)) != NO_CHUNK) {
		int rc = hash_payload(h->gen, chunk);

		if (!rc) {
			atomic_inc(&h->done);
			continue;
		}
		spin_lock(&h->lock);
		if (chunk < h->bad) {
			h->bad = chunk;
			h->bad_rc = rc;
		}
		spin_unlock(&h->lock);
	}
}

void m4_hasher_setup(struct m4_hasher *h)
{
	u32 i;

	spin_lock_init(&h->lock);
	for (i = 0; i < M4_HASH_WORKERS_MAX; i++) {
		h->workers[i].hasher = h;
		INIT_WORK(&h->workers[i].work, hash_work);
	}
}

void m4_hasher_begin(struct m4_hasher *h, struct m4_generation *gen)
{
	h->gen = gen;
	h->worker_count = min_t(u32, num_online_cpus(), M4_HASH_WORKERS_MAX);
	h->turn = 0;
	h->offered = 0;
	h->next = 0;
	h->bad = NO_CHUNK;
}

bool m4_hasher_offer(struct m4_hasher *h, u32 offered)
{
	u32 wake;
	bool useful;

	spin_lock(&h->lock);
	wake = min(offered - h->offered, h->worker_count);
	h->offered = offered;
	useful = h->bad == NO_CHUNK;
	spin_unlock(&h->lock);
	/* one that is running is queued to run once more: no chunk is missed */
	while (wake--)
		queue_work(m4_wq,
			   &h->workers[h->turn++ % h->worker_count].work);
	return useful && !READ_ONCE(h->gen->image->stopping);
}

int m4_hasher_end(struct m4_hasher *h, u32 *bad)
{
	u32 i;

	for (i = 0; i < h->worker_count; i++)
		flush_work(&h->workers[i].work);
	*bad = h->bad;
	if (h->bad != NO_CHUNK)
		return h->bad_rc;
	return h->next < h->offered ? -EINTR : 0;
}
