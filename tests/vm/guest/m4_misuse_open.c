// SPDX-License-Identifier: MIT
/*
 * m4_misuse_open NODE: opening an image for more than reading, by every name
 * and descriptor that leads to it.
 */
#define _GNU_SOURCE
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "misuse.h"

#define TWIN "/dev/m4-twin" /* not in /run: that is mounted nodev */
#define BIND "/run/m4-bind"

static void by_name(struct target *t)
{
	struct open_how how = { .flags = O_RDWR };

	refused("open O_RDWR", open(t->node, O_RDWR), EACCES);
	refused("open O_WRONLY", open(t->node, O_WRONLY), EACCES);
	refused("open with access mode 3", open(t->node, O_ACCMODE), EACCES);
	refused("open O_WRONLY|O_TRUNC", open(t->node, O_WRONLY | O_TRUNC),
		EACCES);
	refused("open O_RDWR|O_APPEND", open(t->node, O_RDWR | O_APPEND),
		EACCES);
	refused("open O_RDWR|O_CREAT", open(t->node, O_RDWR | O_CREAT, 0666),
		EACCES);
	refused("open O_RDWR|O_CREAT|O_EXCL",
		open(t->node, O_RDWR | O_CREAT | O_EXCL, 0666), EEXIST);
	refused("open O_DIRECT", open(t->node, O_RDONLY | O_DIRECT), EINVAL);
	refused("open O_DIRECTORY", open(t->node, O_RDONLY | O_DIRECTORY),
		ENOTDIR);
	refused("openat2 O_RDWR",
		syscall(SYS_openat2, AT_FDCWD, t->node, &how, sizeof(how)),
		EACCES);
	how.resolve = RESOLVE_IN_ROOT;
	refused("openat2 O_RDWR in the root",
		syscall(SYS_openat2, open("/", O_PATH), t->node, &how,
			sizeof(how)),
		EACCES);
	refused("truncate by name", truncate(t->node, 0), EINVAL);
	refused("execute the node", execl(t->node, t->node, NULL), EACCES);
	refused("swapon the node", swapon(t->node, 0), EACCES);
	refused("process accounting into the node", syscall(SYS_acct, t->node),
		EACCES);
}

/* A mapping is a door of its own: /proc/<pid>/map_files. */
static void by_map_files(struct target *t)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 (unsigned long)t->at, (unsigned long)t->at + t->bytes);
	if (access("/proc/self/map_files", F_OK))
		skipped("reopen through map_files", "not in this kernel");
	else
		refused("reopen through map_files", open(path, O_RDWR), EACCES);
}

static void by_handle(struct target *t)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} name = { .handle.handle_bytes = MAX_HANDLE_SZ };
	int dev = open("/dev", O_RDONLY | O_DIRECTORY), mount_id;

	if (name_to_handle_at(AT_FDCWD, t->node, &name.handle, &mount_id, 0))
		skipped("open by handle O_RDWR", strerror(errno));
	else
		refused("open by handle O_RDWR",
			open_by_handle_at(dev, &name.handle, O_RDWR), EACCES);
	close(dev);
}

static void by_descriptor(struct target *t)
{
	int path_fd = open(t->node, O_PATH), twin;
	char self[64];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", t->fd);
	refused("reopen for writing", open(self, O_RDWR), EACCES);
	refused("reopen for writing only", open(self, O_WRONLY), EACCES);
	refused("mmap of an O_PATH descriptor",
		(intptr_t)map_as(path_fd, CHUNK, PROT_READ, MAP_SHARED, 0),
		EBADF);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", path_fd);
	refused("reopen an O_PATH descriptor for writing", open(self, O_RDWR),
		EACCES);
	refused("execute the descriptor",
		syscall(SYS_execveat, t->fd, "", (char *[]){ "x", NULL },
			(char *[]){ NULL }, AT_EMPTY_PATH),
		EACCES);
	refused("the node as executable of a process",
		prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, t->fd, 0, 0), EACCES);
	refused("load the node as a module",
		syscall(SYS_finit_module, t->fd, "", 0), EINVAL);
	refused("F_SETFL O_DIRECT", fcntl(t->fd, F_SETFL, O_DIRECT), EINVAL);

	/* O_RDWR is ignored there, hence it must not have helped */
	twin = open(t->node, O_RDONLY);
	fcntl(twin, F_SETFL, O_RDWR);
	refused("write after F_SETFL O_RDWR", write(twin, "x", 1), EBADF);
	refused("map for writing after F_SETFL O_RDWR",
		(intptr_t)map_as(twin, CHUNK, PROT_READ | PROT_WRITE,
				 MAP_SHARED, 0),
		EACCES);
	close(twin);
	close(path_fd);
}

static void by_other_nodes(struct target *t)
{
	struct stat st;
	int fd;

	fstat(t->fd, &st);
	if (mknod(TWIN, S_IFCHR | 0666, st.st_rdev)) {
		report("a twin of the node", false, strerror(errno));
		return;
	}
	chmod(TWIN, 0666);
	fd = open(TWIN, O_RDONLY);
	report("a twin of the node is the image", fd >= 0, strerror(errno));
	close(fd);
	refused("open a twin O_RDWR", open(TWIN, O_RDWR), EACCES);
	unlink(TWIN);

	if (link(t->node, TWIN))
		report("a hard link to the node", false, strerror(errno));
	refused("open a hard link O_RDWR", open(TWIN, O_RDWR), EACCES);
	unlink(TWIN);

	if (symlink(t->node, TWIN))
		report("a symbolic link to the node", false, strerror(errno));
	refused("open a symbolic link O_RDWR", open(TWIN, O_RDWR), EACCES);
	unlink(TWIN);

	close(open(BIND, O_CREAT | O_WRONLY, 0644));
	if (mount(t->node, BIND, NULL, MS_BIND, NULL)) {
		report("a bind mount of the node", false, strerror(errno));
	} else {
		/* a bind keeps the options of where it came from: not nodev */
		refused("open a bind mount O_RDWR",
			open(BIND, O_RDWR), EACCES);
		umount2(BIND, MNT_DETACH);
	}
	unlink(BIND);

	/* the same number, the other kind of device: not ours */
	mknod(TWIN, S_IFBLK | 0666, st.st_rdev);
	fd = open(TWIN, O_RDWR);
	report("the block device of that number is not the image",
	       fd == -1 ||
		       map_as(fd, t->bytes, PROT_READ, MAP_SHARED, CHUNK) ==
			       MAP_FAILED,
	       "it can be mapped");
	if (fd >= 0)
		close(fd);
	unlink(TWIN);
}

static void stranger(struct target *t)
{
	if (!become_stranger())
		report("become another user", false, strerror(errno));
	refused("a stranger opens the node", open(t->node, O_RDONLY), EACCES);
}

/* What a mode can allow, the driver does not. */
static void stranger_of_open_node(struct target *t)
{
	int fd;

	if (!become_stranger())
		report("become another user", false, strerror(errno));
	fd = open(t->node, O_RDONLY);
	report("a node of mode 0666 is readable for all", fd >= 0,
	       strerror(errno));
	refused("a stranger opens a node of mode 0666 O_RDWR",
		open(t->node, O_RDWR), EACCES);
	refused("a stranger changes the node's mode",
		fchmod(t->fd, 0777), EPERM);
}

/* A descriptor passed to a process that could not have opened the node. */
static int channel[2];

static void receiver(struct target *t)
{
	char byte, room[CMSG_SPACE(sizeof(int))], self[64];
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	void *at;
	int fd;

	munmap(t->at, t->bytes);
	close(t->fd);
	if (!become_stranger() || recvmsg(channel[0], &message, 0) != 1) {
		report("receive a descriptor", false, strerror(errno));
		return;
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	at = map_as(fd, t->bytes, PROT_READ, MAP_SHARED, 0);
	report("a passed descriptor can be mapped for reading",
	       at != MAP_FAILED && !memcmp(at, t->copy, t->bytes),
	       strerror(errno));
	refused("map a passed descriptor for writing",
		(intptr_t)map_as(fd, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED,
				 0),
		EACCES);
	refused("mprotect of a passed descriptor's mapping",
		mprotect(at, CHUNK, PROT_READ | PROT_WRITE), EACCES);
	refused("write to a passed descriptor", write(fd, "x", 1), EBADF);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	refused("reopen a passed descriptor for writing", open(self, O_RDWR),
		EACCES);
	refused("reopen a passed descriptor at all", open(self, O_RDONLY),
		EACCES);
}

static void by_passing(struct target *t)
{
	char room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof(room) };
	struct cmsghdr *part = CMSG_FIRSTHDR(&message);

	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(part), &t->fd, sizeof(int));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, channel) ||
	    sendmsg(channel[1], &message, 0) != 1) {
		report("pass a descriptor", false, strerror(errno));
		return;
	}
	in_child("a passed descriptor", receiver, t);
}

/* The kernel as the one that opens: a core dump into the node. By the node's
 * own name it would unlink it first and write a file of that name.
 */
static void crash(struct target *t)
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	(void)t;
	setrlimit(RLIMIT_CORE, &all);
	abort();
}

static void by_core_pattern(struct target *t)
{
	const char *pattern = "/proc/sys/kernel/core_pattern";
	char before[256] = "";
	int fd = open(pattern, O_RDONLY), status = 0;
	pid_t child;

	close(open(BIND, O_CREAT | O_WRONLY, 0644));
	if (fd < 0 || read(fd, before, sizeof(before) - 1) < 0 ||
	    mount(t->node, BIND, NULL, MS_BIND, NULL) ||
	    !write_text(pattern, BIND)) {
		skipped("a core dump into the node", "no core_pattern");
		return;
	}
	close(fd);
	child = fork();
	if (!child)
		crash(t);
	waitpid(child, &status, 0);
	write_text(pattern, before);
	umount2(BIND, MNT_DETACH);
	unlink(BIND);
	report("a core dump into the node is not written",
	       WIFSIGNALED(status) && !WCOREDUMP(status), "it was");
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	by_name(&t);
	by_map_files(&t);
	by_handle(&t);
	by_descriptor(&t);
	by_other_nodes(&t);
	in_child("a stranger", stranger, &t);
	chmod(t.node, 0666);
	in_child("a stranger", stranger_of_open_node, &t);
	chmod(t.node, 0440);
	by_passing(&t);
	by_core_pattern(&t);
	return end(&t, "opens");
}
