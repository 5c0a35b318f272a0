// SPDX-License-Identifier: MIT
/*
 * m4_misuse_pipe NODE: pages of the image in pipes and sockets, where they are
 * meant to be, and what a writer could do to them there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "misuse.h"

static bool same(const struct target *t)
{
	return !memcmp(t->at, t->copy, t->bytes);
}

/* Every slot of a pipe once written and read again: a slot that says "more may
 * be appended here" is left behind, which a kernel once believed.
 */
static void wear(int pipes[2])
{
	long room = fcntl(pipes[1], F_GETPIPE_SZ);
	char page[PAGE];

	memset(page, 0, sizeof(page));
	for (long i = 0; i < room; i += (long)PAGE)
		if (write(pipes[1], page, PAGE) != (ssize_t)PAGE)
			return;
	for (long i = 0; i < room; i += (long)PAGE)
		if (read(pipes[0], page, PAGE) != (ssize_t)PAGE)
			return;
}

static void appended(struct target *t, const char *what, unsigned int flags,
		     size_t bytes)
{
	struct iovec iov = { t->at + CHUNK, bytes };
	char out[2 * PAGE];
	int pipes[2];
	bool good;

	if (pipe(pipes))
		return;
	wear(pipes);
	good = vmsplice(pipes[1], &iov, 1, flags) == (ssize_t)bytes &&
	       write(pipes[1], "XXXX", 4) == 4 && same(t) &&
	       read(pipes[0], out, bytes) == (ssize_t)bytes &&
	       !memcmp(out, t->copy + CHUNK, bytes) &&
	       read(pipes[0], out, 4) == 4 && !memcmp(out, "XXXX", 4);
	report(what, good, strerror(errno));
	close(pipes[0]);
	close(pipes[1]);
}

/* A page given away with SPLICE_F_GIFT, moved into a file, the file written. */
static void gifted(struct target *t)
{
	struct iovec iov = { t->at + CHUNK, PAGE };
	int file = open("/dev/shm", O_TMPFILE | O_RDWR, 0600), pipes[2];
	char page[PAGE];
	ssize_t count;

	if (pipe(pipes) || file < 0) {
		skipped("a gifted page moved into a file", strerror(errno));
		return;
	}
	count = vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT);
	if (count == (ssize_t)PAGE)
		count = splice(pipes[0], NULL, file, NULL, PAGE, SPLICE_F_MOVE);
	memset(page, 0x5a, PAGE);
	report("a gifted page moved into a file stays ours",
	       count == (ssize_t)PAGE &&
		       pwrite(file, page, PAGE, 0) == (ssize_t)PAGE && same(t),
	       strerror(errno));
	close(file);
	close(pipes[0]);
	close(pipes[1]);
}

static void teed(struct target *t)
{
	struct iovec iov = { t->at + CHUNK, 100 };
	int pipes[2], more[2];
	char out[PAGE];
	bool good;

	if (pipe(pipes) || pipe(more))
		return;
	wear(more);
	good = vmsplice(pipes[1], &iov, 1, 0) == 100 &&
	       tee(pipes[0], more[1], 100, 0) == 100 &&
	       write(more[1], "XXXX", 4) == 4 && same(t) &&
	       read(more[0], out, 104) == 104 &&
	       !memcmp(out, t->copy + CHUNK, 100);
	report("a write behind a teed page leaves the page", good,
	       strerror(errno));
	close(pipes[0]);
	close(pipes[1]);
	close(more[0]);
	close(more[1]);
}

static void into(struct target *t)
{
	struct iovec iov = { t->at + CHUNK, 4 };
	int pipes[2];

	if (pipe(pipes) || write(pipes[1], "XXXX", 4) != 4)
		return;
	refused("vmsplice out of a pipe into the image",
		vmsplice(pipes[0], &iov, 1, 0), EFAULT);
	close(pipes[0]);
	close(pipes[1]);
	refused("vmsplice on the node", vmsplice(t->fd, &iov, 1, 0), EBADF);
}

static bool loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct ifreq request = { .ifr_name = "lo" };
	bool up = fd >= 0 && !ioctl(fd, SIOCGIFFLAGS, &request);

	request.ifr_flags |= IFF_UP;
	up = up && !ioctl(fd, SIOCSIFFLAGS, &request);
	if (fd >= 0)
		close(fd);
	return up;
}

static bool connected(int pair[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	pair[0] = socket(AF_INET, SOCK_STREAM, 0);
	pair[1] = -1;
	if (listener < 0 || bind(listener, (void *)&at, size) ||
	    listen(listener, 1) || getsockname(listener, (void *)&at, &size) ||
	    connect(pair[0], (void *)&at, size))
		return false;
	pair[1] = accept(listener, NULL, NULL);
	close(listener);
	return pair[1] >= 0;
}

static void network(struct target *t)
{
	struct tcp_zerocopy_receive receive = {
		.address = (uintptr_t)(t->at + CHUNK), .length = PAGE
	};
	socklen_t size = sizeof(receive);
	char *out = malloc(4 * PAGE);
	int pair[2], one = 1;
	bool good;

	if (!loopback_up() || !connected(pair)) {
		skipped("MSG_ZEROCOPY from the image", "no network");
		skipped("zero-copy receive into the image", "no network");
		return;
	}
	if (setsockopt(pair[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one))) {
		skipped("MSG_ZEROCOPY from the image", strerror(errno));
	} else {
		good = send(pair[0], t->at + CHUNK, 4 * PAGE, MSG_ZEROCOPY) ==
			       (ssize_t)(4 * PAGE) &&
		       recv(pair[1], out, 4 * PAGE, MSG_WAITALL) ==
			       (ssize_t)(4 * PAGE) &&
		       !memcmp(out, t->copy + CHUNK, 4 * PAGE) && same(t);
		report("MSG_ZEROCOPY from the image sends its bytes", good,
		       strerror(errno));
	}
	memset(out, 0x5a, PAGE);
	good = send(pair[0], out, PAGE, 0) == (ssize_t)PAGE;
	refused_as("zero-copy receive into the image",
		   getsockopt(pair[1], IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE,
			      &receive, &size),
		   EINVAL, good ? EINVAL : errno);
	refused("receive into the image",
		recv(pair[1], t->at + CHUNK, 16, 0), EFAULT);
	free(out);
	close(pair[0]);
	close(pair[1]);
}

/* Once more with the mapping and every descriptor gone. */
static void outlived(struct target *t)
{
	int fd = open(t->node, O_RDONLY), pipes[2];
	char *at = map_as(fd, CHUNK, PROT_READ, MAP_SHARED, CHUNK);
	struct iovec iov = { at, PAGE };
	char out[PAGE];
	bool good;

	if (pipe(pipes) || at == MAP_FAILED)
		return;
	good = vmsplice(pipes[1], &iov, 1, SPLICE_F_GIFT) == (ssize_t)PAGE;
	munmap(at, CHUNK);
	close(fd);
	report("a page in a pipe outlives its mapping",
	       good && read(pipes[0], out, PAGE) == (ssize_t)PAGE &&
		       !memcmp(out, t->copy + CHUNK, PAGE),
	       "other bytes");
	close(pipes[0]);
	close(pipes[1]);
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	appended(&t, "a write behind a spliced page leaves the page", 0, 100);
	appended(&t, "a write behind a gifted page leaves the page",
		 SPLICE_F_GIFT, PAGE);
	gifted(&t);
	teed(&t);
	into(&t);
	network(&t);
	outlived(&t);
	return end(&t, "pipes and sockets");
}
