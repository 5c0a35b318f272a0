// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module life: parameters, the class, device numbers, the private file system
 * whose inodes carry the mappings, and the images.
 *
 * Devices and class are made by the core, which frees them when their last
 * user is gone, be that after this module. The device numbers answer last of
 * all that is set up: no file is open while that can still fail.
 */
#include <linux/cdev.h>
#include <linux/err.h>
#include <linux/fs_context.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/slab.h>
#include <linux/suspend.h>

#include "m4.h"
#include "m4_compat.h"

#define M4_FS_MAGIC 0x6d346677 /* "m4fw" */
#define M4_MINORS (M4_IMAGES_MAX + 1)
#define M4_CONTROL_NAME "control"

static char *names = "backbone";
module_param(names, charp, 0444);
MODULE_PARM_DESC(names, "Names of images, separated by commas");

static bool autoload;
module_param(autoload, bool, 0444);
MODULE_PARM_DESC(autoload, "Start loading every image with the module");

static unsigned long long rollback_floor;
module_param(rollback_floor, ullong, 0444);
MODULE_PARM_DESC(rollback_floor, "Smallest rollback index an image may have");

static uint scrub_period_s = 3600;
module_param(scrub_period_s, uint, 0444);
MODULE_PARM_DESC(scrub_period_s, "Seconds of one idle re-hash; 0: never");

struct workqueue_struct *m4_wq;
struct vfsmount *m4_mount;

static dev_t m4_devt;
static struct class *m4_class;
static struct m4_image *m4_images[M4_IMAGES_MAX];
static u32 m4_image_count;
static struct cdev *m4_cdev;
static struct device *m4_control;

struct m4_image *m4_image_at(unsigned int minor)
{
	return minor && minor <= m4_image_count ? m4_images[minor - 1] : NULL;
}

static int m4_fs_init_context(struct fs_context *fc)
{
	return init_pseudo(fc, M4_FS_MAGIC) ? 0 : -ENOMEM;
}

/* No owner: the mount is the module's own and would keep it loaded. Files
 * pin the module through m4_file_ops.
 */
static struct file_system_type m4_fs_type = {
	.name = "m4fw",
	.init_fs_context = m4_fs_init_context,
	.kill_sb = kill_anon_super,
};

static char *m4_devnode(M4_CLASS_DEVICE *dev, umode_t *mode)
{
	if (mode)
		*mode = MINOR(dev->devt) ? 0440 : 0600;
	return kasprintf(GFP_KERNEL, "m4/%s", dev_name(dev));
}

static int m4_uevent(M4_CLASS_DEVICE *dev, struct kobj_uevent_env *env)
{
	struct m4_image *image = dev_get_drvdata(dev);
	const struct m4_generation *gen;
	int rc;

	if (!image) /* the control device */
		return 0;
	mutex_lock(&image->lock);
	gen = image->current_gen;
	rc = add_uevent_var(env, "M4_STATE=%s", m4_state_names[image->state]);
	if (!rc && gen)
		rc = add_uevent_var(env, "M4_GENERATION=%llu", gen->number);
	if (!rc && gen)
		rc = add_uevent_var(env, "M4_VERSION=%s",
				    (char *)gen->manifest.header->version);
	if (!rc && image->error[0])
		rc = add_uevent_var(env, "M4_ERROR=%s", image->error);
	mutex_unlock(&image->lock);
	return rc;
}

/* As docs/image-format.md has it, and not the control device's. */
static bool __init m4_name_valid(const char *name)
{
	size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return length && length < M4_IMAGE_NAME_BYTES && !name[length] &&
	       *name != '-' && strcmp(name, M4_CONTROL_NAME);
}

static int __init m4_image_add(const char *name)
{
	struct m4_image *image;
	u32 i;

	for (i = 0; i < m4_image_count; i++)
		if (!strcmp(m4_images[i]->name, name))
			return -EEXIST;
	if (!m4_name_valid(name))
		return -EINVAL;
	if (m4_image_count == M4_IMAGES_MAX)
		return -ENOSPC;
	image = m4_image_create(name, m4_class, m4_devt + 1 + m4_image_count,
				max_t(u64, rollback_floor,
				      M4_BUILTIN_ROLLBACK_FLOOR),
				scrub_period_s);
	if (IS_ERR(image))
		return PTR_ERR(image);
	m4_images[m4_image_count++] = image;
	return 0;
}

static int __init m4_images_init(void)
{
	char *list = kstrdup(names, GFP_KERNEL), *next = list, *name;
	int rc = 0;

	if (!list)
		return -ENOMEM;
	while (!rc && (name = strsep(&next, ","))) {
		rc = m4_image_add(name);
		if (rc)
			pr_err("m4: names: '%s' cannot be used (%d)\n", name,
			       rc);
	}
	kfree(list);
	return rc;
}

/* Of what was set up, everything: at the end, or when something failed. No
 * file is open (m4_file_ops.owner), hence nothing is mapped or exported.
 */
static void m4_teardown(void)
{
	if (m4_cdev)
		cdev_del(m4_cdev);
	unregister_pm_notifier(&m4_pm_block); /* no harm where it is not */
	while (m4_image_count)
		m4_image_destroy(m4_images[--m4_image_count]);
	if (!IS_ERR_OR_NULL(m4_control))
		device_unregister(m4_control);
	class_destroy(m4_class);
	if (m4_devt)
		unregister_chrdev_region(m4_devt, M4_MINORS);
	if (!IS_ERR_OR_NULL(m4_mount))
		kern_unmount(m4_mount);
	if (m4_wq)
		destroy_workqueue(m4_wq);
	m4_keys_exit();
	m4_hash_exit();
}

static int __init m4_setup(void)
{
	int rc;

	rc = m4_hash_init();
	if (rc)
		return rc;
	rc = m4_keys_init();
	if (rc)
		return rc;
	m4_wq = alloc_workqueue("m4", WQ_UNBOUND, 0);
	if (!m4_wq)
		return -ENOMEM;
	m4_mount = kern_mount(&m4_fs_type);
	if (IS_ERR(m4_mount))
		return PTR_ERR(m4_mount);
	rc = alloc_chrdev_region(&m4_devt, 0, M4_MINORS, "m4");
	if (rc)
		return rc;
	m4_class = m4_class_create("m4");
	if (IS_ERR(m4_class))
		return PTR_ERR(m4_class);
	m4_class->devnode = m4_devnode;
	m4_class->dev_uevent = m4_uevent;
	m4_control = device_create(m4_class, NULL, m4_devt, NULL,
				   M4_CONTROL_NAME);
	if (IS_ERR(m4_control))
		return PTR_ERR(m4_control);
	rc = m4_images_init();
	if (rc)
		return rc;
	rc = register_pm_notifier(&m4_pm_block);
	if (rc)
		return rc;
	m4_cdev = cdev_alloc();
	if (!m4_cdev)
		return -ENOMEM;
	m4_cdev->owner = THIS_MODULE;
	m4_cdev->ops = &m4_file_ops;
	return cdev_add(m4_cdev, m4_devt, 1 + m4_image_count);
}

static int __init m4_init(void)
{
	u32 i;
	int rc;

	/* A leaf of the tree is what one entry of the PMD maps. */
	if (M4_CHUNK_PAGES * PAGE_SIZE != M4_CHUNK_BYTES) {
		pr_err("m4: huge pages here are not 2 MiB\n");
		return -EOPNOTSUPP;
	}
	rc = m4_setup();
	if (rc) {
		m4_teardown();
		return rc;
	}
	for (i = 0; i < m4_image_count; i++) {
		m4_image_start(m4_images[i]);
		if (autoload)
			m4_image_request_load(m4_images[i]);
	}
	return 0;
}

module_init(m4_init);
module_exit(m4_teardown);

MODULE_DESCRIPTION("M4 firmware images, verified and mapped read-only");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: sha256");
