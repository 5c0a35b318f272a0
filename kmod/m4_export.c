// SPDX-License-Identifier: GPL-2.0-only
/*
 * A window of a generation as a dma-buf: what a device reads. It holds the
 * generation, and the core holds the module for it.
 *
 * Whatever an importer asks for, pages are mapped towards the device: where an
 * IOMMU translates, it then lets no write of the device through. The processor
 * gets nothing here: no mmap, no vmap, no access for writing.
 */
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/err.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "m4.h"
#include "m4_compat.h"
#include "m4_trace.h"

static bool require_iommu = true;
module_param(require_iommu, bool, 0444);
MODULE_PARM_DESC(require_iommu, "Exports only for devices behind an IOMMU");

struct m4_window {
	struct m4_generation *gen;
	u32 first; /* chunk of the node */
	u32 count;
};

static int m4_window_attach(struct dma_buf *dmabuf,
			    struct dma_buf_attachment *attach)
{
	if (!require_iommu || m4_dma_translated(attach->dev))
		return 0;
	dev_warn_ratelimited(attach->dev,
			     "m4: no IOMMU would keep it from writing\n");
	return -EPERM;
}

/* One entry a chunk, or as many as the device's limit on one asks for. */
static int m4_window_fill(const struct m4_window *window, struct device *dev,
			  struct sg_table *sgt)
{
	size_t limit = max_t(size_t, dma_get_max_seg_size(dev), PAGE_SIZE);
	size_t step = rounddown_pow_of_two(min(limit, M4_CHUNK_BYTES));
	u32 per_chunk = M4_CHUNK_BYTES / step;
	struct scatterlist *sg;
	int rc, i;

	rc = sg_alloc_table(sgt, window->count * per_chunk, GFP_KERNEL);
	if (rc)
		return rc;
	for_each_sgtable_sg(sgt, sg, i) {
		struct folio *folio =
			m4_generation_folio(window->gen,
					    window->first + i / per_chunk);
		size_t offset = i % per_chunk * step;

		sg_set_page(sg, folio_page(folio, offset >> PAGE_SHIFT), step,
			    0);
	}
	return 0;
}

static struct sg_table *m4_window_map(struct dma_buf_attachment *attach,
				      enum dma_data_direction direction)
{
	const struct m4_window *window = attach->dmabuf->priv;
	struct sg_table *sgt;
	int rc;

	if (READ_ONCE(window->gen->revoked))
		return ERR_PTR(-ESTALE);
	sgt = kzalloc(sizeof(*sgt), GFP_KERNEL);
	if (!sgt)
		return ERR_PTR(-ENOMEM);
	rc = m4_window_fill(window, attach->dev, sgt);
	if (rc)
		goto err_table;
	rc = dma_map_sgtable(attach->dev, sgt, DMA_TO_DEVICE, 0);
	trace_m4_dma_map(window->gen, attach->dev,
			 window->count * M4_CHUNK_BYTES, rc);
	if (rc)
		goto err_entries;
	return sgt;

err_entries:
	sg_free_table(sgt);
err_table:
	kfree(sgt);
	return ERR_PTR(rc);
}

static void m4_window_unmap(struct dma_buf_attachment *attach,
			    struct sg_table *sgt,
			    enum dma_data_direction direction)
{
	dma_unmap_sgtable(attach->dev, sgt, DMA_TO_DEVICE, 0);
	sg_free_table(sgt);
	kfree(sgt);
}

static int m4_window_cpu_access(struct dma_buf *dmabuf,
				enum dma_data_direction direction)
{
	return direction == DMA_FROM_DEVICE ? 0 : -EPERM;
}

static void m4_window_release(struct dma_buf *dmabuf)
{
	struct m4_window *window = dmabuf->priv;

	atomic_dec(&window->gen->image->exports);
	m4_generation_put(window->gen);
	kfree(window);
}

static const struct dma_buf_ops m4_window_ops = {
	.attach = m4_window_attach,
	.map_dma_buf = m4_window_map,
	.unmap_dma_buf = m4_window_unmap,
	.begin_cpu_access = m4_window_cpu_access,
	.end_cpu_access = m4_window_cpu_access,
	.release = m4_window_release,
};

struct file *m4_export_window(struct m4_generation *gen, u64 offset, u64 bytes)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct m4_window *window = kmalloc(sizeof(*window), GFP_KERNEL);
	struct dma_buf *dmabuf;

	if (!window)
		return ERR_PTR(-ENOMEM);
	window->gen = gen;
	window->first = offset >> M4_IMAGE_LOG2_CHUNK;
	window->count = bytes >> M4_IMAGE_LOG2_CHUNK;
	info.ops = &m4_window_ops;
	info.size = bytes;
	info.flags = O_RDONLY | O_CLOEXEC;
	info.priv = window;
	dmabuf = dma_buf_export(&info);
	if (IS_ERR(dmabuf)) {
		kfree(window);
		return ERR_CAST(dmabuf);
	}
	kref_get(&gen->ref);
	atomic_inc(&gen->image->exports);
	trace_m4_export(gen, offset, bytes);
	return dmabuf->file;
}

M4_IMPORT_DMA_BUF;
