/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/m4/control: the one device of m4.ko that takes requests. What the
 * module shows of an image is in sysfs and in /dev/m4/<name>; see
 * docs/kernel-module.md.
 */
#ifndef _UAPI_LINUX_M4_H
#define _UAPI_LINUX_M4_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define M4_ABI_VERSION 2

/* Largest window of one export; windows begin and end at multiples of this
 * device's chunk, 2 MiB.
 */
#define M4_EXPORT_MAX_BYTES (1ULL << 30)

/*
 * A window of an image as a dma-buf: readable by devices, written by none.
 *
 * The image is named by an open descriptor of its node, so what is exported
 * is the generation which that descriptor holds, whatever was loaded since;
 * the dma-buf holds it on its own, too.
 *
 * Offsets count as the node's do: 0 is the manifest, 2 MiB the payload.
 *
 * size        bytes of this struct as the caller was compiled with. A kernel
 *             that knows more fields takes those missing for zero; one that
 *             knows fewer refuses set ones with E2BIG.
 * image_fd    of /dev/m4/<name>; EBADF, or EINVAL for a file of another kind
 * flags       0; EINVAL
 * offset      multiple of 2 MiB; EINVAL, ERANGE outside the image
 * bytes       multiple of 2 MiB, not 0, at most M4_EXPORT_MAX_BYTES
 * dmabuf_fd   the result: close-on-exec, not writable
 * reserved    0; EINVAL
 *
 * ESTALE where the generation was revoked.
 */
struct m4_export {
	__u32 size;
	__s32 image_fd;
	__u64 flags;
	__u64 offset;
	__u64 bytes;
	__s32 dmabuf_fd;
	__u32 reserved;
};

#define M4_IOC_MAGIC 0xb4
/* Returns M4_ABI_VERSION. */
#define M4_IOC_VERSION _IO(M4_IOC_MAGIC, 0)
#define M4_IOC_EXPORT _IOWR(M4_IOC_MAGIC, 1, struct m4_export)

#endif /* _UAPI_LINUX_M4_H */
