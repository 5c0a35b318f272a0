// SPDX-License-Identifier: MIT
/*
 * m4_misuse_file NODE: calls on the descriptor of an image that read, write,
 * copy, resize or relabel a file.
 */
#define _GNU_SOURCE
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "misuse.h"

static void reads_and_writes(int fd)
{
	char buffer[16] = "";
	struct iovec iov = { buffer, sizeof(buffer) };

	refused("read", read(fd, buffer, sizeof(buffer)), EINVAL);
	refused("readv", readv(fd, &iov, 1), EINVAL);
	refused("pread", pread(fd, buffer, sizeof(buffer), 0), ESPIPE);
	refused("preadv", preadv(fd, &iov, 1, 0), ESPIPE);
	refused("preadv2 at no place", preadv2(fd, &iov, 1, -1, 0), EINVAL);
	refused("lseek", lseek(fd, 0, SEEK_END), ESPIPE);
	refused("write", write(fd, buffer, sizeof(buffer)), EBADF);
	refused("writev", writev(fd, &iov, 1), EBADF);
	refused("pwrite", pwrite(fd, buffer, sizeof(buffer), 0), ESPIPE);
	refused("pwritev", pwritev(fd, &iov, 1, 0), ESPIPE);
	refused("pwritev2 at no place",
		pwritev2(fd, &iov, 1, -1, RWF_APPEND), EBADF);
}

static void copies(int fd)
{
	int null = open("/dev/null", O_WRONLY), pipes[2], more[2];
	int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	if (pipe(pipes) || pipe(more) || write(pipes[1], "data", 4) != 4 ||
	    file < 0 || write(file, "data", 4) != 4) {
		report("a pipe and a file", false, strerror(errno));
		return;
	}
	lseek(file, 0, SEEK_SET);
	refused("sendfile from the node", sendfile(null, fd, NULL, 16), EINVAL);
	refused("sendfile into the node", sendfile(fd, file, NULL, 4), EBADF);
	refused("splice from the node", splice(fd, NULL, more[1], NULL, 16, 0),
		EINVAL);
	refused("splice into the node",
		splice(pipes[0], NULL, fd, NULL, 4, SPLICE_F_MOVE), EBADF);
	refused("tee into the node", tee(pipes[0], fd, 4, 0), EBADF);
	refused("copy_file_range from the node",
		copy_file_range(fd, NULL, file, NULL, 16, 0), EINVAL);
	refused("copy_file_range into the node",
		copy_file_range(file, NULL, fd, NULL, 4, 0), EINVAL);
	refused_as("clone a file into the node", ioctl(fd, FICLONE, file),
		   EXDEV, EINVAL);
	close(null);
	close(file);
	close(pipes[0]);
	close(pipes[1]);
	close(more[0]);
	close(more[1]);
}

static void sizes(int fd)
{
	refused("ftruncate", ftruncate(fd, 0), EINVAL);
	refused("fallocate", fallocate(fd, 0, 0, 4096), EBADF);
	refused("fallocate punches a hole",
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  4096),
		EBADF);
	refused("fsync", fsync(fd), EINVAL);
	refused("sync_file_range", sync_file_range(fd, 0, 0, 7), ESPIPE);
	refused("readahead", readahead(fd, 0, CHUNK), EINVAL);
	allowed("posix_fadvise DONTNEED is harmless",
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
	allowed("posix_fadvise WILLNEED is harmless",
		posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED) ? -1 : 0);
}

static void requests(struct target *t)
{
	struct epoll_event event = { 0 };
	int value = 0, fd = t->fd, watch = epoll_create1(0), loop;

	refused("ioctl of no meaning", ioctl(fd, 0x6d34, &value), ENOTTY);
	refused("ioctl FS_IOC_SETFLAGS", ioctl(fd, FS_IOC_SETFLAGS, &value),
		ENOTTY);
	refused("ioctl BLKROSET", ioctl(fd, BLKROSET, &value), ENOTTY);
	refused("ioctl BLKDISCARD",
		ioctl(fd, BLKDISCARD, (uint64_t[2]){ 0, CHUNK }), ENOTTY);
	refused("ioctl FIONREAD", ioctl(fd, FIONREAD, &value), ENOTTY);
	refused("user xattr on the descriptor",
		fsetxattr(fd, "user.m4", "x", 1, 0), EPERM);
	refused("a write lease", fcntl(fd, F_SETLEASE, F_WRLCK), EINVAL);
	refused("seals", fcntl(fd, F_ADD_SEALS, 1), EPERM);
	refused("epoll", epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event), EPERM);
	allowed("flock is harmless", flock(fd, LOCK_EX));
	flock(fd, LOCK_UN);
	allowed("futimens is harmless", futimens(fd, NULL));
	close(watch);

	loop = open("/dev/loop0", O_RDWR);
	if (loop < 0)
		skipped("a loop device over the node", "no loop devices");
	else
		refused("a loop device over the node",
			ioctl(loop, LOOP_SET_FD, fd), EINVAL);
	if (loop >= 0)
		close(loop);
}

int main(int argc, char **argv)
{
	struct target t;

	begin(&t, argc, argv);
	reads_and_writes(t.fd);
	copies(t.fd);
	sizes(t.fd);
	requests(&t);
	return end(&t, "file calls");
}
