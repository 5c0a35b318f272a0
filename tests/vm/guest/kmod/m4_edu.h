/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* /dev/m4-edu: what a device tries with a dma-buf. See m4_edu.c. */
#ifndef M4_EDU_H
#define M4_EDU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define M4_EDU_BYTES 64 /* of one transfer */

/*
 * dmabuf_fd   mapped for the device in both directions
 * flags       M4_EDU_*
 * offset      of the transfer in the dma-buf
 * got         what the device read there, before it tried to write; zero where
 *             it did not read
 */
struct m4_edu_try {
	__s32 dmabuf_fd;
	__u32 flags;
	__u64 offset;
	__u8 got[M4_EDU_BYTES];
};

#define M4_EDU_WRITE 1 /* writes, too */
/* Does not read first. (QEMU's IOMMU remembers what it let through: a write
 * after a read is dropped, one without is told to the kernel as well.)
 */
#define M4_EDU_BLIND 2

#define M4_EDU_TRY _IOWR(0xb5, 0, struct m4_edu_try)

#endif /* M4_EDU_H */
