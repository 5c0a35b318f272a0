// SPDX-License-Identifier: GPL-2.0-only
/* /sys/class/m4/<name>/: docs/kernel-module.md is the contract, and
 * ABI/sysfs-class-m4 describes each file.
 */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "m4.h"

/* 100 where nothing is under way, and only there. */
static u64 percent(const struct m4_hasher *h)
{
	u64 done = atomic_read(&h->done);

	return h->total ? min(done * 100 / h->total, 99ULL) : 100;
}

/* `1` asks for something; other text is for later. */
#define REQUEST_STORE(_name, _request)					\
static ssize_t _name##_store(struct device *dev,			\
			     struct device_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	int rc = -EINVAL;						\
									\
	if (sysfs_streq(buf, "1"))					\
		rc = _request(dev_get_drvdata(dev));			\
	return rc ? rc : (ssize_t)count;				\
}

static int revoke_current(struct m4_image *image)
{
	struct m4_generation *gen = m4_image_get_current(image);

	if (!gen)
		return -ENODATA;
	m4_image_revoke(gen, "by request", -ESTALE);
	m4_generation_put(gen);
	return 0;
}

REQUEST_STORE(load, m4_image_request_load)
REQUEST_STORE(revoke, revoke_current)
REQUEST_STORE(scrub, m4_scrub_request)

/* A decimal number of so many bits. */
#define NUMBER_STORE(_name, _bits, _set)				\
static ssize_t _name##_store(struct device *dev,			\
			     struct device_attribute *attr,		\
			     const char *buf, size_t count)		\
{									\
	u##_bits number;						\
	int rc = kstrtou##_bits(buf, 10, &number);			\
									\
	if (!rc)							\
		rc = _set(dev_get_drvdata(dev), number);		\
	return rc ? rc : (ssize_t)count;				\
}

NUMBER_STORE(rollback_floor, 64, m4_image_raise_floor)
NUMBER_STORE(scrub_period_s, 32, m4_scrub_set_period)

/* A value of *image or of *gen, the generation served; -ENODATA where _of,
 * the one or the other, is not there.
 */
#define SHOW(_name, _mode, _of, _format, ...)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	struct m4_image *image = dev_get_drvdata(dev);			\
	const struct m4_generation *gen __maybe_unused;			\
	ssize_t length = -ENODATA;					\
									\
	mutex_lock(&image->lock);					\
	gen = image->current_gen;					\
	if (_of)							\
		length = sysfs_emit(buf, _format "\n", __VA_ARGS__);	\
	mutex_unlock(&image->lock);					\
	return length;							\
}									\
static DEVICE_ATTR_##_mode(_name)

SHOW(abi_version, RO, image, "%d", M4_ABI_VERSION);
SHOW(state, RO, image, "%s", m4_state_names[image->state]);
SHOW(error, RO, image, "%s", image->error);
SHOW(progress, RO, image, "%llu", percent(&image->load_hasher));
SHOW(generations, RO, image, "%u", image->generation_count);
SHOW(pinned_bytes, RO, image, "%lld", atomic64_read(&image->pinned_bytes));
SHOW(mappings, RO, image, "%d", atomic_read(&image->mappings));
SHOW(exports, RO, image, "%d", atomic_read(&image->exports));
SHOW(rollback_floor, RW, image, "%llu", image->rollback_floor);
SHOW(scrub, RW, image, "%llu", percent(&image->scrub.hasher));
SHOW(scrubs, RO, image, "%llu", image->scrub.passes);
SHOW(scrub_errors, RO, image, "%llu", image->scrub.errors);
SHOW(scrub_period_s, RW, image, "%u", image->scrub.period_s);
SHOW(generation, RO, gen, "%llu", gen->number);
SHOW(version, RO, gen, "%s", gen->manifest.header->version);
SHOW(uuid, RO, gen, "%pUb", gen->manifest.header->uuid);
SHOW(digest, RO, gen, "%32phN", gen->digest);
SHOW(root_hash, RO, gen, "%32phN", gen->manifest.header->root);
SHOW(signer, RO, gen, "%s", gen->signer->name);
SHOW(development, RO, gen, "%d", gen->signer->development);
SHOW(payload_bytes, RO, gen, "%llu", gen->manifest.payload_bytes);
SHOW(rollback_index, RO, gen, "%llu", gen->manifest.rollback_index);
static DEVICE_ATTR_WO(load);
static DEVICE_ATTR_WO(revoke);

static struct attribute *m4_image_attrs[] = {
	&dev_attr_abi_version.attr,
	&dev_attr_state.attr,
	&dev_attr_error.attr,
	&dev_attr_progress.attr,
	&dev_attr_generation.attr,
	&dev_attr_generations.attr,
	&dev_attr_version.attr,
	&dev_attr_uuid.attr,
	&dev_attr_digest.attr,
	&dev_attr_root_hash.attr,
	&dev_attr_signer.attr,
	&dev_attr_development.attr,
	&dev_attr_payload_bytes.attr,
	&dev_attr_rollback_index.attr,
	&dev_attr_rollback_floor.attr,
	&dev_attr_pinned_bytes.attr,
	&dev_attr_mappings.attr,
	&dev_attr_exports.attr,
	&dev_attr_load.attr,
	&dev_attr_revoke.attr,
	&dev_attr_scrub.attr,
	&dev_attr_scrubs.attr,
	&dev_attr_scrub_errors.attr,
	&dev_attr_scrub_period_s.attr,
	NULL,
};

static const struct attribute_group m4_image_group = {
	.attrs = m4_image_attrs,
};

const struct attribute_group *m4_image_groups[] = { &m4_image_group, NULL };
