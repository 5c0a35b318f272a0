// SPDX-License-Identifier: GPL-2.0-only
/*
 * What nobody can keep a kernel from doing: writes to a page by its physical
 * address. A write of an address to the parameter `flip` turns the lowest bit
 * of the byte there.
 */
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pfn.h>

static int m4_poke_flip(const char *text, const struct kernel_param *kp)
{
	u64 where;
	u8 *page;
	int rc;

	rc = kstrtou64(text, 0, &where);
	if (rc)
		return rc;
	if (!pfn_valid(PHYS_PFN(where)))
		return -ENXIO;
	page = kmap_local_page(pfn_to_page(PHYS_PFN(where)));
	page[offset_in_page(where)] ^= 1;
	kunmap_local(page);
	return 0;
}

static const struct kernel_param_ops m4_poke_flip_ops = {
	.set = m4_poke_flip,
};

module_param_cb(flip, &m4_poke_flip_ops, NULL, 0200);

MODULE_DESCRIPTION("Alters memory, to see whether that is found");
MODULE_LICENSE("GPL");
