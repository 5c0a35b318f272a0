// SPDX-License-Identifier: GPL-2.0-only
/*
 * Re-hashing what lies in memory: chunk by chunk at the lowest priority, going
 * once round all generations alive in scrub_period_s; and, when asked, a whole
 * pass with all processors. What no longer hashes to its leaf is revoked.
 *
 * Chunks count as the node's do: 0 is the manifest, whose digest is kept apart
 * from it and covers the leaves that the others are compared with.
 */
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/sysfs.h>

#include "m4.h"

/* What is alive and not revoked, from `number` on: a reference, or NULL. */
static struct m4_generation *generation_from(struct m4_image *image, u64 number)
{
	struct m4_generation *gen;

	mutex_lock(&image->lock);
	list_for_each_entry(gen, &image->generations, node)
		if (gen->number >= number && !gen->revoked &&
		    kref_get_unless_zero(&gen->ref))
			break;
	if (list_entry_is_head(gen, &image->generations, node))
		gen = NULL;
	mutex_unlock(&image->lock);
	return gen;
}

static u64 count_chunks(struct m4_image *image)
{
	struct m4_generation *gen;
	u64 chunks = 0;

	lockdep_assert_held(&image->lock);
	list_for_each_entry(gen, &image->generations, node)
		if (!gen->revoked)
			chunks += 1 + gen->payload_count;
	return chunks;
}

/* What hashing the node's chunk `index` gave. */
static void rehashed(struct m4_generation *gen, u32 index, int rc)
{
	char what[M4_ERROR_BYTES] = "manifest: altered in memory";
	struct m4_image *image = gen->image;

	if (!rc || rc == -EINTR)
		return;
	if (rc != -EBADMSG) { /* nothing is known of it */
		dev_warn(image->dev, "re-hash: no digest at chunk %u (%d)\n",
			 index, rc);
		return;
	}
	mutex_lock(&image->lock);
	image->scrub.errors++;
	mutex_unlock(&image->lock);
	if (index)
		snprintf(what, sizeof(what),
			 "payload: chunk %u: altered in memory", index - 1);
	m4_image_revoke(gen, what, rc);
}

static void idle_step(struct m4_image *image)
{
	struct m4_scrub *scrub = &image->scrub;
	struct m4_generation *gen = generation_from(image, scrub->idle_number);

	if (!gen) /* round; from the first again */
		gen = generation_from(image, 0);
	if (!gen)
		return;
	if (gen->number != scrub->idle_number) {
		scrub->idle_number = gen->number;
		scrub->idle_index = 0;
	}
	rehashed(gen, scrub->idle_index, m4_hash_chunk(gen, scrub->idle_index));
	if (++scrub->idle_index > gen->payload_count) {
		scrub->idle_number = gen->number + 1;
		scrub->idle_index = 0;
	}
	m4_generation_put(gen);
}

static void idle_work(struct work_struct *work)
{
	struct m4_image *image = container_of(to_delayed_work(work),
					      struct m4_image, scrub.idle_work);
	int nice = task_nice(current);
	u64 chunks, ticks, n;

	mutex_lock(&image->lock);
	chunks = count_chunks(image);
	ticks = (u64)image->scrub.period_s * HZ;
	mutex_unlock(&image->lock);
	if (!chunks || !ticks)
		return; /* the next generation or period wakes it */
	set_user_nice(current, MAX_NICE);
	for (n = div64_u64(chunks + ticks - 1, ticks); n; n--) {
		if (READ_ONCE(image->stopping))
			break;
		idle_step(image);
	}
	set_user_nice(current, nice);
	mutex_lock(&image->lock);
	if (!image->stopping)
		queue_delayed_work(m4_wq, &image->scrub.idle_work,
				   max(div64_u64(ticks, chunks), 1ULL));
	mutex_unlock(&image->lock);
}

static void pass_generation(struct m4_generation *gen)
{
	struct m4_hasher *hasher = &gen->image->scrub.hasher;
	u32 bad;
	int rc;

	rehashed(gen, 0, m4_hash_chunk(gen, 0));
	if (READ_ONCE(gen->revoked))
		return;
	m4_hasher_begin(hasher, gen);
	m4_hasher_offer(hasher, gen->payload_count);
	rc = m4_hasher_end(hasher, &bad);
	rehashed(gen, bad + 1, rc);
}

static void pass_work(struct work_struct *work)
{
	struct m4_image *image =
		container_of(work, struct m4_image, scrub.pass_work);
	struct m4_generation *gen;
	u64 number = 0;

	while ((gen = generation_from(image, number))) {
		pass_generation(gen);
		number = gen->number + 1;
		m4_generation_put(gen);
	}
	mutex_lock(&image->lock);
	image->scrub.passes++;
	image->scrub.hasher.total = 0;
	mutex_unlock(&image->lock);
	sysfs_notify(&image->dev->kobj, NULL, "scrub");
}

int m4_scrub_request(struct m4_image *image)
{
	struct m4_scrub *scrub = &image->scrub;
	u64 chunks;
	int rc = 0;

	mutex_lock(&image->lock);
	chunks = count_chunks(image);
	if (image->stopping)
		rc = -ENODEV;
	else if (scrub->hasher.total)
		rc = -EBUSY;
	else if (!chunks)
		rc = -ENODATA;
	if (!rc) {
		atomic_set(&scrub->hasher.done, 0);
		scrub->hasher.total = chunks;
		queue_work(m4_wq, &scrub->pass_work);
	}
	mutex_unlock(&image->lock);
	return rc;
}

void m4_scrub_wake(struct m4_image *image)
{
	lockdep_assert_held(&image->lock);
	if (!image->stopping)
		mod_delayed_work(m4_wq, &image->scrub.idle_work, HZ);
}

int m4_scrub_set_period(struct m4_image *image, u32 seconds)
{
	mutex_lock(&image->lock);
	image->scrub.period_s = seconds;
	m4_scrub_wake(image);
	mutex_unlock(&image->lock);
	return 0;
}

void m4_scrub_setup(struct m4_image *image, u32 period_s)
{
	struct m4_scrub *scrub = &image->scrub;

	INIT_DELAYED_WORK(&scrub->idle_work, idle_work);
	INIT_WORK(&scrub->pass_work, pass_work);
	m4_hasher_setup(&scrub->hasher);
	scrub->period_s = period_s;
}

void m4_scrub_stop(struct m4_image *image)
{
	cancel_delayed_work_sync(&image->scrub.idle_work);
	cancel_work_sync(&image->scrub.pass_work);
}
