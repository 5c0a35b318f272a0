// SPDX-License-Identifier: MIT
/*
 * What user space may do with an image's node. What it may not do is in the
 * programs m4_misuse_*.
 *
 *   m4_map_test content NODE FILE...    bytes equal manifest, then shards
 *   m4_map_test huge NODE BYTES         mapped by 2 MiB pages, few faults
 *   m4_map_test gup NODE                the pages can be pinned for reading
 *   m4_map_test hold NODE               maps, says "held", waits for stdin
 *   m4_map_test noexec NODE             PROT_EXEC where /dev is noexec
 *   m4_map_test poll STATE              says "polling", waits for a change
 *
 * One line a check ("ok WHAT" or "not ok WHAT: why"); exit 1 if any failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK ((size_t)2 << 20)
#define PAGE ((size_t)4096)

static int failures;

static void report(const char *what, bool good, const char *why)
{
	if (good)
		printf("ok %s\n", what);
	else
		printf("not ok %s: %s\n", what, why);
	failures += !good;
}

/* `result` must be -1 (MAP_FAILED) with errno `wanted`. */
static void refused(const char *what, intptr_t result, int wanted)
{
	int got = errno;
	char why[96];

	if (result != -1)
		snprintf(why, sizeof(why), "it was allowed (%ld)",
			 (long)result);
	else
		snprintf(why, sizeof(why), "errno %d (%s), wanted %d", got,
			 strerror(got), wanted);
	report(what, result == -1 && got == wanted, why);
}

static intptr_t map(int fd, size_t bytes, int prot, int flags, off_t offset)
{
	return (intptr_t)mmap(NULL, bytes, prot, flags, fd, offset);
}

static size_t node_bytes(int fd)
{
	size_t bytes = CHUNK;

	/* The node has no size of its own: grow until the map is refused. */
	for (;;) {
		intptr_t at = map(fd, bytes + CHUNK, PROT_READ, MAP_SHARED, 0);

		if (at == -1)
			return bytes;
		bytes += CHUNK;
		munmap((void *)at, bytes);
	}
}

/* Mapped bytes at `at` against `path`; its size, or 0 where they differ. */
static size_t same_as_file(const char *at, size_t room, const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *file;
	bool same;

	if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size > room)
		return 0;
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (file == MAP_FAILED)
		return 0;
	same = !memcmp(at, file, (size_t)st.st_size);
	munmap(file, (size_t)st.st_size);
	return same ? (size_t)st.st_size : 0;
}

static void content(const char *node, char **files, int count)
{
	int fd = open(node, O_RDONLY);
	size_t bytes = node_bytes(fd);
	char *at = (char *)map(fd, bytes, PROT_READ, MAP_SHARED, 0);
	size_t cursor = same_as_file(at, bytes, files[0]);
	bool zero = cursor != 0;
	int i;

	report("the manifest is at byte 0", cursor != 0, "bytes differ");
	for (; cursor < CHUNK; cursor++)
		zero = zero && !at[cursor];
	report("zeros behind the manifest", zero, "something else");
	for (i = 1; i < count; i++) {
		size_t size = same_as_file(at + cursor, bytes - cursor,
					   files[i]);

		report("a shard follows", size != 0, files[i]);
		if (!size)
			return;
		cursor += size;
	}
	report("nothing follows the last shard", cursor == bytes,
	       "the node is longer");
}

/* kB of `field` in the smaps entry that begins at `at`. */
static long smaps_kib(const void *at, const char *field)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[512], start[32];
	bool inside = false;
	long kib = -1;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)at);
	while (smaps && fgets(line, sizeof(line), smaps)) {
		if (!strncmp(line, start, strlen(start)))
			inside = true;
		else if (inside && !strncmp(line, field, strlen(field))) {
			kib = strtol(line + strlen(field), NULL, 10);
			break;
		}
	}
	if (smaps)
		fclose(smaps);
	return kib;
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static void huge(const char *node, size_t bytes)
{
	int fd = open(node, O_RDONLY);
	volatile char *at = (char *)map(fd, bytes, PROT_READ, MAP_SHARED, 0);
	long before, taken, kib;
	char why[96];
	size_t i;

	if ((intptr_t)at == -1) {
		report("map the whole node", false, strerror(errno));
		return;
	}
	before = faults();
	for (i = 0; i < bytes; i += PAGE)
		(void)at[i];
	taken = faults() - before;
	snprintf(why, sizeof(why), "%ld faults for %zu MiB", taken,
		 bytes >> 20);
	printf("# %s\n", why);
	report("one fault a 2 MiB page", taken <= (long)(bytes / CHUNK) + 4,
	       why);
	kib = smaps_kib((const void *)at, "FilePmdMapped:");
	snprintf(why, sizeof(why), "FilePmdMapped %ld kB of %zu", kib,
		 bytes >> 10);
	printf("# %s\n", why);
	report("all of it is mapped by 2 MiB pages", kib == (long)(bytes >> 10),
	       why);
}

/* Pages of the mapping go into a pipe without a copy and come out equal; one
 * stays there while the mapping and the file go.
 */
static void gup(const char *node)
{
	int fd = open(node, O_RDONLY);
	char *at = (char *)map(fd, CHUNK, PROT_READ, MAP_SHARED, 0);
	char kept[PAGE], out[PAGE];
	struct iovec iov = { at, PAGE };
	int pipes[2];
	ssize_t count;

	memcpy(kept, at, PAGE);
	if (pipe(pipes))
		return;
	count = vmsplice(pipes[1], &iov, 1, 0);
	report("vmsplice from the mapping", count == (ssize_t)PAGE,
	       strerror(errno));
	munmap(at, CHUNK);
	close(fd);
	if (count != (ssize_t)PAGE)
		return;
	count = read(pipes[0], out, PAGE);
	report("a page in a pipe outlives the mapping",
	       count == (ssize_t)PAGE && !memcmp(out, kept, PAGE),
	       "other bytes");
}

static void hold(const char *node)
{
	int fd = open(node, O_RDONLY);
	char *at = fd < 0 ? MAP_FAILED :
			    (char *)map(fd, CHUNK, PROT_READ, MAP_SHARED, 0);
	char byte;

	if (at == MAP_FAILED) {
		printf("failed: %s\n", strerror(errno));
		failures++;
		return;
	}
	close(fd); /* the mapping alone must be enough */
	printf("held %d\n", at[0]);
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
}

static void noexec(const char *node)
{
	int fd = open(node, O_RDONLY);

	refused("mmap PROT_EXEC",
		map(fd, CHUNK, PROT_READ | PROT_EXEC, MAP_SHARED, 0), EPERM);
}

static void wait_state(const char *state)
{
	struct pollfd entry = { .fd = open(state, O_RDONLY),
				.events = POLLPRI };
	char text[32];

	if (read(entry.fd, text, sizeof(text)) <= 0) {
		report("read the state", false, strerror(errno));
		return;
	}
	puts("polling");
	fflush(stdout);
	report("poll wakes on a change of state",
	       poll(&entry, 1, 60000) == 1 && (entry.revents & POLLPRI),
	       "it did not");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[1] : "";

	if (!strcmp(mode, "content") && argc > 3)
		content(argv[2], argv + 3, argc - 3);
	else if (!strcmp(mode, "huge") && argc == 4)
		huge(argv[2], strtoull(argv[3], NULL, 0));
	else if (!strcmp(mode, "gup"))
		gup(argv[2]);
	else if (!strcmp(mode, "hold"))
		hold(argv[2]);
	else if (!strcmp(mode, "noexec"))
		noexec(argv[2]);
	else if (!strcmp(mode, "poll"))
		wait_state(argv[2]);
	else
		return 2;
	return failures != 0;
}
