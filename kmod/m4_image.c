// SPDX-License-Identifier: GPL-2.0-only
/* One named image: its device node, its state and its load requests. */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "m4.h"

const char *const m4_state_names[] = {
	[M4_STATE_EMPTY] = "empty",
	[M4_STATE_LOADING] = "loading",
	[M4_STATE_READY] = "ready",
	[M4_STATE_ERROR] = "error",
};

/* Tells user space of a change of state: poll(2) on the attribute, uevent.
 * Not under image->lock, which the uevent's variables take.
 */
static void m4_image_changed(struct m4_image *image)
{
	sysfs_notify(&image->dev.kobj, NULL, "state");
	kobject_uevent(&image->dev.kobj, KOBJ_CHANGE);
}

static void m4_image_load_work(struct work_struct *work)
{
	struct m4_image *image =
		container_of(work, struct m4_image, load_work);
	struct m4_generation *gen = NULL;
	char text[M4_ERROR_BYTES] = "";
	int rc = m4_load(image, &gen, text);

	mutex_lock(&image->lock);
	if (rc) {
		image->state = M4_STATE_ERROR;
		strscpy(image->error, text, sizeof(image->error));
	} else {
		image->state = M4_STATE_READY;
		image->current_gen = gen;
	}
	mutex_unlock(&image->lock);
	if (rc)
		dev_err(&image->dev, "refused: %s\n", text);
	else
		dev_info(&image->dev, "version %s ready, %llu bytes pinned\n",
			 gen->manifest.header->version,
			 m4_generation_bytes(gen));
	m4_image_changed(image);
}

int m4_image_request_load(struct m4_image *image)
{
	int rc = 0;

	mutex_lock(&image->lock);
	if (image->stopping)
		rc = -ENODEV;
	else if (image->state == M4_STATE_LOADING ||
		 image->state == M4_STATE_READY)
		rc = -EBUSY;
	if (!rc) {
		image->state = M4_STATE_LOADING;
		image->error[0] = '\0';
		/* under the lock: once stopping is set, nothing is queued */
		queue_work(system_unbound_wq, &image->load_work);
	}
	mutex_unlock(&image->lock);
	if (!rc)
		m4_image_changed(image);
	return rc;
}

struct m4_generation *m4_image_get_generation(struct m4_image *image)
{
	struct m4_generation *gen;

	mutex_lock(&image->lock);
	gen = image->current_gen;
	if (gen)
		kref_get(&gen->ref);
	mutex_unlock(&image->lock);
	return gen;
}

bool m4_image_stopping(struct m4_image *image)
{
	return READ_ONCE(image->stopping);
}

static void m4_image_release(struct device *dev)
{
	struct m4_image *image = container_of(dev, struct m4_image, dev);

	mutex_destroy(&image->lock);
	kfree(image);
}

struct m4_image *m4_image_create(const char *name, dev_t devt)
{
	struct m4_image *image = kzalloc(sizeof(*image), GFP_KERNEL);
	int rc;

	if (!image)
		return ERR_PTR(-ENOMEM);
	strscpy(image->name, name, sizeof(image->name));
	mutex_init(&image->lock);
	INIT_WORK(&image->load_work, m4_image_load_work);
	device_initialize(&image->dev);
	image->dev.class = &m4_class;
	image->dev.devt = devt;
	image->dev.release = m4_image_release;
	cdev_init(&image->cdev, &m4_file_ops);
	image->cdev.owner = THIS_MODULE;
	rc = dev_set_name(&image->dev, "%s", name);
	if (!rc)
		rc = cdev_device_add(&image->cdev, &image->dev);
	if (rc) {
		put_device(&image->dev);
		return ERR_PTR(rc);
	}
	return image;
}

void m4_image_destroy(struct m4_image *image)
{
	mutex_lock(&image->lock);
	WRITE_ONCE(image->stopping, true);
	mutex_unlock(&image->lock);
	cancel_work_sync(&image->load_work);
	cdev_device_del(&image->cdev, &image->dev);
	if (image->current_gen)
		m4_generation_put(image->current_gen);
	WARN_ON(atomic64_read(&image->pinned_bytes));
	put_device(&image->dev);
}
