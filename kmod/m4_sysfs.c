// SPDX-License-Identifier: GPL-2.0-only
/* /sys/class/m4/<name>/: docs/kernel-module.md is the contract, and
 * ABI/sysfs-class-m4 describes each file.
 */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "m4.h"

/* 100 where nothing is under way, and only there. */
static u64 percent(const struct m4_progress *progress)
{
	u32 total = READ_ONCE(progress->total);
	u64 done = atomic_read(&progress->done);

	return total ? min(done * 100 / total, 99ULL) : 100;
}

/* One value of struct m4_image *image. */
#define IMAGE_SHOW(_name, _format, _value)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	struct m4_image *image = dev_get_drvdata(dev);			\
									\
	return sysfs_emit(buf, _format "\n", _value);			\
}

/* The same of what changes under its lock. */
#define LOCKED_SHOW(_name, _format, _value)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	struct m4_image *image = dev_get_drvdata(dev);			\
	ssize_t length;							\
									\
	mutex_lock(&image->lock);					\
	length = sysfs_emit(buf, _format "\n", _value);			\
	mutex_unlock(&image->lock);					\
	return length;							\
}

LOCKED_SHOW(state, "%s", m4_state_names[image->state])
LOCKED_SHOW(error, "%s", image->error)
LOCKED_SHOW(generations, "%u", image->generation_count)
LOCKED_SHOW(rollback_floor, "%llu", image->rollback_floor)
LOCKED_SHOW(scrubs, "%llu", image->scrub.passes)
LOCKED_SHOW(scrub_errors, "%llu", image->scrub.errors)
LOCKED_SHOW(scrub_period_s, "%u", image->scrub.period_s)
LOCKED_SHOW(progress, "%llu", percent(&image->load_progress))
LOCKED_SHOW(scrub, "%llu", percent(&image->scrub.progress))
IMAGE_SHOW(pinned_bytes, "%lld", atomic64_read(&image->pinned_bytes))
IMAGE_SHOW(mappings, "%d", atomic_read(&image->mappings))
IMAGE_SHOW(exports, "%d", atomic_read(&image->exports))

static ssize_t abi_version_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", M4_ABI_VERSION);
}

/* One value of struct m4_generation *gen, the one served. */
#define CURRENT_ATTR(_name, _format, ...)				\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	struct m4_image *image = dev_get_drvdata(dev);			\
	const struct m4_generation *gen;				\
	ssize_t length = -ENODATA;					\
									\
	mutex_lock(&image->lock);					\
	gen = image->current_gen;					\
	if (gen)							\
		length = sysfs_emit(buf, _format "\n", __VA_ARGS__);	\
	mutex_unlock(&image->lock);					\
	return length;							\
}									\
static DEVICE_ATTR_RO(_name)

CURRENT_ATTR(generation, "%llu", gen->number);
CURRENT_ATTR(version, "%.*s", M4_IMAGE_LABEL_BYTES,
	     gen->manifest.header->version);
CURRENT_ATTR(uuid, "%pUb", gen->manifest.header->uuid);
CURRENT_ATTR(digest, "%*phN", M4_IMAGE_DIGEST_BYTES, gen->digest);
CURRENT_ATTR(root_hash, "%*phN", M4_IMAGE_DIGEST_BYTES,
	     gen->manifest.header->root);
CURRENT_ATTR(signer, "%s", m4_anchor_name(gen->signer));
CURRENT_ATTR(development, "%d", m4_anchor_development(gen->signer));
CURRENT_ATTR(payload_bytes, "%llu", gen->manifest.payload_bytes);
CURRENT_ATTR(rollback_index, "%llu", gen->manifest.rollback_index);

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
	char why[M4_ERROR_BYTES];

	if (!gen)
		return -ENODATA;
	snprintf(why, sizeof(why), "generation %llu: by request (%d)",
		 gen->number, -ESTALE);
	m4_image_revoke(gen, why);
	m4_generation_put(gen);
	return 0;
}

REQUEST_STORE(load, m4_image_request_load)
REQUEST_STORE(revoke, revoke_current)
REQUEST_STORE(scrub, m4_scrub_request)

static ssize_t rollback_floor_store(struct device *dev,
				    struct device_attribute *attr,
				    const char *buf, size_t count)
{
	u64 floor;
	int rc = kstrtou64(buf, 10, &floor);

	if (!rc)
		rc = m4_image_raise_floor(dev_get_drvdata(dev), floor);
	return rc ? rc : (ssize_t)count;
}

static ssize_t scrub_period_s_store(struct device *dev,
				    struct device_attribute *attr,
				    const char *buf, size_t count)
{
	u32 seconds;
	int rc = kstrtou32(buf, 10, &seconds);

	if (!rc)
		m4_scrub_set_period(dev_get_drvdata(dev), seconds);
	return rc ? rc : (ssize_t)count;
}

static DEVICE_ATTR_RO(abi_version);
static DEVICE_ATTR_RO(state);
static DEVICE_ATTR_RO(error);
static DEVICE_ATTR_RO(progress);
static DEVICE_ATTR_RO(generations);
static DEVICE_ATTR_RO(pinned_bytes);
static DEVICE_ATTR_RO(mappings);
static DEVICE_ATTR_RO(exports);
static DEVICE_ATTR_RO(scrubs);
static DEVICE_ATTR_RO(scrub_errors);
static DEVICE_ATTR_RW(rollback_floor);
static DEVICE_ATTR_RW(scrub);
static DEVICE_ATTR_RW(scrub_period_s);
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

const struct attribute_group *m4_image_groups[] = {
	&m4_image_group,
	NULL,
};
