// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets one allocation fail while m4.ko initialises or loads an image, and none
 * of what the same task does before and after: the kernel's loader of modules
 * allocates hundreds of times, and its failures are not m4's.
 *
 *   nth     the allocation of the next run that fails, 1 the first; 0 again as
 *           soon as that run is over
 *   left    how many fewer there were; 0: that one failed
 *   places  of a run in which none failed, the allocations worth a failure: of
 *           each call out of m4 the first, the last and each 32nd, for it is the
 *           kernel's to come back from there with an error
 *
 * A run is one call of m4's init function or of its load's work function.
 */
#include <linux/jhash.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>

#define ALLOCATIONS_MAX 4096
#define FRAMES_MAX 64
#define STEP 32 /* inside a call out of m4 */

static unsigned int nth;
module_param(nth, uint, 0644);
static unsigned int left;
module_param(left, uint, 0444);

static struct task_struct *running;
static u32 paths[ALLOCATIONS_MAX]; /* m4's part of the stack of each */
static char places[PAGE_SIZE];

static int show_places(char *buffer, const struct kernel_param *kp)
{
	return scnprintf(buffer, PAGE_SIZE, "%s\n", places);
}

static const struct kernel_param_ops places_ops = { .get = show_places };
module_param_cb(places, &places_ops, NULL, 0444);

static bool named(void *function, const char *name)
{
	char text[96];

	snprintf(text, sizeof(text), "%ps", function);
	return strstr(text, name);
}

static void begin(void *function, const char *name)
{
	unsigned int n = READ_ONCE(nth);

	if (!n || !named(function, name))
		return;
	memset(paths, 0, sizeof(paths));
	WRITE_ONCE(running, current);
	WRITE_ONCE(current->fail_nth, n);
}

/* The one that failed, or of which others are counted from, is `nth - left`. */
static void allocates(void *data)
{
	unsigned long frames[FRAMES_MAX];
	unsigned int i, count, index;
	u32 path = 0;

	if (current != READ_ONCE(running) || !in_task())
		return;
	index = READ_ONCE(nth) - READ_ONCE(current->fail_nth);
	if (!index || index >= ALLOCATIONS_MAX)
		return;
	count = stack_trace_save(frames, FRAMES_MAX, 0);
	for (i = 0; i < count; i++)
		if (frames[i] >= MODULES_VADDR && frames[i] < MODULES_END &&
		    !within_module(frames[i], THIS_MODULE))
			path = jhash_2words(frames[i], path, 0);
	paths[index] = path;
}

static void choose(unsigned int count)
{
	unsigned int first, last, i;
	size_t length = 0;

	places[0] = 0;
	if (count >= ALLOCATIONS_MAX)
		return;
	for (first = 1; first <= count; first = last + 1) {
		for (last = first; last < count; last++)
			if (paths[last + 1] && paths[last + 1] != paths[first])
				break;
		for (i = first; i <= last; i++)
			if (i == last || (i - first) % STEP == 0)
				length += scnprintf(places + length,
						    sizeof(places) - length,
						    "%u ", i);
	}
	if (length + 8 > sizeof(places)) /* not all of them */
		places[0] = 0;
}

static void end(void *function, const char *name)
{
	unsigned int n = READ_ONCE(nth);

	if (current != READ_ONCE(running) || !named(function, name))
		return;
	WRITE_ONCE(running, NULL);
	WRITE_ONCE(left, READ_ONCE(current->fail_nth));
	WRITE_ONCE(current->fail_nth, 0);
	if (left)
		choose(n - left);
	smp_store_release(&nth, 0);
}

static void init_begins(void *data, initcall_t init)
{
	begin(init, " [m4]");
}

static void init_ends(void *data, initcall_t init, int rc)
{
	end(init, " [m4]");
}

static void work_begins(void *data, struct work_struct *work)
{
	begin(work->func, "m4_image_load_work [m4]");
}

static void work_ends(void *data, struct work_struct *work, work_func_t func)
{
	end(func, "m4_image_load_work [m4]");
}

static struct {
	const char *name;
	void *probe;
	struct tracepoint *point;
} probes[] = {
	{ "initcall_start", init_begins },
	{ "initcall_finish", init_ends },
	{ "workqueue_execute_start", work_begins },
	{ "workqueue_execute_end", work_ends },
	{ "kmalloc", allocates },
	{ "kmem_cache_alloc", allocates },
	{ "mm_page_alloc", allocates },
};

static void find(struct tracepoint *point, void *data)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (!strcmp(point->name, probes[i].name))
			probes[i].point = point;
}

static void m4_fail_exit(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if (probes[i].point)
			tracepoint_probe_unregister(probes[i].point,
						    probes[i].probe, NULL);
	tracepoint_synchronize_unregister();
}

static int __init m4_fail_init(void)
{
	int i, rc = 0;

	for_each_kernel_tracepoint(find, NULL);
	for (i = 0; i < ARRAY_SIZE(probes) && !rc; i++)
		rc = probes[i].point ?
			     tracepoint_probe_register(probes[i].point,
						       probes[i].probe, NULL) :
			     -ENOENT;
	if (rc)
		m4_fail_exit();
	return rc;
}

module_init(m4_fail_init);
module_exit(m4_fail_exit);

MODULE_DESCRIPTION("Lets one allocation of m4 fail");
MODULE_LICENSE("GPL");
