/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * m4.ko: firmware images, verified, pinned and mapped.
 *
 *   m4_main.c   module life, class, device numbers, private file system
 *   m4_image.c  one named image: device node, state, load requests
 *   m4_load.c   firmware files -> checked manifest -> verified generation
 *   m4_mem.c    a generation: order-9 folios, counted and zeroed
 *   m4_map.c    the node's file operations
 *   m4_sysfs.c  what user space reads of an image, and `load`
 *
 * An image (struct m4_image) lives as long as the module. What it serves is
 * a generation (struct m4_generation): one verified set of bytes that never
 * changes, held by the image while current and by each open file, hence by
 * each mapping.
 */
#ifndef M4_H
#define M4_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/cdev.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include <m4/manifest.h>

/* A chunk of the tree is one folio and one mapping of the page middle
 * directory. Pages other than 4 KiB would need another log2_chunk.
 */
#define M4_CHUNK_ORDER HPAGE_PMD_ORDER
#define M4_CHUNK_PAGES BIT(M4_CHUNK_ORDER)
#define M4_CHUNK_BYTES ((size_t)M4_IMAGE_CHUNK_BYTES)

#define M4_ERROR_BYTES 192

enum m4_state {
	M4_STATE_EMPTY, /* nothing asked for yet */
	M4_STATE_LOADING,
	M4_STATE_READY,
	M4_STATE_ERROR, /* the last load was refused; may be tried again */
};

struct m4_generation {
	struct kref ref;
	struct inode *inode; /* private: mappings of all its files */
	struct folio *manifest_folio; /* zero behind the manifest */
	struct folio **payload;
	u32 payload_count; /* folios present in payload */
	struct m4_manifest manifest; /* points into manifest_folio */
	atomic64_t *pinned_bytes; /* the image's account */
};

struct m4_image {
	struct device dev; /* class m4; owns this struct */
	struct cdev cdev;
	char name[M4_IMAGE_NAME_BYTES];
	struct work_struct load_work;
	atomic64_t pinned_bytes; /* of all generations still alive */

	struct mutex lock; /* all below */
	enum m4_state state;
	struct m4_generation *current_gen; /* set while READY */
	char error[M4_ERROR_BYTES]; /* one line; empty unless ERROR */
	bool stopping; /* no load starts any more */
};

/* m4_main.c */
extern struct class m4_class;
/* A new inode of the private file system, or NULL. */
struct inode *m4_private_inode(void);

/* m4_image.c */
extern const char *const m4_state_names[];
/* Creates the node of image `name` on device number `devt`; ERR_PTR. */
struct m4_image *m4_image_create(const char *name, dev_t devt);
/* Stops a load, removes the node and frees the image. No file is open. */
void m4_image_destroy(struct m4_image *image);
/* Starts a load in the background. -EBUSY while loading or ready. */
int m4_image_request_load(struct m4_image *image);
/* The generation served now with a reference of its own, or NULL. */
struct m4_generation *m4_image_get_generation(struct m4_image *image);
bool m4_image_stopping(struct m4_image *image);

/* m4_load.c */
/*
 * Reads, checks and pins the image's files; sleeps for as long as the files
 * take. 0 and a reference in *out, or a negative errno with the place and
 * reason in `text`.
 */
int m4_load(struct m4_image *image, struct m4_generation **out,
	    char text[M4_ERROR_BYTES]);

/* m4_mem.c */
struct m4_generation *m4_generation_alloc(atomic64_t *pinned_bytes);
void m4_generation_put(struct m4_generation *gen);
/* Pins `chunks` payload folios, with content undefined. 0 or -ENOMEM. */
int m4_generation_pin_payload(struct m4_generation *gen, u32 chunks);
/* Gives the finished generation its inode. 0 or -ENOMEM. */
int m4_generation_seal(struct m4_generation *gen);
/* Chunk `index` of the node's bytes (0: manifest), or NULL past the end. */
struct folio *m4_generation_folio(struct m4_generation *gen, pgoff_t index);
static inline u64 m4_generation_bytes(const struct m4_generation *gen)
{
	return (1ULL + gen->payload_count) * M4_IMAGE_CHUNK_BYTES;
}

/* m4_map.c */
extern const struct file_operations m4_file_ops;

/* m4_sysfs.c */
extern const struct attribute_group *m4_image_groups[];

#endif /* M4_H */
