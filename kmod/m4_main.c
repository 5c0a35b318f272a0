// SPDX-License-Identifier: GPL-2.0-only
/* Module life: the class, device numbers, the private file system whose
 * inodes carry the mappings, and the one image there is so far.
 */
#include <linux/fs_context.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "m4.h"
#include "m4_compat.h"

#define M4_FS_MAGIC 0x6d346677 /* "m4fw" */
#define M4_DEFAULT_IMAGE "backbone"
#define M4_MINORS 16

static bool autoload;
module_param(autoload, bool, 0444);
MODULE_PARM_DESC(autoload, "Start loading the image with the module");

static dev_t m4_devt;
static struct vfsmount *m4_mount;
static struct m4_image *m4_backbone;

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

struct inode *m4_private_inode(void)
{
	struct inode *inode = alloc_anon_inode(m4_mount->mnt_sb);

	return IS_ERR(inode) ? NULL : inode;
}

static struct m4_image *m4_from_class(M4_CLASS_DEVICE *dev)
{
	return container_of((struct device *)dev, struct m4_image, dev);
}

static char *m4_devnode(M4_CLASS_DEVICE *dev, umode_t *mode)
{
	if (mode)
		*mode = 0440;
	return kasprintf(GFP_KERNEL, "m4/%s", dev_name(dev));
}

static int m4_uevent(M4_CLASS_DEVICE *dev, struct kobj_uevent_env *env)
{
	struct m4_image *image = m4_from_class(dev);
	const struct m4_generation *gen;
	int rc;

	mutex_lock(&image->lock);
	gen = image->current_gen;
	rc = add_uevent_var(env, "M4_STATE=%s", m4_state_names[image->state]);
	if (!rc && gen)
		rc = add_uevent_var(env, "M4_VERSION=%s",
				    (char *)gen->manifest.header->version);
	if (!rc && image->error[0])
		rc = add_uevent_var(env, "M4_ERROR=%s", image->error);
	mutex_unlock(&image->lock);
	return rc;
}

struct class m4_class = {
	.name = "m4",
	.devnode = m4_devnode,
	.dev_uevent = m4_uevent,
	.dev_groups = m4_image_groups,
};

static int __init m4_init(void)
{
	int rc;

	/* A leaf of the tree is what one entry of the PMD maps. */
	if (M4_CHUNK_PAGES * PAGE_SIZE != M4_CHUNK_BYTES) {
		pr_err("m4: huge pages here are not 2 MiB\n");
		return -EOPNOTSUPP;
	}
	m4_mount = kern_mount(&m4_fs_type);
	if (IS_ERR(m4_mount))
		return PTR_ERR(m4_mount);
	rc = alloc_chrdev_region(&m4_devt, 0, M4_MINORS, "m4");
	if (rc)
		goto err_mount;
	rc = class_register(&m4_class);
	if (rc)
		goto err_region;
	m4_backbone = m4_image_create(M4_DEFAULT_IMAGE, m4_devt);
	if (IS_ERR(m4_backbone)) {
		rc = PTR_ERR(m4_backbone);
		goto err_class;
	}
	if (autoload)
		m4_image_request_load(m4_backbone);
	return 0;

err_class:
	class_unregister(&m4_class);
err_region:
	unregister_chrdev_region(m4_devt, M4_MINORS);
err_mount:
	kern_unmount(m4_mount);
	return rc;
}

/* Runs with no file open (m4_file_ops.owner), hence with no mapping. */
static void __exit m4_exit(void)
{
	m4_image_destroy(m4_backbone);
	class_unregister(&m4_class);
	unregister_chrdev_region(m4_devt, M4_MINORS);
	kern_unmount(m4_mount);
}

module_init(m4_init);
module_exit(m4_exit);

MODULE_DESCRIPTION("M4 firmware images, verified and mapped read-only");
MODULE_LICENSE("GPL");
MODULE_SOFTDEP("pre: sha256");
