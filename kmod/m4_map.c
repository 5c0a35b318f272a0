// SPDX-License-Identifier: GPL-2.0-only
/*
 * The node: open for reading, map shared and read-only, nothing else.
 * docs/kernel-module.md tells each call's errno. What has no operation here is
 * refused by the core; mprotect, since VM_MAYWRITE and VM_MAYEXEC are gone.
 */
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>

#include "m4.h"
#include "m4_compat.h"
#include "m4_trace.h"

static int m4_open(struct inode *inode, struct file *file)
{
	struct m4_image *image = m4_image_at(iminor(inode));
	struct m4_generation *gen;

	if (!iminor(inode)) { /* the control device; of the same owner */
		file->f_op = &m4_control_ops;
		return 0;
	}
	if ((file->f_mode & (FMODE_READ | FMODE_WRITE)) != FMODE_READ)
		return -EACCES;
	gen = m4_image_get_current(image);
	if (!gen)
		return -ENXIO;
	trace_m4_open(gen, 0, m4_generation_bytes(gen));
	file->private_data = gen;
	/* i_size of the node itself is 0; the core takes this one's */
	file->f_mapping = gen->inode->i_mapping;
	return nonseekable_open(inode, file);
}

/* The last mapping holds the file, so none is left here. */
static int m4_release(struct inode *inode, struct file *file)
{
	m4_generation_put(file->private_data);
	return 0;
}

/*
 * The page of a huge folio, once: the core maps the whole folio where the
 * address and the length allow, else this page.
 *
 * It is returned locked, and the core unlocks it when it has installed the
 * mapping. So a fault that finds the generation not revoked here has installed
 * its mapping before m4_unmap gets the lock, and m4_unmap then removes it; a
 * fault that gets the lock later sees the mark. Without the lock a mapping
 * could be installed after the removal, and stay.
 *
 * A page with a hardware error is told here: for one that comes locked the
 * core would look for its address space, and these have none.
 */
static vm_fault_t m4_fault(struct vm_fault *vmf)
{
	struct m4_generation *gen = vmf->vma->vm_file->private_data;
	struct folio *folio =
		m4_generation_folio(gen, vmf->pgoff >> M4_CHUNK_ORDER);
	struct page *page;

	if (!folio)
		return VM_FAULT_SIGBUS;
	page = folio_page(folio, vmf->pgoff & (M4_CHUNK_PAGES - 1));
	folio_lock(folio);
	if (READ_ONCE(gen->revoked) || PageHWPoison(page)) {
		folio_unlock(folio);
		return READ_ONCE(gen->revoked) ? VM_FAULT_SIGBUS :
						    VM_FAULT_HWPOISON;
	}
	folio_get(folio);
	vmf->page = page;
	return VM_FAULT_LOCKED;
}

void m4_unmap(struct m4_generation *gen)
{
	struct folio *folio;
	pgoff_t i;

	/* after this no fault is left that has not seen the mark; see there */
	for (i = 0; (folio = m4_generation_folio(gen, i)); i++) {
		folio_lock(folio);
		folio_unlock(folio);
		cond_resched();
	}
	unmap_mapping_range(gen->inode->i_mapping, 0, 0, 1);
}

static void m4_vm_open(struct vm_area_struct *vma)
{
	struct m4_generation *gen = vma->vm_file->private_data;

	atomic_inc(&gen->image->mappings);
}

static void m4_vm_close(struct vm_area_struct *vma)
{
	struct m4_generation *gen = vma->vm_file->private_data;

	atomic_dec(&gen->image->mappings);
}

static const struct vm_operations_struct m4_vm_ops = {
	.open = m4_vm_open,
	.close = m4_vm_close,
	.fault = m4_fault,
};

static int m4_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct m4_generation *gen = file->private_data;
	u64 pages = m4_generation_bytes(gen) >> PAGE_SHIFT;

	/* VM_SHARED is cleared on a read-only file, VM_MAYSHARE is not */
	if (!(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & (VM_WRITE | VM_EXEC))
		return -EACCES;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -ENXIO;
	if (READ_ONCE(gen->revoked))
		return -ESTALE;
	m4_vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP | VM_DONTCOPY,
			VM_MAYWRITE | VM_MAYEXEC);
	vma->vm_ops = &m4_vm_ops;
	trace_m4_mmap(gen, (u64)vma->vm_pgoff << PAGE_SHIFT,
		      vma->vm_end - vma->vm_start);
	m4_vm_open(vma);
	return 0;
}

static void m4_show_fdinfo(struct seq_file *seq, struct file *file)
{
	const struct m4_generation *gen = file->private_data;

	seq_printf(seq, "m4-name:\t%s\n", gen->manifest.header->name);
	seq_printf(seq, "m4-version:\t%s\n", gen->manifest.header->version);
	seq_printf(seq, "m4-generation:\t%llu\n", gen->number);
	seq_printf(seq, "m4-digest:\t%*phN\n", M4_IMAGE_DIGEST_BYTES,
		   gen->digest);
}

const struct file_operations m4_file_ops = {
	.owner = THIS_MODULE,
	.open = m4_open,
	.release = m4_release,
	.mmap = m4_mmap,
	.get_unmapped_area = thp_get_unmapped_area,
	.show_fdinfo = m4_show_fdinfo,
};
