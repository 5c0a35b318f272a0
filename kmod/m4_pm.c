// SPDX-License-Identifier: GPL-2.0-only
/*
 * No hibernation while an image is pinned: its file would hold the weights
 * where anybody may alter them. Nor is one loaded once hibernation has begun.
 *
 * The mark is set before the images are asked, each under its lock, and read
 * by a load's request under the same lock: one of the two sees the other.
 */
#include <linux/notifier.h>
#include <linux/suspend.h>

#include "m4.h"

static bool m4_hibernating_now;

bool m4_hibernating(void)
{
	return READ_ONCE(m4_hibernating_now);
}

static int m4_pm_notify(struct notifier_block *nb, unsigned long action,
			void *data)
{
	struct m4_image *image;
	unsigned int minor;

	if (action == PM_POST_HIBERNATION)
		WRITE_ONCE(m4_hibernating_now, false);
	if (action != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	WRITE_ONCE(m4_hibernating_now, true);
	for (minor = 1; (image = m4_image_at(minor)); minor++) {
		if (!m4_image_in_memory(image))
			continue;
		dev_warn(image->dev, "in memory: no hibernation\n");
		/* who refuses is not told that it is over */
		WRITE_ONCE(m4_hibernating_now, false);
		return notifier_from_errno(-EBUSY);
	}
	return NOTIFY_DONE;
}

struct notifier_block m4_pm_block = {
	.notifier_call = m4_pm_notify,
};
