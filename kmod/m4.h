/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * m4.ko: firmware images, verified, pinned and mapped.
 *
 *   m4_main.c     module life, class, device numbers, private file system
 *   m4_keys.c     the built-in certificates: who may sign an image
 *   m4_image.c    one named image: its state, its generations, its requests
 *   m4_load.c     firmware files -> signed, checked, verified generation
 *   m4_hash.c     digests of chunks, on one processor or on all
 *   m4_mem.c      a generation: order-9 folios, counted and zeroed
 *   m4_scrub.c    re-hashing what lies in memory
 *   m4_map.c      the node's file operations
 *   m4_control.c  the control device's requests
 *   m4_export.c   windows of a generation as dma-bufs
 *   m4_sysfs.c    what user space reads of an image, and asks of it
 *   m4_pm.c       no hibernation with an image in memory
 *   m4_trace.h    tracepoints
 *
 * Ownership. An image (struct m4_image) lives as long as the module. What it
 * serves is a generation (struct m4_generation): one verified set of bytes
 * that never changes, held by the image while current, by each open file
 * (hence by each mapping) and dma-buf, and by whoever hashes it. The last put
 * zeroes and frees it. Files and dma-bufs hold the module, too.
 *
 * Locking order, outermost first:
 *   kernfs' active reference of a sysfs file (device_destroy waits for them)
 *   image->lock      a mutex: state and list of generations; held for moments,
 *                    never while hashing, reading, notifying or allocating
 * Under none of them: a folio's lock (taken in faults, under mmap_lock), the
 * hasher's spin lock. m4_generation_put may take image->lock: not under it.
 * Nothing waits for a work item but m4_image_destroy, which holds no lock,
 * and a load or pass, which waits for its own hash workers.
 */
#ifndef M4_H
#define M4_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/m4.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include <m4/manifest.h>

/* A chunk of the tree is one folio and one mapping of the page middle
 * directory. Pages other than 4 KiB would need another log2_chunk.
 */
#define M4_CHUNK_ORDER (PMD_SHIFT - PAGE_SHIFT)
#define M4_CHUNK_PAGES BIT(M4_CHUNK_ORDER)
#define M4_CHUNK_BYTES ((size_t)M4_IMAGE_CHUNK_BYTES)

#define M4_IMAGES_MAX 15 /* minor 0 is the control device's */
#define M4_GENERATIONS_MAX 2 /* of one image, alive at a time */
#define M4_HASH_WORKERS_MAX 32
#define M4_ERROR_BYTES 192

enum m4_state {
	M4_STATE_EMPTY, /* nothing asked for yet */
	M4_STATE_LOADING,
	M4_STATE_READY,
	M4_STATE_UPDATING, /* ready, and a load is running */
	M4_STATE_ERROR, /* nothing is current: the last load was refused */
	M4_STATE_REVOKED, /* nothing is current: it was taken back */
};

/* A trusted certificate; m4_keys.c. */
struct m4_anchor {
	struct key *ring; /* of `key` alone */
	struct key *key;
	const char *name; /* the key's: its subject and identifier */
	bool development;
};

struct m4_generation {
	struct kref ref;
	struct m4_image *image;
	struct list_head node; /* image->generations, once verified */
	u64 number; /* set when it becomes current */
	const struct m4_anchor *signer;
	bool revoked; /* set once, under image->lock; read anywhere */
	struct inode *inode; /* private: mappings of all its files */
	struct folio *manifest_folio; /* zero behind the manifest */
	struct folio **payload;
	u32 payload_count; /* folios present in payload */
	struct m4_manifest manifest; /* points into manifest_folio */
	u8 digest[M4_IMAGE_DIGEST_BYTES]; /* of the image, apart from it */
};

/* Hashes the payload of one generation at a time; m4_hash.c. */
struct m4_hasher {
	struct m4_generation *gen;
	atomic_t done; /* chunks that were good */
	u32 total; /* of so many; 0: nothing is queued or running */
	u32 worker_count;
	u32 turn; /* the worker to wake next */
	spinlock_t lock; /* the four below */
	u32 offered; /* chunks below this one have their content */
	u32 next; /* the chunk to hash next */
	u32 bad; /* lowest chunk that failed, else U32_MAX */
	int bad_rc;
	struct m4_hash_worker {
		struct work_struct work;
		struct m4_hasher *hasher;
	} workers[M4_HASH_WORKERS_MAX];
};

/* The re-hash of one image's generations; m4_scrub.c. */
struct m4_scrub {
	struct delayed_work idle_work;
	u64 idle_number; /* the generation that it looks at next, */
	u32 idle_index; /* and the chunk, counted as the node's are */
	struct work_struct pass_work;
	struct m4_hasher hasher; /* the pass's; its total: under image->lock */
	/* under image->lock: */
	u32 period_s;
	u64 passes; /* asked for and ended */
	u64 errors; /* chunks found altered */
};

struct m4_image {
	char name[M4_IMAGE_NAME_BYTES];
	struct device *dev; /* class m4; set before any request gets through */
	struct work_struct load_work;
	struct m4_hasher load_hasher; /* its total: under lock */
	struct m4_scrub scrub;
	atomic64_t pinned_bytes; /* of all generations, loading ones too */
	atomic_t mappings; /* virtual memory areas, all generations */
	atomic_t exports; /* dma-bufs, all generations */

	struct mutex lock; /* all below */
	enum m4_state state;
	bool stopping; /* nothing is started any more */
	struct m4_generation *current_gen; /* set while READY, UPDATING */
	struct list_head generations; /* alive and verified, oldest first */
	u32 generation_count;
	u64 last_number; /* of the newest generation there was */
	u64 rollback_floor; /* only ever raised */
	char error[M4_ERROR_BYTES]; /* one line, or empty */
};

/* m4_main.c */
extern struct workqueue_struct *m4_wq; /* unbound; loads and hashing */
extern struct vfsmount *m4_mount; /* the private file system */
/* The image behind a device number, or NULL. */
struct m4_image *m4_image_at(unsigned int minor);

/* m4_keys.c */
int m4_keys_init(void);
void m4_keys_exit(void);
bool m4_keys_empty(void);
/*
 * Whether `sig` is a signature over `bytes` by a built-in certificate: 0 and
 * the one in *out; -ENOKEY by another key, -EKEYREJECTED over other bytes,
 * -EBADMSG no signature, -ENOPKG an algorithm that this kernel lacks.
 */
int m4_keys_verify(const void *bytes, size_t count, const void *sig,
		   size_t sig_count, const struct m4_anchor **out);

/* m4_image.c */
extern const char *const m4_state_names[];
/* An image with its device, number `minor`; takes no request yet. ERR_PTR. */
struct m4_image *m4_image_create(const char *name, struct class *class,
				 dev_t devt, u64 rollback_floor,
				 u32 scrub_period_s);
/* From here on it takes requests. */
void m4_image_start(struct m4_image *image);
/* Stops a load, removes the device and frees the image. No file is open. */
void m4_image_destroy(struct m4_image *image);
/* Starts a load in the background. -EBUSY while one runs, or while as many
 * generations live as may.
 */
int m4_image_request_load(struct m4_image *image);
/* The generation served now with a reference of its own, or NULL. */
struct m4_generation *m4_image_get_current(struct m4_image *image);
/* -EPERM to lower it. */
int m4_image_raise_floor(struct m4_image *image, u64 floor);
/* Whether memory of it is pinned, or may be at any moment. */
bool m4_image_in_memory(struct m4_image *image);
/* Takes a generation off the list, if it is there; by its last put. */
void m4_image_forget(struct m4_generation *gen);
/* Takes back what was served, because of `what`: not current, not mapped, not
 * mappable. Sleeps.
 */
void m4_image_revoke(struct m4_generation *gen, const char *what, int rc);

/* m4_load.c */
/*
 * Reads, checks and pins the image's files; sleeps for as long as the files
 * take. A reference, or ERR_PTR with the place and reason in `text`.
 */
struct m4_generation *m4_load(struct m4_image *image,
			      char text[M4_ERROR_BYTES]);

/* m4_hash.c */
int m4_hash_init(void);
void m4_hash_exit(void);
/* m4_sha256_fn; ctx is not used. Sleeps now and then. */
int m4_hash_pair(void *ctx, const void *a, u64 a_bytes, const void *b,
		 u64 b_bytes, u8 *out);
/*
 * Chunk `index` of the node's bytes against its leaf or, for 0, the manifest
 * against the digest kept apart from it: 0, -EBADMSG, what SHA-256 gave.
 */
int m4_hash_chunk(const struct m4_generation *gen, u32 index);
/* Once, before the first m4_hasher_begin. */
void m4_hasher_setup(struct m4_hasher *h);
void m4_hasher_begin(struct m4_hasher *h, struct m4_generation *gen);
/* Chunks below `offered` may be hashed now. False: a chunk was bad, or the
 * image is stopping; no use to offer more.
 */
bool m4_hasher_offer(struct m4_hasher *h, u32 offered);
/*
 * Waits until all that was offered is hashed: 0; or the failure of the lowest
 * bad chunk, which *bad tells; or -EINTR where the image is stopping.
 */
int m4_hasher_end(struct m4_hasher *h, u32 *bad);

/* m4_mem.c */
struct m4_generation *m4_generation_alloc(struct m4_image *image);
void m4_generation_put(struct m4_generation *gen);
/* Pins `chunks` payload folios, with content undefined. 0 or -ENOMEM. */
int m4_generation_pin_payload(struct m4_generation *gen, u32 chunks);
/* Chunk `index` of the node's bytes (0: manifest), or NULL past the end. */
struct folio *m4_generation_folio(struct m4_generation *gen, pgoff_t index);
static inline u64 m4_generation_bytes(const struct m4_generation *gen)
{
	return (1ULL + gen->payload_count) * M4_IMAGE_CHUNK_BYTES;
}

/* m4_map.c */
extern const struct file_operations m4_file_ops;
/* Removes every mapping of a generation that is marked as revoked. */
void m4_unmap(struct m4_generation *gen);

/* m4_scrub.c */
void m4_scrub_setup(struct m4_image *image, u32 period_s);
/* Waits for what runs; nothing is started any more, as image->stopping is. */
void m4_scrub_stop(struct m4_image *image);
/* There is something new to re-hash. Under image->lock. */
void m4_scrub_wake(struct m4_image *image);
/* Starts a whole pass. -EBUSY while one runs, -ENODATA with nothing to hash. */
int m4_scrub_request(struct m4_image *image);
/* 0: never. Returns 0. */
int m4_scrub_set_period(struct m4_image *image, u32 seconds);

/* m4_control.c */
extern const struct file_operations m4_control_ops;

/* m4_export.c */
/* `bytes` from `offset` of the node, both checked, as a new dma-buf's file
 * with a reference of its own to the generation; ERR_PTR. Is not there in a
 * kernel without dma-buf.
 */
struct file *m4_export_window(struct m4_generation *gen, u64 offset, u64 bytes);

/* m4_pm.c */
extern struct notifier_block m4_pm_block;
/* No load may start. Under image->lock. */
bool m4_hibernating(void);

/* m4_sysfs.c */
extern const struct attribute_group *m4_image_groups[];

#endif /* M4_H */
