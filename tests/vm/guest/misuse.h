/* SPDX-License-Identifier: MIT */
/*
 * For the programs m4_misuse_*: each tries one family of ways to get at a byte
 * of an image, as root unless it says otherwise, and each way must be refused
 * with its errno. begin() keeps a copy of the whole node; end() compares.
 *
 * One line a check ("ok WHAT", "not ok WHAT: why", "skip WHAT: why"); exit 1 if
 * any failed.
 */
#ifndef MISUSE_H
#define MISUSE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHUNK ((size_t)2 << 20)
#define PAGE ((size_t)4096)
#define STRANGER 65534

struct target {
	const char *node;
	int fd;
	size_t bytes;
	char *at; /* the whole node, mapped */
	char *copy; /* its bytes at the beginning */
};

static int failures;

static inline void report(const char *what, bool good, const char *why)
{
	if (good)
		printf("ok %s\n", what);
	else
		printf("not ok %s: %s\n", what, why);
	failures += !good;
}

static inline void skipped(const char *what, const char *why)
{
	printf("skip %s: %s\n", what, why);
}

/* `result` must be -1 with errno `wanted` or `other`; a kernel without the call
 * is none to test.
 */
static inline void refused_as(const char *what, intptr_t result, int wanted,
			      int other)
{
	int got = errno;
	char why[128];

	if (result == -1 && got == ENOSYS && wanted != ENOSYS) {
		skipped(what, "not in this kernel");
		return;
	}
	if (result != -1)
		snprintf(why, sizeof(why), "it was allowed (%ld)",
			 (long)result);
	else
		snprintf(why, sizeof(why), "errno %d (%s), wanted %d", got,
			 strerror(got), wanted);
	report(what, result == -1 && (got == wanted || got == other), why);
}

static inline void refused(const char *what, intptr_t result, int wanted)
{
	refused_as(what, result, wanted, wanted);
}

/* For calls that may be harmless: done must not change what end() compares. */
static inline void allowed(const char *what, intptr_t result)
{
	if (result == -1 && errno == ENOSYS)
		skipped(what, "not in this kernel");
	else
		report(what, result != -1, strerror(errno));
}

static inline void *map_as(int fd, size_t bytes, int prot, int flags,
			   off_t offset)
{
	return mmap(NULL, bytes, prot, flags, fd, offset);
}

/* The node has no size of its own: grow until the map is refused. */
static __attribute__((noinline, unused)) size_t node_bytes(int fd)
{
	size_t bytes = 0;

	for (;;) {
		void *at = map_as(fd, bytes + CHUNK, PROT_READ, MAP_SHARED, 0);

		if (at == MAP_FAILED)
			return bytes;
		bytes += CHUNK;
		munmap(at, bytes);
	}
}

static inline bool unchanged(const struct target *t)
{
	int fd = open(t->node, O_RDONLY | O_CLOEXEC);
	char *at = map_as(fd, t->bytes, PROT_READ, MAP_SHARED, 0);
	bool same = fd >= 0 && at != MAP_FAILED &&
		    !memcmp(at, t->copy, t->bytes) &&
		    !memcmp(t->at, t->copy, t->bytes);

	if (at != MAP_FAILED)
		munmap(at, t->bytes);
	if (fd >= 0)
		close(fd);
	return same;
}

static inline void begin(struct target *t, int argc, char **argv)
{
	if (argc < 2)
		exit(2);
	setvbuf(stdout, NULL, _IOLBF, 0); /* nothing is printed twice by fork */
	t->node = argv[1];
	t->fd = open(t->node, O_RDONLY | O_CLOEXEC);
	if (t->fd < 0) {
		report("open O_RDONLY", false, strerror(errno));
		exit(1);
	}
	t->bytes = node_bytes(t->fd);
	t->at = map_as(t->fd, t->bytes, PROT_READ, MAP_SHARED, 0);
	t->copy = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!t->bytes || t->at == MAP_FAILED || t->copy == MAP_FAILED) {
		report("map the whole node", false, strerror(errno));
		exit(1);
	}
	memcpy(t->copy, t->at, t->bytes);
}

static inline int end(const struct target *t, const char *family)
{
	char what[96];

	snprintf(what, sizeof(what), "after %s every byte is as before",
		 family);
	report(what, unchanged(t), "bytes differ");
	return failures != 0;
}

/* Runs fn in a child; its checks count here, a death is a failure. */
static inline void in_child(const char *what, void (*fn)(struct target *),
			    struct target *t)
{
	int status = 0;
	pid_t child = fork();

	if (!child) {
		failures = 0;
		fn(t);
		_exit(failures ? 1 : 0);
	}
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		report(what, false, strsignal(WTERMSIG(status)));
	else
		failures += WEXITSTATUS(status);
}

/* fn must die by `sig` in a child of its own, which maps the node anew. */
static inline void dies(const char *what, void (*fn)(struct target *, char *),
			struct target *t, int sig)
{
	int status = 0;
	pid_t child = fork();
	char why[64];

	if (!child) {
		char *at = map_as(t->fd, t->bytes, PROT_READ, MAP_SHARED, 0);

		signal(sig, SIG_DFL);
		if (at == MAP_FAILED)
			_exit(99);
		fn(t, at);
		_exit(0);
	}
	waitpid(child, &status, 0);
	snprintf(why, sizeof(why), "status %#x", status);
	report(what, WIFSIGNALED(status) && WTERMSIG(status) == sig, why);
}

static inline bool become_stranger(void)
{
	/* by hand: the library would want every thread, a child has one */
	return !syscall(SYS_setgroups, 0, NULL) &&
	       !syscall(SYS_setresgid, STRANGER, STRANGER, STRANGER) &&
	       !syscall(SYS_setresuid, STRANGER, STRANGER, STRANGER);
}

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) ==
				       (ssize_t)strlen(text);
	int kept = errno;

	if (fd >= 0)
		close(fd);
	errno = kept;
	return done;
}

#endif /* MISUSE_H */
