// SPDX-License-Identifier: GPL-2.0-only
/*
 * An importer that does not mean well: QEMU's device "edu" maps a dma-buf for
 * both directions, whatever the exporter thinks of it, reads 64 bytes there and
 * writes 64 others. That it can write at all, its own buffer shows: by it comes
 * what the device has read.
 */
#include <linux/delay.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "m4_edu.h"

/* registers of the device; its own memory as transfers see it */
#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_TARGET 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_DMA_START BIT(0)
#define EDU_DMA_TO_MEMORY BIT(1)
#define EDU_MEMORY 0x40000

#define PATTERN 0xa5

struct m4_edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	u8 *bounce; /* memory of our own, for both sides */
	dma_addr_t bounce_dma;
	struct mutex lock; /* all below */
	struct dma_buf *buf;
	struct dma_buf_attachment *attachment;
	struct sg_table *table;
};

static struct m4_edu edu;

static struct sg_table *edu_map(struct dma_buf_attachment *attachment)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	return dma_buf_map_attachment(attachment, DMA_BIDIRECTIONAL);
#else
	return dma_buf_map_attachment_unlocked(attachment, DMA_BIDIRECTIONAL);
#endif
}

static void edu_unmap(struct dma_buf_attachment *attachment,
		      struct sg_table *table)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	dma_buf_unmap_attachment(attachment, table, DMA_BIDIRECTIONAL);
#else
	dma_buf_unmap_attachment_unlocked(attachment, table,
					  DMA_BIDIRECTIONAL);
#endif
}

static void edu_let_go(void)
{
	if (!edu.buf)
		return;
	if (edu.table)
		edu_unmap(edu.attachment, edu.table);
	if (edu.attachment)
		dma_buf_detach(edu.buf, edu.attachment);
	dma_buf_put(edu.buf);
	edu.buf = NULL;
	edu.attachment = NULL;
	edu.table = NULL;
}

static int edu_transfer(dma_addr_t memory, bool to_memory)
{
	int tries;

	writeq(to_memory ? EDU_MEMORY : memory, edu.regs + EDU_DMA_SOURCE);
	writeq(to_memory ? memory : EDU_MEMORY, edu.regs + EDU_DMA_TARGET);
	writeq(M4_EDU_BYTES, edu.regs + EDU_DMA_COUNT);
	writeq(EDU_DMA_START | (to_memory ? EDU_DMA_TO_MEMORY : 0),
	       edu.regs + EDU_DMA_COMMAND);
	for (tries = 0; tries < 1000; tries++) {
		if (!(readq(edu.regs + EDU_DMA_COMMAND) & EDU_DMA_START))
			return 0;
		msleep(10);
	}
	return -ETIMEDOUT;
}

/* Where the device finds byte `offset`, all of a transfer in one piece. */
static int edu_address(u64 offset, dma_addr_t *out)
{
	struct scatterlist *sg;
	int i;

	for_each_sgtable_dma_sg(edu.table, sg, i) {
		if (offset + M4_EDU_BYTES <= sg_dma_len(sg)) {
			*out = sg_dma_address(sg) + offset;
			return 0;
		}
		if (offset < sg_dma_len(sg))
			break;
		offset -= sg_dma_len(sg);
	}
	return -ERANGE;
}

static int edu_try(struct m4_edu_try *t)
{
	dma_addr_t where;
	int rc;

	edu.buf = dma_buf_get(t->dmabuf_fd);
	if (IS_ERR(edu.buf)) {
		rc = PTR_ERR(edu.buf);
		edu.buf = NULL;
		return rc;
	}
	edu.attachment = dma_buf_attach(edu.buf, &edu.pdev->dev);
	if (IS_ERR(edu.attachment)) {
		rc = PTR_ERR(edu.attachment);
		edu.attachment = NULL;
		return rc;
	}
	edu.table = edu_map(edu.attachment);
	if (IS_ERR(edu.table)) {
		rc = PTR_ERR(edu.table);
		edu.table = NULL;
		return rc;
	}
	rc = edu_address(t->offset, &where);
	memset(t->got, 0, sizeof(t->got));
	if (!rc && !(t->flags & M4_EDU_BLIND)) {
		rc = edu_transfer(where, false);
		if (!rc)
			rc = edu_transfer(edu.bounce_dma, true);
		memcpy(t->got, edu.bounce, M4_EDU_BYTES);
	}
	if (rc)
		return rc;
	if (!(t->flags & M4_EDU_WRITE))
		return 0;
	memset(edu.bounce, PATTERN, M4_EDU_BYTES);
	rc = edu_transfer(edu.bounce_dma, false);
	if (!rc)
		rc = edu_transfer(where, true);
	return rc;
}

static long edu_ioctl(struct file *file, unsigned int request,
		      unsigned long arg)
{
	struct m4_edu_try t;
	long rc;

	if (request != M4_EDU_TRY)
		return -ENOTTY;
	if (copy_from_user(&t, (void __user *)arg, sizeof(t)))
		return -EFAULT;
	mutex_lock(&edu.lock);
	rc = edu_try(&t);
	edu_let_go();
	mutex_unlock(&edu.lock);
	if (!rc && copy_to_user((void __user *)arg, &t, sizeof(t)))
		rc = -EFAULT;
	return rc;
}

static const struct file_operations edu_file_ops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = edu_ioctl,
};

static struct miscdevice edu_node = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "m4-edu",
	.mode = 0600,
	.fops = &edu_file_ops,
};

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int rc;

	rc = pcim_enable_device(pdev);
	if (rc)
		return rc;
	rc = pcim_iomap_regions(pdev, BIT(0), "m4-edu");
	if (rc)
		return rc;
	rc = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(28));
	if (rc)
		return rc;
	edu.bounce = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE,
					 &edu.bounce_dma, GFP_KERNEL);
	if (!edu.bounce)
		return -ENOMEM;
	pci_set_master(pdev);
	mutex_init(&edu.lock);
	edu.pdev = pdev;
	edu.regs = pcim_iomap_table(pdev)[0];
	return misc_register(&edu_node);
}

static void edu_remove(struct pci_dev *pdev)
{
	misc_deregister(&edu_node);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "m4-edu",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("Lets QEMU's device edu write where it should not");
MODULE_LICENSE("GPL");
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
MODULE_IMPORT_NS(DMA_BUF);
#else
MODULE_IMPORT_NS("DMA_BUF");
#endif
