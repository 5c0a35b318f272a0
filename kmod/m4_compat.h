/* SPDX-License-Identifier: GPL-2.0-only */
/* Where kernels from 6.1 on differ. Nothing else asks for a version. */
#ifndef M4_COMPAT_H
#define M4_COMPAT_H

#include <linux/device.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/version.h>

/* class callbacks take a const device from 6.2 on */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define M4_CLASS_DEVICE struct device
#else
#define M4_CLASS_DEVICE const struct device
#endif

/* and classes are made without an owner from 6.4 on */
static inline struct class *m4_class_create(const char *name)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
	return class_create(THIS_MODULE, name);
#else
	return class_create(name);
#endif
}

/* vm_flags are written through helpers from 6.3 on */
static inline void m4_vm_flags_mod(struct vm_area_struct *vma,
				   unsigned long set, unsigned long clear)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#else
	vm_flags_mod(vma, set, clear);
#endif
}

/* Whether an IOMMU translates for what the DMA API maps for the device. To be
 * behind one is not enough: it may let everything through.
 */
static inline bool m4_dma_translated(struct device *dev)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);

	return domain && iommu_is_dma_domain(domain);
}

/* the namespace is a string from 6.13 on */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define M4_IMPORT_DMA_BUF MODULE_IMPORT_NS(DMA_BUF)
#else
#define M4_IMPORT_DMA_BUF MODULE_IMPORT_NS("DMA_BUF")
#endif

#endif /* M4_COMPAT_H */
