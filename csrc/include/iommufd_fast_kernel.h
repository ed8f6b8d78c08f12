/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real thing: /dev/iommu and VFIO device files behind the same handles.
 *
 *	struct iof_handle *ctx, *dev;
 *	iof_kernel_open(NULL, NULL, &ctx);
 *	iof_vfio_open(ctx, "0000:01:00.0", &dev);
 *	iof_ioctl(dev, IOF_CMD_DEVICE_BIND_IOMMUFD, &(struct iof_cmd_bind){ .argsz = 16, .iommufd = iof_fileno(ctx) });
 *
 * Every command of iommufd_fast.h goes to the kernel and its answer comes back as it is. Beside that a *ledger* is kept in this process: which ranges
 * are mapped, which page tables there are, which endpoints are attached where. It is fed by every command that goes through these
 * handles, iof_ioctl() included, and it is what iof_translate(), iof_ioas_mapping(), iof_endpoints() and the statistics answer from. What another process does
 * with an inherited descriptor, and what the VFIO container commands do, it does not see.
 *
 * IOVAs: iof_submit() and iof_map_many() choose the IOVA here and map it FIXED where the command leaves it open (Linux's own search grows with the number of
 * live mappings). iof_ioctl() is the raw door: there the kernel chooses, and the ledger takes its choice in.
 *
 * Verbs that only the engine has answer -EOPNOTSUPP: iof_dma, iof_access_open, iof_dirty, iof_digest.
 * Threads: any, as in iommufd_fast.h. No lock that a query needs is held during a system call.
 */
#ifndef IOMMUFD_FAST_KERNEL_H
#define IOMMUFD_FAST_KERNEL_H

#include "dispatch/uapi_vfio.h"
#include "iommufd_fast.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The system calls that the provider makes. Each gives 0 or more, or a negative errno. NULL in a configuration means those of libc; a test brings others.
 * `data` is handed to each.
 */
struct iof_sys {
	void *data;
	int (*open)(void *data, const char *path);
	int (*close)(void *data, int fd);
	int (*ioctl)(void *data, int fd, unsigned long cmd, void *arg);
	int64_t (*pread)(void *data, int fd, void *to, size_t n, int64_t offset); /* offset < 0: read(2) */
	int64_t (*pwrite)(void *data, int fd, const void *from, size_t n, int64_t offset); /* offset < 0: write(2) */
	int (*mmap)(void *data, int fd, size_t length, int prot, int flags, uint64_t offset, void **out);
	int (*poll)(void *data, int fd); /* poll(2)'s bits that hold now */
	/* Where a device's file is, by its PCI address or vfio-dev name, and the number of its IOMMU group (-ENODATA: not known). */
	int (*find)(void *data, const char *name, char *path, size_t n);
	int (*group)(void *data, int fd);
};

/* Who chooses the IOVA of a map that leaves it open. */
enum iof_iova_choice {
	IOF_IOVA_OWN = 0, /* this library; the default */
	IOF_IOVA_KERNEL = 1, /* the kernel */
	IOF_IOVA_VA = 2, /* IOVA = address of the memory, or the kernel's error; files and copies as OWN */
};

struct iof_kernel_config {
	size_t size; /* sizeof(struct iof_kernel_config) of the caller */
	enum iof_iova_choice iova;
	const struct iof_sys *sys; /* copied; `data` must outlive the handles */
	struct iof_alloc *alloc; /* must outlive the handles and the address indexes; NULL: the heap */
};

/* Opens `path` (NULL: "/dev/iommu"); cfg may be NULL. 0; -EINVAL size or choice; -ENOMEM; what open(2) says. */
int iof_kernel_open(const char *path, const struct iof_kernel_config *cfg, struct iof_handle **out);
/* The same on an open descriptor, which belongs to the handle from then on (on errors it stays the caller's). */
int iof_kernel_adopt(int fd, const struct iof_kernel_config *cfg, struct iof_handle **out);

/*
 * Opens a device: by PCI address ("0000:01:00.0"), vfio-dev name ("vfio0") or path. `ctx` is the context whose ledger shall know of it when it is bound there. It is not bound yet.
 * -ENODEV: no such device; -ENXIO: it has no vfio-dev (not bound to a VFIO driver); -ENAMETOOLONG; -EINVAL: ctx is not a kernel context; what open(2) says.
 */
int iof_vfio_open(struct iof_handle *ctx, const char *name, struct iof_handle **out);
/* The same on an open descriptor; group: its IOMMU group, or -1 to look it up. */
int iof_vfio_adopt(struct iof_handle *ctx, int fd, int group, struct iof_handle **out);

/* The handle of a file that a command on `ctx` opened: a fault queue's, an event queue's. It owns the descriptor from then on. 0, -ENOMEM, -EINVAL. */
int iof_kernel_file(struct iof_handle *ctx, int fd, struct iof_handle **out);

/*
 * An engine in the kernel's place, for tests on machines without one: "/dev/iommu" opens a context on the machine, "vfioN" its device N.
 * The machine must outlive all handles.
 */
void iof_sys_over_engine(struct iof_machine *m, struct iof_sys *out);

/* How the IOVAs of an IOAS were found, since it was made. For tests and for who wonders about speed. */
struct iof_kernel_counts {
	uint64_t own; /* maps at an IOVA chosen here */
	uint64_t kernel; /* maps at an IOVA of the kernel's choice */
	uint64_t foreign; /* places tried that the kernel refused with EEXIST */
	uint64_t reread; /* times the usable ranges were found changed */
};
int iof_kernel_ioas_counts(struct iof_handle *ctx, uint32_t ioas_id, struct iof_kernel_counts *out); /* -ENOENT, -EINVAL */

/* ---- any provider's contexts ---- */

/*
 * iof_ioctl(), for who does not mind where a mapping goes: an IOVA that MAP, MAP_FILE or COPY leaves open may be chosen by the provider. The engine's own choice is
 * the contract's, so there is no difference there; on a kernel it is what makes maps cost the same however many there are.
 */
int iof_submit(struct iof_handle *h, unsigned long cmd, void *arg);
int iof_submit_nowait(struct iof_handle *h, unsigned long cmd, void *arg);

#ifdef __cplusplus
}
#endif

#endif
