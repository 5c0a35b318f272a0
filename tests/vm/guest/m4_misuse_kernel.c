// SPDX-License-Identifier: MIT
/*
 * m4_misuse_kernel NODE: the kernel as the one that writes, by system calls
 * whose result goes where the caller says: into the image.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <linux/udmabuf.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>

#include "misuse.h"

static void results(char *at)
{
	int zero = open("/dev/zero", O_RDONLY), pipes[2], status;
	int self = open("/proc/self/status", O_RDONLY);
	int dir = open("/", O_RDONLY | O_DIRECTORY);
	int watch = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLOUT };
	struct iovec iov = { at, 16 };

	if (pipe(pipes) || write(pipes[1], "data", 4) != 4)
		return;
	epoll_ctl(watch, EPOLL_CTL_ADD, pipes[1], &event);
	refused("read /dev/zero into the image", read(zero, at, 16), EFAULT);
	refused("readv into the image", readv(zero, &iov, 1), EFAULT);
	refused("read a pipe into the image", read(pipes[0], at, 4), EFAULT);
	refused("read /proc into the image", read(self, at, 16), EFAULT);
	refused("getrandom into the image", getrandom(at, 16, 0), EFAULT);
	refused("uname into the image", syscall(SYS_uname, at), EFAULT);
	refused("sysinfo into the image", syscall(SYS_sysinfo, at), EFAULT);
	refused("fstat into the image",
		syscall(SYS_fstat, zero, at), EFAULT);
	refused("getcwd into the image", syscall(SYS_getcwd, at, PAGE), EFAULT);
	refused("getdents into the image",
		syscall(SYS_getdents64, dir, at, PAGE), EFAULT);
	refused("clock_gettime into the image",
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, at), EFAULT);
	refused("getrusage into the image",
		syscall(SYS_getrusage, RUSAGE_SELF, at), EFAULT);
	refused("pipe2 into the image", syscall(SYS_pipe2, at, 0), EFAULT);
	refused("epoll_wait into the image",
		syscall(SYS_epoll_pwait, watch, at, 1, 0, NULL, 0), EFAULT);
	refused("mincore into the image",
		syscall(SYS_mincore, at, PAGE, at), EFAULT);
	refused("getsockopt into the image",
		getsockopt(socket(AF_UNIX, SOCK_STREAM, 0), SOL_SOCKET,
			   SO_TYPE, at, (socklen_t[1]){ 4 }),
		EFAULT);
	if (!fork())
		_exit(0);
	refused("wait4 into the image",
		syscall(SYS_wait4, -1, at, 0, NULL), EFAULT);
	wait(&status);
	close(zero);
	close(self);
	close(dir);
	close(watch);
	close(pipes[0]);
	close(pipes[1]);
}

/* A result that begins in memory of the caller's and runs into the image. */
static void across(struct target *t)
{
	char *own = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = map_as(t->fd, PAGE, PROT_READ, MAP_SHARED, 0);
	int zero = open("/dev/zero", O_RDONLY);

	memset(own, 1, CHUNK);
	if (mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   own + PAGE) != own + PAGE) {
		report("move a mapping", false, strerror(errno));
		return;
	}
	report("a read into the image stops before it",
	       read(zero, own + PAGE - 8, 16) <= 8 &&
		       !memcmp(own + PAGE, t->copy, PAGE),
	       "bytes differ");
	munmap(own, CHUNK);
	close(zero);
}

static void sockets(char *at)
{
	struct iovec iov = { at, 4 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) ||
	    send(pair[0], "data", 4, 0) != 4 || send(pair[0], "data", 4, 0) != 4)
		return;
	refused("recv into the image", recv(pair[1], at, 4, 0), EFAULT);
	refused("recvmsg into the image", recvmsg(pair[1], &message, 0),
		EFAULT);
	close(pair[0]);
	close(pair[1]);
}

/* A file that can be read past the page cache: beside this program's disk. */
static int direct_file(void)
{
	static const char *const dirs[] = { "/root", "/var/tmp", "/" };
	char *page = aligned_alloc(PAGE, PAGE);
	size_t i;
	int fd;

	memset(page, 0x5a, PAGE);
	for (i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		fd = open(dirs[i], O_TMPFILE | O_RDWR | O_DIRECT, 0600);
		if (fd >= 0 && pwrite(fd, page, PAGE, 0) == (ssize_t)PAGE)
			break;
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	free(page);
	return fd;
}

static void direct(struct target *t)
{
	char *at = t->at + CHUNK, *page = aligned_alloc(PAGE, PAGE);
	int fd = direct_file();
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD,
			   .aio_buf = (uintptr_t)at,
			   .aio_nbytes = PAGE };
	struct iocb *list[1] = { &cb };
	struct io_event event = { 0 };
	aio_context_t context = 0;

	if (fd < 0) {
		skipped("direct read into the image", "no file for O_DIRECT");
		return;
	}
	refused("direct read into the image", pread(fd, at, PAGE, 0), EFAULT);
	cb.aio_fildes = (uint32_t)fd;
	if (syscall(SYS_io_setup, 1, &context)) {
		skipped("asynchronous read into the image", strerror(errno));
	} else {
		long rc = syscall(SYS_io_submit, context, 1, list);

		if (rc == 1) {
			syscall(SYS_io_getevents, context, 1, 1, &event, NULL);
			errno = (int)-event.res;
			rc = event.res < 0 ? -1 : 0;
		}
		refused("asynchronous read into the image", rc, EFAULT);
		syscall(SYS_io_destroy, context);
	}
	report("direct write from the image is its bytes",
	       pwrite(fd, at, PAGE, 0) == (ssize_t)PAGE &&
		       pread(fd, page, PAGE, 0) == (ssize_t)PAGE &&
		       !memcmp(page, t->copy + CHUNK, PAGE),
	       strerror(errno));
	free(page);
	close(fd);
}

/* One entry at a time is all that is wanted of a ring. */
struct ring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *entries;
};

static bool ring_open(struct ring *r)
{
	size_t sq, cq;

	memset(&r->params, 0, sizeof(r->params));
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->params);
	if (r->fd < 0)
		return false;
	sq = r->params.sq_off.array + r->params.sq_entries * 4;
	cq = r->params.cq_off.cqes +
	     r->params.cq_entries * sizeof(struct io_uring_cqe);
	r->sq = mmap(NULL, sq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, cq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_CQ_RING);
	r->entries = mmap(NULL, 4 * sizeof(*r->entries), PROT_READ | PROT_WRITE,
			  MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq != MAP_FAILED && r->cq != MAP_FAILED &&
	       r->entries != MAP_FAILED;
}

/* Result of one operation, as a system call would give it. */
static intptr_t ring_do(struct ring *r, struct io_uring_sqe sqe)
{
	unsigned int *tail = (void *)(r->sq + r->params.sq_off.tail);
	unsigned int mask = *(unsigned int *)(r->sq + r->params.sq_off.ring_mask);
	unsigned int *array = (void *)(r->sq + r->params.sq_off.array);
	unsigned int *head = (void *)(r->cq + r->params.cq_off.head);
	unsigned int cq_mask =
		*(unsigned int *)(r->cq + r->params.cq_off.ring_mask);
	struct io_uring_cqe *done = (void *)(r->cq + r->params.cq_off.cqes);
	unsigned int slot = *tail & mask;
	int result;

	r->entries[slot] = sqe;
	array[slot] = slot;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) < 0)
		return -1;
	result = done[*head & cq_mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

static void uring(struct target *t)
{
	char *at = t->at + CHUNK, own[64];
	struct iovec iov = { at, PAGE };
	struct io_uring_params params = { .flags = 1U << 14 };
	struct io_uring_buf_reg ring_memory = { .ring_addr = (uintptr_t)at,
						.ring_entries = 8 };
	int zero = open("/dev/zero", O_RDONLY), pipes[2];
	struct ring r;

	if (!ring_open(&r)) {
		skipped("io_uring", strerror(errno));
		return;
	}
	refused("io_uring: register the image as a buffer",
		syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS,
			&iov, 1),
		EFAULT);
	refused("io_uring: fixed read into the image",
		ring_do(&r, (struct io_uring_sqe){
				    .opcode = IORING_OP_READ_FIXED,
				    .fd = zero,
				    .addr = (uintptr_t)at,
				    .len = 16 }),
		EFAULT);
	refused("io_uring: read into the image",
		ring_do(&r, (struct io_uring_sqe){ .opcode = IORING_OP_READ,
						   .fd = zero,
						   .addr = (uintptr_t)at,
						   .len = 16 }),
		EFAULT);
	refused("io_uring: open for writing",
		ring_do(&r, (struct io_uring_sqe){ .opcode = IORING_OP_OPENAT,
						   .fd = AT_FDCWD,
						   .addr = (uintptr_t)t->node,
						   .open_flags = O_RDWR }),
		EACCES);
	memset(own, 0, sizeof(own));
	refused("io_uring: write to the node",
		ring_do(&r, (struct io_uring_sqe){ .opcode = IORING_OP_WRITE,
						   .fd = t->fd,
						   .addr = (uintptr_t)own,
						   .len = 16 }),
		EBADF);
	refused("io_uring: read from the node",
		ring_do(&r, (struct io_uring_sqe){ .opcode = IORING_OP_READ,
						   .fd = t->fd,
						   .addr = (uintptr_t)own,
						   .len = 16 }),
		EINVAL);
	refused_as("io_uring: the ring itself in the image",
		   syscall(SYS_io_uring_setup, 4, &params), EFAULT, EINVAL);
	refused_as("io_uring: a ring of buffers in the image",
		   syscall(SYS_io_uring_register, r.fd,
			   IORING_REGISTER_PBUF_RING, &ring_memory, 1),
		   EFAULT, EINVAL);
	/* a buffer that the kernel picks */
	if (!pipe(pipes) && write(pipes[1], "data", 4) == 4 &&
	    ring_do(&r, (struct io_uring_sqe){
				.opcode = IORING_OP_PROVIDE_BUFFERS,
				.fd = 1,
				.addr = (uintptr_t)at,
				.len = PAGE,
				.buf_group = 7 }) >= 0)
		refused("io_uring: read into a picked buffer",
			ring_do(&r, (struct io_uring_sqe){
					    .opcode = IORING_OP_READ,
					    .flags = IOSQE_BUFFER_SELECT,
					    .fd = pipes[0],
					    .len = 4,
					    .buf_group = 7 }),
			EFAULT);
	else
		skipped("io_uring: read into a picked buffer", strerror(errno));
	close(r.fd);
	close(zero);
}

static void uffd(struct target *t)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)t->at, CHUNK },
		.mode = UFFDIO_REGISTER_MODE_MISSING
	};
	char *page = aligned_alloc(PAGE, PAGE);
	struct uffdio_copy copy = { .dst = (uintptr_t)t->at,
				    .src = (uintptr_t)page,
				    .len = PAGE };
	struct uffdio_zeropage zero = { .range = { (uintptr_t)t->at, PAGE } };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api)) {
		skipped("userfaultfd", strerror(errno));
		return;
	}
	memset(page, 0, PAGE);
	refused_as("userfaultfd: register for missing pages",
		   ioctl(fd, UFFDIO_REGISTER, &range), EINVAL, EPERM);
	range.mode = UFFDIO_REGISTER_MODE_WP;
	refused_as("userfaultfd: register for protected pages",
		   ioctl(fd, UFFDIO_REGISTER, &range), EINVAL, EPERM);
	range.mode = UFFDIO_REGISTER_MODE_MINOR;
	refused_as("userfaultfd: register for minor faults",
		   ioctl(fd, UFFDIO_REGISTER, &range), EINVAL, EPERM);
	madvise(t->at, CHUNK, MADV_DONTNEED);
	refused_as("userfaultfd: copy a page there",
		   ioctl(fd, UFFDIO_COPY, &copy), ENOENT, EINVAL);
	refused_as("userfaultfd: a zero page there",
		   ioctl(fd, UFFDIO_ZEROPAGE, &zero), ENOENT, EINVAL);
	free(page);
	close(fd);
}

static void futexes(struct target *t)
{
	/* a zero behind the manifest, as a futex that nobody holds */
	uint32_t *word = (void *)(t->at + CHUNK - 8), own = 0;
	struct timespec soon = { 0, 1 };

	refused("futex: wake and set",
		syscall(SYS_futex, &own, FUTEX_WAKE_OP, 1, 1, word,
			FUTEX_OP(FUTEX_OP_SET, 1, FUTEX_OP_CMP_EQ, 0)),
		EFAULT);
	refused("futex: lock with inheritance",
		syscall(SYS_futex, word, FUTEX_LOCK_PI_PRIVATE, 0, NULL),
		EFAULT);
	refused_as("futex: wait on the image",
		   syscall(SYS_futex, word, FUTEX_WAIT, 0, &soon), EFAULT,
		   ETIMEDOUT);
}

/* bpf_probe_write_user from a program of root's: the last thing before a
 * module of one's own.
 */
static void bpf(struct target *t)
{
	uint64_t at = (uintptr_t)(t->at + CHUNK);
	struct bpf_insn program[] = {
		/* r1 = the address; r2 = 8 bytes of stack; r3 = 8 */
		{ .code = BPF_LD | BPF_DW | BPF_IMM,
		  .dst_reg = 1,
		  .imm = (int32_t)at },
		{ .imm = (int32_t)(at >> 32) },
		{ .code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = 10, .off = -8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_X,
		  .dst_reg = 2,
		  .src_reg = 10 },
		{ .code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -8 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 8 },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_probe_write_user },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = { 0 };
	int fd;

	attr.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT;
	attr.insns = (uintptr_t)program;
	attr.insn_cnt = sizeof(program) / sizeof(*program);
	attr.license = (uintptr_t)"GPL";
	fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (fd < 0) {
		skipped("bpf_probe_write_user", strerror(errno));
		return;
	}
	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (uint32_t)fd;
	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr))) {
		skipped("bpf_probe_write_user", strerror(errno));
		close(fd);
		return;
	}
	errno = -(int32_t)attr.test.retval;
	refused("bpf_probe_write_user", errno ? -1 : 0, EFAULT);
	close(fd);
}

static void probes(struct target *t)
{
	struct perf_event_attr attr = { .size = sizeof(attr) };
	char text[96] = "";
	int fd = open("/sys/bus/event_source/devices/uprobe/type", O_RDONLY);

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0) {
		skipped("a uprobe in the node", "not in this kernel");
	} else {
		attr.type = (uint32_t)strtoul(text, NULL, 10);
		attr.config1 = (uintptr_t)t->node;
		attr.config2 = CHUNK;
		refused("a uprobe in the node",
			syscall(SYS_perf_event_open, &attr, getpid(), -1, -1,
				0),
			EINVAL);
	}
	if (fd >= 0)
		close(fd);
	snprintf(text, sizeof(text), "p:m4_misuse/x %s:0x200000", t->node);
	if (access("/sys/kernel/tracing/uprobe_events", W_OK))
		skipped("a traced uprobe in the node", "not in this kernel");
	else
		refused("a traced uprobe in the node",
			write_text("/sys/kernel/tracing/uprobe_events", text) ?
				0 : -1,
			EINVAL);
}

static void udmabuf(struct target *t)
{
	struct udmabuf_create request = { .memfd = (uint32_t)t->fd,
					  .size = CHUNK };
	int fd = open("/dev/udmabuf", O_RDWR);

	if (fd < 0)
		skipped("udmabuf of the node", strerror(errno));
	else
		refused_as("udmabuf of the node",
			   ioctl(fd, UDMABUF_CREATE, &request), EBADFD, EINVAL);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	results(t.at + CHUNK);
	across(&t);
	sockets(t.at + CHUNK);
	direct(&t);
	uring(&t);
	uffd(&t);
	futexes(&t);
	bpf(&t);
	probes(&t);
	udmabuf(&t);
	return end(&t, "kernel writes");
}
