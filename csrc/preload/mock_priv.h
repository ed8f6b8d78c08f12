/* SPDX-License-Identifier: Apache-2.0 */
/* What the mock's files share: the command's layout, the numbers, a device. */
#ifndef IOF_PRELOAD_MOCK_PRIV_H
#define IOF_PRELOAD_MOCK_PRIV_H

#include "preload/mock.h"
#include "util/guard.h"

#define MOCK_PAGE_SIZE 2048u
#define MOCK_HUGE_PAGE_SIZE (512u * MOCK_PAGE_SIZE)
#define MOCK_APERTURE_START (UINT64_C(1) << 24)
#define MOCK_APERTURE_LAST ((UINT64_C(1) << 31) - 1)
#define MOCK_PASID_WIDTH 20
#define MOCK_PASID_FRAGILE 1024u /* its second attach in a row fails (R9.4.3) */
#define MOCK_WORDS 4u /* of an IOTLB, of a device's cache */
#define MOCK_CACHE_DEFAULT 0x00baddadu
#define MOCK_HW_QUEUES 2u
#define MOCK_LARGEST (UINT64_C(16) << 20) /* of what an access pins or copies */
#define MOCK_KMALLOC_MAX (UINT64_C(4) << 20) /* what a kernel with pages of 4 KiB has in one piece */
#define MOCK_DMABUF_PAGES 512u

enum {
	MOCK_DATA_HWPT = 0xdead,
	MOCK_DATA_INVALIDATE = 0xdeadbeef,
	MOCK_VIOMMU = 0xdeadbeef,
	MOCK_HW_QUEUE = 0xdeadbeef,
	MOCK_HW_INFO = 0xfeedbeef,
	MOCK_EVENTS = 0xbeefbeef,
};

enum mock_device_flag { MOCK_DEVICE_NO_DIRTY = 1, MOCK_DEVICE_PASID = 4 };
enum mock_access_flag { MOCK_ACCESS_NEEDS_PIN = 1 };
enum mock_pages_flag { MOCK_PAGES_WRITE = 1 };
enum mock_rw_flag { MOCK_RW_WRITE = 1, MOCK_RW_SLOW = 4 };

struct mock_cmd {
	uint32_t size, op, id, reserved;
	union {
		uint8_t bytes[48];
		struct {
			uint64_t start, length;
		} reserve;
		struct {
			uint32_t out_stdev, out_hwpt, out_dev, flags;
		} domain;
		struct {
			uint32_t pt_id;
		} replace;
		struct {
			uint64_t iova, length, uptr;
		} check_map;
		struct {
			uint64_t length, uptr;
			uint32_t refs;
		} check_refs;
		struct {
			uint32_t out_fd, flags;
		} access;
		struct {
			uint32_t item;
		} unpin;
		struct {
			uint32_t flags, out_item;
			uint64_t iova, length, uptr;
		} pin;
		struct {
			uint64_t iova, length, uptr;
			uint32_t flags;
		} rw;
		struct {
			uint32_t limit;
		} scratch;
		struct {
			uint32_t ioas;
		} move;
		struct {
			uint32_t flags;
			uint64_t iova, length, page_size, uptr, out_count;
		} dirty;
		struct {
			uint32_t index, expected;
		} word;
		struct {
			uint32_t dev, pasid, group, perm;
			uint64_t addr;
		} fault;
		struct {
			uint32_t dev;
		} event;
		struct {
			uint32_t pasid, pt_id;
		} pasid;
		struct {
			uint32_t length, open_flags;
		} dmabuf;
		struct {
			int32_t fd;
			uint32_t revoked;
		} revoke;
	};
	uint32_t last;
};

#define MOCK_CMD_MIN 68u
_Static_assert(sizeof(struct mock_cmd) == 72 && offsetof(struct mock_cmd, last) == 64, "the tests' layout");

/* One running command. */
struct mock_call {
	struct mock *mock;
	struct iof_handle *ctx;
	uint64_t arg;
	uint32_t user_size;
};

/* Writes the struct back (R1.6.3). -EFAULT. */
int mock_respond(const struct mock_call *call, const struct mock_cmd *cmd);

struct mock_device {
	struct mock *mock;
	struct iof_handle *handle; /* bound */
	struct iof_foreign *foreign;
	uint32_t index; /* on the machine */
	uint32_t flags; /* enum mock_device_flag */
	/* The driver's, under the context's control lock. */
	uint32_t cache[MOCK_WORDS];
	struct iof_viommu *viommu; /* whose nested table it is attached to; NULL */
	uint64_t virt_id; /* as it was when it came there */
	bool fragile; /* R9.4.3 */
};

struct mock_nested {
	uint32_t iotlb[MOCK_WORDS];
};

extern const struct iof_driver mock_driver; /* drv is the struct mock */

typedef int (*mock_op)(struct mock_call *call, struct mock_cmd *cmd);

/* mock_device.c */
int mock_domain(struct mock_call *call, struct mock_cmd *cmd);
int mock_domain_flags(struct mock_call *call, struct mock_cmd *cmd);
int mock_domain_replace(struct mock_call *call, struct mock_cmd *cmd);
int mock_pasid_attach(struct mock_call *call, struct mock_cmd *cmd);
int mock_pasid_replace(struct mock_call *call, struct mock_cmd *cmd);
int mock_pasid_detach(struct mock_call *call, struct mock_cmd *cmd);
int mock_pasid_check(struct mock_call *call, struct mock_cmd *cmd);
int mock_trigger_fault(struct mock_call *call, struct mock_cmd *cmd);
int mock_trigger_event(struct mock_call *call, struct mock_cmd *cmd);
/* mock_check.c */
int mock_check_map(struct mock_call *call, struct mock_cmd *cmd);
int mock_check_refs(struct mock_call *call, struct mock_cmd *cmd);
int mock_check_iotlb(struct mock_call *call, struct mock_cmd *cmd);
int mock_check_cache(struct mock_call *call, struct mock_cmd *cmd);
int mock_dirty(struct mock_call *call, struct mock_cmd *cmd);
/* mock_access.c */
int mock_access_create(struct mock_call *call, struct mock_cmd *cmd);
int mock_access_pin(struct mock_call *call, struct mock_cmd *cmd);
int mock_access_unpin(struct mock_call *call, struct mock_cmd *cmd);
int mock_access_rw(struct mock_call *call, struct mock_cmd *cmd);
int mock_access_move(struct mock_call *call, struct mock_cmd *cmd);

#endif
