// SPDX-License-Identifier: MIT
/*
 * m4_misuse_memory NODE: stores into the mapping, advice about it, and ways to
 * its physical pages that do not go through the node.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/mman.h>
#include <pthread.h>

#include "misuse.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

static sigjmp_buf escape;
static volatile uintptr_t fault_at;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)context;
	fault_at = (uintptr_t)info->si_addr;
	siglongjmp(escape, sig);
}

/* fn(at) must raise SIGSEGV, and at that address. */
static void segv(const char *what, void (*fn)(char *), char *at)
{
	int sig = sigsetjmp(escape, 1);

	if (!sig) {
		fault_at = 0;
		fn(at);
		report(what, false, "it was allowed");
		return;
	}
	report(what, sig == SIGSEGV && fault_at == (uintptr_t)at,
	       "another signal or place");
}

static void store(char *at)
{
	*(volatile char *)at = 1;
}

static void add(char *at)
{
	__atomic_fetch_add((int *)at, 1, __ATOMIC_SEQ_CST);
}

static void fill(char *at)
{
	memset(at, 0, PAGE);
}

static void execute(char *at)
{
	((void (*)(void))(uintptr_t)at)();
}

static void *store_in_thread(void *at)
{
	segv("a store by another thread", store, at);
	return NULL;
}

static void stores(struct target *t)
{
	struct sigaction action = { .sa_sigaction = on_fault,
				    .sa_flags = SA_SIGINFO };
	char *last = t->at + t->bytes - 1;
	pthread_t thread;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	segv("a store to the manifest", store, t->at);
	segv("a store to the first weight", store, t->at + CHUNK);
	segv("a store to the last byte", store, last);
	segv("an atomic add", add, t->at + CHUNK + 64);
	segv("a page of zeros", fill, t->at + CHUNK);
	segv("a jump into the image", execute, t->at + CHUNK);
	pthread_create(&thread, NULL, store_in_thread, t->at);
	pthread_join(thread, NULL);
	allowed("mlock", mlock(t->at, t->bytes));
	segv("a store after mlock", store, t->at + CHUNK);
	allowed("MADV_DONTNEED_LOCKED",
		madvise(t->at, CHUNK, MADV_DONTNEED_LOCKED));
	allowed("munlock", munlock(t->at, t->bytes));
	allowed("MADV_POPULATE_READ",
		madvise(t->at, t->bytes, MADV_POPULATE_READ));
	segv("a store after MADV_POPULATE_READ", store, last);
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

/* Harmless or refused: in no case may a byte change. */
static void keeps(const char *what, struct target *t, size_t from, size_t bytes,
		  int advice)
{
	int rc = madvise(t->at + from, bytes, advice);
	char why[64];

	snprintf(why, sizeof(why), "bytes differ (it gave %d)", rc);
	report(what, !memcmp(t->at, t->copy, t->bytes) && unchanged(t), why);
}

static void advice(struct target *t)
{
	refused("MADV_REMOVE", madvise(t->at, CHUNK, MADV_REMOVE), EACCES);
	refused("MADV_FREE", madvise(t->at, CHUNK, MADV_FREE), EINVAL);
	refused_as("MADV_POPULATE_WRITE",
		   madvise(t->at, CHUNK, MADV_POPULATE_WRITE), EINVAL, EFAULT);
	refused("MADV_WIPEONFORK", madvise(t->at, CHUNK, MADV_WIPEONFORK),
		EINVAL);
	refused("MADV_DODUMP", madvise(t->at, CHUNK, MADV_DODUMP), EINVAL);
	refused_as("MADV_COLLAPSE", madvise(t->at, CHUNK, MADV_COLLAPSE),
		   EINVAL, EBUSY);
	keeps("MADV_DONTNEED keeps the content", t, 0, t->bytes, MADV_DONTNEED);
	keeps("MADV_DONTNEED of a page keeps the content", t, CHUNK + PAGE,
	      PAGE, MADV_DONTNEED);
	keeps("MADV_COLD keeps the content", t, 0, t->bytes, MADV_COLD);
	keeps("MADV_COLD of a page keeps the content", t, CHUNK + 9 * PAGE,
	      PAGE, MADV_COLD);
	keeps("MADV_PAGEOUT keeps the content", t, 0, t->bytes, MADV_PAGEOUT);
	keeps("MADV_PAGEOUT of a page keeps the content", t, CHUNK + 3 * PAGE,
	      PAGE, MADV_PAGEOUT);
	keeps("MADV_WILLNEED keeps the content", t, 0, t->bytes, MADV_WILLNEED);
	keeps("MADV_HUGEPAGE keeps the content", t, 0, t->bytes, MADV_HUGEPAGE);
	keeps("MADV_NOHUGEPAGE keeps the content", t, 0, t->bytes,
	      MADV_NOHUGEPAGE);
	keeps("MADV_MERGEABLE keeps the content", t, 0, t->bytes,
	      MADV_MERGEABLE);
	keeps("MADV_UNMERGEABLE keeps the content", t, 0, t->bytes,
	      MADV_UNMERGEABLE);
	keeps("MADV_SOFT_OFFLINE keeps the content", t, CHUNK + 5 * PAGE, PAGE,
	      MADV_SOFT_OFFLINE);
	keeps("MADV_SEQUENTIAL keeps the content", t, 0, t->bytes,
	      MADV_SEQUENTIAL);
	allowed("msync MS_SYNC is harmless", msync(t->at, t->bytes, MS_SYNC));
	allowed("msync MS_INVALIDATE is harmless",
		msync(t->at, t->bytes, MS_INVALIDATE));
}

/* Physical address of a mapped byte, or 0. */
static uint64_t physical(const char *at)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0, page = (uintptr_t)at / PAGE;

	(void)*(volatile const char *)at;
	if (pread(fd, &entry, 8, (off_t)(page * 8)) != 8)
		entry = 0;
	close(fd);
	entry &= (1ULL << 55) - 1;
	return entry ? entry * PAGE + (uintptr_t)at % PAGE : 0;
}

static void by_address(struct target *t)
{
	uint64_t where = physical(t->at + CHUNK);
	int mem = open("/dev/mem", O_RDWR | O_SYNC), core;
	char text[64];

	report("the page has a physical address", where != 0,
	       "no entry in pagemap");
	if (!where)
		return;
	if (mem < 0) {
		skipped("write through /dev/mem", strerror(errno));
		skipped("map /dev/mem for writing", strerror(errno));
	} else {
		refused_as("write through /dev/mem",
			   pwrite(mem, "x", 1, (off_t)where), EPERM, EFAULT);
		refused("map /dev/mem for writing",
			(intptr_t)mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				       MAP_SHARED, mem, (off_t)where),
			EPERM);
		close(mem);
	}
	core = open("/proc/kcore", O_RDWR);
	if (core < 0) {
		skipped("write through /proc/kcore", strerror(errno));
	} else {
		refused_as("write through /proc/kcore",
			   pwrite(core, "x", 1, (off_t)where), EIO, EINVAL);
		close(core);
	}
	snprintf(text, sizeof(text), "%#llx", (unsigned long long)where);
	if (access("/sys/devices/system/memory/soft_offline_page", F_OK))
		skipped("soft-offline the page", "not in this kernel");
	else
		refused_as("soft-offline the page",
			   write_text("/sys/devices/system/memory/"
				      "soft_offline_page", text) ? 0 : -1,
			   EIO, EBUSY);
	report("and the page is where it was",
	       physical(t->at + CHUNK) == where && unchanged(t), "it is not");
}

/* The memory block of the page taken offline. */
static void by_hotplug(struct target *t)
{
	uint64_t where = physical(t->at + CHUNK), block = 0;
	char text[128] = "";
	int fd = open("/sys/devices/system/memory/block_size_bytes", O_RDONLY);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
		block = strtoull(text, NULL, 16);
	if (fd >= 0)
		close(fd);
	if (!block || !where) {
		skipped("take the page's memory offline", "no memory hotplug");
		return;
	}
	snprintf(text, sizeof(text),
		 "/sys/devices/system/memory/memory%llu/state",
		 (unsigned long long)(where / block));
	if (access(text, W_OK))
		skipped("take the page's memory offline", "no memory hotplug");
	else
		refused_as("take the page's memory offline",
			   write_text(text, "offline") ? 0 : -1, EBUSY, EINVAL);
}

/* Whatever moves, merges or drops memory, told to do so now. */
static void by_reclaim(struct target *t)
{
	static const struct {
		const char *what, *path, *text;
	} ways[] = {
		{ "compaction", "/proc/sys/vm/compact_memory", "1" },
		{ "dropping caches", "/proc/sys/vm/drop_caches", "3" },
		{ "merging of same pages", "/sys/kernel/mm/ksm/run", "1" },
		{ "forgetting references", "/proc/self/clear_refs", "1" },
		{ "forgetting dirty bits", "/proc/self/clear_refs", "4" },
	};
	uint64_t where = physical(t->at + CHUNK);
	char what[96];
	size_t i;

	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		snprintf(what, sizeof(what), "%s leaves the image alone",
			 ways[i].what);
		if (!write_text(ways[i].path, ways[i].text))
			skipped(what, "not in this kernel");
		else
			report(what,
			       unchanged(t) &&
				       physical(t->at + CHUNK) == where,
			       "it does not");
	}
	write_text("/sys/kernel/mm/ksm/run", "0");
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	stores(&t);
	advice(&t);
	by_address(&t);
	by_hotplug(&t);
	by_reclaim(&t);
	return end(&t, "memory calls");
}
