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
#include "m4_trace.h"

static struct m4_image *image_of(struct m4_scrub *scrub)
{
	return container_of(scrub, struct m4_image, scrub);
}

/* What is alive and not revoked, from `number` on: a reference, or NULL. */
static struct m4_generation *generation_from(struct m4_image *image, u64 number)
{
	struct m4_generation *gen, *found = NULL;

	mutex_lock(&image->lock);
	list_for_each_entry(gen, &image->generations, node) {
		if (gen->number < number || gen->revoked)
			continue;
		if (kref_get_unless_zero(&gen->ref)) {
			found = gen;
			break;
		}
	}
	mutex_unlock(&image->lock);
	return found;
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

static void found_altered(struct m4_generation *gen, u32 index)
{
	struct m4_image *image = gen->image;
	char why[M4_ERROR_BYTES];

	mutex_lock(&image->lock);
	image->scrub.errors++;
	mutex_unlock(&image->lock);
	if (index)
		snprintf(why, sizeof(why),
			 "generation %llu: payload: chunk %u: altered in memory (%d)",
			 gen->number, index - 1, -EBADMSG);
	else
		snprintf(why, sizeof(why),
			 "generation %llu: manifest: altered in memory (%d)",
			 gen->number, -EBADMSG);
	m4_image_revoke(gen, why);
}

static void idle_step(struct m4_scrub *scrub)
{
	struct m4_generation *gen =
		generation_from(image_of(scrub), scrub->idle_number);
	int rc;

	if (!gen) /* round; from the first again */
		gen = generation_from(image_of(scrub), 0);
	if (!gen)
		return;
	if (gen->number != scrub->idle_number) {
		scrub->idle_number = gen->number;
		scrub->idle_index = 0;
	}
	if (scrub->idle_index) {
		rc = m4_hash_chunk(gen, scrub->idle_index - 1);
		trace_m4_scrub(gen, scrub->idle_index - 1, rc);
	} else {
		rc = m4_hash_manifest(gen);
	}
	if (rc == -EBADMSG)
		found_altered(gen, scrub->idle_index);
	if (++scrub->idle_index > gen->payload_count) {
		scrub->idle_number = gen->number + 1;
		scrub->idle_index = 0;
	}
	m4_generation_put(gen);
}

static void idle_work(struct work_struct *work)
{
	struct m4_scrub *scrub = container_of(to_delayed_work(work),
					      struct m4_scrub, idle_work);
	struct m4_image *image = image_of(scrub);
	int nice = task_nice(current);
	u64 chunks, ticks, n;

	mutex_lock(&image->lock);
	chunks = count_chunks(image);
	ticks = (u64)scrub->period_s * HZ;
	mutex_unlock(&image->lock);
	if (!chunks || !ticks)
		return; /* the next generation or period wakes it */
	set_user_nice(current, MAX_NICE);
	for (n = div64_u64(chunks + ticks - 1, ticks); n; n--) {
		if (m4_image_stopping(image))
			break;
		idle_step(scrub);
	}
	set_user_nice(current, nice);
	mutex_lock(&image->lock);
	if (!image->stopping)
		queue_delayed_work(m4_wq, &scrub->idle_work,
				   max(div64_u64(ticks, chunks), 1ULL));
	mutex_unlock(&image->lock);
}

static void pass_generation(struct m4_scrub *scrub, struct m4_generation *gen)
{
	int rc = m4_hash_manifest(gen);
	u32 bad;

	if (rc == -EBADMSG) {
		found_altered(gen, 0);
		return;
	}
	m4_hasher_begin(&scrub->hasher, gen, &scrub->progress);
	m4_hasher_offer(&scrub->hasher, gen->payload_count);
	rc = m4_hasher_end(&scrub->hasher, &bad);
	if (rc == -EBADMSG)
		found_altered(gen, bad + 1);
}

static void pass_work(struct work_struct *work)
{
	struct m4_scrub *scrub = container_of(work, struct m4_scrub, pass_work);
	struct m4_image *image = image_of(scrub);
	struct m4_generation *gen;
	u64 number = 0;

	while ((gen = generation_from(image, number))) {
		pass_generation(scrub, gen);
		number = gen->number + 1;
		m4_generation_put(gen);
	}
	mutex_lock(&image->lock);
	scrub->passing = false;
	scrub->passes++;
	WRITE_ONCE(scrub->progress.total, 0);
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
	else if (scrub->passing)
		rc = -EBUSY;
	else if (!chunks)
		rc = -ENODATA;
	if (!rc) {
		scrub->passing = true;
		atomic_set(&scrub->progress.done, 0);
		WRITE_ONCE(scrub->progress.total, chunks);
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

void m4_scrub_set_period(struct m4_image *image, u32 seconds)
{
	mutex_lock(&image->lock);
	image->scrub.period_s = seconds;
	m4_scrub_wake(image);
	mutex_unlock(&image->lock);
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
