// SPDX-License-Identifier: GPL-2.0-only
/* /sys/class/m4/<name>/: docs/kernel-module.md is the contract, and
 * ABI/sysfs-class-m4 describes each file.
 */
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "m4.h"

static ssize_t abi_version_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", M4_ABI_VERSION);
}

static ssize_t state_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);
	ssize_t length;

	mutex_lock(&image->lock);
	length = sysfs_emit(buf, "%s\n", m4_state_names[image->state]);
	mutex_unlock(&image->lock);
	return length;
}

static ssize_t error_show(struct device *dev, struct device_attribute *attr,
			  char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);
	ssize_t length;

	mutex_lock(&image->lock);
	length = sysfs_emit(buf, "%s\n", image->error);
	mutex_unlock(&image->lock);
	return length;
}

/* 100 where nothing is under way, and only there. */
static ssize_t emit_progress(const struct m4_progress *progress, char *buf)
{
	u32 total = READ_ONCE(progress->total);
	u64 done = atomic_read(&progress->done);

	return sysfs_emit(buf, "%llu\n",
			  total ? min(done * 100 / total, 99ULL) : 100ULL);
}

static ssize_t progress_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);

	return emit_progress(&image->load_progress, buf);
}

static ssize_t generations_show(struct device *dev,
				struct device_attribute *attr, char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(image->generation_count));
}

static ssize_t pinned_bytes_show(struct device *dev,
				 struct device_attribute *attr, char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%lld\n", atomic64_read(&image->pinned_bytes));
}

static ssize_t mappings_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	struct m4_image *image = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%d\n", atomic_read(&image->mappings));
}

static ssize_t rollback_floor_show(struct device *dev,
				   struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", m4_image_floor(dev_get_drvdata(dev)));
}

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

/* Attributes of the generation served; -ENODATA where there is none. */
typedef int (*m4_emit_fn)(const struct m4_generation *gen, char *buf);

static ssize_t emit_current(struct device *dev, char *buf, m4_emit_fn emit)
{
	struct m4_generation *gen = m4_image_get_current(dev_get_drvdata(dev));
	ssize_t length;

	if (!gen)
		return -ENODATA;
	length = emit(gen, buf);
	m4_generation_put(gen);
	return length;
}

#define GENERATION_ATTR(_name, _format, ...)				\
static int emit_##_name(const struct m4_generation *gen, char *buf)	\
{									\
	return sysfs_emit(buf, _format "\n", __VA_ARGS__);		\
}									\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *buf)	\
{									\
	return emit_current(dev, buf, emit_##_name);			\
}									\
static DEVICE_ATTR_RO(_name)

GENERATION_ATTR(generation, "%llu", gen->number);
GENERATION_ATTR(version, "%s", gen->manifest.header->version);
GENERATION_ATTR(uuid, "%pUb", gen->manifest.header->uuid);
GENERATION_ATTR(digest, "%*phN", M4_IMAGE_DIGEST_BYTES, gen->digest);
GENERATION_ATTR(root_hash, "%*phN", M4_IMAGE_DIGEST_BYTES,
		gen->manifest.header->root);
GENERATION_ATTR(signer, "%s", m4_anchor_name(gen->signer));
GENERATION_ATTR(development, "%d", m4_anchor_development(gen->signer));
GENERATION_ATTR(payload_bytes, "%llu", gen->manifest.payload_bytes);
GENERATION_ATTR(rollback_index, "%llu", gen->manifest.rollback_index);

/* Asks for a load and returns; `state` tells how it went. */
static ssize_t load_store(struct device *dev, struct device_attribute *attr,
			  const char *buf, size_t count)
{
	int rc;

	if (!sysfs_streq(buf, "1"))
		return -EINVAL;
	rc = m4_image_request_load(dev_get_drvdata(dev));
	return rc ? rc : (ssize_t)count;
}

static ssize_t revoke_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct m4_generation *gen;
	char why[M4_ERROR_BYTES];

	if (!sysfs_streq(buf, "1"))
		return -EINVAL;
	gen = m4_image_get_current(dev_get_drvdata(dev));
	if (!gen)
		return -ENODATA;
	snprintf(why, sizeof(why), "generation %llu: by request (%d)",
		 gen->number, -ESTALE);
	m4_image_revoke(gen, why);
	m4_generation_put(gen);
	return count;
}

static DEVICE_ATTR_RO(abi_version);
static DEVICE_ATTR_RO(state);
static DEVICE_ATTR_RO(error);
static DEVICE_ATTR_RO(progress);
static DEVICE_ATTR_RO(generations);
static DEVICE_ATTR_RO(pinned_bytes);
static DEVICE_ATTR_RO(mappings);
static DEVICE_ATTR_RW(rollback_floor);
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
	&dev_attr_load.attr,
	&dev_attr_revoke.attr,
	NULL,
};

static const struct attribute_group m4_image_group = {
	.attrs = m4_image_attrs,
};

const struct attribute_group *m4_image_groups[] = {
	&m4_image_group,
	NULL,
};
