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
 * got         what the device read there, before it tried to write
 */
struct m4_edu_try {
	__s32 dmabuf_fd;
	__u32 flags;
	__u64 offset;
	__u8 got[M4_EDU_BYTES];
};

#define M4_EDU_WRITE 1 /* writes, too */
#define M4_EDU_KEEP 2 /* stays attached and mapped until the next try */

#define M4_EDU_TRY _IOWR(0xb5, 0, struct m4_edu_try)

#endif /* M4_EDU_H */
