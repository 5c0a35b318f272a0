// SPDX-License-Identifier: MIT
/*
 * m4_misuse_map NODE: mapping an image for more than reading, and making more
 * of a mapping that there is.
 */
#define _GNU_SOURCE
#include <linux/mman.h>
#include <sys/personality.h>
#include <sys/shm.h>

#include "misuse.h"

#define RW (PROT_READ | PROT_WRITE)

static intptr_t map(const struct target *t, size_t bytes, int prot, int flags,
		    off_t offset)
{
	return (intptr_t)mmap(NULL, bytes, prot, flags, t->fd, offset);
}

static void protections(const struct target *t)
{
	refused("mmap PROT_WRITE", map(t, CHUNK, RW, MAP_SHARED, 0), EACCES);
	refused("mmap PROT_WRITE alone",
		map(t, CHUNK, PROT_WRITE, MAP_SHARED, 0), EACCES);
	refused("mmap PROT_EXEC",
		map(t, CHUNK, PROT_READ | PROT_EXEC, MAP_SHARED, 0), EACCES);
	refused("mmap PROT_WRITE|PROT_EXEC",
		map(t, CHUNK, RW | PROT_EXEC, MAP_SHARED, 0), EACCES);
	refused("mmap PROT_WRITE of the last page",
		map(t, PAGE, RW, MAP_SHARED, (off_t)(t->bytes - PAGE)), EACCES);
	refused("mmap PROT_WRITE, validated",
		map(t, CHUNK, RW, MAP_SHARED_VALIDATE, 0), EACCES);
	refused("mmap PROT_WRITE, populated and locked",
		map(t, CHUNK, RW, MAP_SHARED | MAP_POPULATE | MAP_LOCKED, 0),
		EACCES);
	refused("mmap MAP_PRIVATE",
		map(t, CHUNK, PROT_READ, MAP_PRIVATE, 0), EINVAL);
	refused("mmap MAP_PRIVATE PROT_WRITE",
		map(t, CHUNK, RW, MAP_PRIVATE, 0), EINVAL);
	refused("mmap MAP_PRIVATE PROT_WRITE at a fixed place",
		(intptr_t)mmap(t->at, CHUNK, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE,
			       t->fd, 0),
		EEXIST);
	personality(READ_IMPLIES_EXEC);
	refused("mmap under READ_IMPLIES_EXEC",
		map(t, CHUNK, PROT_READ, MAP_SHARED, 0), EACCES);
	personality(0);
}

static void kinds(const struct target *t)
{
	refused("mmap MAP_SYNC",
		map(t, CHUNK, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, 0),
		EOPNOTSUPP);
	refused("mmap MAP_GROWSDOWN",
		map(t, CHUNK, PROT_READ, MAP_SHARED | MAP_GROWSDOWN, 0),
		EINVAL);
	refused("mmap MAP_HUGETLB",
		map(t, CHUNK, PROT_READ, MAP_SHARED | MAP_HUGETLB, 0), EINVAL);
	refused("mmap of no type", map(t, CHUNK, PROT_READ, 0, 0), EINVAL);
	refused("mmap of type 3 with PROT_WRITE",
		map(t, CHUNK, RW, MAP_SHARED_VALIDATE, 0), EACCES);
	allowed("mmap MAP_POPULATE|MAP_LOCKED for reading",
		map(t, CHUNK, PROT_READ,
		    MAP_SHARED | MAP_POPULATE | MAP_LOCKED, 0));
}

static void ranges(const struct target *t)
{
	const off_t size = (off_t)t->bytes;

	refused("mmap one page too long",
		map(t, t->bytes + PAGE, PROT_READ, MAP_SHARED, 0), ENXIO);
	refused("mmap behind the end",
		map(t, PAGE, PROT_READ, MAP_SHARED, size), ENXIO);
	refused("mmap far behind the end",
		map(t, PAGE, PROT_READ, MAP_SHARED, size + ((off_t)1 << 40)),
		ENXIO);
	refused("mmap across the end",
		map(t, 2 * PAGE, PROT_READ, MAP_SHARED, size - (off_t)PAGE),
		ENXIO);
	refused("mmap at the last page of the offset range",
		map(t, 2 * PAGE, PROT_READ, MAP_SHARED, -(off_t)PAGE),
		EOVERFLOW);
	refused("mmap at an odd offset",
		map(t, PAGE, PROT_READ, MAP_SHARED, 512), EINVAL);
	refused("mmap of nothing", map(t, 0, PROT_READ, MAP_SHARED, 0), EINVAL);
	refused("mmap of all there could be",
		map(t, SIZE_MAX, PROT_READ, MAP_SHARED, 0), ENOMEM);
}

static void protect(const struct target *t)
{
	char *at = (char *)map(t, CHUNK, PROT_READ, MAP_SHARED, CHUNK);
	char *own = mmap(NULL, 2 * CHUNK, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);

	refused("mprotect PROT_WRITE", mprotect(at, CHUNK, RW), EACCES);
	refused("mprotect PROT_WRITE alone", mprotect(at, CHUNK, PROT_WRITE),
		EACCES);
	refused("mprotect PROT_EXEC",
		mprotect(at, CHUNK, PROT_READ | PROT_EXEC), EACCES);
	refused("mprotect PROT_WRITE of one page",
		mprotect(at + 7 * PAGE, PAGE, RW), EACCES);
	refused("mprotect PROT_WRITE downwards",
		mprotect(at, CHUNK, RW | PROT_GROWSDOWN), EINVAL);
	refused("pkey_mprotect PROT_WRITE",
		syscall(SYS_pkey_mprotect, at, CHUNK, RW, -1), EACCES);
	allowed("mprotect PROT_NONE", mprotect(at, CHUNK, PROT_NONE));
	refused("mprotect PROT_WRITE after PROT_NONE",
		mprotect(at, CHUNK, RW), EACCES);
	allowed("mprotect PROT_READ after PROT_NONE",
		mprotect(at, CHUNK, PROT_READ));
	personality(READ_IMPLIES_EXEC);
	/* there the core leaves out the exec that no mapping may have */
	mprotect(at, CHUNK, PROT_READ);
	personality(0);
	refused("mprotect PROT_EXEC after READ_IMPLIES_EXEC",
		mprotect(at, CHUNK, PROT_READ | PROT_EXEC), EACCES);

	/* over a range that begins in memory of our own */
	if (mremap(at, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED,
		   own + CHUNK / 2) != own + CHUNK / 2)
		report("move a mapping", false, strerror(errno));
	refused("mprotect PROT_WRITE across mappings",
		mprotect(own, CHUNK, RW), EACCES);
	munmap(own, 2 * CHUNK);
}

static void move(const struct target *t)
{
	char *at = (char *)map(t, CHUNK, PROT_READ, MAP_SHARED, 0);
	char *to = mmap(NULL, 2 * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);

	refused("mremap to more",
		(intptr_t)mremap(at, CHUNK, 2 * CHUNK, MREMAP_MAYMOVE), EFAULT);
	refused("mremap to more at a fixed place",
		(intptr_t)mremap(at, CHUNK, 2 * CHUNK,
				 MREMAP_MAYMOVE | MREMAP_FIXED, to),
		EFAULT);
	refused("mremap of a last page to more",
		(intptr_t)mremap(at + CHUNK - PAGE, PAGE, 2 * PAGE,
				 MREMAP_MAYMOVE),
		EFAULT);
	refused_as("mremap that leaves the old one",
		   (intptr_t)mremap(at, CHUNK, CHUNK,
				    MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL),
		   EINVAL, EFAULT);
	refused_as("mremap of length 0 for a second one",
		   (intptr_t)mremap(at, 0, CHUNK, MREMAP_MAYMOVE), EFAULT,
		   EINVAL);
	report("mremap to elsewhere",
	       mremap(at, CHUNK, CHUNK, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
			       to &&
		       !memcmp(to, t->copy, CHUNK),
	       strerror(errno));
	refused("mprotect PROT_WRITE after a move", mprotect(to, CHUNK, RW),
		EACCES);
	refused("remap_file_pages", remap_file_pages(to, CHUNK, 0, 512, 0),
		EINVAL);
	refused("remap_file_pages PROT_WRITE",
		remap_file_pages(to, CHUNK, PROT_WRITE, 512, 0), EINVAL);
	munmap(to, 2 * CHUNK);
}

/* Other memory put where the image was must be other memory. */
static void replace(const struct target *t)
{
	char *at = (char *)map(t, t->bytes, PROT_READ, MAP_SHARED, 0);
	int shm = shmget(IPC_PRIVATE, CHUNK, 0600);

	report("MAP_FIXED puts other memory there",
	       mmap(at + CHUNK, CHUNK, RW,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0) == at + CHUNK,
	       strerror(errno));
	memset(at + CHUNK, 0xa5, CHUNK);
	report("and the image is unchanged", unchanged(t), "it is not");
	if (shm < 0) {
		skipped("shared memory over the image", "not in this kernel");
	} else {
		refused("shared memory over the image", (intptr_t)shmat(shm, at, 0),
			EINVAL);
		report("SHM_REMAP puts other memory there",
		       shmat(shm, at, SHM_REMAP) == at, strerror(errno));
		memset(at, 0xa5, CHUNK);
		report("and the image is still unchanged", unchanged(t),
		       "it is not");
		shmctl(shm, IPC_RMID, NULL);
	}
	munmap(at, t->bytes);
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	protections(&t);
	kinds(&t);
	ranges(&t);
	protect(&t);
	move(&t);
	replace(&t);
	return end(&t, "maps");
}
