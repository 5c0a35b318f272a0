// SPDX-License-Identifier: GPL-2.0-only
/* /dev/m4/control: linux/m4.h is the contract. The structs grow at their ends,
 * so a request is told by its number and the struct's own size.
 */
#include <linux/compat.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/uaccess.h>

#include "m4.h"

#define EXPORT_BYTES_V2 40 /* of struct m4_export in ABI 2, the first */

static int m4_export_read(struct m4_export *e, const struct m4_export __user *u)
{
	u32 size;
	int rc;

	if (get_user(size, &u->size))
		return -EFAULT;
	if (size < EXPORT_BYTES_V2)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	rc = copy_struct_from_user(e, sizeof(*e), u, size);
	if (rc)
		return rc;
	if (e->flags || e->reserved || !e->bytes ||
	    e->bytes > M4_EXPORT_MAX_BYTES ||
	    (e->offset | e->bytes) % M4_IMAGE_CHUNK_BYTES)
		return -EINVAL;
	return 0;
}

static struct file *m4_export_file(struct file *image,
				   const struct m4_export *e)
{
	struct m4_generation *gen;
	u64 end;

	if (image->f_op != &m4_file_ops)
		return ERR_PTR(-EINVAL);
	gen = image->private_data;
	if (check_add_overflow(e->offset, e->bytes, &end) ||
	    end > m4_generation_bytes(gen))
		return ERR_PTR(-ERANGE);
	if (READ_ONCE(gen->revoked))
		return ERR_PTR(-ESTALE);
	if (!IS_ENABLED(CONFIG_DMA_SHARED_BUFFER))
		return ERR_PTR(-EOPNOTSUPP);
	return m4_export_window(gen, e->offset, e->bytes);
}

static long m4_control_export(struct m4_export __user *u)
{
	struct file *image, *file;
	struct m4_export e;
	int rc, fd;

	rc = m4_export_read(&e, u);
	if (rc)
		return rc;
	image = fget(e.image_fd);
	if (!image)
		return -EBADF;
	file = m4_export_file(image, &e);
	fput(image);
	if (IS_ERR(file))
		return PTR_ERR(file);
	fd = get_unused_fd_flags(O_CLOEXEC);
	/* told before it exists: once it does, nothing may fail any more */
	if (fd >= 0 && put_user(fd, &u->dmabuf_fd)) {
		put_unused_fd(fd);
		fd = -EFAULT;
	}
	if (fd < 0) {
		fput(file);
		return fd;
	}
	fd_install(fd, file);
	return 0;
}

static long m4_control_ioctl(struct file *file, unsigned int cmd,
			     unsigned long arg)
{
	if (cmd == M4_IOC_VERSION)
		return M4_ABI_VERSION;
	/* whatever size the caller was compiled with */
	if (_IOC_TYPE(cmd) == M4_IOC_MAGIC &&
	    _IOC_NR(cmd) == _IOC_NR(M4_IOC_EXPORT) &&
	    _IOC_DIR(cmd) == _IOC_DIR(M4_IOC_EXPORT))
		return m4_control_export((struct m4_export __user *)arg);
	return -ENOTTY;
}

const struct file_operations m4_control_ops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = m4_control_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
