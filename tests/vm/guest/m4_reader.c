// SPDX-License-Identifier: MIT
/*
 * One who reads an image while it is replaced, revoked or altered.
 *
 *   m4_reader between NODE DIR DIR   opens, maps and compares the node again
 *                                    and again until stdin closes; each time it
 *                                    must be one of the two images, whole
 *   m4_reader through NODE DIR       the same mapping until stdin closes, all
 *                                    of it compared with DIR each time
 *   m4_reader revoked NODE           maps, says "mapped", reads until SIGBUS;
 *                                    then tells what the node says
 *   m4_reader physical NODE OFFSET   physical address of a byte of the node
 *   m4_reader holds NODE OFFSET      a page of it stays in a pipe, no mapping
 *                                    or descriptor does; waits for stdin, then
 *                                    says whether it is zero
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/uio.h>

#include "misuse.h"

/* What a node shows of DIR, in memory of our own. */
static char *expected(const char *dir, size_t *bytes)
{
	char path[256];
	char *at = mmap(NULL, (size_t)1 << 30, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int index = -1;

	*bytes = 0;
	for (;; index++) {
		ssize_t count;
		size_t size = 0;
		int fd;

		if (index < 0)
			snprintf(path, sizeof(path), "%s/manifest.m4m", dir);
		else
			snprintf(path, sizeof(path), "%s/seg-%03d.m4w", dir,
				 index);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			return index > 0 ? at : NULL;
		while ((count = read(fd, at + *bytes + size, 1 << 20)) > 0)
			size += (size_t)count;
		close(fd);
		*bytes += index < 0 ? CHUNK : size;
	}
}

static bool more_to_do(void)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) == 0 || read(0, &byte, 1) > 0;
}

static void between(const char *node, char **dirs)
{
	size_t bytes[2], seen[2] = { 0, 0 }, other = 0, refusals = 0;
	char *want[2];
	char why[96];
	int i;

	for (i = 0; i < 2; i++) {
		want[i] = expected(dirs[i], &bytes[i]);
		if (!want[i]) {
			report("read both images", false, dirs[i]);
			return;
		}
	}
	puts("reading");
	while (more_to_do()) {
		int fd = open(node, O_RDONLY);
		size_t size = fd < 0 ? 0 : node_bytes(fd);
		char *at = fd < 0 ? MAP_FAILED :
				    map_as(fd, size, PROT_READ, MAP_SHARED, 0);

		if (at == MAP_FAILED) {
			refusals++;
		} else {
			for (i = 0; i < 2; i++)
				if (size == bytes[i] &&
				    !memcmp(at, want[i], size))
					break;
			if (i < 2)
				seen[i]++;
			else
				other++;
			munmap(at, size);
		}
		if (fd >= 0)
			close(fd);
	}
	printf("# %zu times the one image, %zu times the other\n", seen[0],
	       seen[1]);
	snprintf(why, sizeof(why), "%zu times it was neither, %zu refusals",
		 other, refusals);
	report("a reader sees one image or the other, whole",
	       !other && !refusals, why);
	report("a reader saw both", seen[0] && seen[1], "only one");
}

static void through(const char *node, const char *dir)
{
	size_t bytes, times = 0, differences = 0;
	char *want = expected(dir, &bytes);
	int fd = open(node, O_RDONLY);
	char *at = map_as(fd, bytes, PROT_READ, MAP_SHARED, 0);

	if (!want || at == MAP_FAILED) {
		report("map the node", false, strerror(errno));
		return;
	}
	puts("reading");
	do {
		differences += !!memcmp(at, want, bytes);
		/* every page is looked up anew next time */
		madvise(at, bytes, MADV_DONTNEED);
		times++;
	} while (more_to_do());
	printf("# read %zu times\n", times);
	report("an old mapping keeps its bytes", !differences, "they changed");
}

static sigjmp_buf escape;

static void on_bus(int sig)
{
	siglongjmp(escape, sig);
}

static void revoked(const char *node)
{
	int fd = open(node, O_RDONLY);
	size_t bytes = node_bytes(fd), i;
	volatile char *at = map_as(fd, bytes, PROT_READ, MAP_SHARED, 0);
	/* has not touched a page yet when the image goes */
	volatile char *untouched = map_as(fd, bytes, PROT_READ, MAP_SHARED, 0);
	int pipes[2], sig;

	if (at == MAP_FAILED || pipe(pipes)) {
		report("map the node", false, strerror(errno));
		return;
	}
	signal(SIGBUS, on_bus);
	signal(SIGSEGV, on_bus);
	alarm(300);
	for (i = 0; i < bytes; i += PAGE)
		(void)at[i];
	puts("mapped");
	sig = sigsetjmp(escape, 1);
	for (i = 0; !sig; i = (i + PAGE) % bytes)
		(void)at[i];
	report("a reader of a revoked image gets SIGBUS", sig == SIGBUS,
	       "another signal");
	sig = sigsetjmp(escape, 1);
	if (!sig)
		(void)untouched[CHUNK];
	report("so does one who touches it for the first time", sig == SIGBUS,
	       "no signal");
	refused("mmap of a revoked image",
		(intptr_t)map_as(fd, CHUNK, PROT_READ, MAP_SHARED, 0), ESTALE);
	refused("write of a revoked mapping to a pipe",
		write(pipes[1], (const char *)at, 16), EFAULT);
	refused("read into a revoked mapping",
		read(open("/dev/zero", O_RDONLY), (char *)at, 16), EFAULT);
	refused("open of a revoked image", open(node, O_RDONLY), ENXIO);
}

static void physical(const char *node, size_t offset)
{
	int fd = open(node, O_RDONLY), map;
	volatile char *at = map_as(fd, CHUNK, PROT_READ, MAP_SHARED,
				   (off_t)(offset / CHUNK * CHUNK));
	uint64_t entry = 0;

	if (at == MAP_FAILED)
		exit(1);
	at += offset % CHUNK;
	(void)*at;
	map = open("/proc/self/pagemap", O_RDONLY);
	if (pread(map, &entry, 8, (off_t)((uintptr_t)at / PAGE * 8)) != 8)
		exit(1);
	entry &= (1ULL << 55) - 1;
	if (!entry)
		exit(1);
	printf("%#llx\n",
	       (unsigned long long)(entry * PAGE + offset % PAGE));
}

static void holds(const char *node, size_t offset)
{
	int fd = open(node, O_RDONLY), pipes[2];
	char *at = map_as(fd, CHUNK, PROT_READ, MAP_SHARED,
			  (off_t)(offset / CHUNK * CHUNK));
	struct iovec iov = { at + offset % CHUNK, PAGE };
	char page[PAGE];
	size_t i;

	if (at == MAP_FAILED || pipe(pipes) ||
	    vmsplice(pipes[1], &iov, 1, 0) != (ssize_t)PAGE)
		exit(1);
	munmap(at, CHUNK);
	close(fd);
	puts("held");
	while (more_to_do())
		poll(&(struct pollfd){ .fd = 0, .events = POLLIN }, 1, -1);
	if (read(pipes[0], page, PAGE) != (ssize_t)PAGE)
		exit(1);
	for (i = 0; i < PAGE && !page[i]; i++)
		;
	puts(i == PAGE ? "zero" : "not zero");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(mode, "between") && argc == 5)
		between(argv[2], argv + 3);
	else if (!strcmp(mode, "through") && argc == 4)
		through(argv[2], argv[3]);
	else if (!strcmp(mode, "revoked"))
		revoked(argv[2]);
	else if (!strcmp(mode, "physical") && argc == 4)
		physical(argv[2], strtoull(argv[3], NULL, 0));
	else if (!strcmp(mode, "holds") && argc == 4)
		holds(argv[2], strtoull(argv[3], NULL, 0));
	else
		return 2;
	return failures != 0;
}
