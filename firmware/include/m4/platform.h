/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What manifest.c needs of its surroundings, by the kernel's names: errno,
 * memcmp, offsetof, little-endian reads and overflow-checked sums. Private to
 * the image's C sources; readers include manifest.h.
 */
#ifndef M4_PLATFORM_H
#define M4_PLATFORM_H

#ifdef __KERNEL__

#include <linux/errno.h>
#include <linux/overflow.h>
#include <linux/stddef.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/byteorder.h>

#else

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define le16_to_cpu(value) le16toh(value)
#define le32_to_cpu(value) le32toh(value)
#define le64_to_cpu(value) le64toh(value)
#define check_add_overflow(a, b, sum) __builtin_add_overflow(a, b, sum)
#define check_mul_overflow(a, b, product) __builtin_mul_overflow(a, b, product)

#endif

#endif /* M4_PLATFORM_H */
