// SPDX-License-Identifier: GPL-2.0-only
/* One named image: its state, its generations, and what is asked of it. */
#include <linux/err.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "m4.h"
#include "m4_trace.h"

const char *const m4_state_names[] = {
	[M4_STATE_EMPTY] = "empty",
	[M4_STATE_LOADING] = "loading",
	[M4_STATE_READY] = "ready",
	[M4_STATE_UPDATING] = "updating",
	[M4_STATE_ERROR] = "error",
	[M4_STATE_REVOKED] = "revoked",
};

/* Tells user space of a change of state: poll(2) on the attribute, uevent.
 * Not under image->lock, which the uevent's variables take.
 */
static void m4_image_changed(struct m4_image *image)
{
	trace_m4_state(image, m4_state_names[READ_ONCE(image->state)]);
	sysfs_notify(&image->dev->kobj, NULL, "state");
	kobject_uevent(&image->dev->kobj, KOBJ_CHANGE);
}

/*
 * What comes to be served takes the place of what was, whose memory is free
 * again, where nobody else holds it, before the state is `ready`.
 * -EPERM where the floor was raised past the image while it was loading.
 */
static int m4_image_publish(struct m4_image *image, struct m4_generation *gen)
{
	struct m4_generation *old;

	mutex_lock(&image->lock);
	if (gen->manifest.rollback_index < image->rollback_floor) {
		mutex_unlock(&image->lock);
		return -EPERM;
	}
	old = image->current_gen;
	image->current_gen = gen;
	gen->number = ++image->last_number;
	list_add_tail(&gen->node, &image->generations);
	image->generation_count++;
	m4_scrub_wake(image);
	mutex_unlock(&image->lock);
	if (old)
		m4_generation_put(old);
	mutex_lock(&image->lock);
	image->load_hasher.total = 0;
	if (image->current_gen == gen) { /* not revoked in between */
		image->state = M4_STATE_READY;
		image->error[0] = '\0';
	}
	mutex_unlock(&image->lock);
	return 0;
}

static void m4_image_refuse(struct m4_image *image, const char *text)
{
	mutex_lock(&image->lock);
	image->state = image->current_gen ? M4_STATE_READY : M4_STATE_ERROR;
	image->load_hasher.total = 0;
	strscpy(image->error, text, sizeof(image->error));
	mutex_unlock(&image->lock);
	dev_err(image->dev, "refused: %s\n", text);
}

static void m4_image_load_work(struct work_struct *work)
{
	struct m4_image *image =
		container_of(work, struct m4_image, load_work);
	char text[M4_ERROR_BYTES] = "";
	u64 begin = ktime_get_ns();
	struct m4_generation *gen = m4_load(image, text);
	int rc = PTR_ERR_OR_ZERO(gen);

	trace_m4_load(image, rc ? 0 : m4_generation_bytes(gen),
		      ktime_get_ns() - begin, rc);
	if (!rc) {
		/* read while it cannot go yet */
		dev_info(image->dev, "version %s, %llu bytes, signed by %s%s\n",
			 gen->manifest.header->version,
			 m4_generation_bytes(gen), gen->signer->name,
			 gen->signer->development ? " (development)" : "");
		rc = m4_image_publish(image, gen);
		if (rc) {
			m4_generation_put(gen);
			snprintf(text, sizeof(text),
				 "manifest: the floor was raised (%d)", rc);
		}
	}
	if (rc)
		m4_image_refuse(image, text);
	m4_image_changed(image);
}

int m4_image_request_load(struct m4_image *image)
{
	int rc = 0;

	mutex_lock(&image->lock);
	if (image->stopping)
		rc = -ENODEV;
	else if (image->load_hasher.total || m4_hibernating() ||
		 image->generation_count >= M4_GENERATIONS_MAX)
		rc = -EBUSY;
	if (!rc) {
		image->state = image->current_gen ? M4_STATE_UPDATING :
						    M4_STATE_LOADING;
		image->error[0] = '\0';
		atomic_set(&image->load_hasher.done, 0);
		image->load_hasher.total = 1; /* until the manifest tells */
		/* under the lock: once stopping is set, nothing is queued */
		queue_work(m4_wq, &image->load_work);
	}
	mutex_unlock(&image->lock);
	if (!rc)
		m4_image_changed(image);
	return rc;
}

void m4_image_revoke(struct m4_generation *gen, const char *what, int rc)
{
	struct m4_image *image = gen->image;
	char why[M4_ERROR_BYTES];
	bool first, current_one;

	snprintf(why, sizeof(why), "generation %llu: %s (%d)", gen->number,
		 what, rc);
	mutex_lock(&image->lock);
	first = !gen->revoked;
	current_one = image->current_gen == gen;
	if (first) {
		WRITE_ONCE(gen->revoked, true);
		strscpy(image->error, why, sizeof(image->error));
	}
	if (current_one) {
		image->current_gen = NULL;
		image->state = M4_STATE_REVOKED;
	}
	mutex_unlock(&image->lock);
	if (!first)
		return;
	m4_unmap(gen);
	trace_m4_revoke(gen, 0, m4_generation_bytes(gen));
	dev_crit(image->dev, "revoked: %s\n", why);
	if (current_one)
		m4_generation_put(gen); /* the caller has its own */
	m4_image_changed(image);
}

struct m4_generation *m4_image_get_current(struct m4_image *image)
{
	struct m4_generation *gen;

	mutex_lock(&image->lock);
	gen = image->current_gen;
	if (gen)
		kref_get(&gen->ref);
	mutex_unlock(&image->lock);
	return gen;
}

bool m4_image_in_memory(struct m4_image *image)
{
	bool held;

	mutex_lock(&image->lock);
	held = image->load_hasher.total || atomic64_read(&image->pinned_bytes);
	mutex_unlock(&image->lock);
	return held;
}

void m4_image_forget(struct m4_generation *gen)
{
	struct m4_image *image = gen->image;

	if (!gen->number) /* never became current */
		return;
	mutex_lock(&image->lock);
	list_del(&gen->node);
	image->generation_count--;
	mutex_unlock(&image->lock);
}

int m4_image_raise_floor(struct m4_image *image, u64 floor)
{
	int rc = 0;

	mutex_lock(&image->lock);
	if (floor < image->rollback_floor)
		rc = -EPERM;
	else
		WRITE_ONCE(image->rollback_floor, floor);
	mutex_unlock(&image->lock);
	return rc;
}

struct m4_image *m4_image_create(const char *name, struct class *class,
				 dev_t devt, u64 rollback_floor,
				 u32 scrub_period_s)
{
	struct m4_image *image = kzalloc(sizeof(*image), GFP_KERNEL);
	struct device *dev;

	if (!image)
		return ERR_PTR(-ENOMEM);
	strscpy(image->name, name, sizeof(image->name));
	mutex_init(&image->lock);
	INIT_LIST_HEAD(&image->generations);
	INIT_WORK(&image->load_work, m4_image_load_work);
	m4_hasher_setup(&image->load_hasher);
	m4_scrub_setup(image, scrub_period_s);
	image->rollback_floor = rollback_floor;
	image->stopping = true; /* not started yet; sysfs may be faster */
	dev = device_create_with_groups(class, NULL, devt, image,
					m4_image_groups, "%s", name);
	if (IS_ERR(dev)) {
		kfree(image);
		return ERR_CAST(dev);
	}
	image->dev = dev;
	return image;
}

void m4_image_start(struct m4_image *image)
{
	mutex_lock(&image->lock);
	WRITE_ONCE(image->stopping, false);
	mutex_unlock(&image->lock);
}

void m4_image_destroy(struct m4_image *image)
{
	mutex_lock(&image->lock);
	WRITE_ONCE(image->stopping, true);
	mutex_unlock(&image->lock);
	cancel_work_sync(&image->load_work);
	m4_scrub_stop(image);
	/* waits for those in sysfs files, who take the lock */
	device_unregister(image->dev);
	if (image->current_gen)
		m4_generation_put(image->current_gen);
	WARN_ON(atomic64_read(&image->pinned_bytes) ||
		!list_empty(&image->generations));
	mutex_destroy(&image->lock);
	kfree(image);
}
