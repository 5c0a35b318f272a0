// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a generation: one order-9 folio a chunk, allocated outside
 * the page cache and off the LRU, so nothing reclaims, moves or writes back
 * what was verified. Pages are zeroed before they are given back.
 *
 * A generation has one owner until it is published; afterwards it is read-only
 * and shared by reference.
 */
#include <linux/err.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "m4.h"

/* Folio for chunk `index` of the node's bytes. The index is what the core
 * compares with i_size before it installs a huge mapping.
 */
static struct folio *m4_folio_pin(struct m4_generation *gen, pgoff_t index)
{
	struct folio *folio =
		folio_alloc(GFP_KERNEL | __GFP_RETRY_MAYFAIL | __GFP_NOWARN,
			    M4_CHUNK_ORDER);

	if (!folio)
		return NULL;
	folio->index = index << M4_CHUNK_ORDER;
	atomic64_add(M4_CHUNK_BYTES, &gen->image->pinned_bytes);
	return folio;
}

/* A page that someone still holds (a pipe, direct I/O) loses its content
 * here and is freed by them.
 */
static void m4_folio_unpin(struct m4_generation *gen, struct folio *folio)
{
	if (!folio)
		return;
	memset(folio_address(folio), 0, M4_CHUNK_BYTES);
	folio_put(folio);
	atomic64_sub(M4_CHUNK_BYTES, &gen->image->pinned_bytes);
	cond_resched();
}

static void m4_generation_release(struct kref *ref)
{
	struct m4_generation *gen =
		container_of(ref, struct m4_generation, ref);
	u32 i;

	iput(gen->inode);
	for (i = 0; i < gen->payload_count; i++)
		m4_folio_unpin(gen, gen->payload[i]);
	m4_folio_unpin(gen, gen->manifest_folio);
	kvfree(gen->payload);
	m4_image_forget(gen); /* counted as alive until its memory is free */
	kfree(gen);
}

void m4_generation_put(struct m4_generation *gen)
{
	kref_put(&gen->ref, m4_generation_release);
}

struct m4_generation *m4_generation_alloc(struct m4_image *image)
{
	struct m4_generation *gen = kzalloc(sizeof(*gen), GFP_KERNEL);
	struct inode *inode;

	if (!gen)
		return NULL;
	kref_init(&gen->ref);
	gen->image = image;
	inode = alloc_anon_inode(m4_mount->mnt_sb);
	gen->inode = IS_ERR(inode) ? NULL : inode;
	gen->manifest_folio = m4_folio_pin(gen, 0);
	if (!gen->inode || !gen->manifest_folio) {
		m4_generation_put(gen);
		return NULL;
	}
	memset(folio_address(gen->manifest_folio), 0, M4_CHUNK_BYTES);
	return gen;
}

int m4_generation_pin_payload(struct m4_generation *gen, u32 chunks)
{
	gen->payload = kvcalloc(chunks, sizeof(*gen->payload), GFP_KERNEL);
	if (!gen->payload)
		return -ENOMEM;
	while (gen->payload_count < chunks) {
		u32 i = gen->payload_count;

		gen->payload[i] = m4_folio_pin(gen, i + 1UL);
		if (!gen->payload[i])
			return -ENOMEM;
		gen->payload_count++;
		cond_resched();
	}
	i_size_write(gen->inode, m4_generation_bytes(gen));
	return 0;
}

struct folio *m4_generation_folio(struct m4_generation *gen, pgoff_t index)
{
	if (!index)
		return gen->manifest_folio;
	return index <= gen->payload_count ? gen->payload[index - 1] : NULL;
}
