// SPDX-License-Identifier: MIT
/*
 * Windows of an image as dma-bufs: what the control device refuses, and what
 * cannot be done with a dma-buf that it gives.
 *
 *   m4_misuse_export NODE         as a family of misuse, see misuse.h
 *   m4_misuse_export hold NODE    exports, says "held", waits for stdin
 *   m4_misuse_export vgem NODE WANTED   imports into vgem; WANTED is "refused"
 *                                 or "taken"
 *   m4_misuse_export edu NODE WANTED    the same by a device that writes
 *   m4_misuse_export revoked NODE  opens, exports, says "held"; when stdin
 *                                 closes the image was revoked; a device, where
 *                                 edu's driver is loaded, then maps no more
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/dma-buf.h>
#include <linux/m4.h>
#include <sys/ioctl.h>

#include "kmod/m4_edu.h"
#include "misuse.h"

#define CONTROL "/dev/m4/control"
#define RW (PROT_READ | PROT_WRITE)

static int control = -1;

static struct m4_export request(int image, uint64_t offset, uint64_t bytes)
{
	return (struct m4_export){ .size = sizeof(struct m4_export),
				   .image_fd = image,
				   .offset = offset,
				   .bytes = bytes,
				   .dmabuf_fd = -1 };
}

static intptr_t ask(struct m4_export r)
{
	return ioctl(control, M4_IOC_EXPORT, &r) ? -1 : r.dmabuf_fd;
}

static int window(int image, uint64_t offset, uint64_t bytes)
{
	int fd = (int)ask(request(image, offset, bytes));

	if (fd < 0)
		report("export a window", false, strerror(errno));
	return fd;
}

static void requests(struct target *t)
{
	struct {
		struct m4_export known;
		uint64_t more;
	} larger = { request(t->fd, 0, CHUNK), 0 };
	struct m4_export r = request(t->fd, 0, CHUNK);
	int path = open(t->node, O_PATH), null = open("/dev/null", O_RDWR);
	char *gap;

	report("the control device tells its version",
	       ioctl(control, M4_IOC_VERSION) == M4_ABI_VERSION,
	       strerror(errno));
	refused("control: a request it does not know",
		ioctl(control, _IO(M4_IOC_MAGIC, 99)), ENOTTY);
	refused("control: a request of another kind",
		ioctl(control, _IO(0x12, 1)), ENOTTY);
	refused("control: read", read(control, &r, 1), EINVAL);
	refused("control: write", write(control, "x", 1), EINVAL);
	refused("control: mmap",
		(intptr_t)map_as(control, PAGE, PROT_READ, MAP_SHARED, 0),
		ENODEV);

	r.size = 0;
	refused("export: size 0", ask(r), EINVAL);
	r.size = sizeof(r) - 4;
	refused("export: a size that is too small", ask(r), EINVAL);
	r.size = UINT32_MAX;
	refused("export: a size that is absurd", ask(r), E2BIG);
	larger.known.size = sizeof(larger);
	larger.more = 1;
	refused("export: fields set that it does not know",
		ioctl(control, M4_IOC_EXPORT, &larger), E2BIG);
	larger.more = 0;
	report("export: unknown fields may be zero",
	       !ioctl(control, M4_IOC_EXPORT, &larger), strerror(errno));
	close(larger.known.dmabuf_fd);

	refused("export: no image", ask(request(-1, 0, CHUNK)), EBADF);
	refused("export: another file", ask(request(null, 0, CHUNK)), EINVAL);
	refused("export: the control device itself",
		ask(request(control, 0, CHUNK)), EINVAL);
	refused("export: an O_PATH descriptor", ask(request(path, 0, CHUNK)),
		EBADF);
	r = request(t->fd, 0, CHUNK);
	r.flags = 1;
	refused("export: flags", ask(r), EINVAL);
	r = request(t->fd, 0, CHUNK);
	r.reserved = 1;
	refused("export: reserved", ask(r), EINVAL);
	refused("export: an offset inside a chunk",
		ask(request(t->fd, PAGE, CHUNK)), EINVAL);
	refused("export: half a chunk", ask(request(t->fd, 0, PAGE)), EINVAL);
	refused("export: nothing", ask(request(t->fd, 0, 0)), EINVAL);
	refused("export: more than a window may have",
		ask(request(t->fd, 0, M4_EXPORT_MAX_BYTES + CHUNK)), EINVAL);
	refused("export: behind the end", ask(request(t->fd, t->bytes, CHUNK)),
		ERANGE);
	refused("export: across the end",
		ask(request(t->fd, t->bytes - CHUNK, 2 * CHUNK)), ERANGE);
	refused("export: an offset that overflows",
		ask(request(t->fd, -(uint64_t)CHUNK, 2 * CHUNK)), ERANGE);
	refused("export: a request nowhere",
		ioctl(control, M4_IOC_EXPORT, NULL), EFAULT);
	refused("export: the result into the image",
		ioctl(control, M4_IOC_EXPORT, t->at), E2BIG);

	/* half of the struct in a page that is not there */
	gap = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(gap + PAGE, PAGE);
	r = request(t->fd, 0, CHUNK);
	memcpy(gap + PAGE - 20, &r, 20);
	refused("export: half a request",
		ioctl(control, M4_IOC_EXPORT, gap + PAGE - 20), EFAULT);
	/* readable, and the result cannot be written */
	memcpy(gap, &r, sizeof(r));
	mprotect(gap, PAGE, PROT_READ);
	refused("export: a result that cannot be told",
		ioctl(control, M4_IOC_EXPORT, gap), EFAULT);
	munmap(gap, PAGE);
	close(path);
	close(null);
}

static intptr_t begin_access(int fd, uint64_t flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

static void buffers(struct target *t)
{
	int fd = window(t->fd, CHUNK, CHUNK), second, flags;
	struct m4_export r = request(fd, 0, CHUNK);
	char self[64];

	if (fd < 0)
		return;
	flags = fcntl(fd, F_GETFL);
	report("dma-buf: close-on-exec", fcntl(fd, F_GETFD) & FD_CLOEXEC,
	       "it is not");
	report("dma-buf: read-only", (flags & O_ACCMODE) == O_RDONLY,
	       "it is not");
	report("dma-buf: of the size asked for",
	       lseek(fd, 0, SEEK_END) == (off_t)CHUNK, "another size");
	refused("dma-buf: export of an export", ask(r), EINVAL);
	refused("dma-buf: mmap for reading",
		(intptr_t)map_as(fd, CHUNK, PROT_READ, MAP_SHARED, 0), EINVAL);
	refused("dma-buf: mmap for writing",
		(intptr_t)map_as(fd, CHUNK, RW, MAP_SHARED, 0), EACCES);
	refused("dma-buf: private mmap for writing",
		(intptr_t)map_as(fd, CHUNK, RW, MAP_PRIVATE, 0), EINVAL);
	refused("dma-buf: read", read(fd, self, 1), EINVAL);
	refused("dma-buf: write", write(fd, "x", 1), EBADF);
	refused("dma-buf: ftruncate", ftruncate(fd, 0), EINVAL);
	refused("dma-buf: access for writing",
		begin_access(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE),
		EPERM);
	refused("dma-buf: access for both",
		begin_access(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW), EPERM);
	refused("dma-buf: end of an access for writing",
		begin_access(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE), EPERM);
	refused("dma-buf: access of no kind", begin_access(fd, 0), EINVAL);
	allowed("dma-buf: access for reading",
		begin_access(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ));
	allowed("dma-buf: end of an access for reading",
		begin_access(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	refused_as("dma-buf: reopen for writing", open(self, O_RDWR), ENXIO,
		   EACCES);
	second = window(t->fd, CHUNK, CHUNK);
	report("the same window can be exported twice", second >= 0, "");
	close(second);
	second = window(t->fd, 0, t->bytes);
	report("all of a node can be exported", second >= 0, "");
	close(second);
	close(fd);
}

static void stranger(struct target *t)
{
	(void)t;
	if (!become_stranger())
		report("become another user", false, strerror(errno));
	refused("a stranger opens the control device", open(CONTROL, O_RDWR),
		EACCES);
}

/* The few words of DRM that an import takes; its headers are not the kernel's
 * of every build machine.
 */
struct prime_handle {
	uint32_t handle, flags;
	int32_t fd;
};

struct dumb_map {
	uint32_t handle, pad;
	uint64_t offset;
};

#define PRIME_FD_TO_HANDLE _IOWR('d', 0x2e, struct prime_handle)
#define PRIME_HANDLE_TO_FD _IOWR('d', 0x2d, struct prime_handle)
#define MAP_DUMB _IOWR('d', 0xb3, struct dumb_map)

/* Where module vgem has made its card. */
static int open_vgem(void)
{
	char path[64], target[256];
	int i;

	for (i = 0; i < 16; i++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/sys/class/drm/card%d", i);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = 0;
		if (!strstr(target, "vgem"))
			continue;
		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		return open(path, O_RDWR);
	}
	return -1;
}

static void vgem(struct target *t, bool taken)
{
	int card = open_vgem(), fd = window(t->fd, CHUNK, CHUNK);
	struct prime_handle prime = { .fd = fd };
	struct dumb_map dumb = { 0 };
	int rc;

	if (card < 0) {
		report("open vgem", false, strerror(errno));
		return;
	}
	rc = ioctl(card, PRIME_FD_TO_HANDLE, &prime);
	if (!taken) {
		refused("vgem: import without an IOMMU", rc, EPERM);
		close(card);
		return;
	}
	report("vgem: import", !rc, strerror(errno));
	dumb.handle = prime.handle;
	rc = ioctl(card, MAP_DUMB, &dumb);
	if (rc)
		refused("vgem: map the import", rc, EINVAL);
	else
		refused_as("vgem: map the import for writing",
			   (intptr_t)mmap(NULL, CHUNK, RW, MAP_SHARED, card,
					  (off_t)dumb.offset),
			   EINVAL, EACCES);
	prime.flags = O_RDWR | O_CLOEXEC;
	prime.fd = -1;
	if (!ioctl(card, PRIME_HANDLE_TO_FD, &prime)) {
		/* what comes back is ours, or as closed as ours */
		intptr_t at = (intptr_t)map_as(prime.fd, CHUNK, RW, MAP_SHARED,
					       0);

		refused_as("vgem: map what it hands on for writing", at, EACCES,
			   EINVAL);
		close(prime.fd);
	}
	close(card); /* with every handle */
	close(fd);
	report("vgem: the image is unchanged", unchanged(t), "it is not");
}

static void edu(struct target *t, bool taken)
{
	int device = open("/dev/m4-edu", O_RDWR);
	int fd = window(t->fd, CHUNK, CHUNK);
	struct m4_edu_try try = { .dmabuf_fd = fd,
				  .flags = M4_EDU_WRITE | M4_EDU_BLIND,
				  .offset = 4096 };
	int rc;

	if (device < 0) {
		report("open edu", false, strerror(errno));
		return;
	}
	rc = ioctl(device, M4_EDU_TRY, &try);
	if (!taken) {
		refused("edu: import without an IOMMU", rc, EPERM);
	} else {
		report("edu: import behind an IOMMU", !rc, strerror(errno));
		try.flags = M4_EDU_WRITE;
		rc = ioctl(device, M4_EDU_TRY, &try);
		report("edu: the device reads the weights",
		       !rc && !memcmp(try.got, t->copy + CHUNK + 4096,
				      M4_EDU_BYTES),
		       "other bytes");
	}
	report("edu: what the device wrote did not arrive", unchanged(t),
	       "bytes differ");
	close(device);
	close(fd);
}

static void wait_for_stdin(void)
{
	char byte;

	puts("held");
	while (read(0, &byte, 1) > 0)
		;
}

static void hold(struct target *t)
{
	int fd = window(t->fd, 0, CHUNK);

	munmap(t->at, t->bytes);
	close(t->fd);
	if (fd >= 0)
		wait_for_stdin();
}

static void revoked(struct target *t)
{
	int fd = window(t->fd, CHUNK, CHUNK);
	int device = open("/dev/m4-edu", O_RDWR);
	struct m4_edu_try try = { .dmabuf_fd = fd };

	wait_for_stdin();
	refused("revoked: a new export", ask(request(t->fd, 0, CHUNK)),
		ESTALE);
	if (device >= 0)
		refused("revoked: an old export is not mapped any more",
			ioctl(device, M4_EDU_TRY, &try), ESTALE);
}

int main(int argc, char **argv)
{
	struct target t;

	control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0) {
		report("open the control device", false, strerror(errno));
		return 1;
	}
	if (argc == 2) {
		begin(&t, argc, argv);
		requests(&t);
		buffers(&t);
		in_child("a stranger", stranger, &t);
		return end(&t, "exports");
	}
	begin(&t, argc - 1, argv + 1);
	if (!strcmp(argv[1], "hold"))
		hold(&t);
	else if (!strcmp(argv[1], "revoked"))
		revoked(&t);
	else if (argc == 4 && !strcmp(argv[1], "vgem"))
		vgem(&t, !strcmp(argv[3], "taken"));
	else if (argc == 4 && !strcmp(argv[1], "edu"))
		edu(&t, !strcmp(argv[3], "taken"));
	else
		return 2;
	return failures != 0;
}
