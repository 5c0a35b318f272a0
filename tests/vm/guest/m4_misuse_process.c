// SPDX-License-Identifier: MIT
/*
 * m4_misuse_process NODE: another process, or a child, as the one that writes.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "misuse.h"

#define RW (PROT_READ | PROT_WRITE)

/* A process that maps the image where we do, as it stands in ptrace's stop. */
static pid_t traced(struct target *t)
{
	pid_t child = fork();
	int status;

	if (!child) {
		if (mmap(t->at, t->bytes, PROT_READ, MAP_SHARED | MAP_FIXED,
			 t->fd, 0) == t->at) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			raise(SIGSTOP);
		}
		_exit(1);
	}
	waitpid(child, &status, 0);
	return child;
}

static void by_tracer(struct target *t)
{
	pid_t child = traced(t);
	struct iovec from = { (char[8]){ 0 }, 8 }, to = { t->at + CHUNK, 8 };
	long word;
	char path[64];
	int mem, pidfd, stolen;

	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, child, t->at + CHUNK, NULL);
	report("a tracer can read", !errno && !memcmp(&word, t->copy + CHUNK,
						      sizeof(word)),
	       strerror(errno));
	refused("ptrace POKEDATA",
		ptrace(PTRACE_POKEDATA, child, t->at + CHUNK, NULL), EIO);
	refused("ptrace POKETEXT",
		ptrace(PTRACE_POKETEXT, child, t->at + CHUNK, NULL), EIO);
	refused("ptrace puts registers into the image",
		ptrace(PTRACE_GETREGSET, child, (void *)1, &to), EFAULT);
	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	mem = open(path, O_RDWR);
	refused("write through another's /proc/<pid>/mem",
		pwrite(mem, "datadata", 8, (off_t)(uintptr_t)to.iov_base), EIO);
	close(mem);
	refused("process_vm_writev into another process",
		process_vm_writev(child, &from, 1, &to, 1, 0), EFAULT);
	refused("process_vm_readv into the image",
		process_vm_readv(child, &to, 1, &to, 1, 0), EFAULT);

	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	stolen = (int)syscall(SYS_pidfd_getfd, pidfd, t->fd, 0);
	if (stolen < 0) {
		skipped("map a descriptor taken from a process for writing",
			strerror(errno));
	} else {
		refused("map a descriptor taken from a process for writing",
			(intptr_t)map_as(stolen, CHUNK, RW, MAP_SHARED, 0),
			EACCES);
		close(stolen);
	}
	close(pidfd);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void by_self(struct target *t)
{
	struct iovec from = { (char[8]){ 0 }, 8 }, to = { t->at, 8 };
	int mem = open("/proc/self/mem", O_RDWR);

	refused("write through /proc/self/mem",
		pwrite(mem, from.iov_base, 8, (off_t)(uintptr_t)t->at), EIO);
	refused("write through /proc/self/mem across two pages",
		pwrite(mem, from.iov_base, 8,
		       (off_t)(uintptr_t)(t->at + CHUNK - 4)),
		EIO);
	refused("process_vm_writev",
		process_vm_writev(getpid(), &from, 1, &to, 1, 0), EFAULT);
	close(mem);
}

static void look(struct target *t)
{
	_exit(t->at[0] == 0x7f); /* not reached: no mapping here */
}

static void by_fork(struct target *t)
{
	int status = 0;
	pid_t child = fork();

	if (!child)
		look(t);
	waitpid(child, &status, 0);
	report("a child does not inherit the mapping",
	       WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
	       "it could read");
}

/* MADV_DOFORK lets the child have it, for reading and nothing else. */
static void inherited(struct target *t)
{
	int mem = open("/proc/self/mem", O_RDWR);

	report("MADV_DOFORK: the child reads the same",
	       !memcmp(t->at, t->copy, t->bytes), "bytes differ");
	refused("MADV_DOFORK: the child's mprotect",
		mprotect(t->at, CHUNK, RW), EACCES);
	refused("MADV_DOFORK: the child's /proc/self/mem",
		pwrite(mem, "data", 4, (off_t)(uintptr_t)t->at), EIO);
}

static void store_inherited(struct target *t, char *at)
{
	(void)at;
	*(volatile char *)(t->at + CHUNK) = 1;
}

static void by_dofork(struct target *t)
{
	if (madvise(t->at, t->bytes, MADV_DOFORK)) {
		report("MADV_DOFORK", false, strerror(errno));
		return;
	}
	in_child("MADV_DOFORK: the child", inherited, t);
	dies("MADV_DOFORK: the child's store is SIGSEGV", store_inherited, t,
	     SIGSEGV);
	madvise(t->at, t->bytes, MADV_DONTFORK);
}

static int store_shared(void *arg)
{
	struct target *t = arg;

	*(volatile char *)(t->at + CHUNK) = 1;
	return 0;
}

static void store_fresh(struct target *t, char *at)
{
	(void)t;
	*(volatile char *)at = 1;
}

/* The kernel writes thread ids where clone is told to: not here. */
static int nothing(void *arg)
{
	(void)arg;
	return 0;
}

static void by_clone(struct target *t)
{
	const size_t room = 64 << 10;
	char *stack = malloc(room);
	int status = 0;
	pid_t child;

	child = clone(store_shared, stack + room, CLONE_VM | SIGCHLD, t);
	waitpid(child, &status, 0);
	report("a store by a child that shares memory is SIGSEGV",
	       WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
	       "it was allowed");
	child = clone(nothing, stack + room,
		      CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID |
			      CLONE_CHILD_CLEARTID | SIGCHLD,
		      NULL, t->at + CHUNK, NULL, t->at + CHUNK + 8);
	if (child > 0)
		waitpid(child, &status, 0);
	report("clone writes no thread id into the image", unchanged(t),
	       "it did");
	dies("a store by a child with a mapping of its own is SIGSEGV",
	     store_fresh, t, SIGSEGV);
	free(stack);
}

/* Places that the kernel writes to when a thread runs, or is signalled. */
static void register_rseq(struct target *t, char *at)
{
	(void)t;
	/* 32 bytes, aligned so; the kernel writes the processor's number */
	if (syscall(SYS_rseq, at + CHUNK, 32, 0, 0x53053053) == -1)
		raise(errno == EFAULT ? SIGSEGV : SIGUSR1);
	sched_yield();
}

static int rseq_shared(void *arg)
{
	struct target *t = arg;

	register_rseq(t, t->at);
	return 0;
}

static void handler(int sig)
{
	(void)sig;
	_exit(0);
}

static void signal_stack(struct target *t, char *at)
{
	stack_t stack = { .ss_sp = at + CHUNK, .ss_size = CHUNK };
	struct sigaction action = { .sa_handler = handler,
				    .sa_flags = SA_ONSTACK };

	(void)t;
	sigaltstack(&stack, NULL);
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
}

static void by_kernel_areas(struct target *t)
{
	const size_t room = 64 << 10;
	char *stack = malloc(room);
	int status = 0;
	/* a task of its own, in which no library registered one before */
	pid_t child = clone(rseq_shared, stack + room, CLONE_VM | SIGCHLD, t);

	waitpid(child, &status, 0);
	report("an rseq area in the image is SIGSEGV",
	       WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
	       "it was allowed");
	dies("a signal stack in the image is SIGSEGV", signal_stack, t,
	     SIGSEGV);
	free(stack);
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	by_tracer(&t);
	by_self(&t);
	by_fork(&t);
	by_dofork(&t);
	by_clone(&t);
	by_kernel_areas(&t);
	return end(&t, "other processes");
}
